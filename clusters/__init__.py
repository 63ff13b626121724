"""Where a search runs: this machine, a Ray cluster, a cloud, Kubernetes or Slurm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clusters.errors import ClusterError

if TYPE_CHECKING:
    from clusters.profile import Profile, load_profile, parse_profile

__all__ = ["ClusterError", "Profile", "load_profile", "parse_profile"]


def __getattr__(name: str) -> Any:
    """Load what reads profiles when it is asked for: whoever reads results would wait a tenth of a second for it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from clusters import profile

    return getattr(profile, name)
