"""Ranking by two objectives at once: non-dominated fronts, and within a front the best spread."""

from __future__ import annotations

import moocore
import numpy as np


def adds_nothing(point: np.ndarray, others: np.ndarray) -> bool:
    """Return whether one of ``others``, shape ``(points, objectives)``, is as good in all objectives."""
    return bool((others <= point).all(axis=1).any())


def top(losses: np.ndarray, places: int) -> np.ndarray:
    """Return the indices of the first ``places`` points, or of all where there are fewer.

    Points are ordered by non-dominated front; the front that does not fit as a whole is ordered as an epsilon-net
    (arXiv:2106.12639, section 4): each next point is the one farthest from those before it, so that what is kept
    spans the front.

    Args:
        losses: Objectives, all to be made small, shape ``(points, objectives)``.
        places: Number of points asked for.
    """
    if len(losses) <= places:
        return np.arange(len(losses))
    ranks = moocore.pareto_rank(losses)
    whole_fronts = np.cumsum(np.bincount(ranks))
    last = int(np.searchsorted(whole_fronts, places, side="right"))
    inside = np.flatnonzero(ranks < last)
    front = np.flatnonzero(ranks == last)
    return np.concatenate([inside, front[epsilon_net(losses[front], places - len(inside))]])


def epsilon_net(points: np.ndarray, count: int) -> np.ndarray:
    """Return the indices of ``count`` points that cover all: greedily the farthest from those chosen.

    Distances are measured with each objective scaled to [0, 1]. The first point is the best in the first objective.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1.0)
    chosen = [int(np.argmin(scaled[:, 0]))]
    distance = np.full(len(points), np.inf)
    for _ in range(min(count, len(points)) - 1):
        apart = scaled - scaled[chosen[-1]]
        np.minimum(distance, np.einsum("ij,ij->i", apart, apart), out=distance)
        distance[chosen[-1]] = -1.0
        chosen.append(int(distance.argmax()))
    return np.asarray(chosen[:count], dtype=np.int64)
