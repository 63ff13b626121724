import io

import pytest
from rich.console import Console

from search.cli.live import amount, duration, plain_line, screen, view
from search.driver.progress import Progress


@pytest.fixture
def progress():
    found = Progress("my experiment", 8, "stored_bytes", 5, slots=2)
    found.started("a")
    found.epoch("a", 3)
    for number, (accuracy, size) in enumerate([(0.5, 1500), (0.75, 90_000)]):
        found.ended_row(
            {
                "trial_id": str(number),
                "number": number,
                "status": "finished",
                "method": "rps",
                "accuracy_val": accuracy,
                "stored_bytes": size,
            }
        )
    found.ended_row({"trial_id": "f", "status": "failed", "method": "rps", "error": "the loss became nan"})
    return found


def test_one_line_says_how_far_it_is(progress):
    line = plain_line(progress)
    assert line.startswith("my experiment: 3/8 trials, 1 running, 1 failed, best accuracy 75.0% (validation)")
    assert "2 on the frontier" in line
    assert "left" in line


def test_the_screen_shows_counts_decades_frontier_and_the_last_failure(progress):
    console = Console(file=io.StringIO(), width=100)
    console.print(screen(progress))
    text = console.file.getvalue()
    for part in ("3/8", "epoch 3 of 5", "1 kB-10 kB", "10 kB-100 kB", "75.0% rps", "90 kB", "the loss became nan"):
        assert part in text


def test_a_thousand_running_trials_are_a_range(progress):
    for number in range(1000):
        progress.started(f"r{number}")
        progress.epoch(f"r{number}", 1 + number % 4)
    console = Console(file=io.StringIO(), width=100)
    console.print(screen(progress))
    assert "1001 running (epoch 1 to 4 of 5)" in console.file.getvalue()


def test_without_a_terminal_there_are_plain_lines_and_the_last_is_always_shown(progress, capsys):
    with view() as watch:
        watch(progress)
        watch(progress)
        progress.total = 3
        progress.ended_row({"trial_id": "g", "status": "failed", "method": "rps", "error": "x"})
        watch(progress)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[-1].startswith("my experiment: 4/3 trials")


@pytest.mark.parametrize(("value", "text"), [(999, "999 B"), (1234, "1.234 kB"), (5e6, "5 MB"), (2.5e9, "2.5 GB")])
def test_amounts_for_people(value, text):
    assert amount(value, "stored_bytes") == text


@pytest.mark.parametrize(("seconds", "text"), [(9.6, "10 s"), (61, "1 min 01 s"), (3700, "1 h 01 min")])
def test_durations_for_people(seconds, text):
    assert duration(seconds) == text
