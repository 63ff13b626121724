import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
import yaml

from clusters import ClusterError, load_profile, parse_profile
from clusters.names import object_name
from clusters.profile import named_profiles
from clusters.render import render, to_yaml
from clusters.render.kuberay import ray_job
from clusters.yaml_text import parse_yaml

SCHEMAS = Path(__file__).parent / "schemas"
LAUNCHED = ["ssh", "aws", "gcp"]


def validate_launcher(config):
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(config, schema)


def validate_kuberay(document):
    name = f"{document['kind'].lower()}.json"
    jsonschema.validate(document, json.loads((SCHEMAS / name).read_text()))


def changed(kind, **fields):
    raw = yaml.safe_load(named_profiles()[kind]) | {"name": kind} | fields
    return parse_profile(raw)


@pytest.mark.parametrize("name", LAUNCHED)
def test_launcher_yaml_satisfies_rays_own_schema(name):
    validate_launcher(yaml.safe_load(render(load_profile(name))))


def test_the_schema_is_one_that_refuses():
    config = yaml.safe_load(render(load_profile("aws")))
    with pytest.raises(jsonschema.ValidationError):
        validate_launcher(config | {"wrokers": 3})
    document = yaml.safe_load(render(load_profile("kubernetes")))
    document["spec"]["workerGroupSpecs"][0]["maxReplica"] = 1
    with pytest.raises(jsonschema.ValidationError):
        validate_kuberay(document)


def test_ray_cluster_satisfies_the_schema():
    document = yaml.safe_load(render(changed("kubernetes", service_account="searcher")))
    validate_kuberay(document)
    assert document["spec"]["authOptions"] == {"mode": "token"}
    assert document["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["resources"]["limits"] == {
        "cpu": "7",
        "memory": "28672Mi",
        "nvidia.com/gpu": "1",
    }


def test_ray_job_reads_its_spec_from_a_config_map_of_its_name():
    config_map, job = ray_job(load_profile("kubernetes"), "Try_1", "name: a\n", "kind: local\n", "s3://b/a")
    validate_kuberay(job)
    assert config_map["data"]["spec.yaml"] == "name: a\n"
    volumes = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["volumes"]
    assert {"name": "spec", "configMap": {"name": "try-1"}} in volumes
    assert job["spec"]["entrypoint"].endswith(
        "launch /etc/rps-search/spec.yaml --storage s3://b/a --cluster /etc/rps-search/profile.yaml"
    )


def test_ray_is_told_what_each_pod_offers():
    """Custom resources survive the shell that KubeRay starts Ray with, and its autoscaler's way of reading them."""
    machine = {"cpus": 0, "gpus": 2, "memory": "8GiB", "custom": {"fpga": 2}}
    document = yaml.safe_load(render(changed("kubernetes", head=machine, workers={"w": machine})))
    validate_kuberay(document)
    for group in (document["spec"]["headGroupSpec"], document["spec"]["workerGroupSpecs"][0]):
        offers = group["rayStartParams"]
        assert (offers["num-cpus"], offers["num-gpus"]) == ("0", "2")
        shown = subprocess.run(
            ["bash", "-c", f"echo {offers['resources']}"], capture_output=True, text=True, check=True
        )
        assert shown.stdout == '{"fpga": 2}\n'
        assert json.loads(offers["resources"][1:-1].replace("\\", "")) == {"fpga": 2}


@pytest.mark.parametrize(
    ("name", "rendered"),
    [
        ("rps-figure_digits", "rps-figure-digits"),
        ("My Cluster_1", "my-cluster-1"),
        ("8gpus", "rps-8gpus"),
        ("", "rps"),
        ("x" * 100, "x" * 33 + "-09ecb6"),
        ("\u6570\u636e", "rps-5440f7"),
    ],
)
def test_names_become_ones_that_every_tool_takes(name, rendered):
    assert object_name(name) == rendered
    assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", rendered)


def test_rendered_objects_have_such_names():
    for name in LAUNCHED:
        assert yaml.safe_load(render(changed(name, name="My Cluster_1")))["cluster_name"] == "rps-my-cluster-1"
    assert yaml.safe_load(render(changed("kubernetes", name="my_k8s")))["metadata"]["name"] == "my-k8s"
    assert "#SBATCH --job-name=rps-my-cluster-1\n" in render(changed("slurm", name="My Cluster_1"))
    assert render(changed("aws", name="My Cluster")).startswith("# Use it with: ray up 'My Cluster-cluster.yaml'\n")


def test_cloud_workers_are_spot_machines_and_the_head_is_not():
    for name, spot in (
        ("aws", lambda config: "InstanceMarketOptions" in config),
        ("gcp", lambda config: config["scheduling"].get("provisioningModel") == "SPOT"),
    ):
        types = yaml.safe_load(render(load_profile(name)))["available_node_types"]
        assert not spot(types["head"]["node_config"])
        assert spot(types["gpu"]["node_config"])


def test_no_template_opens_a_port_to_the_world():
    for name in named_profiles():
        profile = load_profile(name)
        if profile.submits:
            text = render(profile)
            assert "0.0.0.0" not in text
            assert "LoadBalancer" not in text
            assert "NodePort" not in text
    aws = yaml.safe_load(render(load_profile("aws")))
    for node_type in aws["available_node_types"].values():
        assert node_type["node_config"]["SecurityGroupIds"]


def test_a_key_of_ones_own_is_one_that_rays_launcher_takes():
    from ray.autoscaler._private.aws.config import _configure_key_pair

    config = yaml.safe_load(render(changed("aws", ssh_key="~/.ssh/mine.pem", key_name="mine")))
    assert _configure_key_pair(config)["auth"]["ssh_private_key"] == "~/.ssh/mine.pem"
    assert {kind["node_config"]["KeyName"] for kind in config["available_node_types"].values()} == {"mine"}


def test_the_head_on_ec2_has_a_role_of_its_own():
    """It starts machines; the workers, which run trials, may not."""
    profile = changed("aws", instance_profile="arn:w", head_instance_profile="arn:h", subnets=["subnet-1"])
    types = yaml.safe_load(render(profile))["available_node_types"]
    roles = {name: kind["node_config"]["IamInstanceProfile"]["Arn"] for name, kind in types.items()}
    assert roles == {"head": "arn:h", "gpu": "arn:w"}
    assert {tuple(kind["node_config"]["SubnetIds"]) for kind in types.values()} == {("subnet-1",)}
    assert {kind["node_config"]["ImageId"] for kind in types.values()} == {profile.ami}


def test_machines_on_compute_engine_have_no_public_address():
    """Ray's launcher gives every machine one whose network it chooses itself, whatever use_internal_ips says."""
    types = yaml.safe_load(render(changed("gcp", subnetwork="inner")))["available_node_types"]
    for node_type in types.values():
        assert node_type["node_config"]["networkInterfaces"] == [
            {"subnetwork": "projects/my-project/regions/us-central1/subnetworks/inner"}
        ], "no accessConfigs, which are what has the public address"


def test_the_head_on_compute_engine_keeps_the_account_that_may_start_machines():
    """What a node type says of its accounts replaces the one that Ray's launcher makes for the head."""
    account = "searcher@my-project.iam.gserviceaccount.com"
    types = yaml.safe_load(render(changed("gcp", service_account=account)))["available_node_types"]
    assert "serviceAccounts" not in types["head"]["node_config"]
    assert types["gpu"]["node_config"]["serviceAccounts"][0]["email"] == account


def test_machines_with_gpus_get_a_driver_and_are_waited_for():
    config = yaml.safe_load(render(load_profile("gcp")))
    types = config["available_node_types"]
    wanted = {"items": [{"key": "install-nvidia-driver", "value": "True"}]}
    assert types["gpu"]["node_config"]["metadata"] == wanted
    assert "metadata" not in types["head"]["node_config"]
    (wait,) = config["initialization_commands"]
    assert subprocess.run(["bash", "-n", "-c", wait], check=False).returncode == 0
    without = wait.replace("/sys/bus/pci/devices/*/vendor", "/dev/null")
    assert subprocess.run(["bash", "-c", without], timeout=5, check=False).returncode == 0, "nothing to wait for"


def test_every_ray_that_is_started_asks_for_the_token():
    for name in LAUNCHED:
        config = yaml.safe_load(render(load_profile(name)))
        for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
            (start,) = [line for line in config[commands] if "ray start" in line]
            assert start.index("RAY_AUTH_MODE=token") < start.index("ray start")
        assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][1]
    assert "RAY_AUTH_MODE=token" in render(load_profile("slurm"))


def test_rendering_never_reads_the_token(tmp_path, monkeypatch):
    token = tmp_path / "token"
    token.write_text("s3cret-" * 5)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret-key")
    for name in named_profiles():
        profile = load_profile(name)
        if profile.submits:
            assert "s3cret" not in render(profile)
    for name, fields, remote in (
        ("ssh", {}, "~/.ray/auth_token"),
        ("aws", {"image": "a"}, "/home/ray/.ray/auth_token"),
    ):
        config = yaml.safe_load(render(changed(name, **fields)))
        assert config["file_mounts"] == {remote: str(token)}, "the one that this machine's Ray reads is the cluster's"


def test_machines_get_the_versions_that_run_here():
    for name, brings in (("ssh", []), ("aws", ["boto3"]), ("gcp", ["google-api-python-client"])):
        config = yaml.safe_load(render(load_profile(name)))
        (install,) = [line for line in config["setup_commands"] if "pip install" in line]
        assert f"'ray[default,tune]=={ray.__version__}'" in install
        assert f"--python {sys.version_info.major}.{sys.version_info.minor} " in config["setup_commands"][1]
        assert all(any(package in line for line in config["head_setup_commands"]) for package in brings)
        for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
            for line in config[commands]:
                assert line.startswith("export PATH=~/.rps-search/python/bin:$PATH; "), "ray stop, too, is that Ray's"


@pytest.mark.parametrize("fields", [{"image": "repo/img:1"}, {"setup": []}, {"setup": ["module load ray"]}])
def test_what_a_profile_prepares_itself_is_left_to_it(fields):
    """Ray's own default commands for the head would install with the machine's pip, which an image may not have."""
    config = yaml.safe_load(render(changed("aws", **fields)))
    assert config["setup_commands"] == fields.get("setup", [])
    assert config["head_setup_commands"] == []
    assert config["head_start_ray_commands"][0] == "ray stop"


def test_the_default_setup_makes_a_python_and_starts_its_ray(tmp_path):
    """The commands, run for real with stand-ins for curl, uv and Ray; they may be run again."""
    tools = tmp_path / "bin"
    tools.mkdir()
    uv = '#!/bin/sh\n[ "$1" = venv ] || exit 0\nfor last; do :; done; mkdir -p "$last/bin"\n'
    uv += 'printf "#!/bin/sh\\necho own \\$*\\n" > "$last/bin/ray"; chmod +x "$last/bin/ray"\n'
    (tmp_path / "uv").write_text(uv)
    installer = f'to="$UV_UNMANAGED_INSTALL"; mkdir -p "$to" && cp {tmp_path}/uv "$to" && chmod +x "$to/uv"'
    (tools / "curl").write_text(f"#!/bin/sh\ncat <<'END'\n{installer}\nEND\n")
    (tools / "curl").chmod(0o755)
    config = yaml.safe_load(render(load_profile("ssh")))
    home = tmp_path / "home"
    (home / ".ray").mkdir(parents=True)
    (home / ".ray" / "auth_token").write_text("t")
    commands = [*config["setup_commands"], *config["setup_commands"], *config["worker_start_ray_commands"], "ray down"]
    environment = {"PATH": f"{home}/.local/bin:{tools}:/usr/bin:/bin", "HOME": str(home), "RAY_HEAD_IP": "10.0.0.1"}
    done = [
        subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=True).stdout
        for command in commands
    ]
    assert done[-3:] == ["own stop\n", "own start --address=10.0.0.1:6379 --num-cpus=8 --num-gpus=1\n", "own down\n"]


@pytest.mark.parametrize("fields", [{}, {"head": {"cpus": 8, "memory": "32GiB", "custom": {"fpga": 1}}, "setup": []}])
def test_batch_script_is_valid_bash(tmp_path, fields):
    script = tmp_path / "job.sh"
    script.write_text(render(changed("slurm", **fields)))
    checked = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    if shutil.which("shellcheck"):
        linted = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True)
        assert linted.returncode == 0, linted.stdout


def test_batch_script_runs_the_search_on_all_nodes(tmp_path):
    """The script, run for real with stand-ins for Slurm's commands and Ray's, starts each node once, in order."""
    tools = tmp_path / "bin"
    tools.mkdir()
    log = tmp_path / "log"
    stand_ins = {
        "scontrol": 'printf "n1\\nn2\\nn3\\n"',
        "srun": f'echo "srun $*" >> {log}; while [[ "$1" == --* ]]; do shift; done; exec "$@"',
        "hostname": "echo 127.0.0.5 fe80::1",
        "ray": f'if [ "$1" = start ]; then echo "ray $*" >> {log}; exec sleep 30; fi',
        "python": f'echo "python $*" >> {log}; case "$*" in *launch*) sleep 0.5; exit 3;; esac',
    }
    for name, body in stand_ins.items():
        (tools / name).write_text(f"#!/bin/bash\n{body}\n")
        (tools / name).chmod(0o755)
    script = tmp_path / "job.sh"
    script.write_text(render(changed("slurm", setup=['echo "$NOT_SET"'])))
    environment = {
        "PATH": f"{tools}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "n",
    }
    done = subprocess.run(
        ["bash", str(script), "my spec.yaml", "s3://b/a", "slurm"], env=environment, capture_output=True, timeout=20
    )
    lines = log.read_text().splitlines()
    assert done.returncode == 3, "the search's exit code is the job's"
    starts = [line for line in lines if line.startswith("ray start")]
    assert sum("--head" in line for line in starts) == 1
    assert sum("--address=127.0.0.5:20007" in line for line in starts) == 2
    assert [line for line in lines if "launch" in line] == [
        "python -m search.cli.app launch my spec.yaml --storage s3://b/a --cluster slurm"
    ]


@pytest.mark.parametrize("name", ["local", "existing"])
def test_profiles_that_make_no_cluster_say_so(name):
    with pytest.raises(ClusterError, match="makes no cluster; the kinds that do are ssh, aws"):
        render(load_profile(name))


@pytest.mark.parametrize(
    "value", ["1e-3", "1E3", "0o10", "-x", "1:30", "y", "N", "no", "10.0.0.1", 1e-3, 1e22, -3, True, None]
)
def test_a_spec_arrives_on_a_cluster_as_it_was_written(value):
    """Text that looks like a number, to us or to the YAML of kubectl, which is written in Go, stands in quotes."""
    text = to_yaml({"a": value, "b": [value]})
    again = parse_yaml(text)
    assert again == {"a": value, "b": [value]}
    assert type(again["a"]) is type(value)
    assert ("'" in text) == isinstance(value, str)
