"""From a profile to the place where its jobs run, through a tunnel where the cluster is not open to this machine."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from clusters.errors import ClusterError
from clusters.jobs import Jobs, JobServer
from clusters.kinds import AwsProfile, ExistingProfile, GcpProfile, KubernetesProfile, SlurmProfile, SshProfile
from clusters.profile import Profile
from clusters.render import render
from clusters.render.kuberay import cluster_name
from clusters.slurm_queue import SlurmQueue
from clusters.token import ensure_token
from clusters.tools import call, find, last_line

DASHBOARD_PORT = 8265
TUNNEL_TIMEOUT_S = 60.0
END_TIMEOUT_S = 5.0


@contextmanager
def reach(profile: Profile) -> Iterator[Jobs]:
    """Connect to where the jobs of a profile run.

    Raises:
        ClusterError: If a program is missing, the cluster is not there, or it refuses this machine.
    """
    if isinstance(profile, SlurmProfile):
        yield SlurmQueue(profile)
    elif isinstance(profile, ExistingProfile) and profile.submits:
        yield JobServer(profile.address, _own_token())
    elif isinstance(profile, KubernetesProfile):
        token = _kubernetes_token(profile)
        forward = ["kubectl", "-n", profile.namespace, "port-forward", f"service/{cluster_name(profile)}-head-svc"]
        with _tunnel(lambda port: [*forward, f"{port}:{DASHBOARD_PORT}"]) as address:
            yield JobServer(address, token)
    elif isinstance(profile, SshProfile | AwsProfile | GcpProfile):
        with _cluster_file(profile) as path:
            forward = ["ray", "dashboard", str(path), "--remote-port", str(DASHBOARD_PORT)]
            with _tunnel(lambda port: [*forward, "--port", str(port)]) as address:
                yield JobServer(address, _own_token())
    else:
        raise ClusterError(
            f"a search on profile {profile.name!r} runs in its own process; there are no jobs to look at"
        )


def _own_token() -> str:
    """Return the token of this machine's user; it is sent to the cluster and goes nowhere else."""
    return os.environ.get("RAY_AUTH_TOKEN") or ensure_token().read_text(encoding="utf-8").strip()


def _kubernetes_token(profile: KubernetesProfile) -> str:
    """Return the token that the operator made, from its Secret."""
    get = ("-n", profile.namespace, "get", "secret", cluster_name(profile), "-o", "jsonpath={.data.auth_token}")
    try:
        return base64.b64decode(call("kubectl", *get)).decode().strip()
    except ClusterError as error:
        if "not found" not in str(error).lower():
            raise
        raise ClusterError(
            f"there is no cluster {cluster_name(profile)!r} in namespace {profile.namespace!r}; make it with: "
            f"rps-search cluster render {profile.argument} | kubectl apply -f -"
        ) from error


@contextmanager
def _cluster_file(profile: SshProfile | AwsProfile | GcpProfile) -> Iterator[Path]:
    find("ssh")
    with tempfile.TemporaryDirectory(prefix="rps-search-") as folder:
        path = Path(folder) / "cluster.yaml"
        path.write_text(render(profile), encoding="utf-8")
        yield path


@contextmanager
def _tunnel(command_for: Callable[[int], list[str]]) -> Iterator[str]:
    """Run a program that forwards a port of this machine's loopback to the cluster; yield the address here."""
    port = _free_port()
    tool, *arguments = command_for(port)
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [find(tool), *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        try:
            if not _opens(port, process):
                output.seek(0)
                raise ClusterError(f"the cluster cannot be reached: {tool}: {last_line(output.read())}")
            yield f"http://127.0.0.1:{port}"
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program with all that it started: the tunnel itself is an ssh that ray runs."""
    _signal_group(process, signal.SIGTERM)
    try:
        process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to a program's session. What it started may still be there when it has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _opens(port: int, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + TUNNEL_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
