"""Images: read, decoded and split once for each machine, augmented on the device."""

from search.data.batches import DeviceSplit, check_batch_size, eval_batches, steps_per_epoch, train_batches
from search.data.encoded import EncodedSplit
from search.data.images import ImageData, RawImages, Split
from search.data.load import load_dataset

__all__ = [
    "DeviceSplit",
    "EncodedSplit",
    "ImageData",
    "RawImages",
    "Split",
    "check_batch_size",
    "eval_batches",
    "load_dataset",
    "steps_per_epoch",
    "train_batches",
]
