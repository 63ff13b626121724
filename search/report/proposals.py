"""Which proposals a report shows: all on a frontier, and of the others as many as a picture can hold."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from search.errors import UserError
from search.report.facts import Front, Method, Point
from search.report.palette import looks
from search.report.reproduce import shell_name
from search.report.text import finite, plural, size, visible
from search.results import Results
from search.results.frontier import frontier
from search.results.merged import FOLDER
from search.results.points import drawable, members, points

MEASURES = {"stored_bytes": "Stored size", "stored_parameters": "Stored parameters"}
MOST_POINTS = 2_000
UNKNOWN = "unknown"
ROW = "row"
"""Name of the column that tells proposals apart: two experiments may have trials of the same id."""
NETWORK = "network"
"""Name of the column that says which of :attr:`Proposals.networks` was compressed."""
LATENCY = "latency_ms"
_DETAILS = ("seed", "weight_decay", "budgets")


@dataclass(frozen=True)
class Network:
    """A model that was compressed, in one or more experiments."""

    model: str
    """Its name, with its size where several networks have that name."""
    meta: Mapping[str, Any]
    """What the driver recorded of the first of them."""


@dataclass(frozen=True)
class Proposals:
    """The proposals of a report."""

    table: pa.Table
    """Every proposal, as :func:`search.results.points.points` gives them, and ``FOLDER, NETWORK, ROW``
    and ``LATENCY``, the mean over seeds, NaN where one was not measured."""
    networks: list[Network]
    fronts: dict[str, pa.Table]
    """The frontier of each measure over all methods."""
    methods: dict[str | None, int]
    """Index of each method in :attr:`looks`, by its name in the tables."""
    looks: list[Method]
    shown: list[Point]
    """The proposals that pictures show."""
    folders: list[int]
    """Index of each one's experiment among those that were read."""
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
    measures = tuple(MEASURES)
    trials = drawable(results.stores, measures, further=(*_DETAILS, LATENCY))
    datasets = sorted({visible(name) for name in trials["dataset"].unique().to_pylist() if name})
    if len(datasets) > 1:
        raise UserError(
            f"a report compares accuracies on the same data, but these experiments used {', '.join(datasets)}; "
            "write one report for each"
        )
    # A row of another program may lack the method.
    names = sorted(trials["method"].unique().to_pylist(), key=lambda name: name or "")
    chosen_looks = looks(map(_known, names))
    used, first, point = members(trials, measures)
    table, networks = _placed(points(trials, measures), trials[FOLDER].take(used[first]), results.meta)
    latency = np.bincount(point, trials[LATENCY].to_numpy()[used], len(first)) / table["seeds"].to_numpy()
    table = table.append_column(LATENCY, pa.array(latency, pa.float64()))
    fronts = {measure: frontier(table, (measure,)) for measure in MEASURES}
    own = {measure: frontier(table, (measure,), by=("method",)) for measure in MEASURES}
    keep = _choose(table, [*fronts.values(), *own.values()], seed)
    methods = {name: index for index, name in enumerate(names)}
    tied = {row for front in fronts.values() for row, tie in _pairs(front, "overlaps") if tie}
    chosen = table.take(keep)
    shown = np.flatnonzero(np.isin(point, keep))
    of_shown = _by_row(trials.take(used[shown]), point[shown])
    rows = {row: index for index, row in enumerate(keep.tolist())}
    return Proposals(
        table,
        networks,
        fronts,
        methods,
        [Method(visible(name), chosen_looks[name].color, chosen_looks[name].shape) for name in map(_known, names)],
        _details(results, chosen, of_shown, methods, tied),
        chosen[FOLDER].to_pylist(),
        _named(chosen),
        rows,
        {measure: _front(fronts[measure], own[measure], rows, methods) for measure in MEASURES},
    )


def _known(name: str | None) -> str:
    return name or UNKNOWN


def _named(table: pa.Table) -> list[tuple[str, str]]:
    return list(zip(table["experiment"].to_pylist(), table["trial_id"].to_pylist(), strict=True))


def _placed(
    table: pa.Table, folder: pa.ChunkedArray, meta: Sequence[Mapping[str, Any]]
) -> tuple[pa.Table, list[Network]]:
    """Return the proposals with their folders, networks and rows."""
    folders = folder.to_pylist()
    # Models of one name and size are one: a search without the dense model is compared with that of another.
    networks: dict[tuple[str | None, float | None], Network] = {}
    keys = []
    for model, folder in zip(table["model"].to_pylist(), folders, strict=True):
        keys.append((model, meta[folder].get("dense_bytes")))
        networks.setdefault(keys[-1], Network(visible(model or UNKNOWN), meta[folder]))
    names = Counter(network.model for network in networks.values())
    named = [
        replace(network, model=f"{network.model} of {size(key[1], 'stored_bytes')}")
        if key[1] is not None and names[network.model] > 1
        else network
        for key, network in networks.items()
    ]
    index = {key: number for number, key in enumerate(networks)}
    table = table.append_column(FOLDER, pa.array(folders, pa.int64()))
    table = table.append_column(NETWORK, pa.array([index[key] for key in keys], pa.int64()))
    return table.append_column(ROW, pa.array(np.arange(table.num_rows))), named


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
    trials: Mapping[int, list[dict[str, Any]]],
    methods: Mapping[str | None, int],
    tied: set[int],
) -> list[Point]:
    """Return the proposals with what their trials say: seeds, budgets, weight decay."""
    folders = [shell_name(store.folder) for store in results.stores]
    shown = []
    for row in chosen.to_pylist():
        seeds = trials[row[ROW]]
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


def _by_row(trials: pa.Table, rows: np.ndarray) -> dict[int, list[dict[str, Any]]]:
    """Return the trials whose mean each proposal is, by its row; the first is the one that names it."""
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row, trial in zip(rows.tolist(), trials.select(["trial_id", *_DETAILS]).to_pylist(), strict=True):
        found[row].append(trial)
    return found
