import pytest
from typer.testing import CliRunner

from search.cli.app import app
from search.errors import UserError


def run(*arguments):
    return CliRunner().invoke(app, ["plan", *arguments])


def test_a_plan_for_each_size():
    done = run("quickstart", "--seconds", "10", "--set", "resources.gpus=0.5", "--cluster", "aws")
    assert done.exit_code == 0, done.output
    heads, *lines, assumptions = done.output.splitlines()
    assert "USD" in heads
    assert [(line.split()[0], line.split()[1]) for line in lines] == [
        ("1", "2"),
        ("8", "16"),
        ("64", "32"),  # as many as there are trials
        ("512", "32"),
    ]
    assert [line.partition("  the profile")[2] for line in lines] == ["", "", "", " has 64 such machines"]
    for named in ("process start", "taken away 0.05 times an hour", "failures 0.0%", "stragglers 2.0%", "sampler"):
        assert named in assumptions


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["quickstart"], "plan needs to know how long a trial takes: --seconds S, --results DIR"),
        (["quickstart", "--seconds", "1", "--probe"], "--probe and --seconds: the time of a trial is told in one way"),
        (["quickstart", "--seconds", "1", "--set", f"trials={2**63}"], f"trials={2**63} are too many to simulate"),
        (["quickstart", "--results", "/no/such/run"], "no experiment is here"),
        (["quickstart", "--seconds", "1", "--cluster", "awz"], "unknown profile 'awz': did you mean 'aws'"),
        (
            ["quickstart", "--seconds", "1", "--cluster", "gcp", "--set", "resources.gpus=4"],
            "no machine can ever run this trial: it asks for 4 GPU",
        ),
    ],
)
def test_what_is_missing_is_one_sentence(arguments, message):
    done = run(*arguments)
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)


@pytest.mark.parametrize("seconds", ["inf", "nan", "1e300"])
def test_a_time_without_end_is_refused_before_anything_is_printed(seconds):
    done = run("quickstart", "--seconds", seconds)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--seconds" in done.stderr


def test_what_is_said_to_go_wrong_is_planned_with():
    """32 trials of 10 s at one place: about 320 s; each twice as long, about 640 s."""
    plain, slow, failing = (
        run("quickstart", "--seconds", "10", "--size", "1", *options).stdout
        for options in (["--straggler", "0"], ["--straggler", "1"], ["--straggler", "0", "--failure", "1"])
    )
    assert "stragglers 0.0%" in plain
    assert "stragglers 100.0%" in slow
    assert "failures 100.0%" in failing
    rows = [text.splitlines()[1].split() for text in (plain, slow, failing)]
    wall, busy, repeated = ([row[column] for row in rows] for column in (2, 5, 6))
    assert (wall[0][:2], wall[1][:3]) == ("5m", "10m")
    assert repeated[:2] == ["0.0%", "0.0%"]
    assert float(repeated[2].rstrip("%")) > 20, "a trial that dies is trained again from its checkpoint"
    assert int(busy[2].rstrip("%")) < int(busy[0].rstrip("%"))
