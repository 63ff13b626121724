"""HashedNet (Chen et al., arXiv:1504.04788): every weight is hashed alone."""

from __future__ import annotations

from typing import ClassVar

from rps_core.mappings.robe_z import RobeZ


class HashedNet(RobeZ):
    """``h(i)`` is uniform on [m], independently for each i: ROBE-Z with Z = 1 (arXiv:2108.02191)."""

    name: ClassVar[str] = "hashed_net"
    chunk: ClassVar[int] = 1
