"""Proposing trials: the only place that knows Optuna."""

from search.proposing.proposer import ExhaustedError, Past, Proposer

__all__ = ["ExhaustedError", "Past", "Proposer"]
