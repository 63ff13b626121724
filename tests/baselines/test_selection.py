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


@given(shapes, st.integers(1, 3), st.data())
def test_floors_and_earlier_masks_against_plain_lists(sizes, floor, data):
    values = [data.draw(st.lists(st.integers(-2, 2), min_size=n, max_size=n)) for n in sizes]
    alive = [data.draw(st.lists(st.booleans(), min_size=n, max_size=n)) for n in sizes]
    candidates = [[(-v, i, j) for j, v in enumerate(part) if alive[i][j]] for i, part in enumerate(values)]
    reserved = [place for layer in candidates for place in sorted(layer)[:floor]]
    free = sorted(place for layer in candidates for place in layer if place not in reserved)
    kept = data.draw(st.integers(len(reserved), len(reserved) + len(free)))
    expected = {(i, j) for _, i, j in reserved + free[: kept - len(reserved)]}
    scores = {str(i): torch.tensor(v, dtype=torch.float64) for i, v in enumerate(values)}
    masks = select(scores, kept, floor=floor, masks={str(i): torch.tensor(m) for i, m in enumerate(alive)})
    assert {(int(i), j) for i, mask in masks.items() for j in mask.nonzero().flatten().tolist()} == expected


def test_scores_of_different_types_are_ranked_together():
    masks = select({"a": torch.tensor([3, 1]), "b": torch.tensor([2.5, 3.5]), "c": torch.tensor([2.75]).double()}, 3)
    assert [mask.tolist() for mask in masks.values()] == [[True, False], [False, True], [True]]


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
    monkeypatch.setattr("baselines.selection._SAMPLE", 256)
    generator = torch.Generator().manual_seed(0)
    for values in (torch.rand(5000, generator=generator), torch.arange(5000.0), (torch.arange(5000) % 3).float()):
        for kept in (1, 2, 50, 200, 2500, 4999, 5000):
            order = values.sort(descending=True, stable=True).indices[:kept]
            expected = torch.zeros(5000, dtype=torch.bool)
            expected[order] = True
            assert torch.equal(keep_largest(values, kept), expected)
            parts = {str(i): part for i, part in enumerate(values.split([3000, 1, 1999]))}
            assert torch.equal(torch.cat(list(select(parts, kept).values())), expected)


def test_floors_beyond_the_budget_are_an_error():
    with pytest.raises(ValueError, match="floor=2 needs 4 weights in 2 layers and the budget is 3"):
        select({"a": torch.ones(5), "b": torch.ones(5)}, 3, floor=2)
