"""The command line: one file a command."""

import os

# Read when Arrow is loaded, so it is set before any command is imported. Arrow's usual allocator keeps blocks for each
# thread: a driver of 10,000 trials, which writes on a thread beside its loop, takes a third more memory than with the
# one of the C library (python -m benchmarks.driver, with the variable set to either).
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
