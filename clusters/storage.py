"""Whether an experiment folder can be worked with, from the driver and from every kind of node, found out at once."""

from __future__ import annotations

import logging
import re
import threading
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from clusters.errors import ClusterError, one_line
from clusters.session import Node, Session
from clusters.uri import hiding, shown

logger = logging.getLogger(__name__)

TIMEOUT_S = 60.0
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")


class NodeGoneError(Exception):
    """A node died, or takes no work any more, before it could say how the storage looks from there."""


def check_storage(uri: str, session: Session) -> None:
    """Try the experiment folder from here and from one node of each kind, and that all see the same folder.

    Args:
        uri: A local path or any URI that ``pyarrow.fs`` opens. Credentials come from the environment of each machine.
        session: The cluster.

    Raises:
        ClusterError: Saying from where, at which step and why it does not work, and what to do.
    """
    marker = f".storage-check-{uuid.uuid4().hex}"
    problem = within(TIMEOUT_S, lambda: probe(uri, leave=marker))
    if problem:
        raise ClusterError(f"the storage {shown(uri)} does not work from this machine: {problem}")
    try:
        for nodes in kinds(session.nodes()):
            _check_kind(nodes, uri, marker, session)
    finally:
        within(TIMEOUT_S, lambda: _remove(uri, marker))


def probe(uri: str, *, leave: str | None = None, find: str | None = None) -> str | None:
    """Write, read, list, rename and delete a small file below ``uri``.

    Args:
        uri: The experiment folder.
        leave: Name of a file to leave there.
        find: Name of a file that must be there.

    Returns:
        What is wrong, in words; None if nothing is.
    """
    step = "opening it"
    try:
        filesystem, root = _open(uri)
        content = uuid.uuid4().bytes
        first, second = (f"{root}/.storage-check-{uuid.uuid4().hex}" for _ in range(2))
        step = "writing"
        filesystem.create_dir(root, recursive=True)
        _write(filesystem, first, content)
        step = "reading"
        with filesystem.open_input_file(first) as file:
            if file.read() != content:
                return "what was written is not what is read back"
        step = "listing"
        if first.rpartition("/")[2] not in _names(filesystem, root):
            return "a file that was written is not listed; the storage must show a file as soon as it is written"
        step = "renaming"
        filesystem.move(first, second)
        step = "deleting"
        filesystem.delete_file(second)
        if find is not None and find not in _names(filesystem, root):
            return "it is not the folder that the driver sees; use a shared file system or an object store"
        if leave is not None:
            step = "writing"
            _write(filesystem, f"{root}/{leave}", content)
    except (OSError, pa.ArrowException, ValueError) as error:
        return f"{step} fails: {_explain(error, uri)}"
    return None


def within(seconds: float, action: Callable[[], str | None]) -> str | None:
    """Return what ``action`` returns, or that the storage does not answer if it takes longer.

    Clients of object stores try again for minutes where nothing answers.
    """
    answer: list[str | None] = []
    thread = threading.Thread(target=lambda: answer.append(action()), daemon=True, name="storage-check")
    thread.start()
    thread.join(seconds)
    return answer[0] if answer else f"it does not answer within {seconds:g} s; check its address and the network"


def kinds(nodes: Iterable[Node]) -> list[list[Node]]:
    """Return the nodes of each kind: those that offer the same are taken for alike."""
    found: dict[tuple[tuple[str, float], ...], list[Node]] = {}
    for node in nodes:
        found.setdefault(tuple(sorted(node.resources.items())), []).append(node)
    return list(found.values())


def _check_kind(nodes: list[Node], uri: str, marker: str, session: Session) -> None:
    """Ask one node; the next one if it goes away meanwhile. What no longer runs is no fault of the storage."""
    for node in nodes:
        try:
            problem = _probe_on(node, uri, marker)
        except NodeGoneError as error:
            logger.warning("node %s went away while it tried the storage: %s", node.address, error)
            continue
        if problem and node in session.nodes():
            raise ClusterError(f"the storage {shown(uri)} does not work from node {node.address}: {problem}")
        if problem is None:
            return


def _probe_on(node: Node, uri: str, marker: str) -> str | None:
    import ray
    from ray.exceptions import LocalRayletDiedError, NodeDiedError, TaskUnschedulableError, WorkerCrashedError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def work() -> str | None:
        return within(TIMEOUT_S, lambda: probe(uri, find=marker))

    there = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
    remote = ray.remote(num_cpus=0, max_retries=0)(work).options(scheduling_strategy=there)
    try:
        return ray.get(remote.remote(), timeout=2 * TIMEOUT_S)
    except (NodeDiedError, TaskUnschedulableError, LocalRayletDiedError, WorkerCrashedError) as error:
        # Ray's list may name it as alive for some more seconds, for a spot machine until its notice ends.
        raise NodeGoneError(one_line(error)) from error
    except Exception as error:
        return f"the node cannot run the check: {one_line(error)}"


def _open(uri: str) -> tuple[fs.FileSystem, str]:
    if not _SCHEME.match(uri):
        return fs.LocalFileSystem(), str(Path(uri).expanduser().absolute())
    filesystem, root = fs.FileSystem.from_uri(uri.rstrip("/"))
    return filesystem, root


def _write(filesystem: fs.FileSystem, path: str, content: bytes) -> None:
    with filesystem.open_output_stream(path) as stream:
        stream.write(content)


def _names(filesystem: fs.FileSystem, root: str) -> set[str]:
    return {info.base_name for info in filesystem.get_file_info(fs.FileSelector(root, allow_not_found=True))}


def _remove(uri: str, name: str) -> None:
    filesystem, root = _open(uri)
    filesystem.delete_file(f"{root}/{name}")


def _explain(error: Exception, uri: str) -> str:
    """Return the error with what to do, where the cause is one of the usual ones."""
    text = one_line(hiding(error, uri.rstrip("/")), 300)
    advice = {
        "ACCESS_DENIED": "this machine's account lacks a right: it needs to get, put, list and delete objects",
        "INVALID_ACCESS_KEY_ID": "the access key is unknown there",
        "SIGNATURE_DOES_NOT_MATCH": "the secret key is wrong",
        "NoSuchBucket": "there is no such bucket; create it first",
        "To create buckets": "there is no such bucket; create it first",
        "No response body": "check the bucket's name, region and the machine's credentials",
        "NETWORK_CONNECTION": "nothing answers at its address",
        "No space left": "the disk is full",
        "Permission denied": "this account may not write there",
        "Read-only file system": "it is mounted read-only",
    }
    for sign, meaning in advice.items():
        if sign in str(error):
            return f"{meaning} ({text})"
    return text
