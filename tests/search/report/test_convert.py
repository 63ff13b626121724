from __future__ import annotations

import json
import shlex
from pathlib import Path

import optuna
import pytest

from search.cli.report import Viewer, convert
from search.errors import UserError
from search.report.convert import to_optuna, to_tensorboard
from search.results import Folder, ResultStore, load
from tests.search.report.demo import write_demo
from tests.search.report.hostile import write_hostile


def test_optuna_reads_the_study_back(tmp_path: Path) -> None:
    results = load(write_demo(tmp_path / "e", 20, repeats=1, epochs=2))
    rows = {row["trial_id"]: row for row in results.trials.to_pylist()}
    file = tmp_path / "out" / "study.db"
    assert to_optuna(results, file) == len(rows)
    study = optuna.load_study(study_name="demo", storage=f"sqlite:///{file}")
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    for trial in study.trials:
        row = rows[trial.user_attrs["trial_id"]]
        assert trial.state.name == {"finished": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}[row["status"]]
        assert trial.params == json.loads(row["params_json"])
        if row["status"] == "finished":
            assert trial.values == [row["accuracy_val"], row["stored_bytes"]]


def test_searches_of_one_name_are_studies_of_their_own(tmp_path: Path) -> None:
    first = write_demo(tmp_path / "a", 5, repeats=1, epochs=2)
    second = write_demo(tmp_path / "b", 6, repeats=1, epochs=2)
    # Another seed: trials of the same ids would be the same trials, and counted once.
    rows = [row | {"trial_id": f"b{row['trial_id']}"} for row in load(second).trials.to_pylist()]
    for part in (second / "results" / "trials").iterdir():
        part.unlink()
    ResultStore(Folder(second)).append("trials", rows)
    to_optuna(load(first, second), tmp_path / "study.db")
    studies = optuna.get_all_study_summaries(f"sqlite:///{tmp_path / 'study.db'}")
    assert {study.study_name: study.n_trials for study in studies} == {f"demo ({first})": 5, f"demo ({second})": 6}


def test_the_printed_command_opens_a_file_whose_name_means_something_in_urls(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = tmp_path / "why? 50%25 {of} it" / "study?x=1#a.db"
    convert([str(write_demo(tmp_path / "e", 2, repeats=1, epochs=2))], to=Viewer.OPTUNA, out=file)
    assert file.is_file()
    assert [path.name for path in tmp_path.iterdir() if path.name != "e"] == [file.parent.name]
    program, url = shlex.split(capsys.readouterr().out)
    assert program == "optuna-dashboard"
    assert len(optuna.load_study(study_name="demo", storage=url).trials) == 2


def test_a_study_is_never_written_over(tmp_path: Path) -> None:
    results = load(write_demo(tmp_path / "e", 2, repeats=1, epochs=2))
    (tmp_path / "study.db").write_text("mine")
    with pytest.raises(UserError, match=r"exists already; name a new file with --out"):
        to_optuna(results, tmp_path / "study.db")
    assert (tmp_path / "study.db").read_text() == "mine"


def test_hostile_tables_still_make_a_study(tmp_path: Path) -> None:
    results = load(write_hostile(tmp_path / "e", 2))
    assert to_optuna(results, tmp_path / "study.db") == results.trials.num_rows


def test_tensorboard_reads_the_curves_back(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    results = load(write_demo(tmp_path / "e", 4, repeats=1, epochs=3))
    assert to_tensorboard(results, tmp_path / "runs") == 4
    row = results.trials.to_pylist()[0]
    events = EventAccumulator(str(tmp_path / "runs" / "demo" / row["trial_id"]))
    events.Reload()
    curve = [(event.step, event.value) for event in events.Scalars("accuracy_val")]
    told = results.sql(
        f"SELECT epoch, accuracy_val FROM epochs WHERE trial_id = '{row['trial_id']}' ORDER BY epoch"
    ).fetchall()
    assert curve == [(epoch, pytest.approx(value)) for epoch, value in told]
    assert events.Scalars("final/accuracy")[0].value == pytest.approx(row["accuracy"])
    with pytest.raises(UserError, match=r"holds files already"):
        to_tensorboard(results, tmp_path / "runs")


def test_experiments_that_share_a_trials_id_write_runs_of_their_own(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    results = load(*(write_demo(tmp_path / name, 1, repeats=1, epochs=3, name=name) for name in ("one", "two")))
    assert to_tensorboard(results, tmp_path / "runs") == 2
    for experiment, trial in results.sql("SELECT experiment, trial_id FROM trials").fetchall():
        events = EventAccumulator(str(tmp_path / "runs" / experiment / trial))
        events.Reload()
        assert [event.step for event in events.Scalars("accuracy_val")] == [1, 2, 3]


def test_a_trial_id_is_no_path(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    to_tensorboard(load(write_hostile(tmp_path / "e", 1)), tmp_path / "runs")
    assert all(path.parent == tmp_path / "runs" for path in (tmp_path / "runs").iterdir())
    assert not (tmp_path / "etc").exists()


@pytest.mark.parametrize("write", [to_optuna, to_tensorboard])
def test_a_place_that_cannot_be_written_is_told_in_one_sentence(write, tmp_path: Path) -> None:
    results = load(write_demo(tmp_path / "e", 2, repeats=1, epochs=2))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"below: cannot be written \(File exists\)"):
        write(results, tmp_path / "file" / "below")
    with pytest.raises(UserError, match=r"exists already|Not a directory"):
        write(results, tmp_path / "file")
    assert {path.name for path in tmp_path.iterdir()} == {"e", "file"}
