"""Files that commands leave for the user on this machine: each whole, all of them or none, or one sentence."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from search.errors import UserError
from search.results.folder import Folder


def write_all(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write files to a folder; if one cannot be written, those that were not there before are taken away again.

    Args:
        folder: Where to; made if it is not there.
        files: Content of each file by name, in the order in which they appear.

    Returns:
        The files, in the same order.

    Raises:
        UserError: If one of them cannot be written.
    """
    target = Folder(folder.absolute())
    added: list[Path] = []
    try:
        with writing_to(folder):
            if not folder.exists():
                added.append(folder)
            for name, data in files.items():
                if not (folder / name).exists():
                    added.append(folder / name)
                target.write_whole(name, data)
    except BaseException:
        for path in reversed(added):
            with contextlib.suppress(OSError):
                path.rmdir() if path == folder else path.unlink()
        raise
    return [folder / name for name in files]


@contextlib.contextmanager
def appearing(place: Path) -> Iterator[Path]:
    """Yield where to make a file or folder that takes its place, whole, at the end; a failure leaves nothing.

    Args:
        place: The file, or the new or empty folder, that is to appear.

    Raises:
        UserError: If it cannot be written.
    """
    place = place.absolute()
    with writing_to(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        # A rename is whole within one file system only, hence the folder beside it.
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".", suffix=".tmp") as beside:
            made = Path(beside) / place.name
            yield made
            made.replace(place)


@contextlib.contextmanager
def writing_to(place: Path) -> Iterator[None]:
    """Turn what the system refuses into a sentence about the place.

    Raises:
        UserError: If the block raises OSError.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{place}: cannot be written ({error.strerror or error}); write another --out") from error
