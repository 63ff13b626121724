"""One driver for one folder: a lease with a heartbeat, which a second driver takes over only from a dead one."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from search.errors import UserError
from search.results.folder import Folder

PATH = "lease.json"
BEAT_S = 4.0


class Lease:
    """Holds a folder for this process, as a context manager.

    Whether another holder lives is judged without comparing clocks: on this machine by its process, elsewhere by
    whether its heartbeat counter moves while we watch.

    Raises:
        UserError: On entering, if a living driver holds the folder: its host, process and age.
    """

    def __init__(self, folder: Folder, *, beat_s: float = BEAT_S) -> None:
        self._folder = folder
        self._beat_s = beat_s
        self._content: dict[str, Any] = {
            "token": uuid.uuid4().hex,
            "host": socket.gethostname(),
            "machine": _machine(),
            "pid": os.getpid(),
            "process_started": _process_start(os.getpid()),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "beat": 0,
        }
        self._made_folder = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self.lost = threading.Event()

    def __enter__(self) -> Lease:
        self._made_folder = not self._folder.exists()
        other = read_lease(self._folder)
        if other is not None and self._lives(other):
            raise UserError(
                f"{self._folder}: another driver works here (host {other['host']}, process {other['pid']}, "
                f"since {other['since']}); stop it first, or choose another folder with --storage"
            )
        try:
            self._write()
            # Two drivers that start at once both write; the last write stays, and the other one sees it here.
            time.sleep(0.2)
            if not self._is_ours():
                raise UserError(
                    f"{self._folder}: another driver started here at the same moment; it goes on, this one ends"
                )
            self._thread.start()
        except BaseException:  # Interrupted here, it is not left by __exit__.
            self._stop.set()
            self._give_back()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        # Who interrupts this waiting does not keep the folder: the thread gives it back, after its last beat.
        self._thread.join()

    def _give_back(self) -> None:
        """Delete the lease, unless another driver has taken the folder over since the last beat."""
        with contextlib.suppress(OSError):
            if self._is_ours():
                self._folder.delete(PATH)
                if self._made_folder:
                    # A search that could not begin leaves nothing behind.
                    self._folder.remove_if_empty()

    def _is_ours(self) -> bool:
        current = read_lease(self._folder)
        return current is not None and current["token"] == self._content["token"]

    def _keep(self) -> None:
        while not self._stop.wait(self._beat_s):
            # A store that is away for a moment is no reason to give up: the next beat tries again.
            with contextlib.suppress(OSError):
                current = read_lease(self._folder)
                if current is not None and current["token"] != self._content["token"]:
                    self.lost.set()
                    return
                self._content["beat"] += 1
                self._write()
        self._give_back()

    def _write(self) -> None:
        self._folder.write_whole(PATH, json.dumps(self._content).encode())

    def _lives(self, other: dict[str, Any]) -> bool:
        lives = lives_here(other)
        if lives is not None:
            return lives
        time.sleep(2.5 * self._beat_s)
        later = read_lease(self._folder)
        return later is not None and (later["token"], later["beat"]) != (other["token"], other["beat"])


def read_lease(folder: Folder) -> dict[str, Any] | None:
    """Return the content of a folder's lease; None if there is none, or none that can be read."""
    try:
        content = json.loads(folder.read(PATH))
    except (OSError, ValueError):
        return None
    needed = {"token", "host", "pid", "process_started", "since", "beat"}
    return content if isinstance(content, dict) and needed <= content.keys() else None


def lives_here(lease: dict[str, Any]) -> bool | None:
    """Return whether a lease's driver is a living process of this machine; None if it is of another machine.

    Containers and copied machines may share a host's name, and not its processes.
    """
    if lease["host"] != socket.gethostname() or lease.get("machine", _machine()) != _machine():
        return None
    return _process_start(lease["pid"]) == lease["process_started"] is not None


@cache
def _machine() -> str:
    """Return what tells a running system, and a container in it, from others of its name; "" where nothing does."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _process_start(pid: int) -> str | None:
    """Return what tells a process from a later one with the same number; None if there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        pass
    else:
        return None if fields[0] == "Z" else fields[19]
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "unknown"
