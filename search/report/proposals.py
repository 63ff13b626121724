"""Which proposals a report shows: all on a frontier, and of the others as many as a picture can hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from search.errors import UserError
from search.report.facts import Front, Method, Point
from search.report.palette import looks
from search.report.reproduce import shell_name
from search.report.text import finite, plural, visible
from search.results import Results
from search.results.frontier import frontier
from search.results.merged import FOLDER, read_all
from search.results.points import COLUMNS, FEW_VALUES, LABELS, points, usable

MEASURES = {"stored_bytes": "Stored size", "stored_parameters": "Stored parameters"}
MOST_POINTS = 2_000
UNKNOWN = "unknown"
ROW = "row"
"""Name of the column that tells proposals apart: two experiments may have trials of the same id."""
NETWORK = "network"
"""Name of the column that says which of :attr:`Proposals.networks` was compressed."""
_DETAILS = ("seed", "weight_decay", "budgets")


@dataclass(frozen=True)
class Network:
    """A model that was compressed, in one or more experiments."""

    model: str
    meta: Mapping[str, Any]
    """What the driver recorded of the first of them."""


@dataclass(frozen=True)
class Proposals:
    """The proposals of a report."""

    table: pa.Table
    """Every proposal, as :func:`search.results.points.points` gives them, and ``FOLDER, NETWORK, ROW``."""
    networks: list[Network]
    fronts: dict[str, pa.Table]
    """The frontier of each measure over all methods."""
    methods: dict[str | None, int]
    """Index of each method in :attr:`looks`, by its name in the tables."""
    looks: list[Method]
    shown: list[Point]
    """The proposals that pictures show."""
    named: list[tuple[str, str]]
    """Experiment and first trial of each of these, as the tables write them."""
    rows: dict[int, int]
    """Index into ``shown`` by the row of a proposal in ``table``."""
    shown_fronts: dict[str, Front]

    @property
    def sampling(self) -> str | None:
        """A sentence that says what is not shown, or None where everything is."""
        if len(self.shown) == self.table.num_rows:
            return None
        return (
            f"The pictures show {len(self.shown):,} of {plural(self.table.num_rows, 'proposal')}: all on a frontier "
            "and a random choice of the others. Frontiers, hypervolume, picks and sums are computed from all of them."
        )


def proposals(results: Results, *, seed: int = 0) -> Proposals:
    """Read the trials, average seeds and choose what is shown.

    Args:
        results: The tables, of one data set.
        seed: Seed of the choice.

    Raises:
        UserError: If the experiments used different data, whose accuracies cannot be compared.
    """
    columns = [*COLUMNS, *MEASURES, *_DETAILS]
    trials = read_all(results.stores, "trials", columns, dictionary=FEW_VALUES, folder=True)
    if FOLDER not in trials.column_names:
        trials = trials.append_column(FOLDER, pa.array(np.zeros(len(trials), dtype=np.int64)))
    datasets = sorted({visible(name) for name in trials["dataset"].unique().to_pylist() if name})
    if len(datasets) > 1:
        raise UserError(
            f"a report compares accuracies on the same data, but these experiments used {', '.join(datasets)}; "
            "write one report for each"
        )
    # A row of another program may lack the method.
    names = sorted(trials["method"].unique().to_pylist(), key=lambda name: name or "")
    chosen_looks = looks(map(_known, names))
    table, networks = _placed(points(trials, tuple(MEASURES)), trials, results.meta)
    fronts = {measure: frontier(table, (measure,)) for measure in MEASURES}
    own = {measure: frontier(table, (measure,), by=("method",)) for measure in MEASURES}
    keep = _choose(table, [*fronts.values(), *own.values()], seed)
    methods = {name: index for index, name in enumerate(names)}
    tied = {row for front in fronts.values() for row, tie in _pairs(front, "overlaps") if tie}
    chosen = table.take(keep)
    rows = {row: index for index, row in enumerate(keep.tolist())}
    return Proposals(
        table,
        networks,
        fronts,
        methods,
        [Method(visible(name), chosen_looks[name].color, chosen_looks[name].shape) for name in map(_known, names)],
        _details(results, chosen, _trials_of(trials, chosen), methods, tied),
        _named(chosen),
        rows,
        {measure: _front(fronts[measure], own[measure], rows, methods) for measure in MEASURES},
    )


def _known(name: str | None) -> str:
    return name or UNKNOWN


def _named(table: pa.Table) -> list[tuple[str, str]]:
    return list(zip(table["experiment"].to_pylist(), table["trial_id"].to_pylist(), strict=True))


def _placed(table: pa.Table, trials: pa.Table, meta: Sequence[Mapping[str, Any]]) -> tuple[pa.Table, list[Network]]:
    """Return the proposals with their folders, networks and rows; first trials tell the folder, being there once."""
    places = dict(zip(_named(trials), trials[FOLDER].to_pylist(), strict=True))
    folders = [places[name] for name in _named(table)]
    # Models of one name and size are one: a search without the dense model is compared with that of another.
    networks: dict[tuple[str | None, float | None], Network] = {}
    keys = []
    for model, folder in zip(table["model"].to_pylist(), folders, strict=True):
        keys.append((model, meta[folder].get("dense_bytes")))
        networks.setdefault(keys[-1], Network(visible(model or UNKNOWN), meta[folder]))
    index = {key: number for number, key in enumerate(networks)}
    table = table.append_column(FOLDER, pa.array(folders, pa.int64()))
    table = table.append_column(NETWORK, pa.array([index[key] for key in keys], pa.int64()))
    return table.append_column(ROW, pa.array(np.arange(table.num_rows))), list(networks.values())


def _pairs(table: pa.Table, column: str) -> list[tuple[int, Any]]:
    return list(zip(table[ROW].to_pylist(), table[column].to_pylist(), strict=True))


def _choose(table: pa.Table, fronts: list[pa.Table], seed: int) -> np.ndarray:
    """Return the rows to show, in order: those of the fronts, and others up to ``MOST_POINTS``."""
    if table.num_rows <= MOST_POINTS:
        return np.arange(table.num_rows)
    wanted = np.unique(np.concatenate([front[ROW].to_numpy() for front in fronts]))
    others = np.setdiff1d(np.arange(table.num_rows), wanted)
    room = max(MOST_POINTS - len(wanted), 0)
    sample = np.random.default_rng(seed).choice(others, min(room, len(others)), replace=False)
    return np.sort(np.concatenate([wanted, sample]))


def _front(overall: pa.Table, own: pa.Table, rows: Mapping[int, int], methods: Mapping[str | None, int]) -> Front:
    by_method: dict[int, list[int]] = defaultdict(list)
    for row, method in _pairs(own, "method"):
        by_method[methods[method]].append(rows[row])
    return Front([rows[row] for row in overall[ROW].to_pylist()], dict(by_method))


def _details(
    results: Results,
    chosen: pa.Table,
    trials: Mapping[tuple[Any, ...], list[dict[str, Any]]],
    methods: Mapping[str | None, int],
    tied: set[int],
) -> list[Point]:
    """Return the proposals with what their trials say: seeds, budgets, weight decay."""
    folders = [shell_name(store.folder) for store in results.stores]
    shown = []
    for row in chosen.to_pylist():
        seeds = trials[_proposal(row)]
        first = seeds[0]
        shown.append(
            Point(
                method=methods[row["method"]],
                network=row[NETWORK],
                experiment=visible(row["experiment"]),
                folder=folders[row[FOLDER]],
                trials=[visible(trial["trial_id"]) for trial in seeds],
                seeds=[trial["seed"] for trial in seeds if trial["seed"] is not None],
                accuracy=row["accuracy"],
                low=row["accuracy_low"],
                high=row["accuracy_high"],
                accuracy_val=row["accuracy_val"],
                stored_bytes=row["stored_bytes"],
                stored_parameters=row["stored_parameters"],
                ratio=finite(row["ratio"]),
                lr=finite(row["lr"]),
                weight_decay=finite(first["weight_decay"]),
                budgets={visible(pattern): kept for pattern, kept in first["budgets"] or ()},
                tied=row[ROW] in tied,
            )
        )
    return shown


def _trials_of(trials: pa.Table, chosen: pa.Table) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """Return the trials whose mean each proposal is; the first is the one that the table of proposals names."""
    used = trials.filter(pa.array(usable(trials, tuple(MEASURES))))
    used = used.filter(pc.is_in(used["number"], value_set=chosen["number"].combine_chunks()))
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in used.select([FOLDER, *LABELS, "number", "trial_id", *_DETAILS]).to_pylist():
        found[_proposal(row)].append(row)
    return found


def _proposal(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what tells a proposal apart; a trial without a proposal's number is a proposal of its own."""
    number = row["trial_id"] if row["number"] is None else row["number"]
    return (*(row[name] for name in (FOLDER, *LABELS)), number)
