from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from search.data.parquet import parquet
from search.errors import UserError
from search.spec import DataSpec


def spec(path, **fields):
    return DataSpec(name="parquet", path=str(path), **fields)


def test_a_folder_gives_train_and_test_in_the_order_of_names(tmp_path, write_parquet):
    write_parquet(tmp_path / "train-01.parquet", 5, seed=100)
    write_parquet(tmp_path / "train-00.parquet", 30)
    write_parquet(tmp_path / "test.parquet", 20)
    raw = parquet(spec(tmp_path))
    assert len(raw.train) == 35
    assert raw.train.labels.tolist() == [row % 10 for row in range(30)] + [0, 1, 2, 3, 4]
    assert np.array_equal(raw.train.images[:20], raw.test.images)


def test_one_file_has_no_test_part(tmp_path, write_parquet):
    raw = parquet(spec(write_parquet(tmp_path / "mine.parquet", 12)))
    assert len(raw.train) == 12
    assert raw.test is None


def test_structs_of_bytes_in_a_data_folder_are_read(tmp_path, write_parquet, encode):
    images = [{"bytes": encode(row), "path": f"{row}.jpg"} for row in range(10)]
    write_parquet(tmp_path / "data" / "train-0.parquet", columns={"img": images, "label": list(range(10))})
    write_parquet(tmp_path / "plain.parquet", 10)
    raw = parquet(spec(tmp_path, image_column="img"))
    assert np.array_equal(raw.train.images, parquet(spec(tmp_path / "plain.parquet")).train.images)


def test_a_corrupt_row_is_named_and_its_label_goes_with_it(tmp_path, write_parquet, encode):
    columns = {"image": [encode(0), b"broken", encode(2)], "label": [7, 8, 9]}
    path = write_parquet(tmp_path / "mine.parquet", columns=columns)
    raw = parquet(spec(path, max_corrupt_fraction=0.5))
    assert raw.skipped == ("mine.parquet row 1",)
    assert raw.train.labels.tolist() == [7, 9]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"img": [b""], "label": [0]}, r"has no column 'image', only img, label; write data.image_column=img"),
        ({"image": [b""], "zzz": [0]}, r"has no column 'label', only image, zzz; set data.label_column"),
        ({"image": ["text"], "label": [0]}, r"column 'image' must hold encoded images as bytes, but holds string"),
        ({"image": [b""], "label": [0.5]}, r"column 'label' must hold class numbers as integers, but holds double"),
        ({"image": [b"", b""], "label": [0, None]}, r"column 'label' must name a class for every row, but 1 are null"),
    ],
)
def test_wrong_columns_are_refused(tmp_path, write_parquet, columns, message):
    with pytest.raises(UserError, match=message):
        parquet(spec(write_parquet(tmp_path / "mine.parquet", columns=columns)))


def test_files_that_are_no_parquet_or_cut_off_are_refused(tmp_path, write_parquet):
    whole = write_parquet(tmp_path / "whole.parquet", 10).read_bytes()
    for content in (b"", b"no parquet at all", whole[: len(whole) // 2]):
        (tmp_path / "mine.parquet").write_bytes(content)
        with pytest.raises(UserError, match=r"mine.parquet: not a readable Parquet file"):
            parquet(spec(tmp_path / "mine.parquet"))


def test_a_damaged_page_is_refused(tmp_path, write_parquet):
    content = bytearray(write_parquet(tmp_path / "mine.parquet", 50).read_bytes())
    content[4:200] = bytes(196)
    (tmp_path / "mine.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"mine\.parquet"):
        parquet(spec(tmp_path / "mine.parquet"))


def test_missing_paths_are_refused(tmp_path, write_parquet):
    with pytest.raises(UserError, match=r"data.path: name the Parquet file"):
        parquet(DataSpec(name="parquet"))
    with pytest.raises(UserError, match=r"nowhere does not exist"):
        parquet(spec(tmp_path / "nowhere"))
    write_parquet(tmp_path / "valid.parquet", 10)
    with pytest.raises(UserError, match=r"holds no train\*.parquet \(there is valid.parquet\)"):
        parquet(spec(tmp_path))


def test_no_rows_are_refused(tmp_path, write_parquet):
    columns = {"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}
    with pytest.raises(UserError, match="holds no rows"):
        parquet(spec(write_parquet(tmp_path / "mine.parquet", columns=columns), max_corrupt_fraction=0.5))


def test_a_column_that_is_there_twice_is_refused(tmp_path, encode):
    labels = pa.array([0, 1])
    table = pa.Table.from_arrays([pa.array([encode(0), encode(1)]), labels, labels], names=["image", "label", "label"])
    pq.write_table(table, tmp_path / "mine.parquet")
    with pytest.raises(UserError, match=r"mine\.parquet: has 2 columns 'label'; give one of them another name"):
        parquet(spec(tmp_path / "mine.parquet"))


def test_a_file_whose_names_are_damaged_is_refused(tmp_path, write_parquet):
    path = write_parquet(tmp_path / "mine.parquet", 2)
    content = path.read_bytes()
    assert content.count(b"label") > 1
    path.write_bytes(content.replace(b"label", b"lab\xfal"))
    with pytest.raises(UserError, match=r"mine\.parquet: not a readable Parquet file"):
        parquet(spec(path))


def test_what_is_left_out_of_the_test_part_is_named_too(tmp_path, write_parquet, encode):
    write_parquet(tmp_path / "train.parquet", columns={"image": [encode(0), b"broken"], "label": [0, 1]})
    write_parquet(tmp_path / "test.parquet", columns={"image": [b"broken", encode(1)], "label": [0, 1]})
    raw = parquet(spec(tmp_path, max_corrupt_fraction=0.5))
    assert raw.skipped == ("train.parquet row 1", "test.parquet row 0")
