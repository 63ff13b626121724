from collections.abc import Callable
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
        "accuracy": 0.5 + number / 1000,
        "accuracy_val": 0.5 + number / 1000,
        "stored_bytes": 1000 + number,
        "stored_parameters": 250 + number,
        "finished_at": datetime(2026, 1, 1, 0, number // 60 % 60, number % 60, tzinfo=UTC),
        "params_json": "{}",
        "config_json": '{"method": "rps"}',
    }
    return row | changes


@pytest.fixture
def trial() -> Callable[..., Row]:
    """A factory of rows of the table trials."""
    return _trial


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(Folder(tmp_path / "experiment"))
