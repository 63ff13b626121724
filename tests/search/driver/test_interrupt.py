import functools
import signal
import sys

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
