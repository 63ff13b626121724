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
