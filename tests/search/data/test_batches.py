from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from search.data import DeviceSplit, Split, check_batch_size, eval_batches, steps_per_epoch, train_batches
from search.data.batches import packed_batches
from search.errors import UserError

PLAIN = {"mean": (0.0,), "std": (1 / 255,)}  # normalisation gives the pixel values back


def numbered(count=50, side=4):
    """Images whose every pixel says which image and which place it is."""
    pixels = torch.arange(count * side * side, dtype=torch.int64).view(count, 1, side, side) % 251 + 1
    return DeviceSplit(pixels.to(torch.uint8), torch.arange(count))


def epoch(split, *, batch_size=8, augment="none", seed=0, number=0, **options):
    batches = train_batches(
        split, batch_size=batch_size, augment=augment, seed=seed, epoch=number, **{**PLAIN, **options}
    )
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def test_an_epoch_shows_every_image_once_in_a_shuffled_order():
    split = numbered()
    images, labels = epoch(split)
    assert sorted(labels.tolist()) == list(range(50))
    assert labels.tolist() != list(range(50))
    assert torch.equal(images, split.images[labels].float())


@pytest.mark.parametrize(("count", "sizes"), [(16, [8, 8]), (18, [8, 8, 2]), (17, [8, 8]), (1, [1]), (5, [5])])
def test_a_last_batch_of_one_image_is_left_out(count, sizes):
    split = numbered(count)
    got = [len(labels) for _, labels in train_batches(split, batch_size=8, augment="none", seed=0, epoch=0, **PLAIN)]
    assert got == sizes
    assert steps_per_epoch(count, 8) == len(sizes)


@pytest.mark.parametrize("augment", ["none", "flip", "crop", "crop_flip"])
def test_an_epoch_depends_on_seed_and_number_only(augment):
    split = numbered()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, again = epoch(split, augment=augment), epoch(split, augment=augment)
    assert torch.equal(first[0], again[0])
    assert torch.equal(torch.get_rng_state(), state)
    for other in ({"seed": 1}, {"number": 1}):
        assert not torch.equal(first[1], epoch(split, augment=augment, **other)[1])


def test_the_order_does_not_depend_on_batch_size_or_augmentation():
    labels = epoch(numbered())[1]
    assert torch.equal(labels, epoch(numbered(), batch_size=25, augment="crop_flip")[1])


def test_order_and_augmentation_are_the_same_on_every_machine():
    images, labels = epoch(numbered(6, 2), augment="crop_flip")
    assert labels.tolist() == [4, 0, 3, 2, 5, 1]
    assert images[:2].int().flatten().tolist() == [0, 0, 17, 0, 2, 1, 4, 3]


@pytest.mark.parametrize("count", [24, 27, 25])
def test_batches_side_by_side_are_those_of_each_trial(count):
    split = numbered(count)
    epochs = [(0, 0), (0, 3), (7, 1)]
    options = {"batch_size": 8, "augment": "crop_flip", **PLAIN}
    each = [list(train_batches(split, seed=seed, epoch=number, **options)) for seed, number in epochs]
    together = list(packed_batches(split, epochs, **options))
    assert len(together) == len(each[0])
    for step, (images, labels) in enumerate(together):
        for lane, batches in enumerate(each):
            assert torch.equal(images[lane], batches[step][0])
            assert torch.equal(labels[lane], batches[step][1])


def candidates(image, padding, flips):
    """Every image that augmentation may make of one, by a loop over shifts and flips."""
    height, width = image.shape[1:]
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
            shifted = padded[:, top : top + height, left : left + width]
            yield (top, left, False), shifted
            if flips:
                yield (top, left, True), shifted[:, :, ::-1]


@pytest.mark.parametrize(
    ("augment", "padding", "flips"), [("flip", 0, True), ("crop", 2, False), ("crop_flip", 2, True)]
)
def test_augmentation_equals_padding_cropping_and_flipping_one_by_one(augment, padding, flips):
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 256, (600, 3, 9, 11), dtype=np.uint8)  # an eighth of 9 and of 11 pixels, rounded up: 2
    split = DeviceSplit(torch.from_numpy(pixels), torch.arange(600))
    options = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3}
    seen = set()
    for image, label in zip(*epoch(split, augment=augment, **options), strict=True):
        got = image.numpy().astype(np.uint8)
        how = [key for key, made in candidates(pixels[label], padding, flips) if np.array_equal(made, got)]
        assert len(how) == 1
        seen.add(how[0])
    assert len(seen) == (2 * padding + 1) ** 2 * (2 if flips else 1)


def test_half_the_images_are_flipped():
    split = numbered(4000, 2)
    images, labels = epoch(split, augment="flip", batch_size=4000)
    share = (images != split.images[labels]).flatten(1).any(1).float().mean()
    assert 0.46 < share < 0.54


def test_normalisation_uses_each_channels_own_statistics():
    split = DeviceSplit(torch.tensor([[[[0]], [[51]]], [[[255]], [[255]]]], dtype=torch.uint8), torch.zeros(2).long())
    ((images, _),) = eval_batches(split, batch_size=2, mean=(0.5, 0.2), std=(0.25, 0.4))
    assert torch.allclose(images.squeeze(), torch.tensor([[-2.0, 0.0], [2.0, 2.0]]), atol=1e-6)


def test_evaluation_keeps_order_and_the_single_last_image():
    split = numbered(17)
    batches = list(eval_batches(split, batch_size=8, **PLAIN))
    assert [len(labels) for _, labels in batches] == [8, 8, 1]
    assert torch.equal(torch.cat([images for images, _ in batches]), split.images.float())


@pytest.mark.parametrize("augment", ["none", "crop_flip"])
def test_format_and_layout_are_what_was_asked_for(augment):
    split = DeviceSplit(torch.randint(0, 256, (8, 3, 8, 8), dtype=torch.uint8), torch.arange(8))
    options = {"mean": (0.4,) * 3, "std": (0.2,) * 3}
    wide = epoch(split, augment=augment, **options)[0]
    narrow = epoch(split, augment=augment, dtype=torch.bfloat16, memory_format=torch.channels_last, **options)[0]
    assert narrow.dtype == torch.bfloat16
    assert narrow.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(narrow, wide.bfloat16())


def test_read_only_arrays_are_used_without_copy_or_warning():
    arrays = np.zeros((4, 1, 2, 2), dtype=np.uint8), np.arange(4)
    for array in arrays:
        array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split = DeviceSplit.of(Split(*arrays), "cpu")
    assert split.images.data_ptr() == arrays[0].ctypes.data
    before = arrays[0].copy()
    epoch(split, batch_size=2, augment="crop_flip")
    list(eval_batches(split, batch_size=2, **PLAIN))
    assert np.array_equal(arrays[0], before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_sees_the_same_images():
    split = numbered()
    there = DeviceSplit(split.images.cuda(), split.labels.cuda())
    for here, gpu in zip(epoch(split, augment="crop_flip"), epoch(there, augment="crop_flip"), strict=True):
        assert torch.equal(here, gpu.cpu())


def test_a_batch_larger_than_the_data_is_refused():
    check_batch_size(10, 10)
    with pytest.raises(UserError, match=r"train.batch_size=11 is more than the 10 training images"):
        check_batch_size(11, 10)


def test_an_unknown_augmentation_is_refused():
    with pytest.raises(ValueError, match=r"augment must be one of none, flip, crop, crop_flip, but got 'auto'"):
        epoch(numbered(), augment="auto")
