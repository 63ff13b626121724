import pickle
import subprocess
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from search.data import load_dataset
from search.driver.facts import find_facts
from search.driver.prepare import Facts, _find_facts
from search.errors import UserError
from search.spec import DataSpec, SpaceSpec, Spec, parse_spec


@pytest.mark.parametrize("modules", ["search.driver.run, search.driver.tuning", "rps_core.budgets"])
def test_what_the_driver_needs_loads_neither_torch_nor_data_sets(modules):
    code = f"import sys, {modules}; print({{'torch', 'torchvision', 'sklearn', 'PIL'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_what_the_driver_is_told_loads_no_torch_either():
    told = pickle.dumps(Facts({"fc": (3, 4)}, ["*"], (), {}))
    code = f"import pickle, sys; print(pickle.loads({told!r}).groups, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['*'] False\n"


def test_all_public_names_of_rps_core_are_there():
    import rps_core

    assert {name for name in rps_core.__all__ if getattr(rps_core, name).__module__.startswith("rps_core.")} == set(
        rps_core.__all__
    )


def test_a_floor_that_no_budget_covers_is_refused_before_any_trial():
    def facts(**floor):
        return find_facts(Spec(space=SpaceSpec(ratio=1000, methods={"rand": {"args": floor}, "rps": {}})))

    facts(floor=10)
    with pytest.raises(
        UserError, match=r"space\.methods\.rand: the floors of a group must fit its budget, but floor=50"
    ):
        facts(floor=50)
    facts(floor={"choices": [10, 50]})
    with pytest.raises(UserError, match="floor=10 needs 10 weights in 1 layers"):
        facts(floor=10, scope="layer")  # the last layer of 1,280 weights keeps one
    with pytest.raises(UserError, match=r"space\.methods\.rand: .*floor"):
        facts(floor=-1)
    with pytest.raises(UserError, match=r"rand\.args\.scope: unknown value 'gloabl'.* 'global'"):
        facts(scope={"choices": ["layer", "gloabl"]})


def test_a_ratio_that_cutting_channels_cannot_reach_is_refused_before_any_trial():
    def facts(**changes):
        return find_facts(Spec(space=SpaceSpec(methods={"channels": changes, "rps": {"ratio": 9000}})))

    assert facts(ratio=4)[1].groups
    with pytest.raises(UserError, match=r"space\.methods\.channels: ratio=5000 must be reachable by cutting channels"):
        facts(ratio={"low": 2, "high": 5000})
    with pytest.raises(UserError, match="with 60 channels a layer"):
        facts(ratio=20, args={"floor": 60})
    assert facts(ratio=20, args={"floor": {"choices": [1, 60]}})[1].groups


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ("mapping: raost", "mapping must be one of .* but got 'raost'; did you mean 'roast'"),
        ("mapping: {choices: [roast, nope]}", "mapping must be one of .* but got 'nope'"),
        ("init_std: {low: 0, high: 1, log: false}", r"init_std > 0 must hold, but got init_std=0"),
        ("init_std: wide", r"init_std must be a number, but got 'wide'"),
        ("psi_dtype: int4", r"psi_dtype must be one of .* but got 'int4'"),
        ("gradient_scaling: load_power(x)", r"load_power\(x\)"),
    ],
)
def test_arguments_of_sharing_that_no_trial_can_be_given_are_refused_before_any_trial(args, sentence):
    with pytest.raises(UserError, match=rf"^space\.methods\.rps: .*{sentence}"):
        find_facts(parse_spec(f"space: {{methods: {{rps: {{args: {{{args}}}}}}}}}"))


def test_an_epoch_to_rewind_to_that_no_training_reaches_is_refused_before_any_trial():
    def facts(rewind, epochs):
        args = {"rewind_epochs": rewind}
        return find_facts(Spec(train={"epochs": epochs}, space=SpaceSpec(methods={"ltr": {"args": args}})))

    with pytest.raises(
        UserError, match=r"space\.methods\.ltr: 0 <= rewind_epochs < train\.epochs must hold, but got 2 of 2"
    ):
        facts(2, epochs=2)
    facts(2, epochs=3)
    facts({"choices": [1, 2]}, epochs=2)  # some trials can


@pytest.mark.parametrize(
    ("rounds", "got"),
    [
        ({"low": 1, "high": 4}, r"\{low: 1, high: 4\}$"),
        ({"choices": [1, 2.5]}, r"\[1, 2.5\]"),
        (2.5, "2.5"),
    ],
)
def test_what_counts_something_takes_whole_numbers_only(rounds, got):
    sentence = r"space\.methods\.ltr\.args\.rounds must be a whole number, .* but got " + got
    with pytest.raises(UserError, match=sentence):
        find_facts(Spec(space=SpaceSpec(methods={"ltr": {"args": {"rounds": rounds, "fraction": 0.3}}})))


def test_an_argument_that_a_users_function_gives_a_method_that_takes_none_is_refused_before_any_trial(monkeypatch):
    module = types.ModuleType("brought")
    module.extend = lambda trial, s: replace(s, args={"alpha": trial.suggest_float("alpha", 0.0, 1.0)})
    monkeypatch.setitem(sys.modules, "brought", module)
    with pytest.raises(UserError, match=r"space.methods.rps.args: unknown argument 'alpha'"):
        find_facts(Spec(space=SpaceSpec(methods=["rps"], extension="brought:extend")))


def test_a_model_that_only_guesses_adds_nothing_to_the_hypervolume():
    def reference(**objectives):
        spec = Spec(space=SpaceSpec(methods={"rps": {}}), objectives=objectives)
        return find_facts(spec)[1].meta["reference"]["accuracy"]

    assert reference() == 0.1  # ten digits
    assert reference(reference_accuracy=0.5) == 0.5
    assert reference(reference_accuracy=0.0) == 0.0


def biases_only(num_classes, in_channels, image_size):
    """A network without a weight that could be compressed."""

    class Biases(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(num_classes))

        def forward(self, images):
            return self.bias.expand(len(images), -1)

    return Biases()


def of_so_many(num_classes, in_channels, image_size, width=8):
    """A network whose width is a number of channels, not a factor on it."""
    layers = [nn.Flatten(), nn.Linear(in_channels * image_size**2, width), nn.Linear(width, num_classes)]
    return nn.Sequential(*layers)


def of_one_width(num_classes, in_channels, image_size):
    """A network that knows no other width."""
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes))


def ragged(spec):
    """Images of different lengths."""
    return ([[1], [1, 2]], [0, 1]), None


def leaves(num_classes):
    """A model function that ends the process."""
    sys.exit("no")


def demanding(bench, strength):
    """A method that cannot do without an argument."""


def deaf():
    """A method that takes nothing."""


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"model": {"name": f"{__name__}:biases_only"}}, "model .*biases_only': nothing is prunable"),
        ({"data": {"name": f"{__name__}:ragged"}}, "data .*ragged': images and labels must be arrays"),
        ({"space": {"methods": [f"{__name__}:demanding"]}}, "the method needs strength as well"),
        (
            {"model": {"name": f"{__name__}:of_one_width"}, "space": {"methods": ["small"]}},
            r"space\.methods\.small: model .*:of_one_width' has no argument 'width'.*; leave small out, or let",
        ),
        (
            {"model": {"name": f"{__name__}:of_so_many", "args": {"width": 8}}, "space": {"methods": ["small"]}},
            r"space\.methods\.small: .* cannot be built with .*width=4.0: .*width, a factor on its channels",
        ),
        ({"space": {"methods": [f"{__name__}:deaf"]}}, "must be a function of a search.methods.Workbench"),
    ],
)
def test_a_users_function_that_cannot_do_is_refused_before_any_trial(fields, sentence):
    with pytest.raises(UserError, match=sentence):
        find_facts(Spec.model_validate(fields))


def test_a_users_function_that_ends_the_process_is_named():
    spec = Spec.model_validate({"model": {"name": f"{__name__}:leaves"}})
    assert _find_facts(spec.model_dump_json()) == (
        None,
        "a function that the spec names called sys.exit('no'); let it raise an exception",
    )


@pytest.mark.parametrize("names", [None, ("ash", "oak", "elm")])
def test_classes_that_only_others_than_the_training_images_have_are_found_out(names, monkeypatch):
    """Validation took the only image of class 1, or it never had one."""
    whole = load_dataset(DataSpec())
    train, val = (part.take(np.flatnonzero(part.labels < 3)) for part in (whole.train, whole.val))
    known = replace(whole, classes=3, class_names=names, train=train.take(np.flatnonzero(train.labels != 1)), val=val)
    monkeypatch.setattr("search.driver.facts.load_dataset", lambda spec: known)
    assert find_facts(Spec())[1].untaught == ("class 1" if names is None else "oak",)
