"""Building blocks of profiles."""

from __future__ import annotations

from pydantic import (
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)


class ProfileModel(BaseModel):
    """A part of a profile: immutable, and every key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class Machine(ProfileModel):
    """What one machine offers to trials, and what it costs."""

    cpus: NonNegativeInt
    """CPUs that trials may occupy; 0 keeps trials away."""
    gpus: NonNegativeInt = 0
    """GPUs that trials may occupy."""
    memory: ByteSize | None = None
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
    """Machines that are always there."""
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
    disk: ByteSize = ByteSize(100 * 2**30)
    """Size of its disk (100GiB)."""
