"""Trained weights into a freshly built model."""

from __future__ import annotations

from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from search.errors import UserError

SHOWN_NAMES = 3


def load_weights_(model: nn.Module, content: bytes, *, where: str) -> nn.Module:
    """Set all parameters and buffers of a model to those of a file, in place.

    Args:
        model: The plain model at full width.
        content: A safetensors file of its ``state_dict``; nothing in it is unpickled.
        where: What the file is called, for messages.

    Returns:
        ``model``.

    Raises:
        UserError: If it is no such file, or of another model. The model is then unchanged.
    """
    try:
        found = load(content)
    except SafetensorError as error:
        raise UserError(
            f"model.weights: {where} is no safetensors file ({error}); "
            f"rps-search export DIR --trial ID --dense writes one, dense.safetensors"
        ) from error
    wanted = model.state_dict()
    lacking, unknown = [n for n in wanted if n not in found], [n for n in found if n not in wanted]
    differing = [
        f"{name} is {tuple(found[name].shape)} there and {tuple(tensor.shape)} in the model"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    problems = [
        *([f"it lacks {_some(lacking)}"] if lacking else []),
        *([f"the model has no {_some(unknown)}"] if unknown else []),
        *([_some(differing)] if differing else []),
    ]
    if problems:
        raise UserError(f"model.weights: {where} is of another model: {'; '.join(problems)}")
    model.load_state_dict(found)
    return model


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")
