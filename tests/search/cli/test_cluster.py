from contextlib import nullcontext

import pytest
import yaml
from typer.testing import CliRunner

from clusters.profile import load_profile, named_profiles
from clusters.versions import CLIENT_VERSIONS
from search.cli.app import app
from search.cli.cluster import must_submit
from search.errors import UserError


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


def test_profiles_are_listed():
    names = [line.split()[0] for line in run("cluster", "profiles").output.splitlines()]
    assert {"local", "ssh", "aws", "gcp", "kubernetes", "slurm"} <= set(names)


def test_a_profile_is_rendered():
    assert yaml.safe_load(run("cluster", "render", "aws").output)["provider"]["type"] == "aws"


def test_a_kubernetes_job_holds_its_spec():
    done = run("cluster", "render", "kubernetes", "--spec", "quickstart", "--storage", "s3://b/x")
    config_map, job = yaml.safe_load_all(done.output)
    assert yaml.safe_load(config_map["data"]["spec.yaml"])["name"] == "quickstart"
    assert job["kind"] == "RayJob"


def test_the_profiles_own_storage_does_not_travel(tmp_path):
    path = profile(tmp_path, named_profiles()["kubernetes"].replace("storage: null", "storage: s3://key:secret@b/y"))
    done = run("cluster", "render", path, "--spec", "studies/figure_digits", "--storage", "s3://b/x")
    config_map, job = yaml.safe_load_all(done.output)
    assert job["metadata"]["name"] == "rps-figure-digits"
    assert "secret" not in done.output
    assert load_profile(profile(tmp_path, config_map["data"]["profile.yaml"])).kind == "kubernetes"


def profile(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: local\ncpu: 2\n", "cpu: unknown field; did you mean 'cpus'?"),
        ("kind: lokal\n", "unknown kind 'lokal': did you mean 'local'?"),
        ("kind: local\ncpus: -1\n", "cpus: input should be greater than 0, but got -1"),
    ],
)
def test_a_profile_that_is_wrong_says_where(tmp_path, text, message):
    done = run("cluster", "render", profile(tmp_path, text))
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cluster", "render", "local"], "makes no cluster"),
        (["cluster", "render", "kubernetes", "--spec", "quickstart"], "--storage: the job needs an experiment folder"),
        (
            ["cluster", "render", "kubernetes", "--spec", "quickstart", "--storage", "runs/x"],
            "a search on a cluster needs a folder that all machines reach",
        ),
        (
            ["launch", "quickstart", "--cluster", "slurm", "--storage", "s3://key:secret@b/x"],
            "must hold no credentials",
        ),
        (["cluster", "render", "aws", "--storage", "s3://b/x"], "--storage: only the job that --spec makes"),
        (["cluster", "render", "aws", "--spec", "quickstart"], "only kubernetes has a file for one job"),
        (["launch", "quickstart", "--cluster", "aws"], "needs a folder that all machines reach"),
        (["attach", "j", "--cluster", "local"], "there are no jobs to look at"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(arguments, message):
    done = run(*arguments)
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)


class Interrupted:
    """Jobs of a cluster that is not there; Ctrl-C comes as soon as one is looked at."""

    def submit(self, search):
        return "job 1"

    def follow(self, job):
        raise KeyboardInterrupt


def test_after_ctrl_c_the_line_that_attaches_again_is_one_that_works(monkeypatch, tmp_path):
    monkeypatch.setattr("clusters.reach.reach", lambda profile: nullcontext(Interrupted()))
    path = profile(tmp_path, named_profiles()["ssh"])
    done = run("launch", "quickstart", "--cluster", path, "--storage", "s3://b/x")
    assert done.exit_code == 130
    assert done.stderr.splitlines()[-1].endswith(f"see it again with: rps-search attach 'job 1' --cluster {path}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["launch", "quickstart", "--cluster", "slurm", "--storage", "s3://b/x"], "needs the program sbatch"),
        (["stop", "7", "--cluster", "slurm"], "needs the program scontrol"),
        (["logs", "j", "--cluster", "kubernetes"], "needs the program kubectl"),
        (["logs", "j", "--cluster", "aws"], "needs the program ssh"),
    ],
)
def test_programs_that_are_missing_are_named(monkeypatch, tmp_path, arguments, message):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    done = run(*arguments)
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)
    assert not list((tmp_path / ".rps-search").rglob("spec.yaml")), "nothing half-made is left"


class Ended:
    """Jobs of a cluster that end at once, in one state; what was submitted is kept."""

    def __init__(self, state):
        self.state, self.submitted = state, []

    def submit(self, search):
        self.submitted.append(search)
        return "j"

    def follow(self, job):
        yield "shown\n"

    def status(self, job):
        return self.state


@pytest.mark.parametrize(("state", "code"), [("SUCCEEDED", 0), ("ENDED", 0), ("FAILED", 3), ("STOPPED", 130)])
def test_a_job_that_is_followed_ends_as_the_search_did(monkeypatch, tmp_path, state, code):
    monkeypatch.setattr("clusters.reach.reach", lambda profile: nullcontext(Ended(state)))
    done = run("attach", "j", "--cluster", "slurm")
    assert (done.exit_code, done.stdout) == (code, "shown\n")
    assert (f"job j {state.lower()}" in done.stderr) == (code != 0)


@pytest.mark.parametrize(
    ("options", "carries", "storage"),
    [
        ([], True, "file:///shared/runs/quickstart"),
        (["--storage", "s3://b/x"], True, "s3://b/x"),
        (["code: image"], False, "file:///shared/runs/quickstart"),
    ],
)
def test_what_is_submitted_is_what_the_profile_and_the_options_say(monkeypatch, tmp_path, options, carries, storage):
    jobs = Ended("SUCCEEDED")
    monkeypatch.setattr("clusters.reach.reach", lambda profile: nullcontext(jobs))
    text = "kind: slurm\nnodes: 1\nhead: {cpus: 4}\nstorage: file:///shared/runs/\n"
    fields = [option for option in options if ": " in option]
    path = profile(tmp_path, text + "".join(fields))
    assert run("launch", "quickstart", "--cluster", path, *(options if not fields else [])).exit_code == 0
    (search,) = jobs.submitted
    assert (search.carry_code, search.storage) == (carries, storage)
    assert yaml.safe_load(search.profile_yaml)["head"]["cpus"] == 4
    assert "storage" not in yaml.safe_load(search.profile_yaml)


def test_a_search_that_was_submitted_is_not_submitted_again(monkeypatch):
    slurm = load_profile("slurm")
    monkeypatch.delenv(CLIENT_VERSIONS, raising=False)
    assert must_submit(slurm)
    assert not must_submit(load_profile("local"))
    monkeypatch.setenv(CLIENT_VERSIONS, "{}")
    assert not must_submit(slurm)
