import signal
import sys

import pytest

from search.driver.interrupt import sigterm_as_interrupt


def test_a_polite_kill_is_an_interrupt_and_afterwards_what_it_was():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), sigterm_as_interrupt():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_one_that_ray_answers_while_it_starts_is_an_interrupt_too():
    with pytest.raises(KeyboardInterrupt), sigterm_as_interrupt():
        sys.exit(signal.SIGTERM)
    with pytest.raises(SystemExit, match="3"), sigterm_as_interrupt():
        sys.exit(3)
