import time
from dataclasses import replace

import pytest
import yaml

from clusters import ClusterError, load_profile, parse_profile
from clusters.fields import Machine
from clusters.planning import Conditions, Fleet, Workload, fleets, simulate
from clusters.profile import named_profiles

PLAIN = Conditions(begin_s=0, actor_start_s=0, machine_start_s=0, propose_s=0, record_s=0, straggler=0)
WORK = Workload(trials=12, seconds=[10.0], cpus=1, gpus=1, custom={})
GPU = Machine(cpus=8, gpus=1, price_per_hour=3.0)


def fleet(count, **changes):
    return Fleet(GPU, count, count, **changes)


@pytest.mark.parametrize(("count", "wall"), [(1, 120), (4, 30), (5, 30), (12, 10), (100, 10)])
def test_by_hand_without_overheads(count, wall):
    """12 trials of 10 s on k places take ceil(12 / k) rounds."""
    made = simulate(WORK, fleet(count), PLAIN)
    assert made.wall_s == pytest.approx(wall)
    assert made.busy_s == 120
    assert made.gpu_hours == pytest.approx(count * wall / 3600)
    assert made.cost == pytest.approx(3.0 * count * wall / 3600)


def test_overheads_add_up_by_hand():
    """One place: begin 1, process start 2 once, and for each of 12 trials 10 s + 0.5 s proposing + 0.25 s recording."""
    conditions = replace(PLAIN, begin_s=1, actor_start_s=2, propose_s=0.5, record_s=0.25)
    assert simulate(WORK, fleet(1), conditions).wall_s == pytest.approx(1 + 2 + 12 * 10.75)


def test_the_driver_is_the_bottleneck_where_trials_are_short():
    """1,000 trials of 1 s on 512 places, 0.1 s to propose each: the driver alone needs 100 s."""
    work = replace(WORK, trials=1000, seconds=[1.0])
    made = simulate(work, fleet(512), replace(PLAIN, propose_s=0.1))
    assert made.wall_s == pytest.approx(101, rel=0.01)
    assert made.utilisation < 0.05


def test_concurrency_bounds_the_places():
    assert simulate(replace(WORK, concurrency=2), fleet(6), PLAIN).wall_s == pytest.approx(60)


def on_one_machine(places):
    return Fleet(Machine(cpus=8), 1, places)


@pytest.mark.parametrize(("contention", "wall"), [(0, 60), (0.5, 60 * 2**0.5), (1, 120)])
def test_trials_on_one_machine_slow_each_other(contention, wall):
    """12 trials of 10 s alone, two at a time: 6 rounds, each longer by the contention."""
    work = replace(WORK, contention=contention)
    assert simulate(work, on_one_machine(2), PLAIN).wall_s == pytest.approx(wall)
    assert simulate(work, fleet(2), PLAIN).wall_s == pytest.approx(60), "on machines of their own they do not"


def test_the_last_trial_has_the_machine_to_itself():
    """3 trials of 10 s, two at a time, each half as fast beside another: 20 s for two, then one alone takes 10 s."""
    work = replace(WORK, trials=3, contention=1)
    made = simulate(work, on_one_machine(2), PLAIN)
    assert made.wall_s == pytest.approx(30)


def test_trials_of_a_pack_take_turns():
    """12 trials of 10 s in one place need 120 s, however many share it; the place is busy all the time."""
    for pack in (1, 2, 4):
        made = simulate(replace(WORK, pack=pack), fleet(1), PLAIN)
        assert (made.slots, made.places) == (pack, 1)
        assert (made.wall_s, made.utilisation) == (pytest.approx(120), pytest.approx(1))
        assert made.busy_s == pytest.approx(120), "what one waits for the others is no training"
    assert simulate(replace(WORK, pack=100), fleet(1), PLAIN).busy_s == pytest.approx(120), "more room than trials"


def test_a_place_waits_between_two_trials():
    assert simulate(WORK, fleet(1), replace(PLAIN, between_s=2)).wall_s == pytest.approx(12 * 10 + 11 * 2)


def test_a_trial_that_dies_goes_on_from_its_checkpoint():
    conditions = replace(PLAIN, failure=1.0, actor_start_s=3, checkpoint_every_s=0)
    made = simulate(WORK, fleet(1), conditions)
    assert made.wall_s == pytest.approx(3 + 12 * (10 + 3)), "each dies once: a process start more, nothing repeated"
    assert made.repeated_s == 0
    without = simulate(WORK, fleet(1), replace(conditions, checkpoint_every_s=1e9))
    assert 0 < without.repeated_s <= 12 * 10


def test_interruptions_cost_what_their_rate_says():
    """A machine that is taken away 36 times an hour: 100 s between interruptions, 20 s to replace it."""
    work = replace(WORK, trials=2000)
    conditions = replace(PLAIN, machine_start_s=20, checkpoint_every_s=0)
    made = simulate(work, fleet(1, interruptions_per_hour=36), conditions)
    assert made.wall_s == pytest.approx(20_000 + 200 * 20, rel=0.03)
    made = simulate(work, fleet(1, interruptions_per_hour=36), replace(conditions, actor_start_s=50))
    assert made.wall_s == pytest.approx(20_000 + 200 * 70, rel=0.05), "its process starts again, too"


def test_stragglers_lengthen_the_tail():
    slow = simulate(replace(WORK, trials=1000), fleet(1), replace(PLAIN, straggler=0.1, straggler_factor=3))
    assert slow.wall_s == pytest.approx(10_000 * 1.2, rel=0.05)


def test_equal_seeds_give_equal_plans():
    work = replace(WORK, seconds=[1.0, 2.0, 5.0])
    conditions = Conditions(failure=0.1)
    assert simulate(work, fleet(3), conditions, seed=4) == simulate(work, fleet(3), conditions, seed=4)
    assert simulate(work, fleet(3), conditions, seed=4) != simulate(work, fleet(3), conditions, seed=5)


def test_a_large_search_is_simulated_in_a_moment():
    began = time.process_time()
    simulate(replace(WORK, trials=20_000), fleet(512, interruptions_per_hour=0.05), Conditions())
    assert time.process_time() - began < 4


def test_fleets_of_a_profile_in_several_sizes():
    profile = load_profile("aws")
    halves = replace(WORK, gpus=0.5)
    found = fleets(profile, halves, [1, 8, 64])
    assert [(f.count, f.slots, f.interruptions_per_hour) for f in found] == [
        (1, 2, 0.05),
        (8, 16, 0.05),
        (64, 128, 0.05),
    ]
    assert found[0].head_price_per_hour == profile.head.price_per_hour
    on_cpus = fleets(parse_profile({"kind": "local", "cpus": 4}), replace(WORK, gpus=0), [1, 2, 8])
    assert [(f.count, f.slots) for f in on_cpus] == [(1, 1), (1, 2), (2, 8)], "machines like this one"


def test_only_spot_machines_are_taken_away():
    raw = yaml.safe_load(named_profiles()["aws"])
    raw["workers"]["gpu"]["spot"] = False
    (made,) = fleets(parse_profile(raw), WORK, [1])
    assert made.interruptions_per_hour == 0


ONE_HOUR = replace(WORK, trials=4, seconds=[3600.0])


def test_in_slurm_the_head_is_one_of_the_nodes():
    for nodes, count in ((1, 1), (2, 2), (4, 2)):
        head = {"cpus": 4, "gpus": 4, "price_per_hour": 10}
        (made,) = fleets(parse_profile({"kind": "slurm", "nodes": nodes, "head": head}), ONE_HOUR, [8])
        assert (made.count, made.head_price_per_hour, made.short) == (count, 0, nodes == 1)
        assert simulate(ONE_HOUR, made, PLAIN).cost == pytest.approx(10 * count)


def test_no_more_machines_are_planned_than_the_profile_has():
    found = fleets(load_profile("aws"), replace(WORK, gpus=0.5), [64, 512])
    assert [(f.count, f.slots, f.short) for f in found] == [(64, 128, False), (64, 128, True)]


def test_machines_that_are_always_there_are_paid_for():
    """Four kept of the kind that works, of which one does, and two of another kind: 1 + 4 * 3 + 2 * 5 an hour."""
    raw = yaml.safe_load(named_profiles()["aws"])
    raw["head"] |= {"cpus": 0, "gpus": 0, "price_per_hour": 1}
    kind = {"instance": "x", "cpus": 4, "gpus": 1}
    small, large = {"price_per_hour": 3, "min": 4, "max": 8}, {"price_per_hour": 5, "min": 2, "max": 2}
    raw["workers"] = {"small": kind | small, "large": kind | large}
    one, eight = fleets(parse_profile(raw), ONE_HOUR, [1, 8])
    four_hours, half_used = simulate(ONE_HOUR, one, PLAIN), simulate(ONE_HOUR, eight, PLAIN)
    assert (four_hours.wall_s, four_hours.cost) == (pytest.approx(4 * 3600), pytest.approx(4 * (1 + 4 * 3 + 2 * 5)))
    assert four_hours.gpu_hours == pytest.approx(4 * 6)
    assert (half_used.wall_s, half_used.cost) == (pytest.approx(3600), pytest.approx(1 + 8 * 3 + 2 * 5))


def test_a_head_that_alone_can_serve_is_there_once_and_paid_once():
    raw = yaml.safe_load(named_profiles()["ssh"])
    raw |= {"head": {"cpus": 4, "gpus": 1, "price_per_hour": 1}, "worker": {"cpus": 4}}
    (made,) = fleets(parse_profile(raw), ONE_HOUR, [8])
    assert (made.count, made.slots, made.head_price_per_hour, made.short) == (1, 1, 0, True)
    assert simulate(ONE_HOUR, made, PLAIN).cost == pytest.approx(4)


def test_trials_share_the_cpus_of_a_machine_too():
    raw = yaml.safe_load(named_profiles()["slurm"]) | {"head": {"cpus": 4, "gpus": 4}}
    (made,) = fleets(parse_profile(raw), replace(WORK, cpus=2), [8])
    assert (made.count, made.slots) == (2, 4), "each machine has 4 GPUs but CPUs for 2 trials"


def test_a_trial_that_fits_nowhere_is_refused():
    with pytest.raises(ClusterError, match="it asks for 3 GPU"):
        fleets(load_profile("aws"), replace(WORK, gpus=3), [1])
