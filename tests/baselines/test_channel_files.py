from __future__ import annotations

import pytest
import torch
from torch import nn

from baselines import (
    ChannelConfig,
    load_channels,
    prune_channels_,
    read_note,
    save_sparse,
    sparse_summary,
    width_note,
)
from baselines.channel_graph import channel_groups

IMAGE = torch.zeros(1, 3, 8, 8)


def cut(model, path, **kwargs):
    """Cut a model, save it, and return it with its note."""
    groups = channel_groups(model, IMAGE)
    prune_channels_(model, ChannelConfig(method="rand", **kwargs), example_input=IMAGE)
    note = width_note(model, groups)
    save_sparse(model, path, note=note)
    return model, note


def test_residual_networks_come_back_whole(residual, batch, tmp_path):
    model, note = cut(residual(width=16), tmp_path / "m", ratio=5.0)
    model.train()(batch[0])
    save_sparse(model, tmp_path / "m", note=note)
    full = residual(width=16)
    loaded = load_channels(tmp_path / "m", full, IMAGE)
    assert torch.equal(loaded.eval()(batch[0]), model.eval()(batch[0]))
    assert (tmp_path / "m").stat().st_size == sparse_summary(model, note=note).stored_bytes
    assert read_note(tmp_path / "m")["channels"] == note["channels"]
    assert full.stem.out_channels == 16


def test_a_depthwise_layer_that_is_left_with_one_channel(tmp_path):
    """With one channel it looks like any other layer: the groups must be those of the full model."""

    def build():
        depthwise = nn.Conv2d(6, 6, 3, groups=6)
        return nn.Sequential(nn.Conv2d(3, 6, 3), depthwise, nn.Conv2d(6, 6, 1), nn.Flatten(), nn.Linear(96, 10))

    groups = channel_groups(build(), IMAGE)
    model, _ = cut(build(), tmp_path / "m", ratio=6.0, scope="layer")
    assert model[1].groups == model[1].in_channels == 1
    assert len(channel_groups(model, IMAGE)) > len(groups)
    image = torch.randn(2, 3, 8, 8)
    assert torch.equal(load_channels(tmp_path / "m", build(), IMAGE)(image), model(image))


def test_files_of_something_else_are_errors(residual, mlp, tmp_path):
    cut(residual(width=16), tmp_path / "m", ratio=2.0)
    with pytest.raises(ValueError, match=r"another architecture than Sequential: its widths are .* \[24, 16\]"):
        load_channels(tmp_path / "m", mlp(), IMAGE)
    with pytest.raises(ValueError, match="another architecture than ResidualNet: its widths are"):
        load_channels(tmp_path / "m", residual(width=4), IMAGE)
    save_sparse(residual(), tmp_path / "plain")
    with pytest.raises(ValueError, match="it is of a model without cut channels"):
        load_channels(tmp_path / "plain", residual(), IMAGE)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_channels(tmp_path / "none", residual(), IMAGE)
    for text in ("8,x,8", "0,8,8", ""):
        save_sparse(residual(), tmp_path / "bad", note={"channels": text})
        with pytest.raises(ValueError, match="its widths are"):
            load_channels(tmp_path / "bad", residual(), IMAGE)
