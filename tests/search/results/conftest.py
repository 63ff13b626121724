import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from search.results import Folder, ResultStore

Row = dict[str, Any]


def _trial(number: int, /, **changes: Any) -> Row:
    row = {
        "trial_id": f"{number:012x}",
        "experiment": "e",
        "number": number,
        "repeat": 0,
        "status": "finished",
        "method": "rps",
        "model": "resnet20",
        "dataset": "digits",
        "seed": number,
        "ratio": 10.0,
        "budgets": {"layer1.*": 100 + number, "layer2.*": 200},
        "lr": 0.1,
        "epochs_run": 1,
        "accuracy": 0.5 + number / 1000,
        "accuracy_val": 0.5 + number / 1000,
        "stored_bytes": 1000 + number,
        "stored_parameters": 250 + number,
        "finished_at": datetime(2026, 1, 1, 0, number // 60 % 60, number % 60, tzinfo=UTC),
        "params_json": "{}",
        "config_json": '{"method": "rps", "ratio": 10.0, "lr": 0.1, "weight_decay": 0.0}',
    }
    return row | changes


@pytest.fixture
def trial() -> Callable[..., Row]:
    """A factory of rows of the table trials."""
    return _trial


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(Folder(tmp_path / "experiment"))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URI of a folder in an S3 object store on this machine."""
    moto = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    try:
        boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1").create_bucket(Bucket="bucket")
        yield f"s3://bucket/runs?scheme=http&endpoint_override={host}:{port}&region=us-east-1"
    finally:
        # What it holds outlives a server otherwise, and the next test would find this one's files.
        urllib.request.urlopen(f"http://{host}:{port}/moto-api/reset", data=b"").close()
        server.stop()
