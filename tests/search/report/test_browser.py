"""The report in a real browser: nothing complains, nothing leaves the page, hover, filters and the keyboard work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from search.report import write_report
from search.results import Folder, ResultStore
from tests.search.report.chromium import PROGRAM, Page, chromium_page
from tests.search.report.demo import demo_rows, write_demo
from tests.search.report.hostile import HOSTILE, write_hostile
from tests.search.report.test_gather import experiment, trial

pytestmark = [pytest.mark.browser, pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine")]


@pytest.fixture
def demo(written: list[Path]) -> Path:
    return written[0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with chromium_page() as page:
        yield page


@pytest.fixture
def page(browser: Page) -> Page:
    browser.complaints.clear()
    browser.requests.clear()
    return browser


def marks(page: Page) -> int:
    return page.evaluate("document.querySelectorAll('#frontier .mark').length")


def tip(page: Page) -> str | None:
    return page.evaluate("(e => e.hidden ? null : e.textContent)(document.getElementById('tip'))")


def place_of_a_frontier_mark(page: Page) -> list[float]:
    return page.evaluate(
        "(() => { const e = document.querySelector('#frontier .mark.tied, #frontier .mark.sure');"
        " e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
        " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
    )


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, False), (1280, True)])
def test_draws_everything_without_a_complaint_or_a_request(page: Page, demo: Path, width: int, dark: bool) -> None:
    page.open(demo, width, dark=dark)
    drawn = page.evaluate(
        "[...document.querySelectorAll('.chart')].map(c => [c.id, c.querySelectorAll('path').length])"
    )
    assert {name for name, _ in drawn} == {
        "frontier", "ratio", "budgets", "importances", "history", "curves", "times",
    }  # fmt: skip
    assert all(count > 0 for _, count in drawn), drawn
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.complaints == []
    assert page.requests == [demo.as_uri()]


def test_no_number_lies_under_the_name_of_its_axis(page: Page, tmp_path: Path) -> None:
    """Accuracies of the curves that put a number at the very top of the axis."""
    folder = write_demo(tmp_path / "experiment", 1, repeats=1, epochs=2)
    curve = demo_rows(1, repeats=1, epochs=2)[1]
    rows = [row | {"accuracy_val": value} for row, value in zip(curve, (0.2333, 0.5333), strict=True)]
    for part in (folder / "results" / "epochs").iterdir():
        part.unlink()
    ResultStore(Folder(folder)).append("epochs", rows)
    page.open(write_report([folder])[0])
    hidden = page.evaluate(
        "[...document.querySelectorAll('.chart')].flatMap(c => {"
        " const names = [...c.querySelectorAll('.labels text')].filter(t => t.textContent);"
        " const numbers = [...c.querySelectorAll('.ticks text')];"
        " const over = (a, b) => a.left < b.right && b.left < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom;"
        " return names.flatMap(n => numbers.filter(t => over(n.getBoundingClientRect(), t.getBoundingClientRect()))"
        " .map(t => [c.id, n.textContent, t.textContent])); })"
    )
    assert hidden == []


def test_hover_tells_trial_method_budgets_and_seeds(page: Page, demo: Path) -> None:
    page.open(demo)
    x, y = place_of_a_frontier_mark(page)
    assert tip(page) is None
    page.point_at(x, y)
    text = tip(page)
    assert text is not None
    for word in ("Trial", "Seed", "Kept per layer", "95 % interval", "Learning rate", "rps"):
        assert word in text, text
    page.point_at(5, 5)
    assert tip(page) is None


def test_a_chip_hides_its_method_everywhere(page: Page, demo: Path) -> None:
    page.open(demo)
    before = marks(page)
    page.click(".chips button[data-method='3']")
    hidden = marks(page)
    pressed = page.evaluate(
        "[...document.querySelectorAll('.chips button[data-method=\"3\"]')].map(b => b.getAttribute('aria-pressed'))"
    )
    assert hidden < before
    assert set(pressed) == {"false"}
    page.click(".chips button[data-method='3']")
    assert marks(page) == before


def test_other_proposals_and_the_measure_can_be_changed(page: Page, demo: Path) -> None:
    page.open(demo)
    before = marks(page)
    label = "document.querySelector('#frontier .labels text').textContent"
    assert page.evaluate(label).startswith("Stored size")
    page.click("#cloud")
    assert 0 < marks(page) < before
    page.evaluate("document.getElementById('measure').value = 'stored_parameters'")
    page.evaluate("document.getElementById('measure').dispatchEvent(new Event('change'))")
    assert page.evaluate(label).startswith("Stored parameters")
    assert page.complaints == []


def test_the_keyboard_walks_the_frontier_and_keeps_a_model(page: Page, demo: Path) -> None:
    page.open(demo)
    page.evaluate("document.getElementById('frontier').focus()")
    seen = []
    for _ in range(3):
        page.press("ArrowRight")
        seen.append(tip(page))
    assert len(set(seen)) == 3
    assert page.evaluate("document.getElementById('spoken').textContent").startswith("rps")
    page.press("Enter")
    shown = page.evaluate("document.getElementById('selected').textContent")
    assert "rps-search export" in shown
    assert page.evaluate("document.querySelector('#selected code').textContent").startswith("rps-search export ")
    page.press("Escape")
    assert tip(page) is None


def test_tab_reaches_every_control(page: Page, demo: Path) -> None:
    page.open(demo)
    reached = set()
    for _ in range(60):
        page.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {"skip", "measure", "cloud", "frontier", "ratio", "budgets", "copy"} <= reached


def test_prints_with_everything_unfolded(page: Page, demo: Path) -> None:
    page.open(demo)
    assert page.pdf().startswith(b"%PDF")
    assert page.evaluate("[...document.querySelectorAll('details')].every(d => d.open)")


def test_hostile_names_stay_text(page: Page, tmp_path: Path) -> None:
    report = write_report([write_hostile(tmp_path / "experiment")])[0]
    page.open(report)
    for index in range(page.evaluate("document.querySelectorAll('.chart').length")):
        page.evaluate(f"document.querySelectorAll('.chart')[{index}].focus()")
        for key in ("ArrowRight", "ArrowRight", "Enter"):
            page.press(key)
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("document.querySelectorAll('img, iframe, object, script[src], link').length") == 0
    assert page.complaints == []
    assert page.requests == [report.as_uri()]
    text: Any = page.evaluate("document.body.textContent")
    assert all(shown in text for shown in HOSTILE.values())


def test_the_policy_refuses_what_is_injected(page: Page, demo: Path, tmp_path: Path) -> None:
    """The names are escaped; were one not, the policy would still stop it."""
    forced = tmp_path / "forced.html"
    text = demo.read_text(encoding="utf-8")
    forced.write_text(text.replace("<h1>", "<script>window.pwned = 1</script><img src='x.png'><h1>"), encoding="utf-8")
    page.open(forced)
    assert page.evaluate("window.pwned") is None
    assert len(page.complaints) >= 2
    page.complaints.clear()
    page.evaluate(
        "(s => { s.textContent = 'try { eval(\"window.pwned = 2\") } catch {}'; document.body.append(s); })"
        "(document.createElement('script'))"
    )
    assert page.evaluate("window.pwned") is None


def test_one_finished_trial_has_numbers_on_its_axes_and_no_empty_picture(page: Page, tmp_path: Path) -> None:
    rows = [trial(0, ratio=10.0)]
    page.open(write_report([experiment(tmp_path / "e", rows, {"dense_bytes": 40_000})])[0])
    charts = page.evaluate(
        "[...document.querySelectorAll('.chart')].map(c => [c.id, c.querySelectorAll('.mark, .part').length])"
    )
    assert dict(charts).keys() == {"frontier", "ratio"}
    assert all(count > 0 for _, count in charts)
    # Where the axis begins and ends, and the marks of the numbers along it.
    numbers = "getAttribute('d').match(/[\\d.]+/g).map(Number)"
    start, _, end = page.evaluate(f"document.querySelector('#ratio .base').{numbers}")
    ticks = page.evaluate(f"[...document.querySelectorAll('#ratio .tick')].map(t => t.{numbers}[0])")
    assert len(ticks) > 0
    assert all(start <= tick <= end for tick in ticks)


def test_what_is_counted_has_no_halves(page: Page, tmp_path: Path) -> None:
    page.open(write_report([experiment(tmp_path / "e", [trial(i, accuracy_val=0.5 + i / 10) for i in range(2)])])[0])
    xs = (
        "[...document.querySelectorAll('#history .ticks text')].filter(t => t.getAttribute('text-anchor') === 'middle')"
    )
    assert page.evaluate(f"{xs}.map(t => t.textContent)") == ["0", "1", "2"]


def test_the_dense_model_is_named_beside_the_axis_not_over_its_name(page: Page, tmp_path: Path) -> None:
    dense = trial(0, method="dense", accuracy=1.0, accuracy_val=1.0, stored_bytes=40_000)
    page.open(write_report([experiment(tmp_path / "e", [dense, trial(1)], {"dense_bytes": 40_000})])[0])
    note, name = (
        page.evaluate(f"(b => [b.top, b.bottom])({element}.getBoundingClientRect())")
        for element in (
            "document.querySelector('#frontier .note')",
            "document.querySelector('#frontier .labels text:last-child')",
        )
    )
    assert note[0] >= name[1] - 2
