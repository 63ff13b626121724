from __future__ import annotations

import pytest

from search.driver.ledger import Ledger


def test_a_run_that_is_put_back_comes_before_those_that_wait(make_spec, make_proposer):
    spec = make_spec(trials=6, repeats=3)
    ledger = Ledger(spec, make_proposer(spec))
    first = ledger.next()
    ledger.put_back(first)
    assert ledger.next() is first


def test_a_success_between_failures_of_one_kind_begins_the_count_anew(make_spec, make_proposer, end_of):
    spec = make_spec(trials=9, failures={"stop_after": 2})
    ledger = Ledger(spec, make_proposer(spec))
    for status in ("failed", "finished", "failed", "finished"):
        run = ledger.next()
        ledger.record(run, end_of(run, status=status, error="no memory" if status == "failed" else None))
    assert ledger.stop_reason is None


def test_a_search_that_stops_hands_out_nothing_that_waits(make_spec, make_proposer):
    spec = make_spec(trials=6, repeats=3)
    ledger = Ledger(spec, make_proposer(spec))
    assert ledger.next() is not None
    ledger.stop_reason = "the disk is full"
    assert ledger.next() is None
    assert ledger.has_ready(9)


@pytest.mark.parametrize("stored_bytes", [0, None])
def test_a_model_without_a_size_tells_the_sampler_nothing(stored_bytes, make_spec, make_proposer, end_of):
    spec = make_spec(trials=2)
    proposer = make_proposer(spec)
    told = []
    proposer.tell = lambda number, **values: told.append(values["status"])
    ledger = Ledger(spec, proposer)
    run = ledger.next()
    ledger.record(run, {**end_of(run), "stored_bytes": stored_bytes})
    assert told == ["failed"]


def test_a_used_up_space_is_complete_once_what_waits_has_run(make_spec, make_proposer, end_of):
    space = {"methods": ["rps"], "ratio": 2.0, "lr": 0.1, "weight_decay": 0.0}
    spec = make_spec(trials=10, repeats=2, space=space, search={"sampler": "grid"})
    ledger = Ledger(spec, make_proposer(spec))
    first = ledger.next()
    ledger.record(first, end_of(first))
    ledger.look_ahead(2)
    assert ledger.exhausted
    assert not ledger.complete
    last = ledger.next()
    ledger.record(last, end_of(last))
    assert ledger.complete
