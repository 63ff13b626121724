import math

import pytest

from search.results.frontier import frontier
from search.results.parts import rows_to_table
from search.results.picks import best_within, dense_accuracy, gaps, knee, smallest_above
from search.results.points import points


@pytest.fixture
def measured(trial):
    def build(*values: tuple):
        rows = [
            trial(i, method=method, stored_bytes=memory, accuracy_val=accuracy, accuracy=accuracy - 0.1)
            for i, (method, memory, accuracy) in enumerate(values)
        ]
        return points(rows_to_table("trials", rows))

    return build


def test_gaps_are_taken_on_straight_lines_over_log_memory(measured) -> None:
    found = measured(
        ("rps", 10, 0.5), ("rps", 1000, 0.9), ("snip", 100, 0.6), ("snip", 10_000, 0.8), ("rand", 10**6, 0.9)
    )
    (gap,) = gaps(found).to_pylist()
    # At 100 bytes rps has 0.7 against 0.6, at 1000 it has 0.9 against 0.7.
    assert (gap["better"], gap["worse"]) == ("rps", "snip")
    assert (gap["min_gap"], gap["mean_gap"], gap["max_gap"]) == pytest.approx((0.1, 0.15, 0.2))
    assert (gap["from_memory"], gap["to_memory"]) == pytest.approx((100, 1000))


def test_gaps_compare_test_accuracies_of_points_chosen_on_validation(measured, trial) -> None:
    found = measured(("a", 10, 0.5), ("b", 10, 0.7))
    (gap,) = gaps(found).to_pylist()
    assert (gap["better"], gap["mean_gap"]) == ("b", pytest.approx(0.2))
    assert gaps(found, report="accuracy_val")["mean_gap"].to_pylist() == pytest.approx([0.2])
    assert gaps(measured(("a", 10, 0.5))).num_rows == 0


def test_best_within_a_budget(measured) -> None:
    found = measured(("a", 10, 0.5), ("a", 30, 0.8), ("a", 20, 0.8), ("a", 40, 0.9))
    assert best_within(found, 30) == 2
    assert best_within(found, 40) == 3
    assert best_within(found, 9) is None


def test_smallest_within_some_points_of_dense(measured) -> None:
    found = measured(("a", 10, 0.5), ("a", 30, 0.89), ("a", 30, 0.9), ("dense", 100, 0.91))
    assert dense_accuracy(found) == 0.91
    assert dense_accuracy(found, on="accuracy") == pytest.approx(0.81)
    assert smallest_above(found, 0.91 - 0.02) == 2
    assert smallest_above(found, 0.95) is None
    exactly = [dense - 50 for dense in range(100, 5001) if (dense - 50) / 5000 < dense / 5000 - 0.01]
    assert exactly  # Of 5,000 images 50 fewer are one point, also where the difference of the shares is rounded up.
    assert all(smallest_above(measured(("a", 1, k / 5000)), (k + 50) / 5000 - 0.01) == 0 for k in exactly[:3])
    assert dense_accuracy(measured(("a", 10, 0.5))) is None


def test_the_knee_is_farthest_above_the_line_between_the_ends(measured) -> None:
    values = [("a", int(math.exp(k)), accuracy) for k, accuracy in [(2, 0.1), (4, 0.5), (6, 0.8), (8, 0.85), (12, 0.9)]]
    chosen = frontier(measured(*values))
    assert knee(chosen) == 2
    assert knee(chosen.slice(0, 2)) is None


def test_a_frontier_that_bends_the_other_way_has_no_knee(measured) -> None:
    values = [("a", int(math.exp(k)), accuracy) for k, accuracy in [(2, 0.15), (4, 0.2), (6, 0.3), (8, 0.94)]]
    assert knee(frontier(measured(*values))) is None
