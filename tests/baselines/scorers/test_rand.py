from __future__ import annotations

import torch
from torch import nn

from baselines import score

PINNED = [[0.6872235263066102, 0.5141064445438411, 0.6066101017090734]]


def test_draws_are_pinned():
    # Made by this function; a change would change every RAND, ERK and uniform mask that was ever searched.
    scores = score(nn.Sequential(nn.Linear(3, 1)), "rand", seed=5)["0.weight"]
    expected = torch.tensor(PINNED, dtype=torch.float64)
    assert torch.equal(scores, expected)


def test_draws_depend_on_seed_and_name_only(mlp):
    first = score(mlp(), "rand", seed=1)
    torch.rand(3)
    longer = nn.Sequential(*mlp(), nn.ReLU(), nn.Linear(10, 4))
    again = score(longer, "rand", seed=1)
    assert all(torch.equal(again[name], first[name]) for name in first)
    assert not torch.equal(score(mlp(), "rand", seed=2)["1.weight"], first["1.weight"])
    assert not torch.equal(first["1.weight"].flatten()[:160], first["5.weight"].flatten())
