"""What a stranger gets at the ports of a cluster that runs as our profiles start it: nothing."""

import http.client
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from clusters.token import ensure_token

grpc = pytest.importorskip("grpc")

pytestmark = [pytest.mark.ray, pytest.mark.slow]

# One call of each service of Ray; a port serves some of them.
CALLS = [
    "NodeInfoGcsService/GetAllNodeInfo",
    "JobInfoGcsService/GetAllJobInfo",
    "InternalKVGcsService/InternalKVGet",
    "ActorInfoGcsService/GetAllActorInfo",
    "NodeManagerService/GetNodeStats",
    "NodeManagerService/RequestWorkerLease",
    "ObjectManagerService/Push",
    "CoreWorkerService/PushTask",
    "ReporterService/GetTraceback",
]
# Of the HTTP servers: run code, read, and what a browser would see.
PATHS = ["/api/jobs/", "/api/version", "/api/cluster_status", "/nodes?view=summary", "/metrics"]


@pytest.fixture(scope="module")
def ports(tmp_path_factory):
    """Start a head with a dashboard and its token, and return its ports, {port: command}, and the dashboard's."""
    home, folder = tmp_path_factory.mktemp("home"), f"/tmp/r{os.getpid()}"  # sockets want short paths
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        dashboard = probe.getsockname()[1]
    environment = os.environ | {"HOME": str(home), "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        ensure_token()
    ray = str(Path(sys.executable).with_name("ray"))
    start = [ray, "start", "--head", "--port=0", f"--dashboard-port={dashboard}", "--num-cpus=1"]
    start += ["--node-ip-address=127.0.0.1", f"--temp-dir={folder}"]
    try:
        done = subprocess.run(start, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        deadline = time.monotonic() + 60
        while dashboard not in (found := _listening(folder)):
            assert time.monotonic() < deadline, "the dashboard does not answer"
            time.sleep(0.5)
        yield found, dashboard
    finally:
        for process in _processes(folder):
            process.kill()


def _processes(folder):
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(folder in argument for argument in process.info["cmdline"] or ()):
            found.append(process)
    return found


def _listening(folder):
    found = {}
    for process in _processes(folder):
        for connection in process.net_connections():
            if connection.status == psutil.CONN_LISTEN:
                found[connection.laddr.port] = " ".join(process.info["cmdline"])[:80]
    return found


def call(port, method):
    """Return the status with which a call without a token ends."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = channel.unary_unary(f"/ray.rpc.{method}", lambda x: x, lambda x: x)
        try:
            stub(b"", timeout=5)
        except grpc.RpcError as error:
            return error.code().name
    return "OK"


def get(port, path):
    """Return the HTTP status, "counters" for those of Ray, or None where no HTTP server answers.

    The counters are for Prometheus, from servers that know no token, and answer any path with nothing else.
    """
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return "counters" if answer.read(7) == b"# HELP " else answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, http.client.BadStatusLine):  # the latter where a port speaks gRPC
        return None


def test_no_port_answers_without_the_token(ports):
    listening, _ = ports
    assert len(listening) >= 4, "the head, the node, its objects and the dashboard"
    asked = 0
    for port, command in listening.items():
        answers = {method: call(port, method) for method in CALLS}
        pages = {path: get(port, path) for path in PATHS}
        assert "OK" not in answers.values(), (port, command, answers)
        assert 200 not in pages.values(), (port, command, pages)
        asked += "UNAUTHENTICATED" in answers.values() or 401 in pages.values() or set(pages.values()) == {"counters"}
    assert asked == len(listening), "each port but those of counters serves what is asked for, and asks for the token"


def test_a_wrong_token_is_as_good_as_none(ports):
    url = f"http://127.0.0.1:{ports[1]}/api/jobs/"
    request = urllib.request.Request(url, headers={"Authorization": "Bearer " + "0" * 64})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=5)
    assert caught.value.code in (401, 403)
