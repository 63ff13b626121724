"""An experiment folder, on a local path or wherever ``pyarrow.fs`` reaches: files appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
from pyarrow import fs

from clusters.uri import SCHEMES, hiding, known_schemes, misspelt, shown
from search.errors import UserError

if TYPE_CHECKING:
    # Importing it loads pandas where that is installed: half a second that only queries need.
    import pyarrow.dataset as ds

TEMPORARY_SUFFIX = ".tmp"
# As writers call them: other files of that ending are the user's.
_TEMPORARY = re.compile(rf"\.[0-9a-f]{{32}}{re.escape(TEMPORARY_SUFFIX)}$")
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")
# Where one put makes a file visible whole; a rename there would be a copy.
_OBJECT_STORES = {"s3", "gcs", "abfs"}


class Entry(NamedTuple):
    """A file in a folder."""

    path: str
    """Path relative to the folder, with forward slashes."""
    size: int
    """Size in bytes."""


class Folder:
    """A folder of files, each written whole. Can be pickled: only its URI travels.

    Args:
        uri: A local path, or a URI that ``pyarrow.fs`` opens (``s3://bucket/key``, ``gs://...``, ``file:///...``).

    Raises:
        UserError: If the URI cannot be used.
    """

    def __init__(self, uri: str | os.PathLike[str]) -> None:
        text = os.fspath(uri)
        if not text:
            raise UserError("the folder has an empty name; write a path or a URI such as s3://bucket/runs")
        meant = misspelt(text)
        if meant:
            raise UserError(f"{text}: would be a folder here; write {meant}, or ./{text} for that folder")
        if not _SCHEME.match(text):
            text = str(Path(text).expanduser().absolute())
        try:
            text.encode()
        except UnicodeEncodeError:
            # Here, since the name may be that of the current folder, which nobody wrote.
            raise UserError(f"{text!r}: its name is not valid UTF-8; rename the folder, or name another") from None
        if _SCHEME.match(text):
            self.uri = text
            try:
                self._fs, self._root = fs.FileSystem.from_uri(self.uri)
            except (pa.ArrowException, OSError, ValueError) as error:
                why = hiding(error, text)
                if text.partition("://")[0] not in SCHEMES:
                    why += f"; known are {known_schemes()}"
                raise UserError(f"{without_credentials(text)}: not a URI that can be opened ({why})") from None
        else:
            self.uri = text
            self._fs, self._root = fs.LocalFileSystem(), self.uri
        self.is_local = isinstance(self._fs, fs.LocalFileSystem)
        if not self.is_local and not self._root.strip("/"):
            raise UserError(f"{without_credentials(text)}: names no folder; write one such as s3://bucket/runs")
        if self._fs.type_name == "abfs" and self._root.startswith("/"):
            wanted = "abfs://CONTAINER@ACCOUNT.dfs.core.windows.net/NAME"
            raise UserError(f"{without_credentials(text)}: names no container; write {wanted}")

    @property
    def local_root(self) -> str | None:
        """The folder as a path on this machine, of a ``file://`` URI too; None if it is elsewhere."""
        return self._root if self.is_local else None

    def __reduce__(self) -> tuple[type[Folder], tuple[str]]:
        return Folder, (self.uri,)

    def __str__(self) -> str:
        return without_credentials(self.uri)

    def __repr__(self) -> str:
        return f"Folder({str(self)!r})"

    def write_whole(self, path: str, data: bytes) -> None:
        """Write a file, replacing what was there; a reader sees the old file or the new one, never a part.

        Local files survive a power cut from the moment this returns.

        Args:
            path: Path relative to the folder; folders on the way are made.
            data: The whole content.

        Raises:
            OSError: If it cannot be written (disk full, no permission, no connection), naming the file.
            ValueError: If the path leaves the folder.
        """
        full = self._full(path)
        try:
            if self.is_local:
                _write_local(Path(full), data)
            elif self._fs.type_name in _OBJECT_STORES:
                self._put(full, data)
            else:
                temporary = f"{full}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}"
                self._fs.create_dir(str(PurePosixPath(full).parent), recursive=True)
                self._put(temporary, data)
                self._fs.move(temporary, full)
        except (OSError, pa.ArrowException) as error:
            number = getattr(error, "errno", None)
            reason = (os.strerror(number) if number else "") or str(error)
            raise OSError(number, f"cannot write {len(data)} bytes: {reason}", f"{self}/{path}") from error

    def _put(self, full: str, data: bytes) -> None:
        with self._fs.open_output_stream(full) as stream:
            stream.write(data)

    def read(self, path: str) -> bytes:
        """Return a file's content.

        Raises:
            FileNotFoundError: If there is no such file.
            OSError: If it cannot be read.
            ValueError: If the path leaves the folder.
        """
        with self.open(path) as file:
            return file.read()

    def open(self, path: str) -> pa.NativeFile:
        """Return a file opened for random reads. Raises what :meth:`read` raises."""
        return self._fs.open_input_file(self._full(path))

    def dataset(self, paths: Sequence[str], form: ds.FileFormat, schema: pa.Schema) -> ds.Dataset:
        """Return files as one Arrow data set. It reads them lazily."""
        import pyarrow.dataset as ds

        fragments = [form.make_fragment(self._full(path), self._fs) for path in paths]
        return ds.FileSystemDataset(fragments, schema, form, self._fs)

    def exists(self, path: str = "") -> bool:
        """Return whether there is a file or folder of that name."""
        return self._fs.get_file_info(self._full(path)).type != fs.FileType.NotFound

    def list(self, prefix: str = "", *, recursive: bool = False, temporary: bool = False) -> list[Entry]:
        """Return the files in a sub-folder, sorted by path; none if there is no such folder.

        Args:
            prefix: Sub-folder; the folder itself if empty.
            recursive: Also list the files of its sub-folders.
            temporary: List only the leftovers of writers that died, which are otherwise left out.
        """
        selector = fs.FileSelector(self._full(prefix), allow_not_found=True, recursive=recursive)
        start = len(self._root.rstrip("/")) + 1
        return sorted(
            Entry(info.path[start:], info.size)
            for info in self._fs.get_file_info(selector)
            if info.type == fs.FileType.File and bool(_TEMPORARY.search(info.path)) == temporary
        )

    def delete(self, path: str) -> None:
        """Delete a file; a file that is not there is no error.

        Raises:
            OSError: If it cannot be deleted.
            ValueError: If the path leaves the folder.
        """
        try:
            self._fs.delete_file(self._full(path))
        except OSError:
            if self.exists(path):
                raise

    def remove_if_empty(self) -> None:
        """Delete the folder itself if it is local and holds nothing; object stores have no empty folders."""
        if self.is_local:
            with contextlib.suppress(OSError):
                Path(self._root).rmdir()

    def _full(self, path: str) -> str:
        parts = PurePosixPath(path).parts
        if path.startswith("/") or ".." in parts or "\0" in path:
            raise ValueError(f"a path must stay inside the folder, but got {path!r}")
        return "/".join([self._root.rstrip("/"), *parts])


def without_credentials(uri: str) -> str:
    """Return a URI without the user, password and options it may carry, for messages."""
    scheme, mark, rest = shown(uri).partition("://")
    if not mark:
        return uri
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}".partition("?")[0]


def _write_local(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    # The rename itself must survive a power cut as well.
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
