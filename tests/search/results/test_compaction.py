from hypothesis import given
from hypothesis import strategies as st

from search.results.compaction import TIERS, mergeable


@given(st.lists(st.integers(1, 40), max_size=400))
def test_few_parts_stay_and_each_row_moves_seldom(flushes: list[int]) -> None:
    parts: list[int] = []
    moved = 0
    for rows in flushes:
        parts.append(rows)
        while (run := mergeable(parts)) is not None:
            assert run.stop - run.start > 1
            moved += sum(parts[run])
            parts[run] = [sum(parts[run])]
    assert sum(parts) == sum(flushes)
    assert moved <= sum(flushes) * len(TIERS)
    assert len(parts) <= 16 * 5


def test_thirty_thousand_single_rows_are_tens_of_parts() -> None:
    parts: list[int] = []
    for _ in range(30_000):
        parts.append(1)
        while (run := mergeable(parts)) is not None:
            parts[run] = [sum(parts[run])]
    assert len(parts) < 76
