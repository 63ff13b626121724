import shutil
from pathlib import Path

import pytest

from search.errors import UserError
from search.results import Folder, ResultStore, load
from search.results.compare import compare, searched
from search.results.load import META_PATH


@pytest.fixture
def search(tmp_path: Path, trial):
    """Make an experiment of one model, and return its results."""

    def make(experiment: str, seed: int, accuracy: float, memory: int = 1000, reference: int = 2000, dataset="digits"):
        folder = Folder(tmp_path / f"{experiment}-{seed}")
        rows = [trial(seed, experiment=experiment, accuracy_val=accuracy, stored_bytes=memory, dataset=dataset)]
        ResultStore(folder).append("trials", rows)
        folder.write_whole(
            META_PATH, b'{"memory": "stored_bytes", "reference": {"accuracy": 0, "memory": %d}}' % reference
        )
        return load(str(folder))

    return make


def test_hypervolumes_are_averaged_by_experiment_and_set_against_the_best(search):
    # One model of half the reference's memory dominates half its accuracy.
    runs = [search("tpe", seed, 0.8 + 0.02 * seed) for seed in range(3)]
    runs += [search("grid", seed, 0.6 + 0.02 * seed) for seed in range(3)]
    best, other = compare(searched(runs)).to_pylist()
    assert (best["experiment"], best["searches"], best["trials"]) == ("tpe", 3, 1)
    assert best["hypervolume"] == pytest.approx(0.41)
    assert best["difference"] is None
    assert other["difference"] == pytest.approx(-0.1)
    assert other["low"] < -0.1 < other["high"] < 0


def test_one_search_each_has_no_interval(search):
    rows = compare(searched([search("tpe", 0, 0.8), search("grid", 0, 0.6)])).to_pylist()
    assert [row["low"] for row in rows] == [None, None]


def test_boxes_that_differ_are_refused(search):
    with pytest.raises(UserError, match=r"tpe-0 and .*grid-0 have different reference points .*2000; .*3000"):
        searched([search("tpe", 0, 0.8), search("grid", 0, 0.6, reference=3000)])
    with pytest.raises(UserError, match="different reference points"):
        searched([search("tpe", 1, 0.8), search("grid", 1, 0.6, dataset="cifar10")])
    with pytest.raises(UserError, match=r"different reference points \(digits, .*; no name, "):
        searched([search("tpe", 2, 0.8), search("grid", 2, 0.6, dataset=None)])


def test_one_search_does_not_count_as_two(search, tmp_path):
    one = search("tpe", 0, 0.8)
    with pytest.raises(UserError, match=r"tpe-0 is given twice: one search counts once"):
        searched([one, search("grid", 0, 0.6), one])
    shutil.copytree(tmp_path / "tpe-0", tmp_path / "copy")
    with pytest.raises(UserError, match=r"copy holds trials of .*tpe-0: .* another seed"):
        searched([one, load(str(tmp_path / "copy"))])


def test_a_search_that_has_not_begun_is_refused(tmp_path):
    Folder(tmp_path / "empty").write_whole("spec.yaml", b"{}")
    with pytest.raises(UserError, match="not begun"):
        searched([load(str(tmp_path / "empty"))])
