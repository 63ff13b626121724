"""Which weights and which images a trial is judged by."""

from dataclasses import replace

import pytest
import torch

from baselines.masks import masks_of
from search.data import Split
from search.spec import TrainSpec
from search.trial import Trial, workbench


@pytest.mark.parametrize("changes", [{}, {"epoch_choice": "best_val"}, {"recalibrate": True}])
@pytest.mark.parametrize("wrong", ["val", "test"])
def test_the_search_sees_validation_and_the_table_tests(make_config, tiny_data, changes, wrong):
    """Of the part whose labels are wrong hardly an image is classified rightly."""
    part = getattr(tiny_data, wrong)
    data = replace(tiny_data, augment="none", **{wrong: Split(part.images, (part.labels + 1) % 3)})
    train = TrainSpec(epochs=15, batch_size=16, schedule="constant", **changes)
    trial = Trial(make_config("dense", ratio=1.0, train=train), data, threads=1)
    while not trial.done:
        report = trial.step()
    row = trial.finish().row
    rightly = {"val": row["accuracy_val"], "test": row["accuracy"]}
    assert rightly.pop(wrong) < 0.4  # the best of epochs may be the first
    assert all(share > 0.8 for share in rightly.values()) or changes.get("epoch_choice") == "best_val"
    assert (report.accuracy_val < 0.2) == (wrong == "val")


def finished(trial, monkeypatch, accuracies):
    """Train a trial to its end as if the epochs had these validation accuracies; return the weights after each."""
    judge, states, left = trial.trainer.evaluate, [], iter(accuracies)
    monkeypatch.setattr(trial.trainer, "evaluate", lambda split: (next(left), 1.0))
    while not trial.done:
        trial.step()
        states.append({name: tensor.clone() for name, tensor in trial.compressed.model.state_dict().items()})
    monkeypatch.setattr(trial.trainer, "evaluate", judge)
    return states, trial.finish().row


@pytest.mark.parametrize(("accuracies", "best"), [((0.2, 0.5, 0.5, 0.4), 1), ((0.5, 0.5, 0.5, 0.5), 0)])
def test_of_equal_epochs_the_first_is_the_best(make_config, tiny_data, monkeypatch, accuracies, best):
    train = TrainSpec(epochs=4, batch_size=16, epoch_choice="best_val")
    trial = Trial(make_config("rps", train=train), tiny_data, threads=1)
    states, row = finished(trial, monkeypatch, accuracies)
    assert row["accuracy_val"] == 0.5
    assert all(torch.equal(tensor, states[best][name]) for name, tensor in trial.compressed.model.state_dict().items())


def test_a_ticket_is_judged_by_the_best_epoch_of_its_last_round(make_config, tiny_data, monkeypatch):
    train = TrainSpec(epochs=2, batch_size=16, epoch_choice="best_val")
    trial = Trial(make_config("ltr", args={"rounds": 1}, train=train), tiny_data, threads=1)
    states, row = finished(trial, monkeypatch, (0.9, 0.8, 0.4, 0.3))
    assert row["accuracy_val"] == 0.4
    assert masks_of(trial.compressed.model)
    assert all(torch.equal(tensor, states[2][name]) for name, tensor in trial.compressed.model.state_dict().items())


def test_scores_look_at_training_images_that_the_seed_draws(make_config, tiny_data):
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (tiny_data.mean, tiny_data.std))

    def drawn(seed):
        ((inputs, _),) = workbench(make_config("snip", seed=seed), tiny_data, torch.device("cpu")).scoring_batches()
        return {image.numpy().tobytes() for image in (255 * (inputs * std + mean)).round().to(torch.uint8)}

    assert drawn(1) < {image.tobytes() for image in tiny_data.train.images}
    assert drawn(1) == drawn(1) != drawn(2)


def test_each_round_of_a_ticket_has_an_order_of_its_own_and_no_momentum(make_config, tiny_data):
    train = TrainSpec(epochs=1, batch_size=16)
    trial = Trial(make_config("ltr", args={"rounds": 1}, train=train), tiny_data, threads=1)
    first = torch.cat([labels for _, labels in trial.trainer.batches()])
    trial.step()
    assert trial.trainer.optimizer.state
    trial.begin_epoch()
    assert not trial.trainer.optimizer.state
    assert not torch.equal(first, torch.cat([labels for _, labels in trial.trainer.batches()]))


def test_a_resumed_ticket_knows_its_history(make_config, tiny_data):
    trial = Trial(make_config("ltr", args={"rounds": 1}), tiny_data, threads=1)
    for _ in range(5):
        trial.step()
    resumed = Trial(trial.config, tiny_data, threads=1, saved=trial.checkpoint())
    assert resumed.history == trial.history
    assert (resumed.round, resumed.epochs_run, resumed.trainer.epoch) == (1, 5, 1)
    assert resumed.partial_row()["attempts"] == 2
