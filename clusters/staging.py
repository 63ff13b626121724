"""What a submitted search takes along: this program, the user's own Python files, the spec and the profile."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("rps_core", "baselines", "search", "clusters")
SKIPPED = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def stage(target: Path, files: Mapping[str, str], *, code: bool, own_code: Path) -> None:
    """Fill a folder with what the search needs on the cluster.

    Args:
        target: An empty folder.
        files: Names and texts of files to put there.
        code: Whether the cluster has no program of its own, so that it comes along.
        own_code: Folder of the user's Python files: modules and packages at its top are taken, nothing else, so that
            neither data nor credentials travel.
    """
    for name, text in files.items():
        (target / name).write_text(text, encoding="utf-8")
    for entry in sorted(own_code.iterdir()):
        if entry.name in PACKAGES or entry.name.startswith("."):
            continue
        if entry.suffix == ".py" and entry.is_file():
            shutil.copy(entry, target / entry.name)
        elif (entry / "__init__.py").is_file():
            shutil.copytree(entry, target / entry.name, ignore=_python_only)
    if code:
        for package in PACKAGES:
            found = find_spec(package)
            assert found is not None, f"{package} is part of this program"
            assert found.origin is not None, f"{package} is a package with files"
            shutil.copytree(Path(found.origin).parent, target / package, ignore=SKIPPED)


def _python_only(folder: str, names: list[str]) -> set[str]:
    return {n for n in names if n in {"__pycache__"} or not (n.endswith(".py") or (Path(folder) / n).is_dir())}
