"""Numbers and names as people read them."""

from __future__ import annotations

import math

NBSP = "\N{NO-BREAK SPACE}"


def visible(text: str) -> str:
    """Return a name from a spec or a table with every character that cannot be seen written as an escape.

    Terminal escapes, line breaks and marks that turn the reading direction would let a name pass for something else.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def size(value: float, measure: str) -> str:
    """Return an amount of memory with its unit, in three digits: ``48.2 kB``, ``270 k parameters``.

    Args:
        value: Bytes or scalars.
        measure: ``stored_bytes`` or ``stored_parameters``.
    """
    for step in ("", "k", "M", "G"):
        if value < 999.5 or step == "G":
            break
        value /= 1000
    number = f"{value:.3g}" if value < 999.5 else f"{value:.0f}"
    return f"{number}{NBSP}{step}B" if measure == "stored_bytes" else f"{number}{step and NBSP}{step} parameters"


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share in percent."""
    return "not measured" if value is None else f"{100 * value:.{digits}f}{NBSP}%"


def interval(low: float | None, high: float | None, seeds: int) -> str:
    """Return a 95 % interval over seeds, or why there is none.

    Args:
        low: Lower end, 0 to 1.
        high: Upper end.
        seeds: Number of the seeds.
    """
    if low is None or high is None:
        return "one seed" if seeds == 1 else f"all {seeds} seeds agree"
    return f"{percent(low)} to {percent(high)}"


def number(value: float | None) -> str:
    """Return a number in three digits, whole from 1,000 on."""
    if value is None:
        return "not given"
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"


def times_smaller(whole: float, part: float) -> str:
    """Return how many times smaller a part is than the whole: ``2.5 times smaller``, or ``larger`` where it is that."""
    factor = max(whole / part, part / whole)
    told = f"{factor:.2g}" if factor < 9.95 else f"{factor:,.0f}"
    return f"{told} times {'smaller' if part <= whole else 'larger'}"


def duration(seconds: float) -> str:
    """Return a time in its natural unit."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 trial``, ``2,000 trials``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def finite(value: float | None) -> float | None:
    """Return the value, or None where it is no number a picture can show."""
    return value if value is not None and math.isfinite(value) else None
