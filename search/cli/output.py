"""How tables leave the command line: as text for people, or as CSV, JSON or Parquet for programs."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated, Any

import pyarrow as pa
import typer
from pyarrow import csv, parquet

from search.errors import UserError

TABLE_ROWS = 200
CELL_WIDTH = 48
_INDENT = "  "
# What DuckDB answers EXPLAIN with: drawings of many lines.
_EXPLAINED = ["explain_key", "explain_value"]


class Format(StrEnum):
    """Formats of tables."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


FormatOption = Annotated[
    Format | None, typer.Option("--format", help="Default: what the ending of --out says, otherwise table.")
]
OutOption = Annotated[str | None, typer.Option("--out", metavar="FILE", help="Write here, not to standard output.")]


def write(reader: pa.RecordBatchReader, form: Format | None, out: str | None) -> None:
    """Write a stream of batches in a format to a file or standard output. A file appears whole or not at all.

    Raises:
        UserError: If Parquet is to go to standard output, the format has no such type or cannot tell two columns
            apart, or the file cannot be written.
    """
    form = form or _by_ending(out)
    if out is None and form is Format.PARQUET:
        raise UserError("Parquet needs a file to go to: add --out FILE.parquet")
    twice = next((name for name in reader.schema.names if reader.schema.names.count(name) > 1), None)
    if twice is not None and form in {Format.JSON, Format.PARQUET}:
        raise UserError(f"{form} has one value of a name, but two columns are named {twice!r}: name one with AS")
    with _whole_file(Path(out)) if out else contextlib.nullcontext(sys.stdout.buffer) as stream:
        try:
            _WRITERS[form](reader, stream)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise UserError(f"the answer cannot be written as {form}: {error}; cast the column to VARCHAR") from error
        stream.flush()


def printable(text: str) -> str:
    """Return text with everything that could steer a terminal, or turn its direction, shown as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def format_table(table: pa.Table, width: int | None = CELL_WIDTH) -> str:
    """Return a table as aligned text, numbers to the right; cells longer than ``width`` are cut."""
    columns = [
        [printable(name), *(_cell(value, width) for value in _values(column))]
        for name, column in zip(table.column_names, table, strict=True)
    ]
    right = [pa.types.is_integer(field.type) or pa.types.is_floating(field.type) for field in table.schema]
    widths = [max(map(len, column)) for column in columns]
    lines = (
        _INDENT.join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)).rstrip()
        for row in zip(*columns, strict=True)
    )
    return "".join(f"{line}\n" for line in lines)


def _by_ending(out: str | None) -> Format:
    ending = Path(out).suffix.removeprefix(".").lower() if out else ""
    return Format(ending) if ending in set(Format) else Format.TABLE


@contextlib.contextmanager
def _whole_file(path: Path) -> Iterator[IO[bytes]]:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as stream:
            yield stream
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"--out {path}: cannot be written: {os.strerror(error.errno) if error.errno else error}"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_or_print(table: pa.Table, form: Format | None, out: str | None, *, shown: pa.Table | None = None) -> bool:
    """Write a table as it was asked for; where nothing was, print it, or what of it is ``shown`` to people.

    Returns:
        Whether it was printed for people.
    """
    if out is not None or form not in {None, Format.TABLE}:
        write(table.to_reader(), form, out)
        return False
    print(format_table(table if shown is None else shown), end="")
    return True


def _write_table(reader: pa.RecordBatchReader, stream: IO[bytes]) -> None:
    batches, rows = [], 0
    for batch in reader:
        batches.append(batch)
        rows += batch.num_rows
        if rows > TABLE_ROWS:
            break
    shown = pa.Table.from_batches(batches, reader.schema).slice(0, TABLE_ROWS)
    if reader.schema.names == _EXPLAINED:
        stream.write("".join(f"{text}\n" for text in shown[1].to_pylist()).encode())
        return
    # A program that reads them wants cells whole, and a file has no edge.
    stream.write(format_table(shown, CELL_WIDTH if stream.isatty() else None).encode())
    if rows > TABLE_ROWS:
        print(f"only the first {TABLE_ROWS} rows are shown; --format csv, json or parquet writes all", file=sys.stderr)


def _write_csv(reader: pa.RecordBatchReader, stream: IO[bytes]) -> None:
    screen = stream.isatty()
    as_text = [not _plain_in_csv(f.type) or (screen and pa.types.is_string(f.type)) for f in reader.schema]
    schema = pa.schema([f.with_type(pa.string()) if t else f for f, t in zip(reader.schema, as_text, strict=True)])
    with csv.CSVWriter(stream, schema) as writer:
        for batch in reader:
            columns = [_text(c, screen) if t else c for c, t in zip(batch.columns, as_text, strict=True)]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def _plain_in_csv(kind: pa.DataType) -> bool:
    simple = pa.types.is_string, pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_timestamp
    return any(is_kind(kind) for is_kind in simple)


def _text(column: pa.Array, screen: bool) -> pa.Array:
    """Return values as text, nested ones as JSON; for a screen without control characters."""
    texts = [None if value is None else _csv_cell(value) for value in _values(column)]
    return pa.array([t if t is None or not screen else printable(t) for t in texts], pa.string())


def _csv_cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    text = _json(value)
    return json.loads(text) if text.startswith('"') else text


def _write_json(reader: pa.RecordBatchReader, stream: IO[bytes]) -> None:
    """Write an array of objects, one a line. What JSON has no number for (NaN, infinity) is null."""
    mark = "[\n"
    for batch in reader:
        for row in zip(*map(_values, batch.columns), strict=True):
            stream.write(f"{mark}{_json(dict(zip(batch.schema.names, row, strict=True)))}".encode())
            mark = ",\n"
    stream.write(b"[]\n" if mark == "[\n" else b"\n]\n")


def _write_parquet(reader: pa.RecordBatchReader, stream: IO[bytes]) -> None:
    with parquet.ParquetWriter(stream, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)


_WRITERS: dict[Format, Callable[[pa.RecordBatchReader, IO[bytes]], None]] = {
    Format.TABLE: _write_table,
    Format.CSV: _write_csv,
    Format.JSON: _write_json,
    Format.PARQUET: _write_parquet,
}


def _values(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    try:
        values = column.to_pylist()
    except (OverflowError, ValueError):
        # Times that Python has no object for, such as infinity.
        return column.cast(pa.string()).to_pylist()
    if pa.types.is_map(column.type):
        return [value if value is None else dict(value) for value in values]
    return values


def _json(value: Any) -> str:
    """Return a value as JSON. Decimals keep their digits, which a float would lose."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_json, value)) + "]"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, float) and not math.isfinite(value):
        return "null"
    if isinstance(value, datetime | date):
        value = value.isoformat()
    return json.dumps(value if value is None or isinstance(value, bool | int | float | str) else str(value))


def _cell(value: Any, width: int | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, dict | list | tuple):
        value = _json(value)
    text = printable(str(value))
    return text if width is None or len(text) <= width else text[: width - 1] + "…"
