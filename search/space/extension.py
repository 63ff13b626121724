"""What a user's function adds to the space."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from search.errors import UserError
from search.space.suggestion import METHOD, SHARE, Suggestion, TrialLike
from search.spec.fields import Range, Scalar
from search.spec.load import describe

Extension = Callable[[TrialLike, Suggestion], Suggestion]


class ExtensionTrial:
    """What a user's function draws from: names are its own, a name drawn again keeps its value, limits do not move.

    Samplers that model several parameters together need limits that do not depend on other parameters.
    """

    def __init__(self, trial: TrialLike, methods: Collection[str], limits: dict[str, str]) -> None:
        """Pass draws on.

        Args:
            trial: Draws.
            methods: Methods of the space, after which its own parameters are named.
            limits: What each parameter is drawn from, as far as known; added to.
        """
        self._trial = trial
        self._methods = methods
        self._limits = limits
        self._drawn: dict[str, Any] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Return a number in ``[low, high]``."""
        limits = _range(name, low, high, log)
        value = self._draw(
            name,
            f"[{limits.low}, {limits.high}]{' along a logarithm' if log else ''}",
            lambda: self._trial.suggest_float(name, limits.low, limits.high, log=log),
        )
        return self._inside(name, value, limits.low <= value <= limits.high)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Return a whole number in ``[low, high]``."""
        limits = _range(name, low, high, log)
        if limits.low % 1 or limits.high % 1:
            raise UserError(f"space.extension: {name!r}: low and high must be whole, but got low={low}, high={high}")
        value = self._draw(
            name,
            f"the whole numbers in [{low}, {high}]{' along a logarithm' if log else ''}",
            lambda: self._trial.suggest_int(name, int(limits.low), int(limits.high), log=log),
        )
        return self._inside(name, value, limits.low <= value <= limits.high)

    def suggest_categorical(self, name: str, choices: Sequence[Scalar | None]) -> Scalar | None:
        """Return one of ``choices``: unlike in the spec, nothing may be one of them."""
        found = list(choices)
        if not found or not all(choice is None or isinstance(choice, Scalar) for choice in found):
            raise UserError(
                f"space.extension: {name!r}: choices must be numbers, truth values, texts or None, at least one, "
                f"but got {choices!r}"
            )
        value = self._draw(name, str(found), lambda: self._trial.suggest_categorical(name, found))
        return self._inside(name, value, value in found)

    def _draw(self, name: str, limits: str, draw: Callable[[], Any]) -> Any:
        if not isinstance(name, str):
            raise UserError(f"space.extension: a parameter's name must be text, but got {name!r}")
        if name == METHOD or SHARE in name or any(name.startswith(f"{method}.") for method in self._methods):
            raise UserError(
                f"space.extension: {name!r} is named as the space's own parameters are; choose another name"
            )
        known = self._limits.setdefault(name, limits)
        if known != limits:
            raise UserError(
                f"space.extension: what {name!r} is drawn from must not depend on other values, but was {known} and "
                f"{limits}; draw from fixed limits, such as a share from 0 to 1, and compute the value from it"
            )
        if name not in self._drawn:
            self._drawn[name] = draw()
        return self._drawn[name]

    def _inside(self, name: str, value: Any, inside: bool) -> Any:
        """Return a value: one of a resumed search's trials may lie outside of limits that the function changed."""
        if not inside:
            raise UserError(
                f"space.extension: {name!r} is {value!r} in a trial of this search, but is drawn from "
                f"{self._limits[name]} now; undo that change of the function, or search in another folder"
            )
        return value


def _range(name: str, low: float, high: float, log: bool) -> Range:
    """Return the limits of a parameter, held to the same rules as in the spec."""
    try:
        return Range(low=low, high=high, log=log)
    except ValidationError as error:
        raise UserError(f"space.extension: {name!r}: {describe(error, Range)}") from error


def _place(error: Exception, extension: Extension) -> str:
    """Return where in the file of the user's function an error came up, whatever it called; empty if not there."""
    file = getattr(getattr(extension, "__code__", None), "co_filename", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" ({file}, line {lines[-1]})" if lines else ""


def extend(extension: Extension, trial: ExtensionTrial, suggestion: Suggestion) -> Suggestion:
    """Return a suggestion as the user's function changes it, with all parameters that were drawn.

    Raises:
        UserError: If the function raises, or returns what cannot be searched.
    """
    try:
        found = extension(trial, suggestion)
    except UserError:
        raise
    except Exception as error:  # Whatever a user's function raises.
        raise UserError(f"space.extension: {type(error).__name__}: {error}{_place(error, extension)}") from error
    if not isinstance(found, Suggestion):
        raise UserError(
            "space.extension must return the suggestion, changed by what it drew "
            f"(dataclasses.replace(suggestion, args=...)), but returned {found!r}"
        )
    if found.method != suggestion.method:
        raise UserError(
            f"space.extension must not change the method, but made {found.method!r} of {suggestion.method!r}"
        )
    return replace(found, params=suggestion.params)
