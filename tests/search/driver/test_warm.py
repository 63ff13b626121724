from datetime import UTC, datetime

import pytest

from search.driver.experiment import create_or_open
from search.driver.ledger import Ledger
from search.driver.warm import earlier_proposals
from search.errors import UserError
from search.results.folder import Folder
from search.results.store import ResultStore
from search.space import Space
from tests.search.driver.conftest import SHAPES


@pytest.fixture
def earlier(tmp_path, make_spec, make_proposer, end_of):
    """An experiment of four proposals with two seeds each; return its folder and rows."""
    spec = make_spec(trials=8, repeats=2)
    folder = Folder(str(tmp_path / "earlier"))
    create_or_open(folder, spec)[0].save()
    ledger = Ledger(spec, make_proposer(spec))
    rows = []
    while (run := ledger.next()) is not None:
        rows.append(end_of(run, accuracy=0.5 + 0.01 * len(rows)))
        ledger.record(run, rows[-1])
    ResultStore(folder).append("trials", rows)
    return folder.uri, rows


def test_earlier_results_are_learnt_as_means_and_not_tried_again(earlier, make_spec, make_proposer):
    uri, rows = earlier
    spec = make_spec(search={"sampler": "random", "warm_start": [uri]})
    found = earlier_proposals(spec, Space(spec.space, SHAPES))
    assert [past.accuracy for past in found] == pytest.approx([0.505, 0.525, 0.545, 0.565])
    assert all(past.number is None for past in found)
    known = {row["config_json"] for row in rows}
    ledger = Ledger(spec, make_proposer(spec), earlier=found)
    runs = [ledger.next() for _ in range(6)]
    assert [run.number for run in runs] == list(range(6))
    old = {(row["method"], row["ratio"], row["lr"]) for row in rows}
    assert known
    assert all((run.config.method, run.config.ratio, run.config.lr) not in old for run in runs)


@pytest.mark.parametrize("column", ["config_json", "params_json"])
def test_a_trial_that_cannot_be_read_is_refused_in_a_sentence(column, earlier, make_spec):
    uri, rows = earlier
    rows = [{**rows[0], "trial_id": "odd", "finished_at": datetime(2000, 1, 1, tzinfo=UTC), column: "[]"}]
    ResultStore(Folder(uri)).append("trials", rows)
    spec = make_spec(search={"sampler": "random", "warm_start": [uri]})
    with pytest.raises(UserError, match=rf"search.warm_start: the {column} of a trial of .* leave it out of the list"):
        earlier_proposals(spec, Space(spec.space, SHAPES))


def test_what_lies_outside_the_space_is_left_out_and_counted(earlier, make_spec, caplog):
    spec = make_spec(
        space={"methods": ["rps"], "ratio": {"low": 2, "high": 20}, "budgets": "layers"},
        search={"warm_start": [earlier[0]]},
    )
    found = earlier_proposals(spec, Space(spec.space, SHAPES))
    assert 0 < len(found) < 4
    assert all(name.startswith("rps.") for past in found for name in past.params)
    assert f"{len(found)} of 4 proposals of {earlier[0]} lie in the space" in caplog.text


def test_of_a_warm_start_that_lies_in_the_space_nothing_is_said(earlier, make_spec, caplog):
    spec = make_spec(search={"warm_start": [earlier[0]]})
    assert len(earlier_proposals(spec, Space(spec.space, SHAPES))) == 4
    assert not caplog.text


def test_an_experiment_with_another_recipe_is_refused(earlier, make_spec):
    spec = make_spec(train={"epochs": 9, "batch_size": 16}, search={"warm_start": [earlier[0]]})
    with pytest.raises(UserError, match=r"was trained with train\.epochs = 2, this experiment has 9"):
        earlier_proposals(spec, Space(spec.space, SHAPES))


def test_the_earlier_results_of_several_experiments_are_learnt_one_after_the_other(earlier, make_spec, tmp_path):
    uri, rows = earlier
    second = Folder(tmp_path / "second")
    create_or_open(second, make_spec(trials=1))[0].save()
    ResultStore(second).append("trials", [rows[0] | {"accuracy_val": 0.9}])
    spec = make_spec(search={"warm_start": [uri, second.uri]})
    found = [past.accuracy for past in earlier_proposals(spec, Space(spec.space, SHAPES))]
    assert found == pytest.approx([0.505, 0.525, 0.545, 0.565, 0.9])
