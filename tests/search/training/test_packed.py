import logging
import math

import pytest
import torch
from torch import nn

from search.config import TrialConfig
from search.spec import ModelSpec, TrainSpec
from search.together import train_together
from search.training import packed
from search.training.packed import Pack
from search.training.trainer import DivergedError, EpochReport
from search.trial import Trial

CONVOLUTIONS = ModelSpec(name="tests.search.training.test_packed:convolutions")
TRAIN = TrainSpec(epochs=4, batch_size=16, schedule="cosine", precision="float32")

# The lanes of a pack differ in all that a search varies.
LANES = [
    {"method": "rps", "ratio": 4.0, "lr": 0.05, "weight_decay": 1e-4, "seed": 1},
    {"method": "rps", "ratio": 20.0, "lr": 0.2, "weight_decay": 0.0, "seed": 2, "budgets": {"0": 20, "4": 30}},
    {"method": "rand", "ratio": 2.0, "lr": 0.1, "weight_decay": 1e-2, "seed": 3},
    {"method": "snip", "ratio": 10.0, "lr": 0.02, "weight_decay": 1e-3, "seed": 4},
    {"method": "dense", "ratio": 1.0, "lr": 0.1, "weight_decay": 1e-4, "seed": 5},
    {"method": "ltr", "ratio": 4.0, "lr": 0.1, "weight_decay": 1e-4, "seed": 6, "args": {"rounds": 1}},
]


def convolutions(*, num_classes: int, in_channels: int, width: float = 1.0, dropout: float = 0.0) -> nn.Module:
    channels = round(8 * width)
    noise = [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Conv2d(channels, channels, 2),
        nn.BatchNorm2d(channels),
        nn.Flatten(),
        *noise,
        nn.Linear(channels, num_classes),
    )


@pytest.fixture
def make_trial(tiny_data):
    def make(lane: dict, *, saved: bytes | None = None, beside: Trial | None = None, **changes) -> Trial:
        config = TrialConfig(**{"model": CONVOLUTIONS, "train": TRAIN, **lane, **changes})
        return Trial(config, tiny_data, threads=1, saved=saved, beside=beside)

    return make


def go_on(trials: list[Trial], pack: Pack, epochs: int) -> None:
    for _ in range(epochs):
        outcomes = train_together(trials, pack)
        assert all(isinstance(outcome, EpochReport) for outcome in outcomes), outcomes


def same_course(one: Trial, other: Trial) -> None:
    """The courses of two trials are equal up to rounding: losses, images classified rightly, learning rates, states."""
    assert [r.epoch for r in one.history] == [r.epoch for r in other.history]
    assert [r.loss for r in one.history] == pytest.approx([r.loss for r in other.history], rel=1e-4)
    assert [r.accuracy_val for r in one.history] == pytest.approx([r.accuracy_val for r in other.history], abs=0.04)
    assert [r.lr for r in one.history] == [r.lr for r in other.history]
    for (name, tensor), expected in zip(
        one.trainer.model.state_dict().items(), other.trainer.model.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(
            tensor, expected, rtol=2e-3, atol=2e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"nesterov": True, "grad_clip": 0.5, "label_smoothing": 0.1, "batch_size": 20},
        {"momentum": 0.0, "epoch_choice": "best_val"},
    ],
)
def test_a_packed_trial_takes_the_course_it_would_take_alone(changes, make_trial):
    train = TRAIN.model_copy(update=changes)
    alone = [make_trial(lane, train=train) for lane in LANES]
    for trial in alone:
        for _ in range(4):
            trial.step()
    together = [make_trial(lane, train=train) for lane in LANES]
    go_on(together, Pack(len(LANES), fuse=True), 4)
    for trial, expected in zip(together, alone, strict=True):
        same_course(trial, expected)
        assert trial.finish().row["loss"] == pytest.approx(expected.finish().row["loss"], rel=1e-3)


def test_other_structures_pack_too(make_trial):
    for model in (
        ModelSpec(args={"hidden": [16]}),
        ModelSpec(name="vit", args={"dim": 8, "depth": 1, "patch_size": 3}),
        ModelSpec(args={"hidden": [16, 8]}, exclude=["fc3"]),
    ):
        alone, together = ([make_trial(lane, model=model, budgets=None) for lane in LANES[:4]] for _ in range(2))
        for trial in alone:
            trial.step()
        go_on(together, Pack(4, fuse=True), 1)
        for trial, expected in zip(together, alone, strict=True):
            same_course(trial, expected)


def test_a_trial_leaves_a_pack_for_a_life_alone_and_comes_back(make_trial):
    """Its checkpoint is that of any trial; another takes its place in the meantime."""
    expected = [make_trial(lane) for lane in LANES[:4]]
    for trial in expected:
        for _ in range(4):
            trial.step()
    pack = Pack(4, fuse=True)
    first, second, third, late = (make_trial(lane) for lane in LANES[:4])
    go_on([first, second, third], pack, 1)
    alone = make_trial(LANES[0], saved=first.checkpoint())
    go_on([late, second, third], pack, 2)
    alone.step()
    back = make_trial(LANES[0], saved=alone.checkpoint())
    go_on([late, back], pack, 2)
    go_on([second, third], pack, 1)
    for trial, alike in zip([back, second, third, late], expected, strict=True):
        same_course(trial, alike)
    assert all(trial.done for trial in (back, second, third, late))


def test_the_rounds_of_a_lottery_ticket_pass_within_a_pack(make_trial):
    ticket = {**LANES[5], "args": {"rounds": 1, "rewind_epochs": 1}}
    expected = make_trial(ticket)
    while not expected.done:
        expected.step()
    lanes = [make_trial(ticket), make_trial(LANES[0], train=TRAIN.model_copy(update={"epochs": 4}))]
    pack = Pack(2, fuse=True)
    go_on(lanes, pack, 4)
    lanes[1] = make_trial(LANES[2])
    go_on(lanes, pack, 3)
    assert lanes[0].done
    same_course(lanes[0], expected)


def test_a_trial_that_diverges_ends_alone(make_trial):
    lanes = [make_trial(LANES[0]), make_trial(LANES[2], lr=1e30), make_trial(LANES[4])]
    expected = [make_trial(LANES[0]), make_trial(LANES[4])]
    outcomes = train_together(lanes, Pack(3, fuse=True))
    assert isinstance(outcomes[1], DivergedError)
    assert "epoch 1 at lr" in str(outcomes[1])
    for trial, alike in zip([lanes[0], lanes[2]], expected, strict=True):
        alike.step()
        same_course(trial, alike)
        assert math.isfinite(trial.history[-1].loss)


def test_packs_take_turns_where_a_stack_would_leave_bfloat16(make_trial, monkeypatch):
    monkeypatch.setattr(packed, "_time", lambda fusion, chunk: True)
    half = TRAIN.model_copy(update={"precision": "bfloat16"})
    together, alone = ([make_trial(LANES[n], train=half) for n in (0, 2)] for _ in range(2))
    go_on(together, Pack(2), 1)
    for one, other in zip(together, alone, strict=True):
        other.step()
        states = one.trainer.model.state_dict(), other.trainer.model.state_dict()
        assert all(torch.equal(a, b) for a, b in zip(*(state.values() for state in states), strict=True))


def test_models_of_another_structure_train_beside_the_fused_ones(make_trial):
    lanes = [LANES[0], {**LANES[2], "method": "small"}, LANES[3]]
    together = [make_trial(lane, budgets=None) for lane in lanes]
    go_on(together, Pack(3, fuse=True), 2)
    for trial, lane in zip(together, lanes, strict=True):
        alone = make_trial(lane, budgets=None)
        alone.step()
        alone.step()
        same_course(trial, alone)


class ShortOfMemory:
    """Stands for a device that holds the activations of a few models only, from some step on."""

    def __init__(self, monkeypatch, *, most: int, from_step: int = 0) -> None:
        self.sizes: list[int] = []
        whole = packed.Fusion.backward

        def backward(fusion, inputs, labels):
            self.sizes.append(len(inputs))
            if len(inputs) > most and len(self.sizes) > from_step:
                raise torch.OutOfMemoryError("tried to allocate too much")
            return whole(fusion, inputs, labels)

        monkeypatch.setattr(packed.Fusion, "backward", backward)


@pytest.mark.parametrize("from_step", [0, 9])
def test_out_of_memory_halves_the_pack_and_nothing_is_trained_twice(from_step, make_trial, monkeypatch, caplog):
    device = ShortOfMemory(monkeypatch, most=2, from_step=from_step)
    pack = Pack(5, fuse=True)
    together = [make_trial(lane) for lane in LANES[:5]]
    with caplog.at_level(logging.WARNING):
        go_on(together, pack, 2)
    assert pack.width == 2
    assert device.sizes[-1] == 2
    assert "out of memory with 5 trials as one program: at most 2" in caplog.text
    for trial, lane in zip(together, LANES, strict=False):
        alone = make_trial(lane)
        alone.step()
        alone.step()
        same_course(trial, alone)


@pytest.mark.parametrize("faster", [True, False])
def test_the_pack_times_both_ways_and_keeps_nothing_of_it(faster, make_trial, monkeypatch, caplog):
    seconds = {"fused": 1.0 if faster else 3.0, "turns": 2.0}
    clock = iter([seconds["fused"], seconds["turns"]] * 4)

    def measured(action, on):
        action()
        return next(clock)

    monkeypatch.setattr(packed, "_seconds", measured)
    together = [make_trial(lane) for lane in LANES[:3]]
    with caplog.at_level(logging.INFO):
        go_on(together, Pack(3), 2)
    verdict = "2.00 times as fast as in turns: fused" if faster else "0.67 times as fast as in turns: they take turns"
    assert verdict in caplog.text
    assert next(clock, None) is None
    for trial, lane in zip(together, LANES, strict=False):
        alone = make_trial(lane)
        alone.step()
        alone.step()
        if faster:
            same_course(trial, alone)
        else:
            assert same(trial, alone)


def same(one: Trial, other: Trial) -> bool:
    """Whether two trials have come to the same state, bit for bit."""
    tensors, others = one.trainer.tensors(), other.trainer.tensors()
    return tensors.keys() == others.keys() and all(torch.equal(tensors[name], others[name]) for name in tensors)


def test_what_draws_random_numbers_takes_turns_and_stays_the_same_bit_for_bit(make_trial, caplog):
    model = CONVOLUTIONS.model_copy(update={"args": {"dropout": 0.3}})
    lanes = [{**lane, "model": model, "budgets": None} for lane in LANES[:3]]
    together = [make_trial(lane) for lane in lanes]
    with caplog.at_level(logging.INFO):
        go_on(together, Pack(3), 2)
    assert "3 trials cannot train as one program, so they take turns: vmap" in caplog.text
    for trial, lane in zip(together, lanes, strict=True):
        alone = make_trial(lane)
        alone.step()
        alone.step()
        assert same(trial, alone)


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("killed_after", [2, 5])
def test_a_pack_that_was_killed_goes_on_as_if_it_had_not_been(killed_after, fuse, make_trial):
    """Bit for bit, and with a lottery ticket in it that has a round more to go than the others."""
    lanes = [LANES[0], LANES[2], LANES[5]]

    def train(trials: list[Trial], pack: Pack, until: int) -> list[Trial]:
        for _ in range(until):
            waiting = [trial for trial in trials if not trial.done]
            go_on(waiting, pack, 1)
        return trials

    whole = train([make_trial(lane) for lane in lanes], Pack(3, fuse=fuse), 8)
    killed = train([make_trial(lane) for lane in lanes], Pack(3, fuse=fuse), killed_after)
    resumed = [make_trial(lane, saved=trial.checkpoint()) for lane, trial in zip(lanes, killed, strict=True)]
    train(resumed, Pack(3, fuse=fuse), 8 - killed_after)
    assert [trial.epochs_run for trial in resumed] == [4, 4, 8]
    for trial, expected in zip(resumed, whole, strict=True):
        assert same(trial, expected)
        assert [r.loss for r in trial.history] == [r.loss for r in expected.history]
        assert trial.finish().row["accuracy"] == expected.finish().row["accuracy"]


def test_trials_side_by_side_hold_the_images_once(make_trial):
    first = make_trial(LANES[0])
    beside = make_trial(LANES[1], beside=first).trainer
    assert beside.split is first.trainer.split
    assert beside.val is first.trainer.val


@pytest.mark.slow
def test_a_compiled_pack_takes_the_same_course(make_trial):
    train = TRAIN.model_copy(update={"compile": True})
    together = [make_trial(lane, train=train) for lane in (LANES[0], LANES[2])]
    go_on(together, Pack(2, fuse=True), 2)
    for trial, lane in zip(together, (LANES[0], LANES[2]), strict=True):
        alone = make_trial(lane)
        alone.step()
        alone.step()
        same_course(trial, alone)
