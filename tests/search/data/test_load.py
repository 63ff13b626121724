from __future__ import annotations

import hashlib
import pickle
import sys
import types

import numpy as np
import pytest

from search.data import ImageData, RawImages, Split, load_dataset
from search.errors import UserError
from search.spec import DataSpec


@pytest.fixture
def user(monkeypatch):
    """Make what a function returns a data set of the user's, and return a spec for it."""

    def _user(returned, **fields):
        module = types.ModuleType("users_images")
        module.load = lambda spec: returned
        monkeypatch.setitem(sys.modules, "users_images", module)
        return DataSpec(name="users_images:load", **fields)

    return _user


def images(count, classes=2, shape=(1, 4, 4)):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, *shape), dtype=np.uint8), np.arange(count) % classes


def split(count, **options):
    return Split(*images(count, **options))


def fingerprint(data: ImageData) -> str:
    parts = [array.tobytes() for part in (data.train, data.val, data.test) for array in (part.images, part.labels)]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def test_digits_are_split_in_three_with_every_class_in_each():
    data = load_dataset(DataSpec())
    assert data.shape == (1, 8, 8)
    assert (len(data.train), len(data.val), len(data.test)) == (1294, 144, 359)
    for part in (data.train, data.val, data.test):
        shares = np.bincount(part.labels, minlength=10) / len(part)
        assert shares.min() > 0.08
        assert shares.max() < 0.12
        assert part.images.dtype == np.uint8
        assert part.images.flags.c_contiguous
    assert data.augment == "none"
    assert data.train.images.max() == 255


def test_the_split_seed_moves_validation_but_never_the_test_part():
    one, two = load_dataset(DataSpec()), load_dataset(DataSpec(split_seed=1))
    assert np.array_equal(one.test.images, two.test.images)
    assert not np.array_equal(one.val.images, two.val.images)


def test_the_split_is_the_same_on_every_machine():
    # Pinned: a changed split would silently make old result tables incomparable.
    assert fingerprint(load_dataset(DataSpec())) == "5228f4e09804617615bd565d03694e67152eb4b67a83a8bd2496499765630207"


def test_the_limit_is_balanced_and_leaves_validation_and_test_alone():
    full, limited = load_dataset(DataSpec()), load_dataset(DataSpec(train_limit=50))
    assert np.bincount(limited.train.labels).tolist() == [5] * 10
    assert np.array_equal(full.val.images, limited.val.images)
    assert np.array_equal(full.test.images, limited.test.images)
    assert limited.mean != full.mean


def test_long_tailed_classes_are_in_the_training_part_only():
    full, tailed = load_dataset(DataSpec()), load_dataset(DataSpec(imbalance_factor=10))
    sizes = np.bincount(tailed.train.labels)
    assert sizes[0] == pytest.approx(10 * sizes[9], abs=9)
    assert sizes.tolist() == sorted(sizes, reverse=True)
    assert np.array_equal(full.val.images, tailed.val.images)
    assert np.array_equal(full.test.images, tailed.test.images)
    limited = np.bincount(load_dataset(DataSpec(imbalance_factor=10, train_limit=300)).train.labels)
    assert 290 < limited.sum() <= 300
    assert limited[0] == pytest.approx(10 * limited[9], abs=9)


def test_the_test_limit_is_balanced_and_the_same_for_every_split():
    one, other = (load_dataset(DataSpec(test_limit=50, split_seed=seed)) for seed in (0, 1))
    assert np.bincount(one.test.labels).tolist() == [5] * 10
    assert np.array_equal(one.test.images, other.test.images)
    assert np.array_equal(one.train.images, load_dataset(DataSpec()).train.images)


def test_a_limit_above_what_is_there_takes_everything():
    assert len(load_dataset(DataSpec(train_limit=10**6)).train) == 1294


def test_no_image_is_in_two_parts(user):
    pixels = np.arange(1000, dtype=np.uint32).view(np.uint8).reshape(1000, 1, 2, 2)
    data = load_dataset(user(RawImages(Split(pixels, np.arange(1000) % 4))))
    numbers = [set(part.images.reshape(-1, 4).view(np.uint32).ravel()) for part in (data.train, data.val, data.test)]
    assert [len(part) for part in numbers] == [720, 80, 200]
    assert set.union(*numbers) == set(range(1000))


def test_a_users_pair_of_pairs_is_taken(user):
    data = load_dataset(user((images(40), images(10)), augment="flip"))
    assert (len(data.train), len(data.val), len(data.test)) == (36, 4, 10)
    assert data.augment == "flip"
    assert data.train.labels.dtype == np.int64


def test_a_users_finished_data_is_taken_as_it_is(user):
    part = split(4)
    mine = ImageData("mine", 2, None, part, part, part, (0.5,), (0.5,), "none")
    assert load_dataset(user(mine)) is mine


def test_data_survives_pickling_unchanged():
    data = load_dataset(DataSpec(train_limit=20))
    assert fingerprint(pickle.loads(pickle.dumps(data))) == fingerprint(data)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, r"must return search.data.RawImages or .*, not NoneType"),
        ((None, images(4)), r"each part must be a pair \(images, labels\), not NoneType"),
        (((images(8)[0] / 255, images(8)[1]), None), r"training images must be uint8 of shape .* but are float64"),
        ((images(8), (images(4)[0][:, 0], images(4)[1])), r"test images must be uint8 .* of shape \(4, 4, 4\)"),
        (((images(8)[0], np.arange(7)), None), r"8 images and labels of shape \(7,\)"),
        (((images(8)[0], np.arange(8) / 2), None), r"training labels must be integers, but are float64"),
        (((images(8)[0], np.arange(8) - 1), None), r"from 0 to 6, but training image 0 has -1 \(1 such\)"),
        (RawImages(split(8), None, classes=15), r"8 training images are fewer than the 15 classes"),
        (((images(8)[0], np.zeros(8, dtype=int)), None), r"at least 2 classes are needed"),
        ((images(8), images(4, shape=(3, 4, 4))), r"shape \(1, 4, 4\) and test images \(3, 4, 4\).*data.image_size"),
    ],
)
def test_what_a_users_function_gets_wrong_is_said(user, returned, message):
    with pytest.raises(UserError, match=message):
        load_dataset(user(returned))


def test_a_users_function_that_fails_is_one_line(monkeypatch):
    module = types.ModuleType("users_images")
    module.load = lambda spec: {}["pixels"]
    monkeypatch.setitem(sys.modules, "users_images", module)
    with pytest.raises(UserError, match=r"data 'users_images:load': the function failed with KeyError: 'pixels'"):
        load_dataset(DataSpec(name="users_images:load"))


def test_test_labels_are_held_to_the_number_of_classes_given(user):
    with pytest.raises(UserError, match=r"from 0 to 1, but test image 2 has 2 \(1 such\)"):
        load_dataset(user(RawImages(split(8), split(4, classes=3), classes=2)))


def test_gaps_in_the_labels_are_named(user):
    pixels, labels = images(30, classes=3)
    with pytest.raises(UserError, match=r"the 3 that training images have reach to 200000 and 1 is not .* 0 to 2"):
        load_dataset(user(((pixels, labels * 100_000), None)))
    with pytest.raises(UserError, match=r"reach to 3 and 0 is not among them"):
        load_dataset(user(((pixels, labels + 1), None)))


def test_a_class_that_only_test_images_have_is_refused(user):
    with pytest.raises(UserError, match=r"from 0 to 1, but test image 2 has 2"):
        load_dataset(user((images(40), images(9, classes=3))))


def test_empty_parts_are_refused(user):
    with pytest.raises(UserError, match=r"2 images are too few to split a test part off"):
        load_dataset(user((images(2), None)))
    with pytest.raises(UserError, match=r"data.val_fraction=0.01 leaves 10 images to train on and 0 to validate on"):
        load_dataset(user((images(10), images(4)), val_fraction=0.01))
    with pytest.raises(UserError, match=r"data.val_fraction=0.99 leaves 0 images"):
        load_dataset(user((images(10), images(4)), val_fraction=0.99))
    with pytest.raises(UserError, match=r"data.train_limit=1 is less than one image for each of 2 classes"):
        load_dataset(user((images(10), images(4)), train_limit=1))
    with pytest.raises(UserError, match=r"data.test_limit=1 is less than one image for each of 2 classes"):
        load_dataset(user((images(10), images(4)), test_limit=1))
    with pytest.raises(UserError, match=r"data.imbalance_factor=9 is too large here: class 1 would keep no image"):
        load_dataset(user((images(10), images(4)), imbalance_factor=9))


@pytest.mark.parametrize("field", [{"path": "somewhere"}, {"image_size": 16}])
def test_digits_refuse_what_means_nothing_to_them(field):
    with pytest.raises(UserError, match=rf"data.{next(iter(field))}: leave it out"):
        load_dataset(DataSpec(**field))


@pytest.mark.parametrize("name", ["parquet", "folder", "cifar10", "tiny_imagenet"])
def test_a_path_that_the_system_refuses_is_named(name):
    with pytest.raises(UserError, match=rf"data '{name}': cannot be read \(File name too long: '/aaa"):
        load_dataset(DataSpec(name=name, path="/" + "a" * 300))


@pytest.mark.parametrize("field", ["train_limit", "test_limit"])
def test_one_image_of_each_class_is_enough_of_a_limit_and_fewer_are_not(field):
    data = load_dataset(DataSpec(**{field: 10}))
    part = data.train if field == "train_limit" else data.test
    assert sorted(part.labels.tolist()) == list(range(10))
    with pytest.raises(UserError, match=rf"data\.{field}=9 is less than one image for each of 10 classes"):
        load_dataset(DataSpec(**{field: 9}))
