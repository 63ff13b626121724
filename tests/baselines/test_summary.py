from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from baselines import PruneConfig, load_sparse, prune_, save_sparse, sparse_summary
from baselines.layout import position_bytes


def test_positions_cost_the_cheaper_of_bitmask_and_indices():
    assert position_bytes(3200, 99) == 396
    assert position_bytes(3200, 100) == position_bytes(3200, 101) == 400
    assert position_bytes(9, 5) == 2
    assert position_bytes(9, 9) == position_bytes(9, 0) == 0
    assert position_bytes(2**33, 10) == 2**30


def test_a_pruned_network_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 4))
    summary = sparse_summary(prune_(model, PruneConfig(ratio=4.0)))
    size = 3 * 8 * 9 + 32
    kept = size // 4
    assert (summary.virtual_size, summary.kept, summary.ratio) == (size, kept, 4.0)
    assert summary.stored_parameters == kept + 8 + 16 + 4
    # Biases, scale and shift, mean and variance, and a counter of eight bytes; then the header, padded to eights.
    payload = 4 * kept + size // 8 + 4 * (8 + 16 + 4 + 16) + 8
    header = '{"__metadata__":{"sparse":"3 01234567 0123456789abcdef"},"bitmask":'
    header += '{"dtype":"U8","shape":[463],"data_offsets":[0,463]}}'
    assert payload == 463
    assert summary.stored_bytes == payload + 8 + math.ceil(len(header) / 8) * 8
    assert sum(summary.kept_by_layer.values()) == kept
    assert summary.kept_by_layer.keys() == {"0", "3"}


def test_a_plain_network_stores_all_and_no_positions(residual):
    summary = sparse_summary(residual())
    parameters = sum(p.numel() for p in residual().parameters())
    assert summary.ratio == 1
    assert summary.stored_parameters == parameters
    payload = 4 * parameters + sum(b.numel() * (4 if b.is_floating_point() else 8) for b in residual().buffers())
    assert payload + 100 < summary.stored_bytes <= payload + 144


def test_buffers_that_no_state_holds_are_not_stored(tmp_path):
    def make(persistent):
        model = nn.Linear(4, 3)
        model.register_buffer("table", torch.arange(7.0), persistent=persistent)
        return model

    sizes = []
    for persistent in (True, False):
        model = prune_(make(persistent), PruneConfig(ratio=2.0))
        sizes.append(sparse_summary(model).stored_bytes)
        save_sparse(model, tmp_path / "model")
        assert (tmp_path / "model").stat().st_size == sizes[-1]
        assert torch.equal(load_sparse(tmp_path / "model", make(persistent)).weight, model.weight)
    # Both headers are padded to eights.
    assert sizes[0] - sizes[1] in (24, 28, 32)


def test_layers_left_out_of_the_pruning_are_stored_in_full(mlp):
    summary = sparse_summary(prune_(mlp(), PruneConfig(ratio=10.0, exclude=["1"])))
    assert summary.virtual_size == 24 * 16 + 160
    assert summary.stored_parameters == 54 + 24 * 192 + 24 + 16 + 10


def test_nothing_to_prune_is_an_error():
    with pytest.raises(ValueError, match="nothing is prunable"):
        sparse_summary(nn.BatchNorm2d(4))
