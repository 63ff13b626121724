import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from clusters import ClusterError, jobs
from clusters.jobs import JobServer, Search
from clusters.staging import stage
from clusters.token import ensure_token

SPEC = """
name: two
trials: 2
data: {train_limit: 200}
model: {args: {hidden: [8]}}
train: {epochs: 1, batch_size: 64}
space: {methods: [rand], budgets: global}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def search(storage, spec=SPEC, **changes):
    fields = {"spec_yaml": spec, "profile_yaml": "kind: existing\n", "storage": storage, "carry_code": True}
    return Search(**fields | {"own_code": Path(storage.removeprefix("file://")).parent} | changes)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A Ray head of its own with a Jobs server that asks for a token: its address and token."""
    pytest.importorskip("aiohttp", reason="the Jobs server needs ray[default]")
    folder = tmp_path_factory.mktemp("ray")
    token = ensure_token(folder / "token")
    environment = os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "HOME": str(folder),
        # Jobs run the cluster's own python, which here is the one of these tests.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    # Its sockets need a short path.
    temporary = tempfile.mkdtemp(prefix="rps-ray-")
    port = free_port()
    options = [
        "--head",
        "--block",
        "--num-cpus=2",
        f"--port={free_port()}",
        "--include-dashboard=true",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={port}",
        f"--dashboard-agent-listen-port={free_port()}",
        "--object-store-memory=100000000",
        f"--temp-dir={temporary}",
    ]
    ray = Path(sys.executable).parent / "ray"
    with open(folder / "head.log", "w") as log:
        head = subprocess.Popen(
            [str(ray), "start", *options], env=environment, stdout=log, stderr=log, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                JobServer(address, token.read_text())
                break
            except ClusterError:
                assert head.poll() is None, (folder / "head.log").read_text()
                assert time.monotonic() < deadline, (folder / "head.log").read_text()
                time.sleep(0.5)
        yield address, token.read_text()
    finally:
        family = [*psutil.Process(head.pid).children(recursive=True), head] if head.poll() is None else []
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        head.wait(20)
        shutil.rmtree(temporary, ignore_errors=True)


@pytest.mark.ray
@pytest.mark.slow
def test_a_search_runs_as_a_job_from_start_to_end(cluster, tmp_path):
    server = JobServer(*cluster)
    job = server.submit(search(f"file://{tmp_path}/two"))
    shown = "".join(server.follow(job))
    assert server.status(job) == "SUCCEEDED", shown
    assert "2 of 2 trials have ended" in shown
    assert server.logs(job) == shown, "what was streamed is the whole of it, once"
    assert list((tmp_path / "two" / "results" / "trials").glob("*.parquet"))
    with pytest.raises(ClusterError, match=f"job {job} has ended already \\(succeeded\\)"):
        server.stop(job)


@pytest.mark.ray
@pytest.mark.slow
def test_a_job_that_is_stopped_can_go_on(cluster, tmp_path):
    server = JobServer(*cluster)
    long = SPEC.replace("epochs: 1", "epochs: 100000")
    job = server.submit(search(f"file://{tmp_path}/long", long))
    deadline = time.monotonic() + 60
    while not (tmp_path / "long" / "results" / "proposals").exists():
        assert server.status(job) not in jobs.ENDED, server.logs(job)
        assert time.monotonic() < deadline, server.logs(job)
        time.sleep(0.2)
    server.stop(job)
    while server.status(job) not in jobs.ENDED:
        assert time.monotonic() < deadline, server.logs(job)
        time.sleep(0.2)
    assert server.status(job) == "STOPPED"
    assert (tmp_path / "long" / "spec.yaml").exists()


@pytest.mark.ray
@pytest.mark.slow
def test_other_versions_are_one_sentence_on_the_cluster(cluster, tmp_path, monkeypatch):
    server = JobServer(*cluster)
    monkeypatch.setattr(jobs, "versions", lambda: {"python": "3.99.0", "rps-search": "0"})
    job = server.submit(search(f"file://{tmp_path}/x"))
    shown = "".join(server.follow(job))
    assert server.status(job) == "FAILED"
    assert "the cluster runs other versions: python is 3.99.0 here" in shown
    assert "Traceback" not in shown


@pytest.mark.ray
@pytest.mark.slow
def test_who_has_no_token_gets_nothing(cluster, capfd, caplog):
    address, token = cluster
    for wrong in ("0" * 64, "x"):
        with pytest.raises(ClusterError, match="refuses this token; copy the cluster"):
            JobServer(address, wrong)
    for path in ("/api/jobs/", "/api/version", "/nodes?view=summary"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(address + path, timeout=5)
        assert refused.value.code in {401, 403}, path
    request = urllib.request.Request(f"{address}/api/jobs/", data=json.dumps({"entrypoint": "id"}).encode())
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=5)
    assert refused.value.code in {401, 403}
    server = JobServer(address, token)
    with pytest.raises(ClusterError) as unknown:
        server.logs("no-such-job")
    assert "there is no job 'no-such-job'" in str(unknown.value)
    assert token not in str(unknown.value) + caplog.text + "".join(capfd.readouterr())


def test_no_server_is_one_sentence():
    pytest.importorskip("aiohttp", reason="the client needs ray[default]")
    with pytest.raises(ClusterError, match=r"no Jobs server answers at http://127\.0\.0\.1:1; check the address"):
        JobServer("http://127.0.0.1:1", "t" * 64)


class Client:
    """A Jobs server's client whose stream of logs breaks off once in the middle."""

    def __init__(self):
        self.texts = [["one\n", "tw"], ["one\n", "two\n", "three\n"]]
        self.states = ["RUNNING", "RUNNING", "SUCCEEDED"]

    def get_job_status(self, job):
        if job != "j":
            raise RuntimeError(f"Request failed with status code 404: Job {job} does not exist")
        return SimpleNamespace(value=self.states.pop(0) if len(self.states) > 1 else self.states[0])

    async def tail_job_logs(self, job):
        for text in self.texts.pop(0):
            yield text
        if self.texts:
            raise RuntimeError("connection lost")

    def list_jobs(self):
        return [SimpleNamespace(submission_id="j", job_id=None)]

    def stop_job(self, job):
        raise RuntimeError("Request failed with status code 500: No available agent to submit job")


@pytest.fixture
def server(monkeypatch):
    """Give a Jobs server of which only the client is missing."""
    monkeypatch.setattr(jobs, "RETRY_S", 0)
    made = JobServer.__new__(JobServer)
    made._address, made._client = "http://h:8265", Client()
    return made


def test_a_stream_that_breaks_off_is_taken_up_where_it_was(server):
    assert "".join(server.follow("j")) == "one\ntwo\nthree\n"


def test_what_the_server_refuses_is_one_sentence(server):
    with pytest.raises(ClusterError, match=r"there is no job 'k' on the cluster at http://h:8265; known are j"):
        server.status("k")
    with pytest.raises(ClusterError, match="is still starting; try again in a minute"):
        server.stop("j")
    with (
        pytest.raises(ClusterError, match=r"refuses this token; copy the cluster's to ~/\.ray/auth_token"),
        server._explained(),
    ):
        raise RuntimeError("Request failed with status code 401: no token")
    with pytest.raises(ClusterError, match="cannot do this: Request failed with status code 404"), server._explained():
        raise RuntimeError("Request failed with status code 404: no such route")
    server._client.states = ["FAILED"]
    with pytest.raises(ClusterError, match=r"job j has ended already \(failed\)"):
        server.stop("j")


def test_the_users_python_files_go_along_and_nothing_else(tmp_path):
    own, target = tmp_path / "own", tmp_path / "target"
    for name in (
        "mine.py",
        "pack/__init__.py",
        "pack/sub/deep.py",
        "pack/weights.bin",
        "data/x.parquet",
        ".env",
        ".hidden.py",
        ".venv/__init__.py",
        "search/__init__.py",
        "t.txt",
    ):
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_text("")
    target.mkdir()
    stage(target, {"spec.yaml": "a: 1\n"}, code=False, own_code=own)
    found = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert found == {"spec.yaml", "mine.py", "pack/__init__.py", "pack/sub/deep.py"}


def test_the_program_goes_along_and_runs_from_there(tmp_path):
    own, target = tmp_path / "own", tmp_path / "target"
    own.mkdir()
    target.mkdir()
    stage(target, {}, code=True, own_code=own)
    program = "import clusters, search, rps_core, baselines; print(clusters.__file__)"
    done = subprocess.run([sys.executable, "-c", program], cwd=target, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).parent.parent == target
    assert (target / "search" / "specs" / "quickstart.yaml").exists()


def test_a_tree_that_goes_along_brings_its_own_version():
    carried = json.loads(search("file:///x/y").client_versions())
    assert set(carried) == {"ray", "python"}
    assert "rps-search" in json.loads(search("file:///x/y", carry_code=False).client_versions())
