from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from search.errors import UserError
from search.report import Facts, write_report
from search.report.html import render
from tests.search.report.hostile import HOSTILE, SCRIPT, write_hostile

PICTURES = {"frontier", "ratios", "history", "budgets", "importances", "curves", "times"}


class Tags(HTMLParser):
    """Collects the elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        self.attributes |= {name for name, _ in attrs}


def data_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_page_is_whole_strict_and_small(facts: Facts) -> None:
    page = render(facts)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src &#39;none&#39;;")
    assert "unsafe" not in policy
    tags = Tags(page)
    assert tags.found.count("script") == 2
    assert not {"img", "link", "iframe"} & set(tags.found)
    assert not {name for name in tags.attributes if name.startswith("on") or name == "style"}
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)
    assert len(page) < 400_000


def test_pictures_come_as_png_and_svg(written: list[Path]) -> None:
    page, *pictures = written
    assert page.name == "report.html"
    assert {path.name for path in pictures} == {f"{name}.{kind}" for name in PICTURES for kind in ("png", "svg")}
    for path in pictures:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert image.width > 1000
                assert len(image.convert("RGB").getcolors(2**24)) > 5
        else:
            assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_hostile_names_are_text_in_page_and_pictures(tmp_path: Path) -> None:
    page, *pictures = write_report([write_hostile(tmp_path / "e")])
    text = page.read_text(encoding="utf-8")
    assert Tags(text).found.count("script") == 2
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert {method["name"] for method in data_of(text)["methods"]} >= set(HOSTILE.values())
    for path in pictures:
        if path.suffix == ".svg":
            assert "script" not in {element.tag.rpartition("}")[2] for element in ElementTree.parse(path).iter()}
    assert "Proposals finished" in (page.parent / "history.svg").read_text(encoding="utf-8")
    svg = (page.parent / "frontier.svg").read_text(encoding="utf-8")
    assert SCRIPT not in svg
    assert "$x_1^2$" in svg


def test_no_trials_gives_a_page_beside_the_results_and_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("name: young", encoding="utf-8")
    (page,) = write_report([tmp_path])
    assert page == tmp_path / "report" / "report.html"
    assert "The tables hold no trial yet" in page.read_text(encoding="utf-8")


def test_a_folder_given_as_a_uri_gets_its_report_inside(tmp_path: Path) -> None:
    young = tmp_path / "a b"
    young.mkdir()
    (young / "spec.yaml").write_text("name: young", encoding="utf-8")
    assert write_report([young.as_uri()]) == [young / "report" / "report.html"]


def test_folders_that_cannot_be(tmp_path: Path, demo_folder: Path) -> None:
    with pytest.raises(UserError, match="no experiment folder"):
        write_report([tmp_path])
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match=r"cannot be written \(.*\); write another --out"):
        write_report([demo_folder], file)


def test_command_answers_in_one_line(tmp_path: Path) -> None:
    young = tmp_path / "young"
    young.mkdir()
    (young / "spec.yaml").write_text("name: young", encoding="utf-8")
    command = [sys.executable, "-m", "search.cli.app", "report"]
    done = subprocess.run([*command, young, "--out", tmp_path / "out"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == str(tmp_path / "out" / "report.html")
    wrong = subprocess.run([*command, tmp_path / "nothing"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert wrong.stdout == ""
    assert len(wrong.stderr.splitlines()) == 1
