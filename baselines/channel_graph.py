"""Which channels of a network depend on each other: what has to be cut together for the network to still fit."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from baselines.copying import copied

_POINTWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid, nn.Softplus),
    *(nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
)
# By the rank of a batch of what they pool: one rank lower they take channels for positions.
_POOLS: dict[int, tuple[type[nn.Module], ...]] = {
    3: (nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d),
    4: (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    5: (nn.MaxPool3d, nn.AvgPool3d, nn.AdaptiveAvgPool3d),
}
_POINTWISE_FUNCTIONS = {
    *(F.relu, torch.relu, F.relu6, F.leaky_relu, F.elu, F.gelu, F.silu, F.mish, torch.tanh, torch.sigmoid),
    *(F.hardswish, F.hardsigmoid, F.dropout, "relu", "relu_", "tanh", "sigmoid", "contiguous"),
}
_POOL_FUNCTIONS = {4: {F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d}}
_SPATIAL_MEANS = {torch.mean, "mean"}
_BINARY = {operator.add, operator.iadd, operator.mul, operator.imul, torch.add, torch.mul, "add", "add_", "mul", "mul_"}
_RESHAPES_TO_SIZES = {"view", "reshape", torch.reshape}
_RESHAPES = {torch.flatten, "flatten", *_RESHAPES_TO_SIZES}


@dataclass
class ChannelGroup:
    """Channels that are kept or cut together, by position.

    Attributes:
        size: Number of channels.
        producers: Names of the layers whose outputs they are.
        followers: Names of the batch-norm and depthwise layers that treat each channel apart.
        consumers: Names of the layers whose inputs they are, with the number of inputs that belong to a channel
            (more than one after a flattening).
        frozen: Whether they must all stay, since something reads them whose dependence on a channel is not known.
    """

    size: int
    producers: list[str] = field(default_factory=list)
    followers: list[str] = field(default_factory=list)
    consumers: list[tuple[str, int]] = field(default_factory=list)
    frozen: bool = False


@dataclass(frozen=True)
class _Value:
    """A tensor whose dimension ``dim`` holds ``repeat`` consecutive entries for each channel of a group."""

    group: int
    dim: int
    repeat: int = 1


def channel_groups(model: nn.Module, example_input: Tensor) -> list[ChannelGroup]:
    """Return the groups of channels of ``model`` that may be cut.

    Follows linear and convolutional layers, batch-norm, element-wise functions, pooling, flattening and the sums and
    products of tensors of equal shape. Channels that reach anything else - the output, concatenations, attention,
    other normalisations - stay: the answer may be too small, but never wrong.

    Args:
        model: A module that `torch.fx.symbolic_trace` can trace.
        example_input: A batch of inputs, ``(N, ...)``.

    Raises:
        ValueError: If the model cannot be traced.
    """
    try:
        traced = fx.symbolic_trace(copied(model).eval())
    except Exception as error:  # symbolic tracing runs the user's code and may fail in any way
        raise ValueError(
            f"channels are found by torch.fx, which cannot trace {type(model).__name__}: {error}"
        ) from error
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        ShapeProp(traced).propagate(example_input)
    return _Walk(traced).groups()


class _Walk:
    """Walks a traced network in order, joining channels that must be cut together."""

    def __init__(self, traced: fx.GraphModule) -> None:
        self.traced = traced
        self.modules = dict(traced.named_modules())
        self.found: list[ChannelGroup] = []
        self.joined: list[int] = []
        self.values: dict[fx.Node, _Value] = {}
        self.shared = _shared_layers(traced)

    def groups(self) -> list[ChannelGroup]:
        for node in self.traced.graph.nodes:
            value = self._visit(node)
            if value is not None:
                self.values[node] = value
        merged: dict[int, ChannelGroup] = {}
        for index, group in enumerate(self.found):
            into = merged.setdefault(self._root(index), ChannelGroup(group.size))
            into.producers += group.producers
            into.followers += group.followers
            into.consumers += group.consumers
            into.frozen |= group.frozen
        return [group for group in merged.values() if not group.frozen and group.producers]

    def _visit(self, node: fx.Node) -> _Value | None:
        inputs = [self.values[n] for n in node.all_input_nodes if n in self.values]
        value = None
        if node.op == "call_module":
            value = self._module(node, inputs[0] if len(inputs) == 1 else None)
        elif node.op in ("call_function", "call_method") and inputs:
            value = self._function(node, inputs)
        if value is None and not _reads_another_size(node, inputs):
            self._freeze(inputs)  # not understood: what it reads has to stay as it is
        return value

    def _freeze(self, values: list[_Value]) -> None:
        for value in values:
            self.found[value.group].frozen = True

    def _module(self, node: fx.Node, value: _Value | None) -> _Value | None:
        name = str(node.target)
        module = self.modules[name]
        if name in self.shared or _computes_its_weight(module):
            return None
        if isinstance(module, nn.Linear):
            return self._layer(name, module.out_features, len(_shape(node)) - 1, value)
        if isinstance(module, _ConvNd) and not isinstance(module, _ConvTransposeNd) and module.groups == 1:
            return self._layer(name, module.out_channels, 1, value)
        if value is None:
            return None
        rank = len(_shape(node))
        if isinstance(module, _POINTWISE) or (isinstance(module, _POOLS.get(rank, ())) and value.dim == 1):
            return value
        if isinstance(module, nn.Flatten):
            return self._reshaped(node, value)
        if value.dim == 1 and value.repeat == 1 and (isinstance(module, _BatchNorm) or _is_depthwise(module)):
            self.found[value.group].followers.append(name)
            return value
        return None

    def _layer(self, name: str, channels: int, dim: int, value: _Value | None) -> _Value:
        """A layer reads the channels of one group and makes those of a new one, both in dimension ``dim``."""
        if value is not None and value.dim == dim:
            self.found[value.group].consumers.append((name, value.repeat))
        elif value is not None:
            self._freeze([value])
        self.found.append(ChannelGroup(channels, producers=[name]))
        self.joined.append(len(self.found) - 1)
        return _Value(len(self.found) - 1, dim)

    def _function(self, node: fx.Node, inputs: list[_Value]) -> _Value | None:
        target: Any = node.target
        if target in _BINARY:
            return self._binary(node, inputs)
        if target in _RESHAPES and len(inputs) == 1 and node.all_input_nodes[0] in self.values:
            return self._reshaped(node, inputs[0])  # other inputs are sizes
        if len(node.all_input_nodes) != 1:
            return None
        pools = _POOL_FUNCTIONS.get(len(_shape(node)), ())
        if target in _POINTWISE_FUNCTIONS or (target in pools and inputs[0].dim == 1):
            return inputs[0]
        if target in _SPATIAL_MEANS:
            return self._spatial_mean(node, inputs[0])
        return None

    def _binary(self, node: fx.Node, inputs: list[_Value]) -> _Value | None:
        if len(node.all_input_nodes) == 1:  # with a number, or with itself
            return inputs[0]
        one, *rest = inputs
        shapes = {len(_shape(n)) for n in node.all_input_nodes}
        if len(rest) != 1 or len(shapes) != 1 or (one.dim, one.repeat) != (rest[0].dim, rest[0].repeat):
            return None
        a, b = self._root(one.group), self._root(rest[0].group)
        if self.found[a].size != self.found[b].size:
            return None
        self.joined[b] = a
        return one

    def _spatial_mean(self, node: fx.Node, value: _Value) -> _Value | None:
        """A mean over all dimensions behind the channels keeps the channels."""
        before, after = _shape(node.all_input_nodes[0]), _shape(node)
        kept_dims = tuple(before[:2]) + ((1,) * (len(before) - 2) if len(after) == len(before) else ())
        dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        over = sorted(
            d % len(before) for d in (dims if isinstance(dims, list | tuple) else [dims]) if isinstance(d, int)
        )
        if value.dim == 1 and tuple(after) == kept_dims and over == list(range(2, len(before))):
            return value
        return None

    def _reshaped(self, node: fx.Node, value: _Value) -> _Value | None:
        """Flattening (N, C, ...) to (N, C * ...) gives each channel as many entries as it had positions."""
        before, after = _shape(node.all_input_nodes[0]), _shape(node)
        if node.target in _RESHAPES_TO_SIZES and _is_written(node.args[1:], value.dim):
            return None
        if tuple(before) == tuple(after):
            return value
        if value.dim == 1 and len(after) == 2 and after[0] == before[0] and after[1] == math.prod(before[1:]):
            return _Value(value.group, 1, value.repeat * math.prod(before[2:]))
        return None

    def _root(self, index: int) -> int:
        while self.joined[index] != index:
            index = self.joined[index]
        return index


def _reads_another_size(node: fx.Node, inputs: list[_Value]) -> bool:
    """Return whether a node reads sizes only that do not change with the channels: ``x.size(0)``, ``x.shape[0]``."""
    if len(inputs) != 1:
        return False
    if node.target == "size" and len(node.args) == 2:
        asked = [node.args[1]]
    elif node.target == "size" or (node.target is getattr and node.args[1] == "shape"):
        asked = [user.args[1] if user.target is operator.getitem else None for user in node.users]
    else:
        return False
    return all(isinstance(dim, int) and 0 <= dim != inputs[0].dim for dim in asked)


def _is_written(sizes: tuple[Any, ...], dim: int) -> bool:
    """Return whether the size of a dimension is a number in the code, which fits no narrower input."""
    sizes = tuple(sizes[0]) if sizes and isinstance(sizes[0], list | tuple) else sizes
    return dim < len(sizes) and isinstance(sizes[dim], int) and sizes[dim] != -1


def _shape(node: fx.Node) -> tuple[int, ...]:
    meta = node.meta.get("tensor_meta")
    return tuple(meta.shape) if meta is not None and hasattr(meta, "shape") else ()


def _computes_its_weight(module: nn.Module) -> bool:
    """Return whether a layer's weight is no parameter of its own, but made of others, as weight normalisation does."""
    return hasattr(module, "weight") and "weight" not in module._parameters


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, _ConvNd) and module.groups == module.in_channels == module.out_channels


def _shared_layers(traced: fx.GraphModule) -> set[str]:
    """Return the layers whose parameters are read in more than one place: cutting for one would break the other."""
    nodes = traced.graph.nodes
    calls = [str(node.target) for node in nodes if node.op == "call_module"]
    read = {str(node.target).rpartition(".")[0] for node in nodes if node.op == "get_attr"}
    owners: dict[int, list[str]] = {}
    for name, parameter in traced.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), []).append(name.rpartition(".")[0])
    tied = {name for names in owners.values() if len(names) > 1 for name in names}
    with_parameters = {name for names in owners.values() for name in names}
    return {name for name in calls if name in with_parameters and (calls.count(name) > 1 or name in read | tied)}
