"""Finding the tensors of a model that share, and making the modules that own them read psi."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy

from rps_core.budgets import layer_name, unmatched_message

OWNED = "_rps_weights"
ORDER = "_rps_order"
_KNOWN = (nn.Linear, nn.Bilinear, _ConvNd, nn.Embedding, nn.EmbeddingBag, nn.MultiheadAttention)
_TABLES = (nn.Embedding, nn.EmbeddingBag)


@dataclass
class Candidate:
    """A parameter that may share.

    Attributes:
        name: Its name in the vocabulary of budgets, from the first owner.
        parameter: The parameter.
        owners: Every (module path, attribute) that holds it.
        known: Whether a linear, convolution, embedding or attention module owns it.
        table: Whether an embedding owns it.
        padding: The ``padding_idx`` of the embedding that owns it, or None.
        read_whole: Whether something owns it, too, that treats the row of padding as any other, as output layers do.
        renormalised: Whether an embedding owns it that shortens rows in place as they are read (``max_norm``).
        computed: Whether a module computes with others that its class makes of it, as masked layers do.
    """

    name: str
    parameter: nn.Parameter
    owners: list[tuple[str, str]] = field(default_factory=list)
    known: bool = False
    table: bool = False
    padding: int | None = None
    read_whole: bool = False
    renormalised: bool = False
    computed: bool = False

    @property
    def keeps_zero(self) -> bool:
        """Whether the row of padding is zero, and stays so in training because no gradient ever reaches it."""
        assert self.padding is not None
        return not self.read_whole and not bool(self.parameter[self.padding].any())


def find_candidates(model: nn.Module) -> list[Candidate]:
    """Return every parameter of the model once, in the order of the model, with all its owners.

    Raises:
        ValueError: If a parameter has no shape yet, or a module is TorchScript.
    """
    found: dict[int, Candidate] = {}
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(f"modules must be plain Python, but {path or 'the model'!r} is a TorchScript module")
        for attribute, parameter in module._parameters.items():
            if parameter is None:
                continue
            name = layer_name(f"{path}.{attribute}" if path else attribute)
            if is_lazy(parameter):
                raise ValueError(f"weights must have a shape: run one batch through the model first (layer {name!r})")
            candidate = found.setdefault(id(parameter), Candidate(name, parameter))
            candidate.owners.append((path, attribute))
            matrix = parameter.dim() >= 2
            candidate.known |= isinstance(module, _KNOWN) and matrix and "bias" not in attribute
            candidate.table |= isinstance(module, _TABLES)
            candidate.renormalised |= isinstance(module, _TABLES) and module.max_norm is not None
            candidate.computed |= isinstance(getattr(type(module), attribute, None), property)
            padding = module.padding_idx if isinstance(module, _TABLES) else None
            # A tied table that pads another row reads this one, and trains it, as any other.
            candidate.read_whole |= padding is None or candidate.padding not in (None, padding)
            candidate.padding = candidate.padding if padding is None else padding
    return list(found.values())


def select(model: nn.Module, include: Sequence[str] | None, exclude: Sequence[str]) -> list[Candidate]:
    """Return the parameters to compress, in the order of the model.

    Raises:
        ValueError: If a pattern matches no layer, or nothing is left.
    """
    candidates = find_candidates(model)
    matrices = [c for c in candidates if c.parameter.dim() >= 2]
    if include is None:
        chosen = [c for c in candidates if c.known]
    else:
        chosen = []
        for pattern in include:
            hit = [c for c in candidates if c.name == pattern] or [c for c in matrices if fnmatchcase(c.name, pattern)]
            if not hit:
                raise ValueError("include: " + unmatched_message(pattern, [c.name for c in matrices]))
            chosen += hit
        ids = {id(c) for c in chosen}
        chosen = [c for c in candidates if id(c) in ids]
    for pattern in exclude:
        if not any(fnmatchcase(c.name, pattern) for c in candidates):
            raise ValueError("exclude: " + unmatched_message(pattern, [c.name for c in candidates]))
    chosen = [c for c in chosen if not any(fnmatchcase(c.name, pattern) for pattern in exclude)]
    if not chosen:
        raise ValueError(
            "a model must have a weight to share, but none is left after include and exclude: only linear, "
            "convolution, embedding and attention weights share unless include names others"
        )
    return chosen


def _reader(attribute: str) -> property:
    def read(self: nn.Module) -> Tensor:
        array, index = self.__dict__[OWNED][attribute]
        return array.weight(index)

    return property(read, doc="The weights, recovered from psi at each access.")


def _flat_weights(self: nn.RNNBase) -> list[Tensor | None]:
    """Return what a recurrent module computes with: it would otherwise keep its parameters in a list of its own."""
    return [getattr(self, name) for name in self._flat_weights_names]


@cache
def sharing_class(base: type[Any], attributes: tuple[str, ...]) -> type[nn.Module]:
    """Return the subclass of ``base`` whose ``attributes`` are recovered from psi; one for equal arguments."""

    def reduce(self: nn.Module, protocol: Any) -> Any:
        return _new, (base, attributes), self.__getstate__()

    members: dict[str, Any] = {attribute: _reader(attribute) for attribute in attributes}
    if issubclass(base, nn.RNNBase):
        members["_flat_weights"] = property(_flat_weights, lambda self, weights: None)
    members |= {"__reduce_ex__": reduce, "__module__": __name__, "_rps_base": base}
    return type(f"Shared{base.__name__}", (base,), members)


def _new(base: type[nn.Module], attributes: tuple[str, ...]) -> nn.Module:
    cls = sharing_class(base, attributes)  # type: ignore[arg-type] # mypy takes the class for its instances
    return cls.__new__(cls)


def attach(module: nn.Module, sources: dict[str, tuple[Any, int]]) -> None:
    """Make a module recover its parameters ``sources``, each from (group, index of the layer), not hold them."""
    module.__dict__[ORDER] = tuple(module._parameters)
    for attribute in sources:
        del module._parameters[attribute]
    module.__dict__.pop("_flat_weights", None)  # a recurrent module's own list of its parameters
    module.__dict__[OWNED] = sources
    module.__class__ = sharing_class(type(module), tuple(sources))  # type: ignore[arg-type] # as above


def detach(module: nn.Module, parameters: dict[str, nn.Parameter]) -> None:
    """Undo :func:`attach`: the module holds ``parameters`` again, in the order it had."""
    module.__class__ = type(module)._rps_base  # type: ignore[attr-defined]
    del module.__dict__[OWNED]
    held = module._parameters | parameters
    module._parameters.clear()
    order = module.__dict__.pop(ORDER)
    module._parameters.update({name: held[name] for name in (*order, *held) if name in held})
    if isinstance(module, nn.RNNBase):
        module._flat_weights = _flat_weights(module)
