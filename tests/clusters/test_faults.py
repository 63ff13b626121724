"""Real clusters of several machines on this one, broken in the middle of a search.

Whatever breaks, each trial has exactly one row, and none fails that has retries left.
"""

import json
import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from benchmarks import chaos

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
TRIALS = 6
EPOCHS = 60


@pytest.fixture(scope="module")
def counts(tmp_path_factory):
    """The folder in which models count their batches; the environment in which clusters start names it."""
    folder = tmp_path_factory.mktemp("counts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(chaos.COUNTS, str(folder))
        patch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        yield folder


@pytest.fixture
def ground(tmp_path, counts):
    """A folder with a spec; nothing is counted yet."""
    for file in counts.iterdir():
        file.unlink()
    (tmp_path / "counts").symlink_to(counts)
    (tmp_path / "spec.yaml").write_text(chaos.spec_text(TRIALS, EPOCHS))
    return tmp_path


@pytest.fixture(scope="module")
def rig(counts):
    made = chaos.Rig(2)
    yield made
    made.close()


def start(rig, ground):
    return chaos.start_driver(rig.address, ground / "runs", ground / "spec.yaml")


def wait_for_training(ground, driver, batches=30, processes=1, timeout_s=120):
    """Wait until as many processes are training, and have trained as many batches in all."""
    deadline = time.monotonic() + timeout_s
    while True:
        trained = [file.stat().st_size for file in (ground / "counts").iterdir()]
        if len(trained) >= processes and sum(trained) >= batches:
            return
        assert driver.poll() is None, "the driver ended before anything broke"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def assert_whole(ground):
    ended, twice, lost = chaos.outcome(ground / "runs")
    assert (dict(ended), twice, lost) == ({"finished": TRIALS}, 0, 0)


def attempts(ground):
    from search.results.folder import Folder
    from search.results.store import ResultStore

    return ResultStore(Folder(ground / "runs")).read("trials", ["attempts"])["attempts"].to_pylist()


@pytest.mark.parametrize("fault", sorted(chaos.FAULTS))
def test_a_search_survives(rig, ground, fault):
    driver = start(rig, ground)
    wait_for_training(ground, driver, processes=len(rig.alive()))
    chaos.FAULTS[fault](rig, random.Random(0))
    assert driver.wait(240) == 0
    assert_whole(ground)
    if fault in {"kill_worker", "kill_machine"}:
        assert max(attempts(ground)) == 2, "the trial that was hit went on in another process"


def test_a_trial_goes_on_from_its_checkpoint_on_another_machine(rig, ground, counts):
    """What is trained in all shows it: a trial that began again would train its first half twice."""
    (ground / "spec.yaml").write_text(chaos.spec_text(1, 60))
    driver = start(rig, ground)
    an_epoch = 21  # batches of 64 in the images that the digits leave for training
    wait_for_training(ground, driver, batches=30 * an_epoch)
    rig.kill_worker(random.Random(0))
    assert driver.wait(240) == 0
    assert attempts(ground) == [2]
    assert 60 * an_epoch <= chaos.batches(counts) < 62 * an_epoch, (
        "the epoch that was cut short is done again, no other"
    )


def test_a_machine_that_joins_late_takes_its_share(rig, ground):
    driver = start(rig, ground)
    wait_for_training(ground, driver)
    rig.join()
    assert driver.wait(240) == 0
    assert_whole(ground)


def test_a_driver_that_is_killed_is_launched_again(rig, ground):
    driver = start(rig, ground)
    wait_for_training(ground, driver)
    driver.kill()
    driver.wait()
    assert start(rig, ground).wait(240) == 0
    assert_whole(ground)


def test_a_head_that_is_restarted_costs_no_trial(ground):
    """Without a store outside of it the head takes its cluster along; the search goes on with the next one."""
    first = chaos.Rig(2)
    try:
        driver = start(first, ground)
        wait_for_training(ground, driver)
    finally:
        first.close()
    try:
        code = driver.wait(120)
    except subprocess.TimeoutExpired:
        driver.kill()
        pytest.fail("the driver waits for a head that will not come back")
    assert code != 0
    second = chaos.Rig(2)
    try:
        assert start(second, ground).wait(240) == 0
        assert_whole(ground)
    finally:
        second.close()


def test_retries_that_are_used_up_end_a_trial_with_the_reason(rig, ground):
    spec = json.loads(chaos.spec_text(1, 100_000)) | {"failures": {"retries": 1}}
    (ground / "spec.yaml").write_text(json.dumps(spec))
    driver = start(rig, ground)
    for _ in range(2):
        for file in (ground / "counts").iterdir():
            file.unlink()
        wait_for_training(ground, driver)
        rig.kill_worker(random.Random(0))
    assert driver.wait(120) == 3
    from search.results.folder import Folder
    from search.results.store import ResultStore

    (row,) = ResultStore(Folder(ground / "runs")).read("trials", ["status", "error", "attempts"]).to_pylist()
    assert (row["status"], row["attempts"]) == ("failed", 2)
    assert "process died" in row["error"]
