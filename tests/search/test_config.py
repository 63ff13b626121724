import subprocess
import sys

from search.config import TrialConfig, derive_seed
from search.spec import DataSpec, ModelSpec, TrainSpec

BASE = {"method": "rps", "ratio": 10.0, "lr": 0.5, "weight_decay": 1e-4}


def test_ids_are_what_they_were():
    """Golden: tables that people keep are joined on these ids."""
    plain = {"nesterov": False}  # was the default when ids began
    assert TrialConfig(**BASE, train=TrainSpec(**plain)).trial_id == "088b4ff11b12"
    train = TrainSpec(epochs=3, **plain)
    assert TrialConfig(**BASE, seed=7, budgets={"fc": 10}, train=train).trial_id == "c978c66c512e"
    assert TrialConfig(**BASE).trial_id == "bc8f2338dfde"


def test_an_id_does_not_depend_on_where_the_data_lies_nor_on_defaults_written_out():
    plain = TrialConfig(**BASE)
    assert TrialConfig(**BASE, data=DataSpec(path="/elsewhere")).trial_id == plain.trial_id
    assert TrialConfig(**BASE, train=TrainSpec(checkpoint_every_s=1)).trial_id == plain.trial_id
    assert TrialConfig(**BASE, args={}, seed=0).trial_id == plain.trial_id


def test_of_the_weights_that_a_trial_starts_from_the_content_counts_and_not_the_place():
    plain = TrialConfig(**BASE).trial_id
    here, there, other = (
        TrialConfig(**BASE, model=ModelSpec(weights=path, weights_sha256=64 * digit)).trial_id
        for path, digit in (("a", "0"), ("b", "0"), ("a", "1"))
    )
    assert here == there
    assert len({plain, here, other}) == 3


def test_whatever_changes_the_result_changes_the_id():
    ids = [
        TrialConfig(**{**BASE, **change}).trial_id
        for change in (
            {},
            {"lr": 0.51},
            {"ratio": 11},
            {"seed": 1},
            {"method": "rand"},
            {"budgets": {"fc": 5}},
            {"args": {"mapping": "roast"}},
            {"train": TrainSpec(epochs=3)},
            {"train": TrainSpec(epochs=0)},
            {"train": TrainSpec(recalibrate=True)},
            {"data": DataSpec(train_limit=5)},
            {"data": DataSpec(imbalance_factor=5)},
            {"data": DataSpec(test_limit=5)},
        )
    ]
    assert len(set(ids)) == len(ids)


def test_repeats_of_a_proposal_share_its_id_but_not_the_trials():
    first, second = TrialConfig(**BASE, seed=1), TrialConfig(**BASE, seed=2)
    assert first.proposal_id == second.proposal_id
    assert first.trial_id != second.trial_id


def test_a_config_survives_the_way_through_json():
    config = TrialConfig(**BASE, budgets={"layer1.*": 100}, args={"mapping": "roast", "floor": 3, "x": True})
    assert TrialConfig.model_validate_json(config.model_dump_json()) == config


def test_seeds_are_the_same_in_every_process():
    command = "from search.config import derive_seed; print(derive_seed(3, 5, 1))"
    out = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout
    assert int(out) == derive_seed(3, 5, 1) == 3996450


def test_seeds_differ_between_proposals_and_repeats():
    seeds = {derive_seed(0, number, repeat) for number in range(100) for repeat in range(3)}
    assert len(seeds) == 300
