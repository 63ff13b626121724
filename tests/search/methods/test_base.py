"""What a trial makes of the methods that a user brings."""

import json
import math

import numpy as np
import pytest
import torch

from search.errors import UserError
from search.methods import Compressed, Prospect, Workbench, check_arguments, check_feasible, compress
from search.methods.base import loss_fn
from search.spec.fields import Choices
from search.trial import Trial, workbench


def counting(bench: Workbench) -> Compressed:
    return Compressed(
        bench.build(1.0),
        virtual_size=np.int64(10),
        stored_parameters=torch.tensor(7),
        stored_bytes=np.float64(28),
        save=lambda model, path: path.write_bytes(b""),
    )


def bare(bench: Workbench) -> torch.nn.Module:
    return bench.build(1.0)


def refusing(bench: Workbench, *, value: str = "a") -> Compressed:
    raise TypeError(f"value must be a number, but got {value!r}")


def test_counts_of_any_kind_of_number_are_those_of_json_and_the_tables(make_config, tiny_data) -> None:
    row = Trial(make_config(f"{__name__}:counting"), tiny_data, threads=1).partial_row()
    counts = {name: row[name] for name in ("virtual_size", "stored_parameters", "stored_bytes")}
    assert json.loads(json.dumps(counts)) == {"virtual_size": 10, "stored_parameters": 7, "stored_bytes": 28}
    assert all(type(count) is int for count in counts.values())


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        ("bare", r"method '.*:bare' must return search\.methods\.Compressed, but got "),
        ("refusing", r"method '.*:refusing': value must be a number, but got 'a'"),
    ],
)
def test_what_a_method_does_wrong_is_said_in_one_sentence(method, sentence, make_config, tiny_data) -> None:
    config = make_config(f"{__name__}:{method}")
    with pytest.raises(UserError, match=sentence):
        compress(workbench(config, tiny_data, torch.device("cpu")))


def needing(bench: Workbench, *, strength: float, times: int = 1) -> Compressed:
    raise NotImplementedError


def open_ended(bench: Workbench, **more: object) -> Compressed:
    raise NotImplementedError


def benchless(*, strength: float = 1.0) -> Compressed:
    raise NotImplementedError


def vague(bench: "NoSuchName", *, strength: float = 1.0) -> Compressed:  # noqa: F821
    raise NotImplementedError


@pytest.mark.parametrize(
    ("method", "args", "complete"),
    [
        ("needing", {"strength": 0.5}, True),
        ("needing", {"times": Choices(choices=[1, 2])}, False),
        ("open_ended", {"anything": "goes"}, True),
        ("vague", {"strength": 2.0}, True),
    ],
)
def test_arguments_that_a_method_takes_are_taken(method, args, complete) -> None:
    check_arguments(f"{__name__}:{method}", args, complete=complete)


@pytest.mark.parametrize(
    ("method", "args", "sentence"),
    [
        ("needing", {"times": 2}, r"the method needs strength as well$"),
        ("needing", {"strength": 0.5, "times": True}, r"args\.times must be a whole number"),
        ("needing", {"strength": 0.5, "times": 1.5}, r"args\.times must be a whole number"),
        ("benchless", {}, r"must be a function of a search\.methods\.Workbench"),
        ("bare", {"strength": 0.5}, r"the method takes none, but got 'strength'"),
    ],
)
def test_arguments_that_a_method_does_not_take_are_told(method, args, sentence) -> None:
    with pytest.raises(UserError, match=sentence):
        check_arguments(f"{__name__}:{method}", args)


@pytest.fixture
def prospect():
    def make(**changes) -> Prospect:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
        return Prospect(
            **{"model": model, "example_input": torch.zeros(1, 6), "ratio": 4.0, "args": {}, "epochs": 2} | changes
        )

    return make


@pytest.mark.parametrize(
    ("method", "changes", "sentence"),
    [
        ("mag", {"ratio": 32.0, "args": {"floor": 1}}, r"space\.methods\.mag: the floors .* floor=1 needs 2"),
        ("mag", {"ratio": 16.0, "args": {"floor": 2}, "exclude": ["0"]}, r"floor=2 needs 2 weights in 1 layers"),
        ("ltr", {"args": {"rewind_epochs": -1}}, r"0 <= rewind_epochs < train\.epochs must hold, but got -1 of 2"),
    ],
)
def test_what_no_trial_can_do_is_told_before_any(method, changes, sentence, prospect) -> None:
    with pytest.raises(UserError, match=sentence):
        check_feasible(method, prospect(**changes))


def test_excluded_layers_make_nothing_impossible(prospect) -> None:
    frozen = prospect(exclude=["0"])
    frozen.model[0].weight.requires_grad = False
    check_feasible("rps", frozen)
    check_feasible("mag", prospect(ratio=16.0, args={"floor": 1}, exclude=["2"]))


def test_scores_look_at_the_mean_loss() -> None:
    model, labels = torch.nn.Identity(), torch.tensor([0, 1])
    assert loss_fn(model, (torch.zeros(2, 4), labels)).item() == pytest.approx(math.log(4))
