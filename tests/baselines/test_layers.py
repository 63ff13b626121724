from __future__ import annotations

import pytest
import torch
from torch import nn

from baselines.layers import owners, prunable_weights, unprunable_weights


def test_weights_but_no_biases_norms_or_positions(residual, transformer):
    assert list(prunable_weights(residual())) == [
        "stem.weight",
        "blocks.0.conv1.weight",
        "blocks.0.conv2.weight",
        "blocks.1.conv1.weight",
        "blocks.1.conv2.weight",
        "fc.weight",
    ]
    names = list(prunable_weights(transformer()))
    assert "encoder.layers.0.self_attn.in_proj_weight" in names
    assert not any("position" in name or "norm" in name or "bias" in name for name in names)


def test_the_biases_of_attention_have_several_dimensions_and_stay_all_the_same():
    attention = nn.MultiheadAttention(8, 2, add_bias_kv=True)
    assert attention.bias_k.dim() == 3
    for include in (None, ["*"]):
        assert list(prunable_weights(attention, include=include)) == ["in_proj_weight", "out_proj.weight"]


def test_include_and_exclude_select_layers(residual, transformer):
    assert list(prunable_weights(residual(), include=["blocks.*"], exclude=["*.conv2"])) == [
        "blocks.0.conv1.weight",
        "blocks.1.conv1.weight",
    ]
    assert list(prunable_weights(transformer(), include=["position"])) == ["position"]


def test_a_tied_weight_is_listed_once_and_has_two_owners():
    model = nn.ModuleDict({"embed": nn.Embedding(7, 4), "head": nn.Linear(4, 7, bias=False)})
    model["head"].weight = model["embed"].weight
    assert list(prunable_weights(model)) == ["embed.weight"]
    assert [type(module) for module, _ in owners(model)[id(model["embed"].weight)]] == [nn.Embedding, nn.Linear]


def test_what_is_left_out_by_default_is_named():
    normalised = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
    model = nn.Sequential(normalised, nn.LSTM(8, 8), nn.Linear(8, 3))
    assert list(unprunable_weights(model)) == [
        "0.parametrizations.weight.original0",
        "0.parametrizations.weight.original1",
        "1.weight_ih_l0",
        "1.weight_hh_l0",
    ]


def test_errors_name_the_layer():
    with pytest.raises(ValueError, match="nothing is prunable in BatchNorm2d"):
        prunable_weights(nn.BatchNorm2d(3))
    with pytest.raises(ValueError, match="nothing is prunable in LSTM"):
        prunable_weights(nn.LSTM(3, 4))
    with pytest.raises(ValueError, match=r"recurrent layers cannot be pruned.*weight_ih_l0"):
        prunable_weights(nn.LSTM(3, 4), include=["*"])
    with pytest.raises(ValueError, match=r"floating-point, but got torch.complex64 \(layer '0'\): exclude it"):
        prunable_weights(nn.Sequential(nn.Linear(2, 2, dtype=torch.complex64)))
    with pytest.raises(ValueError, match="'conv9' matches no layer"):
        prunable_weights(nn.Sequential(nn.Linear(2, 2)), exclude=["conv9"])
    with pytest.raises(ValueError, match=r"run the model once, '0.weight' is lazy"):
        prunable_weights(nn.Sequential(nn.LazyLinear(3)))
