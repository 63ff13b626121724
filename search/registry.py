"""Names to functions: what ships with the package and what the user brings, resolved the same way.

A registry is a table from a name to ``"package.module:function"``. Tables hold strings, so that reading a spec or a
result folder never imports torch.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from search.errors import UserError, unknown_name

METHODS: Mapping[str, str] = {
    "dense": "search.methods.plain:dense",
    "small": "search.methods.plain:small",
    "rps": "search.methods.sharing:rps",
    "rand": "search.methods.pruning:prune",
    "mag": "search.methods.pruning:prune",
    "snip": "search.methods.pruning:prune",
    "grasp": "search.methods.pruning:prune",
    "synflow": "search.methods.pruning:prune",
    "erk": "search.methods.pruning:prune",
    "uniform": "search.methods.pruning:prune",
    "channels": "search.methods.channels:channels",
    "ltr": "search.methods.tickets:ltr",
}
MODELS: Mapping[str, str] = {
    "resnet20": "search.models.resnet:resnet20",
    "vgg11": "search.models.vgg:vgg11",
    "vgg16": "search.models.vgg:vgg16",
    "mlp": "search.models.mlp:mlp",
    "vit": "search.models.vit:vit",
}
DATASETS: Mapping[str, str] = {
    "digits": "search.data.digits:digits",
    "cifar10": "search.data.torchvision_sets:cifar10",
    "cifar100": "search.data.torchvision_sets:cifar100",
    "tiny_imagenet": "search.data.folders:tiny_imagenet",
    "folder": "search.data.folders:image_folder",
    "parquet": "search.data.parquet:parquet",
}


def check_name(what: str, name: str, table: Mapping[str, str]) -> str:
    """Return ``name`` if it is in the table or has the form ``package.module:function``.

    Raises:
        ValueError: With the known names and the nearest one.
    """
    if name in table:
        return name
    module, colon, function = name.partition(":")
    if colon and function.isidentifier() and all(part.isidentifier() for part in module.split(".")):
        return name
    if not table:
        raise ValueError(f"{what} must be given as package.module:function, but got {name!r}")
    raise ValueError(unknown_name(what, name, table) + ", or your own as package.module:function")


def resolve(what: str, name: str, table: Mapping[str, str]) -> Callable[..., Any]:
    """Import and return the function that ``name`` stands for.

    Raises:
        UserError: If the name is unknown, its module cannot be imported or holds no such function.
    """
    try:
        target = table.get(name) or check_name(what, name, table)
    except ValueError as error:
        raise UserError(str(error)) from error
    module_name, _, function_name = target.partition(":")
    try:
        module = _import(module_name)
    except Exception as error:  # What a user's module does on import is not known.
        missing = isinstance(error, ModuleNotFoundError) and name not in table
        hint = "; it must lie in the current folder or on PYTHONPATH, or be installed" if missing else ""
        raise UserError(f"{what} {name!r}: cannot import {module_name} ({error}){hint}") from error
    if not hasattr(module, function_name):
        raise UserError(f"{what} {name!r}: {module_name} has no function {function_name!r}")
    function: Callable[..., Any] = getattr(module, function_name)
    if not callable(function):
        raise UserError(f"{what} {name!r} must be a function, but {function_name} is {function!r} in {module_name}")
    return function


def _import(name: str) -> ModuleType:
    """Import a module, from the current folder where it is nowhere else: Ray does so in its workers, too."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        if (here := os.getcwd()) in sys.path:
            raise
        sys.path.append(here)
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            sys.path.remove(here)
            raise
