"""A profile as the YAML of Ray's cluster launcher (``ray up``): machines over SSH, EC2, Compute Engine."""

from __future__ import annotations

import json
import os
import shlex
from typing import Any

from clusters.fields import Machine, Rented
from clusters.kinds import AwsProfile, CloudProfile, GcpProfile, SshProfile
from clusters.names import object_name
from clusters.versions import pinned_requirements, python_minor

RAY_PORT = 6379
TOKEN = "~/.ray/auth_token"
HEAD = "head"
# What the setup makes where a profile names none: uv, and with it a Python.
UV = "~/.rps-search/uv/uv"
PYTHON = "~/.rps-search/python"
# What Ray's autoscaler needs on the head. The launcher's own commands for it use the machine's pip.
AUTOSCALER = {"aws": ["boto3"], "gcp": ["google-api-python-client", "google-auth-httplib2"], "ssh": []}
# Google's images build the driver when a machine with a GPU starts for the first time; before that torch sees no GPU.
WAIT_FOR_DRIVER = (
    "if grep -qs 0x10de /sys/bus/pci/devices/*/vendor; then "
    "timeout 900 bash -c 'until nvidia-smi; do sleep 5; done'; fi"
)
# 2**30 bytes: the clouds size disks in GiB.
GIB = 2**30


def launcher_config(profile: SshProfile | AwsProfile | GcpProfile) -> dict[str, Any]:
    """Return the cluster launcher's configuration.

    The token is no part of it: ``ray up`` copies the file that holds it to each machine, and Ray is told to ask for
    it. Dashboard and Jobs server listen on the head's loopback; they are reached through SSH.
    """
    config: dict[str, Any] = {
        "cluster_name": object_name(f"rps-{profile.name}"),
        "max_workers": sum(kind.max for kind in profile.worker_kinds().values()),
        "idle_timeout_minutes": profile.idle_minutes,
        "provider": _provider(profile),
        "auth": {"ssh_user": profile.user, **({"ssh_private_key": profile.ssh_key} if profile.ssh_key else {})},
        "file_mounts": {_remote_token(profile): os.environ.get("RAY_AUTH_TOKEN_PATH") or TOKEN},
        "setup_commands": _setup(profile),
        "head_setup_commands": _install(AUTOSCALER[profile.kind]) if _own_python(profile) else [],
        "head_start_ray_commands": _start(profile, head=True),
        "worker_start_ray_commands": _start(profile, head=False),
    }
    if profile.image:
        config["docker"] = {"image": profile.image, "container_name": "rps_search", "pull_before_run": True}
    if not isinstance(profile, SshProfile):
        config["available_node_types"] = _node_types(profile)
        config["head_node_type"] = HEAD
    if isinstance(profile, GcpProfile):
        config["initialization_commands"] = [WAIT_FOR_DRIVER]
    return config


def _provider(profile: SshProfile | AwsProfile | GcpProfile) -> dict[str, Any]:
    if isinstance(profile, SshProfile):
        return {"type": "local", "head_ip": profile.head_host, "worker_ips": profile.worker_hosts}
    provider = {"region": profile.region, "availability_zone": profile.zone, "cache_stopped_nodes": False}
    if isinstance(profile, GcpProfile):
        return {"type": "gcp", "project_id": profile.project, **provider, "use_internal_ips": True}
    return {"type": "aws", **provider, "use_internal_ips": profile.internal_only}


def _node_types(profile: AwsProfile | GcpProfile) -> dict[str, Any]:
    types = {HEAD: {"min_workers": 0, "max_workers": 0, **_node_type(profile, HEAD, profile.head)}}
    for name, machine in profile.workers.items():
        bounds = {"min_workers": machine.min, "max_workers": machine.max}
        types[name] = {**bounds, **_node_type(profile, name, machine)}
    return types


def _node_type(profile: CloudProfile, name: str, machine: Rented) -> dict[str, Any]:
    resources = {name: amount for name, amount in machine.resources().items() if amount or name == "CPU"}
    if isinstance(profile, AwsProfile):
        return {"resources": resources, "node_config": _ec2(profile, name, machine)}
    assert isinstance(profile, GcpProfile)
    return {"resources": resources, "node_config": _compute_engine(profile, name, machine)}


def _ec2(profile: AwsProfile, name: str, machine: Rented) -> dict[str, Any]:
    disk = {"VolumeSize": machine.disk // GIB, "VolumeType": "gp3", "Encrypted": True}
    config: dict[str, Any] = {
        "InstanceType": machine.instance,
        "ImageId": profile.ami,
        # Without groups of one's own, Ray's launcher makes one whose port 22 is open to every address.
        "SecurityGroupIds": profile.security_groups,
        "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": disk}],
        # IMDSv2 only: a process that can be made to fetch a URL must not get at the machine's credentials.
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
    }
    if profile.subnets:
        config["SubnetIds"] = profile.subnets
    if profile.key_name:
        config["KeyName"] = profile.key_name
    # Without one of its own, the head has the role that Ray's launcher makes.
    role = profile.head_instance_profile if name == HEAD else profile.instance_profile
    if role:
        config["IamInstanceProfile"] = {"Arn": role}
    if machine.spot:
        config["InstanceMarketOptions"] = {"MarketType": "spot"}
    return config


def _compute_engine(profile: GcpProfile, name: str, machine: Rented) -> dict[str, Any]:
    disk = {"diskSizeGb": machine.disk // GIB, "sourceImage": profile.source_image}
    config: dict[str, Any] = {
        "machineType": machine.instance,
        "disks": [{"boot": True, "autoDelete": True, "type": "PERSISTENT", "initializeParams": disk}],
        "scheduling": {"onHostMaintenance": "TERMINATE"},
        # Left to Ray's launcher, it would have a public address, whatever use_internal_ips says.
        "networkInterfaces": [
            {"subnetwork": f"projects/{profile.project}/regions/{profile.region}/subnetworks/{profile.subnetwork}"}
        ],
    }
    if name != HEAD:
        # The head has the account that Ray's launcher makes, which may start machines; one named here would replace it.
        # Scope of the service account; what it may do is decided by its roles.
        config["serviceAccounts"] = [
            {"email": profile.service_account, "scopes": ["https://www.googleapis.com/auth/cloud-platform"]},
        ]
    if machine.gpus:
        config["metadata"] = {"items": [{"key": "install-nvidia-driver", "value": "True"}]}
    if machine.spot:
        config["scheduling"] |= {"provisioningModel": "SPOT", "instanceTerminationAction": "DELETE"}
    if name in profile.accelerators:
        config["guestAccelerators"] = [
            {"acceleratorType": profile.accelerators[name], "acceleratorCount": machine.gpus},
        ]
    return config


def _own_python(profile: SshProfile | AwsProfile | GcpProfile) -> bool:
    """Return whether the setup makes a Python: the machine's own is often of another version, and may refuse pip."""
    return profile.setup is None and not profile.image


def _setup(profile: SshProfile | AwsProfile | GcpProfile) -> list[str]:
    if not _own_python(profile):
        return profile.setup or []
    unmanaged = 'UV_UNMANAGED_INSTALL="$HOME/.rps-search/uv"'
    return [
        f"test -x {UV} || curl -LsSf https://astral.sh/uv/install.sh | env {unmanaged} sh",
        f"{UV} venv --allow-existing --python {python_minor()} {PYTHON}",
        *_install(pinned_requirements()),
        # Where the launcher finds it when it ends Ray.
        f"mkdir -p ~/.local/bin && ln -sf {PYTHON}/bin/ray ~/.local/bin/ray",
    ]


def _install(packages: list[str]) -> list[str]:
    return [f"{UV} pip install --python {PYTHON} {shlex.join(packages)}"] if packages else []


def _remote_token(profile: SshProfile | AwsProfile | GcpProfile) -> str:
    return "/home/ray/.ray/auth_token" if profile.image else TOKEN


def _start(profile: SshProfile | AwsProfile | GcpProfile, *, head: bool) -> list[str]:
    path = f"export PATH={PYTHON}/bin:$PATH; " if _own_python(profile) else ""
    secure = f"export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0; chmod 600 {TOKEN}"
    machine = profile.head
    if head:
        where = f"--head --port={RAY_PORT} --dashboard-host=127.0.0.1 --autoscaling-config=~/ray_bootstrap_config.yaml"
    else:
        where = f"--address=$RAY_HEAD_IP:{RAY_PORT}"
        machine = profile.worker if isinstance(profile, SshProfile) else machine
    # The launcher itself tells a cloud's machines what they offer.
    offers = f" {_offers(machine)}" if isinstance(profile, SshProfile) else ""
    return [f"{path}ray stop", f"{path}{secure}; ulimit -n 65536; ray start {where}{offers}"]


def _offers(machine: Machine) -> str:
    custom = f" --resources={shlex.quote(json.dumps(machine.custom))}" if machine.custom else ""
    return f"--num-cpus={machine.cpus} --num-gpus={machine.gpus}{custom}"
