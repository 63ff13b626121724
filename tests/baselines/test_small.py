from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from baselines import small_model


def build(width):
    hidden = max(1, round(width * 64))
    return nn.Sequential(nn.Linear(20, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, 5))


COUNTS = {hidden: 20 * hidden + hidden + 2 * hidden + 5 * hidden + 5 for hidden in range(1, 65)}


@settings(max_examples=20)
@given(st.integers(1, 3000))
def test_nearest_count_against_all_widths(budget):
    model, width = small_model(build, budget)
    count = sum(p.numel() for p in model.parameters())
    assert count == COUNTS[max(1, round(width * 64))]
    assert abs(count - budget) == min(abs(c - budget) for c in COUNTS.values())


def test_random_state_is_used_once_and_the_model_is_real():
    torch.manual_seed(3)
    model, width = small_model(build, 500)
    torch.manual_seed(3)
    expected = build(width)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), expected.parameters(), strict=True))


class ToldInAWordError(Exception):
    pass


@pytest.mark.parametrize("told", [RuntimeError, ToldInAWordError])
def test_builders_that_cannot_run_without_memory(told):
    def needs_values(width):
        model = build(width)
        try:
            assert model[0].weight.abs().max().item() > 0
        except RuntimeError as error:
            raise told from error
        return model

    torch.manual_seed(3)
    model, width = small_model(needs_values, 500)
    torch.manual_seed(3)
    assert torch.equal(model[0].weight, build(width)[0].weight)


def test_only_sketches_are_counted():
    built = []
    model, width = small_model(lambda w: built.append(w) or build(w), 500, sketch=build)
    assert built == [width]
    assert small_model(build, 500)[1] == width
    assert not model[0].weight.is_meta


def test_wider_than_the_full_model():
    _model, width = small_model(build, COUNTS[64] * 2, max_width=4.0)
    assert 1.9 < width < 2.1
    assert small_model(build, COUNTS[64] * 2)[1] == 1.0


def test_wrong_arguments():
    with pytest.raises(ValueError, match="budget_parameters > 0 must hold, but got 0"):
        small_model(build, 0)
    with pytest.raises(ValueError, match="max_width > 0 must hold, but got -1"):
        small_model(build, 10, max_width=-1)
