from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from baselines import PruneConfig, load_sparse, masks_of, prune_, save_sparse, sparse_summary


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


@pytest.mark.parametrize("ratio", [1.0, 10.0, 50.0, 100.0])
def test_file_is_as_big_as_the_summary_says(residual, tmp_path, ratio):
    model = prune_(residual(width=48), PruneConfig(method="rand", ratio=ratio))
    save_sparse(model, tmp_path / "m")
    size = (tmp_path / "m").stat().st_size
    stored = sparse_summary(model).stored_bytes
    assert stored < size < stored + 400
    if ratio <= 10:
        assert size < 1.01 * stored


def test_the_cheaper_positions_are_written(mlp, tmp_path):
    for ratio, positions in ((31.0, "bitmask"), (33.0, "indices")):
        save_sparse(prune_(mlp(), PruneConfig(ratio=ratio, floor=1)), tmp_path / "m")
        assert load_file(tmp_path / "m").keys() == {"values", positions}


def test_other_types_are_saved_in_float32(mlp, tmp_path):
    model = prune_(mlp().double(), PruneConfig(ratio=4.0))
    save_sparse(model, tmp_path / "m")
    loaded = load_sparse(tmp_path / "m", mlp().bfloat16())
    assert loaded[1].weight.dtype == torch.bfloat16
    assert torch.equal(loaded[1].weight, model[1].weight.float().bfloat16())


def test_tied_weights_are_stored_once(tmp_path):
    def build():
        model = nn.Sequential(nn.Embedding(50, 16), nn.Linear(16, 50, bias=False))
        model[1].weight = model[0].weight
        return model

    model = prune_(build(), PruneConfig(ratio=2.0))
    save_sparse(model, tmp_path / "m")
    assert (tmp_path / "m").stat().st_size < 400 * 4 + 100 + 300
    loaded = load_sparse(tmp_path / "m", build())
    assert torch.equal(loaded[1].weight, model[0].weight)


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
    (tmp_path / "text").write_text("no safetensors file")
    with pytest.raises(ValueError, match="no readable safetensors file"):
        load_sparse(tmp_path / "text", fresh)
    assert all(torch.equal(fresh.state_dict()[name], t) for name, t in expected.items())


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("values", torch.ones(5), "holds 5 values"),
        ("bitmask", torch.ones(3, dtype=torch.uint8), "bitmask has 3 bytes for 5152 weights"),
        ("bitmask", torch.full((644,), 255, dtype=torch.uint8), "values, which is not what its positions say"),
        ("state", torch.ones(3, dtype=torch.uint8), "3 bytes of integer state"),
    ],
)
def test_damaged_files_are_errors(mlp, tmp_path, name, tensor, message):
    from safetensors import safe_open

    save_sparse(prune_(mlp(), PruneConfig(ratio=5.0)), tmp_path / "m")
    with safe_open(tmp_path / "m", framework="pt") as file:
        metadata = file.metadata()
    save_file(load_file(tmp_path / "m") | {name: tensor}, tmp_path / "m", metadata=metadata)
    fresh = mlp()
    with pytest.raises(ValueError, match=message):
        load_sparse(tmp_path / "m", fresh)
    assert type(fresh[1]) is nn.Linear


def test_indices_out_of_order_are_errors(mlp, tmp_path):
    from safetensors import safe_open

    save_sparse(prune_(mlp(), PruneConfig(ratio=100.0, floor=1)), tmp_path / "m")
    with safe_open(tmp_path / "m", framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(tmp_path / "m")
    tensors["indices"] = tensors["indices"].to(torch.int64).flip(0).to(torch.uint32)
    save_file(tensors, tmp_path / "m", metadata=metadata)
    with pytest.raises(ValueError, match="its indices must rise and stay below 5152"):
        load_sparse(tmp_path / "m", mlp())


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


def _other_weights(model):
    for parameter in model.parameters():
        nn.init.constant_(parameter, 3.0)
    return model
