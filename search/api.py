"""The search as Python functions, for notebooks and programs. Importing this loads neither torch nor Ray."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from search.errors import UserError

if TYPE_CHECKING:
    from search.driver.experiment import Experiment
    from search.results import Folder, Results
    from search.spec import Spec


class InterruptedSearchError(Exception):
    """The search ended before all of its trials had; :func:`resume` goes on with it."""


def launch(
    spec: str | os.PathLike[str] | Mapping[str, Any] | Spec,
    *,
    storage: str | os.PathLike[str] | None = None,
    overrides: Iterable[str] = (),
    cluster: str = "local",
) -> Results:
    """Run a search to its end and return its results; the same call again goes on where it stopped.

    A Ray that was running in this process before is used and left as it was.

    Args:
        spec: Path or name of a spec, its fields as a mapping, or a spec.
        storage: Experiment folder, a path or URI; None takes ``runs/NAME``.
        overrides: Assignments such as ``"train.epochs=10"``.
        cluster: Profile that says where trials run.

    Raises:
        UserError: If the input is wrong.
        InterruptedSearchError: If it was interrupted, or stopped by itself; the message says why.
    """
    from search.driver.experiment import create_or_open
    from search.spec import Spec, load_spec, make_spec

    overrides = _assignments(overrides)
    if isinstance(spec, str | os.PathLike):
        wanted = load_spec(os.fspath(spec), overrides)
    else:
        wanted = make_spec(spec.model_dump(mode="json") if isinstance(spec, Spec) else _plain(spec), overrides)
    experiment, _ = create_or_open(_folder(f"runs/{wanted.name}" if storage in (None, "") else storage), wanted)
    return _run(experiment, cluster)


def resume(storage: str | os.PathLike[str], *, overrides: Iterable[str] = (), cluster: str = "local") -> Results:
    """Go on with a search and return its results. See :func:`launch`."""
    from search.driver.experiment import open_experiment

    return _run(open_experiment(_folder(storage), _assignments(overrides)), cluster)


def load(*storage: str | os.PathLike[str]) -> Results:
    """Open the results of one or more experiments, finished or not.

    Raises:
        UserError: If a folder holds no experiment.
    """
    from search.results import load as open_results

    return open_results(*(os.fspath(_checked_folder(one)) for one in storage))


def _folder(storage: str | os.PathLike[str]) -> Folder:
    from search.results import Folder

    return Folder(_checked_folder(storage))


def _checked_folder(storage: Any) -> str | os.PathLike[str]:
    if not isinstance(storage, str | os.PathLike):
        raise UserError(f"storage must be the path or URI of an experiment folder, but got {storage!r}")
    if os.path.isfile(storage):
        raise UserError(f"{storage}: is a file; name an experiment folder")
    return storage


def _assignments(overrides: Any) -> list[str]:
    if isinstance(overrides, str | Mapping) or not isinstance(overrides, Iterable):
        raise UserError(f'overrides must be a list of texts such as "train.epochs=10", but got {overrides!r}')
    return list(overrides)


def _plain(value: Any) -> Any:
    """Return a value with paths as text and the numbers of other libraries as Python's own."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


def _run(experiment: Experiment, cluster: str) -> Results:
    if not isinstance(cluster, str):
        raise UserError(f"cluster must be the name or path of a profile, but got {cluster!r}")
    from clusters import ClusterError, load_profile
    from clusters.uri import shown
    from search.driver.run import run_search
    from search.spec.load import describe

    try:
        profile = load_profile(cluster, describe)
    except ClusterError as error:
        raise UserError(str(error)) from error
    outcome = run_search(experiment, profile)
    if outcome.interrupted or (outcome.stop_reason and not outcome.exhausted):
        raise InterruptedSearchError(
            f"{outcome.progress.ended} of {outcome.progress.total} trials have ended; "
            f"{outcome.stop_reason or 'interrupted'}; go on with search.resume({shown(experiment.folder.uri)!r})"
        )
    return load(experiment.folder.uri)
