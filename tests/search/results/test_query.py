import subprocess
import sys
from pathlib import Path

import pytest

from search.errors import UserError
from search.results import Folder, ResultStore, load
from search.results.query import Query
from search.spec import named_specs


@pytest.fixture
def query(store: ResultStore, trial) -> Query:
    store.append("trials", [trial(number, method="rps" if number % 2 else "snip") for number in range(20)])
    store.append("epochs", [{"trial_id": "a", "experiment": "e", "epoch": e, "loss": 1 / e} for e in (1, 2, 3)])
    return Query([store])


def answer(query: Query, sql: str) -> list[dict]:
    return query.batches(sql).read_all().to_pylist()


def test_questions_are_answered_over_every_view(query: Query) -> None:
    assert answer(query, "SELECT method, count(*) AS n FROM trials GROUP BY ALL ORDER BY method") == [
        {"method": "rps", "n": 10},
        {"method": "snip", "n": 10},
    ]
    assert answer(query, "SELECT sum(epoch) AS s, min(loss) AS l FROM epochs") == [{"s": 6, "l": 1 / 3}]
    assert answer(query, "SELECT budgets['layer1.*'] AS b FROM trials WHERE number = 3") == [{"b": 103}]
    assert answer(query, "SELECT count(*) AS n FROM frontier WHERE overall AND method = 'rps'") == [{"n": 10}]
    assert answer(query, "SELECT count(*) AS n FROM proposals") == [{"n": 0}]
    assert len(answer(query, "DESCRIBE frontier")) == 19
    assert {row["name"] for row in answer(query, "SHOW TABLES")} == {"trials", "epochs", "proposals", "frontier"}


@pytest.mark.parametrize(
    "before", ["EXPLAIN", "explain analyze ", "EXPLAIN (ANALYZE true, FORMAT 'json')", "explain(format json)"]
)
def test_plans_of_questions_are_told(query: Query, before: str) -> None:
    assert "explain_value" in answer(query, f"{before} SELECT count(*) FROM trials")[0]


def test_overall_is_said_of_points_and_not_of_ids_that_two_experiments_share(tmp_path: Path, trial) -> None:
    stores = [ResultStore(Folder(tmp_path / name)) for name in "ab"]
    for store, method, accuracy, size in zip(stores, ("rps", "snip"), (0.9, 0.5), (100, 200), strict=True):
        name = store.folder.uri[-1]
        row = trial(1, experiment=name, method=method, accuracy_val=accuracy, stored_bytes=size)
        store.append("trials", [row])
    asked = Query(stores)
    assert len(answer(asked, "SELECT DISTINCT trial_id FROM trials")) == 1
    assert answer(asked, "SELECT method, overall FROM frontier ORDER BY 1") == [
        {"method": "rps", "overall": True},
        {"method": "snip", "overall": False},
    ]


def test_an_empty_answer_has_its_columns(query: Query) -> None:
    found = query.batches("SELECT lr, method FROM trials WHERE lr > 1e9").read_all()
    assert (found.num_rows, found.column_names) == (0, ["lr", "method"])


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('{secret}')",
        "SELECT * FROM read_blob('{secret}')",
        "SELECT * FROM read_csv('{secret}')",
        "SELECT * FROM '{secret}'",
        "SELECT * FROM read_parquet('{secret}')",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM query('SELECT * FROM read_text(''{secret}'')')",
        "SELECT content FROM (SELECT 1), read_text('{secret}')",
        "COPY trials TO '{folder}/stolen.csv'",
        "COPY (SELECT 1) TO '{folder}/stolen.parquet'",
        "EXPORT DATABASE '{folder}/stolen'",
        "ATTACH '{folder}/stolen.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT * FROM read_csv('https://example.com/x.csv')",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "PRAGMA enable_external_access",
        "CREATE TABLE x AS SELECT 1",
        "DROP VIEW trials",
        "DELETE FROM trials",
        "INSERT INTO trials SELECT * FROM trials",
        "SELECT 1; SELECT * FROM read_text('{secret}')",
        "SELECT 1; COPY trials TO '{folder}/stolen.csv'",
        "CALL enable_logging()",
        "SELECT * FROM secret_of_python",
        "EXPLAIN ANALYZE COPY trials TO '{folder}/stolen.csv'",
        "EXPLAIN ANALYZE COPY trials TO ':memory:' (FORMAT csv)",  # a name that DuckDB itself allows
        "EXPLAIN (ANALYZE, FORMAT json) COPY trials TO ':memory:'",
        "EXPLAIN /* */ ANALYZE CREATE TABLE x AS SELECT 1",
        "EXPLAIN DROP VIEW trials",
        "",
        "'; DROP TABLE trials; --",
    ],
)
def test_hostile_sql_reaches_nothing(query: Query, tmp_path: Path, sql: str) -> None:
    secret_of_python = load  # a Python variable that DuckDB could otherwise read as a table
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\nhidden,hidden\n")
    files = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as caught:
        query.batches(sql.format(secret=secret, folder=tmp_path)).read_all()
    assert "hidden" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == files
    assert len(answer(query, "FROM trials")) == 20
    assert secret_of_python is load


def test_a_mistake_is_answered_with_the_columns(query: Query) -> None:
    with pytest.raises(UserError, match=r'"acuracy" not found.*columns of epochs: trial_id, experiment, epoch, loss'):
        query.batches("SELECT acuracy FROM epochs")
    with pytest.raises(UserError, match=r"trails does not exist.*trials: trial_id.*frontier: experiment, dataset"):
        query.batches("SELECT * FROM trails")
    with pytest.raises(UserError, match=r"^Conversion Error: Could not convert string 'snip'"):
        query.batches("SELECT method::INT FROM trials").read_all()
    with pytest.raises(
        UserError, match=r'^Parser Error: syntax error at or near "SELCT" - columns of trials: trial_id'
    ):
        query.batches("SELCT * FROM trials")
    with pytest.raises(UserError, match=r'must be text, such as "SELECT \* FROM frontier", but got 3$'):
        query.relation(3)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^a PIVOT must name the values .*such as ON method IN \('rps', 'rand'\)$"):
        query.batches("PIVOT trials ON method USING avg(accuracy)")
    assert answer(query, "PIVOT trials ON method IN ('rps', 'none') USING count(*)")[0]["none"] == 0


def test_views_are_found_however_they_are_written(query: Query) -> None:
    assert answer(query, "SELECT count(*) AS n FROM Trials, epochs") == [{"n": 60}]


def test_duplicates_over_parts_and_folders_count_once(
    query: Query, store: ResultStore, trial, tmp_path, caplog
) -> None:
    store.append("trials", [trial(5, lr=9.0), trial(50)])
    copy = ResultStore(Folder(tmp_path / "copy"))
    copy.append("trials", [trial(50), trial(51)])
    both = Query([store, copy])
    for _ in range(2):
        assert answer(both, "SELECT count(*) AS n, max(number) AS m FROM trials") == [{"n": 22, "m": 51}]
    assert "duplicate rows of trials, counted once: 2" in caplog.text


def test_a_page_that_turns_out_damaged_is_left_out(query: Query, store: ResultStore, trial, caplog) -> None:
    path = Path(store.folder.uri) / store.append("trials", [trial(number) for number in range(100, 110)])
    data = bytearray(path.read_bytes())
    data[40] ^= 1  # in the first column, trial_id
    path.write_bytes(data)
    assert len(answer(query, "SELECT * FROM trials")) == 20
    assert path.name in caplog.text
    assert "a page cannot be read" in caplog.text


def test_a_part_whose_end_is_missing_is_left_out_and_named(query: Query, store: ResultStore, trial, caplog) -> None:
    path = Path(store.folder.uri) / store.append("trials", [trial(20)])
    path.write_bytes(path.read_bytes()[:-9])
    assert answer(query, "SELECT count(*) AS n FROM trials") == [{"n": 20}]
    assert f"{path.name} is left out" in caplog.text


def test_parts_that_a_compaction_deletes_meanwhile_are_found_again(store: ResultStore, trial, monkeypatch) -> None:
    for number in range(16):
        store.append("trials", [trial(number)])
    query = Query([store])
    real = Query.relation

    def compacted_in_between(self: Query, sql: str):
        relation = real(self, sql)
        store.compact("trials")
        return relation

    monkeypatch.setattr(Query, "relation", compacted_in_between)
    assert answer(query, "SELECT sum(number) AS s FROM trials") == [{"s": 120}]


def test_what_memory_does_not_hold_goes_to_temporary_files(
    store: ResultStore, trial, monkeypatch, tmp_path: Path
) -> None:
    store.append("trials", [trial(0)])
    here, spill = tmp_path / "here", tmp_path / "spill"
    here.mkdir()
    spill.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr("tempfile.tempdir", str(spill))
    query = Query([store], "60MB")
    assert len(list(spill.iterdir())) == 1
    found = query.batches("SELECT md5(range::VARCHAR) AS m FROM range(1500000) ORDER BY m LIMIT 3 OFFSET 1400000")
    assert found.read_all().num_rows == 3
    query.close()
    assert list(here.iterdir()) == list(spill.iterdir()) == []


def test_python_users_get_arrow_pandas_and_relations(query: Query, store: ResultStore) -> None:
    pytest.importorskip("pandas")
    results = load(store.folder.uri, store.folder.uri)
    assert results.trials.num_rows == 20
    assert results.epochs.num_rows == 3
    assert len(results.to_pandas("epochs")) == 3
    with pytest.raises(UserError, match=r"unknown table 'trial': did you mean 'trials'"):
        results.to_pandas("trial")
    with pytest.raises(UserError, match=r"unknown column of trials 'acuracy': did you mean 'accuracy'"):
        results.table("trials", ["acuracy"])
    assert results.sql("SELECT max(number) FROM trials").fetchall() == [(19,)]


def test_folders_without_an_experiment_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no experiment folder"):
        load(tmp_path)
    with pytest.raises(UserError, match="at least one"):
        load()


def test_a_folder_of_no_trials_answers(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    query = Query(load(tmp_path).stores)
    assert answer(query, "SELECT count(*) AS n FROM trials") == [{"n": 0}]
    assert answer(query, "FROM frontier") == []


@pytest.mark.slow
def test_tables_in_an_object_store_are_written_compacted_and_asked(bucket: str, trial) -> None:
    store = ResultStore(Folder(bucket))
    for number in range(17):
        store.append("trials", [trial(number)])
    assert store.compact("trials") == 17
    store.append("trials", [trial(17)])
    results = load(bucket)
    assert results.trials["number"].to_pylist() == list(range(18))
    assert results.sql("SELECT sum(number) FROM trials").fetchall() == [(153,)]
    assert len(store.folder.list("results/trials")) == 2


@pytest.mark.slow
def test_reading_loads_neither_torch_nor_ray_nor_optuna(query: Query, store: ResultStore) -> None:
    store.folder.write_whole("spec.yaml", named_specs()["quickstart"].encode())
    store.folder.write_whole("results/meta.json", b"{}")
    code = """
import sys
from search.cli.app import app
for command in (["query", sys.argv[1], "FROM trials"], ["frontier", sys.argv[1]], ["status", sys.argv[1]]):
    try:
        app(command)
    except SystemExit as end:
        assert not end.code, end.code
heavy = {"torch", "ray", "optuna", "sklearn", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code, store.folder.uri], check=True, capture_output=True, timeout=60)
