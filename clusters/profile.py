"""Profiles: where a search runs, as one small YAML file, validated like a spec."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import yaml
from pydantic import Field, RootModel

from clusters.errors import ClusterError
from clusters.kinds import (
    AwsProfile,
    ExistingProfile,
    GcpProfile,
    KubernetesProfile,
    LocalProfile,
    SlurmProfile,
    SshProfile,
)

Profile: TypeAlias = (
    LocalProfile | ExistingProfile | SshProfile | AwsProfile | GcpProfile | KubernetesProfile | SlurmProfile
)


class ProfileFile(RootModel[Annotated[Profile, Field(discriminator="kind")]]):
    """What a profile's file may hold: one profile of one of the kinds."""


def named_profiles() -> dict[str, str]:
    """Return the profiles that ship with the package: name to YAML text."""
    folder = resources.files("clusters") / "profiles"
    return {
        file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8")
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".yaml")
    }


def load_profile(name_or_path: str) -> Profile:
    """Read a profile from a file or by its name.

    Args:
        name_or_path: Path of a YAML file, or the name of a profile that ships with the package.

    Raises:
        ClusterError: If there is no such profile, or it is no YAML.
        pydantic.ValidationError: If it says something impossible; its fields are those of :class:`ProfileFile`.
    """
    raw = _read(name_or_path)
    if not isinstance(raw, dict):
        raise ClusterError(f"{name_or_path}: a profile is a mapping of fields, but this is a {type(raw).__name__}")
    raw.setdefault("name", Path(name_or_path).stem)
    return ProfileFile.model_validate(raw).root


def _read(name_or_path: str) -> Any:
    path = Path(name_or_path)
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else _shipped(name_or_path)
        return yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ClusterError(f"{name_or_path}: cannot be read as a text file ({error})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}" if mark else ""
        raise ClusterError(f"{name_or_path}{place}: not valid YAML: {getattr(error, 'problem', error)}") from error


def _shipped(name: str) -> str:
    shipped = named_profiles()
    if name in shipped:
        return shipped[name]
    if Path(name).suffix in {".yaml", ".yml"}:
        raise ClusterError(f"{name}: no such file; write the path of a profile or one of {', '.join(shipped)}")
    nearest = difflib.get_close_matches(name, shipped, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise ClusterError(f"unknown profile {name!r}: {hint}known are {', '.join(shipped)}, or the path of a YAML file")
