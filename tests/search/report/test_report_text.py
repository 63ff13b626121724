from __future__ import annotations

import pytest

from search.report.text import duration, interval, number, percent, plural, size, times_smaller, visible


@pytest.mark.parametrize(
    ("value", "measure", "shown"),
    [
        (999, "stored_bytes", "999 B"),
        (999.7, "stored_bytes", "1 kB"),
        (48_234, "stored_bytes", "48.2 kB"),
        (1_083_000, "stored_bytes", "1.08 MB"),
        (5e12, "stored_bytes", "5000 GB"),
        (12, "stored_parameters", "12 parameters"),
        (270_896, "stored_parameters", "271 k parameters"),
    ],
)
def test_size_has_three_digits_and_a_unit(value: float, measure: str, shown: str) -> None:
    assert size(value, measure).replace("\N{NO-BREAK SPACE}", " ") == shown


def test_numbers_as_people_read_them() -> None:
    assert percent(0.9137).replace("\N{NO-BREAK SPACE}", " ") == "91.4 %"
    assert percent(None) == "not measured"
    assert number(None) == "not given"
    assert number(0.000123456) == "0.000123"
    assert number(1234.5) == "1,234"
    assert plural(1, "trial") == "1 trial"
    assert plural(2000, "trial") == "2,000 trials"


@pytest.mark.parametrize(
    ("whole", "told"),
    [
        (1, "100 times larger"),
        (80, "1.2 times larger"),
        (250, "2.5 times smaller"),
        (995, "10 times smaller"),
        (13_500, "135 times smaller"),
        (500_000, "5,000 times smaller"),
    ],
)
def test_factors_as_people_read_them(whole: float, told: str) -> None:
    assert times_smaller(whole, 100) == told


@pytest.mark.parametrize(
    ("low", "high", "seeds", "told"),
    [(None, None, 1, "one seed"), (None, None, 2, "all 2 seeds agree"), (0.8, 0.85, 2, "80.0 % to 85.0 %")],
)
def test_interval_or_why_there_is_none(low: float | None, high: float | None, seeds: int, told: str) -> None:
    assert interval(low, high, seeds).replace("\N{NO-BREAK SPACE}", " ") == told


@pytest.mark.parametrize(
    ("seconds", "shown"), [(90, "90 seconds"), (600, "10.0 minutes"), (9000, "2.5 hours"), (864_000, "10.0 days")]
)
def test_duration_in_its_natural_unit(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_what_cannot_be_seen_is_written_out() -> None:
    assert visible("red\x1b[31m") == "red\\x1b[31m"
    assert visible("gnp\u202etxt") == "gnp\\u202etxt"
    assert visible("a\nb\x00") == "a\\nb\\x00"
    assert visible("Größe 模型 <b>") == "Größe 模型 <b>"
