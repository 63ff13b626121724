import base64
import os
import shlex
import sys
import time
from contextlib import contextmanager

import psutil
import pytest
import yaml

from clusters import ClusterError, load_profile, parse_profile, reach
from clusters.profile import named_profiles

# As `ray dashboard` does: a child of its own holds the port.
PROGRAM = """
import signal, subprocess, sys, time
manner, port, note = sys.argv[1:]
if manner == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-m", "http.server", port, "--bind", "127.0.0.1"])
open(note, "w").write(str(child.pid))
time.sleep(60)
"""


def alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("manner", ["usual", "stubborn"])
def test_a_tunnel_ends_with_all_that_it_started(tmp_path, monkeypatch, manner):
    program, tool, note = (tmp_path / name for name in ("program.py", "ray", "note"))
    program.write_text(PROGRAM)
    tool.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {program} "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(reach, "END_TIMEOUT_S", 0.5)
    with reach._tunnel(lambda port: ["ray", manner, str(port), str(note)]) as address:
        assert address.startswith("http://127.0.0.1:")
        child = int(note.read_text())
        assert alive(child)
    deadline = time.monotonic() + 5
    while alive(child):
        assert time.monotonic() < deadline, "what holds the port outlives the command"
        time.sleep(0.02)


@pytest.fixture
def tunnels(monkeypatch):
    """Give the commands that would forward a port to a cluster, and the addresses and tokens that are then used."""
    commands, servers = [], []

    @contextmanager
    def tunnel(command_for):
        commands.append(command_for(4321))
        yield "http://127.0.0.1:4321"

    monkeypatch.setattr(reach, "_tunnel", tunnel)
    monkeypatch.setattr(reach, "JobServer", lambda address, token: servers.append((address, token)))
    monkeypatch.setattr(reach, "find", lambda tool: tool)
    return commands, servers


def kubernetes():
    return parse_profile(yaml.safe_load(named_profiles()["kubernetes"]) | {"name": "My_k8s", "namespace": "lab"})


def test_a_cluster_on_kubernetes_is_reached_through_its_service_with_the_operators_token(tunnels, monkeypatch):
    asked = []
    monkeypatch.setattr(reach, "call", lambda *command: asked.append(command) or base64.b64encode(b"secret\n").decode())
    with reach.reach(kubernetes()):
        pass
    commands, servers = tunnels
    assert asked[0][:6] == ("kubectl", "-n", "lab", "get", "secret", "my-k8s")
    assert commands == [["kubectl", "-n", "lab", "port-forward", "service/my-k8s-head-svc", "4321:8265"]]
    assert servers == [("http://127.0.0.1:4321", "secret")]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            'secrets "my-k8s" not found',
            "there is no cluster 'my-k8s' in namespace 'lab'; make it with: rps-search cluster",
        ),
        ("the server is currently unable to handle the request", "kubectl -n failed: the server is currently unable"),
    ],
)
def test_a_cluster_that_is_not_there_is_told_from_one_that_does_not_answer(tunnels, monkeypatch, said, told):
    def fail(*command):
        raise ClusterError(f"kubectl -n failed: {said}")

    monkeypatch.setattr(reach, "call", fail)
    with pytest.raises(ClusterError, match=told), reach.reach(kubernetes()):
        pass


def test_a_cluster_of_the_launcher_is_reached_through_ray_with_this_users_token(tunnels, monkeypatch, tmp_path):
    (tmp_path / "token").write_text("f" * 64)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    for _ in range(2):
        with reach.reach(load_profile("ssh")):
            pass
        monkeypatch.setenv("RAY_AUTH_TOKEN", "e" * 64)
    commands, servers = tunnels
    assert commands[0][:2] == ["ray", "dashboard"]
    assert commands[0][3:] == ["--remote-port", "8265", "--port", "4321"]
    assert [token for _, token in servers] == ["f" * 64, "e" * 64]
    assert not os.path.exists(commands[0][2]), "the rendered file is gone afterwards"
