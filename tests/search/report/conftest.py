from __future__ import annotations

from pathlib import Path

import pytest

from search.report import Facts, gather, write_report
from tests.search.report.demo import write_demo


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("demo") / "experiment", 60, epochs=8)


@pytest.fixture(scope="session")
def facts(demo_folder: Path) -> Facts:
    """The facts of the demonstration experiment; tests must not change them."""
    return gather([demo_folder])


@pytest.fixture(scope="session")
def written(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files of the demonstration experiment's report, the page first."""
    return write_report([demo_folder], tmp_path_factory.mktemp("report") / "out")
