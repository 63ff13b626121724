"""Proposing trials and learning from their results."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from search.space import Replay, Space, Suggestion
from search.spec.fields import Scalar

Status = Literal["finished", "pruned", "failed", "running"]
ATTEMPTS = 20
DIRECTIONS: tuple[Literal["maximize"], Literal["minimize"]] = ("maximize", "minimize")


class ExhaustedError(Exception):
    """The space holds no configuration that was not proposed before."""


@dataclass(frozen=True)
class Past:
    """One earlier proposal and what came of it.

    Attributes:
        params: Its flat parameters: ``Suggestion.params``.
        status: How it ended; ``"running"`` for one that is still in flight.
        number: Its number in this search; ``None`` for one of an earlier search (warm start).
        accuracy: Validation accuracy (mean over repeats).
        memory: Memory, in the unit the search minimises.
        constraints: One value for each constraint, at most 0 where it is met.
    """

    params: Mapping[str, Scalar]
    status: Status
    number: int | None = None
    accuracy: float | None = None
    memory: float | None = None
    constraints: Sequence[float] = ()


class Proposer:
    """Proposes trials, one at a time, and learns from what they reach: accuracy up, memory down.

    The proposals are a function of the seed and of the order of the calls.
    """

    def __init__(
        self, space: Space, *, sampler: str = "tpe", seed: int = 0, startup_trials: int = 10, enqueue_known: bool = True
    ) -> None:
        """Start with nothing known.

        Args:
            space: What may be proposed.
            sampler: Name of the sampler: tpe, nsga2, nsga3, gp, random, qmc or grid.
            seed: Seed of the sampler.
            startup_trials: Random proposals before the sampler models anything.
            enqueue_known: Try the well-known allocations first.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        sampler_ = optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=startup_trials, multivariate=True, group=True, constant_liar=True
        )
        self._study = optuna.create_study(directions=DIRECTIONS, sampler=sampler_)
        self._known: set[int] = set()
        self._open: dict[int, optuna.Trial] = {}
        self._next = 0
        self._queue = list(space.known())[::-1] if enqueue_known else []

    def ask(self) -> tuple[int, Suggestion]:
        """Return the number of a new proposal, dense from 0, and the proposal. It is none that is already known.

        Raises:
            ExhaustedError: If there is no other.
        """
        for _ in range(ATTEMPTS):
            if self._queue:
                self._study.enqueue_trial(self._queue.pop())
            trial = self._study.ask()
            suggestion = self._space.suggest(trial)
            if suggestion.key not in self._known:
                break
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            raise ExhaustedError("every configuration of the space was proposed")
        self._known.add(suggestion.key)
        number, self._next = self._next, self._next + 1
        self._open[number] = trial
        return number, suggestion

    def tell(
        self,
        number: int,
        *,
        status: Status,
        accuracy: float | None = None,
        memory: float | None = None,
        constraints: Sequence[float] = (),
    ) -> None:
        """Learn how a proposal ended. What is missing or not finite makes it a failed one.

        Args:
            number: The number that ``ask`` returned.
            status: finished, pruned (stopped early; its last values count) or failed.
            accuracy: Validation accuracy, the mean over repeats.
            memory: Memory, in the unit the search minimises.
            constraints: One value for each constraint, at most 0 where it is met.
        """
        trial = self._open.pop(number)
        values = _values(status, accuracy, memory)
        if values is None:
            self._study.tell(trial, state=TrialState.FAIL)
            return
        for index, value in enumerate(constraints):
            trial.set_constraint(str(index), value)
        self._study.tell(trial, values)

    def restore(self, history: Iterable[Past]) -> None:
        """Learn from earlier proposals, in the order of their ends; those still running stay open."""
        for past in history:
            replay = _Described(past.params)
            suggestion = self._space.suggest(replay)
            self._known.add(suggestion.key)
            values = _values(past.status, past.accuracy, past.memory)
            state = TrialState.RUNNING if past.status == "running" else TrialState.COMPLETE
            self._study.add_trial(
                optuna.trial.create_trial(
                    state=state if values or past.status == "running" else TrialState.FAIL,
                    values=values,
                    params=replay.drawn,
                    distributions=replay.distributions,
                    constraints={str(i): v for i, v in enumerate(past.constraints)},
                )
            )
            if past.number is not None:
                self._next = max(self._next, past.number + 1)
            if past.status == "running":
                assert past.number is not None, "a running trial belongs to this search"
                last = self._study._storage.get_all_trials(self._study._study_id, deepcopy=False)[-1]
                self._open[past.number] = optuna.Trial(self._study, last._trial_id)


def _values(status: Status, accuracy: float | None, memory: float | None) -> list[float] | None:
    if status not in ("finished", "pruned") or accuracy is None or memory is None:
        return None
    values = [float(accuracy), float(memory)]
    return values if all(math.isfinite(value) for value in values) else None


class _Described(Replay):
    """Replays parameters and keeps the distributions they were drawn from."""

    def __init__(self, given: Mapping[str, Scalar]) -> None:
        super().__init__(given)
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.distributions[name] = FloatDistribution(low, high, log=log)
        return super().suggest_float(name, low, high, log=log)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        self.distributions[name] = IntDistribution(low, high, log=log)
        return super().suggest_int(name, low, high, log=log)

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        self.distributions[name] = CategoricalDistribution(choices)
        return super().suggest_categorical(name, choices)
