from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from search.data.decode import Encoded, decode_images
from search.errors import UserError


def decode(*data, image_size=None, allowed=0.0):
    sources = [Encoded(f"image {number}", item) for number, item in enumerate(data)]
    return decode_images(sources, image_size=image_size, max_corrupt_fraction=allowed)


def test_lossless_formats_come_back_exactly(encode):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    decoded = decode(encode(pixels, kind="PNG"), encode(pixels, kind="BMP"), encode(pixels, kind="WEBP", lossless=True))
    assert decoded.images.shape == (3, 3, 5, 7)
    assert decoded.images.dtype == np.uint8
    for image in decoded.images:
        assert np.array_equal(image.transpose(1, 2, 0), pixels)


def test_order_is_kept_over_several_threads(encode):
    flat = [np.full((4, 4, 3), value, dtype=np.uint8) for value in range(200)]
    decoded = decode(*(encode(image, kind="PNG") for image in flat))
    assert decoded.images[:, 0, 0, 0].tolist() == list(range(200))


def test_grey_images_keep_one_channel(encode):
    decoded = decode(encode(0, mode="L"), encode(1, mode="1", kind="PNG"))
    assert decoded.images.shape == (2, 1, 8, 8)
    assert decoded.images.flags.c_contiguous


def test_grey_among_colour_is_converted(encode):
    decoded = decode(encode(0, mode="L"), encode(1))
    assert decoded.images.shape == (2, 3, 8, 8)
    assert np.array_equal(decoded.images[0, 0], decoded.images[0, 2])


@pytest.mark.parametrize(("mode", "kind"), [("P", "PNG"), ("RGBA", "PNG"), ("CMYK", "JPEG"), ("P", "GIF")])
def test_other_modes_become_rgb(encode, mode, kind):
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    pixels[..., 0] = 255
    image = decode(encode(pixels, mode=mode, kind=kind)).images[0]
    assert image.shape == (3, 4, 4)
    assert image[0].min() > 240
    assert image[1:].max() < 15


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    levels = np.array([[0, 0x0100], [0x8000, 0xFFFF]], dtype=np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    assert decode(tmp_path / "deep.png").images[0, 0].tolist() == [[0, 1], [128, 255]]


def test_an_animated_image_gives_its_first_frame(encode):
    red, blue = (np.full((4, 4, 3), colour, dtype=np.uint8) for colour in ([255, 0, 0], [0, 0, 255]))
    data = encode(red, kind="GIF", save_all=True, append_images=[Image.fromarray(blue)])
    assert decode(data).images[0, :, 0, 0].tolist() == [255, 0, 0]


def test_image_size_resizes_the_shorter_side_and_crops_the_middle(encode):
    pixels = np.zeros((8, 24, 3), dtype=np.uint8)
    pixels[:, 8:16] = 200
    decoded = decode(encode(pixels, kind="PNG"), encode(0, size=(9, 5), kind="PNG"), image_size=4)
    assert decoded.images.shape == (2, 3, 4, 4)
    assert decoded.images[0, 0, :, 1:3].min() > 190


def test_mixed_sizes_are_refused_with_both_named(encode):
    with pytest.raises(UserError, match=r"image 0 has 8 x 8 pixels and image 1 6 x 5; set data.image_size"):
        decode(encode(0), encode(1, size=(5, 6)))


def damaged(encode):
    png = bytearray(encode(2, kind="PNG"))
    png[60] ^= 0xFF  # the checksum no longer fits
    return [b"", b"no image", encode(1)[:-40], bytes(png), None]


def test_corrupt_images_are_named_and_refused(encode):
    with pytest.raises(UserError) as refused:
        decode(encode(0), *damaged(encode))
    assert str(refused.value) == (
        "5 of 6 images cannot be decoded (image 1, image 2, image 3, ...), and data.max_corrupt_fraction=0 allows 0; "
        "repair them, or leave them out with data.max_corrupt_fraction=0.8334"
    )


def test_the_fraction_the_message_suggests_is_enough(encode):
    good = encode(0, kind="PNG")
    decoded = decode(*damaged(encode), good, allowed=0.8334)
    assert decoded.kept.tolist() == [5]
    assert decoded.skipped == tuple(f"image {number}" for number in range(5))
    assert np.array_equal(decoded.images, decode(good).images)


def test_nothing_readable_is_refused_whatever_is_allowed():
    with pytest.raises(UserError, match="none of 2 images can be decoded, the first is image 0"):
        decode(b"a", b"b", allowed=0.99)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("side", [9_500, 14_000])
def test_a_decompression_bomb_counts_as_corrupt(encode, side):
    bomb = encode(np.zeros((1, 1, 3), dtype=np.uint8), kind="PNG")
    bomb = bomb[:16] + side.to_bytes(4, "big") * 2 + bomb[24:]
    bomb = bomb[:29] + _crc(bomb[12:29]) + bomb[33:]
    decoded = decode(encode(0, kind="PNG"), bomb, allowed=0.5)
    assert decoded.skipped == ("image 1",)


def test_a_thin_image_that_would_be_resized_to_a_huge_one_counts_as_corrupt(encode, monkeypatch):
    """4 kB of file can hold one row of so many pixels that resizing it fills the memory."""
    monkeypatch.setattr("search.data.decode.MAX_PIXELS", 10_000)
    thin = encode(np.zeros((2, 4_000, 3), dtype=np.uint8), kind="PNG")
    assert decode(encode(0, kind="PNG"), thin, image_size=2).skipped == ()
    decoded = decode(encode(0, kind="PNG"), thin, image_size=4, allowed=0.5)
    assert decoded.skipped == ("image 1",)


def _crc(chunk: bytes) -> bytes:
    import zlib

    return zlib.crc32(chunk).to_bytes(4, "big")
