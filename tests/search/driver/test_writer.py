import signal
import threading
import time

import pytest

from search.driver import writer as module
from search.driver.writer import Writer
from search.results import Folder, ResultStore, compaction


@pytest.fixture
def store(tmp_path):
    return ResultStore(Folder(str(tmp_path)))


@pytest.fixture
def writer(store):
    writer = Writer(store, lambda row: None)
    yield writer
    writer._thread.shutdown()


def epoch(number, trial_id="t"):
    return {"trial_id": trial_id, "epoch": number, "experiment": "x"}


def proposal(trial_id="t"):
    return {"number": 0, "repeat": 0, "trial_id": trial_id, "experiment": "x", "params_json": "{}"}


def trial(trial_id="t"):
    return {**proposal(trial_id), "status": "finished"}


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
    writer._wait_s = 0.0
    assert not writer.due
    go.set()
    until(lambda: len(writer.rows["epochs"]) == 1)
    assert epochs_in(store) == [1]
    writer.close()
    assert epochs_in(store) == [1, 2]


def test_what_could_not_be_written_is_written_with_the_next_and_nothing_twice(writer, store, monkeypatch):
    broken = {"epochs"}
    failing(store, monkeypatch, broken)
    writer.rows["proposals"].append(proposal())
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


def test_an_interrupt_while_waiting_at_the_end_loses_nothing_and_the_thread_ends(
    writer, store, monkeypatch, interruptible
):
    append, go = store.append, threading.Event()

    def slow(table, rows):
        go.wait(10)
        append(table, rows)

    def interrupt():
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.1)
        go.set()

    monkeypatch.setattr(store, "append", slow)
    writer.rows["epochs"].append(epoch(1))
    writer.flush()
    writer.rows["epochs"].append(epoch(2))
    threading.Timer(0.2, interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        writer.close()
    assert not any(thread.name.startswith("rps-search-writer") for thread in threading.enumerate())
    assert epochs_in(store) == [1, 2]


def test_what_a_trial_builds_on_is_in_the_tables_before_it_whenever_it_comes(writer, store, monkeypatch):
    """Trials end between any two steps of the writing."""
    written = {table: set() for table in writer.rows}
    count = iter(range(1000))

    class Busy(list):
        def copy(self):
            taken = super().copy()
            end_another()
            return taken

    def end_another():
        trial_id = f"t{next(count)}"
        writer.rows["proposals"].append(proposal(trial_id))
        writer.rows["epochs"].append(epoch(1, trial_id))
        writer.rows["trials"].append(trial(trial_id))

    append = store.append

    def note(table, rows):
        append(table, rows)
        written[table] |= {row["trial_id"] for row in rows}
        assert written["trials"] <= written["epochs"] <= written["proposals"]
        end_another()

    monkeypatch.setattr(store, "append", note)
    writer.rows = {table: Busy() for table in writer.rows}
    end_another()
    for _ in range(3):
        writer.flush()
    writer._settle()
    assert len(written["trials"]) > 3
    writer.rows = {table: [] for table in writer.rows}
    writer.close()


@pytest.fixture
def interruptible():
    """SIGINT raises KeyboardInterrupt, also where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def cleaning(store):
    """A writer whose cleaning up fails for the trials in ``stuck``; ``cleaned`` has those that went well."""

    def clean_up(row):
        if row["trial_id"] in stuck:
            raise OSError("it is in use")
        cleaned.append(row["trial_id"])

    stuck, cleaned = set(), []
    writer = Writer(store, clean_up)
    yield writer, stuck, cleaned
    writer._thread.shutdown()


def test_nothing_is_cleaned_up_after_a_trial_that_is_not_in_its_table(cleaning, store, monkeypatch):
    writer, _, cleaned = cleaning
    broken = {"trials"}
    failing(store, monkeypatch, broken)
    writer.rows["proposals"].append(proposal())
    writer.rows["trials"].append(trial())
    writer.flush()
    with pytest.raises(OSError, match="no space"):
        writer._settle()
    assert store.read("proposals").num_rows == 1
    assert cleaned == []
    broken.clear()
    writer.flush()
    writer._settle()
    assert cleaned == ["t"]
    assert store.read("trials").num_rows == 1


def test_cleaning_up_that_failed_is_tried_again_and_done_once_for_each_trial(cleaning, store):
    writer, stuck, cleaned = cleaning
    stuck.add("b")
    for trial_id in "abc":
        writer.rows["trials"].append(trial(trial_id))
    writer.flush()
    with pytest.raises(OSError, match="in use"):
        writer._settle()
    assert cleaned == ["a"]
    stuck.clear()
    writer.flush()  # Nothing new has gathered.
    writer._settle()
    assert cleaned == ["a", "b", "c"]
    writer.close()
    assert cleaned == ["a", "b", "c"]
    assert sum(part.name.rows for part in store.snapshot("trials").parts) == 3


def test_cleaning_up_that_failed_in_the_last_batch_is_tried_again_at_the_end(cleaning):
    writer, stuck, cleaned = cleaning
    stuck.add("a")
    writer.rows["trials"].append(trial("a"))
    writer.flush()
    until(lambda: writer._writing.done())
    stuck.clear()
    writer.close()
    assert cleaned == ["a"]


def test_cleaning_up_that_fails_at_the_end_as_well_is_told(cleaning, store):
    writer, stuck, _ = cleaning
    stuck.add("a")
    writer.rows["trials"].append(trial("a"))
    with pytest.raises(OSError, match="in use"):
        writer.close()
    assert store.read("trials").num_rows == 1


def test_parts_are_merged_at_the_end(writer, store, monkeypatch):
    monkeypatch.setattr(compaction, "TIERS", (4,))
    for number in range(1, 9):
        writer.rows["epochs"].append(epoch(number))
        writer.flush()
        writer._settle()
    assert len(store.snapshot("epochs").parts) == 8
    writer.close()
    assert len(store.snapshot("epochs").parts) == 1
    assert epochs_in(store) == list(range(1, 9))


def test_parts_are_merged_while_the_search_goes_on(writer, store, monkeypatch):
    monkeypatch.setattr(module, "COMPACT_EVERY", 8)
    monkeypatch.setattr(compaction, "TIERS", (4,))
    for number in range(1, 10):
        writer.rows["epochs"].append(epoch(number))
        writer.flush()
        writer._settle()
        assert len(store.snapshot("epochs").parts) == (number if number < 8 else number - 7)
    assert epochs_in(store) == list(range(1, 10))


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
