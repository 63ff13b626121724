import pickle

import pytest
import torch
from safetensors.torch import save
from torch import nn

from search.errors import UserError
from search.models.weights import load_weights_


def model(seed=0, hidden=4):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, hidden), nn.BatchNorm1d(hidden), nn.Linear(hidden, 2))


def file_of(module):
    return save(dict(module.state_dict()))


def test_parameters_and_statistics_are_those_of_the_file():
    trained, fresh = model(1), model(2)
    trained[1].running_mean.add_(5)
    assert load_weights_(fresh, file_of(trained), where="x") is fresh
    assert all(torch.equal(tensor, fresh.state_dict()[name]) for name, tensor in trained.state_dict().items())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"nothing", r"dense\.safetensors is no safetensors file .* rps-search export DIR --trial ID --dense"),
        (pickle.dumps({"0.weight": [1.0]}), "is no safetensors file"),
        (
            file_of(model(hidden=5)),
            r"0\.weight is \(5, 3\) there and \(4, 3\) in the model, .* 4 more",
        ),
        (
            save(dict(model().state_dict()) | {"0.weight": torch.ones(3, 4)}),
            r"0\.weight is \(3, 4\) there and \(4, 3\) in the model$",
        ),
        (file_of(model()[:1]), r"it lacks 1\.weight, 1\.bias, 1\.running_mean and 4 more"),
        (file_of(nn.Sequential(*model(), nn.Linear(2, 2))), r"the model has no 3\.(weight|bias), 3\.(weight|bias)$"),
    ],
)
def test_a_file_of_something_else_is_one_sentence_and_changes_nothing(content, sentence):
    fresh = model(3)
    before = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    with pytest.raises(UserError, match=sentence):
        load_weights_(fresh, content, where="dense.safetensors")
    assert all(torch.equal(tensor, before[name]) for name, tensor in fresh.state_dict().items())
