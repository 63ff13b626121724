"""The YAML of people: read safely, and strictly where YAML itself is lax."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml


def parse_yaml(text: str) -> Any:
    """Return what a text says in YAML, made of plain mappings, lists and scalars.

    ``1e-3`` is a number, as in YAML 1.2: YAML 1.1 takes it for text, and nobody who writes it means that.

    Raises:
        ValueError: If it is not valid YAML, a part of it holds itself, or a mapping has a key twice, of which YAML lets
            the last one win without a word. Its message is one line and begins with the place, where one is known.
    """
    try:
        found = yaml.load(text, _Loader)
        _refuse_cycles(found, set(), set())
        return found
    except RecursionError:
        raise ValueError("not valid YAML here: it is nested too deeply") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{place}not valid YAML: {getattr(error, 'problem', None) or 'cannot be read'}") from error
    except (ValueError, AttributeError) as error:  # a date that is none, a tag on what it does not fit
        raise ValueError(f"not valid YAML: {error}") from error


def dump_yaml(content: Any, *, ascii_only: bool = False) -> str:
    """Return the text that :func:`parse_yaml` reads as ``content``, mappings in their own order."""
    return yaml.dump(content, Dumper=Dumper, sort_keys=False, allow_unicode=not ascii_only)


def _refuse_cycles(value: Any, above: set[int], seen: set[int]) -> None:
    """Refuse a mapping or list that holds itself, which an alias (``&a [*a]``) can say."""
    if not isinstance(value, dict | list) or id(value) in seen:
        return
    if id(value) in above:
        raise ValueError("an alias (*) stands within what it repeats")
    above.add(id(value))
    for item in value.values() if isinstance(value, dict) else value:
        _refuse_cycles(item, above, seen)
    above.remove(id(value))
    seen.add(id(value))


class _Loader(yaml.SafeLoader):
    """Refuses a key that is written twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            # Other keys are no field's name, and are refused further on; merges may be several.
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is written twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class Dumper(yaml.SafeDumper):
    """Quotes texts that some reader takes for a number or a truth value: ours, or that of kubectl, which is in Go."""


_EXPONENT = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+$", re.ASCII)
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("+-.0123456789"))
Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+.\d]"), list("-+.0123456789"))
Dumper.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^[yYnN]$"), list("yYnN"))
