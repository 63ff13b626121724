"""From a spec to a network, with every way a user's function can disagree turned into one sentence."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from search.errors import UserError, unknown_name
from search.registry import MODELS, resolve
from search.spec import ModelSpec


def build_model(
    spec: ModelSpec,
    *,
    data_shape: tuple[int, int, int],
    classes: int,
    width: float = 1.0,
    seed: int,
    check_output: bool = True,
) -> nn.Module:
    """Build the network of a spec on the CPU, with weights that depend on ``seed`` only.

    The function is called with ``num_classes``, ``in_channels`` and ``image_size`` as far as its signature names them
    (``num_classes`` also where it takes ``**kwargs``, as torchvision's do), with ``width`` unless it is 1, and with
    ``spec.args``. The global random state is left as it was.

    Args:
        spec: Name and arguments of the model.
        data_shape: Shape of one image, ``(channels, height, width)``.
        classes: Number of classes.
        width: Factor on the number of channels, on top of ``spec.args["width"]`` if that is there; other than 1 only
            for functions that have this argument.
        seed: Seed of the initial weights.
        check_output: Whether to send two images through it, which a model on the meta device may not bear.

    Returns:
        The network in training mode; it maps ``(batch, *data_shape)`` to ``(batch, classes)``.

    Raises:
        UserError: If the model is unknown, its arguments do not fit, it cannot be built, or, where that is checked, it
            does not map such images to that many classes.
    """
    function = resolve("model", spec.name, MODELS)
    arguments = _arguments(function, spec, data_shape, classes, width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = function(**arguments)
        except Exception as error:
            given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
            raise UserError(f"model {spec.name!r}: cannot be built with {given}: {_first(error)}") from error
        if not isinstance(model, nn.Module):
            raise UserError(
                f"model {spec.name!r}: the function must return a torch.nn.Module, not {type(model).__name__}"
            )
        if check_output:
            _check_output(model, spec.name, data_shape, classes)
    return model.train()


def _arguments(
    function: Callable[..., Any], spec: ModelSpec, data_shape: tuple[int, int, int], classes: int, width: float
) -> dict[str, Any]:
    channels, height, image_width = data_shape
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError as error:  # functions written in C have none
        raise UserError(f"model {spec.name!r}: must be a function that builds a torch.nn.Module") from error
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    if "image_size" in named and height != image_width:
        raise UserError(
            f"model {spec.name!r} takes square images, but these are {height} x {image_width}: set data.image_size"
        )
    known = {"num_classes": classes, "in_channels": channels, "image_size": height}
    ours = {key: value for key, value in known.items() if key in named or (takes_any and key == "num_classes")}
    if width != 1 and "width" not in named:
        raise UserError(f"model {spec.name!r} has no argument 'width', so it cannot be made smaller (width={width:g})")
    for key in spec.args:
        if key in ours:
            raise UserError(f"model.args.{key}: leave it out, it is set from the data")
        if key not in named and not takes_any:
            raise UserError(unknown_name(f"argument in model.args of {spec.name!r}", key, named - set(ours)))
    arguments = {**ours, **spec.args}
    for parameter in parameters:
        needed = parameter.default is parameter.empty and parameter.name in named
        if needed and parameter.name not in arguments and (parameter.name != "width" or width == 1):
            raise UserError(
                f"model {spec.name!r}: its argument {parameter.name!r} has no value: give it one in model.args, or "
                "call it num_classes, in_channels or image_size, which are set from the data"
            )
    if width != 1:
        own = spec.args.get("width", 1.0)
        arguments["width"] = width * own if isinstance(own, int | float) else own
    return arguments


def _check_output(model: nn.Module, name: str, data_shape: tuple[int, int, int], classes: int) -> None:
    images = "x".join(map(str, data_shape))
    try:
        with torch.no_grad():
            output = model.eval()(torch.zeros(2, *data_shape))
    except Exception as error:
        raise UserError(f"model {name!r}: cannot take images of shape {images}: {_first(error)}") from error
    shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if shape != (2, classes):
        raise UserError(
            f"model {name!r}: must map 2 images of shape {images} to (2, {classes}), one number for each "
            f"class, but gave {shape}"
        )


def _first(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
