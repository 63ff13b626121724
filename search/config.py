"""One trial, fully determined: what is compressed how, and what it trains on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from search.spec.fields import Scalar, SpecModel
from search.spec.load import describe
from search.spec.schema import DataSpec, ModelSpec, TrainSpec

# Where files lie, how often a checkpoint is written and whether code is compiled do not change what a trial computes;
# a checksum of the weights that it starts from is part of the identity.
NOT_IDENTITY = {"data": {"path"}, "model": {"weights"}, "train": {"checkpoint_every_s", "compile"}}
# What a field means that an id leaves out: the default it had when ids began. One that changed since is named here, or
# the ids of earlier trials would be those of other ones.
ID_DEFAULTS = {"train": {"nesterov": False}}
ID_DIGITS = 12


class TrialConfig(SpecModel):
    """Everything that determines a trial's result."""

    method: str
    """Name of the compression method."""
    ratio: float = Field(ge=1)
    """Compression ratio of the compressed weights together, total / kept."""
    lr: float = Field(gt=0)
    """Peak learning rate."""
    weight_decay: float = Field(ge=0)
    """Weight decay."""
    seed: int = 0
    """Seed of everything random in the trial."""
    budgets: dict[str, int] | None = None
    """Scalars kept by the layers of each pattern; null leaves the split to the method."""
    args: dict[str, Scalar] = {}
    """Further arguments of the method."""
    data: DataSpec = DataSpec()
    model: ModelSpec = ModelSpec()
    train: TrainSpec = TrainSpec()

    @property
    def trial_id(self) -> str:
        """Hash of the fields that differ from their first defaults: equal trials have equal ids, on every machine.

        A new field whose default means "no effect" leaves the ids of old trials as they were.
        """
        return _digest(self._identity())

    @property
    def proposal_id(self) -> str:
        """The same without the seed: equal for the repeats of one proposal."""
        return _digest({name: value for name, value in self._identity().items() if name != "seed"})

    def _identity(self) -> dict[str, Any]:
        found = self.model_dump(mode="json", exclude_defaults=True, exclude=NOT_IDENTITY)
        for part, defaults in ID_DEFAULTS.items():
            for name, default in defaults.items():
                fields, value = found.setdefault(part, {}), getattr(getattr(self, part), name)
                fields.pop(name, None)
                if value != default:
                    fields[name] = value
        return found


class UnreadableTrialError(ValueError):
    """A row of the tables tells of no trial.

    Attributes:
        column: The column that cannot be read.
        why: What is wrong with it, as the end of a sentence.
    """

    def __init__(self, column: str, why: str) -> None:
        super().__init__(f"the {column} of a trial {why}")
        self.column, self.why = column, why


def recorded_config(row: Mapping[str, Any]) -> TrialConfig:
    """Return the trial that a row of the tables tells of.

    Raises:
        UnreadableTrialError: If it tells of none.
    """
    try:
        return TrialConfig.model_validate_json(row["config_json"] or "")
    except ValidationError as error:
        raise UnreadableTrialError("config_json", f"is no configuration ({describe(error, TrialConfig)})") from error


def recorded_params(row: Mapping[str, Any]) -> dict[str, Scalar]:
    """Return the proposal that a row of the tables tells of, as the sampler named it.

    Raises:
        UnreadableTrialError: If it tells of none.
    """
    try:
        found = json.loads(row["params_json"] or "")
    except (ValueError, RecursionError) as error:
        raise UnreadableTrialError("params_json", f"is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise UnreadableTrialError("params_json", f"is no mapping, but a {type(found).__name__}")
    return found


def with_current(config: TrialConfig, data: DataSpec, model: ModelSpec, train: TrainSpec) -> TrialConfig:
    """Return a trial with today's values of what is no part of its identity: where files lie, whether to compile."""
    now = {"data": data, "model": model, "train": train}
    return config.model_copy(
        update={
            part: getattr(config, part).model_copy(update={name: getattr(now[part], name) for name in names})
            for part, names in NOT_IDENTITY.items()
        }
    )


def _digest(fields: dict[str, object]) -> str:
    # A part whose only changes are no part of the identity is as good as absent.
    content = {name: value for name, value in fields.items() if value != {}}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]


def derive_seed(experiment_seed: int, number: int, repeat: int) -> int:
    """Return the seed of a repeat of a proposal: 31 bits of a hash, the same on every machine."""
    text = f"{experiment_seed}:{number}:{repeat}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def describe_config(config: TrialConfig) -> dict[str, Any]:
    """Return the columns of the trials table that the configuration alone determines."""
    return {
        "trial_id": config.trial_id,
        "method": config.method,
        "model": config.model.name,
        "dataset": config.data.name,
        "seed": config.seed,
        "ratio": config.ratio,
        "budgets": config.budgets,
        "lr": config.lr,
        "weight_decay": config.weight_decay,
        "config_json": config.model_dump_json(),
    }
