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
    return f"unknown {what} {name!r}: {did_you_mean(name, names)}known are {', '.join(names)}"


def called_exit(end: SystemExit) -> str:
    """Return the sentence for a user's function that ended the process that it ran in, or would have."""
    return f"a function that the spec names called sys.exit({end.code!r}); let it raise an exception"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the question for the nearest of the known names, with a space after it; empty where none is near.

    Letters that changed places come first: by what they have in common, "rsp" is nearer to "grasp" than to "rps".
    """
    names = list(known)
    swapped = [other for other in names if sorted(other) == sorted(name)]
    nearest = swapped or difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {nearest[0]!r}? " if nearest else ""


DIVERGED = "the loss became"
"""How the reason of a trial begins whose loss is no number any more."""
