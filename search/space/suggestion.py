"""What one proposal says, before data, model and training recipe make a trial of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from search.spec.fields import Scalar

METHOD = "method"
# In the name of a parameter: between a method and the group whose share of the memory it is.
SHARE = ".share."
# Between a method and a further argument of it.
ARGUMENT = ".arg."
# After a method: the parameter that says how closely its budgets follow Erdos-Renyi-kernel.
ERK_POWER = ".erk_power"
# The fields that a suggestion and the configuration of its trials have in common.
SETTINGS = ("method", "ratio", "lr", "weight_decay", "budgets", "args")


class TrialLike(Protocol):
    """What draws values: Optuna's trials, or anything with the same three methods."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Return a number in ``[low, high]``."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Return a whole number in ``[low, high]``."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return one of ``choices``."""


@dataclass(frozen=True)
class Suggestion:
    """One proposal of the search.

    Attributes:
        method: Name of the compression method.
        ratio: Compression ratio of the compressed weights together, total / kept, at least 1.
        lr: Peak learning rate.
        weight_decay: Weight decay.
        budgets: Scalars kept by the layers of each pattern; ``None`` leaves the split to the method.
        args: Further arguments of the method.
        params: The flat parameters as the sampler named them: JSON-able, and enough to tell the sampler about this
            proposal again after a restart.
    """

    method: str
    ratio: float
    lr: float
    weight_decay: float
    budgets: dict[str, int] | None = None
    args: dict[str, Scalar] = field(default_factory=dict)
    params: dict[str, Scalar] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """What it says of a trial: all but the parameters that led to it."""
        return {name: getattr(self, name) for name in SETTINGS}

    @property
    def key(self) -> int:
        """64 bits that are equal for proposals that mean the same configuration, whatever parameters led to it."""
        return digest(list(self.settings.values()))


def digest(content: object) -> int:
    """Return 64 bits of a hash of JSON-able content, the same in every process."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


@dataclass
class Replay:
    """A trial that draws nothing: it answers with given parameters, and where there is none with a middle value.

    Attributes:
        given: The parameters to answer with.
        drawn: The parameters that were asked for, with the answers.
    """

    given: Mapping[str, Scalar]
    drawn: dict[str, Scalar] = field(default_factory=dict)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Return the given number, else the (geometric) middle of the interval."""
        middle = (low * high) ** 0.5 if log else (low + high) / 2
        value = float(self.given.get(name, middle))
        self.drawn[name] = value
        return value

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Return the given whole number, else the (geometric) middle of the interval."""
        value = int(self.given.get(name, round((low * high) ** 0.5) if log else (low + high) // 2))
        self.drawn[name] = value
        return value

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return the given choice, else the last one."""
        value = self.given.get(name, choices[-1])
        self.drawn[name] = value
        return value


class CubeTrial:
    """Draws parameters from the coordinates of a point in the unit cube, except for those that are given.

    What was given and lies outside is brought within the limits, or drawn where it is none of the choices.
    """

    def __init__(self, coordinates: Iterator[float], given: Mapping[str, Scalar]) -> None:
        self._coordinates = coordinates
        self._given = given

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Return a number that lies in its interval as the coordinate does in [0, 1)."""
        if name in self._given:
            return min(max(float(self._given[name]), low), high)
        at = next(self._coordinates)
        value = low * (high / low) ** at if log else low + (high - low) * at
        return min(max(value, low), high)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Return a whole number that lies in its interval as the coordinate does in [0, 1)."""
        if name in self._given:
            return min(max(int(self._given[name]), low), high)
        return min(high, int(self.suggest_float(name, low, high + 1, log=log)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return the choice that the coordinate falls on."""
        if name in self._given and self._given[name] in choices:
            return self._given[name]
        return choices[int(next(self._coordinates) * len(choices))]
