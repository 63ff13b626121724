"""The YAML of people: read safely, and strictly where YAML itself is lax."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml


def parse_yaml(text: str) -> Any:
    """Return what a text says in YAML, made of plain mappings, lists and scalars.

    Raises:
        ValueError: If it is not valid YAML, or a mapping has a key twice, of which YAML lets the last one win without a
            word. Its message is one line and begins with the place, where one is known.
    """
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise ValueError("not valid YAML here: it is nested too deeply") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{place}not valid YAML: {getattr(error, 'problem', None) or 'cannot be read'}") from error
    except (ValueError, AttributeError) as error:  # a date that is none, a tag on what it does not fit
        raise ValueError(f"not valid YAML: {error}") from error


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
