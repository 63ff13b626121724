from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from baselines.selection import keep_largest, select

shapes = st.lists(st.integers(1, 12), min_size=1, max_size=4)


@given(shapes, st.data())
def test_exact_counts_and_ties_by_position_against_a_stable_sort(sizes, data):
    values = [data.draw(st.lists(st.integers(-2, 2), min_size=n, max_size=n)) for n in sizes]
    kept = data.draw(st.integers(0, sum(sizes)))
    masks = select({str(i): torch.tensor(v, dtype=torch.float32) for i, v in enumerate(values)}, kept)
    flat = [x for v in values for x in v]
    best = sorted(range(len(flat)), key=lambda i: -flat[i])[:kept]  # sorted() is stable
    expected = torch.zeros(len(flat), dtype=torch.bool)
    expected[best] = True
    assert torch.equal(torch.cat(list(masks.values())), expected)


def test_keep_largest_keeps_the_shape():
    assert keep_largest(torch.tensor([[3.0, 1.0], [2.0, 3.0]]), 2).tolist() == [[True, False], [False, True]]


def test_floor_comes_before_the_ranking_and_leaves_the_count_exact():
    scores = {"a": torch.tensor([9.0, 8.0, 7.0, 6.0]), "b": torch.tensor([1.0, 2.0])}
    assert not select(scores, 3)["b"].any()
    masks = select(scores, 3, floor=1)
    assert masks["a"].tolist() == [True, True, False, False]
    assert masks["b"].tolist() == [False, True]


def test_weights_that_are_gone_stay_gone():
    scores = {"a": torch.tensor([9.0, 8.0]), "b": torch.tensor([-5.0, -6.0])}
    masks = select(scores, 2, floor=1, masks={"a": torch.zeros(2, dtype=torch.bool)})
    assert not masks["a"].any()
    assert masks["b"].all()
    assert scores["a"].tolist() == [9, 8]


def test_large_tensors_are_ranked_exactly(monkeypatch):
    monkeypatch.setattr("baselines.selection._SAMPLE", 8)
    generator = torch.Generator().manual_seed(0)
    for values in (torch.rand(5000, generator=generator), torch.arange(5000.0), (torch.arange(5000) % 3).float()):
        for kept in (1, 2, 50, 2500, 4999, 5000):
            order = values.sort(descending=True, stable=True).indices[:kept]
            expected = torch.zeros(5000, dtype=torch.bool)
            expected[order] = True
            assert torch.equal(keep_largest(values, kept), expected)


def test_floors_beyond_the_budget_are_an_error():
    with pytest.raises(ValueError, match="floor=2 needs 4 weights in 2 layers and the budget is 3"):
        select({"a": torch.ones(5), "b": torch.ones(5)}, 3, floor=2)
