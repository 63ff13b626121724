"""Reading the learning curves of some trials."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from search.results import Results


def read_curves(
    results: Results, trials: Iterable[str], columns: Sequence[str]
) -> dict[tuple[str, str], list[tuple[Any, ...]]]:
    """Return these columns of the epochs of the trials of these ids, in order, by experiment and id."""
    names = ", ".join("'" + trial.replace("'", "''") + "'" for trial in trials)
    found: dict[tuple[str, str], list[tuple[Any, ...]]] = defaultdict(list)
    if names:
        asked = (
            f"SELECT experiment, trial_id, {', '.join(columns)} FROM epochs WHERE trial_id IN ({names}) ORDER BY epoch"
        )
        for experiment, trial, *values in results.sql(asked).fetchall():
            found[experiment, trial].append(tuple(values))
    return found
