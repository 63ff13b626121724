"""Compressed models as files.

A file is a safetensors file with a psi for each group, the layers' scales, and the bytes of all uncompressed tensors
in one, in the order of the model's state: a header entry for each of hundreds of tensors would outweigh a small psi.
Its metadata hold the version of the format, the configuration, a fingerprint of the architecture and a checksum. No
index and no code is stored; nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rps_core.compress import install
from rps_core.config import RPSConfig
from rps_core.group import Group
from rps_core.planning import plan, psi_key
from rps_core.quantize import pack, relative_error, unpack
from rps_core.sharing import sharing_of
from rps_core.state import layer_scales, tensors_of

FORMAT_VERSION = 2
_KEY = "rps_core"
_CHECKSUM = "sha256"
_SCALES = "scales"
_PLAIN = "plain"
_FILLED = "filled"


@dataclass(frozen=True)
class SavedFile:
    """What was written.

    Attributes:
        path: The file.
        size_bytes: Its size.
        psi_error: ``|psi - stored| / |psi|`` of each group, by the group's name; 0 unless ``psi_dtype`` rounds.
    """

    path: Path
    size_bytes: int
    psi_error: dict[str, float]


def save_compressed(model: nn.Module, path: str | os.PathLike[str]) -> SavedFile:
    """Write a compressed model to a file that appears whole or not at all.

    Args:
        model: A compressed model, or a wrapper of one.
        path: Where to; an existing file is replaced.

    Returns:
        What was written, with the error of rounding psi to ``RPSConfig.psi_dtype``.

    Raises:
        TypeError: If ``model`` is no module.
        ValueError: If it is not compressed as a whole, or its state holds something that is no tensor.
        OSError: If the file cannot be written.
    """
    root, sharing = sharing_of(model)
    tensors: dict[str, Tensor] = {}
    errors = {}
    for array in sharing.arrays:
        stored = pack(array.psi, sharing.config.psi_dtype)
        errors[array.group.name] = relative_error(array.psi.cpu(), unpack(stored))
        tensors |= {_part(array.key, number): tensor for number, tensor in enumerate(stored)}
    groups = sharing.groups
    tensors[_SCALES] = torch.tensor(layer_scales(groups), dtype=torch.float32)
    plain = plain_state(root, {array.key for array in sharing.arrays})
    tensors[_PLAIN] = torch.cat([torch.empty(0, dtype=torch.uint8), *map(as_bytes, plain.values())])
    header = {"version": FORMAT_VERSION, "config": changed_fields(sharing.config), "model": fingerprint(groups, plain)}
    if filled := filled_paddings(root, groups):
        header[_FILLED] = filled
    write_whole(Path(path), tensors, json.dumps(header, separators=(",", ":")))
    return SavedFile(Path(path), os.path.getsize(path), errors)


def round_psi_(model: nn.Module) -> bool:
    """Round the shared arrays in place to what a file keeps of them, so that model and file are one.

    Args:
        model: A compressed model, or a wrapper of one.

    Returns:
        Whether files round at all: the model is unchanged where ``RPSConfig.psi_dtype`` is float32.

    Raises:
        TypeError: If ``model`` is no module.
        ValueError: If it is not compressed as a whole.
    """
    _, sharing = sharing_of(model)
    if sharing.config.psi_dtype == "float32":
        return False
    with torch.no_grad():
        for array in sharing.arrays:
            array.psi.copy_(unpack(pack(array.psi, sharing.config.psi_dtype)))
    return True


def load_compressed(path: str | os.PathLike[str], fresh_model: nn.Module) -> nn.Module:
    """Fill a freshly built plain model from a file that :func:`save_compressed` wrote.

    Args:
        path: The file.
        fresh_model: A plain model of the architecture and dtype that was saved; its weights are replaced.

    Returns:
        ``fresh_model``, compressed.

    Raises:
        TypeError: If ``fresh_model`` is no module.
        ValueError: If the file is cut short, altered, of a newer version, of something else or for another
            architecture, or if ``fresh_model`` is compressed; the model is then unchanged.
        OSError: If the file cannot be read.
    """
    header, tensors = read_checked(Path(path))
    config = read_config(header, path)
    try:
        groups, candidates = plan(fresh_model, config, filled=header.get(_FILLED, ()))
    except ValueError as error:
        raise ValueError(
            f"{path} must be for the architecture of fresh_model, but sharing it fails: {error}"
        ) from error
    # By identity, because a module registered twice has names that no owner is listed under.
    ids = {id(candidate.parameter) for candidate in candidates}
    named = fresh_model.named_parameters(remove_duplicate=False)
    shared = {name for name, parameter in named if id(parameter) in ids}
    plain = plain_state(fresh_model, shared)
    if header["model"] != fingerprint(groups, plain):
        raise ValueError(
            f"{path} must be for the architecture of fresh_model, but the names, shapes or dtypes of its tensors differ"
        )
    psis, scales, values = take_apart(path, tensors, groups, plain, config.psi_dtype)
    layers = iter(scales)
    groups = tuple(
        replace(group, layers=tuple(replace(layer, scale=next(layers)) for layer in group.layers)) for group in groups
    )
    install(fresh_model, config, groups, psis, candidates)
    with torch.no_grad():
        for name, tensor in plain.items():
            tensor.copy_(values[name])
    return fresh_model


def plain_state(model: nn.Module, shared: set[str]) -> dict[str, Tensor]:
    """Return the tensors of a model's state but those named ``shared``; a tensor with two names comes once.

    Raises:
        ValueError: If the state holds something that is no tensor.
    """
    state: dict[str, Tensor] = {}
    seen = set()
    for name, value in tensors_of(model).items():
        if not isinstance(value, Tensor):
            raise ValueError(f"a model's state must hold tensors, but {name!r} is a {type(value).__name__}")
        if name not in shared and id(value) not in seen:
            seen.add(id(value))
            state[name] = value
    return state


def filled_paddings(root: nn.Module, groups: Sequence[Group]) -> list[str]:
    """Return the names of the layers whose row of padding shares as any other: a fresh model does not show it."""
    return [
        layer.name
        for group in groups
        for layer in group.layers
        if layer.padding is None
        and any(getattr(root.get_submodule(path), "padding_idx", None) is not None for path, _ in layer.owners)
    ]


def as_bytes(tensor: Tensor) -> Tensor:
    """Return the bytes of a tensor in row-major order, ``(bytes,)`` of uint8."""
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)


def fingerprint(groups: Sequence[Group], plain: dict[str, Tensor]) -> str:
    """Return a hash of the names, shapes and rows of padding of all tensors, and of the plain ones' dtypes."""
    layers = [[(la.name, la.block.shape, la.block.table, la.padding) for la in group.layers] for group in groups]
    rest = [(name, tuple(tensor.shape), str(tensor.dtype)) for name, tensor in plain.items()]
    return hashlib.sha256(json.dumps([layers, rest]).encode()).hexdigest()[:16]


def checksum(header: str, tensors: dict[str, Tensor]) -> str:
    """Return a hash of everything in a file: the header as it is written, and the tensors."""
    digest = hashlib.sha256(header.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(as_bytes(tensor).numpy().data)
    return digest.hexdigest()[:32]


def changed_fields(config: RPSConfig) -> dict[str, Any]:
    """Return the fields of a configuration that are not at their defaults."""
    changed = {}
    for field in fields(config):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if getattr(config, field.name) != default:
            changed[field.name] = getattr(config, field.name)
    return changed


def write_whole(path: Path, tensors: dict[str, Tensor], header: str) -> None:
    """Write a safetensors file under another name first, and give it its own when it is whole."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        save_file(tensors, partial, metadata={_KEY: header, _CHECKSUM: checksum(header, tensors)})
        os.replace(partial, path)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def read_checked(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the header and the tensors of a file, which are what was written.

    Raises:
        ValueError: If they are not.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except SafetensorError as error:
        raise ValueError(f"{path} must be a whole safetensors file, but it is cut short or altered: {error}") from error
    try:
        header = json.loads(metadata[_KEY])
        version = header["version"]
        known = {"version": int, "config": dict, "model": str}
        well_formed = all(type(header[name]) is kind for name, kind in known.items())
        well_formed &= type(header.get(_FILLED, [])) is list
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} must be a file of save_compressed, but its metadata are not") from error
    if type(version) is int and version > FORMAT_VERSION:
        raise ValueError(f"{path} has format {version}, but this rps_core reads up to {FORMAT_VERSION}: update it")
    if not well_formed or metadata.get(_CHECKSUM) != checksum(metadata[_KEY], tensors):
        raise ValueError(f"{path} must be as save_compressed wrote it, but it was altered: its checksum differs")
    return header, tensors


def read_config(header: dict[str, Any], path: str | os.PathLike[str]) -> RPSConfig:
    """Return the configuration a file names, which leaves out what is at its default, or was in its version.

    Raises:
        ValueError: If it is none.
    """
    defaults = {"gradient_scaling": "effective_update"} if header["version"] < 2 else {}
    try:
        return RPSConfig(**defaults | header["config"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} must hold a valid configuration, but: {error}") from error


def take_apart(
    path: str | os.PathLike[str],
    tensors: dict[str, Tensor],
    groups: Sequence[Group],
    plain: dict[str, Tensor],
    psi_dtype: str,
) -> tuple[list[Tensor], list[float], dict[str, Tensor]]:
    """Return each group's psi, each layer's scale and each uncompressed tensor of a file.

    Raises:
        ValueError: If one is missing or has another size or dtype than the model asks for.
    """
    taken = dict(tensors)

    def take(name: str, size: int, dtype: torch.dtype) -> Tensor:
        tensor = taken.pop(name, None)
        if tensor is None or tensor.shape != (size,) or tensor.dtype != dtype:
            raise ValueError(f"{path} must hold {name!r} with {size} entries of {dtype}, but it does not")
        return tensor

    psis = []
    for number, group in enumerate(groups):
        like = pack(torch.zeros(group.slots), psi_dtype)
        stored = tuple(take(_part(psi_key(number), i), part.numel(), part.dtype) for i, part in enumerate(like))
        psis.append(unpack(stored))
    scales = take(_SCALES, sum(len(group.layers) for group in groups), torch.float32).tolist()
    sizes = [tensor.numel() * tensor.element_size() for tensor in plain.values()]
    parts = take(_PLAIN, sum(sizes), torch.uint8).split(sizes)
    values = {
        name: part.clone().view(tensor.dtype).view(tensor.shape)  # a copy, because views ask for aligned storage
        for (name, tensor), part in zip(plain.items(), parts, strict=True)
    }
    if taken:
        raise ValueError(f"{path} must hold nothing else, but has {sorted(taken)}")
    return psis, scales, values


def _part(key: str, number: int) -> str:
    return key if number == 0 else f"{key}.{number}"
