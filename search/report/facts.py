"""What a report says, as plain data: the page and the pictures only place and draw it."""

from __future__ import annotations

from dataclasses import dataclass, field

from search.report.importance import Importance


@dataclass(frozen=True)
class Method:
    """A method and how it looks."""

    name: str
    color: int
    shape: str


@dataclass(frozen=True)
class Dense:
    """The uncompressed model of some experiments; None where it was not trained or not recorded."""

    model: str
    label: str
    """What its line is called."""
    accuracy: float | None
    accuracy_val: float | None
    stored_bytes: float | None
    stored_parameters: float | None


@dataclass(frozen=True)
class Point:
    """A proposal: the mean over the seeds it was trained with."""

    method: int
    """Index into :attr:`Facts.methods`."""
    network: int
    """Index into :attr:`Facts.dense`: the model that was compressed."""
    experiment: str
    folder: str
    """Experiment folder, quoted for a shell."""
    trials: list[str]
    """Whose mean it is, one a seed."""
    seeds: list[int]
    accuracy: float
    """Mean test accuracy over the seeds, 0 to 1."""
    low: float | None
    """Lower end of the 95 % interval over seeds; None for one seed, and where all seeds agree."""
    high: float | None
    accuracy_val: float
    """The same on the validation images: what points are chosen by."""
    stored_bytes: float
    stored_parameters: float
    ratio: float | None
    lr: float | None
    weight_decay: float | None
    budgets: dict[str, int]
    tied: bool = False
    """On the frontier, with a validation interval that overlaps a neighbour's: seeds do not tell the two apart."""


@dataclass(frozen=True)
class Front:
    """Which points no other beats, from small to large memory."""

    overall: list[int]
    methods: dict[int, list[int]]
    """The same among the points of one method alone."""


@dataclass(frozen=True)
class Pick:
    """A point that answers a question people ask."""

    title: str
    label: str
    measure: str
    point: int
    method: int
    accuracy: str
    size: str
    how: str
    trial: str


@dataclass(frozen=True)
class RatioPoint:
    """The best proposal of one method within a range of ratios."""

    ratio: float
    start: float
    end: float
    accuracy: float
    low: float | None
    high: float | None
    seeds: int
    proposals: int
    """Proposals it is the best of."""
    trial: str


@dataclass(frozen=True)
class Series:
    """One method's line in the paper's figure."""

    method: int
    points: list[RatioPoint]


@dataclass(frozen=True)
class Gaps:
    """How far one method is ahead of each other one at the same memory."""

    leader: str
    columns: list[str]
    rows: list[tuple[str, list[str]]]
    note: str


@dataclass(frozen=True)
class Budgets:
    """How frontier models split their memory."""

    layers: list[str]
    columns: list[int]
    """Indices into :attr:`Facts.points`, from small to large memory."""
    values: list[list[float | None]]
    """Share of each layer's weights that is kept, shape ``(layers, columns)``; None where the method decided."""
    note: str


@dataclass(frozen=True)
class Importances:
    """What decided the accuracy."""

    rows: list[Importance]
    note: str
    caution: str | None


@dataclass(frozen=True)
class Curve:
    """Validation accuracy of one trial, epoch by epoch."""

    method: int
    trial: str
    frontier: bool
    ratio: float | None
    lr: float | None
    epochs: list[int]
    accuracy: list[float]


@dataclass(frozen=True)
class MethodTime:
    """Time of all trials of a method, in seconds, for each part."""

    method: int
    seconds: list[float]


@dataclass(frozen=True)
class Times:
    """Where the time went."""

    parts: list[str]
    rows: list[MethodTime]
    note: str


@dataclass(frozen=True)
class Failure:
    """Trials that failed for one reason."""

    trials: int
    reason: str
    methods: str
    example: str


@dataclass(frozen=True)
class Claim:
    """A claim of the spec with what was found, as text."""

    claim: str
    where: str
    accuracy: str
    against: str
    difference: str
    interval: str
    verdict: str
    note: str


@dataclass(frozen=True)
class Origin:
    """How to run an experiment again."""

    name: str
    commands: list[str]
    facts: list[tuple[str, str]]
    spec: str | None


@dataclass
class Facts:
    """Everything a report says."""

    title: str
    eyebrow: str
    headline: str
    lede: str
    measure: str
    """The measure of memory that the spec searched by."""
    measures: dict[str, str]
    accuracy_label: str
    experiments: list[str]
    methods: list[Method]
    dense: list[Dense]
    points: list[Point]
    """Every point of a frontier, and others up to what a picture can show."""
    focus: list[float]
    """Accuracies that the frontier's axis must show."""
    fronts: dict[str, Front]
    picks: list[Pick]
    frontier_note: str = ""
    empty: str = ""
    notes: list[str] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    ratios: list[Series] = field(default_factory=list)
    ratio_note: str = ""
    gaps: Gaps | None = None
    budgets: Budgets | None = None
    importances: Importances | None = None
    history: list[tuple[int, float]] = field(default_factory=list)
    history_note: str = ""
    curves: list[Curve] = field(default_factory=list)
    curves_note: str = ""
    times: Times | None = None
    failures: list[Failure] = field(default_factory=list)
    failures_note: str = ""
    reproduce: list[Origin] = field(default_factory=list)
