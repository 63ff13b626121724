"""The answer in words: what a reader should know after ten seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from search.report.facts import Dense, Pick
from search.report.proposals import LATENCY, MEASURES, NETWORK, ROW, Proposals
from search.report.text import NBSP, interval, number, percent, size, times_smaller
from search.results.frontier import frontier
from search.results.picks import best_within, knee, smallest_above

if TYPE_CHECKING:
    import pyarrow as pa

NEAR = 0.01
"""How far below the dense model still counts as near it, in accuracy."""


def dense_models(found: Proposals) -> list[Dense]:
    """Return the uncompressed model of each network."""
    several = len(found.networks) > 1
    networks = found.table[NETWORK].to_numpy()
    models = []
    for index, network in enumerate(found.networks):
        own = found.table.filter(_is_dense(found) & (networks == index))
        best = best_within(own, math.inf)
        models.append(
            Dense(
                network.model,
                f"dense {network.model}" if several else "dense",
                None if best is None else own["accuracy"][best].as_py(),
                None if best is None else own["accuracy_val"][best].as_py(),
                network.meta.get("dense_bytes"),
                network.meta.get("dense_parameters"),
            )
        )
    return models


def _is_dense(found: Proposals) -> np.ndarray:
    return np.array(found.table["method"].to_pylist(), dtype=object) == "dense"


def picks(
    found: Proposals, dense: Sequence[Dense], max_bytes: int | None, max_latency_ms: float | None = None
) -> list[Pick]:
    """Return the models that answer common questions, for each measure of memory; compressed ones only.

    Args:
        found: The proposals.
        dense: From :func:`dense_models`.
        max_bytes: The budget that the spec names, in bytes.
        max_latency_ms: The limit that it sets to the time of one image.
    """
    compressed = found.table.filter(~_is_dense(found))
    # What was not measured is not known to keep to a limit, for the search neither.
    in_budget = compressed
    if max_latency_ms is not None:
        in_budget = compressed.filter(compressed[LATENCY].to_numpy() <= max_latency_ms)
    limits = [] if max_bytes is None else [size(max_bytes, "stored_bytes")]
    limits += [] if max_latency_ms is None else [f"{max_latency_ms:g}{NBSP}ms"]
    # Of several dense models the best: near a poor one is not near what the data allow.
    bar = max((one.accuracy_val for one in dense if one.accuracy_val is not None), default=None)
    near = f"Smallest within 1 point of {'the best ' if len(dense) > 1 else ''}dense on validation"
    chosen = []
    for measure in MEASURES:
        wanted: list[tuple[str, str, int | None]] = []
        if limits and (max_bytes is None or measure == "stored_bytes"):
            row = best_within(in_budget, math.inf if max_bytes is None else max_bytes, measure)
            wanted.append((f"Best under {' and '.join(limits)}", "best in budget", _row(in_budget, row)))
        front = frontier(compressed, (measure,))
        wanted.append(("Knee: more memory brings little beyond it", "knee", _row(front, knee(front, measure))))
        if bar is not None:
            row = smallest_above(compressed, bar - NEAR, measure)
            wanted.append((near, "near dense", _row(compressed, row)))
        best = best_within(compressed, math.inf, measure)
        wanted.append(("Most accurate", "most accurate", _row(compressed, best)))
        shown = [(title, label, found.rows[row]) for title, label, row in wanted if row in found.rows]
        chosen += _merged(found, measure, shown)
    return chosen


def _row(table: pa.Table, index: int | None) -> int | None:
    """Return which proposal is in a row of some of them."""
    return None if index is None else table[ROW][index].as_py()


def _merged(found: Proposals, measure: str, wanted: list[tuple[str, str, int]]) -> list[Pick]:
    """Return one pick a model: questions with the same answer share it."""
    titles: dict[int, list[tuple[str, str]]] = {}
    for title, label, index in wanted:
        titles.setdefault(index, []).append((title, label))
    made = []
    for index, questions in titles.items():
        point = found.shown[index]
        sure = interval(point.low, point.high, len(point.trials))
        sure = sure if point.low is None else f"95 % interval {sure}"
        how = f"ratio {number(point.ratio)}, {sure}"
        made.append(
            Pick(
                "; ".join([questions[0][0], *(title[:1].lower() + title[1:] for title, _ in questions[1:])]),
                " · ".join(label for _, label in questions),
                measure,
                index,
                point.method,
                percent(point.accuracy),
                size(getattr(point, measure), measure),
                how,
                point.trials[0],
            )
        )
    return made


def headline(found: Proposals, pick: Pick, dense: Sequence[Dense]) -> str:
    """Return the answer in one sentence: the first pick, against its own dense model where there is one."""
    point = found.shown[pick.point]
    text = f"{found.looks[pick.method].name} reaches {percent(point.accuracy)} in {pick.size}"
    own = dense[point.network]
    whole = getattr(own, pick.measure)
    smaller = times_smaller(whole, getattr(point, pick.measure)) if whole else ""
    if own.accuracy is None:
        return f"{text}, {smaller} than the {own.label} model" if smaller else text
    lost = 100 * (own.accuracy - point.accuracy)
    against = "as accurate as" if abs(lost) < 0.05 else f"{abs(lost):.1f} points {'below' if lost > 0 else 'above'}"
    return f"{text}: {against} the {own.label} model{', ' if smaller else ''}{smaller}"


def headline_measure(chosen: list[Pick], measure: str) -> Pick | None:
    """Return the pick that the headline is about, or None where there is none."""
    return next((pick for pick in chosen if pick.measure == measure), None)
