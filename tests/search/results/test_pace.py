from datetime import UTC, datetime, timedelta

import pytest

from search.results.pace import Timed, begin, between, contention, most_at_once, timed

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def row(first, last, *, host="a", method="rps", setup=0.0, train=1.0):
    return {
        "trial_id": f"{first}-{last}",
        "method": method,
        "host": host,
        "started_at": NOON + timedelta(seconds=first),
        "finished_at": NOON + timedelta(seconds=last),
        "setup_seconds": setup,
        "train_seconds": train,
        "eval_seconds": 0.5,
    }


def test_how_many_ran_beside_each_by_hand():
    """0-10 alone for 5 s and beside another for 5 s: 1.5 on average; 5-15 likewise; one on another machine is alone."""
    found = timed([row(0, 10), row(5, 15), row(0, 10, host="b")], kind="host")
    assert sorted((trial.kind, trial.seconds, trial.beside) for trial in found) == [
        ("a", 10, 1.5),
        ("a", 10, 1.5),
        ("b", 10, 1.0),
    ]


def test_setting_up_belongs_to_a_trial_and_more_epochs_take_longer():
    (found,) = timed([row(2, 10, setup=2.0, train=4.0)], kind="method", more_epochs=2.0)
    assert begin(row(2, 10, setup=2.0)) == NOON.timestamp()
    assert found.seconds == pytest.approx(10 + 2 * 4.5)


@pytest.mark.parametrize("power", [0.0, 0.4, 1.0])
def test_contention_is_found_again(power):
    """Trials of two kinds, alone and four at once, a few of them disturbed by something else."""
    trials = [
        Timed(kind, seconds * beside**power * (1 + 0.01 * number) * (3 if number == 7 else 1), beside)
        for kind, seconds in (("rps", 2.0), ("mag", 5.0))
        for beside in (1.0, 4.0)
        for number in range(12)
    ]
    assert contention(trials) == pytest.approx(power, abs=0.06)


def test_contention_is_not_guessed_from_equal_numbers_at_once():
    assert contention([Timed("rps", 1.0, 2.0), Timed("rps", 3.0, 2.2), Timed("mag", 9.0, 1.0)]) is None


def test_contention_stays_within_its_meaning():
    """Faster beside others, or slower than by turns, is noise."""
    assert contention([Timed("rps", 2.0, 1.0), Timed("rps", 1.0, 2.0)]) == 0
    assert contention([Timed("rps", 1.0, 1.0), Timed("rps", 5.0, 2.0)]) == 1


def test_idle_time_between_trials_by_hand():
    """Two places: 0-10 and 0-11, then 10.5-20 and 12-21: idle for 0.5 s and 1 s."""
    rows = [row(0, 10), row(0, 11), row(10.5, 20), row(12, 21)]
    assert most_at_once(rows) == 2
    assert between(rows, at_once=2) == pytest.approx(0.75)
    assert between(rows[:2], at_once=2) == 0


def test_a_trial_that_was_started_again_tells_no_time_where_others_do():
    """The search stood still for an hour in the middle of the second one."""
    rows = [row(0, 10), row(5, 3615) | {"attempts": 2}, row(0, 40, method="ltr") | {"attempts": 2}]
    assert [(trial.kind, trial.seconds) for trial in timed(rows, kind="method")] == [("rps", 10), ("ltr", 40)]


def test_a_clock_that_was_put_back_makes_no_trial_shorter_than_its_training():
    (found,) = timed([row(10, 2, train=4.0)], kind="method", more_epochs=-0.5)
    assert (found.seconds, found.beside) == (2.25, 1.0)
