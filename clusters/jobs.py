"""Searches as jobs of a cluster: submitted, followed, read and stopped through Ray's Jobs server."""

from __future__ import annotations

import asyncio
import json
import logging
import shlex
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from clusters.entry import search_command
from clusters.errors import ClusterError, one_line
from clusters.staging import stage
from clusters.versions import CLIENT_VERSIONS, PACKAGE, check_versions, versions

# ENDED itself: over, and how is no longer known.
ENDED = {"SUCCEEDED", "STOPPED", "FAILED", "ENDED"}
RETRY_S = 2.0
# Ray's client announces every step it takes.
CHATTY = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)


@dataclass(frozen=True)
class Search:
    """A search to be run on a cluster."""

    spec_yaml: str
    """Text of the resolved spec."""
    profile_yaml: str
    """Text of the profile."""
    storage: str
    """URI of the experiment folder."""
    carry_code: bool
    """Whether this program goes along; if not, the machines have it installed."""
    own_code: Path
    """Folder of the user's Python files, which go along."""

    def files(self) -> dict[str, str]:
        """Return the files that the search reads on the cluster."""
        return {"spec.yaml": self.spec_yaml, "profile.yaml": self.profile_yaml}

    def client_versions(self) -> str:
        """Return the versions that the cluster must have, as JSON."""
        known = versions()
        if self.carry_code:
            del known[PACKAGE]
        return json.dumps(known)


class Jobs(Protocol):
    """Where searches run as jobs."""

    def submit(self, search: Search) -> str:
        """Submit a search and return the job's id."""

    def follow(self, job: str) -> Iterator[str]:
        """Yield what the job prints, from its beginning until it has ended."""

    def logs(self, job: str) -> str:
        """Return what the job has printed so far."""

    def status(self, job: str) -> str:
        """Return the job's state; one of ``ENDED`` if it has ended."""

    def stop(self, job: str) -> None:
        """Have the job stop."""


class JobServer:
    """The Jobs server of a Ray cluster.

    Args:
        address: ``http://HOST:PORT``.
        token: The cluster's token.

    Raises:
        ClusterError: If nothing answers there, the token is refused, or the cluster runs another Ray.
    """

    def __init__(self, address: str, token: str) -> None:
        from ray.job_submission import JobSubmissionClient

        self._address = address
        with self._explained():
            self._client = JobSubmissionClient(address, headers={"Authorization": f"Bearer {token}"})
            server = self._client._do_request("GET", "/api/version").json()
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
        check_versions({"ray": versions()["ray"]}, {"ray": server["ray_version"]})

    def submit(self, search: Search) -> str:
        """Submit a search and return the job's id."""
        environment = {CLIENT_VERSIONS: search.client_versions(), "RAY_USAGE_STATS_ENABLED": "0"}
        command = search_command("spec.yaml", search.storage, "profile.yaml")
        with tempfile.TemporaryDirectory(prefix="rps-search-") as folder, self._explained():
            stage(Path(folder), search.files(), code=search.carry_code, own_code=search.own_code)
            return self._client.submit_job(
                entrypoint=shlex.join(command),
                runtime_env={"working_dir": folder, "env_vars": environment},
                metadata={"storage": search.storage},
            )

    def follow(self, job: str) -> Iterator[str]:
        """Yield what the job prints, from its beginning; a connection that breaks is taken up again."""
        seen = 0
        while True:
            ended = self.status(job) in ENDED
            position = 0
            for text in _iterate(lambda: self._client.tail_job_logs(job)):
                new = text[max(0, seen - position) :]
                position += len(text)
                if new:
                    yield new
            seen = max(seen, position)
            if ended:
                return
            if self.status(job) not in ENDED:
                time.sleep(RETRY_S)

    def logs(self, job: str) -> str:
        """Return what the job has printed so far."""
        with self._explained(job):
            return self._client.get_job_logs(job)

    def status(self, job: str) -> str:
        """Return the job's state; one of ``ENDED`` if it has ended."""
        with self._explained(job):
            return str(self._client.get_job_status(job).value)

    def stop(self, job: str) -> None:
        """Have the job stop.

        Raises:
            ClusterError: If it has ended already.
        """
        status = self.status(job)
        if status in ENDED:
            raise ClusterError(f"job {job} has ended already ({status.lower()}); there is nothing to stop")
        with self._explained(job):
            self._client.stop_job(job)

    @contextmanager
    def _explained(self, job: str | None = None) -> Iterator[None]:
        """Turn what the client raises into one sentence. The token is in none of its messages."""
        try:
            yield
        except ClusterError:
            raise
        except Exception as error:
            raise ClusterError(self._reason(error, job)) from error

    def _reason(self, error: Exception, job: str | None) -> str:
        text = str(error)
        if "status code 401" in text or "status code 403" in text or "Authentication" in type(error).__name__:
            return f"the cluster at {self._address} refuses this token; copy the cluster's to ~/.ray/auth_token"
        if job is not None and ("status code 404" in text or "does not exist" in text):
            return f"there is no job {job!r} on the cluster at {self._address}; known are {self._known()}"
        if isinstance(error, ConnectionError) or "Failed to connect" in text:
            return (
                f"no Jobs server answers at {self._address}; check the address, and that the head runs with its "
                "dashboard (pip install 'ray[default]')"
            )
        if "No available agent" in text:
            return f"the head of the cluster at {self._address} is still starting; try again in a minute"
        return f"the cluster at {self._address} cannot do this: {one_line(error)}"

    def _known(self) -> str:
        try:
            names = [details.submission_id or details.job_id for details in self._client.list_jobs()]
        except Exception:  # It is only for the message, and the reason for that message is the one that counts.
            return "not told"
        return ", ".join(str(name) for name in names[-10:]) or "none"


def _iterate(open_stream: Callable[[], AsyncIterator[str]]) -> Iterator[str]:
    """Yield from an asynchronous stream; one that breaks off just ends."""
    loop = asyncio.new_event_loop()
    stream: Any = open_stream()
    try:
        while True:
            try:
                yield loop.run_until_complete(anext(stream))
            except StopAsyncIteration:
                return
            except (RuntimeError, OSError):
                return
    finally:
        loop.run_until_complete(stream.aclose())
        loop.close()
