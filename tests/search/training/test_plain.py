import pytest
import torch
from torch import nn

from baselines import PruneConfig, prune_
from rps_core import RPSConfig, compress_
from search.training.plain import is_compressed, structure


def net(between: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), between, nn.Linear(8, 2))


def test_only_models_of_equal_code_and_numbers_train_as_one_program() -> None:
    known = structure(net(nn.ReLU()))
    assert structure(net(nn.ReLU())) == known
    assert structure(prune_(net(nn.ReLU()), PruneConfig(ratio=2.0))) == known
    assert structure(compress_(net(nn.ReLU()), RPSConfig(ratio=2.0))) == known
    assert structure(net(nn.Tanh())) != known
    assert structure(net(nn.ReLU()).to(torch.float64)) != known


@pytest.mark.parametrize(
    ("compressed", "so"),
    [
        (lambda model: model, False),
        (lambda model: prune_(model, PruneConfig(ratio=2.0)), True),
        (lambda model: compress_(model, RPSConfig(ratio=2.0)), True),
    ],
)
def test_weights_that_reading_computes_are_known(compressed, so) -> None:
    assert is_compressed(compressed(net(nn.ReLU()))) is so
