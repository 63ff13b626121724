import threading
import time

import pytest

from search.driver import writer as module
from search.driver.writer import Writer
from search.results import Folder, ResultStore


@pytest.fixture
def store(tmp_path):
    return ResultStore(Folder(str(tmp_path)))


@pytest.fixture
def writer(store):
    writer = Writer(store, lambda row: None)
    yield writer
    writer.rows = {table: [] for table in writer.rows}
    writer.close()


def epoch(number, trial_id="t"):
    return {"trial_id": trial_id, "epoch": number, "experiment": "x"}


PROPOSAL = {"number": 0, "repeat": 0, "trial_id": "t", "experiment": "x", "params_json": "{}"}


def epochs_in(store):
    """Return the epochs in the table, each as often as it was written."""
    # Reading leaves out what is there twice; the names of parts tell.
    found = store.read("epochs", ["epoch"])["epoch"].to_pylist()
    assert sum(part.name.rows for part in store.snapshot("epochs").parts) == len(found)
    return found


def until(condition):
    limit = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.005)


def failing(store, monkeypatch, broken):
    """Have writing to the tables in ``broken`` fail."""
    append = store.append

    def fails(table, rows):
        if table in broken:
            raise OSError("no space")
        return append(table, rows)

    monkeypatch.setattr(store, "append", fails)


def test_rows_are_written_in_order_once(writer, store):
    for number in range(1, 6):
        writer.rows["epochs"].append(epoch(number))
        writer.flush()
    writer.close()
    assert epochs_in(store) == [1, 2, 3, 4, 5]


def test_rows_that_come_while_others_are_written_are_written_next(writer, store, monkeypatch):
    append, begun, go = store.append, threading.Event(), threading.Event()

    def slow(table, rows):
        begun.set()
        go.wait(10)
        append(table, rows)

    monkeypatch.setattr(store, "append", slow)
    writer.rows["epochs"].append(epoch(1))
    writer.flush()
    begun.wait(10)
    writer.rows["epochs"].append(epoch(2))
    assert not writer.due
    go.set()
    until(lambda: len(writer.rows["epochs"]) == 1)
    assert epochs_in(store) == [1]
    writer.close()
    assert epochs_in(store) == [1, 2]


def test_what_could_not_be_written_is_written_with_the_next_and_nothing_twice(writer, store, monkeypatch):
    broken = {"epochs"}
    failing(store, monkeypatch, broken)
    writer.rows["proposals"].append(PROPOSAL)
    writer.rows["epochs"].append(epoch(1))
    writer.flush()
    writer.rows["epochs"].append(epoch(2))
    with pytest.raises(OSError, match="no space"):
        writer.flush()
    assert [row["epoch"] for row in writer.rows["epochs"]] == [1, 2], "in the order in which they came"
    assert not writer.rows["proposals"], "they were written"
    broken.clear()
    writer.close()
    assert epochs_in(store) == [1, 2]
    assert [part.name.rows for part in store.snapshot("proposals").parts] == [1]


def test_a_disk_that_stays_full_is_told_at_the_end_and_the_thread_ends(writer, store, monkeypatch):
    failing(store, monkeypatch, {"epochs"})
    writer.rows["epochs"].append(epoch(1))
    writer.flush()
    with pytest.raises(OSError, match="no space"):
        writer.close()
    assert not any(thread.name.startswith("rps-search-writer") for thread in threading.enumerate())


def test_an_interrupt_while_waiting_at_the_end_loses_nothing_and_the_thread_ends(writer, store, monkeypatch):
    append, go = store.append, threading.Event()

    def slow(table, rows):
        go.wait(10)
        append(table, rows)

    monkeypatch.setattr(store, "append", slow)
    writer.rows["epochs"].append(epoch(1))
    writer.flush()

    def interrupted():
        go.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(writer._writing, "result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        writer.close()
    assert not any(thread.name.startswith("rps-search-writer") for thread in threading.enumerate())
    assert epochs_in(store) == [1]


def test_parts_are_merged_while_the_search_goes_on(writer, store, monkeypatch):
    monkeypatch.setattr(module, "COMPACT_EVERY", 8)
    for number in range(1, 9):
        writer.rows["epochs"].append(epoch(number))
        writer.flush()
    until(lambda: writer.due or writer._writing.done())
    assert epochs_in(store) == list(range(1, 9))
    assert len(store.snapshot("epochs").parts) < 8


def test_the_next_is_due_once_the_last_is_written_and_took_a_small_share_of_the_time(writer, store, monkeypatch):
    now, go = [0.0], threading.Event()
    append = store.append

    def costly(table, rows):
        go.wait(10)
        append(table, rows)
        now[0] += 0.3

    monkeypatch.setattr(store, "append", costly)
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    waits = []
    for number in range(1, 4):
        now[0] += 100
        writer.rows["epochs"].append(epoch(number))
        began = now[0]
        writer.flush()
        assert not writer.due, "it is still being written"
        go.set()
        while writer.rows["epochs"] or not writer._writing.done():
            threading.Event().wait(0.005)
        go.clear()
        while not writer.due:
            now[0] += 0.01
        waits.append(now[0] - began)
    go.set()
    assert waits[0] == pytest.approx(0.3, abs=0.02), "the first of a process says little: at once"
    assert waits[1:] == pytest.approx([0.3 / module.WRITING_SHARE] * 2, abs=0.02)
