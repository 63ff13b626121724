"""The models that a report names keep to the limits that its spec sets."""

from pathlib import Path

import pytest

from search.report.gather import gather
from search.results import Folder, ResultStore


def trial(number: int, accuracy: float, stored_bytes: int, latency_ms: float | None) -> dict[str, object]:
    return {
        **{"trial_id": f"t{number}", "experiment": "e", "number": number, "repeat": 0, "status": "finished"},
        **{"method": "rps", "model": "net", "dataset": "digits", "ratio": 2.0, "lr": 0.1},
        **{"accuracy": accuracy, "accuracy_val": accuracy, "stored_bytes": stored_bytes, "latency_ms": latency_ms},
        "stored_parameters": stored_bytes // 4,
    }


@pytest.mark.parametrize(
    ("limits", "title", "best"),
    [
        ("{max_bytes: 2kB, max_latency_ms: 3}", "Best under 2 kB and 3 ms", "t2"),
        ("{max_latency_ms: 3}", "Best under 3 ms", "t3"),
        ("{max_bytes: 2kB}", "Best under 2 kB", "t1"),
    ],
)
def test_the_best_in_a_budget_keeps_to_every_limit(tmp_path: Path, limits: str, title: str, best: str) -> None:
    store = ResultStore(Folder(tmp_path))
    store.append(
        "trials",
        [trial(0, 0.6, 1_000, None), trial(1, 0.9, 1_500, 9.0), trial(2, 0.7, 1_200, 2.0), trial(3, 0.8, 2_500, 2.5)],
    )
    (tmp_path / "spec.yaml").write_text(f"objectives: {limits}", encoding="utf-8")
    first = gather([tmp_path]).picks[0]
    assert first.title.replace("\N{NO-BREAK SPACE}", " ").split(";")[0] == title
    assert first.trial == best
