"""What fields of profiles become in what is rendered, one by one, where the schemas would take anything."""

import json
import os
import subprocess
from types import SimpleNamespace

import pytest
import yaml

from clusters import parse_profile
from clusters.profile import named_profiles
from clusters.render import render
from clusters.render.kuberay import ray_job
from clusters.versions import CLIENT_VERSIONS


def rendered(kind, **fields):
    text = render(parse_profile(yaml.safe_load(named_profiles()[kind]) | {"name": kind} | fields))
    return text if kind == "slurm" else yaml.safe_load(text)


def workers(**fields):
    return {"workers": {"w": {"instance": "x", "cpus": 4, **fields}}}


@pytest.mark.parametrize("kind", ["aws", "gcp"])
def test_machines_of_a_cloud_come_and_go_as_the_profile_says(kind):
    config = rendered(kind, idle_minutes=7, **workers(min=2, max=5))
    assert (config["max_workers"], config["idle_timeout_minutes"]) == (5, 7)
    types = config["available_node_types"]
    assert (types["w"]["min_workers"], types["w"]["max_workers"]) == (2, 5)
    assert types["w"]["resources"] == {"CPU": 4}
    assert types["head"]["resources"] == {"CPU": 0}, "left out, it would be all that Ray finds there"
    assert config["provider"]["cache_stopped_nodes"] is False, "stopped machines keep costing their disks"


@pytest.mark.parametrize(("disk", "gib"), [({}, 100), ({"disk": "250GiB"}, 250)])
def test_clouds_size_disks_in_gib(disk, gib):
    on_ec2, on_gce = (rendered(kind, **workers(**disk))["available_node_types"]["w"] for kind in ("aws", "gcp"))
    assert on_ec2["node_config"]["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == gib
    assert on_gce["node_config"]["disks"][0]["initializeParams"]["diskSizeGb"] == gib


def test_metadata_of_ec2_asks_for_a_session_token():
    for kind in rendered("aws")["available_node_types"].values():
        assert kind["node_config"]["MetadataOptions"]["HttpTokens"] == "required"


@pytest.mark.parametrize(
    ("fields", "internal"), [({}, False), ({"internal_only": True, "subnets": ["subnet-1"]}, True)]
)
def test_machines_of_ec2_are_reached_from_inside_if_asked(fields, internal):
    assert rendered("aws", **fields)["provider"]["use_internal_ips"] is internal


def test_accelerators_go_to_the_kind_that_they_are_named_for():
    config = rendered("gcp", accelerators={"w": "nvidia-tesla-t4"}, **workers(gpus=2))
    types = config["available_node_types"]
    assert types["w"]["node_config"]["guestAccelerators"] == [
        {"acceleratorType": "nvidia-tesla-t4", "acceleratorCount": 2}
    ]
    assert "guestAccelerators" not in types["head"]["node_config"]


def test_hosts_offer_what_the_profile_says_and_ray_may_run_in_a_container():
    config = rendered("ssh", image="repo/img:1", ssh_key="~/.ssh/lab", worker={"cpus": 6, "custom": {"fpga": 1}})
    assert config["docker"]["image"] == "repo/img:1"
    assert config["auth"] == {"ssh_user": "ray", "ssh_private_key": "~/.ssh/lab"}
    start = config["worker_start_ray_commands"][-1]
    assert start.endswith("""--num-cpus=6 --num-gpus=0 --resources='{"fpga": 1.0}'""")
    assert config["head_start_ray_commands"][-1].endswith("--num-cpus=4 --num-gpus=0")


def test_pods_come_and_go_as_the_profile_says():
    pod = {"cpus": 0, "memory": "1GiB", "min": 2, "max": 5}
    document = rendered("kubernetes", idle_minutes=3, service_account="searcher", workers={"w": pod})["spec"]
    assert document["autoscalerOptions"] == {"idleTimeoutSeconds": 180}
    (group,) = document["workerGroupSpecs"]
    assert [group[name] for name in ("replicas", "minReplicas", "maxReplicas")] == [2, 2, 5]
    for part in (document["headGroupSpec"], group):
        spec = part["template"]["spec"]
        assert spec["serviceAccountName"] == "searcher"
        assert int(spec["containers"][0]["resources"]["limits"]["cpu"]) >= 1, "Ray itself needs one"
    assert group["rayStartParams"]["num-cpus"] == "0"


def test_a_job_of_kubernetes_removes_its_cluster_and_says_which_versions_it_was_made_with():
    profile = parse_profile(yaml.safe_load(named_profiles()["kubernetes"]) | {"name": "k"})
    _, job = ray_job(profile, "a", "name: a\n", "kind: local\n", "s3://b/a")
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    environment = json.loads(job["spec"]["runtimeEnvYAML"])["env_vars"]
    assert set(json.loads(environment[CLIENT_VERSIONS])) == {"ray", "python", "rps-search"}


def test_slurm_is_asked_for_what_each_node_offers():
    head = {"cpus": 8, "gpus": 2, "memory": "64GiB"}
    script = rendered("slurm", nodes=3, head=head, time_limit="1-02:00:00", partition="fast", account="us")
    options = dict(line[10:].split("=", 1) for line in script.splitlines() if line.startswith("#SBATCH --"))
    assert options == {
        "job-name": "rps-slurm",
        "nodes": "3",
        "ntasks-per-node": "1",
        "cpus-per-task": "8",
        "gpus-per-node": "2",
        "mem": "65536M",
        "time": "1-02:00:00",
        "partition": "fast",
        "account": "us",
        "output": "rps-%j.log",
        "signal": "B:TERM@120",  # B: to the script alone, which hands it on
    }
    assert "--cpus-per-task=8 --gpus-per-node=2)" in script
    assert "gpus-per-node" not in rendered("slurm", head={"cpus": 8})


@pytest.fixture
def node(tmp_path):
    """Stand-ins for what a batch script calls; the search ends with 130 when it is told to stop."""
    bodies = {
        "scontrol": "echo n1",
        "srun": 'while [[ "$1" == --* ]]; do shift; done; exec "$@"',
        "hostname": "echo 127.0.0.5",
        "ray": 'if [ "$1" = start ]; then exec sleep 30; fi',
        "python": 'case "$*" in *launch*) trap "exit 130" TERM; echo begun; while true; do sleep 0.05; done;; esac',
    }
    for name, body in bodies.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}{os.pathsep}/usr/bin:/bin", "HOME": str(tmp_path)}
    return SimpleNamespace(folder=tmp_path, environment=environment | {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n"})


def test_the_search_on_slurm_is_told_to_stop_before_its_time_is_over(node):
    script = node.folder / "job.sh"
    script.write_text(rendered("slurm", setup=[]))
    command = ["bash", str(script), "spec.yaml", "s3://b/a", "slurm"]
    with subprocess.Popen(command, env=node.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == b"begun\n"
        job.terminate()
        assert job.wait(10) == 130


def test_a_search_on_slurm_that_is_told_to_stop_while_it_starts_does_not_outlive_its_job(node):
    script = node.folder / "job.sh"
    script.write_text(rendered("slurm", setup=[]).replace("search=$!", "kill -TERM $$; search=$!"))
    command = ["bash", str(script), "spec.yaml", "s3://b/a", "slurm"]
    ended = subprocess.run(command, env=node.environment, timeout=20, capture_output=True)
    assert ended.returncode in (130, 143)  # the second where it could not listen yet
