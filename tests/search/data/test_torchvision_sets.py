from __future__ import annotations

import os
import time

import pytest
from torchvision import datasets

from search.data import load_dataset
from search.data.torchvision_sets import cache_folder
from search.errors import UserError
from search.spec import DataSpec


def test_parquet_files_give_cifar_with_its_ten_classes(tmp_path, write_parquet):
    write_parquet(tmp_path / "train.parquet", 50)
    write_parquet(tmp_path / "test.parquet", 20)
    data = load_dataset(DataSpec(name="cifar10", path=str(tmp_path)))
    assert (len(data.train), len(data.val), len(data.test)) == (45, 5, 20)
    assert data.classes == 10
    assert data.augment == "crop_flip"


def test_a_label_outside_the_classes_is_refused(tmp_path, write_parquet, encode):
    columns = {"image": [encode(row) for row in range(50)], "label": [*range(49), 10]}
    write_parquet(tmp_path / "train.parquet", columns=columns)
    with pytest.raises(
        UserError, match=r"labels are whole numbers from 0 to 9, but training image 10 has 10 \(40 such"
    ):
        load_dataset(DataSpec(name="cifar10", path=str(tmp_path)))


def test_folders_without_the_data_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"nowhere does not exist; data.path=null downloads cifar100"):
        load_dataset(DataSpec(name="cifar100", path=str(tmp_path / "nowhere")))
    with pytest.raises(UserError, match=r"holds neither train\*.parquet nor cifar-10-batches-py"):
        load_dataset(DataSpec(name="cifar10", path=str(tmp_path)))


def test_a_pickle_that_is_not_the_published_one_is_never_opened(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"]:
        (folder / name).write_bytes(b"cos\nsystem\n(S'echo opened'\ntR.")
    with pytest.raises(UserError, match=r"cannot be read from .*; set data.path"):
        load_dataset(DataSpec(name="cifar10", path=str(tmp_path)))


def test_a_failed_download_says_where_to_put_the_data(tmp_path, monkeypatch):
    def fail(self):
        raise OSError("network is unreachable")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(datasets.CIFAR10, "download", fail)
    with pytest.raises(UserError, match=rf"cannot be downloaded to {tmp_path}/rps-search/data \(network is unreach"):
        load_dataset(DataSpec(name="cifar10"))
    assert cache_folder() == tmp_path / "rps-search" / "data"


@pytest.mark.slow
@pytest.mark.skipif("RPS_CIFAR10" not in os.environ, reason="RPS_CIFAR10 names no folder of CIFAR-10 Parquet files")
def test_the_whole_of_cifar10_is_split_as_the_literature_does():
    start = time.perf_counter()
    data = load_dataset(DataSpec(name="cifar10", path=os.environ["RPS_CIFAR10"]))
    assert time.perf_counter() - start < 60
    assert (len(data.train), len(data.val), len(data.test)) == (45_000, 5_000, 10_000)
    assert data.shape == (3, 32, 32)
    assert data.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=2e-3)
    assert data.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=3e-3)
