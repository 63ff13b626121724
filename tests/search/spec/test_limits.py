"""Where the limits of fields lie: what just passes, and what just does not."""

import pytest

from search.errors import UserError
from search.spec import parse_spec

PASSES = [
    "space: {lr: {low: 0.1, high: 0.1}}",
    "space: {ratio: 1}",
    "space: {ratio: {choices: [1, 2]}}",
    "space: {weight_decay: 0}",
    "space: {weight_decay: {low: 0, high: 1, log: false}}",
    "train: {epochs: 3, warmup_epochs: 2.9}",
    "train: {epochs: 0, warmup_epochs: 2}",
    "train: {milestones: []}",
    "train: {milestones: [0.001, 0.5, 0.5, 0.999]}",
    "{train: {epochs: 3}, search: {early_stopping: {grace_epochs: 3}}}",
    "{trials: 6, repeats: 6}",
    "resources: {gpus: 0.3}",
    "resources: {gpus: 1}",
    "resources: {gpus: 4}",
    "{resources: {gpus: 1}, search: {pack: 4}}",
    "{resources: {gpus: 2}, search: {pack: 1}}",
    "model: {weights: a.safetensors}",
    f"name: {'a' * 100}",
    "seed: 0",
    "seed: 9223372036854775807",
]
REFUSED = [
    ("space: {lr: {low: 0.2, high: 0.1}}", "low <= high must hold"),
    ("space: {lr: {low: 0, high: 1}}", "low > 0 must hold for a log range"),
    ("space: {lr: 0}", "lr > 0 must hold, but lr reaches 0"),
    ("space: {lr: {low: 0, high: 1, log: false}}", "lr > 0 must hold, but lr reaches 0"),
    ("space: {methods: {rps: {lr: 0}}}", r"lr > 0 must hold, but methods\.rps\.lr reaches 0"),
    ("space: {ratio: {choices: [2, 0.99]}}", r"ratio >= 1 must hold .*reaches 0\.99"),
    ("space: {ratio: {choices: [2, true]}}", "ratio: every choice must be a number, but got"),
    ("space: {weight_decay: -0.1}", r"weight_decay >= 0 must hold, but weight_decay reaches -0\.1"),
    ("train: {epochs: 3, warmup_epochs: 3}", "warmup_epochs < epochs must hold, but got 3 of 3"),
    ("train: {milestones: [0, 0.5]}", "milestones must grow and lie between 0 and 1"),
    ("train: {milestones: [0.5, 1]}", "milestones must grow and lie between 0 and 1"),
    ("{train: {epochs: 3}, search: {early_stopping: {grace_epochs: 4}}}", "but got 4 of 3"),
    ("{trials: 7, repeats: 3}", "trials must be a multiple of repeats, but got 7 and 3"),
    ("{trials: 2, repeats: 3}", "trials must be a multiple of repeats"),
    ("resources: {gpus: 1.5}", "a fraction up to 1 or a whole number"),
    ("{resources: {gpus: 2}, search: {pack: 2}}", r"search\.pack=2 and resources\.gpus=2"),
    (f"name: {'a' * 101}", "at most 100 characters"),
    ("name: a/b", "a name must be no path"),
    ("name: ..", "a name must be no path"),
    ('name: "a\\0b"', r"a name is one line that says something, but got 'a\\x00b'"),
    ("seed: 9223372036854775808", "less than 9223372036854775808"),
    ("claims: [{claim: a, of: {method: rps}, against: {method: rand}, each: rato}]", "did you mean 'ratio'"),
    ("claims: [{claim: a, of: {metod: rps}, against: {method: rand}}]", "did you mean 'method'"),
]


@pytest.mark.parametrize("text", PASSES)
def test_the_last_value_that_is_possible_passes(text):
    parse_spec(text)


@pytest.mark.parametrize(("text", "sentence"), REFUSED)
def test_the_first_that_is_not_is_refused(text, sentence):
    with pytest.raises(UserError, match=sentence):
        parse_spec(text)


def test_a_field_that_is_unknown_is_told_before_what_is_wrong_elsewhere():
    with pytest.raises(UserError, match=r"^spec: train\.epoch: unknown field; .*\(and 1 more problem\)$"):
        parse_spec("{trials: many, train: {epoch: 3}}")


def test_long_values_are_cut_short():
    with pytest.raises(UserError) as error:
        parse_spec(f"trials: {'x' * 500}")
    assert str(error.value).endswith("but got '" + 76 * "x" + "...")


@pytest.mark.parametrize("override", ["=3", ".a=3", "a.=3", "train..epochs=3", "train"])
def test_an_override_without_a_key_is_answered_with_how_one_is_written(override):
    with pytest.raises(UserError, match="write it as key=value, for example --set"):
        parse_spec("{}", [override])
