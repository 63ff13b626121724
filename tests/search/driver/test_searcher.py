from types import SimpleNamespace

import pytest

from search.driver.ledger import Ledger
from search.driver.searcher import LedgerSearcher


@pytest.fixture
def searcher(make_spec, make_proposer):
    spec = make_spec(trials=5)
    return LedgerSearcher(Ledger(spec, make_proposer(spec)), 2)


def trial(name, status):
    return SimpleNamespace(trial_id=name, status=status, RUNNING="RUNNING")


def proposed(searcher):
    return len(searcher._ledger.new_runs)


def test_as_many_run_as_may_and_the_next_is_proposed_once_they_train(searcher):
    assert searcher.suggest("a")
    searcher.look_ahead([trial("a", "RUNNING")])
    assert proposed(searcher) == 1, "a place is free: it is asked for soon enough"
    assert searcher.suggest("b")
    assert searcher.suggest("c") is None
    searcher.look_ahead([trial("a", "RUNNING"), trial("b", "PENDING")])
    assert proposed(searcher) == 2, "its process is still to begin: that comes first"
    searcher.look_ahead([trial("over", "TERMINATED"), trial("a", "RUNNING"), trial("b", "RUNNING")])
    assert proposed(searcher) == 3


def proposed_by_step(searcher, places, *, steps):
    """Fill all places, and return how many proposals there are after each step of looking ahead."""
    names = [f"trial-{number}" for number in range(places)]
    assert all(searcher.suggest(name) for name in names)
    counts = []
    for _ in range(steps):
        searcher.look_ahead(trial(name, "RUNNING") for name in names)
        counts.append(proposed(searcher))
    return counts


def test_where_many_places_turn_over_several_proposals_are_ready_one_a_step(make_spec, make_proposer):
    spec = make_spec(trials=30)
    searcher = LedgerSearcher(Ledger(spec, make_proposer(spec)), 16)
    assert proposed_by_step(searcher, 16, steps=6) == [17, 18, 19, 20, 20, 20]


def test_however_many_places_there_are_few_are_proposed_ahead(make_spec, make_proposer):
    spec = make_spec(trials=100)
    searcher = LedgerSearcher(Ledger(spec, make_proposer(spec)), 64)
    assert proposed_by_step(searcher, 64, steps=12)[-1] == 64 + 8


def test_no_more_is_proposed_ahead_than_the_budget_of_trials_allows(make_spec, make_proposer):
    spec = make_spec(trials=18)
    searcher = LedgerSearcher(Ledger(spec, make_proposer(spec)), 16)
    assert proposed_by_step(searcher, 16, steps=6)[-1] == 18


def test_a_search_whose_trials_all_run_waits_and_then_ends(searcher):
    for name in "abcde":
        assert searcher.suggest(name)
        del searcher.runs[name]
    searcher.runs["e"] = None
    assert searcher.suggest("f") is None
    searcher.runs.clear()
    assert searcher.suggest("f") == "FINISHED"
