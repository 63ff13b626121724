import stat

import pytest

from clusters import ClusterError
from clusters.token import ensure_token, token_path


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_token_is_made_once_for_its_owner_only(tmp_path, capfd, caplog):
    path = tmp_path / "new" / "token"
    assert ensure_token(path) == path
    first = path.read_text()
    assert (mode(path), mode(path.parent), len(first)) == (0o600, 0o700, 64)
    ensure_token(path)
    assert path.read_text() == first
    shown = "".join(capfd.readouterr()) + caplog.text
    assert first not in shown


def test_a_token_that_others_could_read_is_protected(tmp_path):
    path = tmp_path / "token"
    path.write_text("x" * 64)
    path.chmod(0o644)
    ensure_token(path)
    assert mode(path) == 0o600


def test_two_tokens_differ(tmp_path):
    assert ensure_token(tmp_path / "a").read_text() != ensure_token(tmp_path / "b").read_text()


def test_what_is_no_secret_is_refused_without_showing_it(tmp_path):
    path = tmp_path / "token"
    path.write_text("hunter2")
    with pytest.raises(ClusterError, match="has 7 characters, too few") as error:
        ensure_token(path)
    assert "hunter2" not in str(error.value)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ClusterError, match="set RAY_AUTH_TOKEN_PATH to a file that you own"):
        ensure_token(tmp_path / "file" / "token")


def test_the_place_is_the_one_that_ray_reads(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "t"))
    assert token_path() == tmp_path / "t"
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert token_path() == tmp_path / ".ray" / "auth_token"
