"""Images from Parquet files: a column of encoded bytes and a column of class numbers."""

from __future__ import annotations

import difflib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from search.data.decode import Encoded
from search.data.encoded import EncodedSplit
from search.data.images import RawImages, Split
from search.data.reading import read_split
from search.errors import UserError
from search.spec import DataSpec


def parquet(spec: DataSpec) -> RawImages:
    """Read a Parquet file, or a folder of ``train*.parquet`` and ``test*.parquet``.

    Raises:
        UserError: If ``spec.path`` is missing or holds no such files, or they cannot be read.
    """
    if spec.path is None:
        raise UserError("data.path: name the Parquet file, or the folder of train*.parquet and test*.parquet")
    path = Path(spec.path)
    if path.is_file():
        train, skipped = read_images([path], spec)
        return RawImages(train, skipped=skipped)
    return read_folder(path, spec)


def read_folder(path: Path, spec: DataSpec) -> RawImages:
    """Read the ``train*.parquet`` of a folder (or of its ``data`` folder), and the ``test*.parquet`` if there are any.

    Raises:
        UserError: If there are no such files or they cannot be read.
    """
    files = find_files(path, "train")
    if not files:
        there = sorted(child.name for child in path.iterdir())[:5] if path.is_dir() else []
        raise UserError(
            f"data.path: {path} {'holds no train*.parquet' if path.is_dir() else 'does not exist'}"
            + (f" (there is {', '.join(there)})" if there else "")
        )
    train, skipped = read_images(files, spec)
    test_files = find_files(path, "test")
    if not test_files:
        return RawImages(train, skipped=skipped)
    test, more = read_images(test_files, spec)
    return RawImages(train, test, skipped=skipped + more)


def find_files(path: Path, part: str) -> list[Path]:
    """Return the Parquet files of one part, in the order of their names."""
    return sorted(path.glob(f"{part}*.parquet")) or sorted(path.glob(f"data/{part}*.parquet"))


def read_images(files: list[Path], spec: DataSpec) -> tuple[Split | EncodedSplit, tuple[str, ...]]:
    """Decode the images of Parquet files.

    Returns:
        The images with their labels, and the names of those left out.

    Raises:
        UserError: If a file is no Parquet file, lacks a column, or its values are no images and integers.
    """
    sources: list[Encoded] = []
    labels = []
    for file in files:
        table = _read(file, spec)
        values = _encoded(table[spec.image_column], file, spec.image_column)
        sources += [Encoded(f"{file.name} row {row}", value) for row, value in enumerate(values)]
        labels.append(_labels(table[spec.label_column], file, spec.label_column))
    if not sources:
        raise UserError(f"{files[0]}: holds no rows")
    return read_split(sources, np.concatenate(labels), spec)


def _read(file: Path, spec: DataSpec) -> pa.Table:
    try:
        with pq.ParquetFile(file) as opened:
            names = opened.schema_arrow.names
            for field, column in (("image_column", spec.image_column), ("label_column", spec.label_column)):
                if column not in names:
                    nearest = difflib.get_close_matches(column, names, n=1, cutoff=0.5)
                    hint = f"; write data.{field}={nearest[0]}" if nearest else f"; set data.{field}"
                    raise UserError(f"{file}: has no column {column!r}, only {', '.join(names)}{hint}")
                if (count := names.count(column)) > 1:
                    raise UserError(f"{file}: has {count} columns {column!r}; give one of them another name")
            return opened.read([spec.image_column, spec.label_column])
    except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: names that are not UTF-8
        raise UserError(f"{file}: not a readable Parquet file ({str(error).splitlines()[0]})") from error


def _encoded(column: pa.ChunkedArray, file: Path, name: str) -> list[bytes | None]:
    """Return the encoded images of a column of bytes, or of structs with a field ``bytes``."""
    kind = column.type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        column = pa.chunked_array([chunk.field("bytes") for chunk in column.chunks], kind.field("bytes").type)
        kind = column.type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise UserError(f"{file}: column {name!r} must hold encoded images as bytes, but holds {kind}")
    return column.to_pylist()


def _labels(column: pa.ChunkedArray, file: Path, name: str) -> np.ndarray:
    if not pa.types.is_integer(column.type):
        raise UserError(f"{file}: column {name!r} must hold class numbers as integers, but holds {column.type}")
    if column.null_count:
        raise UserError(f"{file}: column {name!r} must name a class for every row, but {column.null_count} are null")
    return column.to_numpy().astype(np.int64)
