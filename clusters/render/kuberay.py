"""A profile as objects of the KubeRay operator, ``ray.io/v1`` (KubeRay 1.5 or later)."""

from __future__ import annotations

import json
import shlex
from typing import Any

from clusters.entry import search_command
from clusters.fields import Machine, Scaled
from clusters.kinds import KubernetesProfile
from clusters.names import object_name
from clusters.versions import CLIENT_VERSIONS, versions

SPEC_FOLDER = "/etc/rps-search"
GIB = 2**30


def cluster_name(profile: KubernetesProfile) -> str:
    """Return the name of the RayCluster, from which the operator makes those of its Service and its Secret."""
    return object_name(profile.name)


def ray_cluster(profile: KubernetesProfile) -> dict[str, Any]:
    """Return a RayCluster that stays until it is deleted; searches are submitted to its Jobs server."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": _metadata(profile, cluster_name(profile)),
        "spec": _cluster_spec(profile, config_map=None),
    }


def ray_job(
    profile: KubernetesProfile, name: str, spec_yaml: str, profile_yaml: str, storage: str
) -> list[dict[str, Any]]:
    """Return a search as objects to apply: a RayJob that starts its own cluster and removes it, and what it reads.

    Args:
        profile: Where it runs; the image must hold this package.
        name: Name of the objects, which becomes one that Kubernetes takes.
        spec_yaml: Text of the spec.
        profile_yaml: Text of the profile.
        storage: URI of the experiment folder.
    """
    name = object_name(name)
    command = search_command(f"{SPEC_FOLDER}/spec.yaml", storage, f"{SPEC_FOLDER}/profile.yaml")
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(profile, name),
        "data": {"spec.yaml": spec_yaml, "profile.yaml": profile_yaml},
    }
    job = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": _metadata(profile, name),
        "spec": {
            "entrypoint": shlex.join(command),
            "runtimeEnvYAML": json.dumps({"env_vars": {CLIENT_VERSIONS: json.dumps(versions())}}),
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 3600,
            "rayClusterSpec": _cluster_spec(profile, config_map=name),
        },
    }
    return [config_map, job]


def _metadata(profile: KubernetesProfile, name: str) -> dict[str, Any]:
    return {"name": name, "namespace": profile.namespace, "labels": {"app.kubernetes.io/name": "rps-search"}}


def _cluster_spec(profile: KubernetesProfile, config_map: str | None) -> dict[str, Any]:
    return {
        "rayVersion": versions()["ray"],
        # The operator makes the token, keeps it in a Secret and gives it to the pods.
        "authOptions": {"mode": "token"},
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {"idleTimeoutSeconds": 60 * profile.idle_minutes},
        "headGroupSpec": {
            "serviceType": "ClusterIP",
            "rayStartParams": _start_params(profile.head),
            "template": _pod(profile, "ray-head", profile.head, config_map),
        },
        "workerGroupSpecs": [_group(profile, name, kind) for name, kind in profile.workers.items()],
    }


def _group(profile: KubernetesProfile, name: str, kind: Scaled) -> dict[str, Any]:
    return {
        "groupName": name,
        "replicas": kind.min,
        "minReplicas": kind.min,
        "maxReplicas": kind.max,
        "rayStartParams": _start_params(kind),
        "template": _pod(profile, "ray-worker", kind, None),
    }


def _start_params(machine: Machine) -> dict[str, str]:
    """Return what a pod offers to trials; left to the operator, it would be what the container's limits say."""
    offers = {"num-cpus": str(machine.cpus)}
    if machine.gpus:
        offers["num-gpus"] = str(machine.gpus)
    if machine.custom:
        # KubeRay puts it on a shell's command line: JSON in quotes, in quotes. Its autoscaler takes integers only.
        offers["resources"] = json.dumps(json.dumps({name: int(amount) for name, amount in machine.custom.items()}))
    return offers


def _pod(profile: KubernetesProfile, container: str, machine: Machine, config_map: str | None) -> dict[str, Any]:
    assert machine.memory is not None, "the profile's validation asks for it"
    size = {"cpu": str(max(machine.cpus, 1)), "memory": f"{machine.memory // 2**20}Mi"}
    if machine.gpus:
        size["nvidia.com/gpu"] = str(machine.gpus)
    ray: dict[str, Any] = {
        "name": container,
        "image": profile.image,
        "resources": {"requests": size, "limits": size},
        "env": [{"name": "RAY_USAGE_STATS_ENABLED", "value": "0"}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
    }
    # Ray's object store lies in shared memory, of which a pod has 64 MiB unless it asks for more.
    shm: dict[str, Any] = {
        "name": "shm",
        "emptyDir": {"medium": "Memory", "sizeLimit": f"{machine.memory * 3 // 10 // 2**20}Mi"},
    }
    spec: dict[str, Any] = {
        "containers": [ray],
        "volumes": [shm],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if profile.service_account:
        spec["serviceAccountName"] = profile.service_account
    if config_map:
        ray["volumeMounts"].append({"name": "spec", "mountPath": SPEC_FOLDER, "readOnly": True})
        spec["volumes"].append({"name": "spec", "configMap": {"name": config_map}})
    return {"spec": spec}
