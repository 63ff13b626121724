"""Ending a search politely."""

from __future__ import annotations

import contextlib
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
        ctrl_c = signal.getsignal(signal.SIGINT)
        if not callable(ctrl_c):  # a shell has it ignored for what runs in the background
            raise KeyboardInterrupt
        ctrl_c(signal.SIGINT, frame)

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


@contextlib.contextmanager
def handlers_restored() -> Iterator[None]:
    """Put back what Tune leaves behind: its answers to Ctrl-C and to SIGUSR1."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # one that was not set from Python
                signal.signal(number, handler)
