from __future__ import annotations

import copy
import re

import pytest
import torch
import torchvision
from torch import nn

from baselines import ChannelConfig, PruneConfig, check_reachable, measure_cost, prune_, prune_channels_, sparse_summary
from baselines.channel_graph import channel_groups
from baselines.channels import _choose, cut_
from baselines.layers import prunable_weights

IMAGE = torch.zeros(2, 3, 8, 8)


def cut(model, **kwargs):
    return prune_channels_(model, ChannelConfig(**kwargs), example_input=IMAGE)


def size(model):
    return sum(w.numel() for w in prunable_weights(model).values())


MODELS = {
    "resnet18": torchvision.models.resnet18,
    "mobilenet_v3_small": torchvision.models.mobilenet_v3_small,
}


def randomized(model):
    """Batch-norm with statistics and scales that are not those of initialisation."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_()
    return model


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_a_narrow_model_is_the_wide_one_without_what_reads_the_cut_channels(name):
    torch.manual_seed(0)
    model = randomized(MODELS[name](num_classes=10)).eval()
    x = torch.randn(2, 3, 32, 32)
    groups = channel_groups(model, x)
    scores = {n: torch.rand_like(w) for n, w in prunable_weights(model).items()}
    kept = _choose(model, groups, scores, ChannelConfig(ratio=3.0))
    wide = copy.deepcopy(model)
    with torch.no_grad():
        for group, index in zip(groups, kept, strict=True):
            gone = torch.ones(group.size, dtype=torch.bool)
            gone[index] = False
            for consumer, repeat in group.consumers:
                wide.get_submodule(consumer).weight[:, gone.repeat_interleave(repeat)] = 0
    narrow = cut_(model, groups, kept)
    assert size(narrow) < size(wide) / 2
    assert torch.allclose(narrow(x), wide(x), rtol=1e-3, atol=1e-4 * wide(x).abs().max().item())


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("method", ["rand", "mag", "snip", "synflow"])
def test_ratio_is_met_and_the_model_trains(residual, batch, loss_fn, method, scope):
    model = residual(width=32)
    before = size(model)
    config = ChannelConfig(method=method, ratio=4.0, scope=scope)
    prune_channels_(model, config, example_input=IMAGE, loss_fn=loss_fn, batches=[batch])
    assert before / size(model) == pytest.approx(4, rel=0.15)
    assert type(model.stem) is nn.Conv2d
    loss_fn(model.train(), batch).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert sparse_summary(model).ratio == 1


def test_layer_scope_keeps_equal_shares(residual):
    model = cut(residual(width=32), ratio=4.0, scope="layer", method="rand")
    widths = [model.stem.out_channels, *(block["conv1"].out_channels for block in model.blocks)]
    assert max(widths) - min(widths) <= 1
    assert model.fc.in_features == model.stem.out_channels


def test_weak_channels_go_first(mlp):
    model = mlp()
    with torch.no_grad():
        model[1].weight[::2] *= 0.01
        kept_rows = model[1].weight[1::2].clone()
    cut(model, ratio=2.0, method="mag")
    assert model[1].out_features <= 12
    assert all(any(torch.equal(row, kept) for kept in kept_rows) for row in model[1].weight)
    assert model[3].in_features == model[1].out_features


def test_fewer_operations_and_parameters_are_reported(residual):
    dense = measure_cost(residual(width=32), IMAGE, repeats=2)
    narrow = measure_cost(cut(residual(width=32), ratio=8.0, scope="layer"), IMAGE, repeats=2)
    assert narrow.flops < dense.flops / 5
    assert narrow.parameters < dense.parameters / 5
    masked = measure_cost(prune_(residual(width=32), PruneConfig(ratio=8.0)), IMAGE, repeats=2)
    assert masked.flops == dense.flops


def test_ratio_one_changes_nothing(residual):
    model = cut(residual(), ratio=1.0)
    assert all(torch.equal(t, residual().state_dict()[name]) for name, t in model.state_dict().items())


def test_floor_is_kept(residual):
    model = cut(residual(width=16), ratio=6.0, floor=5, method="mag")
    assert min(model.stem.out_channels, *(b["conv1"].out_channels for b in model.blocks)) >= 5


def test_errors_leave_the_model_alone(residual, mlp):
    model = residual()
    with pytest.raises(ValueError, match="ratio=1000 must be reachable by cutting channels, but with 1 channels"):
        cut(model, ratio=1000.0)
    with pytest.raises(ValueError, match="channels that may be cut must exist"):
        cut(nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), ratio=2.0)
    with pytest.raises(ValueError, match="call unmask_ first"):
        cut(prune_(mlp(), PruneConfig(ratio=2.0)), ratio=2.0)
    with pytest.raises(ValueError, match="floor >= 1 must hold"):
        ChannelConfig(floor=0)
    with pytest.raises(ValueError, match="scope must be"):
        ChannelConfig(scope="all")
    with pytest.raises(ValueError, match="channels are ranked by scores, but 'erk' has none"):
        ChannelConfig(method="erk")
    assert all(torch.equal(t, residual().state_dict()[name]) for name, t in model.state_dict().items())


def test_a_model_that_counts_its_channels_in_code_is_refused():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 2, 1)

        def forward(self, x):
            return self.two(self.one(x).view(-1, 16, 8, 8)[:, :, :4])

    model = Counts()
    with pytest.raises(ValueError, match=r"channels"):
        cut(model, ratio=2)
    assert model.one.out_channels == 16


def test_whether_a_ratio_can_be_reached_is_known_before_scoring(mlp):
    check_reachable(mlp(), IMAGE, ratio=20.0)
    with pytest.raises(ValueError, match="with 8 channels a layer"):
        check_reachable(mlp(), IMAGE, ratio=20.0, floor=8)
    with pytest.raises(ValueError, match="channels that may be cut must exist"):
        check_reachable(nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), IMAGE, ratio=2.0)


def test_the_ratio_that_is_suggested_leaves_a_channel_of_each_layer(mlp, residual):
    for model in (mlp(), residual()):
        before = size(model)
        with pytest.raises(ValueError, match="lower the ratio to") as refused:
            check_reachable(model, IMAGE, ratio=1000.0)
        suggested = float(re.search(r"to ([\d.]+) or less", str(refused.value))[1])
        cut(model, ratio=suggested)
        assert before / size(model) == pytest.approx(suggested, rel=0.005)
        assert {group.size for group in channel_groups(model, IMAGE)} == {1}


def test_a_channel_scores_the_mean_of_its_weights_however_many_those_are():
    model = nn.Sequential(nn.Linear(100, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    scores = {"0.weight": torch.ones(8, 100), "2.weight": torch.full((8, 8), 2.0), "4.weight": torch.ones(3, 8)}
    config = ChannelConfig(method=lambda model, loss_fn, batches: scores, ratio=2.0)
    prune_channels_(model, config, example_input=torch.zeros(1, 100))
    assert (model[0].out_features, model[2].out_features) == (4, 8)


def test_the_inputs_behind_a_flattening_are_those_of_the_channels_that_stay():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6 * 9, 4))
    gone = torch.tensor([True, False, False, True, True, False])
    wide = copy.deepcopy(model)
    wide[4].weight.data.view(4, 6, 9)[:, gone] = 0
    (group,) = channel_groups(model, IMAGE)
    narrow = cut_(model, [group], [(~gone).nonzero().squeeze(1)])
    x = torch.randn(2, 3, 8, 8)
    assert narrow[4].in_features == 27
    torch.testing.assert_close(narrow(x), wide(x))


def test_random_channels_follow_the_seed():
    def kept(seed):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 40, 3), nn.Flatten(), nn.Linear(40 * 36, 4))
        return cut(model, method="rand", ratio=4.0, seed=seed)[0].weight

    assert torch.equal(kept(1), kept(1))
    assert not torch.equal(kept(1), kept(2))
