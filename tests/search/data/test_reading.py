from __future__ import annotations

import numpy as np
import pytest

from search.data import EncodedSplit, Split, reading
from search.data.decode import Encoded
from search.spec import DataSpec


@pytest.mark.parametrize(("memory", "kind"), [(4 * 5 * 3 * 8 * 8, Split), (4 * 5 * 3 * 8 * 8 - 1, EncodedSplit)])
def test_a_quarter_of_the_memory_may_hold_pixels(encode, monkeypatch, memory, kind):
    monkeypatch.setattr(reading, "memory_bytes", lambda: memory)
    sources = [Encoded(f"image {number}", encode(number)) for number in range(5)]
    split, skipped = reading.read_split(sources, np.arange(5), DataSpec())
    assert isinstance(split, kind)
    assert split.shape == (3, 8, 8)
    assert skipped == ()


@pytest.mark.parametrize(("limit", "expected"), [("max", None), ("1048576", 2**20), (str(2**62), None)])
def test_a_control_groups_limit_counts(tmp_path, monkeypatch, limit, expected):
    monkeypatch.setattr(reading, "CGROUP_LIMIT", tmp_path / "absent")
    physical = reading.memory_bytes()
    assert physical > 2**28
    monkeypatch.setattr(reading, "CGROUP_LIMIT", tmp_path / "memory.max")
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    assert reading.memory_bytes() == (expected or physical)
