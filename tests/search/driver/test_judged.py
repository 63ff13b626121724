"""Which of a proposal's seeds early stopping judges it by."""

import json
from types import SimpleNamespace

import pyarrow as pa

from search.driver.ledger import Ledger
from search.driver.tuning import _scheduler, judged_rows
from search.stopping import MOASHA


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


def test_further_repeats_are_not_judged(make_spec, make_proposer, end_of):
    spec = make_spec(trials=1, repeats=1)
    ledger = Ledger(spec, make_proposer(spec))
    first = ledger.next()
    journal = [first.journal_row("test")]
    failed = end_of(first, status="failed", error="x")
    ledger = Ledger(spec, make_proposer(spec), journal=journal, finished=[failed])
    ledger.repeat([first.number], 2)
    further = ledger.next()
    assert not ledger.is_judged(further)
    assert judged_rows([failed, end_of(further)], spec) == [failed]


def test_after_a_restart_the_rungs_hold_what_was_judged(make_spec):
    ended = [(1, 0, "failed", 1), (1, 1, "pruned", 1), (1, 2, "pruned", 1), (2, 0, "finished", 2), (2, 1, "failed", 1)]
    ended += [(3, 1, "finished", 2), (4, 0, "finished", 40)]
    rows = [dict(zip(("number", "repeat", "status", "epochs_run"), row, strict=True)) for row in ended]
    judged = judged_rows(rows, make_spec(repeats=3))
    assert [(row["number"], row["repeat"]) for row in judged] == [(1, 0), (1, 1), (2, 0)]


def test_the_scheduler_of_a_search_knows_its_rungs_its_stopped_proposals_and_who_is_judged(
    make_spec, make_proposer, end_of
):
    spec = make_spec(trials=9, repeats=3, train={"epochs": 9, "batch_size": 16}, search={"early_stopping": {}})
    ledger = Ledger(spec, make_proposer(spec))
    runs = [ledger.next() for _ in range(9)]
    journal = [run.journal_row("test") for run in ledger.new_runs]
    ends = ("finished", "finished", "finished", "failed", "pruned", None, None, None, None)
    done = [(run, status) for run, status in zip(runs, ends, strict=True) if status]
    finished = [end_of(run, status=status, error="x" if status == "failed" else None) for run, status in done]
    ledger = Ledger(spec, make_proposer(spec), journal=journal, finished=finished)
    epochs = pa.Table.from_pylist([{"trial_id": run.trial_id, "epoch": 1, "accuracy_val": 0.9} for run, _ in done])
    searcher = SimpleNamespace(runs={run.trial_id: run for run in runs[5:]})
    moasha = MOASHA(grace_epochs=1, reduction_factor=1.5, max_epochs=9)
    experiment, store = SimpleNamespace(spec=spec), SimpleNamespace(read=lambda table, columns: epochs)
    scheduler = _scheduler(experiment, searcher, ledger, store, finished, {}, moasha)
    assert set(moasha._rungs[1]) == {runs[0].trial_id, runs[4].trial_id}

    def told(run, accuracy):
        row = json.dumps({"epoch": 1, "accuracy_val": accuracy})
        result = {"epoch_rows": [row], "memory": 2000, "rounds": 1}
        return scheduler.on_trial_result(None, SimpleNamespace(trial_id=run.trial_id), result)

    assert told(runs[5], 0.99) == "STOP"
    assert told(runs[7], 0.1) == "CONTINUE"
    ledger.record(runs[6], end_of(runs[6], status="failed", error="x"))
    assert told(runs[7], 0.1) == "STOP"


def test_what_was_judged_before_a_restart_is_not_judged_again(make_spec, make_proposer, end_of):
    spec = make_spec(trials=9, repeats=3, train={"epochs": 9, "batch_size": 16}, search={"early_stopping": {}})
    ledger = Ledger(spec, make_proposer(spec))
    runs = [ledger.next() for _ in range(9)]
    journal = [run.journal_row("test") for run in ledger.new_runs]
    finished = [end_of(runs[0]), end_of(runs[3], status="failed", error="x")]
    ledger = Ledger(spec, make_proposer(spec), journal=journal, finished=finished)
    epochs = pa.table({"trial_id": [runs[0].trial_id], "epoch": [1], "accuracy_val": [0.9]})
    searcher = SimpleNamespace(runs={run.trial_id: run for run in runs})
    moasha = MOASHA(grace_epochs=1, reduction_factor=1.5, max_epochs=9)
    experiment, store = SimpleNamespace(spec=spec), SimpleNamespace(read=lambda table, columns: epochs)
    known = {run.trial_id: 1 for run in (runs[4], runs[6], runs[7])}
    scheduler = _scheduler(experiment, searcher, ledger, store, finished, known, moasha)

    def told(run, *accuracies):
        rows = [json.dumps({"epoch": n, "accuracy_val": accuracy}) for n, accuracy in enumerate(accuracies, start=1)]
        result = {"epoch_rows": rows, "memory": 2000, "rounds": 1}
        return scheduler.on_trial_result(None, SimpleNamespace(trial_id=run.trial_id), result)

    assert told(runs[4], 0.2) == "CONTINUE", "its proposal's first seed had failed before"
    assert told(runs[6], 0.1) == "CONTINUE", "the first seed of its proposal"
    assert set(moasha._rungs[1]) == {runs[0].trial_id, runs[4].trial_id, runs[6].trial_id}
    assert told(runs[7], 0.1) == "CONTINUE", "not judged yet"
    ledger.record(runs[6], end_of(runs[6], status="failed", error="x"))
    assert told(runs[7]) == "STOP", "judged for the first time"
