"""Rows go to the tables on a thread of their own: neither a slow disk nor an object store makes the driver wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from search.errors import UserError
from search.results.schema import TableName
from search.results.store import ResultStore

# What lies in the buffers is lost where the driver is killed: they are written as often as a small share of its time
# allows, of the processor's alone, for waiting costs the driver nothing.
SHORTEST_FLUSH_S, LONGEST_FLUSH_S = 0.2, 5.0
WRITING_SHARE = 0.04
COMPACT_EVERY = 64

Row = Mapping[str, Any]


@dataclass
class Rows:
    """Rows that wait to be written. Of what was written the lists are empty, also where the rest failed."""

    proposals: list[Row] = field(default_factory=list)
    epochs: list[Row] = field(default_factory=list)
    trials: list[Row] = field(default_factory=list)

    def tables(self) -> dict[TableName, list[Row]]:
        """Return the lists that have rows, by table, in the order in which they are written."""
        tables: dict[TableName, list[Row]] = {
            "proposals": self.proposals,
            "epochs": self.epochs,
            "trials": self.trials,
        }
        return {name: rows for name, rows in tables.items() if rows}


class Writer:
    """Gathers rows and writes them, one batch at a time.

    Args:
        store: The tables.
        clean_up: Called on the thread with each trial that is in its table.
    """

    def __init__(self, store: ResultStore, clean_up: Callable[[Row], None]) -> None:
        self._store = store
        self._clean_up = clean_up
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rps-search-writer")
        self._batch = Rows()
        self._writing: Future[float] | None = None
        self._batches = 0
        self._cost_s = 0.0
        self._wait_s = SHORTEST_FLUSH_S
        self._next_at = time.monotonic()
        self.rows = Rows()
        """What gathers."""

    @property
    def due(self) -> bool:
        """Whether it is time to write what has gathered: nothing is being written, and the last was not just now."""
        return time.monotonic() >= self._next_at and (self._writing is None or self._writing.done())

    def flush(self) -> None:
        """Begin to write what has gathered, and merge parts now and then, while the caller goes on.

        Waits for the batch before, if it is still being written.

        Raises:
            OSError: If the batch before could not be written; its rows gather again, and nothing is begun.
            UserError: If the tables have a part of a later version.
        """
        self._settle()
        if self.rows.tables():
            self._batches += 1
            # In this order, so that an interrupt in between loses nothing.
            self._batch = self.rows
            self._writing = self._thread.submit(self._write, self._batch, compact=self._batches % COMPACT_EVERY == 0)
            self.rows = Rows()

    def close(self) -> None:
        """Write what has gathered, merge what is worth merging and end the thread.

        Raises:
            OSError: If the folder cannot be written.
            UserError: If the tables have a part of a later version.
        """
        with suppress(OSError, UserError):
            self._settle()  # What fails here is tried once more.
        try:
            self.flush()
            self._settle()
            self._compact()
        finally:
            self._thread.shutdown()

    def _settle(self) -> None:
        """Wait for what is being written; where that fails, what is left of it comes first in what gathers."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            cost_s = writing.result()
            # The cheaper of the last two: the first of a process, and one that merges parts, cost far more.
            wanted = min(cost_s, self._cost_s) / WRITING_SHARE
            self._wait_s = min(max(SHORTEST_FLUSH_S, wanted), LONGEST_FLUSH_S)
            self._cost_s = cost_s
        finally:
            self._next_at = time.monotonic() + self._wait_s
            left, later = self._batch, self.rows
            self.rows = Rows(left.proposals + later.proposals, left.epochs + later.epochs, left.trials + later.trials)

    def _write(self, batch: Rows, *, compact: bool) -> float:
        """Return the seconds of processor time that it took."""
        began = time.thread_time()
        for table, rows in batch.tables().items():
            self._store.append(table, rows)
            written = rows.copy()
            rows.clear()
            if table == "trials":
                for row in written:
                    self._clean_up(row)
        if compact:
            self._compact()
        return time.thread_time() - began

    def _compact(self) -> None:
        for table in ("trials", "epochs", "proposals"):
            self._store.compact(table)
