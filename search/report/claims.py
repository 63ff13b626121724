"""Judged claims as the text of a report."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean

from search.report.facts import Claim
from search.report.text import percent, visible
from search.results.claims import Candidate, Judged, label
from search.spec import Spec
from search.spec.claims import ClaimSpec


def all_claims(specs: Iterable[Spec | None]) -> list[ClaimSpec]:
    """Return the claims of several specs, each once."""
    found: list[ClaimSpec] = []
    for spec in specs:
        found += [claim for claim in (spec.claims if spec else []) if claim not in found]
    return found


def claim_line(line: Judged) -> Claim:
    """Return a judged claim as text."""
    return Claim(
        claim=visible(line.claim),
        where="" if line.where is None else visible(label(line.where)),
        accuracy=_side(line.of),
        against=_side(line.against),
        difference="" if line.difference is None else _points(line.difference),
        interval="" if line.low is None or line.high is None else f"{_points(line.low)} to {_points(line.high)}",
        verdict=line.verdict,
        note=visible(line.note),
    )


def _side(one: Candidate | None) -> str:
    if one is None:
        return ""
    return f"{percent(fmean(one.accuracy))} (lr {one.config['lr']:g}, {one.seeds} seed{'s' if one.seeds > 1 else ''})"


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}"
