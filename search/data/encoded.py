"""Images that do not fit memory as pixels: they stay encoded and are decoded, ahead of use, for each batch."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from search.data.decode import Encoded, UnreadableError, decode_image
from search.errors import UserError

PREFETCHED_BATCHES = 2


@dataclass(frozen=True)
class EncodedSplit:
    """The counterpart of :class:`search.data.images.Split` for images that are decoded on demand.

    Attributes:
        sources: The encoded images, each known to be readable.
        labels: int64, ``(N,)``.
        shape: ``(C, H, W)`` of every decoded image.
        image_size: What :func:`search.data.decode.decode_image` is given.
    """

    sources: tuple[Encoded, ...]
    labels: np.ndarray
    shape: tuple[int, int, int]
    image_size: int | None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> EncodedSplit:
        """Return the images at ``indices``, still encoded."""
        sources = tuple(self.sources[index] for index in indices)
        return EncodedSplit(sources, self.labels[indices], self.shape, self.image_size)

    def pixels(self, indices: np.ndarray) -> np.ndarray:
        """Decode the images at ``indices``: uint8, ``(len(indices), C, H, W)``.

        Raises:
            UserError: If one can no longer be read, which it could when the data was loaded.
        """
        images = np.empty((len(indices), *self.shape), dtype=np.uint8)
        for image, index in zip(images, indices, strict=True):
            source = self.sources[index]
            try:
                image[:] = decode_image(source.data, self.image_size)[0][: self.shape[0]]
            except UnreadableError as error:
                raise UserError(f"{source.name}: can no longer be decoded ({error}); was it changed?") from error
        return images

    def stream(self, parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Decode one batch of indices after the other, on every core, a few batches ahead of the consumer."""
        workers = len(os.sched_getaffinity(0))
        pending: deque[Future[np.ndarray]] = deque()
        pool = ThreadPoolExecutor(workers)
        try:
            for part in parts:
                pending.append(pool.submit(self.pixels, part))
                if len(pending) >= workers + PREFETCHED_BATCHES:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
