from __future__ import annotations

import pytest

from search.data import load_dataset
from search.data.folders import image_folder, tiny_imagenet
from search.errors import UserError
from search.spec import DataSpec


@pytest.fixture
def fill(encode):
    def _fill(folder, count=3, suffix=".png"):
        folder.mkdir(parents=True)
        for number in range(count):
            (folder / f"{number}{suffix}").write_bytes(encode(number, kind="PNG"))

    return _fill


def spec(path, name="folder", **fields):
    return DataSpec(name=name, path=str(path), **fields)


def test_class_folders_become_classes_in_the_order_of_names(tmp_path, fill):
    fill(tmp_path / "dog", 2)
    fill(tmp_path / "cat" / "indoors", 3, suffix=".PNG")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    raw = image_folder(spec(tmp_path))
    assert raw.class_names == ("cat", "dog")
    assert raw.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert raw.test is None


def test_what_is_hidden_in_a_class_folder_is_no_image_of_it(tmp_path, fill):
    """Notebooks keep copies of images in .ipynb_checkpoints, of which some would be trained on and others tested."""
    fill(tmp_path / "a")
    fill(tmp_path / ".hidden")
    fill(tmp_path / "b" / ".ipynb_checkpoints")
    fill(tmp_path / "b" / "indoors")
    (tmp_path / "b" / "indoors" / "._0.png").write_bytes(b"what macOS puts beside a file")
    raw = image_folder(spec(tmp_path))
    assert raw.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert image_folder(spec(tmp_path / ".." / tmp_path.name)).train.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_class_of_which_no_image_is_there_is_named(tmp_path, fill):
    fill(tmp_path / "train" / "a")
    fill(tmp_path / "train" / "b", suffix=".heic")
    with pytest.raises(UserError, match=r"train: the folder 'b' holds no images \(\.bmp, "):
        image_folder(spec(tmp_path))
    fill(tmp_path / "train" / "b" / "more")
    fill(tmp_path / "test" / "a")
    (tmp_path / "test" / "b").mkdir()  # none to test on is no mistake
    assert image_folder(spec(tmp_path)).test.labels.tolist() == [0, 0, 0]


@pytest.mark.parametrize("part", ["test", "val"])
def test_train_and_test_folders_are_told_apart(tmp_path, fill, part):
    for name in "ab":
        fill(tmp_path / "train" / name, 4)
        fill(tmp_path / part / name, 2)
    raw = image_folder(spec(tmp_path))
    assert len(raw.train) == 8
    assert raw.test.labels.tolist() == [0, 0, 1, 1]


def test_a_corrupt_file_is_named_by_its_path(tmp_path, fill):
    fill(tmp_path / "a")
    fill(tmp_path / "b")
    (tmp_path / "b" / "1.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"1 of 6 images cannot be decoded \(b/1\.png\)"):
        image_folder(spec(tmp_path))
    raw = image_folder(spec(tmp_path, max_corrupt_fraction=0.2))
    assert raw.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert raw.skipped == ("b/1.png",)


def test_hidden_folders_are_no_classes_and_hide_no_others(tmp_path, fill):
    for place in ("train/a", "train/.cache", "test/a", "test/.cache"):
        fill(tmp_path / place)
    assert image_folder(spec(tmp_path)).class_names == ("a",)
    fill(tmp_path / "test" / "c")
    with pytest.raises(UserError, match=r"holds the folder 'c', but no training image has that class"):
        image_folder(spec(tmp_path))


def test_folders_without_what_is_needed_are_refused(tmp_path, fill):
    with pytest.raises(UserError, match=r"data.path: name the folder"):
        image_folder(DataSpec(name="folder"))
    with pytest.raises(UserError, match=r"nowhere does not exist"):
        image_folder(spec(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"must hold a folder of images for each class"):
        image_folder(spec(tmp_path))
    (tmp_path / "train" / "a").mkdir(parents=True)
    with pytest.raises(UserError, match=r"hold no images"):
        image_folder(spec(tmp_path))
    fill(tmp_path / "train" / "b")
    fill(tmp_path / "test" / "c")
    with pytest.raises(UserError, match=r"holds the folder 'c', but no training image has that class"):
        image_folder(spec(tmp_path))


@pytest.fixture
def tiny(tmp_path, fill):
    for name in ("n01", "n02"):
        fill(tmp_path / "train" / name / "images", 10)
    fill(tmp_path / "val" / "images", 2)
    (tmp_path / "val" / "val_annotations.txt").write_text("0.png\tn02\t0\t0\t9\t9\n1.png\tn01\t0\t0\t9\t9\n")
    return tmp_path


def test_tiny_imagenet_reads_its_own_layout(tiny):
    data = load_dataset(spec(tiny, "tiny_imagenet"))
    assert data.class_names == ("n01", "n02")
    assert (len(data.train), len(data.val)) == (18, 2)
    assert data.test.labels.tolist() == [1, 0]
    assert data.augment == "crop_flip"


def test_tiny_imagenet_refuses_what_it_is_not(tiny, tmp_path):
    (tiny / "val" / "val_annotations.txt").write_text("0.png\tn99\n")
    with pytest.raises(UserError, match=r"val_annotations.txt: each line is .* but got \['0.png', 'n99'\]"):
        tiny_imagenet(spec(tiny, "tiny_imagenet"))
    (tiny / "val" / "val_annotations.txt").unlink()
    with pytest.raises(UserError, match=r"does not hold train/ and val/val_annotations.txt; unpack http"):
        tiny_imagenet(spec(tiny, "tiny_imagenet"))
