"""How the search ran: where its time went, and what failed."""

from __future__ import annotations

from collections.abc import Mapping

from search.report.facts import Failure, MethodTime, Times
from search.report.text import duration, percent, plural, visible
from search.results import Results

PARTS = ["setup", "training", "evaluation", "waiting"]
MOST_REASONS = 20

_TIMES = """
SELECT method, sum(coalesce(s, 0)), sum(coalesce(t, 0)), sum(coalesce(e, 0)),
       sum(greatest(coalesce(wall, 0) - coalesce(s, 0) - coalesce(t, 0) - coalesce(e, 0), 0))
FROM (SELECT method, epoch(finished_at - started_at) AS wall,
             CASE WHEN isfinite(setup_seconds) THEN setup_seconds END AS s,
             CASE WHEN isfinite(train_seconds) THEN train_seconds END AS t,
             CASE WHEN isfinite(eval_seconds) THEN eval_seconds END AS e FROM trials WHERE method IS NOT NULL)
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


def failures(results: Results) -> tuple[list[Failure], str]:
    """Return the reasons why trials failed, most frequent first, and a sentence for where none did."""
    found = [
        Failure(count, visible(error or "no reason was recorded"), visible(methods or "not known"), visible(example))
        for count, error, methods, example in results.sql(_FAILURES).fetchall()
    ]
    ((total, stopped),) = results.sql("SELECT count(*), count(*) FILTER (status = 'pruned') FROM trials").fetchall()
    also = f"; the search stopped {stopped:,} of them early" if stopped else ""
    return found, f"None of {plural(total, 'trial')} failed{also}."
