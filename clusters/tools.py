"""Programs of others that this package calls: kubectl, sbatch, ray."""

from __future__ import annotations

import shutil
import subprocess

from clusters.errors import ClusterError

TIMEOUT_S = 60.0
WHERE_FROM = {
    "kubectl": "install it (https://kubernetes.io/docs/tasks/tools/) and point it at your cluster",
    "sbatch": "run this on a login node of the Slurm cluster",
    "squeue": "run this on a login node of the Slurm cluster",
    "scancel": "run this on a login node of the Slurm cluster",
    "scontrol": "run this on a login node of the Slurm cluster",
    "ray": "install it with pip install 'ray[default]'",
    "aws": "install it (https://aws.amazon.com/cli/) and log in",
    "gcloud": "install it (https://cloud.google.com/sdk/docs/install) and log in",
    "ssh": "install OpenSSH",
}


def find(tool: str) -> str:
    """Return the path of a program.

    Raises:
        ClusterError: If it is not there, with where to get it.
    """
    path = shutil.which(tool)
    if path is None:
        raise ClusterError(f"this needs the program {tool}, which is not on this machine; {WHERE_FROM[tool]}")
    return path


def call(tool: str, *arguments: str) -> str:
    """Run a program and return what it prints.

    Raises:
        ClusterError: If it is not there, fails or hangs, with the last line it said.
    """
    command = [find(tool), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"{tool} {arguments[0]} gave no answer within {TIMEOUT_S:g} s") from error
    if done.returncode != 0:
        raise ClusterError(f"{tool} {arguments[0]} failed: {last_line(done.stderr or done.stdout)}")
    return done.stdout


def last_line(text: str) -> str:
    """Return the last line of a program's output that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
