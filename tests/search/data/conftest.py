from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

Encode = Callable[..., bytes]


@pytest.fixture
def encode() -> Encode:
    """Encode one image: an array (H, W, 3), or a number for the seed of a random one."""

    def _encode(
        image: np.ndarray | int = 0, *, size: tuple[int, int] = (8, 8), mode: str = "RGB", kind: str = "JPEG", **options
    ) -> bytes:
        if isinstance(image, int):
            image = np.random.default_rng(image).integers(0, 256, (*size, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(image).convert(mode).save(buffer, kind, **options)
        return buffer.getvalue()

    return _encode


@pytest.fixture
def write_parquet(encode: Encode) -> Callable[..., Path]:
    """Write random JPEGs, 10 classes in turn, or the given columns."""

    def _write(path: Path, rows: int = 40, *, seed: int = 0, columns: dict[str, Sequence[Any]] | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if columns is None:
            columns = {
                "image": [encode(seed + row) for row in range(rows)],
                "label": [row % 10 for row in range(rows)],
            }
        pq.write_table(pa.table(columns), path)
        return path

    return _write
