"""The fields of the spec, each with its meaning, unit and default. A default stands here and nowhere else."""

from __future__ import annotations

from typing import Literal

from pydantic import (
    ByteSize,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from search.registry import METHODS, check_name
from search.spec.claims import ClaimSpec
from search.spec.fields import Choices, Range, SearchedNumber, SearchedValue, SpecModel, bounds
from search.spec.inputs import DataSpec, ModelSpec

BudgetScope = Literal["global", "groups", "layers"]


class TrainSpec(SpecModel):
    """How one trial trains. The defaults are the paper's recipe for CIFAR (arXiv:2310.11611, appendix)."""

    epochs: NonNegativeInt = 160
    """Passes over the training images; 0 judges models as compression leaves them (see model.weights)."""
    batch_size: PositiveInt = 128
    """Images in one step."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of SGD."""
    nesterov: bool = True
    """Use Nesterov's form of momentum, where there is any."""
    schedule: Literal["step", "cosine", "one_cycle", "constant"] = "step"
    """How the learning rate moves: drops at milestones, half a cosine to 0, up then down, or not at all."""
    milestones: list[float] = [0.5, 0.75]
    """Where schedule: step drops, as shares of all epochs (epochs 80 and 120 of 160)."""
    lr_drop: float = Field(default=0.1, gt=0, le=1)
    """Factor of each drop."""
    warmup_epochs: NonNegativeFloat = 0
    """Epochs over which the learning rate first grows linearly (not for one_cycle, which has its own)."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Label smoothing of the cross-entropy."""
    grad_clip: PositiveFloat | None = None
    """Largest norm of the gradient; null does not clip."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of forward and backward; auto is bfloat16 where the device computes in it, on a processor for
    networks with convolutions only."""
    compile: bool | Literal["auto"] = "auto"
    """Run the network through torch.compile, on a GPU as CUDA graphs; auto does where the rest of the trial, after its
    first epoch, is long enough to earn the time (a pack is then not compiled)."""
    epoch_choice: Literal["last", "best_val"] = "last"
    """Which epoch's weights a trial is judged by: the last, or the best on validation. Never on test."""
    recalibrate: bool = False
    """Estimate the statistics of batch-norm layers anew, on training images, before a model is judged at the end:
    those of the dense model are wrong for a compressed one that did not train on."""
    checkpoint_every_s: NonNegativeFloat = 15.0
    """Shortest time between two checkpoints of a running trial, in seconds; 0 writes one each epoch."""

    @field_validator("milestones")
    @classmethod
    def _shares(cls, milestones: list[float]) -> list[float]:
        if sorted(milestones) != milestones or not all(0 < m < 1 for m in milestones):
            raise ValueError(f"milestones must grow and lie between 0 and 1, but got {milestones}")
        return milestones

    @model_validator(mode="after")
    def _possible(self) -> TrainSpec:
        if self.epochs and self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs < epochs must hold, but got {self.warmup_epochs:g} of {self.epochs}")
        return self


class MethodSpec(SpecModel):
    """What the search varies for one method; what is left out comes from ``space``."""

    ratio: SearchedNumber | None = None
    """Compression ratio, total / kept, at least 1."""
    lr: SearchedNumber | None = None
    """Peak learning rate. Sharing wants larger ones than pruning, unless its gradient scaling is load_power(0.5)."""
    weight_decay: SearchedNumber | None = None
    """Weight decay."""
    budgets: BudgetScope | None = None
    """How the memory is split between layers: see space.budgets."""
    args: dict[str, SearchedValue] = {}
    """Further arguments of the method, each fixed or searched: mapping and gradient_scaling for rps, rounds and
    rewind_epochs for ltr, floor for the pruning methods, scorer (rand, mag, snip, grasp, synflow), scope
    and floor for channels."""


class SpaceSpec(SpecModel):
    """What the search varies."""

    methods: dict[str, MethodSpec] = Field(default={"rps": MethodSpec(), "synflow": MethodSpec()}, min_length=1)
    """The methods, each with its own ranges: a list of names, or a mapping from name to ranges. Known: dense, rps,
    rand, mag, snip, grasp, synflow, erk, uniform, ltr, small, channels, or your own package.module:function."""
    ratio: SearchedNumber = Range(low=2, high=100)
    """Compression ratio of all compressed weights together, total / kept."""
    lr: SearchedNumber = Range(low=0.02, high=1.0)
    """Peak learning rate."""
    weight_decay: SearchedNumber = 1e-4
    """Weight decay."""
    budgets: BudgetScope = "groups"
    """How the memory is split: global leaves it to the method (one shared array, one global mask); groups and layers
    search the share of each group or layer, the total being what ratio says: densities follow those of
    Erdos-Renyi-kernel to a power, from a little below 0 (uniform) to beyond 1, and deviate from them up to 4 times."""
    extension: str | None = None
    """Your own package.module:function from a search.space.TrialLike, which draws values as Optuna's trials do, and the
    search.space.Suggestion so far to the suggestion changed by what it drew, from limits that are always the same: for
    what depends on other values."""
    groups: list[str] | None = None
    """Patterns (fnmatch) of layers that share a budget, for budgets: groups; null groups the model by stage."""

    @field_validator("methods", mode="before")
    @classmethod
    def _from_names(cls, methods: object) -> object:
        if isinstance(methods, str):
            return {methods: {}}
        if isinstance(methods, list) and all(isinstance(name, str) for name in methods):
            return {name: {} for name in methods}
        if isinstance(methods, dict):
            return {name: {} if ranges is None else ranges for name, ranges in methods.items()}
        return methods

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: dict[str, MethodSpec]) -> dict[str, MethodSpec]:
        for name in methods:
            check_name("method", name, METHODS)
        return methods

    @field_validator("extension")
    @classmethod
    def _function(cls, extension: str | None) -> str | None:
        return extension if extension is None else check_name("function", extension, {})

    @model_validator(mode="after")
    def _ranges(self) -> SpaceSpec:
        for where, value in [pair for method in self.methods for pair in self._values_of(method)]:
            field = where.rpartition(".")[2]
            try:
                low, _ = bounds(value)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
            if field == "ratio" and low < 1:
                raise ValueError(f"ratio >= 1 must hold (total / kept), but {where} reaches {low:g}")
            if field == "lr" and low <= 0:
                raise ValueError(f"lr > 0 must hold, but {where} reaches {low:g}")
            if field == "weight_decay" and low < 0:
                raise ValueError(f"weight_decay >= 0 must hold, but {where} reaches {low:g}")
        return self

    def _values_of(self, method: str) -> list[tuple[str, float | Range | Choices]]:
        own = self.methods[method]
        return [
            (
                f"methods.{method}.{field}" if getattr(own, field) is not None else field,
                self.searched(method, field),
            )
            for field in ("ratio", "lr", "weight_decay")
        ]

    def searched(self, method: str, field: Literal["ratio", "lr", "weight_decay"]) -> float | Range | Choices:
        """Return what the search draws ``field`` from for ``method``: the method's own range, or the common one."""
        own = getattr(self.methods[method], field)
        return getattr(self, field) if own is None else own

    def budget_scope(self, method: str) -> BudgetScope:
        """Return how ``method`` splits its memory."""
        return self.methods[method].budgets or self.budgets


class EarlyStoppingSpec(SpecModel):
    """Multi-objective asynchronous successive halving (MO-ASHA, arXiv:2106.12639).

    It pays where accuracies after a few epochs tell of the last. Of several seeds of a proposal the first is judged,
    and all end with it. Lottery tickets are not judged: until their last round they are not yet what they will be.
    """

    grace_epochs: PositiveInt = 1
    """Epochs that every trial may train."""
    reduction_factor: float = Field(default=3.0, ge=1.1)
    """Rungs lie at grace_epochs times the powers of its square root. There, trials that none equals or dominates go
    on, and of the others those among the first one in this many."""


class SearchSpec(SpecModel):
    """How trials are proposed and scheduled."""

    sampler: Literal["tpe", "nsga2", "nsga3", "gp", "random", "qmc", "grid"] = "tpe"
    """Optuna's sampler that proposes trials. tpe gives a quarter of the proposals to all methods alike, each searched
    in the light of its own results, and has good results recombined once there are hundreds."""
    startup_trials: NonNegativeInt = 10
    """Results before the sampler models anything; until then proposals are random. Where tpe searches a method by
    itself, its part of them."""
    concurrency: PositiveInt | None = None
    """Trials that run at once; null runs as many as the resources carry."""
    pack: PositiveInt = 1
    """Trials that share the resources of one trial and one process, trained as one fused program where that proves
    faster there (small networks on a GPU), in turns elsewhere. Metrics are those of trials alone up to rounding."""
    early_stopping: EarlyStoppingSpec | None = None
    """Stop trials that fall behind; null trains each to the end."""
    enqueue_known: bool = True
    """Try the well-known allocations (uniform, ERK, global) first."""
    warm_start: list[str] = []
    """Folders of earlier experiments whose results the sampler learns from."""


class ObjectiveSpec(SpecModel):
    """What is traded: validation accuracy against memory."""

    memory: Literal["stored_bytes", "stored_parameters"] = "stored_bytes"
    """Which measure of memory is made small: bytes of the saved file, or scalars as papers count them."""
    reference_accuracy: float | None = Field(default=None, ge=0, lt=1)
    """Accuracy of the reference point of the hypervolume: a model that is no better adds nothing; null takes that of
    guessing, one in as many as there are classes."""
    reference_memory: PositiveInt | None = None
    """Memory of the reference point, in the unit of ``memory``; null takes the dense model's."""
    max_bytes: ByteSize | None = Field(default=None, gt=0)
    """Only trials that store at most this much are feasible (200kB, 1MiB)."""
    min_accuracy: float | None = Field(default=None, gt=0, lt=1)
    """Only trials with at least this validation accuracy are feasible."""
    max_latency_ms: PositiveFloat | None = None
    """Only trials whose model classifies one image within this time are feasible."""


class ResourceSpec(SpecModel):
    """What one trial occupies."""

    cpus: PositiveFloat = 1
    """CPUs; a trial computes with as many threads."""
    gpus: NonNegativeFloat = 0
    """GPUs, whole or a fraction of one."""
    custom: dict[str, PositiveFloat] = {}
    """Ray's custom resources."""

    @field_validator("gpus")
    @classmethod
    def _whole_or_part(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"gpus must be a fraction up to 1 or a whole number, but got {gpus:g}")
        return gpus


class FailureSpec(SpecModel):
    """What happens when trials fail."""

    retries: NonNegativeInt = 2
    """How often a trial is started again, from its checkpoint, after its process died or its node vanished."""
    time_limit_s: PositiveFloat | None = None
    """Longest time one trial may train, in seconds; null does not limit it."""
    stop_after: PositiveInt = 10
    """The search stops when this many trials in a row failed for the same reason."""


class Provenance(SpecModel):
    """What launched an experiment. Written by ``launch``, never by hand."""

    versions: dict[str, str]
    """Versions of this package and of what it builds on."""
    git_commit: str | None
    """Commit of the working tree, where there was one."""
    created_at: str
    """Time of the launch, ISO 8601, UTC."""
    schema_version: int
    """Version of the result tables."""


class Spec(SpecModel):
    """One experiment: a search over trials for the accuracy-memory frontier."""

    name: str = Field(default="experiment", min_length=1, max_length=100)
    """Name of the experiment, stored with every row."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the search; each trial's seed derives from it and the trial's number."""
    trials: PositiveInt = 20
    """Trials in all, repeats counted."""
    repeats: PositiveInt = 1
    """Seeds that each proposal is trained with; the sampler sees their mean."""
    data: DataSpec = DataSpec()
    model: ModelSpec = ModelSpec()
    train: TrainSpec = TrainSpec()
    space: SpaceSpec = SpaceSpec()
    search: SearchSpec = SearchSpec()
    objectives: ObjectiveSpec = ObjectiveSpec()
    resources: ResourceSpec = ResourceSpec()
    failures: FailureSpec = FailureSpec()
    claims: list[ClaimSpec] = []
    """What the study sets out to check: rps-search claims DIR judges each by test accuracy over seeds."""
    disk_budget: ByteSize | None = None
    """Most that checkpoints may occupy (2GB); null does not limit them."""
    provenance: Provenance | None = None
    """Written by launch; leave it out."""

    @field_validator("name")
    @classmethod
    def _no_path(cls, name: str) -> str:
        if name in (".", "..") or "/" in name or "\\" in name:
            raise ValueError(f"a name must be no path, but got {name!r}; --storage says where results go")
        if "\n" in name or "\0" in name or not name.strip():
            raise ValueError(f"a name is one line that says something, but got {name!r}")
        return name

    @model_validator(mode="after")
    def _possible(self) -> Spec:
        if self.trials % self.repeats:
            raise ValueError(f"trials must be a multiple of repeats, but got {self.trials} and {self.repeats}")
        if self.search.pack > 1 and self.resources.gpus > 1:
            raise ValueError(
                f"the trials of a pack share one GPU or a part of one, "
                f"but got search.pack={self.search.pack} and resources.gpus={self.resources.gpus:g}"
            )
        if self.model.weights is not None and "small" in self.space.methods:
            raise ValueError(
                "space.methods: small builds a narrower model, which model.weights do not fit; leave one of them out"
            )
        stopping = self.search.early_stopping
        if stopping and stopping.grace_epochs > self.train.epochs:
            raise ValueError(
                f"search.early_stopping.grace_epochs <= train.epochs must hold, "
                f"but got {stopping.grace_epochs} of {self.train.epochs}"
            )
        return self
