"""Lottery tickets: iterative magnitude pruning with rewinding (arXiv:1912.05671, arXiv:2003.02389)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from baselines.layers import prunable_weights
from baselines.layout import stored_buffers
from baselines.masks import apply_masks_, masks_of
from baselines.pruning import PruneConfig, prune_
from baselines.scorers import find_method
from baselines.selection import check_count
from rps_core.budgets import Group, layer_name, resolve_budgets

LotteryState = dict[str, Tensor]
"""All that a search for a ticket needs to go on, as plain tensors: save it with safetensors.

``round`` (the number of rounds done), ``rewind/<name>`` (the early weights and buffers), ``mask/<name>`` and, where
weights are not rewound, ``model/<name>``.
"""


class TrainFn(Protocol):
    """Trains a model in place with a fresh optimizer, along the learning-rate schedule between two epochs."""

    def __call__(self, model: nn.Module, *, round: int, start_epoch: float, stop_epoch: float | None) -> None:
        """Train from ``start_epoch`` to ``stop_epoch``; None is the end of the schedule.

        ``round`` is 0 for the training up to the rewind epoch, then 1, 2, ...: a seed for the order of the data, and
        the key of the caller's own checkpoints within a round.
        """


@dataclass(frozen=True)
class LotteryConfig:
    """How a lottery ticket is searched for.

    Attributes:
        prune: The final ticket: its ratio, budgets and scope. The method is applied in every round; it has to be one
            that needs no data, as ``"mag"``.
        rounds: Number of rounds of training, pruning and rewinding; the density falls by the same factor in each.
            None takes as many as it takes to remove ``fraction`` a round.
        fraction: Share of the remaining weights that a round removes where ``rounds`` is None, in (0, 1).
        rewind_epoch: Epoch to go back to after each round, >= 0; parts of an epoch are steps. 0 is initialisation.
        rewind: ``"weights"`` sets weights and buffers back to the rewind epoch, and the schedule with them;
            ``"learning_rate"`` sets only the schedule back and goes on from the trained weights.
    """

    prune: PruneConfig
    rounds: int | None = None
    fraction: float = 0.2
    rewind_epoch: float = 0
    rewind: Literal["weights", "learning_rate"] = "weights"

    def __post_init__(self) -> None:
        if self.rounds is not None:
            check_count("rounds", self.rounds, least=1)
        if not 0 < self.fraction < 1:
            raise ValueError(f"0 < fraction < 1 must hold, but got fraction={self.fraction}")
        if not self.rewind_epoch >= 0:
            raise ValueError(f"rewind_epoch >= 0 must hold, but got rewind_epoch={self.rewind_epoch}")
        if self.rewind not in ("weights", "learning_rate"):
            raise ValueError(f"rewind must be 'weights' or 'learning_rate', but got {self.rewind!r}")
        if (needs := find_method(self.prune.method).needs) != "nothing":
            raise ValueError(f"tickets are pruned without data, but method={self.prune.method!r} needs {needs}")


def count_rounds(model: nn.Module, config: LotteryConfig) -> int:
    """Return the number of rounds: the given one, or the least r with (1 - fraction)^r <= the ticket's density."""
    if config.rounds is not None:
        return config.rounds
    groups = _groups(model, config.prune)
    density = sum(group.kept for group in groups) / sum(group.size for group in groups)
    # The tolerance makes density 0.8 one round of 0.2 in spite of the rounding of counts and logarithms.
    return max(1, math.ceil(math.log(density) / math.log1p(-config.fraction) - 1e-3))


class Ticket:
    """A lottery ticket in the making, for callers that train in their own time: `lottery_ticket_` step by step.

    Call :meth:`remember` at the rewind epoch and :meth:`next_round` each time the training has come to its end.

    Attributes:
        rounds: Number of rounds of pruning and rewinding in all.
        done: Number of those that are done.
    """

    def __init__(self, model: nn.Module, config: LotteryConfig) -> None:
        """Plan the rounds for a freshly initialised model.

        Args:
            model: The model, which the rounds change in place.
            config: The ticket, the rounds and the rewinding.

        Raises:
            ValueError: If the budgets do not fit the model.
        """
        self.rounds = count_rounds(model, config)
        self.done = 0
        self._model = model
        self._config = config
        self._densities = {group.name: group.kept / group.size for group in _groups(model, config.prune)}
        self._early: dict[str, Tensor] = {}

    def remember(self) -> None:
        """Keep a copy of the weights and buffers as they are now, to rewind to."""
        self._early = _snapshot(self._model)

    def next_round(self) -> None:
        """Prune by one round's share, and rewind.

        Raises:
            ValueError: As `prune_` does.
        """
        assert self.done < self.rounds, "every round is done"
        assert self._early, "there is nothing to rewind to: call remember at the rewind epoch"
        self.done += 1
        prune_(self._model, _at_round(self._config.prune, self._densities, self.done / self.rounds))
        if self._config.rewind == "weights":
            _load_(self._model, self._early)

    def state(self) -> LotteryState:
        """Return copies of all that is needed to go on after a round."""
        state = {"round": torch.tensor(self.done)}
        state |= {f"rewind/{name}": tensor.clone() for name, tensor in self._early.items()}
        state |= {f"mask/{name}": mask.bool() for name, mask in masks_of(self._model).items()}
        if self._early and self._config.rewind == "learning_rate":
            state |= {f"model/{name}": tensor for name, tensor in _snapshot(self._model).items()}
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Put a state into the model, a freshly built one, and go on from there.

        Raises:
            ValueError: If it is the state of another model or another way of rewinding.
        """
        parts: dict[str, dict[str, Tensor]] = {"rewind": {}, "mask": {}, "model": {}}
        for key, tensor in state.items():
            part, slash, name = key.partition("/")
            if slash and part in parts:
                parts[part][name] = tensor
        rewind = self._config.rewind
        current = parts["rewind" if rewind == "weights" else "model"]
        if "round" not in state or (not current and state.keys() != {"round"}):
            raise ValueError(f"a lottery state with rewind={rewind!r} is needed, but its keys are {sorted(state)}")
        if current:
            _load_(self._model, current)
        apply_masks_(self._model, parts["mask"])
        self.done = int(state["round"])
        self._early = {name: tensor.clone() for name, tensor in parts["rewind"].items()}


def lottery_ticket_(
    model: nn.Module,
    config: LotteryConfig,
    *,
    train_fn: TrainFn,
    on_round: Callable[[LotteryState], None] | None = None,
    resume: Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """Turn a freshly initialised model into a lottery ticket, in place.

    Trains to the rewind epoch; then, in each round, trains to the end, prunes and rewinds. The ticket is left at
    ``rewind_epoch``: its own training from there on is the caller's, and is what the ticket is judged by.

    Args:
        model: The model; with ``resume``, a freshly built one of the same architecture.
        config: The ticket, the rounds and the rewinding.
        train_fn: Trains the model.
        on_round: Called with the state after the training to the rewind epoch and after each round; its tensors are
            copies.
        resume: A state to go on from; the rounds that it has done are not done again.

    Returns:
        ``model``.

    Raises:
        ValueError: As `prune_` does, or if ``resume`` is the state of another model.
    """
    ticket = Ticket(model, config)
    if resume is None:
        if config.rewind_epoch > 0:
            train_fn(model, round=0, start_epoch=0, stop_epoch=config.rewind_epoch)
        ticket.remember()
        _report(on_round, ticket)
    else:
        ticket.restore(resume)
    while ticket.done < ticket.rounds:
        train_fn(model, round=ticket.done + 1, start_epoch=config.rewind_epoch, stop_epoch=None)
        ticket.next_round()
        _report(on_round, ticket)
    return model


def _report(on_round: Callable[[LotteryState], None] | None, ticket: Ticket) -> None:
    if on_round is not None:
        on_round(ticket.state())


def _groups(model: nn.Module, config: PruneConfig) -> tuple[Group, ...]:
    weights = prunable_weights(model, include=config.include, exclude=config.exclude)
    sizes = {layer_name(name): weight.numel() for name, weight in weights.items()}
    return resolve_budgets(sizes, ratio=config.ratio, budgets=config.budgets)


def _at_round(config: PruneConfig, densities: Mapping[str, float], progress: float) -> PruneConfig:
    """Return the pruning after a share ``progress`` in (0, 1] of the rounds."""
    if progress == 1:
        return config
    budgets = {pattern: densities[pattern] ** progress for pattern in config.budgets}
    return dataclasses.replace(config, ratio=config.ratio**progress, budgets=budgets)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **stored_buffers(model)}


def _snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in _tensors(model).items()}


@torch.no_grad()
def _load_(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Set parameters and buffers; weights that are masked become zero."""
    tensors = _tensors(model)
    wrong = {name for name, t in tensors.items() if name not in values or values[name].shape != t.shape}
    wrong |= values.keys() - tensors.keys()
    if wrong:
        raise ValueError(f"a lottery state must be of the model it is loaded into, but differs in {sorted(wrong)}")
    for name, tensor in tensors.items():
        tensor.copy_(values[name])
    for name, mask in masks_of(model).items():
        tensors[name].mul_(mask)
