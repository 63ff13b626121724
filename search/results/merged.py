"""Reading the tables of several experiments as one."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from search.results.parts import columns_schema, unique_rows
from search.results.schema import KEYS, TABLES, TableName
from search.results.store import ResultStore

logger = logging.getLogger(__name__)

FOLDER = "folder"
"""Name of the column that says which of several folders a row is from."""


def read_all(
    stores: Sequence[ResultStore],
    table: TableName,
    columns: Sequence[str] | None = None,
    *,
    dictionary: Sequence[str] = (),
    folder: bool = False,
) -> pa.Table:
    """Return a table over several experiments, each key once. See :meth:`ResultStore.read`.

    Args:
        stores: One store an experiment.
        table: trials, epochs or proposals.
        columns: The columns wanted, in this order; None for all.
        dictionary: Columns of strings to return dictionary-encoded.
        folder: Whether to add the column ``FOLDER``: the index of a row's store.

    Raises:
        UserError: If a part was written by a later version.
        ValueError: If there is no such column.
    """
    if len(stores) == 1:
        rows = stores[0].read(table, columns, dictionary=dictionary)
        return rows.append_column(FOLDER, pa.array(np.zeros(len(rows), np.int64))) if folder else rows
    wanted = TABLES[table].names if columns is None else list(columns)
    read = list(dict.fromkeys([*wanted, *KEYS[table]]))
    empty = columns_schema(table, read, dictionary).append(pa.field(FOLDER, pa.int64())).empty_table()
    found = [store.read(table, read, dictionary=dictionary) for store in stores]
    numbered = (rows.append_column(FOLDER, pa.array(np.full(len(rows), i))) for i, rows in enumerate(found))
    rows = pa.concat_tables([empty, *numbered]).unify_dictionaries()
    unique = unique_rows(table, rows)
    if unique.num_rows < rows.num_rows:
        extra = rows.num_rows - unique.num_rows
        logger.warning("rows of %s that are in several folders, counted once: %d", table, extra)
    return unique.select([*wanted, FOLDER] if folder else wanted)
