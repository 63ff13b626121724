"""What the driver makes of what the process that loads data and model answers, without Ray."""

import re
from types import SimpleNamespace

import pytest
from ray.exceptions import OutOfMemoryError, RayTaskError

from search.driver import prepare as module
from search.driver.prepare import Facts, Question, _find_facts, prepare
from search.errors import UserError
from search.spec import Spec

SHAPES = {"a": (10, 10), "b": (10, 10)}


@pytest.fixture
def answered(monkeypatch):
    """Prepare a spec whose question was answered so."""

    def ask(answer, **fields):
        def get(reference):
            assert reference == "told"
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(module, "ray", SimpleNamespace(get=get))
        return prepare(Spec.model_validate(fields), Question("data", "told"))

    return ask


def test_what_is_wrong_is_told_as_it_was_found(answered):
    with pytest.raises(UserError, match=r"^data 'digits': is no such thing$"):
        answered("data 'digits': is no such thing")


def test_a_defect_is_told_as_what_it_is(answered):
    with pytest.raises(ZeroDivisionError):
        answered(RayTaskError("find_facts", "traceback", ZeroDivisionError("division by zero")))


def test_a_process_that_died_is_told_with_what_it_loaded(answered):
    with pytest.raises(
        UserError, match=r"data 'digits', model 'mlp': .* died \(OutOfMemoryError\); .* too little memory"
    ):
        answered(OutOfMemoryError("killed"), model={"name": "mlp"})


@pytest.mark.parametrize(
    ("names", "told"), [("", None), ("abc", "3 images cannot .*: a, b, c$"), ("abcd", r"4 images .*: a, b, c, \.\.\.$")]
)
def test_images_that_cannot_be_decoded_are_named(names, told, answered, caplog):
    prepared = answered(Facts(SHAPES, ["*"], tuple(names), {"reference": 1}))
    assert (prepared.data, prepared.meta) == ("data", {"reference": 1})
    if told is None:
        assert not caplog.messages
    else:
        (message,) = caplog.messages
        assert re.search(told, message)


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({}, None),
        ({"position": 8}, None),
        (
            {"a": 1, "rnn.weight": 10, "b": 4, "c": 3},
            "8 % of the weights (rnn.weight, b, c, ...)",
        ),
        (
            {"rnn.weight": 200},
            "50 % of the weights (rnn.weight)",
        ),
    ],
)
def test_what_no_method_compresses_is_told_where_it_is_much(sizes, told, answered, caplog):
    answered(Facts(SHAPES, ["*"], (), {}, sizes))
    said = [] if told is None else [f"no method compresses {told}: the ratio is that of the others"]
    assert caplog.messages == said


@pytest.mark.parametrize(
    ("untaught", "told"), [((), []), (("roses",), ["roses"]), (("a", "b", "c", "d"), ["a, b, c, ..."])]
)
def test_classes_without_an_image_to_train_on_are_named(untaught, told, answered, caplog):
    answered(Facts(SHAPES, ["*"], (), {}, {}, untaught))
    assert [message.partition(": ")[2].partition(";")[0] for message in caplog.messages] == told


def test_layers_share_a_budget_as_it_was_found_out(answered):
    space = {"methods": ["rps"], "ratio": 4, "budgets": "groups"}
    found = [answered(Facts(SHAPES, groups, (), {}), space=space).space for groups in (["*"], ["a", "b"])]
    patterns = [set().union(*(one.budgets or {} for one in space.examples())) for space in found]
    assert patterns[0] != patterns[1]
    assert patterns[1] == {"a", "b"}


def test_wrong_input_comes_back_as_a_sentence_and_not_as_rays_error():
    spec = Spec.model_validate({"data": {"name": "folder", "path": "no/such/place"}})
    data, told = _find_facts(spec.model_dump_json())
    assert data is None
    assert "no/such/place" in told
