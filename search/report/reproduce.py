"""How to run an experiment again: commands, versions, commit, seed."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from clusters.yaml_text import dump_yaml
from search.report.facts import Origin
from search.report.text import visible
from search.results import Folder
from search.results.load import SPEC_PATH
from search.spec import Spec


def shell_name(folder: Folder, file: str = "") -> str:
    """Return how a person would write the folder, or a file in it, in a shell.

    That is quoted, and relative where it lies below the current folder.
    """
    name = folder.local_root or str(folder)
    if folder.local_root:
        below = os.path.relpath(name)
        name = name if below.startswith("..") else below
    return shlex.quote(f"{name}/{file}" if file else name)


def origin(folder: Folder, spec: Spec | None, name: str) -> Origin:
    """Return the commands and facts for one experiment.

    Args:
        folder: The experiment folder.
        spec: Its spec, or None where it has none.
        name: Name of the experiment.
    """
    place = shell_name(folder)
    commands = [f'rps-search query {place} "SELECT * FROM frontier"', f"rps-search frontier {place}"]
    if spec is None:
        return Origin(visible(name), commands, [("Spec", "the folder holds none that can be read")], None)
    again = shlex.quote(str(Path(name).name + "-again"))
    commands = [
        f"rps-search launch {shell_name(folder, SPEC_PATH)} --storage {again}",
        f"rps-search resume {place}",
        *commands,
    ]
    facts = [
        ("Seed", str(spec.seed)),
        ("Model", visible(spec.model.name)),
        ("Data", visible(spec.data.name)),
        ("Trials", f"{spec.trials:,}, {spec.repeats} for each proposal" if spec.repeats > 1 else f"{spec.trials:,}"),
        ("Sampler", spec.search.sampler),
    ]
    if spec.provenance:
        facts += [
            ("Launched", visible(spec.provenance.created_at)),
            ("Commit", visible(spec.provenance.git_commit or "not in a git repository")),
            ("Versions", ", ".join(visible(f"{k} {v}") for k, v in sorted(spec.provenance.versions.items()))),
        ]
    changed = spec.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return Origin(visible(name), commands, facts, dump_yaml(changed, ascii_only=True))
