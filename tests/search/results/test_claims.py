import json
from typing import Any

import pytest

from search.results.claims import candidates, decide, judge, table
from search.spec.claims import ClaimSpec

HIGHER = {"claim": "sharing wins", "of": {"method": "rps"}, "against": {"method": "snip"}}


@pytest.fixture
def add(store, trial):
    """Write proposals: method, settings, and (validation, test) accuracy of each seed; None for one that failed."""
    numbers = iter(range(1000))

    def write(method: str, *seeds: tuple[float, float] | None, **config: Any) -> None:
        number = next(numbers)
        content = json.dumps({"method": method, "lr": 0.1, "ratio": 10.0, "args": {}} | config)
        rows = [
            trial(
                number * 100 + repeat,
                number=number,
                repeat=repeat,
                method=method,
                status="failed" if seed is None else "finished",
                accuracy_val=seed and seed[0],
                accuracy=seed and seed[1],
                config_json=content,
            )
            for repeat, seed in enumerate(seeds)
        ]
        store.append("trials", rows)

    return write


@pytest.fixture
def judged(store):
    return lambda *claims: judge([ClaimSpec(**claim) for claim in claims], candidates([store]))


@pytest.mark.parametrize(
    ("says", "low", "high", "verdict"),
    [
        ("higher", 0.001, 0.02, "holds"),
        ("higher", -0.01, 0.02, "not decided"),
        ("higher", -0.02, 0.0, "does not hold"),
        ("lower", -0.02, -0.001, "holds"),
        ("lower", 0.0, 0.02, "does not hold"),
        ("equal", -0.01, 0.01, "holds"),
        ("equal", -0.01, 0.011, "not decided"),
        ("equal", 0.011, 0.03, "does not hold"),
        ("different", 0.011, 0.03, "holds"),
        ("different", -0.005, 0.01, "does not hold"),
        ("different", -0.03, 0.03, "not decided"),
    ],
)
def test_the_interval_decides(says, low, high, verdict):
    assert decide(says, low, high, margin=0.01) == verdict


def test_each_side_is_its_best_on_validation_and_judged_on_test(add, judged):
    add("rps", (0.9, 0.70), (0.9, 0.72), lr=0.1)
    add("rps", (0.8, 0.99), (0.8, 0.99), lr=1.0)
    add("snip", (0.5, 0.60), (0.5, 0.61))
    (line,) = judged(HIGHER)
    assert (line.of.config["lr"], line.difference, line.verdict) == (0.1, pytest.approx(0.105), "holds")
    assert line.low < 0.105 < line.high


def test_further_seeds_of_one_proposal_do_not_change_which_is_chosen(add, judged):
    add("rps", (0.90, 0.7), (0.1, 0.7), (0.1, 0.7), lr=0.1)
    add("rps", (0.89, 0.2), lr=1.0)
    add("snip", (0.5, 0.6), (0.5, 0.61))
    (line,) = judged(HIGHER)
    assert (line.of.config["lr"], line.of.seeds) == (0.1, 3)


def test_a_proposal_that_diverges_with_some_seed_is_passed_over(add, judged):
    add("rps", (0.95, 0.9), None, lr=1.0)
    add("rps", (0.90, 0.8), (0.90, 0.82), lr=0.1)
    add("snip", (0.5, 0.6), (0.5, 0.61))
    (line,) = judged(HIGHER)
    assert line.of.config["lr"] == 0.1


def test_each_gives_a_line_a_value_and_both_sides_have_it(add, judged):
    for ratio, of, against in ((2, 0.9, 0.8), (50, 0.5, 0.6)):
        add("rps", (of, of), (of, of + 0.001), ratio=float(ratio))
        add("snip", (against, against), (against, against + 0.001), ratio=float(ratio))
    add("dense", (0.95, 0.9), (0.95, 0.901), ratio=1.0)
    lines = judged(
        HIGHER | {"each": "ratio"},
        HIGHER | {"each": "ratio", "against": {"method": "dense", "ratio": 1}, "says": "lower"},
    )
    assert [(line.where, line.verdict) for line in lines] == [
        (2, "holds"),
        (50, "does not hold"),
        (2, "not decided"),
        (50, "holds"),
    ]


def test_values_may_be_lists_and_nested_fields_and_numbers_do_not_match_truth_values(add, judged):
    add("rps", (0.9, 0.9), (0.9, 0.9), args={"mapping": "roast", "flag": True})
    add("rps", (0.8, 0.8), (0.8, 0.8), args={"mapping": "random_fold", "flag": False})
    claim = {"claim": "c", "of": {"args.mapping": ["roast", "robe_z"]}, "against": {"args.flag": False}}
    (line,) = judged(claim)
    assert line.difference == pytest.approx(0.1)
    (line,) = judged(claim | {"of": {"args.flag": 1}})
    assert (line.of, line.verdict) == (None, "not decided")
    assert "args.flag 1" in line.note


def test_a_field_that_is_a_list_is_selected_by_that_list(add, judged):
    add("rps", (0.9, 0.9), (0.9, 0.91), model={"exclude": ["fc3"]})
    add("rps", (0.8, 0.8), (0.8, 0.81), model={"exclude": []})
    add("rps", (0.7, 0.7), (0.7, 0.71), model={"exclude": ["fc3", "fc1"]})
    claim = {"claim": "c", "of": {"model.exclude": ["fc3"]}, "against": {"model.exclude": []}}
    (line,) = judged(claim)
    assert (line.of.number, line.against.number, line.verdict) == (0, 1, "holds")


def test_one_seed_is_not_decided_but_shown(add, judged):
    add("rps", (0.9, 0.9))
    add("snip", (0.5, 0.5))
    (line,) = judged(HIGHER)
    assert (line.difference, line.low, line.verdict) == (pytest.approx(0.4), None, "not decided")
    row = table([line]).to_pylist()[0]
    assert (row["accuracy"], row["seeds"], row["where"], row["note"]) == (0.9, 1, None, "one seed has no interval")


def test_seeds_that_all_agree_decide_nothing(add, judged):
    add("rps", (0.9, 0.9), (0.9, 0.9))
    add("snip", (0.8, 0.8), (0.8, 0.8))
    (line,) = judged(HIGHER)
    assert (line.low, line.verdict, line.note) == (
        None,
        "not decided",
        "all seeds agree, which is no interval: add more",
    )


def test_each_value_may_be_a_list(add, judged):
    for hidden, accuracy in ([8, 4], 0.9), ([16], 0.7):
        model = {"args": {"hidden": hidden}}
        add("rps", (accuracy, accuracy), (accuracy, accuracy), model=model)
        add("snip", (0.799, 0.799), (0.801, 0.801), model=model)
    lines = judged(HIGHER | {"each": "model.args.hidden"})
    found = {str(line.where): (round(line.difference, 3), line.verdict) for line in lines}
    assert found == {"[16]": (-0.1, "does not hold"), "[8, 4]": (0.1, "holds")}


def test_a_side_that_only_failed_is_said_to_have(add, judged):
    add("rps", None, None)
    add("snip", (0.5, 0.5), (0.5, 0.5))
    (line,) = judged(HIGHER | {"each": "ratio"})
    assert (line.where, line.verdict) == (10, "not decided")
    assert line.note == "no finished trial has method rps, ratio 10; 2 failed"
    (line,) = judged(HIGHER | {"each": "ratio", "of": {"method": "mag"}})
    assert (line.where, line.note) == (None, "no finished trial has method mag")


def test_trials_without_a_number_are_no_seeds_of_one_proposal(add, judged, store, trial):
    add("rps", (0.7, 0.7))
    config = json.dumps({"method": "snip", "lr": 0.1, "ratio": 10.0})
    rows = [
        trial(900 + k, number=None, accuracy_val=a, accuracy=a, config_json=config) for k, a in enumerate([0.5, 0.6])
    ]
    store.append("trials", rows)
    (line,) = judged(HIGHER)
    assert (line.difference, line.against.seeds) == (pytest.approx(0.1), 1)


def test_rows_whose_configuration_cannot_be_read_are_left_out_and_counted(add, judged, store, trial, caplog):
    add("rps", (0.9, 0.9), (0.9, 0.9))
    add("snip", (0.5, 0.5), (0.5, 0.5))
    odd = ("not json", "[]", '{"method": "rps"}', '{"method": "rps", "lr": true}')
    store.append("trials", [trial(900 + n, config_json=text, accuracy_val=1.0) for n, text in enumerate(odd)])
    (line,) = judged(HIGHER)
    assert table([line])["accuracy"].to_pylist() == [0.9]
    assert "4 trials whose configuration cannot be read are left out" in caplog.text


def test_a_claim_about_no_field_of_a_trial_is_refused():
    with pytest.raises(ValueError, match="unknown field of a trial 'methd': did you mean 'method'"):
        ClaimSpec(**HIGHER | {"of": {"methd": "rps"}})
    with pytest.raises(ValueError, match="unknown field of a trial 'rato'"):
        ClaimSpec(**HIGHER, each="rato")
