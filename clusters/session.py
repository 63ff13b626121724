"""A Ray to run trials on, from the first line to the last: started or joined, measured, and left as it was."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import ray

from clusters.errors import ClusterError, one_line
from clusters.placement import Shape, capacity, missing
from clusters.profile import ExistingProfile, LocalProfile, Profile
from clusters.token import ensure_token
from clusters.versions import check_client_versions, submitted

logger = logging.getLogger(__name__)
Resources: TypeAlias = dict[str, float]

CONNECT_TIMEOUT_S = 5.0
NO_RAY_HERE = "there is no Ray on this machine to join; start one with `ray start --head`, or use --cluster local"


@dataclass(frozen=True)
class Node:
    """A machine of the cluster that is alive now."""

    node_id: str
    """Ray's id of the node, hexadecimal."""
    address: str
    """Its IP address."""
    resources: Mapping[str, float]
    """What it offers in all, by Ray's names: CPU, GPU and custom resources."""


class Session:
    """A connection to Ray. Made by :func:`session`.

    Args:
        profile: Where the search runs; its machine types count as places for trials even before they are there.
    """

    def __init__(self, profile: Profile) -> None:
        self.profile = profile

    def nodes(self) -> list[Node]:
        """Return the machines that are alive now."""
        return [
            Node(node["NodeID"], node["NodeManagerAddress"], _offered(node["Resources"]))
            for node in ray.nodes()
            if node["Alive"]
        ]

    def resources(self) -> Resources:
        """Return what all machines that are alive now offer together."""
        total: Resources = {}
        for node in self.nodes():
            for name, amount in node.resources.items():
                total[name] = total.get(name, 0.0) + amount
        return total

    def check_placement(self, cpus: float, gpus: float = 0, custom: Mapping[str, float] | None = None) -> None:
        """Refuse trials that no machine can ever serve, instead of waiting for ever.

        Args:
            cpus: CPUs of one trial.
            gpus: GPUs of one trial, whole or a fraction.
            custom: Custom resources of one trial.

        Raises:
            ClusterError: Naming what is missing, and what the machines have.
        """
        problem = missing(self._shapes(), cpus, gpus, custom or {})
        if problem:
            raise ClusterError(problem)

    def max_concurrent(self, cpus: float, gpus: float = 0, custom: Mapping[str, float] | None = None) -> int:
        """Return how many such trials fit at once on the machines there are, and those that may still come."""
        alive = [Shape(node.resources, 1) for node in self.nodes()]
        return max(capacity(shapes, cpus, gpus, custom or {}) for shapes in (alive, self.profile.shapes()))

    def _shapes(self) -> list[Shape]:
        return [*(Shape(node.resources, 1) for node in self.nodes()), *self.profile.shapes()]


@contextmanager
def session(profile: Profile, *, verbose: bool = False) -> Iterator[Session]:
    """Start or join the Ray that a profile names, for the time of a ``with`` block.

    A Ray that this process was connected to before is used as it is and stays; one that is started or joined here
    is left at the end.

    Args:
        profile: Where to run.
        verbose: Let Ray log, and show what trials print.

    Raises:
        ClusterError: If Ray cannot be started or reached, or the search must be submitted to the cluster instead.
    """
    check_client_versions()
    with ExitStack() as cleanup:
        if not ray.is_initialized():
            cleanup.callback(ray.shutdown)
            _connect(profile, verbose)
        yield Session(profile)


def _connect(profile: Profile, verbose: bool) -> None:
    common: dict[str, Any] = {
        "log_to_driver": verbose,
        "logging_level": logging.INFO if verbose else logging.ERROR,
    }
    with _environment({"RAY_USAGE_STATS_ENABLED": "0"}), _quiet(not verbose):
        if isinstance(profile, LocalProfile):
            _start(profile, common)
        else:
            _join(_address(profile), common)


def _start(profile: LocalProfile, common: dict[str, Any]) -> None:
    """Start a Ray of one machine that listens on loopback only and asks for the token even there.

    Without a dashboard it takes about 2 s on two cores; nothing else that can be left out costs noticeable time.
    """
    ensure_token()
    try:
        with _loopback_only():
            ray.init(
                address="local",
                num_cpus=profile.cpus,
                num_gpus=profile.gpus,
                resources=profile.custom or None,
                object_store_memory=profile.object_store,
                include_dashboard=False,
                **common,
            )
    except Exception as error:
        raise ClusterError(f"Ray cannot start on this machine: {one_line(error)}") from error


def _join(address: str, common: dict[str, Any]) -> None:
    resolved = _resolve(address)
    host, _, port = resolved.rpartition(":")
    try:
        # Ray itself would try for minutes, and then end the process.
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
        ray.init(address=resolved, **common)
    except Exception as error:
        raise ClusterError(_why_unreachable(address, error)) from error


def _resolve(address: str) -> str:
    """Return HOST:PORT of a cluster; auto stands for the one that this machine is part of."""
    if address != "auto":
        return address
    from ray._private.services import canonicalize_bootstrap_address

    found = canonicalize_bootstrap_address("auto")
    if not found:
        raise ClusterError(NO_RAY_HERE)
    return found


def _address(profile: Profile) -> str:
    """Return the address of the cluster that this process may join."""
    if isinstance(profile, ExistingProfile) and not profile.submits:
        return profile.address
    if submitted():
        return os.environ.get("RAY_ADDRESS", "auto")
    raise ClusterError(
        f"a search on profile {profile.name!r} runs inside its cluster: "
        f"submit it with `rps-search launch SPEC --cluster {profile.argument}`"
    )


def _why_unreachable(address: str, error: Exception) -> str:
    text = str(error)
    if "AuthenticationError" in type(error).__name__ or "token" in text.lower():
        return (
            f"the cluster at {address} refuses this token; "
            "copy the cluster's token to ~/.ray/auth_token and set RAY_AUTH_MODE=token"
        )
    if "Version mismatch" in text:
        return f"the cluster at {address} runs other versions: {' '.join(text.split())[:300]}; install the same here"
    if address == "auto":
        return NO_RAY_HERE
    return (
        f"no Ray answers at {address} ({one_line(error, 120)}); check the address, and that this machine is part of "
        "the cluster - from outside, give the address of its Jobs server as http://HOST:8265"
    )


def _offered(resources: Mapping[str, float]) -> Resources:
    """Keep what a trial can ask for: Ray lists each node's own name, its memory and accelerator labels, too."""
    hidden = ("node:", "memory", "object_store_memory", "accelerator_type:")
    return {name: float(amount) for name, amount in resources.items() if not name.startswith(hidden)}


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while, where the user has not set them."""
    before = {name: os.environ.get(name) for name in variables}
    for name, value in variables.items():
        os.environ.setdefault(name, value)
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                os.environ.pop(name, None)


@contextmanager
def _quiet(quiet: bool) -> Iterator[None]:
    """Keep Ray from announcing while it starts that authentication is on."""
    authentication = logging.getLogger("ray._private.authentication")
    before = authentication.level
    if quiet:
        authentication.setLevel(logging.ERROR)
    try:
        yield
    finally:
        authentication.setLevel(before)


@contextmanager
def _loopback_only() -> Iterator[None]:
    """Have the Ray that starts meanwhile listen on 127.0.0.1 only.

    On Linux Ray listens on every interface even where the cluster is one machine. What it does on macOS and Windows,
    where clusters are off by default, is what is wanted; there is no public option for it (Ray 2.50 to 2.60), so
    the switch is flipped for the time of the start.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
