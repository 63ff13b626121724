"""Tune's registry of trainables, asked once a search."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.tune import registry


@contextmanager
def lookups_kept() -> Iterator[None]:
    """Keep what Tune's registry answers, and forget it afterwards.

    For each trial Tune asks the head node three times for the class that every trial has, and unpickles it: of what a
    trial costs the driver a good part next to a head on the same machine, and more the farther it is.
    """
    shared: Any = getattr(registry, "_global_registry", None)
    if not (hasattr(shared, "get") and hasattr(shared, "contains")):  # It is no part of Tune's public interface.
        yield
        return
    ask = shared.get
    known: dict[tuple[str, str], Any] = {}

    def get(category: str, key: str) -> Any:
        if (category, key) not in known:
            known[category, key] = ask(category, key)
        return known[category, key]

    contains = shared.contains
    shared.get = get
    shared.contains = lambda category, key: (category, key) in known or contains(category, key)
    try:
        yield
    finally:
        for name in ("get", "contains"):  # Another search of this process may have taken them off before.
            vars(shared).pop(name, None)
