import pytest

from clusters import ClusterError, load_profile, slurm_queue
from clusters.slurm_queue import SlurmQueue


@pytest.fixture
def slurm(monkeypatch, tmp_path):
    """Give a queue that knows one job, a function that sets the job's state, and the calls that change something."""
    state, calls = [""], []

    def call(tool, *arguments):
        if tool == "scontrol":
            return f"JobId=7 JobName=rps-slurm JobState={state[0]} Reason=None"
        calls.append((tool, *arguments))
        return ""

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
