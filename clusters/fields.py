"""Building blocks of profiles."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, TypeAlias

from pydantic import (
    AfterValidator,
    ByteSize,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from clusters.strict import StrictModel


def _one_line(name: str) -> str:
    """Refuse what would not stay one name in a script, in a path or on a command line."""
    if not name.isprintable() or "/" in name or "\\" in name:
        raise ValueError(f"a profile's name is one line and no path, but got {name!r}")
    return name


def _worker_name(name: str) -> str:
    """Refuse what Kubernetes and the clouds refuse as part of a machine's name, and the head's own names there."""
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", name):
        raise ValueError(
            "a worker's name is at most 40 lower-case letters, digits and hyphens and begins with a letter, "
            f"but got {name!r}; write for example gpu-large"
        )
    if name in {"head", "headgroup"}:
        raise ValueError(f"{name!r} is what Ray calls the head; give these workers another name")
    return name


def _slurm_name(name: str) -> str:
    if not re.fullmatch(r"[\w.,@:+-]+", name, re.ASCII):
        raise ValueError(f"a name in Slurm has letters, digits and any of _.,@:+- only, but got {name!r}")
    return name


def _object_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name):
        raise ValueError(f"Kubernetes takes at most 63 lower-case letters, digits and hyphens, but got {name!r}")
    return name


def _with_unit(size: ByteSize) -> ByteSize:
    """Refuse what only a unit that was left out explains."""
    if size < 2**28:
        raise ValueError(f"no machine works with {size} bytes; write the unit, for example 16GiB")
    return size


ProfileName: TypeAlias = Annotated[str, AfterValidator(_one_line)]
WorkerName: TypeAlias = Annotated[str, AfterValidator(_worker_name)]
SlurmName: TypeAlias = Annotated[str, AfterValidator(_slurm_name)]
KubernetesName: TypeAlias = Annotated[str, AfterValidator(_object_name)]
Size: TypeAlias = Annotated[ByteSize, AfterValidator(_with_unit)]


class ProfileModel(StrictModel):
    """A part of a profile."""


class Machine(ProfileModel):
    """What one machine offers to trials, and what it costs."""

    cpus: NonNegativeInt
    """CPUs that trials may occupy; 0 keeps trials away."""
    gpus: NonNegativeInt = 0
    """GPUs that trials may occupy."""
    memory: Size | None = None
    """Memory of the machine (64GiB); needed where containers are sized by it."""
    custom: dict[str, PositiveFloat] = {}
    """Ray's custom resources."""
    price_per_hour: NonNegativeFloat = 0
    """Price of one machine for an hour, in the profile's currency."""

    def resources(self) -> dict[str, float]:
        """Return what the machine offers, by Ray's names."""
        return {"CPU": float(self.cpus), "GPU": float(self.gpus), **self.custom}


class Scaled(Machine):
    """A kind of machine that comes and goes."""

    min: NonNegativeInt = 0
    """Machines that are always there, and in what `plan` says a search costs."""
    max: PositiveInt = 1
    """Machines at most."""

    @model_validator(mode="after")
    def _ordered(self) -> Scaled:
        if self.min > self.max:
            raise ValueError(f"min <= max must hold, but got min={self.min}, max={self.max}")
        return self


class Rented(Scaled):
    """A kind of machine of a cloud."""

    instance: str = Field(min_length=1)
    """The cloud's name for the machine type (g5.xlarge, n1-standard-8)."""
    spot: bool = False
    """Rent it as a spot machine: cheaper, and taken away at times."""
    interruptions_per_hour: NonNegativeFloat = 0
    """How often such a machine is taken away, for `plan`."""
    disk: Size = ByteSize(100 * 2**30)
    """Size of its disk (100GiB)."""


def check_whole(machines: Mapping[str, Machine]) -> None:
    """Refuse parts of custom resources where Ray's autoscaler counts the machines: it knows whole numbers only.

    Raises:
        ValueError: Naming the machine and the resource.
    """
    for name, machine in machines.items():
        for resource, amount in machine.custom.items():
            if amount != int(amount):
                raise ValueError(
                    f"custom resources of machines that come and go are whole numbers, but {name} has "
                    f"{resource}: {amount:g}; count them in smaller units"
                )
