"""Asynchronous successive halving with two objectives (MO-ASHA, Schmucker et al. 2021, arXiv:2106.12639).

A trial that reaches a rung is ranked among the trials that reached it before, by non-dominated front and, within a
front, by an epsilon-net. Nothing waits: the verdict falls with what is known at that moment. This is the stopping form
of ASHA: a trial that was stopped stays stopped.

Three things differ from the paper, where the first one in ``reduction_factor`` goes on at its powers. What a search is
asked for is a front, so a trial that none equals or dominates always goes on: the paper's rule loses members of the
front while few have reached a rung. Rungs lie at the powers of its square root: accuracies after the first epochs are
mostly noise, so that it is better to judge mildly soon and again a little later, while a trial that the front keeps
alive costs most of its epochs after the last rung. And from the second rung on a trial that is no more accurate than
the reference point of the hypervolume ranks behind all that are, or the smallest models would go on though they only
guess; at the first rung many still guess that end on the front. Together they reach the hypervolume of a search without
stopping earlier: benchmarks/early_stopping.py.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import Literal

import numpy as np

from search.stopping.ranking import adds_nothing, top

Verdict = Literal["continue", "stop"]

# A rung compares with its latest arrivals only, so that a report costs the same after ten thousand trials.
WINDOW = 1000
# Added to the logarithm of a memory: more than any is.
BEHIND = 1000.0


def rung_levels(grace_epochs: int, reduction_factor: float, max_epochs: int) -> tuple[int, ...]:
    """Return the epochs at which trials are judged: ``grace_epochs * reduction_factor**(k/2)`` below ``max_epochs``."""
    levels: list[int] = []
    level = float(grace_epochs)
    while round(level) < max_epochs:
        if not levels or round(level) > levels[-1]:
            levels.append(round(level))
        level *= math.sqrt(reduction_factor)
    return tuple(levels)


class MOASHA:
    """Says of each report whether its trial goes on.

    A restart needs no state of its own: :meth:`recall` takes the epochs again, in any order that keeps each trial's
    own. It judges none of them: they were, while fewer had reached the rung.
    """

    def __init__(
        self, *, grace_epochs: int, reduction_factor: float, max_epochs: int, reference_accuracy: float = 0.0
    ) -> None:
        """Build empty rungs.

        Args:
            grace_epochs: Epochs that every trial may train, at least 1.
            reduction_factor: Rungs lie at the powers of its square root, and of the trials that are not on the front
                only those go on that are among the first one in this many; above 1.
            max_epochs: Epochs of a trial that is never stopped.
            reference_accuracy: Accuracy of the reference point of the hypervolume. From the second rung on, a
                trial that is no better ranks behind all that are, however small its model.

        Raises:
            ValueError: If ``grace_epochs`` or ``reduction_factor`` is out of range.
        """
        if grace_epochs < 1 or reduction_factor <= 1:
            raise ValueError(
                "grace_epochs >= 1 and reduction_factor > 1 must hold, "
                f"but got grace_epochs={grace_epochs}, reduction_factor={reduction_factor}"
            )
        self._factor = reduction_factor
        self._reference_accuracy = reference_accuracy
        self.levels = rung_levels(grace_epochs, reduction_factor, max_epochs)
        # For each level the losses (negated accuracy, log of memory) of the trials that reached it, oldest first.
        self._rungs: dict[int, dict[str, tuple[float, float]]] = {level: {} for level in self.levels}

    def report(self, trial_id: str, epoch: int, accuracy: float, memory: float) -> Verdict:
        """Take a trial's result after an epoch and say whether it goes on.

        Args:
            trial_id: Names the trial.
            epoch: Epochs trained so far, from 1.
            accuracy: Validation accuracy; one that is not finite ranks last.
            memory: Memory of the trial's model, above 0.
        """
        reached = self._enter(trial_id, epoch, accuracy, memory)
        return self._judge_latest(reached[-1]) if reached else "continue"

    def recall(self, trial_id: str, epoch: int, accuracy: float, memory: float) -> None:
        """Take a trial's result that was judged before a restart. See :meth:`report`."""
        self._enter(trial_id, epoch, accuracy, memory)

    def _enter(self, trial_id: str, epoch: int, accuracy: float, memory: float) -> list[int]:
        """Place a trial on the rungs that it has reached, and return those that are new to it."""
        reached = [level for level in self.levels if level <= epoch and trial_id not in self._rungs[level]]
        loss = -accuracy if math.isfinite(accuracy) else 0.0
        behind = 0.0 if accuracy > self._reference_accuracy else BEHIND
        for level in reached:
            # At the first rung many only guess that do well later.
            self._rungs[level][trial_id] = (loss, math.log(memory) + (behind if level > self.levels[0] else 0.0))
        return reached

    def _judge_latest(self, level: int) -> Verdict:
        rung = self._rungs[level]
        if len(rung) < self._factor:
            return "continue"
        # Oldest first: of equals the ones that came before have the places.
        losses = np.array(list(islice(reversed(rung.values()), WINDOW)))[::-1]
        if not adds_nothing(losses[-1], losses[:-1]):
            return "continue"
        places = math.ceil(len(losses) / self._factor)
        return "continue" if len(losses) - 1 in top(losses, places) else "stop"
