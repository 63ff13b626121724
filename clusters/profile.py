"""Profiles: where a search runs, as one small YAML file, validated like a spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias, get_args

from pydantic import BaseModel, ValidationError

from clusters.errors import ClusterError, unknown
from clusters.kinds import (
    AwsProfile,
    ExistingProfile,
    GcpProfile,
    KubernetesProfile,
    LocalProfile,
    SlurmProfile,
    SshProfile,
)
from clusters.yaml_text import parse_yaml

Profile: TypeAlias = (
    LocalProfile | ExistingProfile | SshProfile | AwsProfile | GcpProfile | KubernetesProfile | SlurmProfile
)
Explain: TypeAlias = Callable[[ValidationError, type[BaseModel]], str]
KINDS: Mapping[str, type[Profile]] = {
    model.model_fields["kind"].annotation.__args__[0]: model for model in get_args(Profile)
}


def named_profiles() -> dict[str, str]:
    """Return the profiles that ship with the package: name to YAML text."""
    folder = resources.files("clusters") / "profiles"
    return {
        file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8")
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".yaml")
    }


def load_profile(name_or_path: str, explain: Explain | None = None) -> Profile:
    """Read a profile from a file or by its name.

    Args:
        name_or_path: Path of a YAML file, or the name of a profile that ships with the package.
        explain: Turns what pydantic found into a sentence; by default its path and pydantic's own words.

    Raises:
        ClusterError: If there is no such profile, it is no YAML, or it says something impossible.
    """
    raw = _read(name_or_path)
    if not isinstance(raw, dict):
        raise ClusterError(f"{name_or_path}: a profile is a mapping of fields, but this is a {type(raw).__name__}")
    try:
        return parse_profile({"name": Path(name_or_path).stem, **raw}, explain).typed_as(name_or_path)
    except ClusterError as error:
        raise ClusterError(f"{name_or_path}: {error}") from error


def parse_profile(raw: Mapping[str, Any], explain: Explain | None = None) -> Profile:
    """Validate the fields of a profile. See :func:`load_profile`."""
    kind = raw.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ClusterError(unknown("kind", str(kind), KINDS))
    try:
        return KINDS[kind].model_validate(raw)
    except ValidationError as error:
        raise ClusterError((explain or _plain)(error, KINDS[kind])) from error


def _plain(error: ValidationError, model: type[BaseModel]) -> str:
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def _read(name_or_path: str) -> Any:
    path = Path(name_or_path)
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else _shipped(name_or_path)
        return parse_yaml(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ClusterError(f"{name_or_path}: cannot be read as a text file ({error})") from error
    except ValueError as error:
        raise ClusterError(f"{name_or_path}: {error}") from error


def _shipped(name: str) -> str:
    shipped = named_profiles()
    if name in shipped:
        return shipped[name]
    if Path(name).suffix in {".yaml", ".yml"}:
        raise ClusterError(f"{name}: no such file; write the path of a profile or one of {', '.join(shipped)}")
    raise ClusterError(unknown("profile", name, shipped) + ", or the path of a YAML file")
