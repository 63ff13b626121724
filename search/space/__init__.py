"""The search space: from a sampler's draws to a proposal that is always feasible."""

from search.space.extension import Extension
from search.space.locate import locate
from search.space.space import Space, block_of
from search.space.suggestion import METHOD, SETTINGS, CubeTrial, Replay, Suggestion, TrialLike

__all__ = [
    "METHOD",
    "SETTINGS",
    "CubeTrial",
    "Extension",
    "Replay",
    "Space",
    "Suggestion",
    "TrialLike",
    "block_of",
    "locate",
]
