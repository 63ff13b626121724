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


def number(value: float | None) -> str:
    """Return a number in three digits."""
    return "not given" if value is None else f"{value:.3g}"


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
