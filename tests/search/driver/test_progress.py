from types import SimpleNamespace

from search.driver.progress import Progress, planned


def row(trial_id, accuracy, size, status="finished", **more):
    return {
        "trial_id": trial_id,
        "number": None,
        "status": status,
        "method": "rps",
        "accuracy_val": accuracy,
        "stored_bytes": size,
        "error": None,
        **more,
    }


def test_counts_the_best_of_each_decade_and_the_frontier():
    progress = Progress("x", 10, "stored_bytes", 5)
    for number, (accuracy, size) in enumerate([(0.5, 150), (0.6, 900), (0.55, 950), (0.7, 2000), (0.65, 800)]):
        progress.ended_row(row(str(number), accuracy, size))
    assert progress.best == {2: (0.65, "rps"), 3: (0.7, "rps")}
    assert progress.frontier == [(150, 0.5, "rps"), (800, 0.65, "rps"), (2000, 0.7, "rps")]
    assert progress.ended == 5


def test_seeds_are_averaged_first_and_what_a_lucky_one_hid_comes_back():
    progress = Progress("x", 10, "stored_bytes", 5)
    progress.ended_row(row("steady", 0.9, 200, number=1))
    progress.ended_row(row("lucky", 1.0, 100, number=0))
    assert progress.frontier == [(100, 1.0, "rps")]
    progress.ended_row(row("unlucky", 0.5, 100, number=0, repeat=1))
    progress.ended_row(row("failed", None, None, number=0, repeat=2, status="failed"))
    assert progress.frontier == [(100, 0.75, "rps"), (200, 0.9, "rps")]
    assert progress.best == {2: (0.9, "rps")}


def test_what_no_frontier_can_show_is_counted_all_the_same():
    progress = Progress("x", 10, "stored_bytes", 5)
    for accuracy, size in ((None, 10), (float("nan"), 10), (0.9, None), (0.9, 0)):
        progress.ended_row(row(f"{accuracy} {size}", accuracy, size))
    assert (progress.ended, progress.frontier, progress.best) == (4, [], {})


def test_failed_and_pruned_trials_are_on_no_frontier():
    progress = Progress("x", 10, "stored_bytes", 5)
    progress.ended_row(row("a", None, None, status="failed", error="why"))
    progress.ended_row(row("b", 0.9, 10, status="pruned"))
    assert progress.frontier == []
    assert progress.counts == {"finished": 0, "pruned": 1, "failed": 1}
    assert progress.last_failure == "why"


def test_time_left_counts_from_the_first_start_not_from_the_launch():
    progress = Progress("x", 4, "stored_bytes", 5)
    progress.recall([row("old", 0.5, 10)])
    assert progress.seconds_left is None
    progress.started("a")
    progress.first_start -= 10
    progress.ended_row(row("a", 0.5, 10, train_seconds=3.0))
    assert 19 < progress.seconds_left < 21
    assert progress.seconds["training"] == 3.0


def test_of_equal_memory_the_better_is_on_the_frontier_and_of_equal_accuracy_the_smaller():
    progress = Progress("x", 10, "stored_bytes", 5)
    for trial_id, accuracy, size in (("a", 0.5, 100), ("b", 0.6, 100), ("c", 0.6, 200), ("d", 0.9, 0.5)):
        progress.ended_row(row(trial_id, accuracy, size))
    assert progress.frontier == [(0.5, 0.9, "rps")]
    assert progress.best[0] == (0.9, "rps"), "less than a byte is of the first decade"
    progress = Progress("x", 10, "stored_bytes", 5)
    for trial_id, accuracy, size in (("a", 0.5, 100), ("b", 0.6, 100), ("c", 0.6, 200)):
        progress.ended_row(row(trial_id, accuracy, size))
    assert progress.frontier == [(100, 0.6, "rps")]


def test_what_runs_is_shown_with_its_epoch_until_it_ends_and_times_add_up(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("search.driver.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    progress = Progress("x", 4, "stored_bytes", 5)
    progress.started("a")
    now[0] += 10
    progress.started("b")
    progress.epoch("b", 3)
    assert progress.running == {"a": 0, "b": 3}
    for name in "ab":
        progress.ended_row(row(name, 0.5, 10, setup_seconds=1.0, train_seconds=2.0, eval_seconds=None))
    assert progress.running == {}
    assert progress.seconds == {"setup": 2.0, "training": 4.0, "evaluation": 0.0}
    assert progress.seconds_left == 10.0, "5 s a trial since the first began, for 2"


def test_a_search_is_to_have_what_its_spec_asks_for_and_the_further_repeats_that_there_are():
    def rows(*repeats):
        return [{"repeat": repeat} for repeat in repeats]

    spec = SimpleNamespace(trials=4, repeats=2)
    assert planned(spec, rows(0, 1)) == 4
    assert planned(spec, rows(0, 1, 2, 3)) == 6
    assert planned(spec, rows(0, 1, 0, 1, 0, None, 2)) == 7, "more had ended before the spec asked for fewer"
