"""An experiment whose every name is an attack, and whose tables hold what arithmetic should never see."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from pathlib import Path

from search.results import Folder, ResultStore
from tests.search.report.demo import START

SCRIPT = "</script><script>window.pwned=1</script>"
IMAGE = "<img src=x onerror=window.pwned=1>"
TERMINAL = "red\x1b[31m\u202etxt"
HOSTILE = {
    SCRIPT: SCRIPT,
    IMAGE: IMAGE,
    TERMINAL: "red\\x1b[31m\\u202etxt",
    "'\"`$(rm -rf /)`": "'\"`$(rm -rf /)`",
}
"""What is written, and how a reader must see it."""
_METHODS = [*HOSTILE, "$x_1^2$", "_hidden", "{{ facts }}{% raw %}", "../../etc/passwd"]


def write_hostile(folder: Path, per_method: int = 6) -> Path:
    """Write the experiment folder and return it."""
    rows, epochs = [], []
    for index in range(per_method * len(_METHODS)):
        method = _METHODS[index % len(_METHODS)]
        accuracy = 0.5 + 0.4 * math.sin(index) ** 2
        odd = {0: math.nan, 1: math.inf, 2: None}.get(index % 17, accuracy)
        rows.append(
            {
                "trial_id": f"{index:04d}{SCRIPT}'",
                "experiment": IMAGE,
                "number": index,
                "status": "failed" if index % 13 == 5 else "finished",
                "method": method,
                "model": SCRIPT,
                "dataset": IMAGE,
                "seed": index,
                "ratio": 2.0 + index,
                "budgets": {f"layer{SCRIPT}": 1 + index, "$\\frac{1}{0}$": 2},
                "lr": 0.1,
                "weight_decay": 0.0,
                "accuracy": odd,
                "accuracy_val": accuracy,
                "stored_bytes": 1000 + 37 * (index * 7919 % 101),
                "stored_parameters": 300 + index,
                "train_seconds": math.nan if index % 5 == 0 else 3.0,
                "started_at": START,
                "finished_at": START + timedelta(seconds=index),
                "error": f"{TERMINAL} {SCRIPT}" if index % 13 == 5 else None,
                "params_json": json.dumps({SCRIPT: method}) if index % 2 else "not { json",
            }
        )
        epochs += [
            {"trial_id": rows[-1]["trial_id"], "experiment": IMAGE, "epoch": e, "accuracy_val": accuracy * e / 3}
            for e in (1, 2, 3)
        ]
    store = ResultStore(Folder(folder))
    store.append("trials", rows)
    store.append("epochs", epochs)
    (folder / "spec.yaml").write_text(
        json.dumps({"name": f"{SCRIPT}{IMAGE}"[:100], "model": {"name": "mlp", "args": {SCRIPT: IMAGE}}}),
        encoding="utf-8",
    )
    sizes = {f"layer{SCRIPT}": 500, "$\\frac{1}{0}$": 100}
    (folder / "results" / "meta.json").write_text(json.dumps({"layer_sizes": sizes}), encoding="utf-8")
    return folder
