import pytest

from clusters.storage import probe
from clusters.uri import misspelt, shown, unsuitable_storage
from search.errors import UserError
from search.results.folder import Folder

PLAIN = [
    "s3://bucket/x",
    "s3://bucket/a:b@c?endpoint_override=127.0.0.1:9000&scheme=http",
    "gs://anonymous@bucket/x",
    "abfs://container@account.dfs.core.windows.net/x?tenant_id=1",
    "hdfs://host:8020/user/a@b",
    "file:///shared/a:b@c",
    "file:///shared/R&",
    "file:///shared/a&sig=1",
]


@pytest.mark.parametrize(
    ("uri", "safe"),
    [
        ("s3://key:secret@bucket/x?region=a", "s3://bucket/x?region=a"),
        ("s3://key:sec/r@et@bucket/x", "s3://bucket/x"),
        ("s3://key:12/x@bucket", "s3://bucket"),
        ("gs://key:12/x@bucket/y", "gs://bucket/y"),
        ("abfs://container:key==@account.dfs.core.windows.net/x", "abfs://container@account.dfs.core.windows.net/x"),
        ("abfs://c@a.net/x?client_id=1&client_secret=s", "abfs://c@a.net/x?client_id=1"),
        ("abfs://c@a.net/x?sig=s&client_id=1", "abfs://c@a.net/x?client_id=1"),
        *((uri, uri) for uri in [*PLAIN, "/a/b@c", "runs/x?"]),
    ],
)
def test_credentials_are_never_shown_and_all_else_is(uri, safe):
    assert shown(uri) == safe


def test_submitted_searches_need_a_shared_folder_and_no_credentials():
    assert [unsuitable_storage(uri) for uri in PLAIN] == [None] * len(PLAIN)
    assert "'runs/x' is a path of this one" in (unsuitable_storage("runs/x") or "")
    problem = unsuitable_storage("s3://key:secret@bucket/x") or ""
    assert "must hold no credentials" in problem
    assert "write s3://bucket/x and" in problem
    assert "secret@" not in problem


def test_what_a_library_says_of_a_uri_hides_its_credentials_too():
    uri = "s3://key:sec ret@bucket/x"
    with pytest.raises(UserError) as caught:
        Folder(uri)
    for told in (probe(uri + "/") or "", str(caught.value)):
        assert "Cannot parse URI: 's3://bucket/x'" in told
        assert "sec ret" not in told


@pytest.mark.parametrize(
    ("uri", "meant"),
    [
        ("s3:/bucket/x", "s3://bucket/x"),
        ("S3:bucket/x", "s3://bucket/x"),
        ("file:/shared/x", "file:///shared/x"),
        ("file:shared/x", "file:///shared/x"),
        *((uri, None) for uri in [*PLAIN, "s3", "runs/s3:/x", "files:/x", "./s3:/x", "C:/x", "s3:"]),
    ],
)
def test_what_pathlib_makes_of_a_uri_is_no_path(uri, meant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert misspelt(uri) == meant
    if meant:
        with pytest.raises(UserError, match=f"write {meant}, or ./{uri}"):
            Folder(uri)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("http://host/x", r"of a kind that nothing here opens; known are s3://, gs://"),
        ("S3://bucket/x", r"known are s3://, gs://"),
        ("s3://", "names no folder; write one such as s3://BUCKET/NAME"),
        ("file:///", "names no folder"),
        ("file://shared/x", "names a host; a shared folder has three slashes: file:///shared/x"),
    ],
)
def test_storage_that_no_machine_could_open_is_refused_before_the_search_is_submitted(uri, message):
    assert message in (unsuitable_storage(uri) or "")


def test_a_kind_of_storage_that_is_not_known_names_those_that_are():
    with pytest.raises(UserError, match=r"known are s3://, gs://, gcs://, abfs://"):
        Folder("http://host/x")
