"""Trials as people name them: by the beginning of an id."""

from __future__ import annotations

from collections.abc import Collection

from search.errors import UserError, unknown_name

SUGGESTED_AMONG = 20


def the_trial(given: str, known: Collection[str], what: str = "trial") -> str:
    """Return the id that begins with ``given``.

    Args:
        given: What stands after ``--trial``.
        known: Ids of the trials that there are.
        what: What they are, for the sentence that refuses.

    Raises:
        UserError: If none or several begin so.
    """
    matching = [name for name in known if name.startswith(given)] if given else []
    if len(matching) > 1:
        raise UserError(f"--trial {given}: {len(matching)} trials begin so; write more of the id")
    if not matching:
        raise UserError(
            f"--trial: {unknown_name(what, given, list(known)[:SUGGESTED_AMONG])}"
            if known
            else f"there is no {what} yet"
        )
    return matching[0]
