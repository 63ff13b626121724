import functools
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from search.driver.interrupt import handlers_restored, sigterm_as_interrupt


@pytest.mark.parametrize("ctrl_c", [signal.default_int_handler, signal.SIG_IGN])
def test_a_polite_kill_is_an_interrupt_and_afterwards_what_it_was(ctrl_c, request):
    request.addfinalizer(functools.partial(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, ctrl_c)))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), sigterm_as_interrupt():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_one_that_ray_answers_while_it_starts_is_an_interrupt_too():
    with pytest.raises(KeyboardInterrupt), sigterm_as_interrupt():
        sys.exit(signal.SIGTERM)
    with pytest.raises(SystemExit, match="3"), sigterm_as_interrupt():
        sys.exit(3)


def test_what_tune_leaves_behind_is_put_back():
    before = signal.getsignal(signal.SIGINT)
    with handlers_restored():
        signal.signal(signal.SIGINT, lambda number, frame: None)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_polite_kill_is_answered_as_ctrl_c_is(request):
    """Tune's own answer lets trials end first."""
    asked = []

    def tunes(number, frame):
        asked.append(number)

    request.addfinalizer(functools.partial(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, tunes)))
    with sigterm_as_interrupt():
        signal.raise_signal(signal.SIGTERM)
    assert asked == [signal.SIGINT]


def test_whoever_wakes_a_program_by_its_other_signal_still_does(request):
    """Tune takes SIGUSR1 too."""
    before = signal.getsignal(signal.SIGUSR1)
    request.addfinalizer(functools.partial(signal.signal, signal.SIGUSR1, before))
    with handlers_restored():
        signal.signal(signal.SIGUSR1, lambda number, frame: None)
    assert signal.getsignal(signal.SIGUSR1) is before


def test_in_a_thread_signals_are_left_to_the_program():
    def search():
        with sigterm_as_interrupt(), handlers_restored():
            return signal.getsignal(signal.SIGTERM)

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(search).result() is signal.getsignal(signal.SIGTERM)
