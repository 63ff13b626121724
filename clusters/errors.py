"""The one exception of this package, and parts of its sentences."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ClusterError(Exception):
    """The cluster cannot do what was asked: one sentence that says what is wrong and what to do."""


def one_line(error: object, limit: int = 200) -> str:
    """Return the first line that says something of an exception, or of a text, for use inside a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Return the sentence for a name that is not known: the nearest one, then all of them."""
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"unknown {what} {name!r}: {hint}known are {', '.join(names)}"
