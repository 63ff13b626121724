from __future__ import annotations

import itertools

import pytest
import torch
from safetensors.torch import load_file, save_file

from baselines import LotteryConfig, PruneConfig, count_rounds, lottery_ticket_, masks_of, sparse_summary


class Trainer:
    """Trains by a deterministic step that depends on the span of epochs, and writes down its calls."""

    def __init__(self, fail_at: int | None = None):
        self.calls = []
        self.fail_at = fail_at

    @torch.no_grad()
    def __call__(self, model, *, round, start_epoch, stop_epoch):
        if round == self.fail_at:
            raise KeyboardInterrupt
        self.calls.append((round, start_epoch, stop_epoch))
        generator = torch.Generator().manual_seed(round)
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
        for buffer in model.buffers():
            if buffer.dim() == 1:
                buffer.add_(1.0)


def config(**kwargs):
    return LotteryConfig(PruneConfig(ratio=8.0), **{"rounds": 3, "rewind_epoch": 2} | kwargs)


def test_rounds_train_prune_and_rewind(residual):
    train, states = Trainer(), []
    model = lottery_ticket_(residual(), config(), train_fn=train, on_round=states.append)
    assert train.calls == [(0, 0, 2), (1, 2, None), (2, 2, None), (3, 2, None)]
    early = residual()
    Trainer()(early, round=0, start_epoch=0, stop_epoch=2)
    masks = masks_of(model)
    parameters = dict(model.named_parameters())
    for name, parameter in early.named_parameters():
        assert torch.equal(parameters[name], parameter * masks.get(name, torch.ones(())))
    for name, buffer in early.named_buffers():
        assert torch.equal(model.get_buffer(name), buffer)
    kept = [sum(int(s[k].sum()) for k in s if k.startswith("mask/")) for s in states]
    size = sparse_summary(residual()).virtual_size
    assert kept == [0, round(size / 2), round(size / 4), round(size / 8)]
    for one, two in itertools.pairwise(states):
        assert all((one[k] | ~two[k]).all() for k in one if k.startswith("mask/"))


def test_groups_with_budgets_of_their_own_fall_by_the_same_factor_in_each_round(mlp):
    states = []
    prune = PruneConfig(ratio=16.0, budgets={"1": 1 / 64, "5": 40})
    lottery_ticket_(mlp(), LotteryConfig(prune, rounds=2), train_fn=Trainer(), on_round=states.append)
    for state, expected in zip(states[1:], ((576, 96, 80), (72, 24, 40)), strict=True):
        assert tuple(int(state[f"mask/{layer}.weight"].sum()) for layer in "135") == expected


def test_magnitudes_are_those_after_training(mlp):
    model = lottery_ticket_(mlp(), config(rounds=1, rewind_epoch=0), train_fn=Trainer())
    trained = mlp()
    Trainer()(trained, round=1, start_epoch=0, stop_epoch=None)
    kept = trained[1].weight.abs()[model[1].weight_mask.bool()].min()
    assert kept >= trained[1].weight.abs()[~model[1].weight_mask.bool()].max()


def test_learning_rate_rewinding_keeps_the_trained_weights(mlp):
    weights = lottery_ticket_(mlp(), config(rewind="learning_rate"), train_fn=Trainer())
    trained = mlp()
    train = Trainer()
    for round_ in range(4):
        train(trained, round=round_, start_epoch=0, stop_epoch=None)
    mask = weights[5].weight_mask.bool()
    assert torch.equal(weights[5].weight[mask], trained[5].weight[mask])


@pytest.mark.parametrize("rewind", ["weights", "learning_rate"])
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_resumed_search_ends_with_the_same_ticket(residual, tmp_path, rewind, stop):
    expected = lottery_ticket_(residual(), config(rewind=rewind), train_fn=Trainer())
    path = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        lottery_ticket_(
            residual(), config(rewind=rewind), train_fn=Trainer(fail_at=stop), on_round=lambda s: save_file(s, path)
        )
    train = Trainer()
    fresh = residual(zero_init=True)
    resumed = lottery_ticket_(fresh, config(rewind=rewind), train_fn=train, resume=load_file(path))
    assert train.calls == [(r, 2, None) for r in range(stop, 4)]
    for (name, t), u in zip(resumed.state_dict().items(), expected.state_dict().values(), strict=True):
        assert torch.equal(t, u), name


def test_a_finished_state_needs_no_training(mlp):
    states = []
    ticket = lottery_ticket_(mlp(), config(), train_fn=Trainer(), on_round=states.append)
    train = Trainer()
    again = lottery_ticket_(mlp(), config(), train_fn=train, resume=states[-1])
    assert train.calls == []
    assert all(torch.equal(t, again.state_dict()[name]) for name, t in ticket.state_dict().items())


def test_number_of_rounds(mlp):
    def rounds(ratio, **kwargs):
        return count_rounds(mlp(), LotteryConfig(PruneConfig(ratio=ratio), **kwargs))

    assert rounds(1 / 0.8) == 1
    assert rounds(1 / 0.8**2) == 2
    assert rounds(10.0) == 11  # 0.8^10 = 0.107, 0.8^11 = 0.086
    assert rounds(10.0, fraction=0.5) == 4
    assert rounds(10.0, rounds=1) == 1


def test_budgets_fall_together(residual):
    prune = PruneConfig(ratio=16.0, budgets={"stem": 6, "blocks.*": 0.25})
    model = lottery_ticket_(residual(), LotteryConfig(prune, rounds=2), train_fn=Trainer())
    kept = sparse_summary(model).kept_by_layer
    assert kept["stem"] == 6
    assert sum(count for name, count in kept.items() if name.startswith("blocks")) == 576
    assert kept["fc"] == 5


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"rounds": 0}, "rounds >= 1"),
        ({"rounds": 2.5}, "rounds >= 1 must hold, in whole numbers, but got rounds=2.5"),
        ({"fraction": 1.0}, "0 < fraction < 1"),
        ({"rewind_epoch": -1}, "rewind_epoch >= 0"),
        ({"rewind": "all"}, "rewind must be 'weights' or 'learning_rate', but got 'all'"),
    ],
)
def test_wrong_configurations(kwargs, message):
    with pytest.raises(ValueError, match=message):
        config(**kwargs)


@pytest.mark.parametrize(("method", "needs"), [("snip", "data"), ("synflow", "input")])
def test_methods_that_need_data_are_refused_before_anything_is_trained(method, needs):
    with pytest.raises(ValueError, match=f"pruned without data, but method='{method}' needs {needs}"):
        LotteryConfig(PruneConfig(method=method, ratio=4.0))


def test_a_state_of_another_model_is_an_error(mlp, residual):
    states = []
    lottery_ticket_(mlp(), config(), train_fn=Trainer(), on_round=states.append)
    with pytest.raises(ValueError, match="a lottery state must be of the model"):
        lottery_ticket_(residual(), config(), train_fn=Trainer(), resume=states[0])
    with pytest.raises(ValueError, match="a lottery state with rewind='learning_rate' is needed"):
        lottery_ticket_(mlp(), config(rewind="learning_rate"), train_fn=Trainer(), resume=states[0])
