import json

import pytest

from clusters import ClusterError
from clusters import versions as version_module
from clusters.versions import (
    CLIENT_VERSIONS,
    check_client_versions,
    check_versions,
    pinned_requirements,
    submitted,
    versions,
)

HERE = {"ray": "2.60.0", "python": "3.11.7", "rps-search": "0.1.0"}


def test_patch_versions_of_python_may_differ():
    check_versions(HERE, HERE | {"python": "3.11.9"})


def test_what_the_cluster_does_not_tell_is_not_compared():
    check_versions(HERE, {"ray": "2.60.0"})


def test_every_difference_is_named():
    with pytest.raises(ClusterError, match=r"python is 3.11.7 here and 3.12.1 there; ray is 2.60.0 here and 2.9 there"):
        check_versions(HERE, {"ray": "2.9", "python": "3.12.1"})


def test_a_submitted_search_compares_itself_with_its_client(monkeypatch):
    monkeypatch.delenv(CLIENT_VERSIONS, raising=False)
    check_client_versions()
    monkeypatch.setenv(CLIENT_VERSIONS, json.dumps(versions()))
    check_client_versions()
    monkeypatch.setenv(CLIENT_VERSIONS, json.dumps(versions() | {"rps-search": "9.9"}))
    with pytest.raises(ClusterError, match=r"rps-search is 9\.9 here"):
        check_client_versions()


def test_requirements_are_pinned_to_what_runs_here():
    lines = pinned_requirements()
    assert lines[0] == f"ray[default,tune]=={versions()['ray']}"
    assert all("==" in line for line in lines)
    assert any(line.startswith("torch==") for line in lines)
    assert not any(line.startswith(("onnx", "tensorboard")) for line in lines), "what is optional here is not asked for"


def test_only_what_was_submitted_says_so(monkeypatch):
    monkeypatch.delenv(CLIENT_VERSIONS, raising=False)
    assert not submitted()
    monkeypatch.setenv(CLIENT_VERSIONS, "{}")
    assert submitted()


def test_an_index_of_its_own_is_not_asked_of_the_cluster(monkeypatch):
    """PyTorch's wheels for processors are 2.15.0+cpu, which the index of most packages does not have."""
    monkeypatch.setattr(version_module.metadata, "version", lambda name: "2.15.0+cpu")
    assert "torch==2.15.0" in pinned_requirements()
