"""How the search ran: where its time went, and what failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from search.report.facts import Failure, MethodTime, Times
from search.report.text import duration, percent, plural, visible
from search.results import Results

PARTS = ["setup", "training", "evaluation", "waiting"]
MOST_REASONS = 20

# A trial notes its start once it is set up: what its first attempt took for that came before. Known is the sum over all
# attempts, of which that is an equal part.
_TIMES = """
SELECT method, sum(s), sum(t), sum(e), sum(greatest(span + s / n - s - t - e, 0))
FROM (SELECT method, coalesce(epoch(finished_at - started_at), 0) AS span, greatest(coalesce(attempts, 1), 1) AS n,
             CASE WHEN isfinite(setup_seconds) THEN setup_seconds ELSE 0 END AS s,
             CASE WHEN isfinite(train_seconds) THEN train_seconds ELSE 0 END AS t,
             CASE WHEN isfinite(eval_seconds) THEN eval_seconds ELSE 0 END AS e FROM trials WHERE method IS NOT NULL)
GROUP BY method ORDER BY 3 DESC
"""
# Reasons that differ in their numbers only are one reason.
_FAILURES = f"""
SELECT count(*), arg_min(error, trial_id), string_agg(DISTINCT method, ', ' ORDER BY method), min(trial_id)
FROM trials WHERE status = 'failed'
GROUP BY regexp_replace(coalesce(error, ''), '[0-9]+([.][0-9]+)?', '#', 'g')
ORDER BY 1 DESC LIMIT {MOST_REASONS}
"""


def times(results: Results, methods: Mapping[str | None, int]) -> Times | None:
    """Return where the trials' time went, or None where nothing was measured.

    Waiting is what is left of a trial's time from start to end: starts after a crash, checkpoints, queues.

    Args:
        results: The tables.
        methods: Index of each method.
    """
    rows = [MethodTime(methods[method], list(seconds)) for method, *seconds in results.sql(_TIMES).fetchall()]
    totals = [sum(row.seconds[part] for row in rows) for part in range(len(PARTS))]
    if not sum(totals):
        return None
    share = totals[1] / sum(totals)
    note = (
        f"The trials took {duration(sum(totals))} together, {percent(share, 0)} of it in training steps. Waiting is "
        "what is left between a trial's start and its end: restarts, checkpoints, queues."
    )
    return Times(PARTS, rows, note)


@dataclass(frozen=True)
class Ran:
    """What ran, in all experiments together."""

    counts: dict[str, int]
    """Trials of each status."""
    models: str | None
    datasets: str | None
    last_day: str | None
    """Day on which the last trial ended, ISO 8601."""


def ran(results: Results) -> Ran:
    """Return what ran."""
    rows = results.sql(
        "SELECT status, count(*), string_agg(DISTINCT model, ', ' ORDER BY model), string_agg(DISTINCT dataset, ', '), "
        "max(finished_at)::DATE::VARCHAR FROM trials GROUP BY status ORDER BY status"
    ).fetchall()

    def known(column: int) -> list[str]:
        return sorted({name for row in rows if row[column] for name in row[column].split(", ")})

    days = known(4)
    return Ran(
        {row[0]: row[1] for row in rows},
        visible(", ".join(known(2))) or None,
        visible(", ".join(known(3))) or None,
        days[-1] if days else None,
    )


def failures(results: Results) -> list[Failure]:
    """Return the reasons why trials failed, most frequent first."""
    return [
        Failure(count, visible(error or "no reason was recorded"), visible(methods or "not known"), visible(example))
        for count, error, methods, example in results.sql(_FAILURES).fetchall()
    ]


def none_failed(counts: Mapping[str, int]) -> str:
    """Return the sentence for a search in which nothing failed."""
    stopped = counts.get("pruned")
    also = f"; the search stopped {stopped:,} of them early" if stopped else ""
    return f"None of {plural(sum(counts.values()), 'trial')} failed{also}."
