"""What a compression method is given and what it returns."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from torch import Tensor, nn
from torch.nn import functional

from baselines import load_sparse, save_sparse, sparse_summary
from baselines.layers import prunable_weights
from rps_core.budgets import layer_name
from search.config import TrialConfig
from search.errors import UserError, unknown_name
from search.registry import METHODS, resolve
from search.spec.fields import Choices, Range, Scalar, SearchedValue, bounds

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Workbench:
    """What a method may use.

    Attributes:
        config: The trial.
        build: Makes the model fresh, always with the same initial weights; its argument is the width factor, 1 for
            the model itself.
        sketch: Makes the same only to be counted: neither moved to a device, which a model on the meta device cannot
            be, nor run.
        scoring_batches: Makes class-balanced, normalised training batches on the model's device, for methods that
            look at data.
        example_input: One image as a batch, ``(1, C, H, W)``.
    """

    config: TrialConfig
    build: Callable[[float], nn.Module]
    sketch: Callable[[float], nn.Module]
    scoring_batches: Callable[[], Sequence[Batch]]
    example_input: Tensor


class Compressed:
    """A compressed model, ready to train, with its memory and the way it is saved.

    Attributes:
        model: The model; training needs no call but the usual ones.
        virtual_size: Number of weights that are compressed, n.
        stored_parameters: Stored scalars: kept or shared ones, and everything uncompressed.
        stored_bytes: Bytes of the saved file at float32.
        rounds: How often the model trains; above 1, :meth:`next_round` prepares each further time.
    """

    rounds = 1

    def __init__(
        self,
        model: nn.Module,
        *,
        virtual_size: int,
        stored_parameters: int,
        stored_bytes: int,
        save: Callable[[nn.Module, Path], object],
    ) -> None:
        self.model = model
        # A user's method may count with NumPy or a tensor, whose numbers are not those of JSON and the tables.
        self.virtual_size = int(virtual_size)
        self.stored_parameters = int(stored_parameters)
        self.stored_bytes = int(stored_bytes)
        self._save = save

    def save(self, path: Path) -> None:
        """Write the model as compactly as it can be stored."""
        self._save(self.model, path)

    def settle(self) -> bool:
        """Make the trained model what its file holds, where that rounds; return whether this changed it."""
        return False

    def after_epoch(self, epoch: int) -> None:
        """Look at the model after an epoch of the first round (a lottery ticket remembers the rewinding point)."""

    def next_round(self) -> int:
        """Change the model in place between two rounds; return the epoch of the schedule that the next starts from."""
        return 0

    def tensors(self) -> dict[str, Tensor]:
        """Return what must outlive an interruption beside the model's own state."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`tensors` returned. The model's state is restored after this."""


def compress(bench: Workbench) -> Compressed:
    """Build and compress the model of a trial.

    Raises:
        UserError: If the method is unknown, or refuses what the spec asks of it.
    """
    config = bench.config
    check_arguments(config.method, config.args)
    method = resolve("method", config.method, METHODS)
    try:
        result = method(bench, **config.args)
    except (ValueError, TypeError) as error:
        raise UserError(f"method {config.method!r}: {error}") from error
    if not isinstance(result, Compressed):
        raise UserError(f"method {config.method!r} must return search.methods.Compressed, but got {result!r}")
    return result


def stored_sparsely(model: nn.Module) -> Compressed:
    """Return a plain or pruned model as one that ``save_sparse`` stores."""
    summary = sparse_summary(model)
    return Compressed(
        model,
        virtual_size=summary.virtual_size,
        stored_parameters=summary.stored_parameters,
        stored_bytes=summary.stored_bytes,
        save=save_sparse,
    )


Loader = Callable[[Workbench, Path], nn.Module]
_LOADERS: dict[Callable[..., Compressed], Loader] = {}


def loads_with(loader: Loader) -> Callable[[Callable[..., Compressed]], Callable[..., Compressed]]:
    """Say how the files that a method's models save are read; without it, they are those of ``save_sparse``."""

    def register(method: Callable[..., Compressed]) -> Callable[..., Compressed]:
        _LOADERS[method] = loader
        return method

    return register


@dataclass(frozen=True)
class Prospect:
    """What is known of a method's trials before the first.

    Attributes:
        model: The uncompressed model, to be left as it is.
        example_input: One image as a batch, ``(1, C, H, W)``.
        ratio: The highest ratio that is searched.
        args: The method's further arguments as the spec has them, searched or not.
        epochs: Epochs of a training.
        exclude: Patterns of layers that are not compressed.
    """

    model: nn.Module
    example_input: Tensor
    ratio: float
    args: Mapping[str, SearchedValue]
    epochs: int
    exclude: Sequence[str] = ()


Check = Callable[[Prospect], None]
_CHECKS: dict[Callable[..., Compressed], Check] = {}


def checked_by(check: Check) -> Callable[[Callable[..., Compressed]], Callable[..., Compressed]]:
    """Say what finds out before a search begins that every trial of a method would fail at its highest ratio.

    ``check`` raises ValueError or TypeError where no trial can do it.
    """

    def register(method: Callable[..., Compressed]) -> Callable[..., Compressed]:
        _CHECKS[method] = check
        return method

    return register


def check_feasible(method: str, prospect: Prospect) -> None:
    """Refuse a highest ratio that a method cannot come near on a model, and arguments that no trial can be given.

    Raises:
        UserError: If every trial there would fail.
    """
    check = _CHECKS.get(resolve("method", method, METHODS))
    if check is None:
        return
    try:
        check(prospect)
    except (ValueError, TypeError) as error:
        raise UserError(f"space.methods.{method}: {error}") from error


def least(args: Mapping[str, SearchedValue], name: str, default: int) -> int:
    """Return the smallest whole number that an argument can take."""
    value = args.get(name, default)
    return default if isinstance(value, str) else int(bounds(value)[0])


def ends(value: SearchedValue) -> list[Scalar]:
    """Return a fixed value, all choices, or the two ends of a range."""
    if isinstance(value, Choices):
        return value.choices
    return [value.low, value.high] if isinstance(value, Range) else [value]


def load_trained(bench: Workbench, path: Path) -> nn.Module:
    """Return the trained model of a trial from the file it saved, in evaluation mode.

    Raises:
        UserError: If the file is damaged or of another model.
    """
    method = resolve("method", bench.config.method, METHODS)
    loader = _LOADERS.get(method, lambda bench, path: load_sparse(path, bench.build(1.0)))
    try:
        return loader(bench, path).eval()
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error


def check_arguments(method: str, args: Mapping[str, SearchedValue], *, complete: bool = True) -> None:
    """Refuse further arguments that a method does not take: it takes what its function names by keyword.

    Args:
        method: Its name.
        args: The arguments, searched or not.
        complete: Whether there will be no others.

    Raises:
        UserError: If the method is unknown or misses an argument, one of ``args`` is no argument of it, is none of the
            names that it may be (the function says ``Literal``), or counts something (``int``) and may be no whole
            number.
    """
    function = resolve("method", method, METHODS)
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
        raise UserError(f"method {method!r} must be a function of a search.methods.Workbench, its first argument")
    del parameters[0]
    by_name = [p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    missing = [p.name for p in by_name if p.default is p.empty and p.name not in args]
    if complete and missing:
        raise UserError(f"space.methods.{method}.args: the method needs {', '.join(missing)} as well")
    allowed = [p.name for p in by_name]
    named: dict[str, tuple[object, ...]] = {}
    whole = {p.name for p in parameters if p.annotation in (int, "int")}
    with contextlib.suppress(NameError, TypeError):  # a user's annotations may name what is not there
        named = {name: get_args(hint) for name, hint in get_type_hints(function).items() if get_origin(hint) is Literal}
    for name, value in args.items():
        if name in named and not set(_values(value)) <= set(named[name]):
            wrong = next(v for v in _values(value) if v not in named[name])
            problem = unknown_name("value", str(wrong), [str(v) for v in named[name]])
            raise UserError(f"space.methods.{method}.args.{name}: {problem}")
        if name in whole and not _is_whole(value):
            got = repr(value.choices if isinstance(value, Choices) else value)
            if isinstance(value, Range):
                got = f"{{low: {value.low:g}, high: {value.high:g}}}"
            raise UserError(
                f"space.methods.{method}.args.{name} must be a whole number, or several to choose from like "
                f"{{choices: [1, 2, 4]}}, but got {got}"
            )
        if name not in allowed and not any(p.kind is p.VAR_KEYWORD for p in parameters):
            problem = unknown_name("argument", name, allowed) if allowed else f"the method takes none, but got {name!r}"
            raise UserError(f"space.methods.{method}.args: {problem}")


def _values(value: SearchedValue) -> list[object]:
    return list(value.choices) if isinstance(value, Choices) else [value]


def _is_whole(value: SearchedValue) -> bool:
    return all(isinstance(v, int) and not isinstance(v, bool) for v in _values(value))


def loss_fn(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean cross-entropy of a batch, the loss that scores look at."""
    inputs, labels = batch
    return functional.cross_entropy(model(inputs), labels)


def layer_shapes(model: nn.Module, exclude: Sequence[str] = ()) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight that methods compress, by layer, in the order of the model.

    Raises:
        ValueError: If nothing is left to compress, or a pattern of ``exclude`` matches no layer.
    """
    weights = prunable_weights(model, exclude=exclude)
    return {layer_name(name): tuple(weight.shape) for name, weight in weights.items()}
