"""Lottery tickets: iterative magnitude pruning with rewinding, one round of training after the other."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from baselines import LotteryConfig, PruneConfig, Ticket, prune_, save_sparse, sparse_summary
from search.methods.base import Compressed, Prospect, Workbench, checked_by, least


def _check(prospect: Prospect) -> None:
    _check_rewinding(least(prospect.args, "rewind_epochs", 0), prospect.epochs)


def _check_rewinding(rewind_epochs: int, epochs: int) -> None:
    if not 0 <= rewind_epochs < epochs:
        raise ValueError(f"0 <= rewind_epochs < train.epochs must hold, but got {rewind_epochs} of {epochs}")


@checked_by(_check)
def ltr(
    bench: Workbench,
    *,
    rounds: int = 0,
    fraction: float = 0.2,
    rewind_epochs: int = 0,
    rewind: Literal["weights", "learning_rate"] = "weights",
) -> Compressed:
    """Train, prune, rewind, and again; the ticket of the last round is what counts.

    From trained weights (``model.weights``), epoch 0 is those weights.

    Args:
        bench: The workbench.
        rounds: Rounds of pruning; 0 takes as many as removing ``fraction`` a round needs. The model trains once more.
        fraction: Share of the remaining weights that a round removes, where ``rounds`` is 0.
        rewind_epochs: Epoch to rewind to.
        rewind: What is set back: the weights and the schedule, or the schedule only.
    """
    _check_rewinding(rewind_epochs, bench.config.train.epochs)
    final = PruneConfig(
        method="mag",
        ratio=bench.config.ratio,
        budgets=bench.config.budgets or {},
        exclude=bench.config.model.exclude,
        seed=bench.config.seed,
        allow_empty=True,
    )
    config = LotteryConfig(final, rounds=rounds or None, fraction=fraction, rewind_epoch=rewind_epochs, rewind=rewind)
    return _Lottery(bench.build(1.0), config)


class _Lottery(Compressed):
    """A model that trains in rounds."""

    def __init__(self, model: nn.Module, config: LotteryConfig) -> None:
        # How much the last ticket stores is known before it is found: each round keeps exact counts.
        summary = sparse_summary(prune_(copy.deepcopy(model), config.prune))
        super().__init__(
            model,
            virtual_size=summary.virtual_size,
            stored_parameters=summary.stored_parameters,
            stored_bytes=summary.stored_bytes,
            save=save_sparse,
        )
        self._ticket = Ticket(model, config)
        self._rewind_epoch = int(config.rewind_epoch)
        self.rounds = self._ticket.rounds + 1
        self.after_epoch(0)

    def after_epoch(self, epoch: int) -> None:
        """Remember the weights at the rewind epoch."""
        if epoch == self._rewind_epoch:
            self._ticket.remember()

    def next_round(self) -> int:
        """Prune and rewind; the schedule goes on from the rewind epoch."""
        self._ticket.next_round()
        return self._rewind_epoch

    def tensors(self) -> dict[str, Tensor]:
        """Return the round, the weights to rewind to and the masks."""
        return self._ticket.state()

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the ticket up where it was left."""
        self._ticket.restore(tensors)
