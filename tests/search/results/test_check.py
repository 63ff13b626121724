import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from search.driver.progress import Progress
from search.errors import UserError
from search.results import TABLES, Folder, ResultStore, load
from search.results.check import check
from search.results.load import read_meta
from search.results.schema import ESSENTIAL, ESSENTIAL_IF_FINISHED
from search.spec import named_specs


@pytest.fixture
def sound(store: ResultStore, trial) -> ResultStore:
    store.folder.write_whole("spec.yaml", named_specs()["quickstart"].encode())
    store.folder.write_whole("results/meta.json", b"{}")
    rows = [trial(number) for number in range(6)]
    shared = ("trial_id", "experiment", "number", "repeat", "seed", "params_json", "config_json")
    store.append("proposals", [{name: row[name] for name in shared} | {"origin": "sampler"} for row in rows])
    store.append("trials", rows[:3])
    store.append("trials", rows[3:])
    return store


def repaired(store: ResultStore) -> list[str]:
    """Repair until nothing is left to repair; return what is still wrong."""
    for _ in range(5):
        repairs = [finding.repair for finding in check(store.folder) if finding.repair]
        for repair in repairs:
            repair()
        if not repairs:
            break
    return [finding.what for finding in check(store.folder)]


def flip(store: ResultStore, path: str, at: int) -> None:
    file = Path(store.folder.uri) / path
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


def test_a_sound_folder_has_no_findings(sound: ResultStore) -> None:
    assert check(sound.folder) == []


def damage_column(store: ResultStore, path: str, name: str) -> None:
    """Flip a bit in the last byte of a column's pages."""
    group = pq.read_metadata(Path(store.folder.uri) / path).row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    column = next(c for c in columns if c.path_in_schema.split(".")[0] == name)
    start = column.data_page_offset if column.dictionary_page_offset is None else column.dictionary_page_offset
    flip(store, path, start + column.total_compressed_size - 1)


@pytest.mark.parametrize("damaged", TABLES["trials"].names)
def test_a_damaged_column_of_trials_leaves_no_row_that_a_search_cannot_resume_from(
    sound: ResultStore, trial, damaged: str
) -> None:
    failed = {"status": "failed", "accuracy": None, "accuracy_val": None, "stored_bytes": None, "epochs_run": None}
    path = sound.append("trials", [trial(100), trial(101), trial(102, **failed)])
    damage_column(sound, path, damaged)
    (finding,) = [f for f in check(sound.folder) if f.path == path]
    assert "a page cannot be read" in finding.what
    assert repaired(sound) == []
    assert sound.folder.exists(path.replace("results/", "results/quarantine/"))
    rows = load(sound.folder.uri).trials.to_pylist()
    assert all(row[column] is not None for row in rows for column in ESSENTIAL["trials"])
    finished = [row for row in rows if row["status"] == "finished"]
    assert all(row[column] is not None for row in finished for column in ESSENTIAL_IF_FINISHED)
    kept = 0 if damaged in ESSENTIAL["trials"] else 1 if damaged in ESSENTIAL_IF_FINISHED else 3
    assert [row["number"] for row in rows] == [*range(6), *{0: [], 1: [102], 3: [100, 101, 102]}[kept]]
    if kept == 3:
        assert [row[damaged] for row in rows[6:]] == [None] * 3
        assert finding.remedy == "write the 3 rows that can be read anew, and move it to the quarantine"
    else:
        assert finding.remedy.endswith(f"{3 - kept} rows are lost: resuming the search runs these trials again")
    progress = Progress("e", 9, "stored_bytes", 1)
    progress.recall(rows)
    assert progress.ended == len(rows)


@pytest.mark.parametrize("damaged", TABLES["proposals"].names)
def test_a_damaged_column_of_the_journal_is_rebuilt_where_it_matters(sound: ResultStore, damaged: str) -> None:
    (entry,) = sound.folder.list("results/proposals")
    before = sound.read("proposals").sort_by("number").to_pylist()
    damage_column(sound, entry.path, damaged)
    assert repaired(sound) == []
    after = sound.read("proposals").sort_by("number").to_pylist()
    assert [row[name] for row in after for name in ESSENTIAL["proposals"]] == [
        row[name] for row in before for name in ESSENTIAL["proposals"]
    ]


def test_lost_and_foreign_files_go_to_the_quarantine(sound: ResultStore, caplog: pytest.LogCaptureFixture) -> None:
    lost = sound.folder.list("results/trials")[1].path
    sound.folder.write_whole(lost, b"")
    sound.folder.write_whole("results/epochs/notes.parquet", b"mine")
    found = {finding.path: finding for finding in check(sound.folder)}
    assert set(found) == {lost, "results/epochs/notes.parquet"}
    assert found[lost].what == "readers leave it out: it is empty"
    rerun = "3 rows are lost: resuming the search runs these trials again"
    assert found[lost].remedy == f"move it to the quarantine; {rerun}"
    assert found["results/epochs/notes.parquet"].remedy == "move it to the quarantine"
    assert repaired(sound) == []
    caplog.clear()
    assert sound.read("trials", ["number"])["number"].to_pylist() == [0, 1, 2]
    assert not caplog.records
    assert sound.folder.read("results/quarantine/epochs/notes.parquet") == b"mine"


def test_a_lost_journal_is_rebuilt_from_the_trials(sound: ResultStore, trial) -> None:
    for entry in sound.folder.list("results/proposals"):
        sound.folder.delete(entry.path)
    (finding,) = check(sound.folder)
    assert finding.what.startswith("6 trials are missing")
    assert repaired(sound) == []
    row = sound.read("proposals").to_pylist()[2]
    assert (row["number"], row["config_json"], row["origin"]) == (2, trial(2)["config_json"], None)


def test_duplicates_are_reported_and_merged_away(sound: ResultStore, trial, caplog: pytest.LogCaptureFixture) -> None:
    sound.append("trials", [trial(1, lr=7.0), trial(2, lr=7.0)])
    (finding,) = check(sound.folder)
    assert not caplog.records, "what is found is not told twice"
    assert finding.harmless
    assert finding.what == "rows that were written twice: 2 (trials 000000000001, 000000000002); they count once"
    assert repaired(sound) == []
    assert sound.read("trials", ["lr"])["lr"].to_pylist() == [0.1] * 6
    assert len(sound.folder.list("results/trials")) == 1


def test_leftovers_of_crashes_are_tidied(sound: ResultStore, trial, monkeypatch: pytest.MonkeyPatch) -> None:
    (Path(sound.folder.uri) / f"results/trials/.{'0' * 32}.tmp").write_bytes(b"")
    (Path(sound.folder.uri) / "draft.tmp").write_bytes(b"a person's own")
    parts = sound.snapshot("trials").parts
    monkeypatch.setattr(Folder, "delete", lambda self, path: None)
    sound.merge("trials", parts)
    monkeypatch.undo()
    assert [finding.remedy for finding in check(sound.folder)] == ["delete it", "delete them"]
    assert repaired(sound) == []
    assert (Path(sound.folder.uri) / "draft.tmp").exists()
    assert len(sound.folder.list("results/trials")) == 1
    assert sound.read("trials").num_rows == 6


def test_what_cannot_be_repaired_is_told(sound: ResultStore, trial) -> None:
    sound.folder.delete("spec.yaml")
    sound.folder.write_whole("results/meta.json", b"{")
    rows = [trial(0, accuracy=float("nan"))]
    broken = ResultStore(sound.folder)
    for entry in sound.folder.list("results/trials"):
        sound.folder.delete(entry.path)
    broken.append("trials", rows)
    assert repaired(sound) == [
        "it is missing: the search cannot be resumed, its tables can be read",
        "1 finished trials have no finite accuracy (trials 000000000000); frontiers leave them out",
    ]
    sound.folder.write_whole("spec.yaml", b"trials: many")
    assert "it cannot be read: spec.yaml: trials" in check(sound.folder)[0].what


def test_facts_that_cannot_be_read_are_told_and_refused_in_a_sentence(sound: ResultStore) -> None:
    sound.folder.delete("results/meta.json")
    (Path(sound.folder.uri) / "results/meta.json").mkdir()
    (finding,) = check(sound.folder)
    assert (finding.path, finding.repair) == ("results/meta.json", None)
    with pytest.raises(UserError, match=r"results/meta.json: cannot be read: .*directory"):
        read_meta(sound.folder)


ODD_FACTS = {
    b"{": r"not valid JSON \(Expecting",
    b"[1]": "a mapping of facts is expected, but this is a list",
    b'{"reference": 3}': "reference: input should be a valid dictionary .*, but got 3",
    b'{"reference": {"accuracy": 0.1}}': "reference.memory: field required",
    b'{"reference": {"accuracy": 0.1, "memory": NaN}}': "reference.memory: input should be a finite number",
    b'{"memory": "flops", "reference": {"accuracy": 0.1, "memory": 9}}': "memory: .*'stored_bytes' or .*'flops'",
    b'{"layer_sizes": {"fc": "many"}}': "layer_sizes.fc: input should be a valid integer",
}


@pytest.mark.parametrize(("content", "why"), ODD_FACTS.items(), ids=map(str, range(len(ODD_FACTS))))
def test_facts_that_are_not_what_readers_need_are_told_once_and_set_aside(
    sound: ResultStore, content: bytes, why: str
) -> None:
    sound.folder.write_whole("results/meta.json", content)
    with pytest.raises(UserError, match=f"results/meta.json: {why}.*; run rps-search check on the folder"):
        read_meta(sound.folder)
    (finding,) = check(sound.folder)
    assert (finding.path, finding.harmless) == ("results/meta.json", False)
    assert re.match(f"it cannot be used: {why}", finding.what)
    assert repaired(sound) == []
    assert read_meta(sound.folder) == {}


@pytest.mark.parametrize(
    "config", ["not json", "[]", '{"method": "rps"}', '{"lr": "high"}', '{"lr": NaN}', "[" * 99999]
)
def test_a_configuration_that_nobody_can_read_is_told(sound: ResultStore, trial, config: str) -> None:
    sound.append("trials", [trial(6, config_json=config), trial(7, config_json=None)])
    (finding,) = [f for f in check(sound.folder) if f.path == "results/trials"]
    assert not finding.harmless
    assert finding.what.startswith("1 trials have a config_json that is no mapping with a learning rate (trials 00")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"params_json": "not json"}, "the params_json of a trial is no JSON"),
        ({"params_json": "[]"}, "the params_json of a trial is no mapping, but a list"),
        ({"config_json": '{"method": "rps", "lr": 0.1}'}, "the config_json of a trial is no configuration"),
    ],
)
@pytest.mark.parametrize("table", ["trials", "proposals"])
def test_rows_that_a_search_would_not_resume_from_are_told(
    sound: ResultStore, trial, table: str, changes: dict, why: str
) -> None:
    row = trial(6) | {"proposed_at": trial(6)["finished_at"]}
    for name in ("trials", "proposals"):
        known = {field.name: row[field.name] for field in TABLES[name] if field.name in row}
        sound.append(name, [known | changes if name == table else known])
    (finding,) = check(sound.folder)
    assert (finding.path, finding.harmless) == (f"results/{table}", False)
    assert finding.what.startswith(f"a search cannot go on from 1 rows: {why}")
    assert finding.what.endswith("(trials 000000000006)")


def test_sizes_that_cannot_be_are_told(sound: ResultStore, trial) -> None:
    sound.append("trials", [trial(number, stored_bytes=0) for number in range(6, 8)])
    (finding,) = [f for f in check(sound.folder) if f.path == "results/trials"]
    assert finding.harmless
    assert finding.what.startswith(
        "2 finished trials have no positive stored_bytes (trials 000000000006, 000000000007)"
    )


def test_only_what_a_frontier_rests_on_is_said_to_keep_a_trial_from_it(sound: ResultStore, trial) -> None:
    sound.append("trials", [trial(6, loss=float("inf")), trial(7, latency_ms=0.0)])
    assert [f.what for f in check(sound.folder) if f.path == "results/trials"] == [
        "1 finished trials have no finite loss (trials 000000000006)",
        "1 finished trials have no positive latency_ms (trials 000000000007); frontiers over latency_ms leave them out",
    ]
