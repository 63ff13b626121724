from __future__ import annotations

from pathlib import Path

from search.report import gather
from tests.search.report.test_gather import experiment, plain, trial


def test_networks_of_one_name_are_told_apart_by_their_size(tmp_path: Path) -> None:
    folders = []
    for model, size in (("vgg11", 40_000), ("vgg11", 9_000_000), ("mlp", 500)):
        rows = [trial(0, trial_id=f"t{size}", method="dense", model=model, stored_bytes=size)]
        folders.append(experiment(tmp_path / str(size), rows, {"dense_bytes": size}))
    labels = [plain(one.label) for one in gather(folders).dense]
    assert labels == ["dense vgg11 of 40 kB", "dense vgg11 of 9 MB", "dense mlp"]
    assert [plain(one.label) for one in gather(folders[1:]).dense] == ["dense vgg11", "dense mlp"]


def test_a_budget_is_a_share_of_the_layers_that_its_own_search_compresses(tmp_path: Path) -> None:
    folders = []
    for name, layers, size in (("but_the_last", {"fc1": 100}, 500), ("all", {"fc1": 100, "fc2": 300}, 900)):
        rows = [trial(0, trial_id=name, experiment=name, stored_bytes=size, accuracy_val=size / 1000,
                      budgets={"fc*": 50})]  # fmt: skip
        folders.append(experiment(tmp_path / name, rows, {"dense_bytes": 40_000, "layer_sizes": layers}))
    found = gather(folders).budgets
    assert found is not None
    assert found.values == [[50 / 100, 50 / 400]]
