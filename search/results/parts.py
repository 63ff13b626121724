"""One part of a table: rows to the bytes of a Parquet file and back, with checksums over everything.

A part is named ``<time>-<rows>-<crc>[-c].parquet``: nanoseconds since 1970, its rows, the CRC-32 of its footer,
and ``-c`` if it is a compaction. The pages carry their own CRC-32, so that no flipped bit is taken for data.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from search.results.schema import (
    ESSENTIAL,
    ESSENTIAL_IF_FINISHED,
    KEYS,
    SCHEMA_VERSION,
    TABLE_KEY,
    TABLES,
    VERSION_KEY,
    TableName,
)

REPLACES_KEY = b"rps.replaces"
TRIALS_KEY = b"rps.trial_hashes"
ROW_GROUP = 250_000
COMPACTED_SUFFIX = "-c.parquet"
_NAME = re.compile(r"(\d{20})-(\d+)-([0-9a-f]{8})(-c)?\.parquet")
_MAGIC = b"PAR1"
_TAIL = 8  # length of the footer and the magic that ends every Parquet file


class DamagedPartError(Exception):
    """A part that is not what its writer wrote, or that no writer of this package wrote."""


class NewerSchemaError(Exception):
    """A part that a later version of this package wrote."""


@dataclass(frozen=True)
class PartName:
    """What the name of a part says."""

    time_ns: int
    """When its first rows were written, in nanoseconds since 1970: the order of parts."""
    rows: int
    """Number of rows."""
    footer_crc: int
    """CRC-32 of the Parquet footer."""
    compacted: bool
    """Whether it replaces other parts."""

    def __str__(self) -> str:
        return f"{self.time_ns:020d}-{self.rows}-{self.footer_crc:08x}{'-c' * self.compacted}.parquet"

    @classmethod
    def parse(cls, name: str) -> PartName | None:
        """Return what a file name says, or None if it is not a part's."""
        match = _NAME.fullmatch(name)
        return match and cls(int(match[1]), int(match[2]), int(match[3], 16), match[4] is not None)


@dataclass(frozen=True)
class Footer:
    """The verified footer of a part."""

    metadata: pq.FileMetaData
    version: int
    """Schema version of its writer."""

    @cached_property
    def replaces(self) -> frozenset[str]:
        """File names of the parts that this one was compacted from."""
        return frozenset(self.metadata.metadata.get(REPLACES_KEY, b"").decode().split())

    @cached_property
    def trial_hashes(self) -> np.ndarray:
        """Sorted 64-bit hashes of its trial ids, shape ``(trials,)``."""
        return np.frombuffer(base64.b64decode(self.metadata.metadata.get(TRIALS_KEY, b"")), dtype="<u8")


def rows_to_table(name: TableName, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return rows as an Arrow table with the schema of ``name``; missing columns are null.

    Raises:
        ValueError: If a row has an unknown column, lacks a required one, or a value has the wrong type.
    """
    schema = TABLES[name]
    unknown = {key for row in rows for key in row} - set(schema.names)
    if unknown:
        raise ValueError(f"{name} has no column {', '.join(sorted(unknown))}; it has {', '.join(schema.names)}")
    arrays = []
    for field in schema:
        values = [row.get(field.name) for row in rows]
        if pa.types.is_map(field.type):
            values = [list(value.items()) if isinstance(value, Mapping) else value for value in values]
        if not field.nullable and any(value is None for value in values):
            raise ValueError(
                f"{name}.{field.name} must have a value in every row, but row {values.index(None)} has none"
            )
        try:
            arrays.append(pa.array(values, field.type))
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"{name}.{field.name} takes {field.type} only: {error}") from error
    return pa.Table.from_arrays(arrays, schema=schema)


def unique_rows(name: TableName, table: pa.Table) -> pa.Table:
    """Return the table without the rows whose key an earlier row has."""
    keys = pa.table({**{key: table[key] for key in KEYS[name]}, "row": np.arange(table.num_rows)})
    first = keys.group_by(list(KEYS[name]), use_threads=False).aggregate([("row", "min")])["row_min"]
    return table if len(first) == table.num_rows else table.take(np.sort(first.to_numpy()))


def encode(name: TableName, table: pa.Table, time_ns: int, replaces: Sequence[str] = ()) -> tuple[PartName, bytes]:
    """Return the name and the bytes of the part that holds ``table``."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, compression="zstd", write_page_checksum=True) as writer:
        writer.write_table(table, row_group_size=ROW_GROUP)
        writer.add_key_value_metadata(
            {
                VERSION_KEY: str(SCHEMA_VERSION).encode(),
                TABLE_KEY: name.encode(),
                REPLACES_KEY: " ".join(replaces).encode(),
                TRIALS_KEY: base64.b64encode(hashes(table["trial_id"].unique().to_pylist()).tobytes()),
            }
        )
    data = sink.getvalue().to_pybytes()
    length = int.from_bytes(data[-_TAIL:-4], "little")
    crc = zlib.crc32(data[-_TAIL - length : -_TAIL])
    return PartName(time_ns, table.num_rows, crc, compacted=bool(replaces)), data


def read_footer(file: pa.NativeFile, name: TableName, part: PartName) -> Footer:
    """Read and verify the footer of an open part.

    Raises:
        DamagedPartError: If it is not the footer that the part's name tells of.
        NewerSchemaError: If its schema is newer than this package.
    """
    size = file.size()
    if size < _TAIL + len(_MAGIC):
        raise DamagedPartError("it is empty" if size == 0 else f"it is cut off: {size} bytes are no Parquet file")
    file.seek(size - _TAIL)
    tail = file.read(_TAIL)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MAGIC or length > size - _TAIL - len(_MAGIC):
        raise DamagedPartError("it does not end as a Parquet file does: cut off or overwritten")
    file.seek(size - _TAIL - length)
    footer = file.read(length)
    if zlib.crc32(footer) != part.footer_crc:
        raise DamagedPartError("its footer is not the one it was written with (CRC-32 differs)")
    metadata = pq.read_metadata(pa.BufferReader(_MAGIC + footer + tail))
    facts = metadata.metadata or {}
    version = int(facts.get(VERSION_KEY, b"0"))
    if version > SCHEMA_VERSION:
        raise NewerSchemaError(f"its tables have version {version}, this package reads up to {SCHEMA_VERSION}")
    if facts.get(TABLE_KEY) != name.encode() or metadata.num_rows != part.rows:
        raise DamagedPartError(f"it is no part of the table {name}")
    return Footer(metadata, version)


def decode(
    file: pa.NativeFile,
    name: TableName,
    footer: Footer,
    columns: Sequence[str],
    dictionary: Sequence[str] = (),
    *,
    use_threads: bool = True,
) -> pa.Table:
    """Return columns of an open part in the current schema; those its writer did not know are null.

    Args:
        file: The part.
        name: Its table.
        footer: Its footer.
        columns: The columns wanted.
        dictionary: Columns of strings to return dictionary-encoded, which is fast where they have few values.
        use_threads: Read several columns at a time.

    Raises:
        DamagedPartError: If a page is not what was written.
    """
    known = set(footer.metadata.schema.to_arrow_schema().names)
    try:
        reader = pq.ParquetFile(
            file, metadata=footer.metadata, page_checksum_verification=True, read_dictionary=list(dictionary)
        )
        table = reader.read([column for column in columns if column in known], use_threads=use_threads)
        return conform(name, table, columns, dictionary)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedPartError(f"a page cannot be read: {error}") from error


def salvage(file: pa.NativeFile, name: TableName, footer: Footer) -> pa.Table:
    """Return what can be read of an open part with damaged pages: the rows whose essential columns are whole.

    Other columns of them that cannot be read are null. All columns are in the current schema.
    """
    reader = pq.ParquetFile(file, metadata=footer.metadata, page_checksum_verification=True)
    known = [column for column in TABLES[name].names if column in reader.schema_arrow.names]
    groups = []
    for group in range(footer.metadata.num_row_groups):
        rows = footer.metadata.row_group(group).num_rows
        columns = []
        for column in known:
            try:
                columns.append(reader.read_row_group(group, [column])[column])
            except (pa.ArrowException, OSError, ValueError):
                columns.append(pa.nulls(rows, reader.schema_arrow.field(column).type))
        table = pa.table(columns, names=known)
        whole = pa.table({f.name: table[f.name] if f.name in known else pa.nulls(rows, f.type) for f in TABLES[name]})
        groups.append(conform(name, whole.filter(_useful(name, whole)), TABLES[name].names))
    return pa.concat_tables([TABLES[name].empty_table(), *groups])


def _useful(name: TableName, rows: pa.Table) -> pa.ChunkedArray:
    """Return which rows have all that is essential to them."""
    useful = pa.chunked_array([np.ones(len(rows), dtype=bool)])
    for column in ESSENTIAL[name]:
        useful = pc.and_(useful, pc.is_valid(rows[column]))
    if name == "trials":
        other = pc.not_equal(rows["status"], "finished")
        for column in ESSENTIAL_IF_FINISHED:
            useful = pc.and_(useful, pc.or_(other, pc.is_valid(rows[column])))
    return useful


def columns_schema(name: TableName, columns: Sequence[str], dictionary: Sequence[str] = ()) -> pa.Schema:
    """Return the schema of some columns, those in ``dictionary`` dictionary-encoded."""
    fields = [TABLES[name].field(column) for column in columns]
    return pa.schema([f.with_type(pa.dictionary(pa.int32(), f.type)) if f.name in dictionary else f for f in fields])


def conform(name: TableName, table: pa.Table, columns: Sequence[str], dictionary: Sequence[str] = ()) -> pa.Table:
    """Return the table with exactly ``columns``, in the current schema's types, absent ones null."""
    schema = columns_schema(name, columns, dictionary)
    arrays = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def hashes(trial_ids: Sequence[str]) -> np.ndarray:
    """Return the sorted 64-bit hashes of trial ids that footers list."""
    digests = b"".join(hashlib.blake2b(trial_id.encode(), digest_size=8).digest() for trial_id in trial_ids)
    return np.unique(np.frombuffer(digests, dtype="<u8"))
