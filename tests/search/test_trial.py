import math

import numpy as np
import pytest
import torch
from safetensors.torch import load
from torch import nn

from rps_core import load_compressed
from search.errors import UserError
from search.registry import METHODS
from search.spec import ModelSpec, TrainSpec
from search.training.checkpoint import CheckpointError
from search.training.trainer import DivergedError
from search.trial import Trial, build


def run(config, data, *, interrupt_after: int | None = None):
    trial = Trial(config, data, threads=1)
    while not trial.done:
        trial.step()
        if interrupt_after is not None and trial.epochs_run == interrupt_after:
            trial = Trial(config, data, threads=1, saved=trial.checkpoint())
    return trial, trial.finish()


def same_result(one, other):
    columns = ("accuracy", "accuracy_val", "loss", "epochs_run", "stored_bytes")
    tensors, others = load(one.model_file), load(other.model_file)
    return (
        all(one.row[c] == other.row[c] for c in columns)
        and tensors.keys() == others.keys()
        and all(torch.equal(tensors[name], others[name]) for name in tensors)
    )


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_learns_and_a_resumed_trial_is_the_same_trial(method, make_config, tiny_data):
    args = {"rounds": 2, "rewind_epochs": 1} if method == "ltr" else {}
    config = make_config(method, ratio=1.0 if method == "dense" else 4.0, args=args)
    whole, result = run(config, tiny_data)
    # 2 is within the first round, 5 within the second round of a lottery ticket.
    for epoch in (2, 5):
        assert same_result(result, run(config, tiny_data, interrupt_after=epoch)[1])
    assert whole.history[-1].loss < whole.history[0].loss
    assert [report.epoch for report in whole.history] == list(range(1, result.row["epochs_run"] + 1))
    assert len(result.model_file) == result.row["stored_bytes"]


@pytest.mark.parametrize("psi_dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("choice", ["last", "best_val"])
def test_a_model_is_judged_as_its_file_rounds_it(psi_dtype, choice, make_config, tiny_data, tmp_path):
    train = TrainSpec(epochs=4, batch_size=16, epoch_choice=choice, precision="float32")
    config = make_config("rps", ratio=40.0, args={"psi_dtype": psi_dtype}, train=train)
    trial, result = run(config, tiny_data)
    (tmp_path / "model").write_bytes(result.model_file)
    stored = load_compressed(tmp_path / "model", build(config, tiny_data))
    psi, theirs = (dict(model.named_parameters()) for model in (trial.compressed.model, stored))
    assert all(torch.allclose(psi[name], theirs[name], rtol=1e-6, atol=0) for name in psi)
    trial.compressed.model.load_state_dict(stored.state_dict())
    assert trial.trainer.evaluate(trial.trainer.val)[0] == result.row["accuracy_val"]


def test_convolutions_dropout_and_best_epochs_survive_an_interruption_too(make_config, tiny_data):
    config = make_config(
        "rps",
        model=ModelSpec(name="tests.search.test_trial:small_net"),
        train=TrainSpec(epochs=4, batch_size=16, epoch_choice="best_val", precision="bfloat16"),
        lr=0.3,
    )
    _, whole = run(config, tiny_data)
    _, resumed = run(config, tiny_data, interrupt_after=3)
    assert same_result(whole, resumed)


def small_net(*, num_classes: int, in_channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(72, num_classes),
    )


def test_the_same_configuration_gives_the_same_numbers_whatever_ran_before(make_config, tiny_data):
    config = make_config("snip")
    _, first = run(config, tiny_data)
    torch.manual_seed(99)
    torch.rand(10)
    _, second = run(config, tiny_data)
    assert same_result(first, second)


def test_a_trial_leaves_the_global_random_state_alone(make_config, tiny_data):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    run(make_config("rps"), tiny_data)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_data_is_only_read(make_config, tiny_data):
    for split in (tiny_data.train, tiny_data.val, tiny_data.test):
        split.images.flags.writeable = False
    try:
        run(make_config("rand"), tiny_data)
    finally:
        for split in (tiny_data.train, tiny_data.val, tiny_data.test):
            split.images.flags.writeable = True


def test_a_row_counts_what_was_done(make_config, tiny_data):
    _, result = run(make_config("mag"), tiny_data)
    row = result.row
    assert row["status"] == "finished"
    assert row["epochs_run"] == 4
    assert 0 <= row["accuracy"] <= 1
    assert math.isfinite(row["loss"])
    # 36 * 16 + 16 * 3 weights, a quarter kept; 19 biases; the bitmask is cheaper than indices.
    assert row["virtual_size"] == 624
    assert row["stored_parameters"] == 156 + 19
    # To the byte, and the header of the file is the least of it.
    assert row["stored_bytes"] == len(result.model_file)
    assert 0 < row["stored_bytes"] - (4 * (156 + 19) + 624 // 8) <= 128
    assert row["flops"] == 2 * 624
    assert row["latency_ms"] > 0
    assert row["images_per_second"] == pytest.approx(4 * 90 / row["train_seconds"])
    assert row["finished_at"] > row["started_at"]


def test_the_best_validation_epoch_is_judged_where_the_spec_says_so(make_config, tiny_data):
    train = TrainSpec(epochs=6, batch_size=16, schedule="constant", epoch_choice="best_val")
    trial, result = run(make_config("dense", ratio=1.0, lr=2.0, train=train), tiny_data)
    assert result.row["accuracy_val"] == max(report.accuracy_val for report in trial.history)


def test_a_loss_that_is_not_finite_ends_the_trial_with_epoch_and_rate(make_config, tiny_data):
    trial = Trial(make_config("dense", ratio=1.0, lr=1e30), tiny_data, threads=1)
    with pytest.raises(DivergedError, match=r"the loss became (nan|inf) in epoch 1 at lr"):
        trial.step()


def one_step(make_config, data):
    # Its loss is that before the step.
    train = TrainSpec(epochs=1, batch_size=len(data.train), schedule="constant", precision="float32")
    return Trial(make_config("dense", ratio=1.0, lr=1e38, train=train), data, threads=1)


def test_weights_that_the_last_step_spoils_are_no_result(make_config, tiny_data, monkeypatch):
    trial = one_step(make_config, tiny_data)
    with pytest.raises(DivergedError, match=r"the loss became nan after epoch 1 at lr 1e\+38"):
        trial.step()
    trial = one_step(make_config, tiny_data)
    monkeypatch.setattr(trial.trainer, "evaluate", lambda split: (0.1, 1.0))
    trial.step()
    monkeypatch.undo()
    with pytest.raises(DivergedError, match=r"the loss became nan on the test images at lr 1e\+38"):
        trial.finish()
    trial = one_step(make_config, tiny_data)
    monkeypatch.setattr(trial.trainer, "evaluate", lambda split: (0.1, float("inf")))
    with pytest.raises(DivergedError, match="the loss became inf after epoch 1"):
        trial.step()


def test_the_checkpoint_of_another_trial_is_refused(make_config, tiny_data):
    saved = Trial(make_config("rps"), tiny_data, threads=1).checkpoint()
    with pytest.raises(CheckpointError, match="checkpoint of trial"):
        Trial(make_config("rps", lr=0.2), tiny_data, threads=1, saved=saved)


@pytest.mark.parametrize(
    ("method", "changes", "sentence"),
    [
        ("rps", {"args": {"maping": "roast"}}, r"unknown argument 'maping': did you mean 'mapping'\?"),
        ("rps", {"args": {"mapping": "roost"}}, "roost"),
        ("dense", {"args": {"floor": 1}}, "the method takes none, but got 'floor'"),
        ("rps", {"budgets": {"fc9": 10}}, "matches no layer"),
        ("rand", {"train": TrainSpec(batch_size=1000)}, "batch_size"),
    ],
)
def test_what_a_trial_cannot_do_is_said_in_one_sentence(method, changes, sentence, make_config, tiny_data):
    with pytest.raises(UserError, match=sentence):
        Trial(make_config(method, **changes), tiny_data, threads=1)


def frozen_net(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes)).requires_grad_(False)


def test_a_model_with_nothing_to_train_is_refused_in_one_sentence(make_config, tiny_data):
    config = make_config("mag", model=ModelSpec(name="tests.search.test_trial:frozen_net"))
    with pytest.raises(UserError, match="must have a parameter that trains, but requires_grad is False for all"):
        Trial(config, tiny_data, threads=1)


def test_scoring_images_are_balanced(make_config, tiny_data):
    seen = {}

    def spy(bench):
        seen["labels"] = bench.scoring_batches()[0][1]
        raise UserError("enough")

    import search.methods.base as base

    original = base.resolve
    base.resolve = lambda *_: spy
    try:
        with pytest.raises(UserError, match="enough"):
            Trial(make_config("snip"), tiny_data, threads=1)
    finally:
        base.resolve = original
    assert np.bincount(seen["labels"].numpy()).tolist() == [10, 10, 10]


def test_the_checkpoint_of_a_pruned_trial_holds_what_is_kept_and_not_the_dense_model(make_config, tiny_data):
    model = ModelSpec(args={"hidden": [512]})
    sizes = {}
    for method in ("dense", "rand", "rps"):
        trial = Trial(make_config(method, ratio=1.0 if method == "dense" else 50.0, model=model), tiny_data, threads=1)
        trial.step()
        sizes[method] = len(trial.checkpoint())
    # Weights and momentum of 20,000 weights; a 50th of both, biases and, for pruning, a bit a weight.
    assert sizes["dense"] > 8 * 19_968
    assert sizes["rand"] < sizes["dense"] / 8
    assert sizes["rps"] < sizes["dense"] / 10
