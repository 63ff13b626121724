"""Claims, judged: two groups of trials, the best of each by validation, their test accuracies over seeds compared.

The interval covers the seeds, not the choice of test images, and each line alone.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal

import pyarrow as pa

from search.results.facts import parse_config
from search.results.intervals import welch
from search.results.merged import FOLDER, read_all
from search.results.store import ResultStore
from search.spec.claims import ClaimSpec, Relation
from search.spec.fields import Scalar, flattened

Verdict = Literal["holds", "does not hold", "not decided"]
_COLUMNS = ("trial_id", "experiment", "number", "repeat", "status", "accuracy", "accuracy_val", "config_json")
logger = logging.getLogger(__name__)


@dataclass
class Candidate:
    """A proposal with its seeds, in the order of their repeats."""

    number: int | None
    """Number of the proposal in its search; None for a trial of another program that has none."""
    config: dict[str, Any]
    """The trial's configuration, nested names joined by dots."""
    accuracy: list[float] = field(default_factory=list)
    accuracy_val: list[float] = field(default_factory=list)
    failed: int = 0

    @property
    def seeds(self) -> int:
        """Number of finished seeds."""
        return len(self.accuracy)


@dataclass(frozen=True)
class Judged:
    """A claim with what was found.

    Attributes:
        claim: The claim in words.
        where: The value of its ``each`` field, or None.
        of: The proposal that stands for the first group; None where no trial of it has finished.
        against: The same for the second.
        difference: Test accuracy of the first minus that of the second, means over seeds.
        low: Lower end of its 95 % interval; None where one side has one seed only.
        high: Upper end.
        verdict: Whether the claim holds.
        note: Why it is not decided, in words; empty otherwise.
    """

    claim: str
    where: Scalar | None
    of: Candidate | None
    against: Candidate | None
    difference: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    note: str


def candidates(stores: Sequence[ResultStore]) -> list[Candidate]:
    """Return the proposals of some experiments, in the order of their numbers; those that only failed too.

    Rows whose configuration cannot be read are left out, with a warning that counts them.
    """
    trials = read_all(stores, "trials", list(_COLUMNS), folder=True)
    found: dict[tuple[int, str, int | str], Candidate] = {}
    odd = 0
    for row in trials.sort_by([("number", "ascending"), ("repeat", "ascending")]).to_pylist():
        # A trial without a proposal's number is a proposal of its own, as on the frontier.
        key = (row[FOLDER], row["experiment"], row["trial_id"] if row["number"] is None else row["number"])
        if row["config_json"] is None:
            continue  # a row of another program
        config = parse_config(row["config_json"])
        if config is None:
            odd += 1
            continue
        if key not in found:
            found[key] = Candidate(row["number"], flattened(config))
        if row["status"] == "failed":
            found[key].failed += 1
        elif row["status"] == "finished" and _finite(row["accuracy"]) and _finite(row["accuracy_val"]):
            found[key].accuracy.append(row["accuracy"])
            found[key].accuracy_val.append(row["accuracy_val"])
    if odd:
        logger.warning("%d trials whose configuration cannot be read are left out; rps-search check names them", odd)
    return list(found.values())


def judge(claims: Iterable[ClaimSpec], known: Sequence[Candidate]) -> list[Judged]:
    """Return each claim with its verdict; one with ``each`` gives a line for each value."""
    lines = []
    for claim in claims:
        of, against = _matching(known, claim.of), _matching(known, claim.against)
        if claim.each is None:
            lines.append(_line(claim, None, of, against))
            continue
        # By their text: a value may be a list (the widths of a network), which no set takes.
        values = {json.dumps(one.config[claim.each]): one.config[claim.each] for one in of if claim.each in one.config}
        if not values:
            lines.append(_line(claim, None, of, against))
        for value in sorted(values.values(), key=_order):
            same = {claim.each: [value]}
            others = against if claim.each in claim.against else _matching(against, same)
            lines.append(_line(claim, value, _matching(of, same), others))
    return lines


def table(lines: Sequence[Judged]) -> pa.Table:
    """Return judged claims as a table for people and programs."""
    return pa.Table.from_pylist(
        [
            {
                "claim": line.claim,
                "where": None if line.where is None else label(line.where),
                "accuracy": fmean(line.of.accuracy) if line.of else None,
                "lr": line.of.config["lr"] if line.of else None,
                "seeds": line.of.seeds if line.of else 0,
                "against": fmean(line.against.accuracy) if line.against else None,
                "against_lr": line.against.config["lr"] if line.against else None,
                "against_seeds": line.against.seeds if line.against else 0,
                "difference": line.difference,
                "low": line.low,
                "high": line.high,
                "verdict": line.verdict,
                "note": line.note or None,
            }
            for line in lines
        ],
        schema=_SCHEMA,
    )


def label(value: Scalar) -> str:
    """Return a value of a claim's ``each`` field as text."""
    return f"{value:g}" if _number(value) else str(value)


_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("claim", "where")),
        *((name, pa.float64()) for name in ("accuracy", "lr")),
        ("seeds", pa.int64()),
        *((name, pa.float64()) for name in ("against", "against_lr")),
        ("against_seeds", pa.int64()),
        *((name, pa.float64()) for name in ("difference", "low", "high")),
        *((name, pa.string()) for name in ("verdict", "note")),
    ]
)


def _line(claim: ClaimSpec, where: Scalar | None, of: list[Candidate], against: list[Candidate]) -> Judged:
    first, second = best(of), best(against)
    if first is None or second is None:
        missing, group = (claim.of, of) if first is None else (claim.against, against)
        if claim.each is not None and where is not None and (first is None or claim.each not in claim.against):
            missing = {**missing, claim.each: label(where)}
        note = f"no finished trial has {', '.join(f'{name} {value}' for name, value in missing.items())}"
        failed = sum(one.failed for one in group)
        note += f"; {failed} failed" if failed else ""
        return Judged(claim.claim, where, first, second, None, None, None, "not decided", note)
    difference, half = welch(first.accuracy, second.accuracy)
    if half is None:
        one = min(first.seeds, second.seeds) < 2
        note = "one seed has no interval" if one else "all seeds agree, which is no interval: add more"
        return Judged(claim.claim, where, first, second, difference, None, None, "not decided", note)
    low, high = difference - half, difference + half
    verdict = decide(claim.says, low, high, claim.margin)
    return Judged(claim.claim, where, first, second, difference, low, high, verdict, "")


def best(group: Sequence[Candidate]) -> Candidate | None:
    """Return the proposal that stands for a group: the best on validation, of equals the first.

    Only as many seeds count as all have, so that further seeds of one do not change what is chosen. A proposal of
    which a seed failed (a learning rate that diverges now and then) is passed over where others have no failure.
    """
    finished = [one for one in group if one.seeds]
    sound = [one for one in finished if not one.failed] or finished
    common = min((one.seeds for one in sound), default=0)
    return max(sound, key=lambda one: fmean(one.accuracy_val[:common]), default=None)


def decide(says: Relation, low: float, high: float, margin: float) -> Verdict:
    """Return whether an interval of a difference bears a claim out.

    Args:
        says: ``higher``, ``lower``, ``equal`` (within the margin) or ``different`` (not so).
        low: Lower end of the interval.
        high: Upper end.
        margin: Difference up to which two are called equal.
    """
    true, false = {
        "higher": (low > 0, high <= 0),
        "lower": (high < 0, low >= 0),
        "equal": (-margin <= low and high <= margin, low > margin or high < -margin),
        "different": (low > margin or high < -margin, -margin <= low and high <= margin),
    }[says]
    return "holds" if true else "does not hold" if false else "not decided"


def _matching(known: Sequence[Candidate], wanted: Mapping[str, Any]) -> list[Candidate]:
    return [one for one in known if all(_fits(one.config.get(name), value) for name, value in wanted.items())]


def _fits(value: Any, wanted: Any) -> bool:
    if isinstance(value, list) and value == wanted:
        return True  # the value itself is a list: the layers that a model excludes, the widths of its own
    return any(_same(value, one) for one in (wanted if isinstance(wanted, list) else [wanted]))


def _same(value: Any, wanted: Any) -> bool:
    if _number(value) and _number(wanted):
        return math.isclose(value, wanted, rel_tol=1e-6)
    return type(value) is type(wanted) and value == wanted


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _order(value: Any) -> tuple[bool, float, str]:
    return (not _number(value), value if _number(value) else 0.0, str(value))


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
