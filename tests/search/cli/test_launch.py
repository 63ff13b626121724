"""The commands that run a search, as a user runs them: in a process of their own, with a real Ray."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from search import api
from search.cli.launch import resume_line
from search.results.folder import Folder
from search.results.store import ResultStore

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "search.cli.app"]
SPEC = """
name: small
trials: 12
data: {name: "tests.search.cli.tiny:images"}
model: {args: {hidden: [16]}}
train: {epochs: 3, batch_size: 16, schedule: one_cycle, checkpoint_every_s: 0}
space: {methods: [rps, rand, mag], ratio: {low: 2, high: 20}, lr: {low: 0.05, high: 0.3}}
"""

pytestmark = pytest.mark.ray


def call(*arguments, **more):
    return subprocess.run([*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=240, **more)


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SPEC)
    return str(path)


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / "run")


def tables(folder):
    store = ResultStore(Folder(folder))
    return {name: store.read(name).to_pylist() for name in ("trials", "epochs")}


def check_complete(folder, trials, epochs=3):
    found = tables(folder)
    assert sorted(row["number"] for row in found["trials"]) == list(range(trials))
    assert len({row["trial_id"] for row in found["trials"]}) == trials
    seen = [(row["trial_id"], row["epoch"]) for row in found["epochs"]]
    assert len(seen) == len(set(seen)) == sum(row["epochs_run"] for row in found["trials"])
    assert {row["epochs_run"] for row in found["trials"]} == {epochs}
    assert not Folder(folder).list("checkpoints/running")


def start(*arguments):
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def training(process):
    """Return the processes that train at this moment: Ray names them after what they do."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child.pid for child in children if "ray::" in (title := " ".join(child.cmdline())) and ".train" in title]


def wait_for(condition, process, timeout_s=120):
    began = time.monotonic()
    while time.monotonic() - began < timeout_s:
        if condition():
            return
        assert process.poll() is None, f"the driver ended early: {process.communicate()}"
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def test_launch_again_and_resume(spec, folder):
    done = call("launch", spec, "--storage", folder)
    assert done.returncode == 0, done.stderr
    check_complete(folder, 12)
    assert "stored_bytes" in done.stdout
    assert "where the time went: starting" in done.stdout
    assert "Traceback" not in done.stderr
    assert "ray" not in done.stderr.lower(), "Ray's noise is for --verbose"
    before = tables(folder)
    again = call("launch", spec, "--storage", folder)
    assert again.returncode == 0
    assert "is here already; going on with it" in again.stderr
    assert tables(folder) == before
    more = call("resume", folder, "--set", "trials=14")
    assert more.returncode == 0, more.stderr
    check_complete(folder, 14)
    assert all(row in tables(folder)["trials"] for row in before["trials"])
    status = call("status", folder)
    assert "small: 14/14 trials" in status.stdout


def test_kill_the_driver_and_resume(spec, folder):
    process = start("launch", spec, "--storage", folder, "--set", "train.epochs=60")
    wait_for(lambda: Path(folder).exists() and len(tables(folder)["trials"]) >= 3, process)
    process.kill()
    process.communicate()
    before = tables(folder)
    assert 3 <= len(before["trials"]) < 12
    done = call("resume", folder)
    assert done.returncode == 0, done.stderr
    check_complete(folder, 12, epochs=60)
    after = {row["trial_id"]: row for row in tables(folder)["trials"]}
    assert all(after[row["trial_id"]] == row for row in before["trials"])


def test_interrupt_is_answered_with_the_line_that_resumes(spec, folder):
    process = start("launch", spec, "--storage", folder, "--set", "train.epochs=200")
    wait_for(lambda: Path(folder).exists() and len(tables(folder)["trials"]) >= 1, process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stderr.splitlines()[-1] == f"rps-search: interrupted; go on with: rps-search resume {folder}"
    assert "Traceback" not in stderr
    assert not (Path(folder) / "lease.json").exists()


def test_a_worker_that_dies_is_replaced_and_its_trial_goes_on(spec, folder):
    process = start("launch", spec, "--storage", folder, "--set", "train.epochs=60")
    wait_for(lambda: Path(folder).exists() and len(tables(folder)["trials"]) >= 2, process)
    wait_for(lambda: training(process), process)
    os.kill(training(process)[0], signal.SIGKILL)
    _, stderr = process.communicate(timeout=240)
    assert process.returncode == 0, stderr
    check_complete(folder, 12, epochs=60)


def test_trials_that_fail_are_rows_and_exit_code_3(spec, folder):
    done = call("launch", spec, "--storage", folder, "--set", "space.lr=1e30", "--set", "failures.stop_after=4")
    assert done.returncode == 3
    rows = tables(folder)["trials"]
    assert 4 <= len(rows) < 12
    assert {row["status"] for row in rows} == {"failed"}
    assert all("in epoch 1 at lr" in row["error"] for row in rows)
    assert "trials in a row failed" in done.stderr.splitlines()[-1] or "trials failed" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_trial_that_hangs_is_ended_by_its_time_limit(spec, folder):
    done = call(
        "launch",
        spec,
        "--storage",
        folder,
        "--set=trials=1",
        "--set=model.name=tests.search.cli.tiny:hanging",
        "--set=model.args={}",
        "--set=failures={time_limit_s: 3, retries: 1}",
    )
    assert done.returncode == 3, done.stderr
    (row,) = tables(folder)["trials"]
    assert row["status"] == "failed"
    assert "it ran longer than failures.time_limit_s = " in row["error"]


def test_a_trial_that_kills_its_process_as_it_begins_is_tried_as_often_as_the_spec_says(spec, folder, tmp_path):
    notes = tmp_path / "notes"
    done = call(
        "launch",
        spec,
        "--storage",
        folder,
        "--set=trials=2",
        "--set=failures.retries=1",
        f"--set=space.methods={{'tests.search.cli.tiny:deadly': {{args: {{notes: '{notes}'}}}}}}",
    )
    assert done.returncode == 3, done.stderr
    rows = tables(folder)["trials"]
    assert [(row["status"], row["attempts"]) for row in rows] == [("failed", 2)] * 2
    assert sorted(notes.read_text().split()) == sorted([row["trial_id"] for row in rows] * 2)


def test_how_to_go_on_is_said_without_credentials(monkeypatch):
    experiment = SimpleNamespace(folder=Folder("s3://key:secret@bucket/x?region=us-east-1"))
    assert resume_line(experiment) == "rps-search resume 's3://bucket/x?region=us-east-1'"
    outcome = SimpleNamespace(interrupted=True, progress=SimpleNamespace(ended=1, total=2), stop_reason=None)
    monkeypatch.setattr("search.driver.run.run_search", lambda *arguments: outcome)
    with pytest.raises(api.InterruptedSearchError, match=r"search\.resume\('s3://bucket/x\?region=us-east-1'\)"):
        api._run(experiment, "local")
