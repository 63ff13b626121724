"""Proposing trials and learning from their results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from search.proposing.cube import CubeModel
from search.proposing.grid import grid, whole_space
from search.proposing.models import KINDS, Model, StudyModel
from search.proposing.past import Past, Status, observe
from search.proposing.per_method import PerMethod
from search.space import Space, Suggestion
from search.spec.fields import Scalar

# A sampler that has converged repeats itself in a small space; then chance takes over, and then the first that is new.
ATTEMPTS = 3
RANDOM_ATTEMPTS = 30


class ExhaustedError(Exception):
    """Every configuration was proposed, or none that is new was found."""


class Proposer:
    """Proposes trials, one at a time, and learns from what they reach: accuracy up, memory down.

    What is proposed is a function of the seed and of the order of the calls.
    """

    def __init__(
        self, space: Space, *, sampler: str = "tpe", seed: int = 0, startup_trials: int = 10, enqueue_known: bool = True
    ) -> None:
        """Start with nothing known.

        Args:
            space: What may be proposed.
            sampler: tpe, nsga2, nsga3, gp, random, qmc or grid.
            seed: Seed of the sampler.
            startup_trials: Results that a model needs before it proposes; until then chance does.
            enqueue_known: Propose the well-known allocations first (not for a grid, which is what it is).

        Raises:
            UserError: If the grid is too large.
        """
        self._space = space
        self._seed = seed
        self._chance = CubeModel("random", space, seed + 1)
        self._model = _model(sampler, space, seed, startup_trials)
        self._first: list[dict[str, Scalar]] = space.known() if enqueue_known and sampler != "grid" else []
        points = grid(space, seed) if sampler == "grid" else []
        self._grid = iter(points) if sampler == "grid" else None
        self._grid_size = len(points)
        self._keys: set[int] = set()
        self._in_flight: dict[int, Suggestion] = {}
        self._next = 0

    def ask(self) -> tuple[int, Suggestion]:
        """Return the number of a new proposal, dense from 0, and a configuration that is not known yet.

        Raises:
            ExhaustedError: If there is none left.
        """
        number = self._next
        for suggestion in self._candidates(number):
            if suggestion.key not in self._keys:
                break
            self._model.tell(number, None)
        else:
            raise ExhaustedError(self._what_is_exhausted())
        self._next += 1
        self._keys.add(suggestion.key)
        self._in_flight[number] = suggestion
        return number, suggestion

    def _candidates(self, number: int) -> Iterator[Suggestion]:
        """Yield what might be proposed, each time as a proposal in flight."""
        if self._grid is not None:
            yield from (self._model.ask(number, point, 0) for point in self._grid)
            return
        if number < len(self._first):
            yield self._model.ask(number, self._first[number], 0)
        for attempt in range(ATTEMPTS):
            yield self._model.ask(number, {}, attempt)
        for attempt in range(RANDOM_ATTEMPTS):
            yield self._model.ask(number, self._chance.ask(number, {}, attempt).params, 0)
        points, _ = self._rest
        yield from (self._model.ask(number, point, 0) for point in points)

    @cached_property
    def _rest(self) -> tuple[Iterator[dict[str, Scalar]], bool]:
        """The points of a space of choices and whole numbers that were not walked past, and whether they are all."""
        points, all_of_it = whole_space(self._space, self._seed)
        return iter(points), all_of_it

    def _what_is_exhausted(self) -> str:
        if self._grid is not None:
            return f"all {self._grid_size} points of the grid were proposed"
        _, all_of_it = self._rest
        if all_of_it:
            return f"all {len(self._keys)} configurations of the space were proposed"
        return f"nothing new was found beside the {len(self._keys)} configurations that were proposed"

    def tell(
        self,
        number: int,
        *,
        status: Status,
        accuracy: float | None = None,
        memory: float | None = None,
        constraints: Sequence[float] = (),
    ) -> None:
        """Learn how a proposal ended. One that failed, or whose values are missing or not finite, is forgotten.

        Args:
            number: The number that ``ask`` returned.
            status: finished, pruned (stopped early; what it reached counts) or failed.
            accuracy: Validation accuracy, the mean over repeats.
            memory: Memory, in the unit the search minimises.
            constraints: One value for each constraint, at most 0 where it is met.

        Raises:
            ValueError: If the proposal is not in flight.
        """
        if number not in self._in_flight:
            raise ValueError(f"only a proposal in flight can be told, but got {number}; in flight are those asked for")
        params = self._in_flight.pop(number).params
        self._model.tell(number, observe(Past(params, status, number, accuracy, memory, tuple(constraints))))

    def restore(self, history: Iterable[Past]) -> None:
        """Learn from earlier proposals, in the order in which they ended, then those that are still in flight."""
        for past in history:
            suggestion = self._space.replay(past.params)
            self._keys.add(suggestion.key)
            if past.number is not None:
                self._next = max(self._next, past.number + 1)
            if past.status == "running":
                if past.number is None:
                    raise ValueError(f"a proposal in flight must have a number, but got {past}")
                self._in_flight[past.number] = suggestion
                self._model.resume(past.number, past.params)
            elif observation := observe(past):
                self._model.learn(observation)

    @property
    def in_flight(self) -> dict[int, Suggestion]:
        """Proposals that were asked for and not told, by number."""
        return dict(self._in_flight)


def _model(sampler: str, space: Space, seed: int, startup_trials: int) -> Model:
    if sampler in KINDS:
        kind = KINDS[sampler]
        if kind.joint or len(space.methods) == 1:
            return StudyModel(space, kind, seed=seed, startup_trials=startup_trials)
        return PerMethod(space, kind, seed=seed, startup_trials=startup_trials)
    return CubeModel("qmc" if sampler == "qmc" else "random", space, seed)
