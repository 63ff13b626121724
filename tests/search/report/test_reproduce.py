from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from search.errors import UserError
from search.report.reproduce import origin, shell_name
from search.results import Folder
from search.results.load import read_spec
from tests.search.report.demo import SPEC


def test_commands_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    folder = tmp_path / "it's a $(date) folder"
    folder.mkdir()
    (folder / "spec.yaml").write_text(SPEC.format(name="demo", trials=30, repeats=3, epochs=5), encoding="utf-8")
    spec = read_spec(Folder(folder))
    found = origin(Folder(folder), spec, "demo")
    launch, resume, *_ = map(shlex.split, found.commands)
    assert launch == ["rps-search", "launch", f"{folder}/spec.yaml", "--storage", "demo-again"]
    assert resume == ["rps-search", "resume", str(folder)]
    facts = dict(found.facts)
    assert facts["Seed"] == "7"
    assert facts["Commit"].startswith("3f1c0b9e")
    assert "torch 2.11.0" in facts["Versions"]
    assert "cifar10" in (found.spec or "")


def test_a_folder_below_this_one_is_named_relatively(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shell_name(Folder("runs/demo")) == "runs/demo"
    assert shell_name(Folder(tmp_path.parent)) == str(tmp_path.parent)


def test_a_folder_given_as_a_uri_is_named_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shell_name(Folder((tmp_path / "a b").as_uri()), "spec.yaml") == "'a b/spec.yaml'"
    assert shell_name(Folder(tmp_path.parent.as_uri())) == str(tmp_path.parent)


def test_a_folder_without_a_spec_still_has_its_tables(tmp_path: Path) -> None:
    assert read_spec(Folder(tmp_path)) is None
    found = origin(Folder(tmp_path), None, "demo")
    assert found.spec is None
    assert not any("launch" in command for command in found.commands)


def test_a_spec_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"spec\.yaml: cannot be read as text"):
        read_spec(Folder(tmp_path))
