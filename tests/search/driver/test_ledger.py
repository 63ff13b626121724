import math
import random

import pytest

from search.driver.ledger import Ledger, meets_constraints, outcome
from search.errors import DIVERGED


def drain(ledger, end_of, *, most=10_000):
    """Run trials in order until there is no other; return the rows."""
    rows = []
    while len(rows) < most and (run := ledger.next()) is not None:
        row = end_of(run, accuracy=0.5 + 0.001 * len(rows))
        ledger.record(run, row)
        rows.append(row)
    return rows


def test_the_budget_of_trials_is_met_exactly(make_spec, make_proposer, end_of):
    spec = make_spec(trials=7)
    ledger = Ledger(spec, make_proposer(spec))
    rows = drain(ledger, end_of)
    assert len(rows) == 7
    assert ledger.complete
    assert len({row["trial_id"] for row in rows}) == 7


def test_repeats_share_all_but_the_seed_and_the_sampler_hears_their_mean(make_spec, make_proposer, end_of):
    spec = make_spec(trials=6, repeats=3)
    proposer = make_proposer(spec)
    told = []
    proposer.tell = lambda number, **values: told.append((number, values["accuracy"]))
    ledger = Ledger(spec, proposer)
    accuracies = [0.1, 0.2, 0.3, 0.4, 0.5, 0.9]
    rows = []
    for accuracy in accuracies:
        run = ledger.next()
        rows.append(end_of(run, accuracy=accuracy))
        ledger.record(run, rows[-1])
    assert [row["number"] for row in rows] == [0, 0, 0, 1, 1, 1]
    assert [row["repeat"] for row in rows] == [0, 1, 2, 0, 1, 2]
    assert len({row["seed"] for row in rows}) == 6
    assert len({row["params_json"] for row in rows[:3]}) == 1
    assert told == [(0, pytest.approx(0.2)), (1, pytest.approx(0.6))]


@pytest.mark.parametrize("seed", range(5))
def test_a_search_killed_at_any_moment_any_number_of_times_loses_and_doubles_nothing(
    seed, make_spec, make_proposer, end_of
):
    rng = random.Random(seed)
    spec = make_spec(trials=30, repeats=2)
    journal, finished = [], []
    for _ in range(60):
        ledger = Ledger(spec, make_proposer(spec), journal=journal, finished=finished)
        if ledger.complete:
            break
        running = []
        for _ in range(rng.randrange(1, 12)):
            if len(running) < 3 and (run := ledger.next()) is not None:
                running.append(run)
            # The journal is written now and then, in order.
            if rng.random() < 0.5:
                journal += [run.journal_row("test") for run in ledger.new_runs]
                ledger.new_runs.clear()
            if running and rng.random() < 0.7:
                run = running.pop(rng.randrange(len(running)))
                row = end_of(run)
                ledger.record(run, row)
                journal += [new.journal_row("test") for new in ledger.new_runs]
                ledger.new_runs.clear()
                finished.append(row)
    assert ledger.complete
    assert len(finished) == 30
    assert len({row["trial_id"] for row in finished}) == 30
    assert sorted((row["number"], row["repeat"]) for row in finished) == [(n, r) for n in range(15) for r in range(2)]


def test_what_was_in_flight_is_run_again_first_with_its_own_configuration(make_spec, make_proposer, end_of):
    spec = make_spec()
    first = Ledger(spec, make_proposer(spec))
    runs = [first.next() for _ in range(4)]
    journal = [run.journal_row("test") for run in runs]
    second = Ledger(spec, make_proposer(spec), journal=journal, finished=[end_of(runs[1])])
    again = [second.next() for _ in range(3)]
    assert [run.config for run in again] == [runs[0].config, runs[2].config, runs[3].config]
    assert second.next().number == 4


def test_more_trials_can_be_asked_for_later(make_spec, make_proposer, end_of):
    spec = make_spec(trials=4)
    rows = drain(Ledger(spec, make_proposer(spec)), end_of)
    more = make_spec(trials=9)
    ledger = Ledger(more, make_proposer(more), finished=rows)
    assert not ledger.complete
    assert [row["number"] for row in drain(ledger, end_of)] == [4, 5, 6, 7, 8]


def test_the_same_failure_again_and_again_stops_the_search(make_spec, make_proposer, end_of):
    spec = make_spec(trials=50, failures={"stop_after": 4})
    ledger = Ledger(spec, make_proposer(spec))
    for reason in ["a", "a", "a", "b", "c", "c", "c"]:
        run = ledger.next()
        ledger.record(run, end_of(run, status="failed", error=reason))
    assert ledger.stop_reason is None
    run = ledger.next()
    ledger.record(run, end_of(run, status="failed", error="c"))
    assert ledger.stop_reason == "4 trials in a row failed: c"
    assert ledger.next() is None
    assert not ledger.complete


@pytest.mark.parametrize(
    ("reason", "stops"),
    [
        ("its process died: pid={0}1, node 0a{0}f3, 1{0}.5 GiB of 16 GiB at 0x7f{0}e", True),
        (DIVERGED + " nan in epoch 1 at lr {0}.5", False),
    ],
)
def test_failures_that_differ_in_numbers_are_the_same_but_for_losses_that_diverged(
    reason, stops, make_spec, make_proposer, end_of
):
    spec = make_spec(trials=50, failures={"stop_after": 4})
    ledger = Ledger(spec, make_proposer(spec))
    for number in range(4):
        run = ledger.next()
        ledger.record(run, end_of(run, status="failed", error=reason.format(number)))
    assert bool(ledger.stop_reason) is stops


def test_a_space_that_is_used_up_stops_the_search(make_spec, make_proposer, end_of):
    spec = make_spec(trials=10, space={"methods": ["rand"], "ratio": {"choices": [2, 4, 8]}, "lr": 0.1})
    spec = spec.model_copy(update={"space": spec.space.model_copy(update={"budgets": "global"})})
    ledger = Ledger(spec, make_proposer(spec))
    assert len(drain(ledger, end_of)) == 3
    assert "3 configurations of the space were proposed" in ledger.exhausted
    assert ledger.stop_reason is None
    assert ledger.complete


def test_a_failed_repeat_does_not_drag_the_mean_down(make_spec, make_proposer, end_of):
    spec = make_spec(repeats=2)
    ledger = Ledger(spec, make_proposer(spec))
    runs = [ledger.next(), ledger.next()]
    rows = [end_of(runs[0], accuracy=0.8), end_of(runs[1], status="failed", error="x")]
    past = outcome(runs[0].params, rows, spec, number=0)
    assert (past.status, past.accuracy, past.memory) == ("finished", 0.8, 1000)
    assert outcome(runs[0].params, rows[1:], spec, number=0).status == "failed"


def test_constraints_reach_the_sampler_and_a_latency_that_is_not_known_counts_for_nothing(
    make_spec, make_proposer, end_of
):
    spec = make_spec(objectives={"max_bytes": 2000, "min_accuracy": 0.8, "max_latency_ms": 0.5})
    row = end_of(Ledger(spec, make_proposer(spec)).next(), accuracy=0.4)
    constraints = outcome({}, [row], spec).constraints
    assert [value > 0 for value in constraints] == [False, True, True]
    assert not meets_constraints(row, spec)
    assert meets_constraints(row | {"accuracy_val": 0.9, "latency_ms": 0.4}, spec)
    assert outcome({}, [row | {"status": "pruned", "latency_ms": None}], spec).status == "failed"
    proposer, told = make_proposer(spec), []
    proposer.tell = lambda number, **values: told.append(values["constraints"])
    ledger = Ledger(spec, proposer)
    ledger.record(ledger.next(), row)
    assert told == [constraints]


def test_what_was_stopped_early_ranks_for_the_sampler_after_what_was_not(make_spec, make_proposer, end_of):
    spec = make_spec(search={"early_stopping": {}})
    row = end_of(Ledger(spec, make_proposer(spec)).next())
    stopped = row | {"status": "pruned", "epochs_run": 1}
    assert outcome({}, [row | {"epochs_run": 1}], spec).constraints == [-1.0]
    assert outcome({}, [stopped], spec).constraints == pytest.approx([math.log(spec.train.epochs)])
    assert outcome({}, [stopped | {"epochs_run": 7}], spec).constraints == pytest.approx([math.log(2)])
    assert outcome({}, [row, stopped], spec).constraints == [-1.0]
    assert outcome({}, [stopped], make_spec()).status == "failed"


def test_a_run_that_is_put_back_is_the_next_one(make_spec, make_proposer, end_of):
    spec = make_spec(trials=2)
    ledger = Ledger(spec, make_proposer(spec))
    first, second = ledger.next(), ledger.next()
    assert ledger.next() is None
    ledger.put_back(first)
    assert ledger.next() is first
    assert ledger.next() is None
    for run in (first, second):
        ledger.record(run, end_of(run))
    assert ledger.complete


def test_further_repeats_are_run_beside_the_budget_and_survive_a_crash(make_spec, make_proposer, end_of):
    spec = make_spec(trials=4)
    rows = drain(Ledger(spec, make_proposer(spec)), end_of)
    ledger = Ledger(spec, make_proposer(spec), finished=rows)
    assert ledger.complete
    assert ledger.repeat([1, 3], seeds=3) == 4
    assert not ledger.complete
    journal = [run.journal_row("test") for run in ledger.new_runs]
    assert {row["origin"] for row in journal} == {"repeat"}
    rows += drain(ledger, end_of, most=1)
    again = Ledger(spec, make_proposer(spec), journal=journal, finished=rows)
    assert again.repeat([1, 3], seeds=3) == 3, "those in the journal are not queued twice"
    rows += drain(again, end_of)
    assert again.complete
    assert sorted((row["number"], row["repeat"]) for row in rows) == [
        (0, 0),
        (1, 0),
        (1, 1),
        (1, 2),
        (2, 0),
        (3, 0),
        (3, 1),
        (3, 2),
    ]
    assert len({row["seed"] for row in rows}) == len(rows)


def test_the_next_run_is_proposed_ahead_once_and_never_beyond_the_budget(make_spec, make_proposer, end_of):
    spec = make_spec(trials=2)
    ledger = Ledger(spec, make_proposer(spec))
    first = ledger.next()
    for _ in range(3):
        ledger.look_ahead()
    assert [run.number for run in ledger.new_runs] == [0, 1]
    second = ledger.next()
    ledger.look_ahead()
    assert ledger.next() is None
    assert [first.number, second.number] == [0, 1]
    assert ledger.handed_out == 2


def test_further_repeats_that_wait_do_not_stand_for_trials_of_the_budget(make_spec, make_proposer, end_of):
    spec = make_spec(trials=3)
    rows = drain(Ledger(spec, make_proposer(spec)), end_of, most=1)
    ledger = Ledger(spec, make_proposer(spec), finished=rows)
    assert ledger.repeat([0], 3) == 2
    for _ in range(4):
        ledger.look_ahead(5)
    assert ledger.has_ready(5)
    assert [run.number for run in ledger.new_runs] == [0, 0, 1, 2], "all are proposed ahead"
    runs = [ledger.next() for _ in range(4)]
    assert [(run.number, run.repeat) for run in runs] == [(0, 1), (0, 2), (1, 0), (2, 0)]
    assert ledger.next() is None


@pytest.mark.parametrize("depth", [1, 4])
def test_looking_ahead_changes_no_proposal_of_an_interrupted_search(make_spec, make_proposer, end_of, depth):
    spec = make_spec(trials=12, search={"sampler": "tpe", "startup_trials": 3})

    def search(stops):
        """Run one trial at a time, killed after as many trials as ``stops`` says, and return what was proposed."""
        journal, finished = [], []
        for stop in [*stops, spec.trials]:
            ledger = Ledger(spec, make_proposer(spec), journal=journal, finished=finished)
            while len(finished) < stop:
                run = ledger.next()
                ledger.look_ahead(depth)
                journal += [new.journal_row("test") for new in ledger.new_runs]
                ledger.new_runs.clear()
                finished.append(end_of(run, accuracy=0.5 + 0.03 * run.number % 0.2))
                ledger.record(run, finished[-1])
            ledger.next()  # Begun, and never heard of again: in the journal or not.
        return [row["config_json"] for row in finished]

    assert search([]) == search([4]) == search([2, 5, 9])


def test_a_resumed_search_learns_in_the_order_of_recording_whatever_the_clocks_say(make_spec, make_proposer, end_of):
    spec = make_spec(trials=12, repeats=2)
    rows = drain(Ledger(spec, make_proposer(spec)), end_of, most=10)
    rows = [rows[place] for place in (0, 4, 5, 2, 3, 8, 9, 1, 6)]
    for row, other in zip(rows, reversed([row["finished_at"] for row in rows]), strict=True):
        row["finished_at"] = other
    proposer = make_proposer(spec)
    learned = []
    proposer.restore = lambda history: learned.extend(history)
    Ledger(spec, proposer, finished=rows)
    assert [past.number for past in learned] == [2, 1, 4, 0, 3], (
        "by their last seeds, and what is in flight behind them"
    )


def test_a_run_that_is_put_back_after_the_space_is_used_up_is_run_all_the_same(make_spec, make_proposer, end_of):
    spec = make_spec(trials=10, space={"methods": ["rand"], "ratio": {"choices": [2, 4]}, "lr": 0.1})
    spec = spec.model_copy(update={"space": spec.space.model_copy(update={"budgets": "global"})})
    ledger = Ledger(spec, make_proposer(spec))
    first, second = ledger.next(), ledger.next()
    ledger.look_ahead()
    assert ledger.exhausted
    ledger.put_back(first)
    assert ledger.next() is first
    assert ledger.next() is None
    for run in (first, second):
        ledger.record(run, end_of(run))
    assert ledger.recorded == ledger.handed_out == 2


def test_what_does_not_change_a_trial_is_that_of_the_spec_as_it_is_now(make_spec, make_proposer, end_of):
    before = make_spec(data={"name": "parquet", "path": "/old"})
    ledger = Ledger(before, make_proposer(before))
    runs = [ledger.next() for _ in range(3)]
    journal = [run.journal_row("test") for run in runs]
    now = make_spec(data={"name": "parquet", "path": "/new"}, train={"epochs": 2, "batch_size": 16, "compile": False})
    again = Ledger(now, make_proposer(now), journal=journal, finished=[end_of(runs[0])])
    for run in runs[1:]:
        resumed = again.next()
        assert resumed.trial_id == run.trial_id
        assert (resumed.config.data.path, resumed.config.train.compile) == ("/new", False)


def test_a_resumed_search_that_wants_fewer_trials_hands_out_no_more(make_spec, make_proposer, end_of):
    spec = make_spec(trials=6)
    ledger = Ledger(spec, make_proposer(spec))
    runs = [ledger.next() for _ in range(5)]
    rows = [end_of(run) for run in runs[:3]]
    fewer = make_spec(trials=4)
    again = Ledger(fewer, make_proposer(fewer), journal=[run.journal_row("test") for run in runs], finished=rows)
    assert again.next().trial_id == runs[3].trial_id
    assert again.next() is None


def test_of_seeds_of_which_some_finished_the_sampler_hears_those(make_spec, make_proposer, end_of):
    spec = make_spec(search={"early_stopping": {}})
    row = end_of(Ledger(spec, make_proposer(spec)).next(), accuracy=0.9)
    stopped = row | {"status": "pruned", "epochs_run": 1, "accuracy_val": 0.2}
    past = outcome({}, [stopped, row], spec)
    assert (past.status, past.accuracy) == ("finished", 0.9)
    assert outcome({}, [stopped, stopped], spec).status == "pruned"
