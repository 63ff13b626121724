"""Results for other people's viewers, written by those viewers' own libraries: TensorBoard and optuna-dashboard."""

from __future__ import annotations

import math
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.config import UnreadableTrialError, recorded_params
from search.errors import UserError
from search.outputs import appearing
from search.report.curves import read_curves
from search.results import Results
from search.results.merged import FOLDER, read_all

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from torch.utils.tensorboard import SummaryWriter

_INSTALL = 'install the viewers with: pip install "rps-search[dashboards]"'
_FACTS = ("ratio", "lr", "weight_decay", "stored_bytes", "stored_parameters", "seed", "epochs_run")
_SCALARS = ("loss", "accuracy_val", "lr", "images_per_second")
_OUTCOME = ("accuracy", "accuracy_val", "stored_bytes")
_BATCH = 500
# Added to each row: the name that its search goes by in the viewer.
_STUDY = "study"


def to_tensorboard(results: Results, folder: Path) -> int:
    """Write one TensorBoard run a trial: its curves, what was searched, and its outcome.

    Folders whose experiments have the same name keep apart by the folder.

    Args:
        results: The tables.
        folder: Where the runs go, as ``STUDY/TRIAL``; made if it is not there.

    Returns:
        The number of runs.

    Raises:
        UserError: If TensorBoard is not installed, the folder holds files already, or cannot be written.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError(f"TensorBoard cannot be imported ({error}); {_INSTALL}") from error
    with appearing(folder) as runs:
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"{folder}: holds files already; name a new folder with --out")
        runs.mkdir()
        return sum(_write_runs(results, runs, SummaryWriter))


def _write_runs(results: Results, folder: Path, writer_type: type[SummaryWriter]) -> Iterator[int]:
    """Write the runs, and yield how many, batch by batch."""
    for trials in _batches(results):
        curves = read_curves(results, (trial["trial_id"] for trial in trials), ("epoch", *_SCALARS))
        for trial in trials:
            key = (trial["experiment"], trial["trial_id"])
            with writer_type(
                str(folder.joinpath(*map(_file_name, (trial[_STUDY], trial["trial_id"])))), max_queue=1000
            ) as writer:
                for epoch, *values in curves[key]:
                    for name, value in zip(_SCALARS, values, strict=True):
                        if _finite(value):
                            writer.add_scalar(name, value, epoch)
                searched = {name: trial[name] for name in _FACTS if _finite(trial[name])}
                outcome = {f"final/{name}": trial[name] for name in _OUTCOME if _finite(trial[name])}
                writer.add_hparams({"method": str(trial["method"]), **searched}, outcome, run_name=".")
        yield len(trials)


def to_optuna(results: Results, file: Path) -> int:
    """Write a file that optuna-dashboard opens by its :func:`sqlite_url`: one study an experiment, and a
    folder where several have experiments of the same name: they are different searches.

    The objectives are validation accuracy (made large) and stored bytes (made small). Trials that finished are complete
    ones, those stopped early pruned, the others failed.

    Args:
        results: The tables.
        file: The SQLite file to make.

    Returns:
        The number of trials.

    Raises:
        UserError: If the file exists, or cannot be written.
    """
    rows = [trial for batch in _batches(results) for trial in batch]
    with appearing(file) as made:
        if file.exists():
            raise UserError(f"{file}: exists already; name a new file with --out")
        _write_study(rows, made)
    return len(rows)


def sqlite_url(file: Path) -> str:
    """Return the URL of an SQLite file: what has a meaning in URLs, such as ``?``, may be in its name."""
    import sqlalchemy  # Optuna's own way to its files.

    return sqlalchemy.URL.create("sqlite", database=str(file)).render_as_string()


def _write_study(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        storage = optuna.storages.RDBStorage(sqlite_url(file))
        for name in dict.fromkeys(row[_STUDY] for row in rows):
            study = optuna.create_study(storage=storage, study_name=name, directions=["maximize", "minimize"])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names(["accuracy_val", "stored_bytes"])
            own = [row for row in rows if row[_STUDY] == name]
            study.add_trials(_frozen(own))
        storage.remove_session()
    finally:
        optuna.logging.set_verbosity(before)


def _frozen(rows: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
    """Yield the trials of one experiment as Optuna keeps them."""
    from optuna.trial import TrialState, create_trial

    states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
    params = [_params(row) for row in rows]
    kinds = _distributions(params)
    for row, own in zip(rows, params, strict=True):
        state = states.get(row["status"], TrialState.FAIL)
        values = [row["accuracy_val"], row["stored_bytes"]]
        if state == TrialState.COMPLETE and not all(map(_finite, values)):
            state = TrialState.FAIL
        yield create_trial(
            state=state,
            values=values if state == TrialState.COMPLETE else None,
            params=own,
            distributions={name: kinds[name] for name in own},
            user_attrs={
                key: row[key] for key in ("trial_id", "method", "accuracy", "seed", "error") if row[key] is not None
            },
        )


def _params(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was searched, under the sampler's names; without those, under the columns'."""
    try:
        found = recorded_params(row)
    except UnreadableTrialError:
        found = {key: row[key] for key in ("method", "ratio", "lr", "weight_decay") if row[key] is not None}
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, str | bool) or (isinstance(value, int | float) and math.isfinite(value))
    }


def _distributions(params: Iterable[Mapping[str, Any]]) -> dict[str, BaseDistribution]:
    """Return a distribution for each parameter that holds all the values it took."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    values: dict[str, list[Any]] = defaultdict(list)
    for own in params:
        for name, value in own.items():
            values[name].append(value)
    kinds: dict[str, BaseDistribution] = {}
    for name, seen in values.items():
        if any(isinstance(value, str | bool) for value in seen):
            kinds[name] = CategoricalDistribution(sorted(set(seen), key=str))
        elif all(isinstance(value, int) for value in seen):
            kinds[name] = IntDistribution(min(seen), max(seen))
        else:
            low, high = float(min(seen)), float(max(seen))
            # What spans a decade was searched by its logarithm; the dashboard draws it so.
            kinds[name] = FloatDistribution(low, high, log=low > 0 and high / low > 10)
    return kinds


def _batches(results: Results) -> Iterator[list[dict[str, Any]]]:
    columns = [
        "trial_id",
        "experiment",
        "status",
        "method",
        "accuracy",
        "accuracy_val",
        "error",
        "params_json",
        *_FACTS,
    ]
    table = read_all(results.stores, "trials", columns, folder=True)
    pairs = set(zip(table["experiment"].to_pylist(), table[FOLDER].to_pylist(), strict=True))
    times = Counter(experiment for experiment, _ in pairs)
    for start in range(0, table.num_rows, _BATCH):
        batch = table.slice(start, _BATCH).to_pylist()
        for row in batch:
            name = row["experiment"]
            row[_STUDY] = f"{name} ({results.stores[row[FOLDER]].folder})" if times[name] > 1 else name
        yield batch


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _file_name(text: str) -> str:
    """Return a name as a file name: the ids of this package are hexadecimal, others may be anything."""
    return "".join(c if c.isalnum() or c in "-_" else f"%{ord(c):x}" for c in text) or "%"
