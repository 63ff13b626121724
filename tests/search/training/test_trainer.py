"""What the loop must keep when the network runs through torch.compile: resume, evaluation, every kind of weights."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from baselines.masks import MaskedLayer
from search.data.batches import DeviceSplit, eval_batches
from search.spec import ModelSpec, TrainSpec
from search.training.evaluation import EVAL_BATCH_SIZE
from search.training.trainer import Trainer
from search.trial import Trial, build
from tests.search.conftest import make_split

CONVOLUTIONS = ModelSpec(name="tests.search.training.test_packed:convolutions")
TRAIN = TrainSpec(epochs=3, batch_size=16, precision="float32")


def states_equal(one: Trial, other: Trial) -> bool:
    tensors, others = one.trainer.tensors(), other.trainer.tensors()
    return tensors.keys() == others.keys() and all(torch.equal(tensors[name], others[name]) for name in tensors)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rps", "rand"])
def test_a_compiled_trial_learns_the_same_and_goes_on_where_it_was_stopped(method, make_config, tiny_data):
    compiled = make_config(method, model=CONVOLUTIONS, train=TRAIN.model_copy(update={"compile": True}))
    eager = Trial(make_config(method, model=CONVOLUTIONS, train=TRAIN), tiny_data, threads=1)
    whole = Trial(compiled, tiny_data, threads=1)
    whole.step()
    resumed = Trial(compiled, tiny_data, threads=1, saved=whole.checkpoint())
    for trial in (whole, resumed):
        while not trial.done:
            trial.step()
    while not eager.done:
        eager.step()
    assert states_equal(whole, resumed)
    assert [r.loss for r in whole.history] == [r.loss for r in resumed.history]
    assert [r.loss for r in whole.history] == pytest.approx([r.loss for r in eager.history], rel=1e-4)
    # Evaluation runs in inference mode between the epochs, and training goes on after it.
    assert whole.finish().row["accuracy"] == pytest.approx(eager.finish().row["accuracy"], abs=0.04)


def test_trials_with_other_seeds_differ(make_config, tiny_data):
    first, second = (Trial(make_config("rand", seed=seed), tiny_data, threads=1) for seed in (1, 2))
    first.step()
    second.step()
    assert not states_equal(first, second)


@pytest.mark.parametrize(("momentum", "nesterov", "first"), [(0.9, True, 1.9), (0.9, False, 1.0), (0.0, True, 1.0)])
def test_a_step_is_that_of_plain_pytorch(make_config, tiny_data, momentum, nesterov, first):
    """One batch, no augmentation: SGD with weight decay by hand on the dense model."""
    data = replace(tiny_data, augment="none", mean=(0.0,), std=(1.0,))
    train = TrainSpec(epochs=1, batch_size=90, schedule="constant", momentum=momentum, nesterov=nesterov)
    config = make_config("dense", ratio=1.0, lr=0.5, weight_decay=0.01, train=train)
    model = build(config, data)
    images = torch.from_numpy(data.train.images) / 255
    loss = cross_entropy(model(images), torch.from_numpy(data.train.labels))
    loss.backward()
    expected = [w - first * 0.5 * (w.grad + 0.01 * w) for w in model.parameters()]
    trial = Trial(config, data, threads=1)
    report = trial.step()
    assert report.loss == pytest.approx(loss.item(), rel=1e-5)
    for parameter, wanted in zip(trial.trainer.model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach(), wanted.detach())


@pytest.mark.parametrize("changes", [{"label_smoothing": 0.3}, {"grad_clip": 1e-3}])
def test_smoothing_and_clipping_are_those_of_plain_pytorch(make_config, tiny_data, changes):
    data = replace(tiny_data, augment="none")
    train = TrainSpec(epochs=1, batch_size=90, schedule="constant", momentum=0, **changes)
    config = make_config("dense", ratio=1.0, lr=0.5, weight_decay=0.0, train=train)
    trial, model = Trial(config, data, threads=1), build(config, data)
    ((inputs, labels),) = list(trial.trainer.batches())
    loss = cross_entropy(model(inputs), labels, label_smoothing=changes.get("label_smoothing", 0.0))
    loss.backward()
    if "grad_clip" in changes:
        norm = sum(w.grad.square().sum() for w in model.parameters()).sqrt()
        assert norm > 1e-3
        for w in model.parameters():
            w.grad.mul_(1e-3 / norm)
    assert trial.step().loss == pytest.approx(loss.item(), rel=1e-5)
    for parameter, w in zip(trial.trainer.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(parameter.detach(), w.detach() - 0.5 * w.grad)


def test_each_step_has_the_rate_of_where_it_begins(make_config, tiny_data, monkeypatch):
    train = TrainSpec(epochs=2, batch_size=30, schedule="cosine")
    trial = Trial(make_config("dense", ratio=1.0, lr=0.5, train=train), tiny_data, threads=1)
    rates, whole = [], trial.trainer.backward
    monkeypatch.setattr(
        trial.trainer,
        "backward",
        lambda *batch: (rates.append(trial.trainer.optimizer.param_groups[0]["lr"]), whole(*batch))[1],
    )
    reports = [trial.step(), trial.step()]
    assert rates == pytest.approx([0.25 * (1 + math.cos(math.pi * step / 6)) for step in range(6)])
    assert [report.lr for report in reports] == [rates[2], rates[5]]


def test_the_loss_of_an_epoch_is_the_mean_over_its_images(make_config, tiny_data):
    data = replace(tiny_data, train=tiny_data.train.take(np.arange(50)), augment="none")
    config = make_config("dense", ratio=1.0, lr=1e-30, weight_decay=0.0, train=TrainSpec(epochs=1, batch_size=40))
    trial = Trial(config, data, threads=1)
    mean = trial.trainer.evaluate(trial.trainer.split)[1]
    assert trial.step().loss == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize(("images", "trained"), [(50, 50), (41, 40), (40, 40)])
def test_images_that_are_left_out_of_an_epoch_are_not_counted(make_config, tiny_data, images, trained):
    data = replace(tiny_data, train=tiny_data.train.take(np.arange(images)))
    trial = Trial(make_config("dense", ratio=1.0, train=TrainSpec(epochs=1, batch_size=20)), data, threads=1)
    assert trial.step().images == trained


def test_random_numbers_of_an_epoch_are_those_of_its_round_and_number(make_config, tiny_data):
    drawn = []
    for number, epoch in ((0, 0), (0, 1), (1, 1), (0, 0)):
        trainer = Trial(make_config("dense", ratio=1.0), tiny_data, threads=1).trainer
        trainer.begin_round(number, epoch)
        with trainer.seeded():
            drawn.append(float(torch.rand(1)))
    assert drawn[0] == drawn[3]
    assert len(set(drawn)) == 3


def test_pruned_weights_are_read_as_they_are_while_an_epoch_trains(make_config, tiny_data, monkeypatch):
    trial = Trial(make_config("rand"), tiny_data, threads=1)
    (layer, *_) = (module for module in trial.trainer.model.modules() if isinstance(module, MaskedLayer))
    read, whole = [], Trainer.backward

    def backward(trainer, *batch):
        read.append(layer.weight is layer._parameters["weight"])
        return whole(trainer, *batch)

    monkeypatch.setattr(Trainer, "backward", backward)
    trial.step()
    assert read
    assert all(read)
    assert layer.weight is not layer._parameters["weight"]


@pytest.mark.parametrize("method", ["rps", "rand", "dense"])
def test_many_images_are_judged_with_weights_that_are_computed_once(method, make_config, tiny_data, monkeypatch):
    from rps_core.group import Group

    trial = Trial(make_config(method, model=CONVOLUTIONS, train=TRAIN), tiny_data, threads=1)
    trial.step()
    many = DeviceSplit.of(make_split(2 * EVAL_BATCH_SIZE + 1, seed=4), "cpu")
    recovered = []
    whole = Group.recover

    def recover(group, psi, indices, **options):
        recovered.extend(indices)
        return whole(group, psi, indices, **options)

    monkeypatch.setattr(Group, "recover", recover)
    accuracy, loss = trial.trainer.evaluate(many)
    assert recovered == ([0, 1, 2] if method == "rps" else [])
    trial.trainer.model.eval()
    with torch.inference_mode():
        inputs, labels = next(eval_batches(many, batch_size=len(many), mean=tiny_data.mean, std=tiny_data.std))
        logits = trial.trainer.model(inputs)
    assert accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item(), abs=0.002)
    assert loss == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-4)
