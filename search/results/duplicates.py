"""Rows that were written twice: a writer that died between writing and taking note, or a folder that was copied.

Within a part there are none. Two parts can only hold a row twice if their footers list the same trial, so a look at the
footers says, almost always, that there is nothing to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from search.results.parts import hashes, unique_rows
from search.results.schema import KEYS, TABLES, TableName

if TYPE_CHECKING:
    from search.results.store import Part, ResultStore

Source: TypeAlias = "tuple[ResultStore, Part]"


def shared_hashes(parts: Sequence[Part]) -> np.ndarray:
    """Return the hashes of the trials that have rows in more than one part."""
    listed = [part.footer.trial_hashes for part in parts]
    # Each list is sorted already, which a stable sort makes use of.
    together = np.sort(np.concatenate(listed), kind="stable") if listed else np.empty(0, dtype="<u8")
    return np.unique(together[1:][together[1:] == together[:-1]])


def resolved(name: TableName, sources: Sequence[Source]) -> tuple[pa.Table, int]:
    """Return all rows of the trials that have duplicates, each key once, and how many rows were dropped for that.

    Args:
        name: The table.
        sources: Its parts, of one or more experiments, in the order in which the first row of a key is kept.

    Raises:
        DamagedPartError: If a part that must be looked at cannot be read.
        FileNotFoundError: If a compaction has deleted one meanwhile.
    """
    nothing = TABLES[name].empty_table(), 0
    shared = shared_hashes([part for _, part in sources])
    if not len(shared):
        return nothing
    suspects = [source for source in sources if np.isin(source[1].footer.trial_hashes, shared).any()]
    keys = pa.concat_tables(_keys(name, source, shared) for source in suspects)
    counted = keys.group_by(list(KEYS[name])).aggregate([([], "count_all")])
    twice = counted.filter(pc.greater(counted["count_all"], 1))["trial_id"].unique()
    if not len(twice):
        return nothing
    rows = pa.concat_tables(
        store.read_part(name, part, TABLES[name].names).filter(pc.field("trial_id").isin(twice))
        for store, part in suspects
    )
    kept = unique_rows(name, rows)
    return kept, rows.num_rows - kept.num_rows


def _keys(name: TableName, source: Source, shared: np.ndarray) -> pa.Table:
    store, part = source
    keys = store.read_part(name, part, KEYS[name])
    trials = keys["trial_id"].unique().to_pylist()
    return keys.filter(pc.field("trial_id").isin([t for t in trials if np.isin(hashes([t]), shared)[0]]))
