"""The result tables of one experiment: append-only Parquet parts that many may read while they are written.

A flush writes one part. :meth:`ResultStore.compact` merges parts into one that names those it replaces, and deletes
them afterwards: whoever reads between these steps, or after a crash there, leaves the replaced ones out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa

from search.errors import UserError
from search.results.compaction import mergeable
from search.results.duplicates import shared_hashes
from search.results.folder import Entry, Folder
from search.results.parts import (
    COMPACTED_SUFFIX,
    DamagedPartError,
    Footer,
    NewerSchemaError,
    PartName,
    columns_schema,
    decode,
    encode,
    read_footer,
    rows_to_table,
    unique_rows,
)
from search.results.schema import KEYS, TABLES, TableName

logger = logging.getLogger(__name__)
T = TypeVar("T")

PREFIX = "results"
_READ_ATTEMPTS = 10


@dataclass(frozen=True)
class Part:
    """A part that can be read."""

    path: str
    """Path relative to the experiment folder."""
    name: PartName
    footer: Footer


@dataclass(frozen=True)
class Problem:
    """Something found in a table that readers leave out."""

    path: str
    """The file, relative to the experiment folder."""
    what: str
    """What is wrong with it."""


@dataclass
class Snapshot:
    """The parts of a table at one moment, in the order of their first rows."""

    parts: list[Part]
    superseded: list[str]
    """Paths of parts whose rows live on in a compacted one."""
    problems: list[Problem] = field(default_factory=list)


class ResultStore:
    """The tables in the sub-folder ``results`` of an experiment folder. Can be pickled."""

    def __init__(self, folder: Folder, *, silent: bool = False) -> None:
        """Open the tables of a folder.

        Args:
            folder: An experiment folder.
            silent: Log nothing of what is left out: for those who tell of it themselves.
        """
        self.folder = folder
        self._silent = silent
        self._warned: set[str] = set()
        # When the newest part of a table was written, by the clocks of all that wrote.
        self._newest_ns: dict[TableName, int] = {}

    def append(self, table: TableName, rows: Sequence[Mapping[str, Any]] | pa.Table) -> str:
        """Write rows as one part and return its path. Rows are on disk from the moment this returns.

        Rows of the same key within one call are written once, the first of them. Write a trial's epochs in as few
        calls as can be: queries are fastest where no two parts share a trial.

        Args:
            table: trials, epochs or proposals.
            rows: Mappings from column to value (columns left out are null), or a table with the schema of ``table``.

        Raises:
            ValueError: If a row does not fit the schema, or there are no rows.
            OSError: If the part cannot be written.
        """
        if not len(rows):
            raise ValueError("a part needs at least one row")
        arrow = rows.cast(TABLES[table]) if isinstance(rows, pa.Table) else rows_to_table(table, rows)
        return self._write(table, unique_rows(table, arrow), self._now_ns(table))

    def _now_ns(self, table: TableName) -> int:
        """Return the time, but one after that of every part: the order of recording outlives a clock put back."""
        if table not in self._newest_ns:
            names = [PartName.parse(entry.path.rpartition("/")[2]) for entry in self.folder.list(f"{PREFIX}/{table}")]
            self._newest_ns[table] = max((name.time_ns for name in names if name is not None), default=0)
        self._newest_ns[table] = max(time.time_ns(), self._newest_ns[table] + 1)
        return self._newest_ns[table]

    def _write(self, table: TableName, rows: pa.Table, time_ns: int, replaces: Sequence[str] = ()) -> str:
        name, data = encode(table, rows, time_ns, replaces)
        path = f"{PREFIX}/{table}/{name}"
        self.folder.write_whole(path, data)
        return path

    def snapshot(self, table: TableName) -> Snapshot:
        """Return the parts that hold the table now. Reads footers only.

        Raises:
            UserError: If a part was written by a later version.
        """
        return self._retry(lambda: self._snapshot(table))

    def _snapshot(self, table: TableName) -> Snapshot:
        parts, problems = [], []
        entries = self.folder.list(f"{PREFIX}/{table}")
        for entry in entries:
            try:
                parts.append(self._open_part(table, entry))
            except DamagedPartError as error:
                problems.append(Problem(entry.path, str(error)))
            except NewerSchemaError as error:
                raise UserError(f"{self.folder}/{entry.path}: {error}; update the package") from error
        new = {entry.path for entry in self.folder.list(f"{PREFIX}/{table}")} - {entry.path for entry in entries}
        if any(path.endswith(COMPACTED_SUFFIX) for path in new):
            # A listing is not atomic: it may have missed both this part and some of those that it replaces.
            raise FileNotFoundError(f"the parts of {table} change faster than they can be read")
        replaced = {name for part in parts for name in part.footer.replaces}
        live = [part for part in parts if str(part.name) not in replaced]
        return Snapshot(live, [part.path for part in parts if str(part.name) in replaced], problems)

    def _open_part(self, table: TableName, entry: Entry) -> Part:
        name = PartName.parse(entry.path.rpartition("/")[2])
        if name is None:
            raise DamagedPartError("it does not have the name of a part: something else put it there")
        with self.folder.open(entry.path) as file:
            return Part(entry.path, name, read_footer(file, table, name))

    def read(
        self, table: TableName, columns: Sequence[str] | None = None, *, dictionary: Sequence[str] = ()
    ) -> pa.Table:
        """Return a table, each key once: the row written first. Safe while others write and compact.

        Damaged parts are left out, duplicates dropped; both are logged as warnings.

        Args:
            table: trials, epochs or proposals.
            columns: The columns wanted, in this order; None for all.
            dictionary: Columns of strings to return dictionary-encoded, which is fast where they have few values.

        Raises:
            UserError: If a part was written by a later version.
            ValueError: If there is no such column.
        """
        wanted = list(TABLES[table].names if columns is None else columns)
        unknown = set(wanted) - set(TABLES[table].names)
        if unknown:
            raise ValueError(f"{table} has no column {', '.join(sorted(unknown))}")
        rows, problems = self._retry(lambda: self._read(table, wanted, dictionary))
        self.warn(problems)
        return rows

    def read_whole(self, table: TableName) -> pa.Table:
        """Return a table, each key once, if all that was written can be read.

        Raises:
            DamagedPartError: Naming a part that cannot.
            UserError: If a part was written by a later version.
        """
        rows, problems = self._retry(lambda: self._read(table, TABLES[table].names, ()))
        if problems:
            raise DamagedPartError(f"{problems[0].path} is damaged: {problems[0].what}")
        return rows

    def warn(self, problems: Sequence[Problem]) -> None:
        """Log what is left out, once a file."""
        for problem in problems:
            if not self._silent and problem.path not in self._warned:
                self._warned.add(problem.path)
                logger.warning("%s/%s is left out: %s", self.folder, problem.path, problem.what)

    def _read(self, table: TableName, columns: list[str], dictionary: Sequence[str]) -> tuple[pa.Table, list[Problem]]:
        snapshot = self._snapshot(table)
        shared = len(shared_hashes(snapshot.parts)) > 0
        read = columns + [key for key in KEYS[table] if shared and key not in columns]
        found, problems = [columns_schema(table, read, dictionary).empty_table()], list(snapshot.problems)
        for part in snapshot.parts:
            try:
                found.append(self.read_part(table, part, read, dictionary))
            except DamagedPartError as error:
                problems.append(Problem(part.path, str(error)))
        # Arrow neither compares nor takes rows of chunks whose dictionaries differ.
        rows = pa.concat_tables(found).unify_dictionaries()
        if shared:
            unique = unique_rows(table, rows)
            if unique.num_rows < rows.num_rows and not self._silent:
                extra = rows.num_rows - unique.num_rows
                logger.warning("%s: duplicate rows of %s, counted once: %d", self.folder, table, extra)
            rows = unique.select(columns)
        return rows, problems

    def read_part(
        self,
        table: TableName,
        part: Part,
        columns: Sequence[str],
        dictionary: Sequence[str] = (),
        *,
        use_threads: bool = True,
    ) -> pa.Table:
        """Return columns of one part.

        Raises:
            DamagedPartError: If a page is not what was written.
            FileNotFoundError: If a compaction has deleted it meanwhile.
        """
        with self.folder.open(part.path) as file:
            return decode(file, table, part.footer, columns, dictionary, use_threads=use_threads)

    def compact(self, table: TableName) -> int:
        """Merge small parts until none are worth merging; call it after flushes. Returns how many parts it replaced.

        One process at a time should do it; two at once waste work but lose and double nothing. A crash at any point
        leaves what the next call tidies up.

        Raises:
            OSError: If the folder cannot be written.
            UserError: If a part was written by a later version.
        """
        replaced = 0
        damaged: set[str] = set()
        while True:
            snapshot = self.snapshot(table)
            for path in snapshot.superseded:
                self.folder.delete(path)
            parts = [part for part in snapshot.parts if part.path not in damaged]
            run = mergeable([part.name.rows for part in parts])
            if run is None:
                if replaced:
                    pa.default_memory_pool().release_unused()
                return replaced
            try:
                replaced += self.merge(table, parts[run])
            except DamagedPartError as error:
                # It stays where it is, for rps-search check; the others are merged around it.
                damaged.add(str(error))

    def merge(self, table: TableName, parts: Sequence[Part]) -> int:
        """Replace neighbouring parts by one that has their rows, each key once. Returns how many it replaced.

        The driver does this beside all else: one thread takes less memory than several, and is as fast on small parts.

        Raises:
            DamagedPartError: If one of them cannot be read, naming its path; nothing has changed then.
            OSError: If the folder cannot be written.
        """
        tables = []
        for part in parts:
            try:
                tables.append(self.read_part(table, part, TABLES[table].names, use_threads=False))
            except DamagedPartError as error:
                self.warn([Problem(part.path, str(error))])
                raise DamagedPartError(part.path) from error
        rows = unique_rows(table, pa.concat_tables(tables))
        path = self._write(table, rows, parts[0].name.time_ns, [str(part.name) for part in parts])
        del tables, rows  # What is read back now takes as much memory again, if all columns are at once.
        # What replaces others must be readable before they go.
        written = self._open_part(table, Entry(path, 0))
        for column in TABLES[table].names:
            self.read_part(table, written, [column], use_threads=False)
        for part in parts:
            self.folder.delete(part.path)
        return len(parts)

    def _retry(self, read: Callable[[], T]) -> T:
        """Read again where a compaction deleted a part between listing and opening it."""
        for _ in range(_READ_ATTEMPTS - 1):
            try:
                return read()
            except FileNotFoundError:
                continue
        return read()
