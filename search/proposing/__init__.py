"""Proposing trials: the only place that knows Optuna."""

from search.proposing.past import Past, Status
from search.proposing.proposer import ExhaustedError, Proposer

__all__ = ["ExhaustedError", "Past", "Proposer", "Status"]
