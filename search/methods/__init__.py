"""Compression methods as a trial sees them: one function each, from a workbench to a compressed model."""

from search.methods.base import (
    Compressed,
    Prospect,
    Workbench,
    check_arguments,
    check_feasible,
    checked_by,
    compress,
    layer_shapes,
    load_trained,
    loads_with,
    stored_sparsely,
)

__all__ = [
    "Compressed",
    "Prospect",
    "Workbench",
    "check_arguments",
    "check_feasible",
    "checked_by",
    "compress",
    "layer_shapes",
    "load_trained",
    "loads_with",
    "stored_sparsely",
]
