"""``model.exclude``: layers that no method compresses."""

import pytest
import torch
from torch import nn

from search.driver.facts import find_facts
from search.errors import UserError
from search.methods import compress, layer_shapes, load_trained
from search.models import build_model
from search.spec import ModelSpec, Spec
from search.trial import Trial, workbench

# Of 36 x 16 + 16 x 8 + 8 x 3 weights, those of the last layer stay.
MODEL = ModelSpec(args={"hidden": [16, 8]}, exclude=["fc3"])
COMPRESSED = 36 * 16 + 16 * 8


def frozen(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, 8), nn.Linear(8, num_classes))
    model[1].weight.requires_grad = False
    return model


@pytest.mark.parametrize("method", ["rps", "rand", "mag", "snip", "grasp", "synflow", "ltr", "dense"])
def test_an_excluded_layer_is_stored_in_full_and_trained(method, make_config, tiny_data, tmp_path) -> None:
    ratio = 1.0 if method == "dense" else 8.0
    args = {"rounds": 1} if method == "ltr" else {}
    trial = Trial(make_config(method, ratio=ratio, model=MODEL, args=args), tiny_data, threads=1)
    before = trial.compressed.model.fc3.weight.detach().clone()
    while not trial.done:
        trial.step()
    assert not torch.equal(trial.compressed.model.fc3.weight, before)
    assert trial.compressed.virtual_size == COMPRESSED
    biases_and_last = 16 + 8 + 3 + 8 * 3
    assert trial.compressed.stored_parameters == COMPRESSED // ratio + biases_and_last
    end = trial.finish()
    assert end.row["virtual_size"] == COMPRESSED
    path = tmp_path / "model"
    path.write_bytes(end.model_file)
    loaded = load_trained(workbench(trial.config, tiny_data, torch.device("cpu")), path)
    assert torch.equal(loaded.fc3.weight, trial.compressed.model.fc3.weight)
    assert int((loaded.fc3.weight == 0).sum()) == 0


def test_budgets_are_those_of_the_other_layers(make_config, tiny_data) -> None:
    config = make_config("rand", model=MODEL, budgets={"fc1": 50, "fc2": 30})
    assert compress(workbench(config, tiny_data, torch.device("cpu"))).stored_parameters == 80 + 51
    config = make_config("rand", model=MODEL, budgets={"fc1": 50, "fc2": 30, "fc3": 10})
    with pytest.raises(UserError, match=r"method 'rand': .*'fc3'"):
        compress(workbench(config, tiny_data, torch.device("cpu")))


def test_a_search_knows_the_layers_that_are_compressed_and_no_others() -> None:
    _, facts = find_facts(Spec(model=MODEL.model_copy(update={"args": {"hidden": [16]}, "exclude": ["fc2"]})))
    assert list(facts.layer_shapes) == ["fc1"]
    assert facts.meta["virtual_size"] == 64 * 16
    assert facts.meta["dense_parameters"] == 64 * 16 + 16 + 16 * 10 + 10


def test_a_group_of_excluded_layers_is_told_to_be_one() -> None:
    spec = {"model": {"exclude": ["fc3"]}, "space": {"budgets": "groups", "groups": ["fc1", "fc2", "fc3"]}}
    with pytest.raises(UserError, match=r"space\.groups: 'fc3' names only layers that model\.exclude leaves"):
        find_facts(Spec.model_validate(spec))
    spec["space"]["groups"] = ["fc1", "fc[23]"]
    assert find_facts(Spec.model_validate(spec))[1].groups == ["fc1", "fc[23]"]


@pytest.mark.parametrize(
    ("model", "method", "sentence"),
    [
        (
            MODEL.model_copy(update={"exclude": ["head*"]}),
            "rand",
            r"model\.exclude of 'mlp': pattern 'head\*' matches no",
        ),
        (MODEL.model_copy(update={"exclude": ["*"]}), "rps", r"model\.exclude of 'mlp': nothing is prunable"),
        (MODEL, "channels", r"space\.methods\.channels: channels are cut in all layers.* model\.exclude names fc3"),
        (
            ModelSpec(name=f"{__name__}:frozen"),
            "rps",
            r"space\.methods\.rps: weights must be trainable, but requires_grad is False \(layer '1'\): exclude it",
        ),
    ],
)
def test_what_cannot_be_excluded_or_must_be_is_told_before_any_trial(model, method, sentence) -> None:
    with pytest.raises(UserError, match=sentence):
        find_facts(Spec.model_validate({"model": model.model_dump(), "space": {"methods": [method]}}))


@pytest.mark.parametrize("method", ["rps", "rand", "snip", "grasp", "synflow", "mag"])
def test_a_frozen_layer_that_is_excluded_stays_as_it_is(method, make_config, tiny_data) -> None:
    spec = ModelSpec(name=f"{__name__}:frozen", exclude=["1"])
    trial = Trial(make_config(method, ratio=2.0, model=spec), tiny_data, threads=1)
    trial.step()
    fresh = build_model(spec, data_shape=tiny_data.shape, classes=3, seed=3)
    assert list(layer_shapes(fresh, spec.exclude)) == ["2"]
    assert torch.equal(trial.compressed.model[1].weight, fresh[1].weight)


def test_a_trial_that_excludes_nothing_is_the_one_it_was(make_config) -> None:
    plain = make_config("rps", model=ModelSpec(args={"hidden": [16, 8]}))
    assert make_config("rps", model=MODEL).trial_id != plain.trial_id
    assert make_config("rps", model=MODEL.model_copy(update={"exclude": []})).trial_id == plain.trial_id


def test_the_order_of_patterns_makes_no_other_trial() -> None:
    one, other = ModelSpec(exclude=["fc3", "fc1", "fc3"]), ModelSpec(exclude=["fc1", "fc3"])
    assert one == other
