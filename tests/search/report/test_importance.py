from __future__ import annotations

import numpy as np
import pytest

from search.report.importance import FEWEST, MOST, SPLITS, importances


def drawn(count: int, seed: int = 0) -> dict[str, list]:
    rng = np.random.default_rng(seed)
    return {
        "weak": rng.random(count).tolist(),
        "strong": rng.random(count).tolist(),
        "nothing": rng.random(count).tolist(),
        "kind": rng.choice(["a", "b"], count).tolist(),
        "fixed": [1.0] * count,
    }


def test_orders_what_was_searched_by_how_much_it_decides() -> None:
    columns = drawn(200)
    accuracy = [
        0.5 + 0.3 * strong + 0.05 * weak + (0.1 if kind == "b" else 0.0)
        for strong, weak, kind in zip(columns["strong"], columns["weak"], columns["kind"], strict=True)
    ]
    found = importances(columns, accuracy)
    assert found is not None
    assert [row.name for row in found.rows] == ["strong", "kind", "weak", "nothing"]
    assert found.rows[0].value > 10 * abs(found.rows[-1].value)
    assert found.r2 > 0.8
    assert all(row.spread > 0 for row in found.rows)


def test_says_so_where_nothing_decides() -> None:
    accuracy = np.random.default_rng(1).random(60).tolist()
    found = importances(drawn(60), accuracy)
    assert found is not None
    assert found.r2 <= 0
    assert "do not say what mattered" in (found.caution or "")


@pytest.mark.parametrize("accuracy", [[0.5] * 50, np.linspace(0, 1, FEWEST - 1).tolist()])
def test_too_little_to_learn_from_is_none(accuracy: list[float]) -> None:
    assert importances(drawn(len(accuracy)), accuracy) is None


def test_nothing_searched_is_none() -> None:
    assert importances({"fixed": [1.0] * 50}, np.linspace(0, 1, 50).tolist()) is None


def test_missing_numbers_count_as_the_median_and_many_rows_are_sampled() -> None:
    count = MOST + 500
    columns = {"x": [None if i % 7 == 0 else float(i % 50) for i in range(count)], "empty": [None] * count}
    found = importances(columns, [(row or 0.0) / 50 for row in columns["x"]])
    assert found is not None
    assert found.proposals == MOST
    assert [row.name for row in found.rows] == ["x"]


def test_is_reproducible() -> None:
    columns = drawn(80)
    assert SPLITS > 1
    assert importances(columns, columns["strong"]) == importances(columns, columns["strong"])
