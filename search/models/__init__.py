"""The networks that are compressed: those that ship with the package, and the user's own."""

from search.models.build import build_model
from search.models.stages import stage_patterns

__all__ = ["build_model", "stage_patterns"]
