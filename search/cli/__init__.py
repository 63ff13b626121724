"""The command line: one file a command."""

import os

# Read when Arrow is loaded, so it is set before any command is imported. Arrow's usual allocator keeps blocks for each
# thread: a driver of 10,000 trials, which writes on a thread beside its loop, takes 100 to 150 MB less with the one of
# the C library.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
