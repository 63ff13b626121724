from __future__ import annotations

import numpy as np
import pytest
import torch

from search.data import DeviceSplit, EncodedSplit, eval_batches, load_dataset, train_batches
from search.data.decode import Encoded
from search.errors import UserError
from search.spec import DataSpec


@pytest.fixture
def too_large(monkeypatch):
    """Let every data set be larger than the memory."""
    monkeypatch.setattr("search.data.reading.memory_bytes", lambda: 0)


@pytest.fixture
def split(encode):
    sources = tuple(Encoded(f"image {number}", encode(number)) for number in range(40))
    return EncodedSplit(sources, np.arange(40) % 10, (3, 8, 8), None)


def loaded(path, **fields):
    return load_dataset(DataSpec(name="cifar10", path=str(path), **fields))


@pytest.fixture
def both(tmp_path, write_parquet, monkeypatch):
    """The same files read as pixels and left encoded."""

    def _both(**fields):
        write_parquet(tmp_path / "train.parquet", 60)
        write_parquet(tmp_path / "test.parquet", 20)
        pixels = loaded(tmp_path, **fields)
        monkeypatch.setattr("search.data.reading.memory_bytes", lambda: 0)
        return pixels, loaded(tmp_path, **fields)

    return _both


@pytest.mark.parametrize("fields", [{}, {"train_limit": 20}, {"image_size": 6}])
def test_the_batches_are_those_of_decoded_images(both, fields):
    pixels, encoded = both(**fields)
    assert isinstance(encoded.train, EncodedSplit)
    assert (encoded.mean, encoded.std, encoded.shape) == (pixels.mean, pixels.std, pixels.shape)
    statistics = {"mean": pixels.mean, "std": pixels.std, "batch_size": 7}
    for part in ("train", "val", "test"):
        here, there = (DeviceSplit.of(getattr(data, part), "cpu") for data in (pixels, encoded))
        options = {"augment": "crop_flip", "seed": 1, "epoch": 2, **statistics}
        assert_same(train_batches(here, **options), train_batches(there, **options))
        assert_same(eval_batches(here, **statistics), eval_batches(there, **statistics))


def assert_same(first, second):
    for (images, labels), (other_images, other_labels) in zip(first, second, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)


def test_a_corrupt_image_is_left_out_when_the_data_is_loaded(tmp_path, write_parquet, encode, too_large):
    columns = {"image": [b"broken", *(encode(row) for row in range(49))], "label": [row % 10 for row in range(50)]}
    write_parquet(tmp_path / "train.parquet", columns=columns)
    with pytest.raises(UserError, match=r"1 of 50 images cannot be decoded"):
        loaded(tmp_path)
    data = loaded(tmp_path, max_corrupt_fraction=0.1)
    assert data.skipped == ("train.parquet row 0",)
    assert len(data.train) + len(data.val) + len(data.test) == 49


def test_grey_images_keep_one_channel(encode, too_large, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(10):
            (tmp_path / name / f"{number}.png").write_bytes(encode(number, mode="L", kind="PNG"))
    data = load_dataset(DataSpec(name="folder", path=str(tmp_path)))
    assert data.shape == (1, 8, 8)
    assert data.train.pixels(np.array([0, 3])).shape == (2, 1, 8, 8)


def test_batches_are_decoded_ahead_but_not_all_at_once(split, monkeypatch):
    started = []
    pixels = EncodedSplit.pixels
    monkeypatch.setattr(EncodedSplit, "pixels", lambda self, part: started.append(part) or pixels(self, part))
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1})
    stream = split.stream(np.arange(40).reshape(20, 2))
    next(stream)
    assert len(started) <= 4  # two workers and two batches ahead
    stream.close()
    assert len(started) <= 4


def test_an_image_that_vanished_is_named(encode, tmp_path):
    file = tmp_path / "gone.png"
    split = EncodedSplit((Encoded("gone.png", file),), np.zeros(1, dtype=np.int64), (3, 8, 8), None)
    with pytest.raises(UserError, match=r"gone.png: can no longer be decoded .*; was it changed\?"):
        list(split.stream([np.array([0])]))
