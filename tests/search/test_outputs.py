import pytest

from search.errors import UserError
from search.outputs import appearing, write_all
from search.results import Folder


def test_files_are_written_in_order_and_replace_older_ones(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b").write_text("old")
    written = write_all(tmp_path / "out", {"b": b"new", "a": b"1"})
    assert written == [tmp_path / "out" / "b", tmp_path / "out" / "a"]
    assert [path.read_bytes() for path in written] == [b"new", b"1"]
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.parametrize("there", [False, True])
def test_a_failure_takes_away_what_was_written_before_it(there, tmp_path, monkeypatch):
    out = tmp_path / "out"
    if there:
        out.mkdir()
        (out / "mine").touch()
    write = Folder.write_whole

    def full(self, path, data):
        if path == "c":
            raise OSError(28, "No space left on device")
        write(self, path, data)

    monkeypatch.setattr(Folder, "write_whole", full)
    with pytest.raises(UserError, match=r"out: cannot be written \(No space left on device\)"):
        write_all(out, {"a": b"1", "b": b"2", "c": b"3"})
    assert [path.name for path in tmp_path.rglob("*")] == (["out", "mine"] if there else [])


def test_a_place_that_cannot_be_is_told_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="cannot be written"):
            write_all(place, {"a": b"1"})
    with pytest.raises(UserError, match="cannot be written"), appearing(tmp_path / "file" / "below"):
        pytest.fail("there is no place to write to")
    assert (tmp_path / "file").read_text() == "mine"


def test_what_appears_is_whole_or_not_there(tmp_path):
    with appearing(tmp_path / "deep" / "study.db") as made:
        made.write_text("half")
        assert not (tmp_path / "deep" / "study.db").exists()
        made.write_text("whole")
    assert (tmp_path / "deep" / "study.db").read_text() == "whole"
    with pytest.raises(ZeroDivisionError):
        half_a_folder(tmp_path / "deep" / "other")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["study.db"]


def half_a_folder(place):
    with appearing(place) as made:
        made.mkdir()
        (made / "part").touch()
        raise ZeroDivisionError
