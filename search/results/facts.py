"""What holds for a whole experiment, ``results/meta.json``, and a trial's configuration, as readers need them.

Both may come from another program: what is not as readers need it is found here, once.
"""

from __future__ import annotations

import json
import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from search.spec.load import describe


class _Part(BaseModel):
    # Nothing is converted, for the content is used as it stands.
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class Reference(_Part):
    """The reference point of the hypervolume."""

    accuracy: float = Field(ge=0, lt=1)
    memory: float = Field(gt=0)


class Meta(_Part):
    """The facts that readers use; each may be missing, and there may be others."""

    memory: Literal["stored_bytes", "stored_parameters"] = "stored_bytes"
    dense_bytes: PositiveInt | None = None
    dense_parameters: PositiveInt | None = None
    reference: Reference | None = None
    layer_sizes: dict[str, NonNegativeInt] = {}


def parse_meta(data: bytes) -> dict[str, Any]:
    """Return the content of ``results/meta.json``.

    Raises:
        ValueError: If it is no JSON, or one of the facts is not what it should be; in one clause.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"a mapping of facts is expected, but this is a {type(found).__name__}")
    try:
        Meta.model_validate(found)
    except ValidationError as error:
        raise ValueError(describe(error, Meta)) from error
    return found


def parse_config(text: str) -> dict[str, Any] | None:
    """Return a trial's configuration, the column ``config_json``; None if it is no mapping with a learning rate."""
    try:
        found = json.loads(text)
        rate = found.get("lr") if isinstance(found, dict) else None
        if isinstance(rate, int | float) and not isinstance(rate, bool) and math.isfinite(rate):
            return found
    except (ValueError, OverflowError, RecursionError):
        pass  # of no use, like what is not finite
    return None
