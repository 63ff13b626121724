"""Encoded images to one uint8 array, with every image that is not one counted and named.

Pillow decodes one of CIFAR's JPEGs in 80 us, torchvision.io in 29 us. Pillow it is nevertheless: it checks sizes before
it decodes and answers damaged files with exceptions, where torchvision 0.29 ends the process at a PNG with a wrong
checksum and computes for minutes at a JPEG whose header promises 65,535 x 65,535 pixels.
"""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as transforms

from search.errors import UserError

# Pixels beyond which an image is taken for a decompression bomb, whatever the file says about itself.
MAX_PIXELS = 100_000_000
CHUNK = 64
NAMED_IN_ERRORS = 3
GREY_MODES = {"1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L"}


class UnreadableError(Exception):
    """These bytes are no image, or an unreasonable one."""


class Encoded(NamedTuple):
    """One encoded image: a name for error messages, and its bytes or the file that holds them."""

    name: str
    data: bytes | Path | None


@dataclass(frozen=True)
class Decoded:
    """What :func:`decode_images` returns.

    Attributes:
        images: uint8, ``(kept, C, H, W)``; None if they were only looked at.
        shape: ``(C, H, W)`` of every image; C is 1 if all are grey, else 3.
        kept: Indices of the images that could be decoded, ascending.
        skipped: Names of the others.
    """

    images: np.ndarray | None
    shape: tuple[int, int, int]
    kept: np.ndarray
    skipped: tuple[str, ...]


def decode_images(
    sources: Sequence[Encoded], *, image_size: int | None, max_corrupt_fraction: float, keep: bool = True
) -> Decoded:
    """Decode images of any format that Pillow reads; of animated ones the first frame.

    Args:
        sources: The images, at least one.
        image_size: Side in pixels: the shorter side is resized to it and the longer one cropped around its middle.
            None keeps the images as they are, which then must have one size.
        max_corrupt_fraction: Share of the images that may fail, in [0, 1).
        keep: Return the pixels; else only find out what is there.

    Raises:
        UserError: If more images than that cannot be decoded, or their sizes differ and ``image_size`` is None.
    """
    first, (_, height, width) = first_readable(sources, image_size)
    images = np.empty((len(sources), 3, height, width), dtype=np.uint8) if keep else None
    grey = np.ones(len(sources), dtype=bool)
    failed = np.zeros(len(sources), dtype=bool)

    def fill(part: range) -> None:
        for index in part:
            try:
                image, grey[index] = decode_image(sources[index].data, image_size)
            except UnreadableError:
                failed[index] = True
                continue
            if image.shape[1:] != (height, width):
                raise UserError(
                    f"images must have one size, but {sources[first].name} has {width} x {height} pixels and "
                    f"{sources[index].name} {image.shape[2]} x {image.shape[1]}; set data.image_size, for example "
                    f"data.image_size={min(height, width)}"
                )
            if images is not None:
                images[index] = image

    parts = [range(start, min(start + CHUNK, len(sources))) for start in range(0, len(sources), CHUNK)]
    with warnings.catch_warnings(), ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # decode_image refuses them
        list(pool.map(fill, parts))
    skipped = tuple(sources[index].name for index in np.flatnonzero(failed).tolist())
    _refuse_if_too_many(skipped, len(sources), max_corrupt_fraction)
    kept = np.flatnonzero(~failed)
    channels = 1 if grey.all() else 3
    if images is not None:
        images = np.ascontiguousarray((images[kept] if skipped else images)[:, :channels])
    return Decoded(images, (channels, height, width), kept, skipped)


def first_readable(sources: Sequence[Encoded], image_size: int | None) -> tuple[int, tuple[int, ...]]:
    """Return the index and the shape, ``(3, H, W)``, of the first image that can be decoded.

    Raises:
        UserError: If none can.
    """
    for index, source in enumerate(sources):
        try:
            return index, decode_image(source.data, image_size)[0].shape
        except UnreadableError:
            continue
    raise UserError(f"none of {len(sources)} images can be decoded, the first is {sources[0].name}")


def decode_image(data: bytes | Path | None, image_size: int | None) -> tuple[np.ndarray, bool]:
    """Return the image as uint8 ``(3, H, W)``, and whether it is grey.

    Raises:
        UnreadableError: If it is no image, is damaged, or has more than ``MAX_PIXELS`` pixels, as it is or resized.
    """
    if data is None:
        raise UnreadableError("the value is null")
    try:
        with Image.open(data if isinstance(data, Path) else io.BytesIO(data)) as image:  # reads the header only
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableError(f"more than {MAX_PIXELS} pixels")
            short, long = sorted(image.size)
            if image_size is not None and image_size**2 * long > MAX_PIXELS * short:
                raise UnreadableError(f"so long that it would be resized to more than {MAX_PIXELS} pixels")
            grey = image.mode in GREY_MODES
            pixels = _eight_bits(image).transpose(2, 0, 1)
    except MemoryError:
        raise
    except Exception as error:  # damaged files raise nearly anything: OSError, SyntaxError, TypeError, struct.error
        raise UnreadableError(str(error)) from error
    if image_size is not None and pixels.shape[1:] != (image_size, image_size):
        resized = transforms.resize(torch.from_numpy(pixels), [image_size], antialias=True)
        pixels = transforms.center_crop(resized, [image_size]).numpy()
    return pixels, grey


def _eight_bits(image: Image.Image) -> np.ndarray:
    """Return the pixels as uint8 ``(H, W, 3)``; Pillow alone would clip 16-bit grey to white."""
    if image.mode.startswith("I;16"):
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    return np.array(image.convert("RGB"))


def _refuse_if_too_many(skipped: tuple[str, ...], total: int, allowed: float) -> None:
    if len(skipped) <= allowed * total:
        return
    some = ", ".join(skipped[:NAMED_IN_ERRORS]) + (", ..." if len(skipped) > NAMED_IN_ERRORS else "")
    share = math.ceil(1e4 * len(skipped) / total) / 1e4
    raise UserError(
        f"{len(skipped)} of {total} images cannot be decoded ({some}), and data.max_corrupt_fraction={allowed:g} "
        f"allows {math.floor(allowed * total)}; repair them, or leave them out with data.max_corrupt_fraction={share:g}"
    )
