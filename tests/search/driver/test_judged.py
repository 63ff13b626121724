"""Which of a proposal's seeds early stopping judges it by."""

from search.driver.ledger import Ledger
from search.driver.tuning import judged_rows


def test_where_a_first_seed_fails_the_next_one_is_judged_and_a_restart_agrees(make_spec, make_proposer, end_of):
    spec = make_spec(trials=6, repeats=3)
    ledger = Ledger(spec, make_proposer(spec))
    runs = [ledger.next() for _ in range(6)]
    journal = [run.journal_row("test") for run in ledger.new_runs]
    assert [ledger.is_judged(run) for run in runs] == [True, False, False] * 2
    failed = [end_of(runs[0], status="failed", error="x")]
    ledger.record(runs[0], failed[0])
    again = Ledger(spec, make_proposer(spec), journal=journal, finished=failed)
    for one in (ledger, again):
        assert [one.is_judged(run) for run in runs[1:]] == [True, False, True, False, False]
    ledger.record(runs[4], end_of(runs[4], status="failed", error="x"))
    # The first seed of the second proposal still runs.
    assert [ledger.is_judged(run) for run in runs[3:]] == [True, False, False]


def test_a_first_seed_that_finished_leaves_the_others_alone(make_spec, make_proposer, end_of):
    spec = make_spec(trials=3, repeats=3)
    ledger = Ledger(spec, make_proposer(spec))
    runs = [ledger.next() for _ in range(3)]
    ledger.record(runs[0], end_of(runs[0]))
    ledger.record(runs[1], end_of(runs[1], status="failed", error="x"))
    assert not ledger.is_judged(runs[2])


def test_after_a_restart_the_rungs_hold_what_was_judged():
    ended = [(1, 0, "failed", 2), (1, 1, "pruned", 3), (1, 2, "pruned", 3), (2, 0, "finished", 9), (2, 1, "failed", 1)]
    ended += [(3, 1, "finished", 9), (4, 0, "finished", 40)]
    rows = [dict(zip(("number", "repeat", "status", "epochs_run"), row, strict=True)) for row in ended]
    assert [(row["number"], row["repeat"]) for row in judged_rows(rows, 9)] == [(1, 0), (1, 1), (2, 0)]
