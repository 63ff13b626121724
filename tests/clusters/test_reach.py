import os
import shlex
import sys
import time

import psutil
import pytest

from clusters import reach

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
