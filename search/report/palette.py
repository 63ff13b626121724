"""How a method looks, the same in every picture: a colour of Okabe and Ito's palette and a marker shape.

Colours that readers with any colour vision tell apart: https://jfly.uni-koeln.de/color/ (Okabe and Ito, 2008). Methods
that share a colour differ in shape, so that a picture can be read without colours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

COLORS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8f96", "#16191d")
"""The colours by their index; page.css has the same as ``--m0`` to ``--m7``, and lighter ones for dark screens."""

MATPLOTLIB_MARKERS = {
    "circle": "o",
    "square": "s",
    "triangle": "^",
    "diamond": "D",
    "wedge": "v",
    "plus": "P",
    "star": "*",
    "hexagon": "h",
    "cross": "X",
}
"""Each shape that draw.js knows, as matplotlib calls it."""


@dataclass(frozen=True)
class Look:
    """Colour and shape of a method."""

    color: int
    """Index into :data:`COLORS`."""
    shape: str
    """Key of :data:`MATPLOTLIB_MARKERS`."""


KNOWN = {
    "rps": Look(0, "circle"),
    "synflow": Look(1, "square"),
    "snip": Look(2, "triangle"),
    "grasp": Look(3, "diamond"),
    "mag": Look(4, "wedge"),
    "ltr": Look(5, "plus"),
    "rand": Look(6, "cross"),
    "small": Look(7, "hexagon"),
    "dense": Look(7, "star"),
    "erk": Look(1, "diamond"),
    "uniform": Look(2, "hexagon"),
    "channels": Look(3, "square"),
}


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """Return a look for each method: the usual ones for those that ship, the remaining ones for others, by name."""
    names = sorted(set(methods))
    taken = set(KNOWN.values())
    shapes = list(MATPLOTLIB_MARKERS)
    # Eight colours and nine shapes have no common divisor: this runs through all pairs, changing both at each step.
    pairs = (Look(i % len(COLORS), shapes[i % len(shapes)]) for i in range(len(COLORS) * len(shapes)))
    spare = [look for look in pairs if look not in taken]
    others = [name for name in names if name not in KNOWN]
    own = {name: spare[index % len(spare)] for index, name in enumerate(others)}
    return {name: KNOWN.get(name) or own[name] for name in names}
