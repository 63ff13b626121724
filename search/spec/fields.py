"""Building blocks of the spec: its base class and values that a search may vary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from clusters.strict import StrictModel

Scalar: TypeAlias = bool | int | float | str


class SpecModel(StrictModel):
    """A part of the spec."""


class Range(SpecModel):
    """An interval that the search draws from."""

    low: float
    """Smallest value, inclusive."""
    high: float
    """Largest value, inclusive."""
    log: bool = True
    """Draw uniformly in the logarithm (needs low > 0)."""

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low > self.high:
            raise ValueError(f"low <= high must hold, but got low={self.low:g}, high={self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low > 0 must hold for a log range, but got low={self.low:g}; write log: false")
        return self


class Choices(SpecModel):
    """A list that the search picks from."""

    choices: list[Scalar] = Field(min_length=1)
    """The values, each a number, a truth value or a name."""


def _kind(value: Any) -> str:
    if isinstance(value, Range) or (isinstance(value, dict) and "choices" not in value):
        return "(range)"
    if isinstance(value, Choices | dict):
        return "(choices)"
    return "(value)"


# Tags are written in parentheses so that error paths can leave them out.
SearchedNumber: TypeAlias = Annotated[
    Annotated[float, Tag("(value)")] | Annotated[Range, Tag("(range)")] | Annotated[Choices, Tag("(choices)")],
    Discriminator(_kind),
]
SearchedValue: TypeAlias = Annotated[
    Annotated[Scalar, Tag("(value)")] | Annotated[Range, Tag("(range)")] | Annotated[Choices, Tag("(choices)")],
    Discriminator(_kind),
]


def bounds(value: float | Range | Choices) -> tuple[float, float]:
    """Return the smallest and the largest number that a searched number can take.

    Raises:
        ValueError: If one of its choices is not a number.
    """
    if isinstance(value, Range):
        return value.low, value.high
    if isinstance(value, Choices):
        numbers = [c for c in value.choices if isinstance(c, int | float) and not isinstance(c, bool)]
        if len(numbers) != len(value.choices):
            raise ValueError(f"every choice must be a number, but got {value.choices}")
        return min(numbers), max(numbers)
    return value, value


def flattened(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, names joined by dots; an empty mapping stays a value."""
    found: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            found |= flattened(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
