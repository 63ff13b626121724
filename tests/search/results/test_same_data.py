import pytest

from search.errors import UserError
from search.results import Folder, ResultStore, load
from search.results.compare import searched
from search.results.frontier import frontier
from search.results.load import META_PATH
from search.results.points import drawable, points
from search.results.same_data import check_same_data, data_differences


@pytest.fixture
def experiment(tmp_path, trial):
    """Make an experiment of one trial with a spec, and return its store."""

    def make(number: int, spec: str, **changes):
        folder = Folder(tmp_path / f"e{number}")
        folder.write_whole("spec.yaml", spec.encode())
        folder.write_whole(META_PATH, b'{"memory": "stored_bytes", "reference": {"accuracy": 0, "memory": 20000}}')
        store = ResultStore(folder)
        store.append("trials", [trial(number, **changes)])
        return store

    return make


def test_other_parts_of_a_data_set_are_other_data(experiment):
    stores = [
        experiment(1, "data: {train_limit: 300, path: /a}"),
        experiment(2, "data: {train_limit: 300, path: /b, max_corrupt_fraction: 0.1}"),
        experiment(3, "data: {imbalance_factor: 20}"),
    ]
    assert data_differences(stores[:2]) == ["", ""]
    first, last = "train_limit=300, imbalance_factor=null", "train_limit=null, imbalance_factor=20.0"
    assert data_differences(stores) == [first, first, last]
    assert data_differences([stores[0], experiment(4, "data: {name: cifar10, path: /c}")]) == ["", ""]
    assert data_differences([stores[0], experiment(5, "data: [not a spec]")]) == ["", ""]


def test_frontiers_are_apart_and_say_what_of(experiment):
    # The second is worse and larger, but on other images.
    stores = [experiment(1, "data: {train_limit: 300}", accuracy_val=0.9), experiment(2, "{}", stored_bytes=2000)]
    found = frontier(points(drawable(stores))).to_pylist()
    assert [row["dataset"] for row in found] == ["digits (train_limit=300)", "digits (train_limit=null)"]
    assert load(*(str(store.folder) for store in stores)).sql("select * from frontier where overall").fetchall()
    alike = [stores[0], experiment(3, "data: {train_limit: 300}", stored_bytes=2000)]
    assert [row["dataset"] for row in frontier(points(drawable(alike))).to_pylist()] == ["digits"]


def test_searches_are_compared_on_the_same_data(experiment):
    stores = [experiment(1, "data: {train_limit: 300}"), experiment(2, "{}")]
    with pytest.raises(UserError, match=r"digits, train_limit=300, .*digits, train_limit=null"):
        searched([load(str(store.folder)) for store in stores])


def test_claims_are_judged_on_the_same_data(experiment):
    one = experiment(1, "data: {train_limit: 300}")
    check_same_data([one, experiment(2, "data: {train_limit: 300, path: /b}")])
    for number, other, named in (
        (3, "{}", r"digits \(train_limit=300\) and digits \(train_limit=null\)"),
        (4, "data: {name: cifar10, path: /c}", "digits and cifar10"),
    ):
        with pytest.raises(UserError, match=f"claims compare accuracies on the same data, .* used {named}; judge"):
            check_same_data([one, experiment(number, other)])


def test_specs_that_differ_are_not_seeds_of_one_search(experiment):
    specs = ["seed: 1", "seed: 2", "{seed: 3, train: {nesterov: false}}"]
    stores = [experiment(number, spec) for number, spec in enumerate(specs)]
    names = [one.experiment for one in searched([load(str(store.folder)) for store in stores])]
    assert names == ["e (train.nesterov=True)", "e (train.nesterov=True)", "e (train.nesterov=False)"]
    assert [one.experiment for one in searched([load(str(store.folder)) for store in stores[:2]])] == ["e", "e"]
    other = experiment(4, "{seed: 4, search: {startup_trials: 40, concurrency: 2}}")
    names = [one.experiment for one in searched([load(str(store.folder)) for store in (stores[0], other)])]
    assert names == ["e (search.startup_trials=10)", "e (search.startup_trials=40)"]
