"""The search as Python functions, for notebooks and programs. Importing this loads neither torch nor Ray."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import yaml

from search.errors import UserError

if TYPE_CHECKING:
    from search.driver.experiment import Experiment
    from search.results import Results
    from search.spec import Spec


class InterruptedSearchError(Exception):
    """The search ended before all of its trials had; :func:`resume` goes on with it."""


def launch(
    spec: str | os.PathLike[str] | Mapping[str, Any] | Spec,
    *,
    storage: str | os.PathLike[str] | None = None,
    overrides: Iterable[str] = (),
    cluster: str = "local",
) -> Results:
    """Run a search to its end and return its results; the same call again goes on where it stopped.

    A Ray that was running in this process before is used and left as it was.

    Args:
        spec: Path or name of a spec, its fields as a mapping, or a spec.
        storage: Experiment folder, a path or URI; None takes ``runs/NAME``.
        overrides: Assignments such as ``"train.epochs=10"``.
        cluster: Profile that says where trials run.

    Raises:
        UserError: If the input is wrong.
        InterruptedSearchError: If it was interrupted, or stopped by itself; the message says why.
    """
    from search.driver.experiment import create_or_open
    from search.results import Folder
    from search.spec import Spec, load_spec, parse_spec

    if isinstance(spec, str | os.PathLike):
        wanted = load_spec(os.fspath(spec), overrides)
    else:
        fields = spec.model_dump(mode="json") if isinstance(spec, Spec) else dict(spec)
        wanted = parse_spec(yaml.safe_dump(fields), overrides)
    experiment, _ = create_or_open(Folder(storage or f"runs/{wanted.name}"), wanted)
    return _run(experiment, cluster)


def resume(storage: str | os.PathLike[str], *, overrides: Iterable[str] = (), cluster: str = "local") -> Results:
    """Go on with a search and return its results. See :func:`launch`."""
    from search.driver.experiment import open_experiment
    from search.results import Folder

    return _run(open_experiment(Folder(storage), overrides), cluster)


def load(*storage: str | os.PathLike[str]) -> Results:
    """Open the results of one or more experiments, finished or not.

    Raises:
        UserError: If a folder holds no experiment.
    """
    from search.results import load as open_results

    return open_results(*storage)


def _run(experiment: Experiment, cluster: str) -> Results:
    from clusters import ClusterError, load_profile
    from search.driver.run import run_search
    from search.spec.load import describe

    try:
        profile = load_profile(cluster, describe)
    except ClusterError as error:
        raise UserError(str(error)) from error
    outcome = run_search(experiment, profile)
    if outcome.interrupted or (outcome.stop_reason and not outcome.exhausted):
        raise InterruptedSearchError(
            f"{outcome.progress.ended} of {outcome.progress.total} trials have ended; "
            f"{outcome.stop_reason or 'interrupted'}; go on with search.resume({experiment.folder.uri!r})"
        )
    return load(experiment.folder.uri)
