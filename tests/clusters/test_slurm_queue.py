import pytest

from clusters import ClusterError, load_profile, slurm_queue
from clusters.jobs import Search
from clusters.slurm_queue import SlurmQueue


@pytest.fixture
def slurm(monkeypatch, tmp_path):
    """Give a queue that knows one job, a function that sets the job's state, and the calls that change something."""
    state, calls = [""], []

    def call(tool, *arguments):
        if tool == "scontrol":
            return f"JobId=7 JobName=rps-slurm JobState={state[0]} Reason=None"
        calls.append((tool, *arguments))
        return "7;cluster\n" if tool == "sbatch" else ""

    monkeypatch.setattr(slurm_queue, "call", call)
    return SlurmQueue(load_profile("slurm"), tmp_path), lambda name: state.__setitem__(0, name), calls


@pytest.mark.parametrize(
    ("state", "status", "call"),
    [
        ("RUNNING", "RUNNING", ("scancel", "--signal=TERM", "--batch", "7")),
        ("SUSPENDED", "RUNNING", ("scancel", "--signal=TERM", "--batch", "7")),
        ("PENDING", "PENDING", ("scancel", "7")),
        ("CONFIGURING", "PENDING", ("scancel", "7")),
    ],
)
def test_a_job_that_runs_is_told_to_stop_and_one_that_waits_is_cancelled(slurm, state, status, call):
    queue, set_state, calls = slurm
    set_state(state)
    assert queue.status("7") == status
    queue.stop("7")
    assert calls == [call]


def test_a_job_that_has_ended_cannot_be_stopped(slurm):
    queue, set_state, calls = slurm
    set_state("COMPLETED")
    with pytest.raises(ClusterError, match=r"job 7 has ended already \(succeeded\)"):
        queue.stop("7")
    assert not calls


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("CANCELLED", "STOPPED"),
        ("FAILED ExitCode=130:0", "STOPPED"),
        ("FAILED ExitCode=3:0", "FAILED"),
        ("TIMEOUT ExitCode=0:15", "FAILED"),
        ("RUNNING ExitCode=0:0", "RUNNING"),
        ("COMPLETED ExitCode=0:0", "SUCCEEDED"),
        ("PENDING ExitCode=130:0", "PENDING"),
        ("STAGE_OUT", "RUNNING"),
    ],
)
def test_a_search_that_was_told_to_stop_has_not_failed(slurm, state, status):
    """It ends with exit code 130, by ``stop`` and when its time runs out."""
    queue, set_state, _ = slurm
    set_state(state)
    assert queue.status("7") == status


def search(own):
    return Search("name: a\n", "kind: slurm\n", "file:///shared/a", carry_code=False, own_code=own)


def test_a_search_is_submitted_with_its_files_and_its_log_is_found(slurm, tmp_path):
    queue, set_state, calls = slurm
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.py").write_text("")
    assert queue.submit(search(tmp_path / "own")) == "7"
    ((tool, *arguments),) = calls
    (folder,) = (path for path in tmp_path.glob("slurm-*") if path.is_dir())
    assert (tool, arguments[0], arguments[1]) == ("sbatch", "--parsable", f"--chdir={folder}")
    assert arguments[3:] == [str(folder / "job.sh"), "spec.yaml", "file:///shared/a", "profile.yaml"]
    assert {path.name for path in folder.iterdir()} == {"job.sh", "spec.yaml", "profile.yaml", "mine.py"}
    assert folder.stat().st_mode & 0o077 == 0
    assert queue.logs("7") == "", "it has not begun"
    log = arguments[2].removeprefix("--output=").replace("%j", "7")
    with open(log, "w") as file:
        file.write("one\n")
    set_state("RUNNING")
    assert queue.logs("7") == "one\n"
    set_state("COMPLETED")
    assert list(queue.follow("7")) == ["one\n"]


def test_what_slurm_refuses_leaves_nothing_behind(tmp_path, monkeypatch):
    def refuse(tool, *arguments):
        raise ClusterError("sbatch --parsable failed: invalid partition specified")

    monkeypatch.setattr(slurm_queue, "call", refuse)
    (tmp_path / "own").mkdir()
    with pytest.raises(ClusterError, match="invalid partition"):
        SlurmQueue(load_profile("slurm"), tmp_path / "home").submit(search(tmp_path / "own"))
    assert list((tmp_path / "home").iterdir()) == []


def test_jobs_that_slurm_has_forgotten_or_never_knew(tmp_path, monkeypatch):
    def forgotten(tool, *arguments):
        raise ClusterError("scontrol show failed: slurm_load_jobs error: Invalid job id specified")

    monkeypatch.setattr(slurm_queue, "call", forgotten)
    queue = SlurmQueue(load_profile("slurm"), tmp_path)
    with pytest.raises(ClusterError, match="Slurm knows no job 7; squeue --me lists yours"):
        queue.status("7")
    (tmp_path / "7.log").write_text("done\n")
    assert (queue.status("7"), queue.logs("7")) == ("ENDED", "done\n")
    with pytest.raises(ClusterError, match=r"Slurm's jobs have numbers, but got '\.\./7'"):
        queue.logs("../7")
