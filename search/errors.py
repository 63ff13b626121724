"""The one exception that means "the user's input was wrong"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Wrong input: one sentence that says what, where and what to write instead. The CLI exits with 2."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """Return the sentence for a name that is not in a registry: the nearest name, then all of them."""
    names = sorted(known)
    if not names:
        return f"unknown {what} {name!r}: there are none"
    # Letters that changed places first: by what they have in common, "rsp" is nearer to "grasp" than to "rps".
    swapped = [other for other in names if sorted(other) == sorted(name)]
    nearest = swapped or difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"unknown {what} {name!r}: {hint}known are {', '.join(names)}"


DIVERGED = "the loss became"
"""How the reason of a trial begins whose loss is no number any more."""
