from __future__ import annotations

import re
from importlib import resources

from search.registry import METHODS
from search.report.palette import COLORS, KNOWN, MATPLOTLIB_MARKERS, looks


def page(name: str) -> str:
    return (resources.files("search.report.page") / name).read_text(encoding="utf-8")


def test_every_method_that_ships_has_a_look_of_its_own() -> None:
    assert set(KNOWN) == set(METHODS)
    assert len(set(KNOWN.values())) == len(KNOWN)


def test_users_methods_get_the_remaining_looks() -> None:
    names = [f"mine.pruning:method{i}" for i in range(40)]
    found = looks([*names, "rps"])
    assert found["rps"] == KNOWN["rps"]
    assert len(set(found.values())) == 41
    assert looks(reversed([*names, "rps"])) == found
    assert len({look.shape for look in list(looks(names[:6]).values())}) == 6


def test_page_and_pictures_use_the_same_colors_and_shapes() -> None:
    root = page("page.css").partition("@media")[0]
    assert tuple(re.findall(r"--m\d: (#[0-9a-f]{6})", root)) == COLORS
    shapes = page("draw.js").partition("const SHAPES = {")[2].partition("};")[0]
    assert set(re.findall(r"^  (\w+):", shapes, re.MULTILINE)) == set(MATPLOTLIB_MARKERS)
