"""What a profile means to the tool that makes the cluster: YAML for Ray's launcher and KubeRay, a script for Slurm."""

from __future__ import annotations

import shlex

import yaml

from clusters.errors import ClusterError
from clusters.kinds import AwsProfile, GcpProfile, KubernetesProfile, SlurmProfile, SshProfile
from clusters.profile import Profile
from clusters.render.kuberay import ray_cluster
from clusters.render.launcher import launcher_config
from clusters.render.slurm import batch_script
from clusters.yaml_text import Dumper

__all__ = ["render", "to_yaml"]


def render(profile: Profile) -> str:
    """Return the file that makes the cluster.

    Raises:
        ClusterError: If the profile makes none.
    """
    if isinstance(profile, SshProfile | AwsProfile | GcpProfile):
        return _header("ray up", profile) + to_yaml(launcher_config(profile))
    if isinstance(profile, KubernetesProfile):
        return _header("kubectl apply -f", profile) + to_yaml(ray_cluster(profile))
    if isinstance(profile, SlurmProfile):
        return batch_script(profile)
    raise ClusterError(
        f"profile {profile.name!r} is of kind {profile.kind} and makes no cluster; "
        "the kinds that do are ssh, aws, gcp, kubernetes and slurm"
    )


def to_yaml(*documents: object) -> str:
    """Return documents as YAML, fields in the order in which they were written."""
    return yaml.dump_all(documents, Dumper=_NoAliases, sort_keys=False, width=120)


class _NoAliases(Dumper):
    """Writes equal parts in full: people read these files."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _header(command: str, profile: Profile) -> str:
    return f"# Use it with: {command} {shlex.quote(f'{profile.name}-cluster.yaml')}\n"
