"""Questions in SQL over the tables of experiments. The SQL can read these tables and touch nothing else.

DuckDB runs in memory with external access off and its configuration locked: no file, no network, no extension, no
Python variable is reachable, whatever the SQL says. The tables are streamed to it from verified Parquet parts.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterator, Sequence

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from search.errors import UserError
from search.results.duplicates import Source, resolved
from search.results.parts import DamagedPartError
from search.results.schema import TABLES, TableName
from search.results.store import Problem, ResultStore

logger = logging.getLogger(__name__)

FRONTIER = "frontier"
_ROW = "row"
MEMORY_LIMIT = "768MB"
BATCH_ROWS = 65_536
VIEWS = (*TABLES, FRONTIER)
# What stands before the statement that is explained; with ANALYZE it runs, whatever it is.
_EXPLAIN = re.compile(r"\s*EXPLAIN\b(\s+ANALYZE\b)?(\s*\((\s|,|ANALYZE(\s+\w+)?|FORMAT\s+'?\w+'?)*\))?", re.IGNORECASE)
_ATTEMPTS = 10


class Query:
    """Answers SQL over the views ``trials``, ``epochs``, ``proposals`` and ``frontier`` of one or more experiments.

    The view ``frontier`` holds each method's frontier over stored bytes, chosen by validation accuracy (see
    :mod:`search.results.frontier`); its column ``overall`` says which points are on the frontier of all methods.

    Args:
        stores: One store an experiment.
        memory_limit: Most memory that DuckDB may take (``768MB``, ``4GB``); what needs more goes to temporary files.
    """

    def __init__(self, stores: Sequence[ResultStore], memory_limit: str = MEMORY_LIMIT) -> None:
        self._stores = list(stores)
        self._sources: dict[TableName, list[Source]] = {}
        self._left_out: set[tuple[str, str]] = set()
        self._spill = tempfile.TemporaryDirectory(prefix="rps-search-", ignore_cleanup_errors=True)
        try:
            self._connection = duckdb.connect(
                ":memory:",
                config={
                    "enable_external_access": False,
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                    "allow_community_extensions": False,
                    "python_enable_replacements": False,
                    "memory_limit": memory_limit,
                    "temp_directory": self._spill.name,
                    "lock_configuration": True,
                },
            )
        except duckdb.Error as error:
            raise UserError(f"memory limit {memory_limit!r}: {error!s}") from error

    def close(self) -> None:
        """Free what DuckDB holds, in memory and on disk."""
        self._connection.close()
        self._spill.cleanup()

    def relation(self, sql: str) -> duckdb.DuckDBPyRelation:
        """Return the answer as a DuckDB relation, computed when it is read.

        Raises:
            UserError: If the SQL is not one reading statement that DuckDB understands.
        """
        statement = self._statement(sql)
        for view in _mentioned(statement):
            self._define(view)
        try:
            return self._connection.sql(statement)
        except duckdb.Error as error:
            raise self._sql_error(error, statement) from error

    def batches(self, sql: str) -> pa.RecordBatchReader:
        """Return the answer as a stream of Arrow batches; the first one is computed before this returns.

        Parts that turn out to be damaged are named in a warning and left out.

        Raises:
            UserError: If the SQL is not one reading statement that DuckDB understands, or it fails while it runs.
        """
        for _ in range(_ATTEMPTS):
            relation = self.relation(sql)
            try:
                reader = pa.RecordBatchReader.from_stream(relation)
                first = next(reader, None)
            except (duckdb.Error, pa.ArrowException, OSError) as error:
                # Either the question fails on the data, or a part vanished or does not hold what was written.
                if not self._parts_changed():
                    raise self._sql_error(error, sql) from error
            else:
                return pa.RecordBatchReader.from_batches(reader.schema, self._rest(first, reader, sql))
        raise UserError("the tables change faster than they can be read; ask again, or wait for the search to end")

    def _rest(self, first: pa.RecordBatch | None, reader: pa.RecordBatchReader, sql: str) -> Iterator[pa.RecordBatch]:
        if first is not None:
            yield first
        try:
            yield from reader
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise self._sql_error(error, sql) from error

    def _statement(self, sql: str) -> str:
        if not isinstance(sql, str):
            raise UserError(f'a question must be text, such as "SELECT * FROM frontier", but got {sql!r}')
        try:
            statements = self._connection.extract_statements(sql)
        except duckdb.Error as error:
            raise self._sql_error(error, sql) from error
        if len(statements) != 1:
            raise UserError(f"one SQL statement is expected, but got {len(statements)}")
        kind = statements[0].type.name
        if kind == "EXPLAIN" and (before := _EXPLAIN.match(statements[0].query)):
            self._statement(statements[0].query[before.end() :])
        elif kind == "MULTI" and "pivot" in sql.lower():  # It would first make a type of the values.
            raise UserError("a PIVOT must name the values that become columns, such as ON method IN ('rps', 'rand')")
        elif kind != "SELECT":
            raise UserError(f"only reading is possible here: write a SELECT, not a statement of the kind {kind}")
        return statements[0].query

    def _define(self, view: str) -> None:
        if view == FRONTIER:
            self._connection.register(FRONTIER, _frontier(self._stores))
            return
        for name in TABLES:
            if name == view:
                self._define_table(name)

    def _define_table(self, name: TableName) -> None:
        """Define the view of a table: its parts as they are, or, where rows were written twice, without these."""
        for _ in range(_ATTEMPTS):
            sources: list[Source] = []
            for store in self._stores:
                snapshot = store.snapshot(name)
                store.warn(snapshot.problems)
                sources += [(store, p) for p in snapshot.parts if (store.folder.uri, p.path) not in self._left_out]
            self._sources[name] = sources
            try:
                once, dropped = resolved(name, sources)
                break
            except (DamagedPartError, FileNotFoundError):
                self._parts_changed()
        else:
            raise UserError(f"the parts of {name} change faster than they can be read; ask again")
        if not dropped:
            self._connection.register(name, _dataset(name, sources))
            return
        logger.warning("duplicate rows of %s, counted once: %d; rps-search check --repair removes them", name, dropped)
        self._connection.register(f"{name}_stored", _dataset(name, sources))
        self._connection.register(f"{name}_once", once)
        self._connection.execute(
            f"CREATE OR REPLACE TEMP VIEW {name} AS FROM {name}_stored "
            f"WHERE trial_id NOT IN (SELECT trial_id FROM {name}_once) UNION ALL FROM {name}_once"
        )

    def _parts_changed(self) -> bool:
        """Read every page of the parts in use; return whether one is damaged, and left out from now on, or gone."""
        changed = False
        for name, sources in self._sources.items():
            for store, part in sources:
                try:
                    store.read_part(name, part, TABLES[name].names)
                except DamagedPartError as error:
                    store.warn([Problem(part.path, str(error))])
                    self._left_out.add((store.folder.uri, part.path))
                    changed = True
                except FileNotFoundError:
                    changed = True
        return changed

    def _sql_error(self, error: Exception, sql: str) -> UserError:
        message = str(error).split("\n\nLINE")[0].replace("\n", " ").strip()
        if not isinstance(error, duckdb.BinderException | duckdb.CatalogException | duckdb.ParserException):
            return UserError(message)
        columns = "; ".join(f"{view}: {', '.join(_columns(view))}" for view in _mentioned(sql))
        return UserError(f"{message} - columns of {columns}")


def _frontier(stores: Sequence[ResultStore]) -> pa.Table:
    from search.results.frontier import frontier
    from search.results.points import drawable, points

    all_points = points(drawable(stores))
    # By their rows: of two experiments each may have a trial of the same id.
    all_points = all_points.append_column(_ROW, pa.array(range(all_points.num_rows), pa.int64()))
    overall = frontier(all_points)[_ROW].combine_chunks()
    by_method = frontier(all_points, by=("method",))
    by_method = by_method.append_column("overall", pc.is_in(by_method[_ROW], overall))
    return by_method.drop_columns([_ROW])


def _columns(view: str) -> list[str]:
    for name, schema in TABLES.items():
        if name == view:
            return schema.names
    return _frontier([]).column_names


def _mentioned(sql: str) -> list[str]:
    """Return the views that a statement may read; all of them if it names none (SHOW TABLES, a typing error)."""
    words = set(re.findall(r"\w+", sql.lower()))
    return [view for view in VIEWS if view in words] or list(VIEWS)


def _dataset(name: TableName, sources: Sequence[Source]) -> ds.Dataset:
    """Return the parts as one Arrow data set that checks the CRC-32 of every page it reads."""
    schema = TABLES[name]
    options = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    parquet = ds.ParquetFileFormat(default_fragment_scan_options=options)
    children = []
    for store in dict.fromkeys(store for store, _ in sources):
        paths = [part.path for owner, part in sources if owner is store]
        children.append(store.folder.dataset(paths, parquet, schema))
    return ds.dataset(children) if children else ds.dataset(schema.empty_table())
