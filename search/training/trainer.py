"""The training loop of one trial: epoch by epoch, seeded by the epoch, so that a resumed trial is the same trial."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import torch
from torch import nn
from torch.nn import functional

from baselines.masks import masking_gradients
from search.data.batches import DeviceSplit, check_batch_size, steps_per_epoch, train_batches
from search.data.images import ImageData
from search.errors import DIVERGED, UserError
from search.spec.schema import TrainSpec
from search.training.compiled import compiled_forward
from search.training.engine import Engine
from search.training.evaluation import evaluate
from search.training.masked import masks_in, pack, unpack, unpack_values
from search.training.schedule import lr_factor
from search.training.undo import Undo

logger = logging.getLogger(__name__)

# Whether to record CUDA graphs: what is tried on a device, in this order.
GRAPHS = {"cpu": (False,), "cuda": (True, False)}
# They are recorded at the second call, and run from the third on.
REHEARSALS = 3


class DivergedError(Exception):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class EpochReport:
    """What one epoch did.

    Attributes:
        epoch: Its number, from 1.
        loss: Mean training loss, in nats.
        accuracy_val: Share of the validation images classified rightly after it.
        lr: Learning rate of its last step.
        train_seconds: Time spent training.
        eval_seconds: Time spent on the validation images.
        images: Images trained on.
        finished_at: Its end, ISO 8601, UTC.
    """

    epoch: int
    loss: float
    accuracy_val: float
    lr: float
    train_seconds: float
    eval_seconds: float
    images: int
    finished_at: str


class Trainer:
    """Trains a model in place on data that lives on the device.

    Everything random in epoch e (order, augmentation, dropout) is drawn from (seed, e) alone.

    Args:
        model: What is trained.
        data: The images.
        train: The recipe.
        lr: Peak learning rate.
        weight_decay: Weight decay.
        seed: Seed of the trial.
        engine: Device and precision.
        beside: A trainer on the same data and device, whose images there this one reads too.

    Raises:
        UserError: If the batch is larger than the training part, or the model has nothing to train.
    """

    def __init__(
        self,
        model: nn.Module,
        data: ImageData,
        train: TrainSpec,
        *,
        lr: float,
        weight_decay: float,
        seed: int,
        engine: Engine,
        beside: Trainer | None = None,
    ) -> None:
        self.model = engine.place(model)
        self.epoch = 0
        self.data = data
        self.train = train
        self.engine = engine
        self._lr = lr
        self._seed = self.round_seed = seed
        check_batch_size(train.batch_size, len(data.train))
        self.split: DeviceSplit = beside.split if beside else DeviceSplit.of(data.train, engine.device)
        self.val: DeviceSplit = beside.val if beside else DeviceSplit.of(data.val, engine.device)
        self.steps = steps_per_epoch(len(self.split), train.batch_size)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        if not self.parameters:
            raise UserError("the model must have a parameter that trains, but requires_grad is False for all of them")
        self.optimizer = torch.optim.SGD(
            self.parameters,
            lr=lr,
            momentum=train.momentum,
            nesterov=train.nesterov and train.momentum > 0,
            weight_decay=weight_decay,
            fused=True,
        )
        self.compiled: Callable[[torch.Tensor], torch.Tensor] | None = None

    def run_epoch(self) -> EpochReport:
        """Train one epoch and evaluate on the validation part.

        Raises:
            DivergedError: If the loss is no longer finite.
        """
        started = time.perf_counter()
        with self.seeded():
            loss, lr = self._train_epoch()
        return self.end_epoch(loss, lr, time.perf_counter() - started)

    @contextlib.contextmanager
    def seeded(self) -> Iterator[None]:
        """Let what draws from torch's own random state (dropout) depend on the round and the epoch alone."""
        with torch.random.fork_rng(devices=[self.engine.device] if self.engine.device.type == "cuda" else []):
            torch.manual_seed(self.round_seed * 1_000_003 + self.epoch)
            yield

    def end_epoch(self, loss: float, lr: float, train_seconds: float) -> EpochReport:
        """Judge the model on the validation part after an epoch of training.

        Args:
            loss: Mean training loss of the epoch.
            lr: Learning rate of its last step.
            train_seconds: Time it took.

        Raises:
            DivergedError: If the loss, or that on the validation part, is not finite.
        """
        trained = time.perf_counter()
        self.epoch += 1
        if not math.isfinite(loss):
            raise DivergedError(f"{DIVERGED} {loss} in epoch {self.epoch} at lr {lr:.4g}")
        accuracy, loss_val = self.evaluate(self.val)
        if not math.isfinite(loss_val):
            # After the last step, whose loss is none of those above. Of NaN, all images are of the first class.
            raise DivergedError(f"{DIVERGED} {loss_val} after epoch {self.epoch} at lr {lr:.4g}")
        ended = time.perf_counter()
        return EpochReport(
            self.epoch,
            loss,
            accuracy,
            lr,
            train_seconds=train_seconds,
            eval_seconds=ended - trained,
            images=min(len(self.split), self.steps * self.train.batch_size),  # but for a last one alone
            finished_at=datetime.now(UTC).isoformat(),
        )

    def _train_epoch(self) -> tuple[float, float]:
        """Return the mean loss of the epoch and its last learning rate."""
        self.model.train()
        total = torch.zeros((), device=self.engine.device)
        images = 0
        lr = self._lr
        with self.reading():
            for step, (inputs, labels) in enumerate(self.batches()):
                lr = self.lr_at(step / self.steps)
                for group in self.optimizer.param_groups:
                    group["lr"] = lr
                loss = self.backward(inputs, labels)
                self.optimizer.step()
                total += loss * len(labels)
                images += len(labels)
        return (total / images).item(), lr

    def reading(self) -> contextlib.AbstractContextManager[None]:
        """Return the context in which an epoch reads the weights; compiled code has masks in it at no cost."""
        return contextlib.nullcontext() if self.compiled else masking_gradients(self.model)

    def lr_at(self, done: float) -> float:
        """Return the learning rate where a share ``done`` of the current epoch is over."""
        return self._lr * lr_factor(self.train, self.epoch + done)

    def batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the batches of the current epoch."""
        return train_batches(
            self.split,
            batch_size=self.train.batch_size,
            augment=self.data.augment,
            mean=self.data.mean,
            std=self.data.std,
            seed=self.round_seed,
            epoch=self.epoch,
            memory_format=self.engine.memory_format,
        )

    def backward(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Compute the loss of a batch and leave its gradient, clipped, with the parameters."""
        self.optimizer.zero_grad(set_to_none=True)
        # The smaller last batch of an epoch is not worth a graph of its own.
        whole = self.compiled is not None and len(labels) == self.train.batch_size
        forward = self.compiled if whole and self.compiled is not None else self.model
        with self.engine.forward_context():
            logits = forward(inputs)
            if not isinstance(logits, torch.Tensor):  # As in evaluation it is: that was looked at before.
                raise UserError(
                    f"the model must give one tensor in training too, but gave a {type(logits).__name__}; switch its "
                    "auxiliary outputs off in model.args, such as aux_logits: false"
                )
            loss = functional.cross_entropy(logits.float(), labels, label_smoothing=self.train.label_smoothing)
        loss.backward()
        if self.train.grad_clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.train.grad_clip)
        return loss.detach()

    def compile(self) -> bool:
        """Train with torch.compile from here on, on a GPU as a CUDA graph; return False where that does not work.

        A step is rehearsed, so that what cannot be compiled or recorded is found before anything is trained with it.
        """
        batch, before = self.example_batch(), Undo([self])
        for graphs in GRAPHS[self.engine.device.type]:
            try:
                self.compiled = compiled_forward(self.model, graphs=graphs)
                for _ in range(REHEARSALS if graphs else 1):
                    self.rehearse(*batch)
                return True
            except Exception as error:
                self.compiled = None
                way = "a CUDA graph" if graphs else "compiled code"
                reason = next(iter(str(error).splitlines()), type(error).__name__)
                logger.warning("the model cannot train as %s, so it goes on without: %s", way, reason)
            finally:
                before.put_back()
        return False

    def example_batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the first batch of the current epoch."""
        return next(self.batches())

    def rehearse(self, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        """Run forward and backward of a batch; random numbers that they draw are missed by nobody."""
        self.model.train()
        with self.seeded():
            self.backward(inputs, labels)

    def evaluate(self, split: DeviceSplit) -> tuple[float, float]:
        """Judge the model on a split. See :func:`evaluate`."""
        self.model.eval()
        return evaluate(self.model, split, self.data, self.engine)

    def begin_round(self, number: int, epoch: int) -> None:
        """Start anew, with the weights the model has now and no momentum.

        Args:
            number: Number of the round, from 0; each round sees the images in an order of its own.
            epoch: Place in the schedule to go on from.
        """
        self.optimizer.state.clear()
        self.round_seed = self._seed + 7919 * number
        self.epoch = epoch

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all that is needed to go on: the model's state and the momentum of each trained parameter.

        Of pruned tensors only the kept values are stored: where the mask is zero, weight and momentum are zero too.
        """
        state = self.model.state_dict()
        masks = masks_in(state)
        return under("model.", pack(state, masks)) | under("momentum.", pack(self._momentum(), masks))

    def restore(self, tensors: Mapping[str, torch.Tensor], number: int, epoch: int) -> None:
        """Go on from what :meth:`tensors` returned after ``epoch`` epochs of round ``number``."""
        self.load_model(within("model.", tensors))
        self.begin_round(number, epoch)
        state = self.model.state_dict()
        momentum = unpack_values(within("momentum.", tensors), state, masks_in(state))
        for name, parameter in self.model.named_parameters():
            if name in momentum:
                # The layout of the parameter, not only its values: kernels add in the order of the layout.
                buffer = torch.empty_like(parameter).copy_(momentum[name].to(parameter.device))
                self.optimizer.state[parameter]["momentum_buffer"] = buffer

    def load_model(self, packed: Mapping[str, torch.Tensor]) -> None:
        """Set the model's state to one that was packed."""
        self.model.load_state_dict(unpack(packed, self.model.state_dict()))

    def _momentum(self) -> dict[str, torch.Tensor]:
        buffers = {
            name: self.optimizer.state.get(parameter, {}).get("momentum_buffer")
            for name, parameter in self.model.named_parameters()
        }
        return {name: buffer for name, buffer in buffers.items() if buffer is not None}


def under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors with a prefix to their names."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


def within(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors whose names have a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
