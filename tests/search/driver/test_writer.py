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
    writer.close()


def epoch(number, trial_id="t"):
    return {"trial_id": trial_id, "epoch": number, "experiment": "x"}


def epochs_in(store):
    return store.read("epochs", ["epoch"])["epoch"].to_pylist()


def until(condition):
    limit = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.005)


def test_rows_are_written_in_order_once(writer, store):
    for number in range(1, 6):
        writer.rows.epochs.append(epoch(number))
        writer.flush()
    writer.close()
    assert epochs_in(store) == [1, 2, 3, 4, 5]


def test_what_could_not_be_written_is_written_with_the_next_and_nothing_twice(writer, store, monkeypatch):
    append, broken = store.append, {"epochs"}

    def failing(table, rows):
        if table in broken:
            raise OSError("no space")
        return append(table, rows)

    monkeypatch.setattr(store, "append", failing)
    writer.rows.proposals.append({"number": 0, "repeat": 0, "trial_id": "t", "experiment": "x", "params_json": "{}"})
    writer.rows.epochs.append(epoch(1))
    writer.flush()
    writer.rows.epochs.append(epoch(2))
    with pytest.raises(OSError, match="no space"):
        writer.flush()
    assert [row["epoch"] for row in writer.rows.epochs] == [1, 2], "in the order in which they came"
    assert not writer.rows.proposals, "they were written"
    broken.clear()
    writer.close()
    assert epochs_in(store) == [1, 2]
    assert store.read("proposals").num_rows == 1


def test_a_disk_that_stays_full_is_told_at_the_end_and_the_thread_ends(writer, store, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(store, "append", lambda *_: (_ for _ in ()).throw(OSError("no space")))
        writer.rows.epochs.append(epoch(1))
        writer.flush()
        with pytest.raises(OSError, match="no space"):
            writer.close()
    until(lambda: not any(thread.name.startswith("rps-search-writer") for thread in threading.enumerate()))
    writer.rows = module.Rows()


def test_the_next_is_due_once_the_last_is_written_and_cost_a_small_share_of_the_time(writer, store, monkeypatch):
    now, spent, go = [0.0], [0.0], threading.Event()
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.time, "thread_time", lambda: spent[0])
    append = store.append

    def costly(table, rows):
        go.wait(10)
        append(table, rows)
        spent[0] += 0.1

    monkeypatch.setattr(store, "append", costly)
    waits = []
    for number in range(1, 4):
        now[0] += 100
        writer.rows.epochs.append(epoch(number))
        writer.flush()
        now[0] += 100
        assert not writer.due, "it is still being written"
        go.set()
        writer._settle()
        go.clear()
        began = now[0]
        while not writer.due:
            now[0] += 0.01
        waits.append(now[0] - began)
    go.set()
    assert waits[0] == pytest.approx(module.SHORTEST_FLUSH_S, abs=0.02), "the first of a process says little"
    assert waits[1:] == pytest.approx([0.1 / module.WRITING_SHARE] * 2, abs=0.02)
