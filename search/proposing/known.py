"""Trials of the past as an Optuna study holds them, cheap to put there again and again."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState


class Known(FrozenTrial):
    """A trial that ended, or is in flight, with parameters that do not change any more.

    Optuna's storage copies what it is given to the last distribution, which costs more than the rest of a proposal, and
    TPE reads the constraints of every trial from its attributes for every block of parameters.
    """

    @classmethod
    def make(
        cls,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        *,
        losses: Sequence[float] | None = None,
        constraints: Sequence[float] = (),
    ) -> Known:
        """Return a trial that reached these losses; without them it is in flight."""
        now = datetime.now()
        known = cls(
            number=-1,
            state=TrialState.RUNNING if losses is None else TrialState.COMPLETE,
            value=None,
            values=losses,
            datetime_start=now,
            datetime_complete=None if losses is None else now,
            params=dict(params),
            distributions=dict(distributions),
            user_attrs={},
            system_attrs={},
            intermediate_values={},
            trial_id=-1,
        )
        for index, value in enumerate(constraints):
            known.set_constraint(str(index), value)
        return known

    def __deepcopy__(self, memo: dict[int, Any]) -> Known:
        """Return a copy that shares parameters and distributions: the storage replaces what it changes."""
        return copy.copy(self)

    @cached_property
    def constraints(self) -> dict[str, float]:
        """The values of the constraints."""
        return super().constraints
