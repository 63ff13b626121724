"""query, frontier, check and schema, as they are typed."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from search.cli.app import main
from search.results import Folder, ResultStore

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> Run:
    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rps-search", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capfd.readouterr()
        return code, out, err

    return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = ResultStore(Folder(tmp_path / "runs"))
    values = [
        ("rps", 100, 0.5),
        ("rps", 200, 0.7),
        ("rps", 800, 0.9),
        ("snip", 100, 0.4),
        ("snip", 800, 0.8),
        ("dense", 2000, 0.92),
    ]
    rows: list[dict[str, Any]] = [
        {
            "trial_id": f"t{number}",
            "experiment": "\x1b[31me<b>",
            "number": number,
            "status": "finished",
            "method": method,
            "dataset": "digits",
            "model": "mlp",
            "accuracy": accuracy,
            "accuracy_val": accuracy,
            "stored_bytes": memory,
            "finished_at": datetime(2026, 1, 1, 0, number, tzinfo=UTC),
        }
        for number, (method, memory, accuracy) in enumerate(values)
    ]
    store.append("trials", [*rows, {"trial_id": "f", "experiment": "e", "status": "failed", "error": "boom"}])
    meta = {"memory": "stored_bytes", "reference": {"accuracy": 0.0, "memory": 1000}}
    store.folder.write_whole("results/meta.json", json.dumps(meta).encode())
    return tmp_path / "runs"


def chosen(out: str) -> list[str]:
    return [row["trial_id"] for row in json.loads(out)]


def test_query_answers_in_every_format(run: Run, folder: Path, tmp_path: Path) -> None:
    question = "SELECT method, count(*) AS n FROM trials GROUP BY ALL ORDER BY ALL NULLS LAST LIMIT 2"
    assert run("query", folder, question)[:2] == (0, "method  n\ndense   1\nrps     3\n")
    assert run("query", folder, question, "--format", "csv")[1] == '"method","n"\n"dense",1\n"rps",3\n'
    assert json.loads(run("query", folder, folder, question, "--format", "json")[1])[1] == {"method": "rps", "n": 3}
    assert run("query", folder, question, "--out", tmp_path / "a.parquet")[:2] == (0, "")
    assert (tmp_path / "a.parquet").read_bytes()[:4] == b"PAR1"


def test_names_steer_no_terminal(run: Run, folder: Path) -> None:
    out = run("query", folder, "SELECT DISTINCT experiment FROM trials WHERE status = 'finished'")[1]
    assert out.splitlines()[1] == "\\x1b[31me<b>"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["query", "{folder}"], "name the folder and then the SQL"),
        (["query", "{folder}/none", "FROM trials"], "no experiment folder"),
        (["query", "{folder}", "SELECT acc FROM trials"], "columns of trials: trial_id, experiment"),
        (["query", "{folder}", "SELECT * FROM read_text('/etc/passwd')"], "file system operations are disabled"),
        (["query", "{folder}", "FROM trials", "--memory", "much"], "memory limit 'much'"),
        (["frontier", "{folder}", "--on", "train"], "write val or test"),
        (["compare", "{folder}", "--on", "train"], "write val or test"),
        (["claims", "{folder}"], "the spec makes no claims; add them under claims"),
        (["frontier", "{folder}", "--measure", "bytes"], "unknown measure 'bytes'"),
        (["frontier", "{folder}", "--by", "colour"], "unknown label 'colour'"),
        (["frontier", "{folder}", "--max-bytes", "few"], "write a number of bytes"),
        (["frontier", "{folder}", "--within", "nan"], "write percentage points from 0 to 100"),
        (["frontier", "{folder}", "--max-bytes", "9B"], "no point is at most 9B"),
        (
            ["frontier", "{folder}", "--measure", "flops", "--history"],
            "--history needs one experiment, whose reference point",
        ),
        (
            ["frontier", "{folder}", "--gaps", "--history", "--knee"],
            "--gaps and --history and --knee are different tables",
        ),
        (
            ["frontier", "{folder}", "--history", "--within", "3", "--max-bytes", "9"],
            "--history and --max-bytes, --within",
        ),
        (
            ["frontier", "{folder}", "--knee", "--by", "method"],
            "--by draws several frontiers, but --knee is answered over all",
        ),
        (
            ["frontier", "{folder}", "--gaps", "--by", "method"],
            "--by draws several frontiers, but --gaps is answered over all",
        ),
        (["schema", "--table", "trails"], "unknown table 'trails': did you mean 'trials'?"),
        (["check", "{folder}/none"], "no experiment folder"),
    ],
)
def test_wrong_input_is_one_line_and_code_two(run: Run, folder: Path, words: list[str], message: str) -> None:
    code, out, err = run(*(word.format(folder=folder) for word in words))
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_frontier_names_its_points_and_what_it_left_out(run: Run, folder: Path) -> None:
    code, out, err = run("frontier", folder, "--format", "json")
    assert (code, chosen(out)) == (0, ["t0", "t1", "t2", "t5"])
    assert "4 of 6 points are on the frontier, chosen by validation accuracy (6 trials; 1 left out" in err
    # Of the box: 0.5 over 900 bytes, 0.2 more over 800, 0.2 more over 200.
    assert f"hypervolume: {0.45 + 0.16 + 0.04:.4f}" in err
    assert chosen(run("frontier", folder, "--by", "method", "--format", "json")[1]) == [
        "t5",
        "t0",
        "t1",
        "t2",
        "t3",
        "t4",
    ]


def test_gaps_of_no_trial_are_not_those_of_one_method(run: Run, tmp_path: Path) -> None:
    (tmp_path / "begun" / "results").mkdir(parents=True)
    assert run("frontier", tmp_path / "begun", "--gaps")[2] == (
        "rps-search: no trial has finished, and so there are no gaps\n"
    )


def test_of_several_experiments_a_table_says_whose_each_point_is(run: Run, folder: Path, tmp_path: Path) -> None:
    row = {"trial_id": "other", "experiment": "two", "status": "finished", "method": "rps", "dataset": "digits"}
    row |= {"accuracy": 0.95, "accuracy_val": 0.95, "stored_bytes": 5000}
    ResultStore(Folder(tmp_path / "two")).append("trials", [row])
    for options in ([], ["--by", "experiment"]):
        lines = run("frontier", folder, tmp_path / "two", *options)[1].split("\n\n")[0].splitlines()
        assert lines[0].startswith("experiment")
        assert [line.startswith("two") for line in lines if " other " in line] == [True]
    assert "experiment" not in run("frontier", folder)[1]


def test_a_data_set_without_a_name_is_another_one(run: Run, folder: Path) -> None:
    """A row of another program may lack it."""
    row = {"trial_id": "n", "experiment": "e", "status": "finished", "method": "rps", "stored_bytes": 100}
    ResultStore(Folder(folder)).append("trials", [row | {"accuracy": 0.5, "accuracy_val": 0.5}])
    code, _, err = run("frontier", folder, "--gaps")
    assert (code, err.count("\n")) == (2, 1)
    assert "cannot be compared, but here are digits, one without a name" in err


def test_frontier_picks_gaps_and_history(run: Run, folder: Path) -> None:
    assert chosen(run("frontier", folder, "--max-bytes", "0.5kB", "--format", "json")[1]) == ["t1"]
    assert chosen(run("frontier", folder, "--within", "3", "--knee", "--format", "json")[1]) == ["t2", "t2"]
    gap = json.loads(run("frontier", folder, "--gaps", "--format", "json")[1])[0]
    assert (gap["better"], gap["worse"], round(gap["min_gap"], 6)) == ("rps", "snip", 0.1)
    told = "rps-search: left out, since no other method has points at their memory: dense\n"
    assert run("frontier", folder, "--gaps")[2] == told
    grown = json.loads(run("frontier", folder, "--history", "--format", "json")[1])
    assert [row["points"] for row in grown] == [1, 2, 3, 4, 5, 6]
    assert grown[-1]["hypervolume"] == pytest.approx(0.65)


def test_the_dense_model_is_the_reference_for_the_other_measure(run: Run, folder: Path, tmp_path: Path) -> None:
    store = ResultStore(Folder(tmp_path / "other"))
    row = {"trial_id": "t", "experiment": "e", "status": "finished", "accuracy": 0.5, "accuracy_val": 0.5}
    store.append("trials", [row | {"dataset": "digits", "stored_bytes": 100, "stored_parameters": 25}])
    meta = {"memory": "stored_bytes", "reference": {"accuracy": 0.0, "memory": 1000}, "dense_parameters": 50}
    store.folder.write_whole("results/meta.json", json.dumps(meta).encode())
    err = run("frontier", tmp_path / "other", "--measure", "stored_parameters")[2]
    assert f"hypervolume: {0.5 * 0.5:.4f} of the box up to the reference point accuracy 0, stored_parameters 50" in err
    err = run("frontier", tmp_path / "other", "--measure", "stored_parameters", "--measure", "stored_bytes")[2]
    assert f"hypervolume: {0.5 * 0.5 * 0.9:.4f}" in err
    assert "hypervolume" not in run("frontier", folder, "--measure", "stored_parameters")[2]


def test_status_averages_seeds_first_as_the_frontier_does(run: Run, folder: Path) -> None:
    (folder / "spec.yaml").write_text("name: again\n")
    store = ResultStore(Folder(folder))
    first = next(row for row in store.read("trials").to_pylist() if row["trial_id"] == "t0")
    store.append("trials", [first | {"trial_id": "lucky", "repeat": 1, "accuracy_val": 1.0}])
    found = [row["accuracy_val"] for row in json.loads(run("frontier", folder, "--format", "json")[1])]
    assert found == [0.75, 0.9, 0.92]
    assert "best accuracy 92.0% (validation), 3 on the frontier" in run("status", folder)[1]


def test_a_folder_of_no_trials_has_an_empty_frontier(run: Run, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    code, _, err = run("frontier", tmp_path)
    assert code == 0
    assert "0 of 0 points" in err
    assert run("query", tmp_path, "SELECT count(*) AS n FROM trials")[:2] == (0, "n\n0\n")


def test_check_tells_repairs_and_exits_with_two(run: Run, folder: Path) -> None:
    (part,) = (folder / "results/trials").iterdir()
    part.with_name("stranger.parquet").write_bytes(b"?")
    code, out, err = run("check", folder)
    assert code == 2
    assert "results/trials/stranger.parquet: readers leave it out" in out
    assert "stranger" not in err
    assert err.endswith("3 problems; rps-search check --repair repairs what can be\n")
    code, out, err = run("check", folder, "--repair")
    assert (code, err.splitlines()[-1]) == (2, f"{folder}: 1 problem")  # the spec is missing for good
    assert out.count(" - repaired: ") == 2
    assert out.splitlines()[-1].startswith("spec.yaml: it is missing")
    assert (folder / "results/quarantine/trials/stranger.parquet").read_bytes() == b"?"
    (folder / "spec.yaml").write_text("name: again\n")
    assert run("check", folder)[:2] == (0, f"{folder}: sound\n")


def test_check_says_repaired_only_of_what_was(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (part,) = (folder / "results/trials").iterdir()
    part.with_name("stranger.parquet").write_bytes(b"?")

    def refuse(self: Folder, path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(Folder, "delete", refuse)
    code, out, err = run("check", folder, "--repair")
    assert (code, out) == (2, "")
    assert err.splitlines()[0].startswith("rps-search: results/trials/stranger.parquet: cannot be repaired: ")


def test_schema_documents_spec_and_tables(run: Run) -> None:
    assert "data" in json.loads(run("schema")[1])["properties"]
    rows = json.loads(run("schema", "--table", "epochs", "--format", "json")[1])
    assert rows[0] == {
        "column": "trial_id",
        "type": "string",
        "required": True,
        "meaning": "Hash of the trial's configuration, seed included.",
        "version": 1,
    }
    assert all(row["meaning"] for row in rows)


def test_claims_are_judged_from_the_spec_that_lies_in_the_folder(run: Run, folder: Path) -> None:
    claim = "{claim: sharing wins, of: {method: rps}, against: {method: snip}, each: ratio}"
    (folder / "spec.yaml").write_text(f"claims: [{claim}]")
    configs = [{"method": method, "ratio": 10.0, "lr": 0.5} for method in ("rps", "snip")]
    rows = [
        {
            "trial_id": f"c{number}{repeat}",
            "experiment": "me",
            "number": 90 + number,
            "repeat": repeat,
            "status": "finished",
            "accuracy": 0.9 - number / 2 + repeat / 100,
            "accuracy_val": 0.5,
            "config_json": json.dumps(config),
        }
        for number, config in enumerate(configs)
        for repeat in range(2)
    ]
    ResultStore(Folder(folder)).append("trials", rows)
    assert "verdict\nsharing wins  10 " in run("claims", folder)[1]
    (line,) = json.loads(run("claims", folder, "--format", "json")[1])
    assert (line["difference"], line["verdict"], line["seeds"]) == (pytest.approx(0.5), "holds", 2)


@pytest.mark.parametrize("command", ["frontier", "compare", "report"])
def test_facts_of_another_kind_are_refused_in_one_line(run: Run, folder: Path, command: str) -> None:
    (folder / "results/meta.json").write_text('{"reference": 3}')
    code, out, err = run(command, folder)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "results/meta.json: reference: " in err


def test_one_search_is_compared_with_itself(run: Run, folder: Path) -> None:
    store = ResultStore(Folder(folder))
    assert len({row["experiment"] for row in store.read("trials").to_pylist()}) > 1
    (row,) = json.loads(run("compare", folder, "--format", "json")[1])
    assert (row["searches"], row["trials"]) == (1, 6)
    assert 0 < row["hypervolume"] < 1
