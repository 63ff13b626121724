"""The command that a submitted search runs on its cluster."""

from __future__ import annotations


def search_command(spec: str, storage: str, profile: str) -> list[str]:
    """Return the command line that runs a search inside a cluster; run again, it goes on where it stopped.

    Args:
        spec: Path of the spec there.
        storage: URI of the experiment folder.
        profile: Path of the profile there.
    """
    return ["python", "-m", "search.cli.app", "launch", spec, "--storage", storage, "--cluster", profile]
