import os
import time

import pytest

from clusters import ClusterError
from clusters import storage as storage_module
from clusters.session import Node
from clusters.storage import NodeGoneError, check_storage, kinds, probe, within


def s3_error(code, status):
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message><RequestId>1</RequestId></Error>"
    return status, text.encode(), [("Content-Type", "application/xml")]


def test_a_local_folder_works_and_is_left_as_it_was(tmp_path):
    folder = tmp_path / "runs" / "one"
    assert probe(str(folder)) is None
    assert probe(f"file://{folder}") is None
    assert list(folder.iterdir()) == []


def test_a_real_s3_works_and_is_left_as_it_was(s3):
    from pyarrow import fs

    assert probe(s3()) is None
    filesystem, root = fs.FileSystem.from_uri(s3())
    assert filesystem.get_file_info(fs.FileSelector(root, recursive=True)) == []


def test_a_bucket_that_is_not_there(s3):
    problem = probe(s3(bucket="nowhere-at-all"))
    assert problem is not None
    assert problem.startswith("writing fails: there is no such bucket; create it first")


@pytest.mark.parametrize(
    ("method", "needle", "step"),
    [("PUT", ".storage-check", "writing"), ("GET", "list-type", "listing"), ("DELETE", ".storage-check", "renaming")],
)
def test_a_right_that_is_missing_is_named_with_its_step(s3, faulty, method, needle, step):
    address = faulty(lambda verb, path: s3_error("AccessDenied", 403) if verb == method and needle in path else None)
    problem = probe(s3(address))
    assert problem is not None
    assert problem.startswith(f"{step} fails: this machine's account lacks a right")


def test_what_is_read_is_compared_with_what_was_written(s3, faulty):
    wrong = (200, b"x" * 16, [("Content-Type", "binary/octet-stream"), ("ETag", '"0"')])
    address = faulty(lambda verb, path: wrong if verb == "GET" and ".storage-check" in path else None)
    assert probe(s3(address)) == "what was written is not what is read back"


def test_a_listing_that_lags_behind_is_found(s3, faulty):
    empty = (200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>", [])
    address = faulty(lambda verb, path: empty if "list-type" in path else None)
    assert "a file that was written is not listed" in (probe(s3(address)) or "")


def test_a_server_that_hangs_is_given_up(s3, faulty):
    address = faulty(lambda verb, path: time.sleep(3) or s3_error("AccessDenied", 403))
    began = time.monotonic()
    assert "does not answer within 0.5 s" in (within(0.5, lambda: probe(s3(address))) or "")
    assert time.monotonic() - began < 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path):
    tmp_path.chmod(0o500)
    assert "this account may not write there" in (probe(str(tmp_path / "x")) or "")


def test_a_path_through_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    assert (probe(str(tmp_path / "file" / "x")) or "").startswith("writing fails")


def test_a_uri_that_nothing_opens():
    assert (probe("nosuch://b/c") or "").startswith("opening it fails")


def test_nodes_that_offer_the_same_are_one_kind():
    nodes = [Node("a", "h1", {"CPU": 2.0}), Node("b", "h2", {"CPU": 2.0}), Node("c", "h3", {"CPU": 2.0, "GPU": 1.0})]
    assert [[node.node_id for node in kind] for kind in kinds(nodes)] == [["a", "b"], ["c"]]


class TwoNodes:
    def nodes(self):
        return [Node("a", "10.0.0.1", {"CPU": 2.0}), Node("b", "10.0.0.2", {"CPU": 4.0})]


def test_the_node_from_which_it_fails_is_named(tmp_path, monkeypatch):
    def on(node, uri, marker):
        return probe(uri if node.node_id == "a" else f"{tmp_path}/elsewhere", find=marker)

    monkeypatch.setattr(storage_module, "_probe_on", on)
    with pytest.raises(ClusterError, match=r"from node 10\.0\.0\.2: it is not the folder that the driver sees"):
        check_storage(f"{tmp_path}/shared", TwoNodes())
    assert list((tmp_path / "shared").iterdir()) == [], "the marker is gone even so"


@pytest.mark.parametrize("answer", [None, "writing fails: the disk is full"])
def test_a_node_that_goes_away_meanwhile_says_nothing_of_the_storage(tmp_path, monkeypatch, answer):
    """Another one of its kind is asked; Ray's list still names the one that takes no work any more."""
    asked = []

    def on(node, uri, marker):
        asked.append(node.node_id)
        if node.node_id == "a":
            raise NodeGoneError("drained")
        return answer

    class Alike:
        def nodes(self):
            return [Node(name, f"10.0.0.{number}", {"CPU": 2.0}) for number, name in enumerate("abc")]

    monkeypatch.setattr(storage_module, "_probe_on", on)
    if answer is None:
        check_storage(f"{tmp_path}/shared", Alike())
    else:
        with pytest.raises(ClusterError, match=r"from node 10\.0\.0\.1: writing fails"):
            check_storage(f"{tmp_path}/shared", Alike())
    assert asked == ["a", "b"]


@pytest.mark.ray
def test_every_kind_of_node_is_tried_for_real(tmp_path):
    import ray
    from ray.cluster_utils import Cluster

    from clusters import load_profile
    from clusters.session import session

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=2)
        ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
        with session(load_profile("existing")) as here:
            check_storage(str(tmp_path / "shared"), here)
            assert len(kinds(here.nodes())) == 2
        assert ray.is_initialized()
        assert list((tmp_path / "shared").iterdir()) == []
    finally:
        ray.shutdown()
        cluster.shutdown()
