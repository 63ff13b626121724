"""Optuna's samplers behind one interface, each over a bounded study."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIIISampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from search.proposing.blocks import BlockSampler, JointSampler, describe, draw
from search.proposing.history import Capacity, History
from search.proposing.known import Known
from search.proposing.past import Observation
from search.proposing.recombine import recombine
from search.space import Space, Suggestion
from search.space.suggestion import digest
from search.spec.fields import Scalar

POPULATION = 50


class Model(Protocol):
    """What proposes: with or without learning."""

    def ask(self, number: int, given: Mapping[str, Scalar], attempt: int) -> Suggestion:
        """Return proposal ``number``, with ``given`` parameters as they are; another one at each ``attempt``."""

    def tell(self, number: int, observation: Observation | None) -> None:
        """Learn what a proposal reached; ``None`` takes it back."""

    def learn(self, observation: Observation) -> None:
        """Learn from a trial that was not asked for."""

    def resume(self, number: int, params: Mapping[str, Scalar]) -> None:
        """Take up a proposal that is in flight."""


@dataclass(frozen=True)
class Kind:
    """How one of Optuna's samplers is used.

    Attributes:
        make: Builds the sampler from a seed and the number of random proposals at the start.
        capacity: How many results it sees.
        joint: Whether it needs the parameters of all methods at once.
        recombine: Whether every other proposal is a child of two of the best in place of the sampler's own.
    """

    make: Callable[[int, int], BaseSampler]
    capacity: Capacity
    joint: bool
    recombine: bool = False


def _tpe(seed: int, startup_trials: int) -> BaseSampler:
    return TPESampler(seed=seed, n_startup_trials=startup_trials, multivariate=True, constant_liar=True)


def _nsga2(seed: int, startup_trials: int) -> BaseSampler:
    return NSGAIISampler(seed=seed, population_size=POPULATION)


def _nsga3(seed: int, startup_trials: int) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return NSGAIIISampler(seed=seed, population_size=POPULATION)


def _gp(seed: int, startup_trials: int) -> BaseSampler:
    return GPSampler(seed=seed, n_startup_trials=startup_trials, warn_independent_sampling=False)


KINDS: Mapping[str, Kind] = {
    "tpe": Kind(_tpe, Capacity(best=50, recent=20, others=100, arrivals=60), joint=False, recombine=True),
    "nsga2": Kind(
        _nsga2,
        Capacity(best=POPULATION, recent=0, others=0, arrivals=6 * POPULATION),
        joint=True,
    ),
    "nsga3": Kind(
        _nsga3,
        Capacity(best=POPULATION, recent=0, others=0, arrivals=6 * POPULATION),
        joint=True,
    ),
    "gp": Kind(_gp, Capacity(best=50, recent=25, others=50, arrivals=25), joint=True),
}


class StudyModel:
    """Proposes by one of Optuna's samplers, over a study that is built anew from a bounded history now and then.

    Each proposal gets a sampler seeded by its number, so that what is proposed depends on the results told before
    and on nothing else: a search that was interrupted proposes what an uninterrupted one does.
    """

    def __init__(self, space: Space, kind: Kind, *, seed: int, startup_trials: int) -> None:
        self._space = space
        self._kind = kind
        self._seed = seed
        self._startup_trials = startup_trials
        self._history = History(kind.capacity, seed)
        self._sampler = (JointSampler if kind.joint else BlockSampler)(space, kind.make(seed, startup_trials))
        self._study: optuna.Study | None = None
        self._asked = 0
        # What the history keeps, as the study holds it, by the identity of the observation, which is held beside it.
        self._known: dict[int, tuple[Observation, Known]] = {}
        # Proposals in flight: their parameters, and their number in the study.
        self._running: dict[int, dict[str, Scalar]] = {}
        self._place: dict[int, int] = {}

    def ask(self, number: int, given: Mapping[str, Scalar], attempt: int) -> Suggestion:
        """Return proposal ``number``. See :class:`Model`."""
        if self._study is None or self._asked >= 2 * self._kind.capacity.arrivals:
            self._study = self._build()
        self._asked += 1
        seed = digest([self._seed, number, attempt]) % 2**32
        self._sampler.inner = self._kind.make(seed, self._startup_trials)
        self._sampler.given = given
        if self._kind.recombine and not given and number % 2 and len(self._history.kept) > self._startup_trials:
            self._sampler.inner = RandomSampler(seed)
            self._sampler.given = recombine(self._history.best(POPULATION), np.random.default_rng(seed))
        trial = self._study.ask()
        suggestion = self._space.suggest(trial)
        if isinstance(self._sampler, JointSampler):
            for name, distribution in self._sampler.everything.items():
                draw(trial, name, distribution)
        self._running[number] = trial.params
        self._place[number] = trial.number
        return suggestion

    def tell(self, number: int, observation: Observation | None) -> None:
        """Learn what a proposal reached. See :class:`Model`."""
        params = self._running.pop(number)
        if self._study is not None:
            # A trial in flight cannot be given all that a finished one has, so a finished one takes its place.
            self._study.tell(self._place.pop(number), state=TrialState.FAIL)
        if observation is not None:
            self.learn(replace(observation, params=params))

    def learn(self, observation: Observation) -> None:
        """Learn from a trial that was not asked for. See :class:`Model`."""
        if self._history.add(observation):
            self._study = None
        elif self._study is not None:
            self._add(self._study, observation.params, observation)

    def resume(self, number: int, params: Mapping[str, Scalar]) -> None:
        """Take up a proposal that is in flight. See :class:`Model`."""
        self._running[number] = dict(params)
        self._study = None

    def _build(self) -> optuna.Study:
        """Make a study of what is remembered and of what is in flight."""
        with _quiet():
            study = optuna.create_study(directions=["minimize", "minimize"], sampler=self._sampler)
        kept = {id(observation) for observation in self._history.kept}
        self._known = {key: pair for key, pair in self._known.items() if key in kept}
        for observation in self._history.kept:
            self._add(study, observation.params, observation)
        self._place = {number: self._add(study, params, None) for number, params in self._running.items()}
        self._asked = 0
        return study

    def _add(self, study: optuna.Study, params: Mapping[str, Scalar], observation: Observation | None) -> int:
        """Add a trial, in flight where there is no observation, and return its number in the study."""
        number = len(study.get_trials(deepcopy=False))
        inner = self._sampler.inner
        genetic = inner if isinstance(inner, NSGAIISampler | NSGAIIISampler) else None
        study.add_trial(self._describe(params, observation, finished=genetic is None))
        if genetic and observation:
            # A generation is given to trials in flight only.
            genetic.get_trial_generation(study, study.get_trials(deepcopy=False)[number])
            study.tell(number, observation.losses)
        return number

    def _describe(self, params: Mapping[str, Scalar], observation: Observation | None, *, finished: bool) -> Known:
        """Return a trial for the study; of what the history keeps it is made once."""
        if observation is not None and id(observation) in self._known:
            return self._known[id(observation)][1]
        described = describe(self._space, params)
        if isinstance(self._sampler, JointSampler):
            for name, distribution in self._sampler.everything.items():
                draw(described, name, distribution)
        known = Known.make(
            described.drawn,
            described.distributions,
            losses=observation.losses if finished and observation else None,
            constraints=observation.constraints if observation else (),
        )
        if observation is not None:
            self._known[id(observation)] = observation, known
        return known


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from announcing a study that nobody sees, and leave its logging as it was."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
