"""Ending a search politely."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Let a polite kill end a search as Ctrl-C does, from its very start."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except SystemExit as end:
        # Ray takes the signal for itself while it starts, and ends the process in this way.
        if end.code == signal.SIGTERM:
            raise KeyboardInterrupt from end
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
