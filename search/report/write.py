"""Writing a report to a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from search.errors import UserError
from search.outputs import write_all
from search.report.gather import gather
from search.report.html import render
from search.report.pictures import pictures
from search.results import Folder

PAGE = "report.html"


def write_report(folders: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str] | None = None) -> list[Path]:
    """Write ``report.html`` and each picture as PNG and SVG.

    Args:
        folders: Experiment folders: paths or URIs.
        out: Folder for the files; None takes ``report`` in the first experiment folder, which must be local.

    Returns:
        The files, the page first.

    Raises:
        UserError: If a folder is no experiment, they cannot be compared, or the files cannot be written.
    """
    place = place_for(folders, out, "report")
    facts = gather(folders)
    return write_all(place, {PAGE: render(facts).encode(), **pictures(facts)})


def place_for(folders: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str] | None, default: str) -> Path:
    """Return where files go: where the user said, or under ``default`` in the first experiment folder.

    Raises:
        UserError: If nothing was said and that folder is not on this machine.
    """
    if out is not None:
        return Path(out)
    first = Folder(folders[0])
    if first.local_root is None:
        raise UserError(f"{first}: is not on this machine; say with --out where the files should go")
    return Path(first.local_root) / default
