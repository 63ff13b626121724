"""What the writer leaves alone once the folder is another driver's, at whatever step it learns that."""

import pytest

from search.driver import writer as module
from search.driver.writer import Writer
from search.results import Folder, ResultStore


@pytest.fixture
def store(tmp_path):
    return ResultStore(Folder(tmp_path))


@pytest.fixture
def world(store):
    """A writer with a row for each table; ``cleaned`` has the trials after which it cleaned up."""
    cleaned = []
    writer = Writer(store, cleaned.append)
    row = {"trial_id": "t", "experiment": "x"}
    writer.rows["proposals"].append(row | {"number": 0, "repeat": 0, "params_json": "{}"})
    writer.rows["epochs"].append(row | {"epoch": 1})
    writer.rows["trials"].append(row | {"status": "finished"})
    yield writer, cleaned
    writer._thread.shutdown()


@pytest.mark.parametrize(("last", "written"), [("proposals", [1, 0, 0]), ("epochs", [1, 1, 0]), ("trials", [1, 1, 1])])
def test_only_what_was_being_written_is_still_written(last, written, world, store, monkeypatch):
    writer, cleaned = world
    append = store.append

    def lost_meanwhile(table, rows):
        append(table, rows)
        if table == last:
            writer.abandon()

    monkeypatch.setattr(store, "append", lost_meanwhile)
    writer.flush()
    writer.close()
    assert [store.read(table).num_rows for table in ("proposals", "epochs", "trials")] == written
    assert cleaned == [], "the checkpoint is the other driver's now"


def test_at_the_end_nothing_is_merged(world, store, monkeypatch):
    writer, _ = world
    writer.abandon()
    merged = []
    monkeypatch.setattr(store, "compact", merged.append)
    writer.close()
    assert merged == []


@pytest.mark.parametrize(("cost_s", "wait_s"), [(0.0, module.SHORTEST_FLUSH_S), (100.0, module.LONGEST_FLUSH_S)])
def test_however_fast_the_storage_is_rows_wait_for_a_moment_and_never_for_long(cost_s, wait_s, world, monkeypatch):
    writer, _ = world
    now = [0.0]

    def append(table, rows):
        now[0] += cost_s

    monkeypatch.setattr(writer._store, "append", append)
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    for number in (1, 2):
        writer.rows["epochs"].append({"epoch": number})
        writer.flush()
        writer._settle()
    assert writer._wait_s == wait_s
