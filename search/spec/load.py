"""Reading a spec: YAML, overrides, and errors that say where, what is wrong and what to write instead."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from clusters.yaml_text import parse_yaml
from search.errors import UserError, did_you_mean, unknown_name
from search.spec.fields import flattened
from search.spec.schema import Spec


def named_specs() -> dict[str, str]:
    """Return the specs that ship with the package: name to YAML text."""
    folder = resources.files("search") / "specs"
    found = {}
    for entry in [folder, *(child for child in folder.iterdir() if child.is_dir())]:
        prefix = "" if entry is folder else f"{entry.name}/"
        for file in entry.iterdir():
            if file.name.endswith(".yaml"):
                found[prefix + file.name.removesuffix(".yaml")] = file.read_text(encoding="utf-8")
    return dict(sorted(found.items()))


def load_spec(source: str, overrides: Iterable[str] = ()) -> Spec:
    """Read a spec from a file or by its name.

    Args:
        source: Path of a YAML file, or the name of a spec that ships with the package.
        overrides: Assignments ``"a.b=value"``; the value is read as YAML.

    Raises:
        UserError: If there is no such spec, it is no YAML, or it says something impossible.
    """
    path = Path(source)
    if _is_file(path):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{source}: cannot be read as a text file ({error})") from error
    else:
        shipped = named_specs()
        if source not in shipped:
            if path.suffix in {".yaml", ".yml"}:
                raise UserError(f"{source}: no such file; write the path of a spec or one of {', '.join(shipped)}")
            raise UserError(unknown_name("spec", source[:80], shipped) + ", or the path of a YAML file")
        text = shipped[source]
    return parse_spec(text, overrides, where=source)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, such as a spec's own text, or a folder that may not be looked into
        return False


def parse_spec(text: str, overrides: Iterable[str] = (), *, where: str = "spec") -> Spec:
    """Validate the text of a spec. See :func:`load_spec`."""
    try:
        raw = parse_yaml(text)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    return make_spec({} if raw is None else raw, overrides, where=where)


def make_spec(raw: Any, overrides: Iterable[str] = (), *, where: str = "spec") -> Spec:
    """Validate the fields of a spec, which are changed by ``overrides``. See :func:`load_spec`."""
    if not isinstance(raw, dict):
        raise UserError(f"{where}: a spec is a mapping of fields, but this is a {type(raw).__name__}")
    for override in overrides:
        _apply(raw, override)
    try:
        spec = Spec.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{where}: {describe(error, Spec)}") from error
    for field, value in flattened(spec.model_dump()).items():
        # A path of another encoding, as Python names it; no spec.yaml could hold it.
        if _SURROGATE.search(field + json.dumps(value, ensure_ascii=False, default=str)):
            raise UserError(
                f"{where}: {field}: must be valid UTF-8, but got {_short(value)}; rename the file or folder"
            )
    return spec


def _apply(raw: dict[str, Any], override: str) -> None:
    """Set one dotted key in the raw mapping, making the mappings on the way."""
    if not isinstance(override, str):
        raise UserError(f"--set {override!r}: write it as text, for example 'train.epochs=10'")
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise UserError(f"--set {override}: write it as key=value, for example --set train.epochs=10")
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise UserError(f"--set {override}: its value: {error}") from error
    *parents, last = _steps(key)
    node = raw
    for depth, part in enumerate(parents):
        child = node.get(part)
        if isinstance(child, list) and all(isinstance(name, str) for name in child):
            child = {name: None for name in child}
        if child is None:
            child = {}
        if not isinstance(child, dict):
            raise UserError(f"--set {override}: {'.'.join(parents[: depth + 1])} is {child!r} and has no fields")
        node[part] = child
        node = child
    node[last] = value


def _steps(key: str) -> list[str]:
    """Return the names on the way to a field; a method of one's own, package.module:function, has dots in its name."""
    found = _OWN_METHOD.fullmatch(key)
    if found is None:
        return key.split(".")
    return ["space", "methods", found["name"], *(found["rest"].split(".") if found["rest"] else [])]


_OWN_METHOD = re.compile(r"space\.methods\.(?P<name>[\w.]+:\w+)(\.(?P<rest>.+))?")
_SURROGATE = re.compile("[\ud800-\udfff]")

# Where pydantic's own words do not say what to write.
_WANTED = {
    "byte_size": "must be a size such as 200kB or 1MiB",
    "too_short": "at least one must be given",
    "list_type": "must be a list such as [a, b]",
}


def describe(error: ValidationError, root: type[BaseModel]) -> str:
    """Return one sentence for the first problem: its path, what is wrong and the nearest valid name.

    Used for every pydantic model of the project, specs and cluster profiles alike.
    """
    problems = error.errors(include_url=False)
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    within, wanted = _several_ways(first, problems)
    path = [str(part) for part in within if not str(part).startswith("(")]
    place = ".".join(path)
    if first["type"] == "extra_forbidden":
        known = list(_fields_at(root, path[:-1]))
        if path[-1] in known:
            # Of two ways to write a value: a field of the one beside a field of the other.
            return f"{place}: does not go together with what stands beside it; write one of them"
        text = f"{place}: unknown field; {did_you_mean(path[-1], known)}known here are {', '.join(sorted(known))}"
    elif first["type"] in {"value_error", "assertion_error"}:
        message = first["msg"].removeprefix("Value error, ")
        text = f"{place}: {message}" if place else message
    else:
        wanted = wanted or _WANTED.get(first["type"]) or _lower_first(first["msg"])
        text = f"{place}: {wanted}, but got {_short(first['input'])}"
    more = len([p for p in problems if p is not first and p["loc"][: len(within)] != within])
    return text + (f" (and {more} more problem{'s' if more > 1 else ''})" if more else "")


def _several_ways(problem: ErrorDetails, problems: Sequence[ErrorDetails]) -> tuple[tuple[int | str, ...], str]:
    """Return where a problem is, and what is wanted there if pydantic tells it of one of several ways to write a value.

    Pydantic names each of the ways apart, the first of which (a truth value, a number) is seldom what was meant.
    """
    place, kind = problem["loc"], problem["type"]
    if place and place[-1] == "[key]":
        return place[:-2], "each name must be text, in quotes if YAML takes it for something else"
    searched = ", a range {low: 1, high: 2} or a choice {choices: [1, 2]}" if "(value)" in place else ""
    if kind.startswith("bool_") and place[-1] == "bool":
        others = [str(p["loc"][len(place) - 1]) for p in problems if p["loc"][: len(place) - 1] == place[:-1]]
        names = [other.removeprefix("literal['").removesuffix("']") for other in others if other.startswith("literal")]
        if names:
            return place[:-1], f"must be true, false or {names[0]}"
        lists = " or a list of those" if any(other.startswith("list") for other in others) else ""
        return place[:-1], f"must be a number, a truth value, a text{searched}{lists}"
    return place, f"must be a number{searched}" if searched and kind in {"float_type", "float_parsing"} else ""


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _fields_at(model: type[BaseModel], path: list[str]) -> Mapping[str, Any]:
    """Return the fields of the model that a path of keys leads to."""
    nodes: list[Any] = [model]
    for key in path:
        nodes = [child for node in nodes for child in _children(node, key)]
    found: dict[str, Any] = {}
    for node in nodes:
        found |= node.model_fields
    return found


def _children(model: type[BaseModel], key: str) -> list[Any]:
    field = model.model_fields.get(key)
    return _models_in(field.annotation) if field else [model]


def _models_in(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in {Union, UnionType, dict, list} or hasattr(annotation, "__metadata__"):
        return [model for part in get_args(annotation) for model in _models_in(part)]
    return []
