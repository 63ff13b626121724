import errno
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from search.errors import UserError
from search.results import Folder
from search.results.folder import without_credentials


def test_what_is_written_is_read_and_listed(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "a b#%")
    assert not folder.exists()
    folder.write_whole("x/y.bin", b"12")
    folder.write_whole("x/z/w.bin", b"345")
    folder.write_whole("x/y.bin", b"1")
    assert folder.read("x/y.bin") == b"1"
    assert folder.exists("x/z")
    assert folder.list("x") == [("x/y.bin", 1)]
    assert folder.list(recursive=True) == [("x/y.bin", 1), ("x/z/w.bin", 3)]
    assert folder.list("nothing") == []
    folder.delete("x/y.bin")
    folder.delete("x/y.bin")
    with pytest.raises(FileNotFoundError):
        folder.read("x/y.bin")


def test_only_the_uri_is_pickled(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write_whole("f", b"1")
    again = pickle.loads(pickle.dumps(folder))
    assert again.uri == str(tmp_path)
    assert again.read("f") == b"1"


def test_a_file_uri_is_the_local_path(tmp_path: Path) -> None:
    Folder(f"file://{tmp_path}").write_whole("f", b"1")
    assert (tmp_path / "f").read_bytes() == b"1"


def test_a_name_that_is_no_utf8_is_refused_though_only_the_current_folder_has_it(tmp_path: Path, monkeypatch) -> None:
    place = os.path.join(os.fsencode(tmp_path), b"\xff")
    os.mkdir(place)
    monkeypatch.chdir(place)
    with pytest.raises(UserError, match="not valid UTF-8; rename the folder"):
        Folder("runs")


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside", "a/../../outside", "a\0b"])
def test_no_path_leaves_the_folder(tmp_path: Path, path: str) -> None:
    folder = Folder(tmp_path / "in")
    with pytest.raises(ValueError, match="stay inside"):
        folder.read(path)
    with pytest.raises(ValueError, match="stay inside"):
        folder.write_whole(path, b"1")


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path)
    folder.write_whole("f", b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot write 3 bytes: No space left on device.*f'") as caught:
        folder.write_whole("f", b"new")
    assert caught.value.errno == errno.ENOSPC
    assert folder.read("f") == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_a_writer_that_is_killed_before_the_rename_leaves_the_old_file(tmp_path: Path) -> None:
    Folder(tmp_path).write_whole("f", b"old")
    code = (
        "import os, signal, sys; from search.results.folder import Folder;"
        "os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL);"
        "Folder(sys.argv[1]).write_whole('f', b'new')"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    folder = Folder(tmp_path)
    assert folder.read("f") == b"old"
    assert [entry.path for entry in folder.list()] == ["f"]
    assert len(list(folder.list(temporary=True))) == 1


def test_leftovers_of_dead_writers_are_listed_apart(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write_whole("f", b"1")
    half = f".{'0' * 32}.tmp"
    (tmp_path / half).write_bytes(b"")
    assert [entry.path for entry in folder.list()] == ["f"]
    assert [entry.path for entry in folder.list(temporary=True)] == [half]


def test_a_file_that_cannot_be_deleted_is_told_and_one_that_is_not_there_is_not(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.delete("nothing")
    (tmp_path / "sub").mkdir()
    with pytest.raises(OSError, match="sub"):
        folder.delete("sub")


def test_only_an_empty_folder_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = Folder("~/runs")
    folder.write_whole("f", b"1")
    assert (tmp_path / "runs" / "f").exists(), "~ is the home folder"
    folder.remove_if_empty()
    assert folder.exists("f")
    folder.delete("f")
    folder.remove_if_empty()
    assert not (tmp_path / "runs").exists()


class Store:
    """An object store: what is put appears whole, and there is nothing to rename."""

    type_name = "s3"

    def __init__(self) -> None:
        self.put: dict[str, pa.BufferOutputStream] = {}

    def open_output_stream(self, path: str) -> pa.BufferOutputStream:
        return self.put.setdefault(path, pa.BufferOutputStream())


def test_an_object_store_gets_one_put_and_no_rename(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.is_local, folder._fs = False, Store()
    folder.write_whole("x/y.bin", b"12")
    assert list(folder._fs.put) == [f"{tmp_path}/x/y.bin"]


@pytest.mark.parametrize("uri", ["", "nonsense://x", "s3://"])
def test_an_unusable_uri_is_the_users_error(uri: str) -> None:
    with pytest.raises(UserError):
        Folder(uri)


def test_an_azure_account_without_a_container_is_the_users_error() -> None:
    """pyarrow takes it for a path that begins with a slash, and fails at the first file."""
    with pytest.raises(UserError, match="names no container; write abfs://CONTAINER@ACCOUNT") as refused:
        Folder("abfs://:c2VjcmV0@account.dfs.core.windows.net/c/x")
    assert "c2VjcmV0" not in str(refused.value)


def test_messages_hide_credentials() -> None:
    folder = Folder("s3://key:secret@bucket/runs?region=eu-west-1")
    assert str(folder) == "s3://bucket/runs"
    assert "secret" not in repr(folder)
    assert pickle.loads(pickle.dumps(folder)).uri == folder.uri
    assert without_credentials("s3://key:se/cret@bucket/runs") == "s3://bucket/runs"
    assert without_credentials("hdfs://host:9000/a@b") == "hdfs://host:9000/a@b"


@pytest.mark.slow
def test_an_object_store_serves_as_well(bucket: str) -> None:
    folder = pickle.loads(pickle.dumps(Folder(bucket)))
    assert str(folder) == "s3://bucket/runs"
    assert not folder.exists("x")
    folder.write_whole("x/y.bin", b"12")
    assert folder.read("x/y.bin") == b"12"
    assert folder.list(recursive=True) == [("x/y.bin", 2)]
    assert folder.list() == []
    with pytest.raises(FileNotFoundError):
        folder.read("nothing")
    folder.delete("x/y.bin")
    assert folder.list(recursive=True) == []
