"""The one exception of this package."""

from __future__ import annotations


class ClusterError(Exception):
    """The cluster cannot do what was asked: one sentence that says what is wrong and what to do."""


def one_line(error: BaseException, limit: int = 200) -> str:
    """Return the last line that says something of an exception's text, for use inside a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."
