"""The process that runs one trial after the other, without Ray."""

import gc
import time
import weakref
from dataclasses import replace

import pytest

from search.driver import runner
from search.driver.actor import TrialActor
from search.driver.exchange import timeout_path


@pytest.fixture
def actor(settings, tiny_data, make_config):
    """An actor on its first trial."""
    actor = TrialActor.__new__(TrialActor)
    actor._data, actor._settings, actor._runner = tiny_data, settings, None
    actor.reset_config({"trial": make_config("rand").model_dump_json()})
    return actor


def test_the_clock_of_a_stopped_trial_does_not_end_the_next_ones_process(actor, settings, make_config, monkeypatch):
    ended = []
    monkeypatch.setattr(runner.os, "_exit", ended.append)
    stopped = make_config("rand", seed=1)
    actor._settings = replace(settings, time_limit_s=0.5)
    actor.reset_config({"trial": stopped.model_dump_json()})
    actor.step()
    actor._settings = settings
    assert actor.reset_config({"trial": make_config("rand", seed=2).model_dump_json()})
    time.sleep(1.0)
    assert not ended
    assert not settings.folder.exists(timeout_path(stopped.trial_id))
    assert actor.step()["epoch"] == 1


def test_a_trial_is_gone_before_the_next_is_built(actor, make_config, monkeypatch):
    actor.step()
    before = weakref.ref(actor._runner.ready)
    seen = []
    begin = runner.TrialRunner._begin

    def watched(self, beside):
        seen.append(before())
        return begin(self, beside)

    monkeypatch.setattr(runner.TrialRunner, "_begin", watched)
    gc.disable()  # What a cycle keeps alive stays until some later moment.
    try:
        actor.reset_config({"trial": make_config("rand", seed=2).model_dump_json()})
        actor.step()
    finally:
        gc.enable()
    assert seen == [None]


def test_a_trial_begins_with_its_first_step(actor, make_config, monkeypatch):
    """Where it makes the process die, Tune knows by then that it was started, and counts that once."""
    begun = []
    begin = runner.TrialRunner._begin
    monkeypatch.setattr(runner.TrialRunner, "_begin", lambda self, beside: begun.append(self) or begin(self, beside))
    actor.reset_config({"trial": make_config("rand", seed=2).model_dump_json()})
    assert not begun
    actor.step()
    actor.step()
    assert len(begun) == 1


def test_cleaning_up_twice_is_no_error(actor):
    actor.cleanup()
    actor.cleanup()
