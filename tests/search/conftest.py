import numpy as np
import pytest

from search.config import TrialConfig
from search.data import ImageData, Split
from search.spec import DataSpec, ModelSpec, TrainSpec


def make_split(count: int, *, classes: int = 3, shape: tuple[int, int, int] = (1, 6, 6), seed: int = 0) -> Split:
    """Images whose class can be seen: a bright row at the class's place, and noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = rng.integers(0, 120, (count, *shape))
    images[np.arange(count), :, labels, :] += 120
    return Split(images.astype(np.uint8), labels.astype(np.int64))


@pytest.fixture(scope="session")
def tiny_data() -> ImageData:
    train = make_split(90)
    scaled = train.images / 255
    return ImageData(
        name="tiny",
        classes=3,
        class_names=None,
        train=train,
        val=make_split(30, seed=1),
        test=make_split(30, seed=2),
        mean=(float(scaled.mean()),),
        std=(float(scaled.std()),),
        augment="crop_flip",
    )


@pytest.fixture
def make_config():
    """Make the configuration of a trial that trains in well under a second."""

    def make(method: str = "rps", **changes) -> TrialConfig:
        fields = {
            "ratio": 4.0,
            "lr": 0.1,
            "weight_decay": 1e-4,
            "seed": 3,
            "data": DataSpec(),
            "model": ModelSpec(args={"hidden": [16]}),
            "train": TrainSpec(epochs=4, batch_size=16, schedule="cosine"),
        }
        return TrialConfig(method=method, **{**fields, **changes})

    return make
