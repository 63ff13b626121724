"""The kinds of profile: every field, with its meaning, unit and default. A default stands here and nowhere else."""

from __future__ import annotations

import shlex
from typing import Annotated, Literal, Self

from pydantic import (
    ByteSize,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    field_validator,
    model_validator,
)

from clusters.errors import unknown
from clusters.fields import (
    KubernetesName,
    Machine,
    ProfileModel,
    ProfileName,
    Rented,
    Scaled,
    SlurmName,
    WorkerName,
    check_whole,
)
from clusters.placement import Shape

GOOGLES_IMAGES = "projects/deeplearning-platform-release/global/images/family"


class ProfileBase(ProfileModel):
    """What all profiles have."""

    name: ProfileName = ""
    """Name of the profile; the name of its file if left out."""
    _typed: str = PrivateAttr("")

    def typed_as(self, name_or_path: str) -> Self:
        """Keep what the user called the profile by, for the commands that are shown; it is no field of the profile."""
        self._typed = name_or_path
        return self

    @property
    def argument(self) -> str:
        """What to write after ``--cluster`` to name this profile, quoted for a shell."""
        return shlex.quote(self._typed or self.name)

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
    object_store: ByteSize | None = None
    """Shared memory for the data set and what trials report; null takes Ray's choice, 30 % of the memory."""

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


class ClusterProfile(ProfileBase):
    """What all profiles have whose cluster is more than one machine. Token authentication is on in all of them."""

    head: Machine
    """The machine that runs the driver; cpus: 0 keeps trials off it."""
    storage: str | None = None
    """Experiment folders go below this URI (s3://bucket/prefix) unless --storage names one; all nodes must reach it."""
    code: Literal["tree", "image"] = "tree"
    """tree: take this program and your Python files along with each search; image: the machines have them installed."""
    currency: str = "USD"
    """Currency of the prices."""

    def worker_kinds(self) -> dict[str, Scaled]:
        """Return the kinds of worker machines by name."""
        raise NotImplementedError

    def shapes(self) -> list[Shape]:
        """Return the head and all worker machines that there may be."""
        workers = [Shape(kind.resources(), kind.max) for kind in self.worker_kinds().values()]
        return [Shape(self.head.resources(), 1), *workers]


class LauncherProfile(ClusterProfile):
    """What the profiles of Ray's cluster launcher have."""

    user: str
    """Account that SSH logs in to."""
    ssh_key: str | None = None
    """Private key for it, a file on this machine; null takes what ssh takes (a cloud: makes one)."""
    image: str | None = None
    """Container image that Ray runs in; null runs it on the machine itself."""
    setup: list[str] | None = None
    """Shell commands that prepare each machine; null installs Python and packages in the versions that run here."""
    idle_minutes: PositiveInt = 5
    """A machine that is idle for so long is given back."""


class SshProfile(LauncherProfile):
    """Machines that are there and have an SSH server."""

    kind: Literal["ssh"]
    head_host: str
    """Host name or IP address of the head."""
    worker_hosts: list[str] = Field(min_length=1)
    """Host names or IP addresses of the workers."""
    worker: Machine
    """What each of the workers offers."""

    @model_validator(mode="after")
    def _each_once(self) -> SshProfile:
        hosts = [self.head_host, *self.worker_hosts]
        twice = next((host for host in hosts if hosts.count(host) > 1), None)
        if twice is not None:
            raise ValueError(f"each host is named once, the head not among worker_hosts, but got {twice} twice")
        return self

    def worker_kinds(self) -> dict[str, Scaled]:
        """Return one kind: all hosts are there all the time."""
        count = len(self.worker_hosts)
        return {"worker": Scaled(**self.worker.model_dump(), min=count, max=count)}


class CloudProfile(LauncherProfile):
    """What the profiles of the clouds have."""

    head: Rented
    """The machine that runs the driver, never a spot machine; cpus: 0 keeps trials off it."""
    workers: dict[WorkerName, Rented] = Field(min_length=1)
    """Kinds of worker machines by name."""
    region: str
    """The cloud's region."""
    zone: str
    """The zone in it."""

    @field_validator("head")
    @classmethod
    def _lasting(cls, head: Rented) -> Rented:
        if head.spot:
            raise ValueError("the head must not be a spot machine: with it the search would be taken away")
        return head

    @model_validator(mode="after")
    def _counted(self) -> Self:
        check_whole({"head": self.head, **self.workers})
        return self

    def worker_kinds(self) -> dict[str, Scaled]:
        """Return the kinds of worker machines by name."""
        return dict(self.workers)


class AwsProfile(CloudProfile):
    """Amazon EC2 through Ray's cluster launcher."""

    kind: Literal["aws"]
    user: str = "ubuntu"
    ami: str = Field(pattern="^ami-")
    """Machine image of the region, with the NVIDIA driver. Not optional: Ray's choice is an Ubuntu 18.04."""
    key_name: str | None = None
    """Name in EC2 of the key pair that ssh_key is the private half of."""
    instance_profile: str | None = None
    """ARN of the workers' IAM instance profile, which lets them reach the bucket; no key is ever copied."""
    head_instance_profile: str | None = None
    """ARN of the head's, which reaches the bucket, starts machines, and passes the workers' profile to them."""
    security_groups: list[Annotated[str, Field(pattern="^sg-")]] = Field(min_length=1)
    """Ids of your security groups. Not optional: the one that Ray's launcher would make opens SSH to the world."""
    subnets: list[Annotated[str, Field(pattern="^subnet-")]] = []
    """Ids of subnets; empty takes the default ones of the zone."""
    internal_only: bool = False
    """Reach machines by their private addresses, in subnets that give no public one, from inside their network."""

    @model_validator(mode="after")
    def _complete(self) -> AwsProfile:
        if (self.ssh_key is None) != (self.key_name is None):
            raise ValueError("ssh_key and key_name go together: the private key here, and its name in EC2; write both")
        if self.instance_profile and not self.head_instance_profile:
            raise ValueError(
                "with instance_profile the head needs head_instance_profile, too: one that may start machines and pass "
                "instance_profile to them (docs/clusters/aws.md)"
            )
        if self.internal_only and not self.subnets:
            raise ValueError("internal_only needs subnets: name private ones, the zone's default ones are public")
        return self


class GcpProfile(CloudProfile):
    """Google Compute Engine through Ray's cluster launcher."""

    kind: Literal["gcp"]
    user: str = "ubuntu"
    project: str
    """Project that pays."""
    subnetwork: str = Field(default="default", pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$")
    """Name of the region's subnetwork that all machines are in; they get no public address there."""
    service_account: str = "default"
    """Service account of the workers (NAME@PROJECT.iam.gserviceaccount.com); the launcher makes one for the head."""
    source_image: str = f"{GOOGLES_IMAGES}/common-cu129-ubuntu-2204-nvidia-580"
    """Machine image; its driver must be new enough for the CUDA of the PyTorch that runs here."""
    accelerators: dict[str, str] = {}
    """GPU type of a kind of worker, by its name (gpu: nvidia-tesla-t4), where the machine type does not imply it."""

    @model_validator(mode="after")
    def _placed(self) -> GcpProfile:
        machines = {"head", *self.workers}
        for name in self.accelerators:
            if name not in machines:
                raise ValueError(f"accelerators: {unknown('machine', name, machines)}")
        return self


class KubernetesProfile(ClusterProfile):
    """A RayCluster or RayJob of the KubeRay operator (ray.io/v1)."""

    kind: Literal["kubernetes"]
    image: str
    """Container image with this package."""
    namespace: KubernetesName = "default"
    """Namespace of the cluster."""
    service_account: str | None = None
    """Service account of the pods, the place for access to the bucket; null takes the namespace's default."""
    workers: dict[WorkerName, Scaled] = Field(min_length=1)
    """Groups of worker pods by name."""
    idle_minutes: PositiveInt = 1
    """A pod that is idle for so long is given back."""

    def worker_kinds(self) -> dict[str, Scaled]:
        """Return the groups of worker pods by name."""
        return dict(self.workers)

    @model_validator(mode="after")
    def _sized(self) -> KubernetesProfile:
        for name, machine in {"head": self.head, **self.workers}.items():
            if machine.memory is None:
                raise ValueError(f"every pod needs its memory, but {name} has none; write for example memory: 16GiB")
        check_whole({"head": self.head, **self.workers})
        return self


class SlurmProfile(ClusterProfile):
    """A batch job of Slurm that starts a Ray on its nodes, runs the search and ends."""

    kind: Literal["slurm"]
    nodes: PositiveInt
    """Nodes of the job; the first one is the head and works, too."""
    head: Machine
    """What each of the nodes offers."""
    time_limit: str = Field(default="24:00:00", pattern=r"^(\d+-)?\d{1,2}:\d{2}:\d{2}$")
    """Longest run, [days-]hours:minutes:seconds."""
    partition: SlurmName | None = None
    """Partition; null takes the site's default."""
    account: SlurmName | None = None
    """Account that is charged; null takes the site's default."""
    setup: list[str] = []
    """Shell commands before Ray starts, for example module load or source venv/bin/activate."""

    @field_validator("time_limit", mode="before")
    @classmethod
    def _quoted(cls, limit: object) -> object:
        if isinstance(limit, int) and not isinstance(limit, bool):
            raise ValueError('write it in quotes, "24:00:00": without them it is a number to YAML')
        return limit

    @field_validator("head")
    @classmethod
    def _working(cls, head: Machine) -> Machine:
        if head.cpus == 0:
            raise ValueError("every node works, the head too, but got cpus: 0; write the CPUs of a node")
        return head

    def worker_kinds(self) -> dict[str, Scaled]:
        """Return one kind: the nodes beside the head."""
        count = self.nodes - 1
        return {"worker": Scaled(**self.head.model_dump(), min=count, max=count)} if count else {}
