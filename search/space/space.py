"""The search space, defined by running it: what is drawn next depends on the method drawn before."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import ValidationError

from rps_core.budgets import Group, kept_for_ratio, resolve_budgets
from search.config import TrialConfig
from search.errors import UserError
from search.registry import resolve
from search.space.extension import Extension, ExtensionTrial, extend
from search.space.shares import erk_log2_densities, floors, sizes_of, split
from search.space.suggestion import ARGUMENT, ERK_POWER, METHOD, SHARE, CubeTrial, Replay, Suggestion, TrialLike
from search.spec import Choices, Range, SpaceSpec
from search.spec.fields import Scalar, bounds
from search.spec.load import describe

# Densities follow those of Erdos-Renyi-kernel raised to a power, from somewhat against them over the uniform
# allocation (0) and theirs (1) to beyond: what is good lies along this line, for pruning at high ratios far out on it.
ERK_POWERS = (-0.5, 1.5)
# Beside that, each group's density may be 4 times above or below.
SHARE_LIMIT = 2.0
UNCOMPRESSED = frozenset({"dense"})
# These shrink the model or bring their own allocation.
OWN_SPLIT_ONLY = frozenset({"dense", "small", "channels", "erk", "uniform"})

SHARES = 2

# Proposals of each method that an extension is tried on.
EXAMPLES = 20


class Space:
    """What the search may propose.

    A parameter is named after its method (``"rps.lr"``, ``"rps.share.layer3.*"``), so that what one method learned
    about its learning rate is not taken for another's. Values that the spec fixes are no parameters.
    """

    def __init__(
        self,
        spec: SpaceSpec,
        layer_shapes: Mapping[str, Sequence[int]],
        *,
        groups: Sequence[str] = (),
        extension: Extension | None = None,
    ) -> None:
        """Build the space.

        Args:
            spec: What the user wrote.
            layer_shapes: Shape of each compressed weight by layer, in the order of the model.
            groups: Patterns of layers that share a budget, for ``budgets: groups``.
            extension: Draws further parameters and returns the suggestion changed by them, in place of the spec's.

        Raises:
            UserError: If a pattern matches no layer, the highest ratio leaves a group without a scalar, or the
                extension is no such function.
        """
        self._spec = spec
        self._extension = extension or (resolve("space.extension", spec.extension, {}) if spec.extension else None)
        # Of the extension's parameters, as they were first drawn.
        self._limits: dict[str, str] = {}
        self._sizes = sizes = sizes_of(layer_shapes)
        self._size = sum(sizes.values())
        self._groups: dict[str, tuple[Group, ...]] = {}
        self._erk: dict[str, list[float]] = {}
        for method in spec.methods:
            scope = spec.budget_scope(method)
            if method in OWN_SPLIT_ONLY and spec.methods[method].budgets not in (None, "global"):
                raise UserError(
                    f"space.methods.{method}.budgets: must be global or left out, because {method!r} splits its memory "
                    f"itself, but got {scope!r}"
                )
            if method in OWN_SPLIT_ONLY or scope == "global":
                continue
            # The name of a layer may hold what a pattern means something by.
            patterns = list(groups) if scope == "groups" else [glob.escape(name) for name in sizes]
            try:
                found = resolve_budgets(sizes, budgets=dict.fromkeys(patterns, 1.0))
            except ValueError as error:
                raise UserError(f"space.groups: {error}") from error
            if len(found) > 1:
                self._groups[method] = found
                self._erk[method] = erk_log2_densities(
                    [[layer_shapes[layer] for layer in group.layers] for group in found]
                )
                self._check_ratio(method)
        if self._extension:
            self.examples()

    def _check_ratio(self, method: str) -> None:
        _, highest = bounds(self._spec.searched(method, "ratio"))
        least = int(floors([group.size for group in self._groups[method]]).sum())
        if kept_for_ratio(self._size, highest) < least:
            raise UserError(
                f"space.ratio: {len(self._groups[method])} budgets of method {method!r} need {least} scalars, but "
                f"ratio {highest:g} keeps {kept_for_ratio(self._size, highest)} of {self._size}; "
                f"write a ratio up to {self._size / least:.4g} or fewer groups"
            )

    def examples(self) -> list[Suggestion]:
        """Return random proposals of each method, the same each time: what a user's function makes is seen by trying.

        Raises:
            UserError: If the extension raises, or returns what is no trial.
        """
        rng = np.random.default_rng(0)
        found = [
            self.suggest(CubeTrial(iter(rng.random, None), {METHOD: method})) for method in [*self.methods] * EXAMPLES
        ]
        for example in found:
            try:
                _ = example.key
                TrialConfig(**example.settings)
            except ValidationError as error:
                raise UserError(f"space.extension returned what is no trial: {describe(error, TrialConfig)}") from error
            except (TypeError, ValueError) as error:
                raise UserError(f"space.extension returned what is no trial: {error}") from error
        return found

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods, in the order of the spec."""
        return tuple(self._spec.methods)

    def groups(self, method: str) -> tuple[Group, ...]:
        """Return the groups whose budgets are searched for ``method``; none where it splits its memory itself."""
        return self._groups.get(method, ())

    def erk_log2_densities(self, method: str) -> list[float]:
        """Return the log densities of Erdos-Renyi-kernel for the groups of ``method``, up to a common constant."""
        return self._erk.get(method, [])

    def suggest(self, trial: TrialLike) -> Suggestion:
        """Draw one proposal from ``trial``, whose samples decide all of it."""
        spec = self._spec
        recorded = _Recorder(trial)
        methods = list(spec.methods)
        method = str(recorded.suggest_categorical(METHOD, methods)) if len(methods) > 1 else methods[0]
        ratio = 1.0
        if method not in UNCOMPRESSED:
            ratio = float(_draw(recorded, f"{method}.ratio", spec.searched(method, "ratio")))
        suggestion = Suggestion(
            method=method,
            ratio=ratio,
            lr=float(_draw(recorded, f"{method}.lr", spec.searched(method, "lr"))),
            weight_decay=float(_draw(recorded, f"{method}.weight_decay", spec.searched(method, "weight_decay"))),
            args={
                name: _draw(recorded, f"{method}{ARGUMENT}{name}", value)
                for name, value in spec.methods[method].args.items()
            },
            budgets=self._budgets(recorded, method, ratio),
            params=recorded.drawn,
        )
        if not self._extension:
            return suggestion
        found = extend(self._extension, ExtensionTrial(recorded, spec.methods, self._limits), suggestion)
        if found.budgets and (found.budgets, found.ratio) != (suggestion.budgets, suggestion.ratio):
            self._check_budgets(found)
        return found

    def _check_budgets(self, found: Suggestion) -> None:
        """Refuse budgets of a user's function that are none, or keep another total than the ratio says."""
        try:
            groups = resolve_budgets(self._sizes, ratio=found.ratio, budgets=found.budgets)
            told = kept_for_ratio(self._size, found.ratio)
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(f"space.extension returned what is no trial: {error}") from error
        kept = sum(group.kept for group in groups)
        if abs(kept - told) > len(groups):  # Each may round by one.
            raise UserError(
                f"space.extension: the budgets of method {found.method!r} keep {kept} of {self._size} scalars, but its "
                f"ratio {found.ratio:g} says {told}; return budgets of that total, or ratio={self._size / kept:.4g}"
            )

    def _budgets(self, trial: TrialLike, method: str, ratio: float) -> dict[str, int] | None:
        groups = self.groups(method)
        if not groups or trial.suggest_categorical(f"{method}.split", ["own", "shares"]) == "own":
            return None
        power = trial.suggest_float(f"{method}{ERK_POWER}", *ERK_POWERS)
        logs = [
            power * erk + trial.suggest_float(f"{method}{SHARE}{group.name}", -SHARE_LIMIT, SHARE_LIMIT)
            for group, erk in zip(groups, self._erk[method], strict=True)
        ]
        kept = split([group.size for group in groups], kept_for_ratio(self._size, ratio), logs)
        return {group.name: count for group, count in zip(groups, kept, strict=True)}

    def known(self) -> list[dict[str, Scalar]]:
        """Return the well-known allocations as parameters to try first; the sampler draws what they leave open.

        For each method: its own allocation (one shared array, one global mask), then the uniform one, then
        Erdos-Renyi-kernel.
        """
        several = len(self._spec.methods) > 1
        first: list[dict[str, Scalar]] = []
        uniform: list[dict[str, Scalar]] = []
        erk: list[dict[str, Scalar]] = []
        for method in self._spec.methods:
            base: dict[str, Scalar] = {METHOD: method} if several else {}
            groups = self.groups(method)
            if not groups:
                first += [base] if base else []
                continue
            first.append({**base, f"{method}.split": "own"})
            even = dict.fromkeys([f"{method}{SHARE}{group.name}" for group in groups], 0.0)
            for known, power in ((uniform, 0.0), (erk, 1.0)):
                known.append({**base, f"{method}.split": "shares", f"{method}{ERK_POWER}": power, **even})
        return first + uniform + erk

    def replay(self, params: Mapping[str, Scalar]) -> Suggestion:
        """Return the suggestion that parameters stand for; those that are missing take a middle value.

        Raises:
            UserError: If they are shares as they were drawn before there was a power of Erdos-Renyi-kernel.
        """
        for method in self._groups:
            if any(name.startswith(f"{method}{SHARE}") for name in params) and f"{method}{ERK_POWER}" not in params:
                raise UserError(
                    "this search was launched by a version that drew budgets in another way; go on with that version, "
                    "or launch the spec into another folder with search.warm_start: [this one]"
                )
        return self.suggest(Replay(params))


def block_of(name: str) -> int:
    """Return which parameters ``name`` is drawn with: 0 the method, 1 what belongs to it, 2 the shares of its budgets.

    A block exists only for some values of the blocks before it.
    """
    return 0 if name == METHOD else SHARES if SHARE in name or is_erk_power(name) else 1


def is_erk_power(name: str) -> bool:
    """Return whether ``name`` is the power of Erdos-Renyi-kernel: a group or a method's argument may end like it."""
    return name.endswith(ERK_POWER) and SHARE not in name and ARGUMENT not in name


class _Recorder:
    """Passes draws on and keeps them."""

    def __init__(self, trial: TrialLike) -> None:
        self._trial = trial
        self.drawn: dict[str, Scalar] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.drawn[name] = value = float(self._trial.suggest_float(name, low, high, log=log))
        return value

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        self.drawn[name] = value = int(self._trial.suggest_int(name, low, high, log=log))
        return value

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        self.drawn[name] = value = self._trial.suggest_categorical(name, choices)
        return value


def _draw(trial: TrialLike, name: str, value: Scalar | Range | Choices) -> Scalar:
    """Return a fixed value as it is, and draw the others."""
    if isinstance(value, Range):
        if value.low == value.high:
            return value.low
        return trial.suggest_float(name, value.low, value.high, log=value.log)
    if isinstance(value, Choices):
        return trial.suggest_categorical(name, value.choices) if len(value.choices) > 1 else value.choices[0]
    return value
