from search.driver.progress import Progress


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
