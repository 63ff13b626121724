"""Opening experiment folders for reading, from Python as from the command line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from search.errors import UserError, unknown_name
from search.results.facts import parse_meta
from search.results.folder import Folder
from search.results.merged import read_all
from search.results.schema import TABLES, TableName
from search.results.store import PREFIX, ResultStore
from search.spec import Spec, parse_spec

if TYPE_CHECKING:
    import duckdb
    import pandas

META_PATH = f"{PREFIX}/meta.json"
SPEC_PATH = "spec.yaml"


class Results:
    """The tables of one or more experiments, each read when it is first asked for.

    Args:
        stores: One store an experiment.
    """

    def __init__(self, stores: Sequence[ResultStore]) -> None:
        self.stores = list(stores)

    @cached_property
    def trials(self) -> pa.Table:
        """One row a trial; the schema is ``search.results.TABLES["trials"]``."""
        return self.table("trials")

    @cached_property
    def epochs(self) -> pa.Table:
        """One row a trial and epoch. Large: ask :meth:`sql` where a part of it will do."""
        return self.table("epochs")

    def table(self, name: TableName, columns: Sequence[str] | None = None) -> pa.Table:
        """Return columns of a table over all experiments. See :meth:`ResultStore.read`.

        Raises:
            UserError: If there is no such table or column, or a part was written by a later version.
        """
        if name not in TABLES:
            raise UserError(unknown_name("table", name, TABLES))
        for column in columns or ():
            if column not in TABLES[name].names:
                raise UserError(unknown_name(f"column of {name}", column, TABLES[name].names))
        return read_all(self.stores, name, columns)

    def to_pandas(self, name: TableName = "trials") -> pandas.DataFrame:
        """Return a table as a pandas frame (needs pandas).

        Raises:
            UserError: If there is no such table.
        """
        return self.table(name).to_pandas()

    @cached_property
    def meta(self) -> list[dict[str, Any]]:
        """For each experiment what holds for all of it: ``dense_bytes``, ``reference`` ...; {} if unknown."""
        return [read_meta(store.folder) for store in self.stores]

    def sql(self, query: str) -> duckdb.DuckDBPyRelation:
        """Return the answer to a question over the views trials, epochs, proposals and frontier.

        Raises:
            UserError: If DuckDB does not understand it, with DuckDB's message and the columns there are.
        """
        return self._query.relation(query)

    @cached_property
    def _query(self) -> Any:
        from search.results.query import Query

        return Query(self.stores)


def load(*folders: str | os.PathLike[str]) -> Results:
    """Open one or more experiment folders.

    Args:
        folders: Local paths, or URIs that ``pyarrow.fs`` opens. A folder given twice is read once.

    Raises:
        UserError: If one of them is no experiment folder.
    """
    if not folders:
        raise UserError("no folder given; name at least one experiment folder")
    opened = {folder.uri: folder for folder in map(Folder, folders)}
    return Results([ResultStore(experiment(folder)) for folder in opened.values()])


def experiment(folder: Folder) -> Folder:
    """Return the folder if it holds an experiment.

    Raises:
        UserError: If it does not, or cannot be read.
    """
    try:
        known = folder.exists(SPEC_PATH) or folder.exists(PREFIX)
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error}") from error
    if not known:
        raise UserError(f"{folder}: no experiment folder; it would hold {SPEC_PATH} and {PREFIX}/")
    return folder


def read_meta(folder: Folder) -> dict[str, Any]:
    """Return the experiment-wide facts that the driver wrote; {} if there are none.

    Raises:
        UserError: If the file is damaged, holds something else, or cannot be read.
    """
    try:
        return parse_meta(folder.read(META_PATH))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"{folder}/{META_PATH}: cannot be read: {error}") from error
    except ValueError as error:
        raise UserError(f"{folder}/{META_PATH}: {error}; run rps-search check on the folder") from error


def read_spec(folder: Folder) -> Spec | None:
    """Return the resolved spec of an experiment folder, or None where it has none.

    Raises:
        UserError: If it is no spec.
    """
    try:
        text = folder.read(SPEC_PATH).decode("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{folder}/{SPEC_PATH}: cannot be read as text ({error})") from error
    return parse_spec(text, where=f"{folder}/{SPEC_PATH}")
