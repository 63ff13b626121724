"""Clusters on the command line: what a profile renders to, searches as jobs, and what a search would cost."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.errors import UserError
from search.spec.load import describe

if TYPE_CHECKING:
    from clusters.jobs import Jobs
    from clusters.profile import Profile
    from search.spec import Spec

TRIALS_FAILED = 3
INTERRUPTED = 130

ProfileName = Annotated[str, typer.Argument(metavar="PROFILE", help="A profile's name or YAML file.")]
Cluster = Annotated[str, typer.Option(help="Profile that the job was submitted with: a name or a YAML file.")]
Job = Annotated[str, typer.Argument(metavar="JOB", help="Id that launch printed.")]

cluster_app = typer.Typer(help="Clusters to run searches on.", rich_markup_mode=None)


def read_profile(name: str) -> Profile:
    """Read a profile; what is wrong with it is the user's error."""
    from clusters import load_profile

    with one_sentence():
        return load_profile(name, describe)


def must_submit(profile: Profile) -> bool:
    """Return whether a search runs on the profile's cluster, and this process is not there."""
    from clusters.versions import submitted

    return profile.submits and not submitted()


def submit(spec: Spec, profile: Profile, storage: str | None) -> None:
    """Submit a search to a cluster and show what it prints until it ends; Ctrl-C leaves it running."""
    from clusters.jobs import Search
    from clusters.kinds import ClusterProfile
    from clusters.reach import reach
    from clusters.render import to_yaml

    base = profile.storage if isinstance(profile, ClusterProfile) else None
    uri = storage or _default_storage(base, spec) or f"runs/{spec.name}"
    _refuse_unsuitable(uri)
    search = Search(
        spec_yaml=to_yaml(spec.model_dump(mode="json", exclude={"provenance"})),
        profile_yaml=_profile_yaml(profile),
        storage=uri,
        carry_code=getattr(profile, "code", "tree") == "tree",
        own_code=Path.cwd(),
    )
    with one_sentence(), reach(profile) as jobs:
        job = jobs.submit(search)
        print(f"job {job}; results go to {uri}", file=sys.stderr)
        _follow(jobs, job, profile)


def _default_storage(base: str | None, spec: Spec) -> str | None:
    """Return the experiment's folder in the storage that a profile names, or None if it names none."""
    return f"{base.rstrip('/')}/{spec.name}" if base else None


def _refuse_unsuitable(uri: str) -> None:
    """Refuse storage that a submitted search cannot use."""
    from clusters.uri import unsuitable_storage

    problem = unsuitable_storage(uri)
    if problem:
        raise UserError(problem)


def attach(job: Job, cluster: Cluster) -> None:
    """Show what a job prints, from its beginning until it ends; Ctrl-C leaves it running."""
    from clusters.reach import reach

    profile = read_profile(cluster)
    with one_sentence(), reach(profile) as jobs:
        _follow(jobs, job, profile)


def logs(job: Job, cluster: Cluster) -> None:
    """Print what a job has printed so far."""
    from clusters.reach import reach

    with one_sentence(), reach(read_profile(cluster)) as jobs:
        print(jobs.logs(job), end="")


def stop(job: Job, cluster: Cluster) -> None:
    """Stop a job; its search can be resumed."""
    from clusters.reach import reach

    with one_sentence(), reach(read_profile(cluster)) as jobs:
        jobs.stop(job)
    print(f"job {job} was told to stop; the same launch goes on with its search", file=sys.stderr)


@cluster_app.command("profiles")
def profiles() -> None:
    """List the profiles that ship with the package."""
    from clusters.profile import named_profiles

    for name, text in named_profiles().items():
        print(f"{name:12} {text.splitlines()[0].removeprefix('# ')}")


@cluster_app.command("render")
def render(
    profile: ProfileName,
    spec: Annotated[str | None, typer.Option(help="Kubernetes: print a job that runs this spec.")] = None,
    storage: Annotated[str | None, typer.Option(metavar="URI", help="Experiment folder of that job.")] = None,
) -> None:
    """Print what makes the cluster: YAML for ray up or kubectl, a script for sbatch."""
    from clusters.render import render as rendered

    if storage is not None and spec is None:
        raise UserError("--storage: only the job that --spec makes has a folder; add --spec, or leave it out")
    read = read_profile(profile)
    with one_sentence():
        print(_rendered_job(read, spec, storage) if spec else rendered(read), end="")


def _rendered_job(profile: Profile, spec_name: str, storage: str | None) -> str:
    from clusters.kinds import KubernetesProfile
    from clusters.render import to_yaml
    from clusters.render.kuberay import ray_job
    from search.spec import load_spec

    spec = load_spec(spec_name)
    if not isinstance(profile, KubernetesProfile):
        raise UserError(f"--spec: only kubernetes has a file for one job, but {profile.name!r} is {profile.kind}")
    uri = storage or _default_storage(profile.storage, spec)
    if uri is None:
        raise UserError("--storage: the job needs an experiment folder, for example s3://BUCKET/NAME")
    _refuse_unsuitable(uri)
    texts = (to_yaml(spec.model_dump(mode="json")), _profile_yaml(profile))
    return to_yaml(*ray_job(profile, f"rps-{spec.name}", *texts, uri))


def _profile_yaml(profile: Profile) -> str:
    """Return the profile as it travels: without its storage, which is named apart and may hold credentials."""
    from clusters.render import to_yaml

    return to_yaml(profile.model_dump(mode="json", exclude={"storage"}))


def _follow(jobs: Jobs, job: str, profile: Profile) -> None:
    try:
        for text in jobs.follow(job):
            print(text, end="", flush=True)
    except KeyboardInterrupt:
        again = f"rps-search attach {shlex.quote(job)} --cluster {profile.argument}"
        print(f"\nrps-search: left; the job goes on; see it again with: {again}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    status = jobs.status(job)
    if status in {"FAILED", "STOPPED"}:
        print(f"rps-search: job {job} {status.lower()}", file=sys.stderr)
        sys.exit(TRIALS_FAILED if status == "FAILED" else INTERRUPTED)


@contextmanager
def one_sentence() -> Iterator[None]:
    """Make what a cluster cannot do the user's error: one line and exit code 2."""
    from clusters import ClusterError

    try:
        yield
    except ClusterError as error:
        raise UserError(str(error)) from error
