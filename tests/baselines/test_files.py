from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from baselines import (
    PruneConfig,
    apply_masks_,
    load_sparse,
    masks_of,
    prune_,
    read_note,
    save_sparse,
    sparse_summary,
)
from baselines.layout import fingerprint


@pytest.mark.parametrize("ratio", [1.0, 3.0, 20.0, 40.0])
def test_round_trip_is_exact(build, batch, tmp_path, ratio):
    model = prune_(build(), PruneConfig(method="erk", ratio=ratio, seed=3)).train()
    model(batch[0])
    save_sparse(model, tmp_path / "m.safetensors")
    loaded = load_sparse(tmp_path / "m.safetensors", build().double().float())
    state = loaded.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], t) for name, t in model.state_dict().items())
    assert torch.equal(loaded.eval()(batch[0]), model.eval()(batch[0]))


def test_plain_models_and_partly_pruned_ones(mlp, tmp_path):
    for model in (mlp(), prune_(mlp(), PruneConfig(ratio=9.0, exclude=["1"]))):
        save_sparse(model, tmp_path / "m")
        loaded = load_sparse(tmp_path / "m", nn.Sequential(*[m for m in _other_weights(mlp())]))
        assert masks_of(loaded).keys() == masks_of(model).keys()
        assert all(torch.equal(loaded.state_dict()[name], t) for name, t in model.state_dict().items())


@pytest.mark.parametrize("ratio", [1.0, 3.0, 20.0, 40.0, 100.0])
@pytest.mark.parametrize("exclude", [(), ("fc", "head", "5")])
def test_file_is_as_big_as_the_summary_says_to_the_byte(build, tmp_path, ratio, exclude):
    names = {name.removesuffix(".weight") for name, _ in build().named_parameters()}
    model = build()
    prune_(model, PruneConfig(method="rand", ratio=ratio, allow_empty=True, exclude=[n for n in exclude if n in names]))
    note = {"channels": "3,4"} if exclude else None
    save_sparse(model, tmp_path / "m", note=note)
    assert (tmp_path / "m").stat().st_size == sparse_summary(model, note=note).stored_bytes


def test_the_header_is_next_to_nothing(residual, tmp_path):
    model = prune_(residual(width=16), PruneConfig(method="uniform", ratio=20.0))
    summary = sparse_summary(model)
    plain = sum(t.numel() * t.element_size() for n, t in model.state_dict().items() if "mask" not in n)
    plain -= 4 * summary.virtual_size
    assert summary.stored_bytes - (4 * summary.kept + -(-summary.virtual_size // 8) + plain) <= 136


def test_the_cheaper_positions_are_written(mlp, tmp_path):
    for ratio, positions in ((1.0, "dense"), (31.0, "bitmask"), (33.0, "indices")):
        save_sparse(prune_(mlp(), PruneConfig(ratio=ratio, floor=1)), tmp_path / "m")
        assert load_file(tmp_path / "m").keys() == {positions}


def test_a_network_without_any_weight_left_is_saved_too(mlp, tmp_path):
    model = apply_masks_(mlp(), {f"{i}.weight": torch.zeros_like(mlp()[i].weight) for i in (1, 3, 5)})
    save_sparse(model, tmp_path / "m")
    loaded = load_sparse(tmp_path / "m", mlp())
    assert not any(mask.any() for mask in masks_of(loaded).values())
    assert torch.equal(loaded[5].bias, model[5].bias)


def test_layers_that_only_include_names_are_found_again(transformer, tmp_path):
    model = prune_(transformer(), PruneConfig(ratio=4.0, floor=1, include=["position", "head"]))
    save_sparse(model, tmp_path / "m", note={"by": "hand"})
    loaded = load_sparse(tmp_path / "m", transformer())
    assert masks_of(loaded).keys() == {"position", "head.weight"}
    assert all(torch.equal(loaded.state_dict()[name], t) for name, t in model.state_dict().items())
    assert read_note(tmp_path / "m")["by"] == "hand"


@pytest.mark.parametrize("include", [None, ["0", "2"]])
def test_a_model_of_nothing_but_parameters_of_its_own_is_saved_too(tmp_path, include):
    def build():
        return nn.ParameterList([torch.randn(3, 4), torch.randn(4), torch.randn(4, 2)])

    model = build()
    if include:
        prune_(model, PruneConfig(ratio=4.0, floor=1, include=include))
        assert sparse_summary(model).kept == 5
    save_sparse(model, tmp_path / "m")
    loaded = load_sparse(tmp_path / "m", build())
    assert masks_of(loaded).keys() == set(include or ())
    assert all(torch.equal(loaded.state_dict()[name], t) for name, t in model.state_dict().items())
    if include:
        assert (tmp_path / "m").stat().st_size == sparse_summary(model).stored_bytes


def test_equal_models_have_equal_files(mlp, tmp_path):
    for name in "ab":
        save_sparse(prune_(mlp(), PruneConfig(ratio=5.0, exclude=["5"])), tmp_path / name, note={"a": "1", "b": "2"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("ratio", [1.0, 5.0, 50.0])
@pytest.mark.parametrize("exclude", [[], ["fc"]])
def test_files_of_the_first_format_are_read(residual, tmp_path, ratio, exclude):
    """It had a tensor for each part, two entries of metadata and the pruned layers by name."""
    model = prune_(residual(), PruneConfig(method="rand", ratio=ratio, floor=1, exclude=exclude))
    masks = masks_of(model)
    parts = dict(model.named_parameters()) | dict(model.named_buffers())
    kept = [parts[name].detach()[mask.bool()] for name, mask in masks.items()]
    plain = [t for name, t in parts.items() if name not in masks and not name.endswith("_mask")]
    flat = torch.cat([mask.flatten() for mask in masks.values()]).bool()
    tensors = {"values": torch.cat([*kept, *(t.detach().flatten() for t in plain if t.is_floating_point())])}
    tensors["state"] = torch.cat([t.view(1).view(torch.uint8) for t in plain if not t.is_floating_point()])
    if ratio == 50:
        tensors["indices"] = flat.nonzero().squeeze(1).to(torch.uint32)
    elif ratio == 5:
        tensors["bitmask"] = torch.from_numpy(np.packbits(flat.numpy()))
    metadata = {"layout": fingerprint(model, masks)} | ({"layers": json.dumps(list(masks))} if exclude else {})
    save_file(tensors, tmp_path / "m", metadata=metadata)
    loaded = load_sparse(tmp_path / "m", residual())
    assert masks_of(loaded).keys() == masks.keys()
    assert all(torch.equal(loaded.state_dict()[name], t) for name, t in model.state_dict().items())
    metadata["layers"] = '["gone.weight"]'
    save_file(tensors, tmp_path / "m", metadata=metadata)
    with pytest.raises(ValueError, match=r"holds another architecture than ResidualNet: its layers are \['gone"):
        load_sparse(tmp_path / "m", residual())


@pytest.mark.parametrize("note", [{"a": "b c"}, {"a=b": "c"}, {"layers": "3"}, {"": "x"}])
def test_notes_that_could_not_be_read_again_are_refused(mlp, tmp_path, note):
    with pytest.raises(ValueError, match="a note must have no space"):
        save_sparse(mlp(), tmp_path / "m", note=note)
    assert not list(tmp_path.iterdir())


def test_other_types_are_saved_in_float32(mlp, tmp_path):
    model = prune_(mlp().double(), PruneConfig(ratio=4.0))
    save_sparse(model, tmp_path / "m")
    loaded = load_sparse(tmp_path / "m", mlp().bfloat16())
    assert loaded[1].weight.dtype == torch.bfloat16
    assert torch.equal(loaded[1].weight, model[1].weight.float().bfloat16())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tied_weights_are_stored_once(tmp_path, dtype):
    def build():
        model = nn.Sequential(nn.Embedding(50, 16), nn.Linear(16, 50, bias=False))
        model[1].weight = model[0].weight
        return model

    model = prune_(build(), PruneConfig(ratio=2.0)).to(dtype)  # a true conversion gives each owner a mask of its own
    save_sparse(model, tmp_path / "m")
    assert (tmp_path / "m").stat().st_size == sparse_summary(model).stored_bytes < 400 * 4 + 100 + 140
    loaded = load_sparse(tmp_path / "m", build())
    assert torch.equal(loaded[1].weight, model[0].weight.float())


def test_wrong_files_are_errors_and_leave_the_model_alone(mlp, residual, tmp_path):
    path = tmp_path / "m"
    save_sparse(prune_(mlp(), PruneConfig(ratio=5.0)), path)
    fresh, expected = mlp(), mlp().state_dict()
    with pytest.raises(ValueError, match="holds another architecture than ResidualNet"):
        load_sparse(path, residual())
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_sparse(tmp_path / "none", fresh)
    save_file({"values": torch.ones(3)}, tmp_path / "foreign")
    with pytest.raises(ValueError, match="holds another architecture"):
        load_sparse(tmp_path / "foreign", fresh)
    save_file({"dense": torch.ones(3, dtype=torch.bfloat16)}, tmp_path / "bf16")
    with pytest.raises(ValueError, match="no readable safetensors file"):
        load_sparse(tmp_path / "bf16", fresh)
    (tmp_path / "text").write_text("no safetensors file")
    with pytest.raises(ValueError, match="no readable safetensors file"):
        load_sparse(tmp_path / "text", fresh)
    assert all(torch.equal(fresh.state_dict()[name], t) for name, t in expected.items())


MANY, FEW = 5.0, 100.0
"""Ratios at which 5,152 weights are stored with a bitmask of 644 bytes and with indices."""


@pytest.mark.parametrize(
    ("ratio", "damage", "message"),
    [
        (MANY, lambda name, t: {name: t[:-4]}, "values, which is not what its positions say"),
        (MANY, lambda name, t: {name: t[:-1]}, "which is not what its model needs"),
        (MANY, lambda name, t: {name: t[:300]}, "holds 300 bytes, which is not what its model needs"),
        (MANY, lambda name, t: {name: torch.where(torch.arange(len(t)) < len(t) - 644, t, 255)}, "its positions say"),
        (MANY, lambda name, t: {name: t.float()}, "must hold one row of bytes"),
        (MANY, lambda name, t: {name: t, "more": t.clone()}, "must hold one row of bytes"),
        (MANY, lambda name, t: {"values": t}, "must hold one row of bytes"),
        (FEW, lambda name, t: {name: t[:-4]}, "which is not what its model needs"),
        (FEW, lambda name, t: {name: torch.cat([t[:-4], t[-8:-4]])}, "its indices must rise and stay below 5152"),
        (FEW, lambda name, t: {name: torch.where(torch.arange(len(t)) < len(t) - 4, t, 255)}, "stay below 5152"),
    ],
)
def test_damaged_files_are_errors(mlp, tmp_path, ratio, damage, message):
    tensors, metadata = unchecked(*saved(prune_(mlp(), PruneConfig(ratio=ratio, floor=1)), tmp_path / "m"))
    (name,) = tensors
    save_file(damage(name, tensors[name]), tmp_path / "m", metadata=metadata)
    fresh = mlp()
    with pytest.raises(ValueError, match=message):
        load_sparse(tmp_path / "m", fresh)
    assert type(fresh[1]) is nn.Linear
    assert all(torch.equal(fresh.state_dict()[name], t) for name, t in mlp().state_dict().items())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4 whatever", "has format 4, but formats 1 to 3 are read"),
        ("3 00000000 0123456789abcdef", "is damaged: its checksum differs"),
        ("3", "is damaged: its checksum differs"),
        ("2 0123456789abcdef", "holds another architecture than Sequential: build the model"),
        ("2 0123456789abcdef layers=xyz", "holds another architecture than Sequential: invalid literal"),
        ("2 0123456789abcdef layers=ffff", "pruned parameters beyond the 6 of Sequential"),
        ("", "has format "),
    ],
)
def test_metadata_of_something_else_are_errors(mlp, tmp_path, text, message):
    tensors, _ = saved(prune_(mlp(), PruneConfig(ratio=MANY)), tmp_path / "m")
    save_file(tensors, tmp_path / "m", metadata={"sparse": text})
    with pytest.raises(ValueError, match=message):
        load_sparse(tmp_path / "m", mlp())


@pytest.mark.parametrize("ratio", [1.0, MANY, FEW])
def test_no_flipped_bit_and_no_lost_byte_goes_unseen(mlp, tmp_path, ratio):
    save_sparse(prune_(mlp(), PruneConfig(ratio=ratio, floor=1)), tmp_path / "m")
    whole = (tmp_path / "m").read_bytes()
    expected = load_sparse(tmp_path / "m", mlp()).state_dict()
    draw = np.random.default_rng(0)
    for place in [*range(8 * 150), *draw.integers(0, 8 * len(whole), 300)]:  # all of the header, some of the rest
        broken = bytearray(whole)
        broken[place // 8] ^= 1 << place % 8
        (tmp_path / "m").write_bytes(broken)
        try:
            loaded = load_sparse(tmp_path / "m", mlp()).state_dict()
        except ValueError:
            continue
        assert all(torch.equal(loaded[name], value) for name, value in expected.items()), f"bit {place}"
    for length in (0, 7, 100, len(whole) - 1):
        (tmp_path / "m").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"damaged|no readable"):
            load_sparse(tmp_path / "m", mlp())


@pytest.mark.parametrize("ratio", [1.0, MANY, FEW])
def test_files_of_the_second_format_are_read(mlp, tmp_path, ratio):
    """It had no checksum."""
    model = prune_(mlp(), PruneConfig(ratio=ratio, floor=1, exclude=["5"]))
    tensors, metadata = unchecked(*saved(model, tmp_path / "m"))
    save_file(tensors, tmp_path / "m", metadata=metadata)
    loaded = load_sparse(tmp_path / "m", mlp())
    assert all(torch.equal(loaded.state_dict()[name], t) for name, t in model.state_dict().items())


def unchecked(tensors, metadata):
    """Return what a file of format 2 held."""
    version, _, text = metadata["sparse"].split(" ", 2)
    assert version == "3"
    return tensors, {"sparse": f"2 {text}"}


def saved(model, path):
    """Save a model and return what the file holds: its tensors and its metadata."""
    save_sparse(model, path)
    with safe_open(path, framework="pt") as file:
        return load_file(path), file.metadata()


def test_a_failed_save_leaves_the_old_file(mlp, tmp_path, monkeypatch):
    path = tmp_path / "m"
    save_sparse(mlp(), path)
    before = path.read_bytes()

    def fail(tensors, target, metadata):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("baselines.files.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_sparse(prune_(mlp(), PruneConfig(ratio=5.0)), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_file_that_cannot_be_written_is_an_os_error(mlp, tmp_path):
    with pytest.raises(OSError, match=r"absent/m cannot be written"):
        save_sparse(mlp(), tmp_path / "absent" / "m")


def _other_weights(model):
    for parameter in model.parameters():
        nn.init.constant_(parameter, 3.0)
    return model
