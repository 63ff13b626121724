"""Which proposals a report shows: all on a frontier, and of the others as many as a picture can hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from search.errors import UserError
from search.report.facts import Front, Method, Point
from search.report.palette import looks
from search.report.reproduce import shell_name
from search.report.text import finite, plural, visible
from search.results import Results
from search.results.frontier import frontier
from search.results.points import drawable, points

if TYPE_CHECKING:
    import pyarrow as pa

MEASURES = {"stored_bytes": "Stored size", "stored_parameters": "Stored parameters"}
MOST_POINTS = 2_000
UNKNOWN = "unknown"
_KEY = ("experiment", "model", "method", "number")


@dataclass(frozen=True)
class Proposals:
    """The proposals of a report."""

    table: pa.Table
    """Every proposal, as :func:`search.results.points.points` gives them."""
    fronts: dict[str, pa.Table]
    """The frontier of each measure over all methods."""
    methods: dict[str | None, int]
    """Index of each method in :attr:`looks`, by its name in the tables."""
    looks: list[Method]
    shown: list[Point]
    """The proposals that pictures show."""
    rows: dict[str, int]
    """Index into ``shown`` by the first trial of a proposal."""
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
    trials = drawable(results.stores, tuple(MEASURES))
    datasets = sorted({visible(name) for name in trials["dataset"].unique().to_pylist() if name})
    if len(datasets) > 1:
        raise UserError(
            f"a report compares accuracies on the same data, but these experiments used {', '.join(datasets)}; "
            "write one report for each"
        )
    # A row of another program may lack the method.
    names = sorted(trials["method"].unique().to_pylist(), key=lambda name: name or "")
    chosen_looks = looks(map(_known, names))
    table = points(trials, tuple(MEASURES))
    fronts = {measure: frontier(table, (measure,)) for measure in MEASURES}
    own = {measure: frontier(table, (measure,), by=("method",)) for measure in MEASURES}
    keep = _choose(table, [*fronts.values(), *own.values()], seed)
    methods = {name: index for index, name in enumerate(names)}
    tied = {trial for front in fronts.values() for trial, tie in _pairs(front, "overlaps") if tie}
    chosen = table.take(keep).to_pylist()
    rows = {row["trial_id"]: index for index, row in enumerate(chosen)}
    return Proposals(
        table,
        fronts,
        methods,
        [Method(visible(name), chosen_looks[name].color, chosen_looks[name].shape) for name in map(_known, names)],
        _details(results, chosen, methods, tied),
        rows,
        {measure: _front(fronts[measure], own[measure], rows, methods) for measure in MEASURES},
    )


def _known(name: str | None) -> str:
    return name or UNKNOWN


def _pairs(table: pa.Table, column: str) -> list[tuple[str, Any]]:
    return list(zip(table["trial_id"].to_pylist(), table[column].to_pylist(), strict=True))


def _choose(table: pa.Table, fronts: list[pa.Table], seed: int) -> np.ndarray:
    """Return the rows to show, in order: those of the fronts, and others up to ``MOST_POINTS``."""
    if table.num_rows <= MOST_POINTS:
        return np.arange(table.num_rows)
    wanted = {trial for front in fronts for trial in front["trial_id"].to_pylist()}
    on_front = np.array([trial in wanted for trial in table["trial_id"].to_pylist()])
    others = np.flatnonzero(~on_front)
    room = max(MOST_POINTS - int(on_front.sum()), 0)
    sample = np.random.default_rng(seed).choice(others, min(room, len(others)), replace=False)
    return np.sort(np.concatenate([np.flatnonzero(on_front), sample]))


def _front(overall: pa.Table, own: pa.Table, rows: Mapping[str, int], methods: Mapping[str | None, int]) -> Front:
    by_method: dict[int, list[int]] = defaultdict(list)
    for trial, method in _pairs(own, "method"):
        by_method[methods[method]].append(rows[trial])
    return Front([rows[trial] for trial in overall["trial_id"].to_pylist()], dict(by_method))


def _details(
    results: Results, chosen: list[dict[str, Any]], methods: Mapping[str | None, int], tied: set[str]
) -> list[Point]:
    """Return the proposals with what their trials say: seeds, budgets, weight decay."""
    seeds = _trials_of(results, chosen)
    folders = _folders(results)
    shown = []
    for row in chosen:
        trials = seeds.get(tuple(row[key] for key in _KEY)) or [{"trial_id": row["trial_id"]}]
        # The first is the one that the table of proposals names.
        trials.sort(key=lambda trial: (trial["trial_id"] != row["trial_id"], trial["trial_id"]))
        first = trials[0]
        shown.append(
            Point(
                method=methods[row["method"]],
                experiment=visible(row["experiment"]),
                folder=folders.get(row["experiment"], "DIR"),
                trials=[visible(trial["trial_id"]) for trial in trials],
                seeds=[trial["seed"] for trial in trials if trial.get("seed") is not None],
                accuracy=row["accuracy"],
                low=None if row["accuracy_low"] is None else max(row["accuracy_low"], 0.0),
                high=None if row["accuracy_high"] is None else min(row["accuracy_high"], 1.0),
                accuracy_val=row["accuracy_val"],
                stored_bytes=row["stored_bytes"],
                stored_parameters=row["stored_parameters"],
                ratio=finite(row["ratio"]),
                lr=finite(row["lr"]),
                weight_decay=finite(first.get("weight_decay")),
                budgets={visible(pattern): kept for pattern, kept in (first.get("budgets") or {}).items()},
                tied=row["trial_id"] in tied,
            )
        )
    return shown


def _trials_of(results: Results, chosen: list[dict[str, Any]]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    numbers = sorted({int(row["number"]) for row in chosen if row["number"] is not None})
    if not numbers:
        return {}
    columns = ("trial_id", *_KEY, "seed", "weight_decay", "budgets")
    found = results.sql(
        f"SELECT {', '.join(columns)} FROM trials "
        f"WHERE status = 'finished' AND number IN ({', '.join(map(str, numbers))})"
    )
    trials: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for values in found.fetchall():
        row = dict(zip(columns, values, strict=True))
        trials[tuple(row[key] for key in _KEY)].append(row)
    return trials


def _folders(results: Results) -> dict[str, str]:
    """Return the folder of each experiment, as one would write it in a shell."""
    found = {}
    for store in results.stores:
        for name in store.read("trials", ["experiment"])["experiment"].unique().to_pylist():
            found[name] = shell_name(store.folder)
    return found
