"""A model of the frontier as files that stand on their own, and back."""

from search.exporting.bundle import Bundle, evaluate_bundle, export_trial, read_bundle
from search.exporting.trust import config_of, refuse_foreign_code

__all__ = ["Bundle", "config_of", "evaluate_bundle", "export_trial", "read_bundle", "refuse_foreign_code"]
