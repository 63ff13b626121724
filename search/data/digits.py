"""The embedded data: 1,797 handwritten digits of 8 x 8 pixels that ship with scikit-learn."""

from __future__ import annotations

import numpy as np

from search.data.images import RawImages, Split
from search.errors import UserError
from search.spec import DataSpec

LEVELS = 16


def digits(spec: DataSpec) -> RawImages:
    """Return the digits as grey images, ``(1797, 1, 8, 8)``.

    Raises:
        UserError: If the spec gives a path or an image size, which mean nothing here.
    """
    from sklearn.datasets import load_digits  # half a second that only this data set should cost

    for field in ("path", "image_size"):
        if getattr(spec, field) is not None:
            raise UserError(f"data.{field}: leave it out, digits are embedded and 8 x 8 pixels")
    bunch = load_digits()
    images = np.rint(bunch.images * (255 / LEVELS)).astype(np.uint8)[:, None]
    return RawImages(
        Split(images, bunch.target.astype(np.int64)), classes=10, class_names=tuple(str(digit) for digit in range(10))
    )
