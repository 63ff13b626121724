"""The search space: from a sampler's draws to a proposal that is always feasible."""

from search.space.space import Extension, Space
from search.space.suggestion import Replay, Suggestion, TrialLike

__all__ = ["Extension", "Replay", "Space", "Suggestion", "TrialLike"]
