"""Where a search runs: this machine, a Ray cluster, a cloud, Kubernetes or Slurm."""

from clusters.errors import ClusterError
from clusters.profile import Profile, load_profile, parse_profile

__all__ = ["ClusterError", "Profile", "load_profile", "parse_profile"]
