import subprocess
import sys

import pytest
import yaml

from clusters import ClusterError, load_profile, parse_profile
from clusters.profile import named_profiles


def parse(**fields):
    return parse_profile(fields)


def test_every_kind_ships_as_a_profile_named_after_it():
    kinds = {"local", "existing", "ssh", "aws", "gcp", "kubernetes", "slurm"}
    assert {name: load_profile(name).kind for name in named_profiles()} == {kind: kind for kind in kinds}


def test_a_file_is_named_after_itself(tmp_path):
    path = tmp_path / "lab.yaml"
    path.write_text("kind: local\ncpus: 3\n")
    profile = load_profile(str(path))
    assert (profile.name, profile.cpus) == ("lab", 3)
    assert "lab.yaml" not in str(profile.model_dump()), "where the file lies here means nothing elsewhere"


def test_commands_that_are_shown_name_a_profile_as_the_user_did(tmp_path, monkeypatch):
    (tmp_path / "my lab.yaml").write_text(named_profiles()["ssh"] + "name: lab\n")
    monkeypatch.chdir(tmp_path)
    assert load_profile("my lab.yaml").argument == "'my lab.yaml'"
    assert load_profile("aws").argument == "aws"


def test_unknown_name_gets_the_nearest():
    with pytest.raises(ClusterError, match="unknown profile 'kubernets': did you mean 'kubernetes'"):
        load_profile("kubernets")
    with pytest.raises(ClusterError, match=r"missing\.yaml: no such file"):
        load_profile("missing.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "is a mapping of fields, but this is a list"),
        ("a: [\n", "line 2, column 1: not valid YAML"),
        ("kind: local\nkind: ssh\n", "'kind' is written twice"),
        ("kind: [ssh]\n", "unknown kind"),
        ("kind: {a: 1}", "unknown kind"),
        ("", "NoneType"),
    ],
)
def test_a_file_that_holds_no_profile(tmp_path, text, message):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(ClusterError, match=message):
        load_profile(str(path))


def test_a_binary_file_is_refused(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ClusterError, match="cannot be read as a text file"):
        load_profile(str(path))


@pytest.mark.parametrize("kind", sorted(named_profiles()))
def test_unknown_fields_are_refused(kind):
    with pytest.raises(ClusterError, match="Extra inputs are not permitted"):
        parse(**yaml.safe_load(named_profiles()[kind]), cpu=2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "lokal"}, "unknown kind 'lokal': did you mean 'local'"),
        ({"kind": "local", "cpus": 0}, "greater than 0"),
        ({"kind": "local", "cpus": True}, "a truth value does not belong here"),
        ({"kind": "existing", "address": "ray://h:10001"}, "write http://HOST:8265"),
        ({"kind": "existing", "address": "somewhere"}, "an address is auto"),
    ],
)
def test_impossible_values_say_what_is_possible(fields, message):
    with pytest.raises(ClusterError, match=message):
        parse(**fields)


def test_impossible_clusters_say_what_is_wrong():
    aws = yaml.safe_load(named_profiles()["aws"])
    with pytest.raises(ClusterError, match="the head must not be a spot machine"):
        parse(**aws | {"head": aws["head"] | {"spot": True}})
    with pytest.raises(ClusterError, match="min <= max must hold, but got min=9, max=2"):
        parse(**aws | {"workers": {"w": {"instance": "a", "cpus": 1, "min": 9, "max": 2}}})
    with pytest.raises(ClusterError, match="security_groups"):
        parse(**aws | {"security_groups": []})
    kubernetes = yaml.safe_load(named_profiles()["kubernetes"])
    with pytest.raises(ClusterError, match="every pod needs its memory, but w has none"):
        parse(**kubernetes | {"workers": {"w": {"cpus": 1}}})


def shipped(kind, **fields):
    return parse(**yaml.safe_load(named_profiles()[kind]) | fields)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("aws", {"workers": {"head": {"instance": "a", "cpus": 1}}}, "'head' is what Ray calls the head"),
        ("kubernetes", {"workers": {"headgroup": {"cpus": 1, "memory": "1GiB"}}}, "'headgroup' is what Ray calls"),
        ("gcp", {"workers": {"GPU big": {"instance": "a", "cpus": 1}}}, "hyphens .* got 'GPU big'; write for example"),
        ("local", {"name": "x\nrm -rf ~"}, "a profile's name is one line and no path"),
        ("local", {"name": "../x"}, "a profile's name is one line and no path"),
        ("slurm", {"partition": "gpu fast"}, "partition: .*a name in Slurm has letters"),
        ("slurm", {"account": "a\nreboot"}, "account: .*a name in Slurm has letters"),
        ("slurm", {"head": {"cpus": 0}}, "every node works, the head too, but got cpus: 0"),
        ("aws", {"ssh_key": "~/.ssh/mine.pem"}, "ssh_key and key_name go together"),
        ("aws", {"key_name": "mine"}, "ssh_key and key_name go together"),
        ("aws", {"instance_profile": "arn:w"}, "the head needs head_instance_profile, too"),
        ("aws", {"internal_only": True}, "internal_only needs subnets: name private ones"),
        ("aws", {"ami": None}, "ami: "),
        ("ssh", {"worker_hosts": ["192.0.2.10", "192.0.2.11"]}, "the head not among .* got 192.0.2.10 twice"),
        ("ssh", {"worker_hosts": ["192.0.2.11", "192.0.2.11"]}, "each host is named once, .* got 192.0.2.11 twice"),
        ("slurm", {"time_limit": 86400}, 'write it in quotes, "24:00:00"'),
        ("slurm", {"time_limit": "1 day"}, "time_limit: "),
        ("slurm", {"head": {"cpus": 4, "memory": 64}}, "with 64 bytes; write the unit, for example 16GiB"),
        ("kubernetes", {"namespace": "My Space"}, "Kubernetes takes at most 63 lower-case .* got 'My Space'"),
        ("aws", {"workers": {"w": {"instance": "a", "cpus": 1, "disk": 100}}}, "with 100 bytes; write the unit"),
        ("gcp", {"accelerators": {"gpuu": "nvidia-tesla-t4"}}, "unknown machine 'gpuu': did you mean 'gpu'"),
    ],
)
def test_names_and_sizes_that_no_cluster_takes_are_refused(kind, fields, message):
    with pytest.raises(ClusterError, match=message):
        shipped(kind, **fields)


@pytest.mark.parametrize(("kind", "size"), [("aws", {"instance": "a"}), ("kubernetes", {"memory": "1GiB"})])
def test_an_autoscaler_counts_whole_custom_resources(kind, size):
    halves = {"cpus": 1, "custom": {"ssd": 0.5}, **size}
    for fields in ({"head": halves}, {"workers": {"w": halves}}):
        with pytest.raises(ClusterError, match=r"(head|w) has ssd: 0\.5; count them in smaller units"):
            shipped(kind, **fields)
    assert shipped("slurm", head={"cpus": 1, "custom": {"ssd": 0.5}}).head.custom == {"ssd": 0.5}


def test_shapes_count_the_machines_that_may_come():
    shapes = {name: [(dict(s.resources), s.count) for s in load_profile(name).shapes()] for name in ("ssh", "slurm")}
    assert shapes["ssh"] == [({"CPU": 4.0, "GPU": 0.0}, 1), ({"CPU": 8.0, "GPU": 1.0}, 2)]
    assert shapes["slurm"] == [({"CPU": 32.0, "GPU": 4.0}, 1), ({"CPU": 32.0, "GPU": 4.0}, 3)]


def test_reading_a_profile_does_not_import_ray():
    program = "import sys, clusters; clusters.load_profile('aws'); sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
