import copy
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call

from rps_core import (
    RPSConfig,
    compress_,
    compression_summary,
    load_compressed,
    project_,
    save_compressed,
    to_dense,
)

CONFIG = RPSConfig(ratio=5)
INPUT = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(12, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Linear(40, 20), nn.Linear(20, 3)).eval()


@pytest.mark.parametrize("make", [compress_, project_])
@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: nn.Sequential(nn.Identity(), model)])
def test_a_state_brings_its_scales_into_a_model_that_started_from_other_weights(make, wrap):
    saved, other = wrap(make(net(1), CONFIG)), wrap(compress_(net(2), CONFIG))
    with torch.no_grad():
        for p in saved.parameters():
            p.normal_()
    expected, different = saved(INPUT), other(INPUT)
    assert not torch.equal(different, expected)
    other.load_state_dict(saved.state_dict())
    assert torch.equal(other(INPUT), expected)
    loss = [model(INPUT).square().sum() for model in (saved, other)]
    gradients = [
        torch.autograd.grad(one, list(model.parameters())) for one, model in zip(loss, (saved, other), strict=True)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_take_scales_over_and_the_first_stays(copied):
    first = compress_(net(1), CONFIG)
    second = copied(first)
    before = first(INPUT)
    second.load_state_dict(compress_(net(2), CONFIG).state_dict())
    assert not torch.equal(second(INPUT), before)
    assert torch.equal(first(INPUT), before)


@pytest.mark.parametrize(
    "config",
    [
        RPSConfig(ratio=5, seed=1),
        RPSConfig(ratio=5, mapping="roast"),
        RPSConfig(ratio=5, include=["0", "4", "3"], budgets={"0": 0.2, "*": 0.2}),
    ],
)
def test_a_state_of_another_sharing_is_refused(config):
    with pytest.raises(RuntimeError, match=r"must be of a model that shares alike, but its seed, mapping, budgets"):
        compress_(net(), config).load_state_dict(compress_(net(), CONFIG).state_dict(), strict=False)


def test_a_state_of_a_table_whose_row_of_padding_shares_is_refused():
    plain, filled = nn.Embedding(8, 4, padding_idx=0), nn.Embedding(8, 4, padding_idx=0)
    nn.init.ones_(filled.weight)
    with pytest.raises(RuntimeError, match="must be of a model that shares alike"):
        compress_(plain, CONFIG).load_state_dict(compress_(filled, CONFIG).state_dict())


def test_a_state_without_scales_is_loaded_as_it_was():
    model, state = compress_(net(1), CONFIG), compress_(net(2), CONFIG).state_dict()
    del state["psi_scales"], state["psi_kind"]
    scales = model.state_dict()["psi_scales"]
    model.load_state_dict(state)
    assert torch.equal(model.psi_0, state["psi_0"])
    assert torch.equal(model.state_dict()["psi_scales"], scales)


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_psi_states_and_files_do_not_hang_on_the_default_dtype(tmp_path, default):
    fresh, compressed = net(3), compress_(net(3), CONFIG)
    loaded_into = net(4)
    torch.set_default_dtype(default)
    try:
        model = compress_(fresh, CONFIG)
        state = model.state_dict()
        save_compressed(model, tmp_path / "m")
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(state[name], value) for name, value in compressed.state_dict().items())
    assert torch.equal(load_compressed(tmp_path / "m", loaded_into)(INPUT), compressed(INPUT))


def test_scales_are_no_tensor_of_the_model():
    model = compress_(net(), CONFIG)
    names = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
    assert set(model.state_dict()) - names == {"psi_scales", "psi_kind"}
    assert torch.equal(functional_call(model, model.state_dict(), INPUT), model(INPUT))
    assert set(to_dense(model).state_dict()) == set(net().state_dict())
    assert not to_dense(model)._load_state_dict_pre_hooks


def test_of_a_model_compressed_in_part_nothing_is_left_out_unsaid(tmp_path):
    model = nn.Sequential(compress_(net(), CONFIG), nn.Linear(3, 2))
    for function in (compression_summary, lambda whole: save_compressed(whole, tmp_path / "file")):
        with pytest.raises(ValueError, match=r"only its part '0' is, and '1.weight' lies outside"):
            function(model)
    assert not list(tmp_path.iterdir())


def test_all_compressed_parts_become_dense():
    model = nn.Sequential(compress_(net(), CONFIG), compress_(nn.Sequential(nn.Linear(3, 30)), CONFIG))
    dense = to_dense(model)
    assert not [name for name, _ in dense.named_parameters() if "psi" in name]
    assert torch.equal(dense(INPUT), model(INPUT))


def test_psi_does_not_repeat_what_the_model_drew_from_the_same_seed():
    torch.manual_seed(0)
    model = compress_(nn.Sequential(nn.Linear(12, 40), nn.Linear(40, 200)), RPSConfig(ratio=5, exclude=["0"], seed=0))
    both = torch.stack([model[0].weight.flatten(), model.psi_0[:480]])
    assert abs(torch.corrcoef(both)[0, 1]) < 0.2
