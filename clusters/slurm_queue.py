"""Searches as batch jobs of Slurm."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from clusters.errors import ClusterError
from clusters.jobs import ENDED, RETRY_S, Search
from clusters.kinds import SlurmProfile
from clusters.names import object_name
from clusters.render.slurm import batch_script
from clusters.staging import stage
from clusters.tools import call

STATES = {
    **dict.fromkeys(("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "RESV_DEL_HOLD"), "PENDING"),
    **dict.fromkeys(("RUNNING", "COMPLETING", "SUSPENDED", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED"), "RUNNING"),
    "COMPLETED": "SUCCEEDED",
    "CANCELLED": "STOPPED",
}
# Code and signal with which an interrupted search ends.
INTERRUPTED = "130:"


class SlurmQueue:
    """The queue of the Slurm cluster that this machine is a login node of.

    Args:
        profile: The profile; its job runs on machines that see this machine's home folder.
        home: Where the files of submitted searches lie.
    """

    def __init__(self, profile: SlurmProfile, home: Path | None = None) -> None:
        self._profile = profile
        self._home = home or Path.home() / ".rps-search" / "slurm"

    def submit(self, search: Search) -> str:
        """Submit a search and return the job's id; if Slurm refuses it, nothing is left behind."""
        folder = self._home / f"{object_name(self._profile.name)}-{time.time_ns()}"
        folder.mkdir(parents=True, mode=0o700)
        try:
            stage(folder, search.files(), code=search.carry_code, own_code=search.own_code)
            script = folder / "job.sh"
            script.write_text(batch_script(self._profile), encoding="utf-8")
            log = f"--output={self._home}/%j.log"
            arguments = [
                "--parsable",
                f"--chdir={folder}",
                log,
                str(script),
                "spec.yaml",
                search.storage,
                "profile.yaml",
            ]
            return call("sbatch", *arguments).strip().partition(";")[0]
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def follow(self, job: str) -> Iterator[str]:
        """Yield what the job prints, from its beginning until it has ended."""
        seen = 0
        while True:
            ended = self.status(job) in ENDED
            text = self._read(job)
            if len(text) > seen:
                yield text[seen:]
                seen = len(text)
            if ended:
                return
            time.sleep(RETRY_S)

    def logs(self, job: str) -> str:
        """Return what the job has printed so far."""
        self.status(job)
        return self._read(job)

    def status(self, job: str) -> str:
        """Return the job's state; one of ``ENDED`` if it has ended."""
        if not job.isdigit():
            raise ClusterError(f"Slurm's jobs have numbers, but got {job!r}")
        try:
            shown = call("scontrol", "show", "job", job, "--oneliner")
        except ClusterError as error:
            if "invalid job id" not in str(error).lower():
                raise
            if self._log(job).exists():  # Slurm forgets jobs some minutes after their end.
                return "ENDED"
            raise ClusterError(f"Slurm knows no job {job}; squeue --me lists yours") from error
        known = dict(part.split("=", 1) for part in shown.split() if "=" in part)
        status = STATES.get(known.get("JobState", ""), "FAILED")
        # A search that was told to stop, by `stop` or as its time ran out, ends so; to Slurm that is a failure.
        interrupted = known.get("ExitCode", "").startswith(INTERRUPTED)
        return "STOPPED" if status == "FAILED" and interrupted else status

    def stop(self, job: str) -> None:
        """Have the job stop.

        Raises:
            ClusterError: If it has ended already.
        """
        status = self.status(job)
        if status in ENDED:
            raise ClusterError(f"job {job} has ended already ({status.lower()}); there is nothing to stop")
        # The script takes the signal for Ctrl-C; where it has not begun there is nothing to take it.
        how = [] if status == "PENDING" else ["--signal=TERM", "--batch"]
        call("scancel", *how, job)

    def _log(self, job: str) -> Path:
        return self._home / f"{job}.log"

    def _read(self, job: str) -> str:
        try:
            return self._log(job).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
