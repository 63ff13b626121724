"""A model of the frontier as files that stand on their own, and back."""

from search.exporting.bundle import Bundle, evaluate_bundle, export_trial, read_bundle

__all__ = ["Bundle", "evaluate_bundle", "export_trial", "read_bundle"]
