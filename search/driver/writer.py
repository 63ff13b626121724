"""Rows go to the tables on a thread of their own: neither a slow disk nor an object store makes the driver wait."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from search.results.schema import TableName
from search.results.store import ResultStore

# What lies in the buffers is lost where the driver is killed: they are written as often as a small share of the time
# allows, on a slow storage less often than on a disk, so that there are few parts.
SHORTEST_FLUSH_S, LONGEST_FLUSH_S = 0.2, 5.0
WRITING_SHARE = 0.1
COMPACT_EVERY = 64

Row = Mapping[str, Any]


class Writer:
    """Gathers rows and writes them, one batch at a time.

    Rows leave :attr:`rows` when they are in their table and not before, so that no failure loses one or writes one
    twice. Cleaning up after trials is tried again, too, where it fails.

    Args:
        store: The tables.
        clean_up: Called on the thread with each trial that is in its table.
    """

    def __init__(self, store: ResultStore, clean_up: Callable[[Row], None]) -> None:
        self._store = store
        self._clean_up = clean_up
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rps-search-writer")
        self._writing: Future[None] | None = None
        self._began_at = time.monotonic()
        self._wait_s = SHORTEST_FLUSH_S
        self._took_s = 0.0
        self._batches = 0
        self._to_clean: deque[Row] = deque()
        self._abandoned = False
        self.rows: dict[TableName, list[Row]] = {"proposals": [], "epochs": [], "trials": []}
        """What gathers, by table. Add at the end only, and what a row builds on before it: see :meth:`_write`."""

    @property
    def due(self) -> bool:
        """Whether to write what has gathered: nothing is being written, and the last batch began long enough ago."""
        busy = self._writing is not None and not self._writing.done()
        return not busy and time.monotonic() >= self._began_at + self._wait_s

    def flush(self) -> None:
        """Begin to write what has gathered, and merge parts now and then, while the caller goes on.

        Waits for the batch before, if it is still being written.

        Raises:
            OSError: If the batch before could not be written; nothing is begun.
            UserError: If the tables have a part of a later version.
        """
        self._began_at = time.monotonic()
        self._settle()
        if self._to_clean or any(self.rows.values()):
            self._writing = self._thread.submit(self._write)

    def close(self) -> None:
        """Write what has gathered, merge what is worth merging and end the thread.

        Where an interrupt ends the waiting, the thread still writes what has gathered before it ends.

        Raises:
            OSError: If the folder cannot be written.
            UserError: If the tables have a part of a later version.
        """
        # After what is being written, on the same thread: what fails there is tried here once more.
        last = self._thread.submit(self._finish)
        try:
            last.result()
        finally:
            self._thread.shutdown()

    def abandon(self) -> None:
        """Write and clean up nothing more, but what is being written: the folder is another's."""
        self._abandoned = True

    def _settle(self) -> None:
        """Wait for what is being written, and raise what went wrong."""
        writing = self._writing
        if writing is not None:
            try:
                writing.result()
            finally:
                if writing.done():  # An interrupt ends the waiting, not the writing.
                    self._writing = None

    def _write(self) -> None:
        began = time.monotonic()
        # Copied in this order: what a trial's row builds on was added before it, and is in the copies made after it.
        trials, epochs, proposals = (self.rows[table].copy() for table in ("trials", "epochs", "proposals"))
        self._append("proposals", proposals)
        self._append("epochs", epochs)
        self._append("trials", trials)
        self._to_clean += trials
        while self._to_clean and not self._abandoned:
            self._clean_up(self._to_clean[0])
            self._to_clean.popleft()
        self._batches += 1
        if self._batches % COMPACT_EVERY == 0:
            self._compact()
        took_s = time.monotonic() - began
        # The cheaper of the last two: the first of a process, and one that merges parts, take far longer.
        wanted = min(took_s, self._took_s) / WRITING_SHARE
        self._wait_s = min(max(SHORTEST_FLUSH_S, wanted), LONGEST_FLUSH_S)
        self._took_s = took_s

    def _finish(self) -> None:
        if self._abandoned:
            return
        self._write()
        self._compact()

    def _append(self, table: TableName, rows: list[Row]) -> None:
        if rows and not self._abandoned:
            self._store.append(table, rows)
            del self.rows[table][: len(rows)]  # Others may have been added at the end meanwhile.

    def _compact(self) -> None:
        for table in self.rows:
            self._store.compact(table)
