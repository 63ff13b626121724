"""What the pictures beside the frontier show."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from search.report import importance
from search.report.curves import read_curves
from search.report.facts import Budgets, Curve, Gaps, Importances, RatioPoint, Series
from search.report.proposals import Proposals
from search.report.text import finite, percent, plural, size, visible
from search.results import Results
from search.results.picks import best_within, gaps

MOST_RATIOS = 8
"""Points of each line in the picture of accuracy against ratio."""
MOST_COLUMNS = 24
MOST_LAYERS = 40
MOST_CURVES = 60
MOST_EPOCHS = 200
FEWEST_PROPOSALS = 10
"""Fewer than this do not tell whether more would help."""
RATIO_NOTE = (
    "The best proposal of each method within a range of ratios. A ratio does not count the positions that pruned "
    "models must store: for that, see the frontier above."
)


def ratio_series(found: Proposals) -> list[Series]:
    """Return each method's best accuracy by compression ratio: the figure that papers print.

    Where more than ``MOST_RATIOS`` different ratios were tried, they are put together in as many equal parts of the
    logarithm of the ratio, the same for all methods.
    """
    ratio = found.table["ratio"].to_numpy()
    usable = np.isfinite(ratio) & (ratio >= 1)
    if not usable.any():
        return []
    distinct = np.unique(ratio[usable])
    if len(distinct) > MOST_RATIOS:
        compressed = distinct[distinct > 1]
        edges = np.geomspace(compressed[0], compressed[-1], MOST_RATIOS + 1)[1:-1]
    else:
        edges = (distinct[1:] * distinct[:-1]) ** 0.5
    part = np.searchsorted(edges, ratio, side="right")
    names = np.array(found.table["method"].to_pylist(), dtype=object)
    series = []
    for name, method in found.methods.items():
        if name == "dense":
            continue
        own = usable & (names == name)
        line = [_best(found, np.flatnonzero(own & (part == p))) for p in np.unique(part[own])]
        if line:
            series.append(Series(method, line))
    return series


def _best(found: Proposals, rows: np.ndarray) -> RatioPoint:
    group = found.table.take(rows)
    index = best_within(group, math.inf)
    assert index is not None  # no group is empty
    best = group.slice(index, 1).to_pylist()[0]
    ratios = group["ratio"].to_numpy()
    return RatioPoint(
        best["ratio"], float(ratios.min()), float(ratios.max()), best["accuracy"], best["accuracy_low"],
        best["accuracy_high"], best["seeds"], len(rows), visible(best["trial_id"]),
    )  # fmt: skip


def method_gaps(found: Proposals, measure: str, leader: str | None) -> Gaps | None:
    """Return how far one method is ahead of each other one at equal memory, or None where nothing can be compared.

    Args:
        found: The proposals.
        measure: The memory that is equal.
        leader: The method that is compared with the others.
    """
    rows = [row for row in gaps(found.table, measure).to_pylist() if leader in (row["better"], row["worse"])]
    if not rows:
        return None
    cells = []
    for row in rows:
        ahead = row["better"] == leader
        other = row["worse" if ahead else "better"]
        mean, low, high = (100 * row[f"{kind}_gap"] for kind in ("mean", "min", "max"))
        mean, low, high = (mean, low, high) if ahead else (-mean, -high, -low)
        place = f"{size(row['from_memory'], measure)} to {size(row['to_memory'], measure)}"
        cells.append((f"over {_name(found, other)}", [f"{mean:+.1f}", f"{low:+.1f} to {high:+.1f}", place]))
    note = (
        "Test accuracy of one method's frontier minus the other's, in points, interpolated over the logarithm of "
        "memory where both have models."
    )
    return Gaps(_name(found, leader), ["Mean", "Smallest to largest", "Between"], cells, note)


def _name(found: Proposals, method: str | None) -> str:
    return found.looks[found.methods[method]].name


def budgets(found: Proposals, meta: Sequence[Mapping[str, Any]], measure: str) -> Budgets | None:
    """Return how the frontier's models split their memory, or None where no budget was searched or no size is known.

    Args:
        found: The proposals.
        meta: What the driver recorded of each experiment: of one network, each may compress other layers.
        measure: The measure of memory whose frontier is taken.
    """
    front = [i for i in found.shown_fronts[measure].overall if found.shown[i].budgets]
    step = max(1, math.ceil(len(front) / MOST_COLUMNS))
    columns = front[::step]
    patterns = list(dict.fromkeys(pattern for i in columns for pattern in found.shown[i].budgets))
    sizes = {i: _sizes(found.shown[i].budgets, meta[found.folders[i]]) for i in columns}
    layers = [pattern for pattern in patterns if any(sizes[i].get(pattern) for i in columns)][:MOST_LAYERS]
    if not layers:
        return None
    values = [
        [found.shown[i].budgets[layer] / sizes[i][layer] if sizes[i].get(layer) else None for i in columns]
        for layer in layers
    ]
    note = (
        "Each column is a model of the frontier, small to large; a cell is the share of that layer's weights which it "
        "keeps, in percent. Darker keeps more."
    )
    if step > 1:
        note += f" Every {step}th of {len(front)} models is shown."
    if len(layers) < len(patterns):
        note += f" {len(layers)} of {len(patterns)} budgets are shown."
    return Budgets(layers, columns, values, note)


def _sizes(patterns: Iterable[str], meta: Mapping[str, Any]) -> dict[str, int]:
    """Return the weights under each pattern: a layer is in the first one that it matches, as when it is compressed."""
    unclaimed = {visible(layer): count for layer, count in meta.get("layer_sizes", {}).items()}
    sizes = {}
    for pattern in patterns:
        layers = [layer for layer in unclaimed if layer == pattern or fnmatchcase(layer, pattern)]
        sizes[pattern] = sum(unclaimed.pop(layer) for layer in layers)
    return sizes


def searched_importances(found: Proposals, measure: str) -> Importances | None:
    """Return which of the searched values decided how good a proposal was for its size, or None for too few.

    Predicted is the validation accuracy minus that of the frontier at equal memory, interpolated over the logarithm of
    memory: without that, how much memory there is would hide all else. A budget enters as its share of all that a
    model keeps: how the memory is split, apart from how much there is.
    """
    front = found.fronts[measure]
    memory, best = np.log(front[measure].to_numpy()), front["accuracy_val"].to_numpy()
    shown = [p for p in found.shown if found.looks[p.method].name != "dense"]
    columns: dict[str, list[Any]] = {
        "model": [found.networks[p.network].model for p in shown],
        "method": [found.looks[p.method].name for p in shown],
        "ratio": [_log(p.ratio) for p in shown],
        "learning rate": [_log(p.lr) for p in shown],
        "weight decay": [_log(p.weight_decay) for p in shown],
    }
    for pattern in list(dict.fromkeys(pattern for p in shown for pattern in p.budgets))[:MOST_LAYERS]:
        columns[f"budget of {pattern}"] = [
            _log(p.budgets[pattern] / max(sum(p.budgets.values()), 1)) if pattern in p.budgets else None for p in shown
        ]
    result = importance.importances(
        columns, [p.accuracy_val - float(np.interp(np.log(getattr(p, measure)), memory, best)) for p in shown]
    )
    if result is None:
        return None
    note = (
        f"What decides how far a proposal stays below the frontier at equal memory: how much worse a random forest "
        f"predicts it when one value is shuffled. Learned from {plural(result.proposals, 'proposal')}; R² on held-out "
        f"ones is {result.r2:.2f}. Whiskers are one standard deviation over {importance.SPLITS} splits. This is what "
        "went with accuracy, not what causes it."
    )
    return Importances(result.rows[:16] if result.r2 > 0 else [], note, result.caution)


def _log(value: float | None) -> float | None:
    return math.log10(value) if value and value > 0 else None


def learning_curves(results: Results, found: Proposals, measure: str) -> tuple[list[Curve], str]:
    """Return validation accuracy by epoch of the frontier's trials, and of some others for comparison."""
    front = found.shown_fronts[measure].overall
    on_front = set(front[:: max(1, math.ceil(len(front) / MOST_CURVES * 2))])
    others = [i for i in range(len(found.shown)) if i not in set(front)]
    chosen = sorted(on_front) + others[:: max(1, math.ceil(len(others) / (MOST_CURVES - len(on_front))))]
    read = read_curves(results, (found.named[i][1] for i in chosen), ("epoch", "accuracy_val"))
    epochs = {name: [point for point in curve if finite(point[1]) is not None] for name, curve in read.items()}
    curves = [
        Curve(p.method, p.trials[0], i in on_front, p.ratio, p.lr, *_thin(epochs[found.named[i]]))
        for i, p in ((i, found.shown[i]) for i in chosen)
        if epochs.get(found.named[i])
    ]
    count = sum(not curve.frontier for curve in curves)
    note = "The frontier's models, first seed of each"
    return curves, f"{note}; {plural(count, 'other trial')} faint behind them." if count else f"{note}."


def _thin(curve: list[tuple[int, float]]) -> tuple[list[int], list[float]]:
    """Return a curve with at most about ``MOST_EPOCHS`` points, its last one kept."""
    step = max(1, math.ceil(len(curve) / MOST_EPOCHS))
    kept = curve[:-1:step] + curve[-1:]
    return [epoch for epoch, _ in kept], [accuracy for _, accuracy in kept]


def describe_history(history: Sequence[tuple[int, float]], reference: dict[str, float], measure: str) -> str:
    """Return a sentence on whether the search was still finding better models when it ended."""
    place = f"accuracy {percent(reference['accuracy'], 0)} and {size(reference[measure], measure)}"
    if not history[-1][1]:
        return f"No model beats the reference point ({place}) in both, so that there is no hypervolume yet."
    meaning = (
        f"Hypervolume is the share of all that is better than the reference point ({place}) which the frontier "
        "reaches, on validation accuracy."
    )
    if history[-1][0] < FEWEST_PROPOSALS:
        is_or_are = "is" if history[-1][0] == 1 else "are"
        return f"{plural(history[-1][0], 'proposal')} {is_or_are} too few to tell whether more would help. {meaning}"
    half = next(volume for count, volume in reversed(history) if count <= max(history[-1][0] / 2, history[0][0]))
    grown = (history[-1][1] - half) / history[-1][1]
    verdict = "it was still rising: more trials are likely to pay" if grown > 0.01 else "more trials would add little"
    return f"The second half of the proposals added {percent(grown)} to the hypervolume: {verdict}. {meaning}"
