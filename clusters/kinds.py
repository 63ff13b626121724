"""The kinds of profile: every field, with its meaning, unit and default. A default stands here and nowhere else."""

from __future__ import annotations

from typing import Literal

from pydantic import ByteSize, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from clusters.fields import ProfileModel
from clusters.placement import Shape


class ProfileBase(ProfileModel):
    """What all profiles have."""

    name: str = ""
    """Name of the profile; the name of its file if left out."""

    @property
    def submits(self) -> bool:
        """Whether a search is submitted to the cluster, to run there without this process."""
        return True

    def shapes(self) -> list[Shape]:
        """Return the machines that the profile says there may be, for trials to run on."""
        return []


class LocalProfile(ProfileBase):
    """A Ray of this one machine, for the time of the search."""

    kind: Literal["local"]
    cpus: PositiveInt | None = None
    """CPUs that trials may occupy; null takes all of the machine."""
    gpus: NonNegativeInt | None = None
    """GPUs that trials may occupy; null takes all of the machine."""
    custom: dict[str, PositiveFloat] = {}
    """Ray's custom resources."""
    object_store: ByteSize = ByteSize(200 * 10**6)
    """Shared memory for what trials and the driver exchange; results are small, checkpoints go to storage."""

    @property
    def submits(self) -> bool:
        """A local search runs in this process."""
        return False


class ExistingProfile(ProfileBase):
    """A Ray that runs already."""

    kind: Literal["existing"]
    address: str = "auto"
    """auto or HOST:PORT where this machine is part of the cluster; http://HOST:8265, its Jobs server, elsewhere."""

    @field_validator("address")
    @classmethod
    def _form(cls, address: str) -> str:
        if address.startswith("ray://"):
            raise ValueError(f"a search cannot run over a Ray Client, but got {address}; write http://HOST:8265")
        host, _, port = address.rpartition(":")
        if address != "auto" and not (host and port.rstrip("/").isdigit()):
            raise ValueError(f"an address is auto, HOST:PORT or http://HOST:PORT, but got {address!r}")
        return address

    @property
    def submits(self) -> bool:
        """Only through a Jobs server is the search submitted."""
        return self.address.startswith(("http://", "https://"))
