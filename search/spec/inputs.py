"""What a trial starts from: the fields of the spec that say which images and which network."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from search.registry import DATASETS, MODELS, check_name
from search.spec.fields import Scalar, SpecModel


class DataSpec(SpecModel):
    """Which images, and how they are split."""

    name: str = "digits"
    """digits, cifar10, cifar100, tiny_imagenet, folder, parquet, or your own package.module:function."""
    path: str | None = None
    """Folder or file that holds the data; null downloads it where the data set can be downloaded."""
    val_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Share of the training images held out for validation: all that the search looks at."""
    train_limit: PositiveInt | None = None
    """Use only this many images of the training part (a seeded, class-balanced choice); null uses all."""
    imbalance_factor: float | None = Field(default=None, ge=1)
    """Largest class / smallest class to train on, the sizes between falling exponentially with the class number
    (long-tailed data, arXiv:1901.05555). Within train_limit, which then bounds the images of all classes together.
    Validation and test stay as they are; null leaves the training part so too."""
    test_limit: PositiveInt | None = None
    """Classify only this many test images at a trial's end (the same class-balanced choice in every search): where
    trials are so short that testing costs more than training. Null uses all; so should results that are published."""
    image_size: PositiveInt | None = None
    """Side in pixels that images are resized to; null keeps their own, which must then be one."""
    image_column: str = "image"
    """Parquet column of the encoded images."""
    label_column: str = "label"
    """Parquet column of the class numbers."""
    max_corrupt_fraction: float = Field(default=0.0, ge=0, lt=1)
    """Share of images that may fail to decode and be left out; above it the data is refused."""
    augment: Literal["auto", "none", "flip", "crop", "crop_flip"] = "auto"
    """Random changes of training images; auto is what is usual for the data set."""
    split_seed: int = 0
    """Seed of the split into training and validation, apart from the search's seed."""

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return check_name("data set", name, DATASETS)


class ModelSpec(SpecModel):
    """Which network is compressed."""

    name: str = "mlp"
    """resnet20, vgg11, vgg16, mlp, vit, or any function as package.module:function (torchvision.models:resnet18)."""
    args: dict[str, Scalar | list[Scalar]] = {}
    """Keyword arguments for the function, beside num_classes, in_channels and image_size, which are set from the data
    as far as it takes them."""
    exclude: list[Annotated[str, Field(min_length=1)]] = []
    """Layers that are not compressed, by pattern (fc*): they are trained and stored in full, and the ratio and the
    budgets are those of the others. Frozen layers must be among them for rps. small narrows all the same."""
    weights: str | None = Field(default=None, min_length=1)
    """Trained weights that every trial starts from: a safetensors file of the plain model, as rps-search export
    --dense writes it, by its path or a URI; null starts from fresh ones. Pruning then scores the trained weights, rps
    shares what is nearest to them, ltr rewinds to them. With train.epochs: 0, compression after training."""
    weights_sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """Checksum of that file. Written by launch; leave it out, or give it to accept no other content."""

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return check_name("model", name, MODELS)

    @field_validator("exclude")
    @classmethod
    def _in_one_order(cls, patterns: list[str]) -> list[str]:
        # Trials that exclude the same are the same.
        return sorted(set(patterns))

    @model_validator(mode="after")
    def _checksum_of_something(self) -> ModelSpec:
        if self.weights is None and self.weights_sha256 is not None:
            raise ValueError("weights_sha256 is the checksum of weights, but no weights are given")
        return self
