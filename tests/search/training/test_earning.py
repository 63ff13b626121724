"""When torch.compile is switched on by itself, and that it changes nothing but the time."""

import json
import logging
from dataclasses import replace

import pytest
import torch
import yaml

from search.spec import ModelSpec, TrainSpec
from search.training import checkpoint, earning, trainer
from search.training.earning import EXPECTED, Verdict, compile_if_it_pays, try_out, verdict_file
from search.trial import Trial
from tests.search.test_trial import same_result

CONVOLUTIONS = ModelSpec(name="tests.search.training.test_packed:convolutions", args={"dropout": 0.2})
TRAIN = TrainSpec(epochs=4, batch_size=16, precision="float32")
FAST, NO_FASTER = Verdict(1.0, 0.5, 10.0), Verdict(1.0, 0.99, 10.0)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "rps-search" / "compile"


@pytest.fixture
def compiler(monkeypatch):
    """Stand in for torch.compile by what computes the same up to rounding; return what was compiled."""
    made = []

    def compiled(model, *, graphs):
        made.append(graphs)
        return lambda inputs: model(inputs * 3) / 3 if model.training else model(inputs)

    monkeypatch.setattr(trainer, "compiled_forward", compiled)
    return made


@pytest.fixture
def make_trial(make_config, tiny_data):
    def make(method: str = "rps", *, saved: bytes | None = None, **changes) -> Trial:
        config = make_config(method, model=CONVOLUTIONS, train=TRAIN.model_copy(update=changes))
        return Trial(config, tiny_data, threads=1, saved=saved)

    return make


def state_of(trial: Trial) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trial.trainer.tensors().items()}


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("verdict", "left_s", "pays"),
    [
        (FAST, 21, True),  # saves 10.5 s of 21 and takes 10
        (FAST, 19, False),
        (NO_FASTER, 1e9, False),  # within what two measurements differ by
        (Verdict(1.0, 1.0, 0.0), 1e9, False),
        (EXPECTED["cpu"], 1199, False),
        (EXPECTED["cpu"], 1201, True),
        (EXPECTED["cuda"], 180, False),
        (EXPECTED["cuda"], 184, True),
    ],
)
def test_compiling_pays_where_it_saves_more_than_it_takes(verdict, left_s, pays):
    assert verdict.pays(left_s) is pays


def test_a_short_trial_does_not_even_try(make_trial, compiler, cache):
    trial = make_trial()
    trial.step()
    assert not compiler
    assert not cache.exists()
    assert trial.partial_row()["device"] == "cpu float32"


@pytest.mark.parametrize(("verdict", "on"), [(FAST, True), (NO_FASTER, False)])
def test_what_one_trial_has_found_out_the_others_know(verdict, on, make_trial, compiler, monkeypatch):
    tried = []
    monkeypatch.setattr(earning, "try_out", lambda trainer: tried.append(trainer) or verdict)
    first, second = make_trial().trainer, make_trial().trainer
    assert compile_if_it_pays(first, 1e6) is on
    assert compile_if_it_pays(second, 1e6) is on
    assert compile_if_it_pays(second, 15.0) is False
    assert tried == [first]
    # Other shapes, or weights that are computed otherwise, are another question.
    others = [make_trial("rand").trainer, make_trial("dense").trainer, make_trial(batch_size=20).trainer]
    assert len({verdict_file(trainer) for trainer in [first, second, *others]}) == 4


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"eager_s": "much"}', '{"eager_s": 1}'])
def test_a_damaged_verdict_is_found_out_anew(text, make_trial, compiler, monkeypatch):
    monkeypatch.setattr(earning, "try_out", lambda trainer: FAST)
    file = verdict_file(make_trial().trainer)
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert compile_if_it_pays(make_trial().trainer, 1e6)
    assert json.loads(file.read_text())["compiled_s"] == FAST.compiled_s


def test_no_place_for_a_verdict_is_no_reason_to_fail(make_trial, compiler, monkeypatch, tmp_path):
    monkeypatch.setattr(earning, "try_out", lambda trainer: FAST)
    (tmp_path / "rps-search").write_text("a file where the folder should be")
    assert compile_if_it_pays(make_trial().trainer, 1e6)


def test_trying_leaves_the_trial_as_it_was(make_trial, compiler):
    trial, other = make_trial(), make_trial()
    for each in (trial, other):
        each.step()
    verdict = try_out(trial.trainer)
    assert compiler == [False]
    assert verdict.eager_s > 0
    assert verdict.compiled_s > 0
    assert trial.trainer.compiled is None
    for each in (trial, other):
        each.step()
    assert equal(state_of(trial), state_of(other))


@pytest.mark.parametrize("method", ["rps", "rand", "dense", "ltr"])
def test_a_trial_that_went_on_compiled_does_so_after_an_interruption_and_is_the_same(
    method, make_trial, compiler, monkeypatch
):
    """Also where the machine that it goes on with would decide otherwise."""
    monkeypatch.setattr(earning, "EXPECTED", {"cpu": Verdict(1.0, 0.5, 0.0)})
    monkeypatch.setattr(earning, "try_out", lambda trainer: replace(FAST, compile_s=0.0))
    whole = make_trial(method)
    while not whole.done:
        whole.step()
    result = whole.finish()
    assert result.row["device"] == "cpu float32 compiled"
    for epoch in (1, 2, 5):
        trial = make_trial(method)
        while trial.epochs_run < epoch and not trial.done:
            trial.step()
        saved = trial.checkpoint()
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr("search.trial.compile_if_it_pays", lambda trainer, left_s: pytest.fail("decided twice"))
            trial = make_trial(method, saved=saved)
            while not trial.done:
                trial.step()
        assert same_result(trial.finish(), result)


def test_a_checkpoint_from_before_this_was_noted_is_still_good(make_trial):
    trial = make_trial()
    trial.step()
    tensors, facts = checkpoint.from_bytes(trial.checkpoint())
    del facts["compiled"]
    resumed = make_trial(saved=checkpoint.to_bytes(tensors, facts))
    for each in (trial, resumed):
        each.step()
    assert equal(state_of(trial), state_of(resumed))


def test_what_cannot_be_recorded_as_a_graph_is_compiled_without(make_trial, monkeypatch, caplog):
    monkeypatch.setitem(trainer.GRAPHS, "cpu", (True, False))
    made = []

    def compiled(model, *, graphs):
        made.append(graphs)

        def forward(inputs):
            if graphs:
                raise RuntimeError("operation not permitted when stream is capturing\nand more")
            return model(inputs)

        return forward

    monkeypatch.setattr(trainer, "compiled_forward", compiled)
    trial, plain = make_trial(compile=True), make_trial()
    assert made == [True, False]
    assert "cannot train as a CUDA graph, so it goes on without: operation not permitted when" in caplog.text
    assert trial.partial_row()["device"] == "cpu float32 compiled"
    for each in (trial, plain):
        each.step()
    assert equal(state_of(trial), state_of(plain))


def test_what_cannot_be_compiled_trains_without(make_trial, monkeypatch, caplog):
    def broken(model, *, graphs):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(trainer, "compiled_forward", broken)
    with caplog.at_level(logging.WARNING):
        trial, plain = make_trial(compile=True), make_trial(compile=False)
    assert "cannot train as compiled code, so it goes on without: no compiler here" in caplog.text
    assert trial.partial_row()["device"] == "cpu float32"
    for each in (trial, plain):
        each.step()
    assert equal(state_of(trial), state_of(plain))
    assert not try_out(plain.trainer).pays(1e9)


@pytest.mark.parametrize("text", ["true", "false", "on", "off", "auto"])
def test_whether_code_is_compiled_is_no_part_of_what_a_trial_is(text, make_config):
    train = TrainSpec.model_validate(yaml.safe_load(f"compile: {text}"))
    assert train.compile == {"true": True, "on": True, "auto": "auto"}.get(text, False)
    assert make_config(train=train).trial_id == make_config(train=TrainSpec()).trial_id


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rps", "rand"])
def test_trials_of_other_seeds_and_ratios_share_what_was_compiled(
    method, make_config, tiny_data, tmp_path, monkeypatch
):
    from torch._dynamo.utils import counters

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))

    def compiled_graphs(**changes) -> tuple[int, int]:
        torch._dynamo.reset()  # As in a new process.
        counters.clear()
        train = TRAIN.model_copy(update={"compile": True})
        trial = Trial(make_config(method, model=CONVOLUTIONS, train=train, **changes), tiny_data, threads=1)
        trial.step()
        return counters["inductor"]["fxgraph_cache_miss"], counters["inductor"]["fxgraph_cache_hit"]

    misses, _ = compiled_graphs(seed=1, ratio=4.0)
    assert misses > 0
    assert compiled_graphs(seed=2, ratio=9.0) == (0, misses)
    torch._dynamo.reset()
