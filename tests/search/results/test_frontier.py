from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.errors import UserError
from search.results.frontier import frontier, nondominated
from search.results.parts import rows_to_table
from search.results.points import points


def brute_force(accuracy: Sequence[float], measures: Sequence[Sequence[float]]) -> list[bool]:
    def dominates(a: int, b: int) -> bool:
        no_worse = accuracy[a] >= accuracy[b] and all(x <= y for x, y in zip(measures[a], measures[b], strict=True))
        better = accuracy[a] > accuracy[b] or any(x < y for x, y in zip(measures[a], measures[b], strict=True))
        return no_worse and better

    def repeats(b: int) -> bool:
        return any(accuracy[a] == accuracy[b] and list(measures[a]) == list(measures[b]) for a in range(b))

    everyone = range(len(accuracy))
    return [not repeats(b) and not any(dominates(a, b) for a in everyone) for b in everyone]


@given(
    st.integers(1, 3).flatmap(lambda d: st.lists(st.tuples(*[st.integers(0, 6)] * (d + 1)), min_size=1, max_size=40))
)
def test_the_set_is_that_of_brute_force(drawn: list[tuple[int, ...]]) -> None:
    values = np.array(drawn, dtype=float)
    found = nondominated(values[:, 0], values[:, 1:])
    assert found.tolist() == brute_force(values[:, 0].tolist(), values[:, 1:].tolist())


def test_large_sets_agree_with_brute_force() -> None:
    rng = np.random.default_rng(0)
    for objectives in (1, 2, 3):
        accuracy, measures = rng.random(300).round(2), rng.lognormal(size=(300, objectives)).round(1)
        assert nondominated(accuracy, measures).tolist() == brute_force(accuracy.tolist(), measures.tolist())
    assert nondominated(np.empty(0), np.empty((0, 1))).tolist() == []


def table(trial, *rows: dict) -> pa.Table:
    return rows_to_table("trials", [trial(i, **row) for i, row in enumerate(rows)])


def test_validation_accuracy_decides_unless_test_is_asked_for(trial) -> None:
    trials = table(
        trial,
        {"stored_bytes": 10, "accuracy_val": 0.5, "accuracy": 0.9},
        {"stored_bytes": 20, "accuracy_val": 0.6, "accuracy": 0.7},
        {"stored_bytes": 30, "accuracy_val": 0.4, "accuracy": 0.95},
    )
    assert frontier(points(trials))["accuracy"].to_pylist() == [0.9, 0.7]
    assert frontier(points(trials), on="accuracy")["stored_bytes"].to_pylist() == [10, 30]


def test_groups_and_data_sets_have_their_own_frontiers(trial) -> None:
    trials = table(
        trial,
        {"method": "snip", "accuracy_val": 0.5},
        {"method": "rps", "accuracy_val": 0.9, "stored_bytes": 1},
        {"method": "rps", "accuracy_val": 0.3, "dataset": "cifar10"},
        {"method": "snip", "accuracy_val": 0.2, "dataset": "cifar10", "stored_bytes": 10**9},
    )
    assert frontier(points(trials))["dataset"].to_pylist() == ["cifar10", "digits"]
    by_method = frontier(points(trials), by=["method"])
    assert by_method.select(["method", "dataset"]).to_pylist() == [
        {"method": "rps", "dataset": "cifar10"},
        {"method": "rps", "dataset": "digits"},
        {"method": "snip", "dataset": "cifar10"},
        {"method": "snip", "dataset": "digits"},
    ]
    with pytest.raises(UserError, match="unknown label 'methods': did you mean 'method'"):
        frontier(points(trials), by=["methods"])
    with pytest.raises(UserError, match="unknown accuracy 'val'"):
        frontier(points(trials), on="val")
    with pytest.raises(UserError, match="unknown measure 'bytes'"):
        frontier(points(trials), ["bytes"])


def test_three_objectives_keep_what_is_best_in_any(trial) -> None:
    trials = table(
        trial,
        {"stored_bytes": 10, "latency_ms": 5.0, "accuracy_val": 0.5},
        {"stored_bytes": 20, "latency_ms": 2.0, "accuracy_val": 0.6},
        {"stored_bytes": 20, "latency_ms": 1.0, "accuracy_val": 0.5},
        {"stored_bytes": 20, "latency_ms": 6.0, "accuracy_val": 0.4},
    )
    measures = ("stored_bytes", "latency_ms")
    assert frontier(points(trials, measures), measures)["latency_ms"].to_pylist() == [5.0, 1.0, 2.0]


def test_neighbours_that_seeds_do_not_tell_apart_are_marked(trial) -> None:
    def seeds(number: int, accuracies: Sequence[float]) -> list[dict]:
        return [{"number": number, "stored_bytes": number, "accuracy_val": a} for a in accuracies]

    trials = table(
        trial,
        *seeds(1, [0.10, 0.101, 0.102]),
        *seeds(2, [0.50, 0.52, 0.54]),
        *seeds(3, [0.51, 0.53, 0.55]),
        *seeds(4, [0.90]),
    )
    assert frontier(points(trials))["overlaps"].to_pylist() == [False, True, True, None]
    assert frontier(points(table(trial))).num_rows == 0


def test_neighbours_are_told_apart_by_the_accuracy_that_decided(trial) -> None:
    seeds = [(1, 0.3, 0.5), (1, 0.5, 0.51), (2, 0.4, 0.8), (2, 0.6, 0.81)]
    trials = table(
        trial, *({"number": n, "stored_bytes": n, "accuracy_val": val, "accuracy": test} for n, val, test in seeds)
    )
    assert frontier(points(trials))["overlaps"].to_pylist() == [True, True]
    assert frontier(points(trials), on="accuracy")["overlaps"].to_pylist() == [False, False]


def test_a_larger_neighbour_that_is_less_accurate_is_told_apart_too(trial) -> None:
    """With several measures accuracies fall along a frontier as well as rise."""
    seeds = [(10, 5.0, 0.90), (10, 5.0, 0.91), (20, 1.0, 0.50), (20, 1.0, 0.51)]
    trials = table(trial, *({"number": b, "stored_bytes": b, "latency_ms": t, "accuracy_val": a} for b, t, a in seeds))
    measures = ("stored_bytes", "latency_ms")
    assert frontier(points(trials, measures), measures)["overlaps"].to_pylist() == [False, False]
