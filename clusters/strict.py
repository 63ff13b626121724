"""The base of all that people write in YAML: profiles here, specs in ``search.spec``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class StrictModel(BaseModel):
    """Immutable; every key it does not know is an error, and so is a truth value where none belongs."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads ``yes`` as true, and pydantic true as 1."""
        wrong = next((item for item in _scalars(value) if isinstance(item, bool)), None)
        if wrong is not None:
            types = _types(cls.model_fields[str(info.field_name)].annotation)
            # Models look at what is theirs themselves.
            theirs = Any in types or any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in types)
            if bool not in types and (wrong is value or not theirs):
                raise ValueError(f"a truth value does not belong here, but got {wrong}")
        return value


def _types(annotation: Any) -> set[Any]:
    """Return all types that an annotation is made of, itself among them."""
    return {annotation}.union(*(_types(part) for part in get_args(annotation)))


def _scalars(value: Any) -> Iterator[Any]:
    """Yield a value, or what its mappings and lists hold."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, list | tuple):
        yield value
        return
    for item in value:
        yield from _scalars(item)
