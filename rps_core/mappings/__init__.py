"""Mappings from virtual weights to slots. A new one is a module here and a line in ``MAPPINGS``."""

from __future__ import annotations

import difflib

from rps_core.mappings.base import Block, SlotMapping
from rps_core.mappings.hashed_net import HashedNet
from rps_core.mappings.load import cache_lines, load, slot_uses
from rps_core.mappings.random_fold import RandomFold
from rps_core.mappings.roast import Roast
from rps_core.mappings.robe_z import RobeZ

MAPPINGS: dict[str, type[SlotMapping]] = {mapping.name: mapping for mapping in (RandomFold, Roast, RobeZ, HashedNet)}


def mapping_class(name: str) -> type[SlotMapping]:
    """Return the mapping registered under ``name``.

    Raises:
        ValueError: If there is none; the message names the known ones and the nearest.
    """
    if name not in MAPPINGS:
        nearest = difflib.get_close_matches(str(name), MAPPINGS, n=1, cutoff=0.0)[0]
        raise ValueError(f"mapping must be one of {sorted(MAPPINGS)}, but got {name!r}; did you mean {nearest!r}?")
    return MAPPINGS[name]


__all__ = ["MAPPINGS", "Block", "RandomFold", "SlotMapping", "cache_lines", "load", "mapping_class", "slot_uses"]
