"""Proposing trials: the only place that knows Optuna."""

from search.proposing.constraints import constraint_values, is_feasible
from search.proposing.past import Past, Status, combine
from search.proposing.proposer import ExhaustedError, Proposer

__all__ = ["ExhaustedError", "Past", "Proposer", "Status", "combine", "constraint_values", "is_feasible"]
