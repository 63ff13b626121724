import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.errors import UserError
from search.results.hypervolume import history, hypervolume
from search.results.parts import rows_to_table
from search.results.points import points


def drawn(values: list[tuple[float, ...]]) -> pa.Table:
    accuracy, *measures = zip(*values, strict=True)
    names = ("stored_bytes", "latency_ms")[: len(measures)]
    columns = dict(zip(names, measures, strict=True))
    return pa.table({"accuracy_val": accuracy, "finished_at": range(len(accuracy)), **columns})


def test_one_point_dominates_a_rectangle(trial) -> None:
    found = points(rows_to_table("trials", [trial(0, accuracy_val=0.75, accuracy=0.5, stored_bytes=100)]))
    reference = {"accuracy": 0.5, "stored_bytes": 400}
    assert hypervolume(found, reference) == pytest.approx((0.25 * 300) / (0.5 * 400))
    assert hypervolume(found, reference, on="accuracy") == 0


@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=8))
def test_the_share_is_that_of_counted_cells(values: list[tuple[int, int, int]]) -> None:
    """Brute force: on a grid, the cells that some point dominates, over all cells of the box."""
    table = drawn([(a / 10, float(m), float(t)) for a, m, t in values])
    cells = 0
    for a in range(2, 10):
        for m in range(8):
            for t in range(5):
                cells += any(p >= a + 1 and q <= m and r <= t for p, q, r in values)
    reference = {"accuracy": 0.2, "stored_bytes": 8, "latency_ms": 5}
    share = hypervolume(table, reference, ("stored_bytes", "latency_ms"))
    assert share == pytest.approx(cells / (8 * 8 * 5), abs=1e-9)


def test_the_history_ends_where_the_search_is() -> None:
    rng = np.random.default_rng(0)
    table = drawn(list(zip(rng.random(1000), rng.lognormal(3, 1, 1000), strict=True)))
    reference = {"accuracy": 0.1, "stored_bytes": 60}
    grown = history(table, reference, steps=50)
    assert grown.num_rows == 50
    assert grown["points"].to_pylist()[-1] == 1000
    shares = grown["hypervolume"].to_pylist()
    assert shares == sorted(shares)
    for row in (0, 20, 49):
        so_far = table.slice(0, grown["points"][row].as_py())
        assert shares[row] == pytest.approx(hypervolume(so_far, reference))


def test_few_points_are_each_a_moment_and_none_is_an_empty_history(trial) -> None:
    reference = {"accuracy": 0.0, "stored_bytes": 10_000}
    found = points(rows_to_table("trials", [trial(2), trial(0), trial(1)]))
    assert history(found, reference)["points"].to_pylist() == [1, 2, 3]
    assert history(found.slice(0, 0), reference).num_rows == 0
    assert hypervolume(found.slice(0, 0), reference) == 0


def test_the_history_is_in_the_order_in_which_points_ended() -> None:
    table = drawn([(0.9, 20.0), (0.5, 50.0), (0.8, 50.0)]).set_column(1, "finished_at", pa.array([30, 10, 20]))
    grown = history(table, {"accuracy": 0.0, "stored_bytes": 100})
    assert grown["finished_at"].to_pylist() == [10, 20, 30]
    assert grown["hypervolume"].to_pylist() == pytest.approx([0.5 * 0.5, 0.8 * 0.5, 0.9 * 0.8])
    halves = history(table, {"accuracy": 0.0, "stored_bytes": 100}, steps=1)
    assert halves.select(["finished_at", "points"]).to_pylist() == [{"finished_at": 30, "points": 3}]


@pytest.mark.parametrize("asked", [hypervolume, history])
def test_what_is_no_measure_is_refused(asked) -> None:
    with pytest.raises(UserError, match="unknown measure 'stored_byte': did you mean 'stored_bytes'"):
        asked(drawn([(0.5, 1.0)]), {"accuracy": 0.0, "stored_byte": 1.0}, ["stored_byte"])


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ({"accuracy": 0.1}, "must have stored_bytes, but has accuracy"),
        ({"accuracy": 1.0, "stored_bytes": 1}, "0 <= reference accuracy < 1"),
        ({"accuracy": 0.1, "stored_bytes": 0}, "must be above 0"),
        ({"accuracy": 0.1, "stored_bytes": float("nan")}, "must be above 0"),
    ],
)
def test_impossible_references_are_refused(reference: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hypervolume(drawn([(0.5, 1.0)]), reference)
