"""Trials that start from trained weights, and trials that train for no epoch."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save

from rps_core import RPSConfig, project_
from search.config import TrialConfig
from search.driver.exchange import RunSettings, from_json
from search.driver.pack import PackHost
from search.driver.runner import TrialRunner
from search.errors import UserError
from search.methods import layer_shapes, load_trained
from search.results.folder import Folder
from search.spec import ModelSpec, TrainSpec
from search.trial import Trial, build, workbench

MODEL = ModelSpec(name="tests.search.test_trial:small_net", weights="dense.safetensors")
AFTER_TRAINING = TrainSpec(epochs=0, batch_size=16, precision="float32")
METHODS = ("dense", "rps", "rand", "mag", "snip", "grasp", "synflow", "erk", "uniform")


def run(config, data, weights):
    trial = Trial(config, data, threads=1, weights=weights)
    while not trial.done:
        trial.step()
    return trial.finish()


@pytest.fixture(scope="module")
def data(tiny_data):
    """Images whose rows stay where they are: a few epochs tell their classes apart."""
    return replace(tiny_data, augment="none")


@pytest.fixture(scope="module")
def dense(data):
    """A trained dense model: its file, and the row of its trial."""
    config = TrialConfig(
        method="dense",
        ratio=1,
        lr=0.1,
        weight_decay=1e-4,
        seed=1,
        model=MODEL.model_copy(update={"weights": None}),
        train=TrainSpec(epochs=6, batch_size=16, precision="float32"),
    )
    trial = Trial(config, data, threads=1)
    while not trial.done:
        trial.step()
    row = trial.finish().row
    assert row["accuracy"] > 0.9
    return save({name: tensor.contiguous() for name, tensor in trial.compressed.model.state_dict().items()}), row


@pytest.fixture
def config(make_config):
    def make(method, **changes):
        ratio = 1.0 if method == "dense" else 4.0
        return make_config(method, **{"ratio": ratio, "model": MODEL, "train": AFTER_TRAINING, **changes})

    return make


@pytest.mark.parametrize("method", METHODS)
def test_without_an_epoch_a_trial_judges_what_compression_leaves(method, config, dense, data):
    result = run(config(method), data, dense[0])
    assert result.row["epochs_run"] == 0
    assert result.row["images_per_second"] is None
    if method == "dense":
        assert all(result.row[column] == dense[1][column] for column in ("accuracy", "accuracy_val", "loss"))
    else:
        assert result.row["loss"] != dense[1]["loss"]


def test_magnitude_pruning_keeps_the_largest_of_the_trained_weights(config, dense, data, tmp_path):
    path = tmp_path / "model"
    path.write_bytes(run(config("mag"), data, dense[0]).model_file)
    model = load_trained(workbench(config("mag"), data, torch.device("cpu")), path)
    trained = load(dense[0])
    weights = torch.cat([trained[f"{layer}.weight"].flatten() for layer in layer_shapes(model)])
    kept = torch.cat([model.state_dict()[f"{layer}.weight"].flatten() for layer in layer_shapes(model)])
    assert torch.equal(kept[kept != 0], weights[kept != 0])
    assert weights[kept != 0].abs().min() >= weights[kept == 0].abs().max()


def test_sharing_starts_from_what_is_nearest_to_the_trained_weights(config, dense, data):
    trial = Trial(config("rps"), data, threads=1, weights=dense[0])
    expected = build(config("rps"), data)
    expected.load_state_dict(load(dense[0]))
    project_(expected, RPSConfig(ratio=4.0, seed=3))
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensor, trial.compressed.model.state_dict()[name])
    drawn = Trial(config("rps", args={"start": "drawn"}), data, threads=1, weights=dense[0])
    assert not torch.equal(*(one.compressed.model.state_dict()["psi_0"] for one in (trial, drawn)))


@pytest.mark.parametrize("method", ["rps", "mag", "ltr"])
def test_fine_tuning_learns_and_survives_an_interruption(method, config, dense, data):
    args = {"rounds": 2} if method == "ltr" else {}
    wanted = config(method, args=args, train=AFTER_TRAINING.model_copy(update={"epochs": 3, "recalibrate": True}))
    whole = run(wanted, data, dense[0])
    trial = Trial(wanted, data, threads=1, weights=dense[0])
    trial.step()
    trial.step()
    again = Trial(wanted, data, threads=1, saved=trial.checkpoint(), weights=dense[0])
    while not again.done:
        again.step()
    ended = again.finish()
    assert ended.row["loss"] == whole.row["loss"]
    tensors, others = load(ended.model_file), load(whole.model_file)
    assert all(torch.equal(tensor, others[name]) for name, tensor in tensors.items())
    assert whole.row["loss"] < run(config("rps"), data, dense[0]).row["loss"]


def test_a_ticket_rewinds_to_the_trained_weights(config, dense, data):
    wanted = config("ltr", args={"rounds": 1}, train=AFTER_TRAINING.model_copy(update={"epochs": 1}))
    trial = Trial(wanted, data, threads=1, weights=dense[0])
    trial.step()
    trial.begin_epoch()
    state, trained = trial.compressed.model.state_dict(), load(dense[0])
    for layer, shape in layer_shapes(trial.compressed.model).items():
        weight, mask = (state[f"{layer}.{name}"] for name in ("weight", "weight_mask"))
        assert mask.shape == shape
        assert torch.equal(weight, trained[f"{layer}.weight"] * mask)


def test_statistics_are_estimated_anew_from_training_images(config, dense, data):
    mistaken = load(dense[0])
    mistaken["1.running_mean"] += 30
    rows = {
        again: run(
            config("dense", train=AFTER_TRAINING.model_copy(update={"recalibrate": again})), data, save(mistaken)
        ).row
        for again in (False, True)
    }
    assert rows[False]["accuracy_val"] < 0.6
    assert rows[True]["accuracy_val"] > 0.9
    assert rows[True]["accuracy"] > 0.9


def narrow(bench):
    return bench.build(0.5)


def test_what_has_no_use_for_trained_weights_is_refused(config, dense, data):
    with pytest.raises(UserError, match=r"method '.*:narrow' builds a narrower model, which model\.weights do not fit"):
        Trial(config("tests.search.test_trial_weights:narrow"), data, threads=1, weights=dense[0])
    with pytest.raises(UserError, match="start: unknown value 'near': did you mean 'nearest'"):
        Trial(config("rps", args={"start": "near"}), data, threads=1, weights=dense[0])
    with pytest.raises(UserError, match=r"0 <= rewind_epochs < train\.epochs must hold, but got 0 of 0"):
        Trial(config("ltr"), data, threads=1, weights=dense[0])
    with pytest.raises(ValueError, match="a trial needs the weights that it names, and no others"):
        Trial(config("rps"), data, threads=1)
    with pytest.raises(ValueError, match="a trial needs the weights that it names, and no others"):
        Trial(config("rps", model=ModelSpec()), data, threads=1, weights=dense[0])


def test_a_trial_without_an_epoch_ends_with_its_first_result(config, dense, data, tmp_path):
    settings = RunSettings(
        Folder(tmp_path), 1, 0, "stored_bytes", checkpoint_every_s=0, time_limit_s=None, weights=dense[0]
    )
    wanted = config("mag").model_dump_json()
    alone = TrialRunner(wanted, data, settings).step()
    host = PackHost(data, settings, 2)
    host.join("a")
    host.begin("a", wanted)
    packed = host.step("a")
    for result in (alone, packed):
        assert result["done"]
        assert not result.get("epoch_rows")
        assert from_json(result["trial_row"])["status"] == "finished"
    assert from_json(alone["trial_row"])["loss"] == from_json(packed["trial_row"])["loss"]
