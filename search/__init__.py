"""Search for the compression that gives the best accuracy in a memory budget.

From Python as from the command line::

    import search

    results = search.launch("quickstart", storage="runs/mine", overrides=["trials=8"])
    results.trials.to_pandas()
"""

from search.api import InterruptedSearchError, launch, load, resume
from search.errors import UserError

__all__ = ["InterruptedSearchError", "UserError", "launch", "load", "resume"]
