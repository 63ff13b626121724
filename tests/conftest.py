"""What holds for all tests."""

import atexit
import os
import sys

import pytest
from hypothesis import settings

# How long an example takes says more of the machine than of the code.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

STATUS = pytest.StashKey[int]()


def pytest_sessionfinish(session, exitstatus):
    session.config.stash[STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    """End with the result of the tests, before the interpreter is torn down.

    Ray, Arrow, torch and ONNX Runtime in one process crashed once while it was, after all tests had passed.
    """
    if STATUS in config.stash:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[STATUS])
