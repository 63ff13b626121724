import itertools
import logging
import multiprocessing
import pickle
import shutil
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from search.errors import UserError
from search.results import Folder, ResultStore
from search.results.merged import read_all
from search.results.parts import DamagedPartError


def numbers(store: ResultStore) -> list[int]:
    return store.read("trials", ["number"])["number"].to_pylist()


def files(store: ResultStore) -> list[str]:
    return [entry.path for entry in store.folder.list("results/trials")]


def test_rows_are_read_in_the_order_of_writing(store: ResultStore, trial) -> None:
    assert store.append("trials", [trial(2), trial(1)]).startswith("results/trials/")
    again = pickle.loads(pickle.dumps(store))
    again.append("trials", [trial(0)])
    assert numbers(store) == [2, 1, 0]
    assert store.read("trials").to_pylist()[2]["budgets"] == list(trial(0)["budgets"].items())
    assert store.read("epochs").num_rows == 0


def test_a_part_needs_rows_and_reading_known_columns(store: ResultStore) -> None:
    with pytest.raises(ValueError, match="at least one row"):
        store.append("trials", [])
    with pytest.raises(ValueError, match="trials has no column x"):
        store.read("trials", ["x"])


def test_duplicates_are_counted_once_and_reported(store: ResultStore, trial, caplog: pytest.LogCaptureFixture) -> None:
    store.append("trials", [trial(0), trial(1)])
    store.append("trials", [trial(1, lr=99.0), trial(2)])
    assert numbers(store) == [0, 1, 2]
    assert store.read("trials", ["lr"])["lr"].to_pylist() == [0.1, 0.1, 0.1]
    assert "duplicate rows of trials, counted once: 1" in caplog.text


def test_epochs_of_one_trial_in_two_parts_are_no_duplicates(
    store: ResultStore, caplog: pytest.LogCaptureFixture
) -> None:
    for epoch in (1, 2):
        store.append("epochs", [{"trial_id": "a", "experiment": "e", "epoch": epoch}])
    assert store.read("epochs", ["epoch"])["epoch"].to_pylist() == [1, 2]
    assert not caplog.records


def test_a_damaged_part_is_named_and_skipped(store: ResultStore, trial, caplog: pytest.LogCaptureFixture) -> None:
    store.append("trials", [trial(0)])
    path = Path(store.folder.uri) / store.append("trials", [trial(1)])
    path.write_bytes(path.read_bytes()[:-9])
    (path.parent / "foreign.parquet").write_bytes(b"PAR1 hello PAR1")
    (path.parent / path.name.replace("-1-", "-2-")).write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert numbers(store) == [0]
        assert numbers(store) == [0]
    assert sorted(
        record.getMessage().rpartition("/")[2].partition(" is left out: ")[2] for record in caplog.records
    ) == [
        "it does not end as a Parquet file does: cut off or overwritten",
        "it does not have the name of a part: something else put it there",
        "it is empty",
    ]
    assert path.name in caplog.text


def test_a_newer_version_is_refused_with_a_sentence(store: ResultStore, trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.results.parts.SCHEMA_VERSION", 7)
    store.append("trials", [trial(0)])
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"results/trials/.*tables have version 7, .* reads up to 1; update"):
        store.read("trials")


def test_compaction_keeps_every_row_in_order(store: ResultStore, trial) -> None:
    for number in range(40):
        store.append("trials", [trial(number), trial(100 + number)])
    before = store.read("trials")
    assert store.compact("trials") == 40
    assert store.read("trials").equals(before)
    assert len(files(store)) <= 5
    assert store.compact("trials") == 0


class Crash(BaseException):
    pass


class CrashingFolder(Folder):
    """Dies before its n-th change of the folder."""

    def __init__(self, uri: str, changes: int) -> None:
        super().__init__(uri)
        self.left = changes

    def _change(self) -> None:
        if self.left == 0:
            raise Crash
        self.left -= 1

    def write_whole(self, path: str, data: bytes) -> None:
        self._change()
        super().write_whole(path, data)

    def delete(self, path: str) -> None:
        self._change()
        super().delete(path)


def test_a_crash_anywhere_in_a_compaction_loses_and_doubles_nothing(tmp_path: Path, trial, caplog) -> None:
    whole = ResultStore(Folder(tmp_path / "whole"))
    for number in range(17):
        whole.append("trials", [trial(number)])
    for changes in itertools.count():
        shutil.copytree(tmp_path / "whole", tmp_path / str(changes))
        store = ResultStore(Folder(tmp_path / str(changes)))
        try:
            ResultStore(CrashingFolder(store.folder.uri, changes)).compact("trials")
            break
        except Crash:
            assert numbers(store) == list(range(17))
            store.append("trials", [trial(17)])
            store.compact("trials")
            assert numbers(store) == list(range(18))
            assert len(files(store)) <= 3
    assert changes == 18  # one write and 17 deletions
    assert not caplog.records


def test_a_damaged_part_is_merged_around(store: ResultStore, trial) -> None:
    for number in range(40):
        path = Path(store.folder.uri) / store.append("trials", [trial(number)])
        if number == 3:
            data = bytearray(path.read_bytes())
            data[40] ^= 1  # in the first column, trial_id
            path.write_bytes(data)
    store.compact("trials")
    trials = store.read("trials", ["trial_id"])["trial_id"].to_pylist()
    assert trials == [trial(number)["trial_id"] for number in range(40) if number != 3]
    assert len(files(store)) < 20
    assert any(file.endswith(".parquet") and "-1-" in file for file in files(store))


def _write_and_compact(uri: str, rows: list[dict]) -> None:
    store = ResultStore(Folder(uri))
    for row in rows:
        store.append("trials", [row])
        store.compact("trials")


@pytest.mark.slow
def test_readers_see_a_growing_prefix_while_others_write_and_compact(store: ResultStore, trial, caplog) -> None:
    rows = [trial(number) for number in range(80)]
    writer = multiprocessing.get_context("spawn").Process(target=_write_and_compact, args=(store.folder.uri, rows))
    writer.start()
    seen, reads, deadline = 0, 0, time.monotonic() + 60
    while seen < 80 and time.monotonic() < deadline:
        found = numbers(store)
        assert found == list(range(len(found)))
        assert len(found) >= seen
        seen, reads = len(found), reads + 1
    writer.join()
    assert (seen, writer.exitcode) == (80, 0)
    assert reads > 3
    assert not caplog.records


def test_a_trial_in_two_folders_counts_once(tmp_path: Path, trial, caplog: pytest.LogCaptureFixture) -> None:
    stores = [ResultStore(Folder(tmp_path / name)) for name in "abc"]
    stores[0].append("trials", [trial(0), trial(1)])
    stores[1].append("trials", [trial(1), trial(2)])
    stores[2].append("trials", [trial(1, experiment="another")])
    assert read_all(stores, "trials", ["number"])["number"].to_pylist() == [0, 1, 2, 1]
    assert "in several folders, counted once: 1" in caplog.text


def test_names_that_differ_between_parts_and_folders_are_read_as_a_dictionary(tmp_path: Path, trial) -> None:
    stores = [ResultStore(Folder(tmp_path / name)) for name in "ab"]
    stores[0].append("trials", [trial(0, method="rps", dataset="digits")])
    stores[0].append(
        "trials", [trial(0), trial(1, method="snip", model=None)]
    )  # a duplicate makes readers compare keys
    stores[1].append("trials", [trial(2, method="rand", experiment="f"), trial(3, method="rps", dataset="mnist")])
    names = ["method", "model", "dataset", "experiment"]
    wanted = read_all(stores, "trials", names).to_pylist()
    assert [row["method"] for row in wanted] == ["rps", "snip", "rand", "rps"]
    assert read_all(stores, "trials", names, dictionary=names).to_pylist() == wanted


def test_a_table_with_duplicates_is_whole_and_one_with_a_damaged_part_is_not(store, trial):
    rows = [trial(number) for number in range(4)]
    store.append("trials", rows)
    path = store.append("trials", rows[:2])
    assert store.read_whole("trials").num_rows == 4
    group = pq.read_metadata(Path(store.folder.uri) / path).row_group(0)
    last = group.column(group.num_columns - 1)
    data = bytearray(store.folder.read(path))
    first = last.dictionary_page_offset or last.data_page_offset
    data[first + last.total_compressed_size - 1] ^= 1  # Not a column that keys are made of.
    store.folder.write_whole(path, bytes(data))
    with pytest.raises(DamagedPartError, match=f"{path} is damaged"):
        store.read_whole("trials")


def test_rows_keep_the_order_of_recording_though_a_clock_is_put_back(store, trial, monkeypatch):
    store.append("trials", [trial(0)])
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now - 3600 * 10**9)
    store.append("trials", [trial(1)])
    later = ResultStore(store.folder)
    later.append("trials", [trial(2)])
    later.append("trials", [trial(3)])
    assert later.read("trials", ["number"])["number"].to_pylist() == [0, 1, 2, 3]
