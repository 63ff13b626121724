"""What a person sees while a search runs: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search.cli.output import printable
from search.driver.progress import Progress

REFRESH_S = 0.5
PLAIN_LINE_S = 10.0
FRONTIER_LINES = 12
RUNNING_LISTED = 8


class View(Protocol):
    """Shows the state of a search."""

    def __call__(self, progress: Progress) -> None:
        """Show it, if it is time to."""


@contextmanager
def view(*, quiet: bool = False) -> Iterator[View]:
    """Yield the view that fits where stderr goes: live on a terminal, lines in a file or a pipe."""
    console = Console(stderr=True)
    if quiet:
        yield lambda progress: None
    elif console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            yield _Throttled(REFRESH_S, lambda progress: live.update(screen(progress), refresh=True))
    else:
        yield _PlainLines()


class _Throttled:
    """Calls a function at most once in a while."""

    def __init__(self, period_s: float, show: View) -> None:
        self._period_s = period_s
        self._show = show
        self._shown_at = -period_s

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._shown_at >= self._period_s:
            self._shown_at = now
            self._show(progress)


class _PlainLines:
    """One line when a trial has ended, at most every few seconds, and always for the last."""

    def __init__(self) -> None:
        self._ended = -1
        self._shown_at = -PLAIN_LINE_S

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        due = now - self._shown_at >= PLAIN_LINE_S or progress.ended >= progress.total
        if progress.ended == self._ended or not due:
            return
        self._ended, self._shown_at = progress.ended, now
        print(plain_line(progress), file=sys.stderr, flush=True)


def plain_line(progress: Progress) -> str:
    """Return the state of a search in one line."""
    frontier = progress.frontier
    best = max((accuracy for _, accuracy, _ in frontier), default=None)
    parts = [f"{progress.ended}/{progress.total} trials", f"{len(progress.running)} running"]
    parts += [f"{count} {status}" for status, count in progress.counts.items() if count and status != "finished"]
    parts.append(f"best accuracy {best:.1%} (validation)" if best is not None else "no accuracy yet")
    parts.append(f"{len(frontier)} on the frontier")
    left = progress.seconds_left
    if left is not None and progress.ended < progress.total:
        parts.append(f"about {duration(left)} left")
    return f"{printable(progress.experiment)}: " + ", ".join(parts)


def screen(progress: Progress) -> Group:
    """Return the state of a search as it is drawn on a terminal."""
    left = progress.seconds_left
    head = Table.grid(padding=(0, 1))
    head.add_row(
        Text(printable(progress.experiment), style="bold"),
        ProgressBar(total=progress.total, completed=progress.ended, width=30),
        f"{progress.ended}/{progress.total}",
        Text(f"about {duration(left)} left" if left is not None else "starting", style="dim"),
    )
    counts = Text("  ".join(f"{count} {status}" for status, count in progress.counts.items() if count) or "none ended")
    at = _epochs(list(progress.running.values()))
    counts.append(f"  {len(progress.running)} running" + (f" (epoch {at} of {progress.epochs})" if at else ""))
    lines: list[Table | Text] = [head, counts, _decades(progress), _frontier(progress)]
    if progress.last_failure:
        lines.append(
            Text(f"last failure: {printable(progress.last_failure)}", style="red", overflow="ellipsis", no_wrap=True)
        )
    return Group(*lines)


def _epochs(reached: list[int]) -> str:
    """Return where the running trials are: each of a few, from where to where a thousand are."""
    if len(reached) <= RUNNING_LISTED:
        return ", ".join(map(str, reached))
    return f"{min(reached)} to {max(reached)}"


def _decades(progress: Progress) -> Table:
    table = Table(title="best validation accuracy by memory", title_justify="left", box=None, padding=(0, 2))
    for decade in sorted(progress.best):
        table.add_column(f"{amount(10**decade, progress.memory)}-{amount(10 ** (decade + 1), progress.memory)}")
    table.add_row(*(f"{accuracy:.1%} {method}" for _, (accuracy, method) in sorted(progress.best.items())))
    return table


def _frontier(progress: Progress) -> Table:
    table = Table(title="frontier so far", title_justify="left", box=None, padding=(0, 2))
    table.add_column("memory", justify="right")
    table.add_column("validation", justify="right")
    table.add_column("method")
    shown = progress.frontier
    if len(shown) > FRONTIER_LINES:
        step = (len(shown) - 1) / (FRONTIER_LINES - 1)
        shown = [shown[round(i * step)] for i in range(FRONTIER_LINES)]
    for memory, accuracy, method in shown:
        bar = "█" * round(20 * accuracy)
        table.add_row(amount(memory, progress.memory), f"{accuracy:.1%}", f"{method:<8} {bar}")
    return table


def amount(value: float, memory: str) -> str:
    """Return an amount of memory for people: bytes with a decimal prefix, or a count of scalars."""
    unit = "B" if memory == "stored_bytes" else ""
    for prefix, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.4g} {prefix}{unit}".strip()
    return f"{value:.4g} {unit}".strip()


def duration(seconds: float) -> str:
    """Return a time span for people."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
