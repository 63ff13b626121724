"""What a plan learns from folders of earlier searches, made up so that the answer is known."""

from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from clusters.planning import Conditions, Workload, fleets, simulate
from clusters.profile import parse_profile
from search.cli.app import app
from search.driver import run
from search.driver.estimate import _shortened, from_results, probe
from search.driver.experiment import create_or_open
from search.errors import UserError
from search.proposing import Proposer
from search.results.folder import Folder
from search.results.store import ResultStore
from search.space import Space
from search.spec import Choices, load_spec, parse_spec

TRIALS = 24
START_S = 9.0
GAP_S = 0.53
DRIVER_S = Conditions().propose_s + Conditions().record_s


def searched(folder, *, at_once, seconds, pack=1, failing=0, epochs=4):
    """Write the results of a search whose trials, all alike, ran ``at_once`` at a time; its first ones failed."""
    spec = parse_spec("{}", [f"trials={TRIALS}", f"search.pack={pack}", f"train.epochs={epochs}"])
    experiment, _ = create_or_open(Folder(folder), spec)
    experiment.save()
    launched = datetime.fromisoformat(experiment.spec.provenance.created_at)
    rows = []
    for number in range(TRIALS):
        begin = launched + timedelta(seconds=START_S + number // at_once * (seconds + GAP_S))
        rows.append(
            {"trial_id": f"{number:012x}", "experiment": "e", "number": number, "repeat": 0, "seed": number}
            | {"method": "rps", "host": "here", "params_json": "{}", "config_json": "{}"}
            | {"status": "failed" if number < failing else "finished"}
            | {"started_at": begin, "finished_at": begin + timedelta(seconds=seconds)}
            | {"setup_seconds": 0.0, "train_seconds": seconds / 2, "eval_seconds": 0.0}
        )
    ResultStore(experiment.folder).append("trials", rows)
    return str(folder), (rows[-1]["finished_at"] - launched).total_seconds()


def plan(spec, found, places):
    work = Workload(spec.trials, found.seconds, 1, 0, {}, None, found.contention or 0.0, spec.search.pack)
    (fleet,) = fleets(parse_profile({"kind": "local", "cpus": 4}), work, [places])
    return simulate(work, fleet, found.conditions).wall_s


@pytest.fixture
def spec():
    return parse_spec("{}", [f"trials={TRIALS}", "train.epochs=4"])


def test_a_plan_gives_back_what_it_was_learned_from(tmp_path, spec):
    """Searches at 1 and 2 at once, where two slow each other by half: the plan meets both, and what lies beyond."""
    alone, alone_s = searched(tmp_path / "1", at_once=1, seconds=4.0)
    both, both_s = searched(tmp_path / "2", at_once=2, seconds=6.0)
    found = from_results(spec, [alone, both], Conditions())
    assert 2**found.contention == pytest.approx(1.5, rel=0.01)
    command_s = 4.0
    assert plan(spec, found, 1) == pytest.approx(alone_s + command_s, rel=0.03)
    assert plan(spec, found, 2) == pytest.approx(both_s + command_s, rel=0.05)


def test_one_search_tells_its_own_time_and_no_contention(tmp_path, spec):
    folder, wall_s = searched(tmp_path / "2", at_once=2, seconds=6.0)
    found = from_results(spec, [folder], Conditions())
    assert (found.contention, found.at_once) == (None, 2)
    assert found.conditions.between_s == pytest.approx(GAP_S - DRIVER_S, abs=0.01)
    assert plan(spec, found, 2) == pytest.approx(wall_s + 4.0, rel=0.03)


def test_more_epochs_lengthen_what_grows_with_them(tmp_path):
    """Half of each trial was training for 4 epochs: 8 of them take half as long again."""
    folder, _ = searched(tmp_path / "1", at_once=1, seconds=4.0)
    longer = parse_spec("{}", ["train.epochs=8"])
    assert from_results(longer, [folder], Conditions()).seconds == pytest.approx([6.0] * TRIALS)


def test_a_pack_on_a_processor_takes_turns(tmp_path, spec):
    """Four trials in one place for 8 s each: as if each took 2 s of it."""
    folder, _ = searched(tmp_path / "4", at_once=4, seconds=8.0, pack=4)
    assert from_results(spec, [folder], Conditions()).seconds == pytest.approx([2.0] * TRIALS)


def test_a_pack_on_a_gpu_must_have_been_tried(tmp_path):
    folder, _ = searched(tmp_path / "1", at_once=1, seconds=4.0)
    with pytest.raises(UserError, match=r"search\.pack=1, which tells nothing of 4 on a GPU"):
        from_results(parse_spec("{}", ["search.pack=4", "resources.gpus=1"]), [folder], Conditions())


def test_what_is_not_known_is_said(tmp_path):
    folder, _ = searched(tmp_path / "1", at_once=1, seconds=4.0)
    (tmp_path / "two.yaml").write_text("kind: local\ncpus: 2\n")
    arguments = ["plan", "quickstart", "--cluster", str(tmp_path / "two.yaml"), "--size", "2", "--results", folder]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "by how much they slow each other at 2 is not known" in done.stderr


def test_trials_that_failed_are_left_out_and_that_is_said(tmp_path):
    folder, _ = searched(tmp_path / "1", at_once=1, seconds=4.0, failing=3)
    done = CliRunner().invoke(app, ["plan", "quickstart", "--results", folder])
    assert done.exit_code == 0, done.output
    assert f"3 of the {TRIALS} trials there failed; their times are left out" in done.stderr
    folder, _ = searched(tmp_path / "2", at_once=1, seconds=4.0, failing=TRIALS)
    with pytest.raises(UserError, match=f"all {TRIALS} trials there failed; write --seconds"):
        from_results(load_spec("quickstart"), [folder], Conditions())


def test_only_methods_that_are_planned_tell_how_long_trials_take(tmp_path):
    """Lottery tickets take ten times as long: a plan without them is not to have their time, one with them is."""
    folder, _ = searched(tmp_path / "1", at_once=1, seconds=4.0, failing=2)
    rows = ResultStore(Folder(folder)).read("trials").to_pylist()
    tickets = {"trial_id": "f" * 12, "method": "ltr", "finished_at": rows[-1]["started_at"] + timedelta(seconds=40)}
    ResultStore(Folder(folder)).append("trials", [rows[-1] | tickets])

    def learned(methods):
        return from_results(parse_spec("{}", [f"space.methods={methods}", "train.epochs=4"]), [folder], Conditions())

    found = learned("[rps]")
    assert (found.seconds, found.unknown) == (pytest.approx([4.0] * (TRIALS - 2)), [])
    assert (found.failed, found.ended) == (2, TRIALS)
    assert max(learned("[rps, ltr]").seconds) > 30
    assert learned("[rps, snip]").unknown == ["snip"]
    with pytest.raises(UserError, match="trials there are of ltr, rps and say nothing of snip; write --seconds"):
        learned("[snip]")


def test_a_method_of_which_nothing_is_known_is_named(tmp_path):
    folder, _ = searched(tmp_path / "1", at_once=1, seconds=4.0)
    done = CliRunner().invoke(app, ["plan", "quickstart", "--set", "space.methods=[rps, ltr]", "--results", folder])
    assert done.exit_code == 0, done.output
    assert "no trial there tells how long ltr takes" in done.stderr


@pytest.mark.parametrize("lost", [{"started_at": None}, {"finished_at": None}, {"setup_seconds": float("nan")}])
def test_a_row_without_its_times_tells_nothing(tmp_path, spec, lost):
    folder, _ = searched(tmp_path / "1", at_once=1, seconds=4.0)
    rows = ResultStore(Folder(folder)).read("trials").to_pylist()
    ResultStore(Folder(folder)).append("trials", [rows[-1] | {"trial_id": "f" * 12} | lost])
    assert from_results(spec, [folder], Conditions()).seconds == pytest.approx([4.0] * TRIALS)


@pytest.fixture
def probed(monkeypatch):
    """Probe a spec, its searches replaced by one trial of each method, those of ``failing`` in vain; return theirs."""

    def probe_it(spec, failing=()):
        short = []

        def run_search(experiment, profile):
            short.append(experiment.spec)
            experiment.save()
            begin = datetime.fromisoformat(experiment.spec.provenance.created_at)
            rows = [
                {"trial_id": f"{number:012x}", "experiment": "e", "number": number, "repeat": 0, "seed": number}
                | {"status": "failed" if method in failing else "finished", "error": f"{method} cannot"}
                | {"method": method, "host": "here", "params_json": "{}", "config_json": "{}", "train_seconds": 1.0}
                | {"started_at": begin, "finished_at": begin + timedelta(seconds=2), "setup_seconds": 0.0}
                for number, method in enumerate(experiment.spec.space.methods)
            ]
            ResultStore(experiment.folder).append("trials", rows)
            return SimpleNamespace(interrupted=False)

        monkeypatch.setattr(run, "run_search", run_search)
        with probe(spec) as folders:
            assert len(from_results(spec, folders, Conditions()).seconds) == 2 * len(spec.space.methods)
        return short

    return probe_it


def test_a_probe_shortens_what_hangs_on_the_number_of_epochs(probed):
    changes = ["train.warmup_epochs=5", "search.warm_start=[old]", "search.early_stopping={grace_epochs: 9}"]
    alone, together = probed(load_spec("studies/figure_cifar10", changes))
    assert (alone.search.concurrency, together.search.concurrency) == (1, None)
    for short in (alone, together):
        assert (short.train.epochs, short.train.warmup_epochs) == (2, 0)
        assert (short.search.warm_start, short.search.early_stopping) == ([], None)
        assert short.space.methods["ltr"].args == {"rewind_epochs": Choices(choices=[0]), "fraction": 0.2}


def test_a_probe_rewinds_lottery_tickets_to_the_same_share_of_their_training(probed):
    def rewinds_to(rewind, epochs):
        args = f"space.methods={{ltr: {{args: {{rewind_epochs: {rewind}}}}}}}"
        return probed(parse_spec("{}", [args, f"train.epochs={epochs}"]))[0].space.methods["ltr"].args["rewind_epochs"]

    assert rewinds_to(1, epochs=2) == Choices(choices=[1])
    assert rewinds_to("{choices: [0, 1, 5, 8]}", epochs=10) == Choices(choices=[0, 1])


def test_a_probe_tries_each_method_whatever_the_sampler(probed):
    spec = load_spec("studies/figure_cifar10")
    short, _ = probed(spec)
    shapes = {"a": (100, 100), "b": (100, 100)}
    proposer = Proposer(
        Space(short.space, shapes), sampler=short.search.sampler, enqueue_known=short.search.enqueue_known
    )
    assert {proposer.ask()[1].method for _ in range(short.trials // short.repeats)} == set(spec.space.methods)


def test_a_probe_that_tells_nothing_of_a_method_is_refused(probed):
    with pytest.raises(UserError, match=r"no trial of method 'ltr' ended well \(ltr cannot\); write --seconds"):
        probed(load_spec("studies/figure_cifar10"), failing={"ltr"})


def test_a_probe_of_short_trials_is_no_longer_than_they_are_and_has_some_trials(probed):
    claims = "claims=[{claim: c, of: {method: rps}, against: {ratio: 4}}]"
    spec = parse_spec("{}", ["train.epochs=1", "space.methods=[rps]", "repeats=2", claims])
    assert spec.claims
    for short in probed(spec):
        assert (short.train.epochs, short.trials, short.claims) == (1, 8, [])


@pytest.mark.parametrize(("rewind", "epochs"), [("{low: 1, high: 4}", 8), ("3", 0)])
def test_a_probe_leaves_alone_where_tickets_rewind_to_what_it_cannot_scale(rewind, epochs):
    spec = parse_spec("{}", [f"space.methods={{ltr: {{args: {{rewind_epochs: {rewind}}}}}}}", f"train.epochs={epochs}"])
    assert not [change for change in _shortened(spec) if "rewind" in change]


def test_a_probe_that_is_interrupted_tells_nothing(spec, monkeypatch):
    def interrupted(experiment, profile):
        experiment.save()
        return SimpleNamespace(interrupted=True)

    monkeypatch.setattr(run, "run_search", interrupted)
    with pytest.raises(UserError, match="the probe was interrupted; write --seconds"), probe(spec):
        pass


def test_a_search_without_a_trial_tells_nothing(tmp_path, spec):
    experiment, _ = create_or_open(Folder(tmp_path), spec)
    experiment.save()
    with pytest.raises(UserError, match="no trial has ended there; write --seconds"):
        from_results(spec, [str(tmp_path)], Conditions())


def test_trials_of_no_epoch_say_nothing_of_trials_that_train(tmp_path):
    folder, _ = searched(tmp_path, at_once=1, seconds=4.0, epochs=0)
    with pytest.raises(UserError, match="trained for no epoch, and say nothing of 3"):
        from_results(parse_spec("{}", ["train.epochs=3"]), [folder], Conditions())
    none = parse_spec("{}", ["train.epochs=0"])
    assert from_results(none, [folder], Conditions()).seconds == pytest.approx([4.0] * TRIALS)


def test_fewer_trials_at_once_than_a_pack_has_lanes_have_the_place_to_themselves(tmp_path, spec):
    folder, _ = searched(tmp_path, at_once=2, seconds=8.0, pack=4)
    found = from_results(spec, [folder], Conditions())
    assert found.seconds == pytest.approx([4.0] * TRIALS)
    assert found.at_once == 1


@pytest.mark.ray
@pytest.mark.slow
def test_a_probe_runs_both_ways():
    """Two real short searches; the plan rests on them."""
    arguments = ["plan", "quickstart", "--probe", "--set", "train.epochs=1", "--size", "2"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[1].split()[:2] == ["2", "2"]
    assert "not known" not in done.stderr
