"""Optuna's samplers behind one interface, each over a bounded study."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIIISampler, NSGAIISampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from search.proposing.blocks import BlockSampler, JointSampler, describe
from search.proposing.history import Capacity, History
from search.proposing.known import Known
from search.proposing.past import Observation
from search.proposing.recombine import recombine
from search.space import METHOD, CubeTrial, Space, Suggestion
from search.space.suggestion import digest
from search.spec.fields import Scalar

POPULATION = 50
# Results that make a search a long one.
LONG = 300
# With up to so many proposals in flight they are moved behind each result; with more that costs more than to have the
# results come to places before them.
MOVED = 64


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
        recombine: Whether in a long search four of five proposals are children of two of the best in place of the
            sampler's own: those cost ten times as much, and find combinations of many parameters later. In a short
            one there are too few good parents, and the sampler's own are better.
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
    "tpe": Kind(_tpe, Capacity(best=50, recent=20, others=30, arrivals=60), joint=False, recombine=True),
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

    Each proposal gets a sampler seeded by its number, so that what is proposed depends on the results told before and
    on what is in flight: a search that was interrupted proposes what an uninterrupted one does.
    """

    def __init__(self, space: Space, kind: Kind, *, seed: int, startup_trials: int) -> None:
        self._space = space
        self._kind = kind
        self._seed = seed
        self._startup_trials = startup_trials
        self._history = History(kind.capacity, seed)
        self._sampler = (JointSampler if kind.joint else BlockSampler)(
            # Optuna takes 32 bits.
            space,
            kind.make(digest([seed]) % 2**32, startup_trials),
        )
        self._study: optuna.Study | None = None
        self._asked = 0
        self._learned = 0
        # What the history keeps, as the study holds it, by the identity of the observation, which is held beside it.
        self._known: dict[int, tuple[Observation, Known]] = {}
        # Places of results to come, before what is in flight; without any, results stand behind it at first.
        self._free: deque[optuna.Trial] = deque()
        self._behind = False
        # Of a genetic sampler: the last generation whose parents are selected.
        self._generation = 0
        # Proposals in flight: as a study holds them, and their number in this one.
        self._running: dict[int, FrozenTrial] = {}
        self._place: dict[int, int] = {}

    def ask(self, number: int, given: Mapping[str, Scalar], attempt: int) -> Suggestion:
        """Return proposal ``number``. See :class:`Model`."""
        if self._study is None or self._asked >= 2 * self._kind.capacity.arrivals:
            self._study = self._build()
        self._asked += 1
        seed = digest([self._seed, number, attempt]) % 2**32
        modelled = self._learned >= self._startup_trials
        long = modelled and self._learned >= LONG
        if self._kind.recombine and long and given.keys() <= {METHOD} and number % 5:
            return self._recombine(number, given, np.random.default_rng(seed))
        if self._genetic:
            self._select_parents(self._study)
        elif self._behind and len(self._running) <= MOVED:
            self._place_running(self._study)
        elif self._behind:
            self._study = self._build()
        # Optuna would count the results that are kept.
        self._sampler.inner = self._kind.make(seed, 0 if modelled else self._startup_trials)
        self._sampler.given = given
        trial = self._study.ask()
        suggestion = self._space.suggest(trial)
        self._sampler.complete(trial, suggestion.params)
        self._running[number] = self._study.get_trials(deepcopy=False)[trial.number]
        self._place[number] = trial.number
        return suggestion

    def _recombine(self, number: int, given: Mapping[str, Scalar], rng: np.random.Generator) -> Suggestion:
        """Return a child of two of the best. Optuna has no part in it, and learns of it as of a proposal in flight."""
        parents = [self._known[id(observation)][1] for observation in self._history.best(POPULATION)]
        suggestion = self._space.suggest(CubeTrial(iter(rng.random, None), {**recombine(parents, rng), **given}))
        self.resume(number, suggestion.params)
        return suggestion

    def tell(self, number: int, observation: Observation | None) -> None:
        """Learn what a proposal reached. See :class:`Model`."""
        running = self._running.pop(number)
        if self._study is not None:
            # A trial in flight cannot be given all that a finished one has, so a finished one takes its place.
            self._study.tell(self._place.pop(number), state=TrialState.FAIL)
        if observation is not None:
            self._learn(replace(observation, params=running.params), running)

    def learn(self, observation: Observation) -> None:
        """Learn from a trial that was not asked for. See :class:`Model`."""
        self._learn(observation, self._describe(observation.params))

    def _learn(self, observation: Observation, trial: FrozenTrial) -> None:
        known = Known.make(
            trial.params,
            trial.distributions,
            losses=None if self._genetic else observation.losses,
            constraints=observation.constraints,
        )
        self._known[id(observation)] = observation, known
        self._learned += 1
        if self._history.add(observation):
            self._study = None
            self._known = {id(kept): self._known[id(kept)] for kept in self._history.kept}
        elif self._study is not None:
            if self._free:
                self._sampler.copy(known, self._free[0])
                self._study.tell(self._free.popleft(), observation.losses)
            else:
                self._add(self._study, known, observation)
                self._behind = bool(self._running)

    def resume(self, number: int, params: Mapping[str, Scalar]) -> None:
        """Take up a proposal that is in flight. See :class:`Model`."""
        running = self._describe(params)
        self._running[number] = running
        if self._study is not None:
            self._place[number] = self._add(self._study, running)

    def _build(self) -> optuna.Study:
        """Make a study of what is remembered and of what is in flight; of many, behind places for what comes.

        A place is a trial in flight without parameters, which samplers leave out. There is one for each result that
        comes before the memory is thinned.
        """
        with _quiet():
            study = optuna.create_study(directions=["minimize", "minimize"], sampler=self._sampler)
        for observation, known in self._known.values():
            self._add(study, known, observation)
        capacity = self._kind.capacity
        many = len(self._running) > MOVED and not self._genetic
        free = capacity.kept + capacity.arrivals - len(self._history.kept) if many else 0
        self._free = deque(study.ask() for _ in range(free))
        self._place = {}
        self._place_running(study)
        self._asked = 0
        self._generation = 0
        return study

    def _select_parents(self, study: optuna.Study) -> None:
        """Select the parents of each generation once all that came before has ended, by a chance of its own.

        Optuna would at the first proposal of a generation, by the chance of that one, and use them in another order
        for it than for all others.
        """
        ended = len(self._history.kept) // POPULATION
        for generation in range(self._generation + 1, ended + 1):
            sampler = self._kind.make(digest([self._seed, generation]) % 2**32, 0)
            assert isinstance(sampler, NSGAIISampler | NSGAIIISampler)
            sampler.get_parent_population(study, generation)
        self._generation = ended

    def _place_running(self, study: optuna.Study) -> None:
        """Put what is in flight behind what ended, wherever it was.

        TPE weighs trials by their order, and a restored search knows the order in which trials ended only.
        """
        for place in self._place.values():
            study.tell(place, state=TrialState.FAIL)
        self._place = {
            number: self._add(study, Known.make(trial.params, trial.distributions))
            for number, trial in self._running.items()
        }
        self._behind = False

    @property
    def _genetic(self) -> NSGAIISampler | NSGAIIISampler | None:
        """The sampler, if it is one that counts generations."""
        inner = self._sampler.inner
        return inner if isinstance(inner, NSGAIISampler | NSGAIIISampler) else None

    def _add(self, study: optuna.Study, trial: Known, observation: Observation | None = None) -> int:
        """Add a trial, in flight where there is no observation, and return its number in the study."""
        number = len(study.get_trials(deepcopy=False))
        study.add_trial(trial)
        if self._genetic and observation:
            # A generation is given to trials in flight only.
            self._genetic.get_trial_generation(study, study.get_trials(deepcopy=False)[number])
            study.tell(number, observation.losses)
        return number

    def _describe(self, params: Mapping[str, Scalar]) -> Known:
        """Return a trial in flight with these parameters."""
        described = describe(self._space, {**self._sampler.others(params), **params})
        self._sampler.complete(described, params)
        return Known.make(described.drawn, described.distributions)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from announcing a study that nobody sees, and leave its logging as it was."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
