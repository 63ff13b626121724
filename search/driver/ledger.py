"""What is to run, what runs and what is done: the one place that counts trials."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from search.config import TrialConfig, derive_seed, recorded_config, recorded_params, with_current
from search.errors import DIVERGED
from search.proposing import ExhaustedError, Past, Proposer, combine, constraint_values, is_feasible
from search.space import Suggestion
from search.spec import Spec
from search.spec.fields import Scalar

NUMBERS = re.compile(r"\b(?:0x)?[0-9a-f]*\d[0-9a-f]*\b")


@dataclass(frozen=True)
class Run:
    """One training run: a repeat of a proposal.

    Attributes:
        config: What is trained.
        number: Number of the proposal.
        repeat: Which seed of the proposal this is.
        params: The proposal as the sampler named it.
        origin: Where it came from.
        recorded_id: The id that the tables have for it; None where it was not recorded yet.
    """

    config: TrialConfig
    number: int
    repeat: int
    params: Mapping[str, Scalar]
    origin: str = "sampler"
    recorded_id: str | None = None

    @cached_property
    def trial_id(self) -> str:
        """Its id, asked for often: a hash over the whole configuration, by whatever version recorded it."""
        return self.recorded_id or self.config.trial_id

    @cached_property
    def params_json(self) -> str:
        """The parameters as the tables store them."""
        return json.dumps(dict(self.params))

    def journal_row(self, experiment: str) -> dict[str, Any]:
        """Return the run's row of the proposals table."""
        return {
            "trial_id": self.trial_id,
            "experiment": experiment,
            "number": self.number,
            "repeat": self.repeat,
            "seed": self.config.seed,
            "origin": self.origin,
            "params_json": self.params_json,
            "config_json": self.config.model_dump_json(),
            "proposed_at": datetime.now(UTC),
        }


@dataclass
class _Proposal:
    """The rows of a proposal's repeats, as they end."""

    repeats: int
    rows: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return len(self.rows) >= self.repeats


class Ledger:
    """Hands out runs until the budget of trials is met exactly, and tells the proposer how they ended.

    ``stop_reason`` says why nothing more is to be handed out, though there is more; ``exhausted`` why nothing more will
    be proposed, though the budget is not met: what was proposed is still to run.

    Args:
        spec: The experiment.
        proposer: Proposes configurations.
        journal: Rows of the proposals table: what was proposed before.
        finished: Rows of the trials table: what ended before.
        earlier: Proposals of other experiments to learn from.
    """

    def __init__(
        self,
        spec: Spec,
        proposer: Proposer,
        *,
        journal: Iterable[Mapping[str, Any]] = (),
        finished: Iterable[Mapping[str, Any]] = (),
        earlier: Iterable[Past] = (),
    ) -> None:
        proposer.restore(earlier)
        self._spec = spec
        self._proposer = proposer
        self._proposals: dict[int, _Proposal] = {}
        self._runs: dict[int, list[Run]] = {}
        self._further: set[str] = set()
        self._waiting: deque[Run] = deque()
        self.new_runs: list[Run] = []
        self.handed_out = 0
        self.recorded = 0
        self.stop_reason: str | None = None
        self.exhausted: str | None = None
        self._last_error: tuple[str, int] = ("", 0)
        self._recall(list(journal), {row["trial_id"]: row for row in finished})

    @property
    def complete(self) -> bool:
        """Whether as many trials have ended as the spec asks for, or as there can be, and all further repeats."""
        if self._further:
            return False
        if self.exhausted is not None:
            return self.recorded >= self.handed_out + len(self._waiting)
        return self.recorded >= self._spec.trials

    @property
    def interrupted_ids(self) -> set[str]:
        """Ids of the trials that were proposed and have not ended: those whose checkpoints are needed."""
        return {run.trial_id for run in self._waiting}

    def has_ready(self, count: int) -> bool:
        """Whether the next ``count`` runs are there already, or all that will be."""
        if len(self._waiting) >= count or self.stop_reason is not None or self.exhausted is not None:
            return True
        return self.handed_out + sum(map(self._counts, self._waiting)) >= self._spec.trials

    def next(self) -> Run | None:
        """Return the next run; None when all that the spec asks for are handed out, or the search is to stop."""
        if self.stop_reason is not None:
            return None
        self.look_ahead()
        while self._waiting and self.handed_out >= self._spec.trials and self._counts(self._waiting[0]):
            self._waiting.popleft()  # A resumed search may want fewer trials than were proposed.
        if not self._waiting:
            return None
        run = self._waiting.popleft()
        self.handed_out += self._counts(run)
        return run

    def look_ahead(self, count: int = 1) -> None:
        """Propose once if not ``count`` runs are ready, so that no place waits for the sampler."""
        if not self.has_ready(count):
            self._propose()

    def put_back(self, run: Run) -> None:
        """Take back a run that was handed out and could not begin: it is the next one."""
        self._waiting.appendleft(run)
        self.handed_out -= self._counts(run)

    def repeat(self, numbers: Iterable[int], seeds: int) -> int:
        """Queue further repeats of proposals, beside the budget of trials; return how many there are to run.

        Args:
            numbers: The proposals.
            seeds: Seeds that each is to have in all.
        """
        for number in numbers:
            first = self._runs[number][0]
            for repeat in range(self._spec.repeats, seeds):
                if repeat not in {run.repeat for run in self._runs[number]}:
                    config = first.config.model_copy(update={"seed": derive_seed(self._spec.seed, number, repeat)})
                    run = Run(config, number, repeat, first.params, "repeat")
                    self._runs[number].append(run)
                    self._waiting.append(run)
                    self._further.add(run.trial_id)
                    self.new_runs.append(run)
        return len(self._further)

    def is_judged(self, run: Run) -> bool:
        """Whether early stopping judges a run's proposal by it: the first of its seeds that has not failed."""
        return self._counts(run) and stands(run.repeat, self._proposals[run.number].rows)

    def _counts(self, run: Run) -> bool:
        """Whether a run belongs to the budget of trials; further repeats do not."""
        return run.repeat < self._spec.repeats

    def record(self, run: Run, row: Mapping[str, Any]) -> None:
        """Take note of how a run ended."""
        self._watch_failures(row)
        if not self._counts(run):
            self._further.discard(run.trial_id)
            return
        self.recorded += 1
        proposal = self._proposals[run.number]
        proposal.rows.append(row)
        if proposal.complete:
            # What is known of ten thousand proposals lies in the tables, not here.
            del self._proposals[run.number]
            past = outcome(run.params, proposal.rows, self._spec, number=run.number)
            self._proposer.tell(
                run.number,
                status=past.status,
                accuracy=past.accuracy,
                memory=past.memory,
                constraints=past.constraints,
            )

    def _propose(self) -> None:
        try:
            number, suggestion = self._proposer.ask()
        except ExhaustedError as error:
            self.exhausted = str(error)
            return
        self._proposals[number] = _Proposal(self._spec.repeats)
        for repeat in range(self._spec.repeats):
            run = Run(configure(self._spec, suggestion, number, repeat), number, repeat, suggestion.params)
            self._waiting.append(run)
            self.new_runs.append(run)

    def _recall(self, journal: Sequence[Mapping[str, Any]], finished: Mapping[str, Mapping[str, Any]]) -> None:
        """Rebuild the state of an interrupted search from its tables."""
        ids = {(row["number"], row["repeat"]): trial_id for trial_id, row in finished.items()}
        read: dict[str | None, TrialConfig] = {}  # Both tables hold the same text of a trial.
        for row in [*journal, *finished.values()]:
            config = read.get(row["config_json"])
            if config is None:
                config = with_current(recorded_config(row), self._spec.data, self._spec.model, self._spec.train)
                read[row["config_json"]] = config
            run = Run(
                config,
                row["number"],
                row["repeat"],
                recorded_params(row),
                row.get("origin") or "sampler",
                ids.get((row["number"], row["repeat"])),
            )
            known = self._runs.setdefault(run.number, [])
            if run.repeat not in {other.repeat for other in known}:
                known.append(run)
        # The order in which they were recorded: their own clocks are those of several machines.
        recorded = {trial_id: place for place, trial_id in enumerate(finished)}
        ended: list[tuple[int, Past]] = []
        running: list[Past] = []
        for number, runs in sorted(self._runs.items()):
            proposal = self._proposals[number] = _Proposal(self._spec.repeats)
            for run in sorted(runs, key=lambda r: r.repeat):
                if not self._counts(run):
                    if run.trial_id not in finished:
                        self._further.add(run.trial_id)
                        self._waiting.append(run)
                elif run.trial_id in finished:
                    proposal.rows.append(finished[run.trial_id])
                else:
                    self._waiting.append(run)
            if proposal.complete:
                place = max(recorded[row["trial_id"]] for row in proposal.rows)
                ended.append((place, outcome(runs[0].params, proposal.rows, self._spec, number=number)))
            else:
                running.append(Past(runs[0].params, "running", number))
        self._proposer.restore([past for _, past in sorted(ended, key=lambda pair: pair[0])] + running)
        self.recorded = self.handed_out = sum(len(p.rows) for p in self._proposals.values())

    def _watch_failures(self, row: Mapping[str, Any]) -> None:
        """Stop a search whose trials all fail for one reason: it will not get better.

        Failures are the same if they differ in numbers only: processes, addresses, bytes. The exception are losses that
        diverged, which tell of the learning rate that they name and not of the search.
        """
        reason = str(row.get("error")) if row["status"] == "failed" else ""
        kind = reason if reason.startswith(DIVERGED) else NUMBERS.sub("#", reason)
        last, count = self._last_error
        self._last_error = (kind, count + 1 if reason and kind == last else 1)
        if reason and self._last_error[1] >= self._spec.failures.stop_after:
            self.stop_reason = f"{self._last_error[1]} trials in a row failed: {reason}"


def configure(spec: Spec, suggestion: Suggestion, number: int, repeat: int) -> TrialConfig:
    """Make a trial of a suggestion."""
    return TrialConfig(
        **suggestion.settings,
        seed=derive_seed(spec.seed, number, repeat),
        data=spec.data,
        model=spec.model,
        train=spec.train,
    )


def stands(repeat: int, rows: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether all seeds of a proposal before ``repeat`` failed, by the proposal's rows."""
    return set(range(repeat)) <= {row["repeat"] for row in rows if row["status"] == "failed"}


def outcome(
    params: Mapping[str, Scalar], rows: Sequence[Mapping[str, Any]], spec: Spec, *, number: int | None = None
) -> Past:
    """Return what the sampler learns from the rows of a proposal's repeats."""
    return combine([_past(params, row, spec, number) for row in rows])


def meets_constraints(row: Mapping[str, Any], spec: Spec) -> bool:
    """Return whether a trial ended well and keeps to every limit of ``objectives``."""
    past = _past({}, row, spec, None)
    return past.status == "finished" and is_feasible(tuple(past.constraints))


def _past(params: Mapping[str, Scalar], row: Mapping[str, Any], spec: Spec, number: int | None) -> Past:
    accuracy, memory, latency = row["accuracy_val"], row[spec.objectives.memory], row["latency_ms"]
    # The latency of a trial that was stopped early is not known, and so not whether it keeps to a limit.
    unknown = accuracy is None or not memory or (latency is None and spec.objectives.max_latency_ms is not None)
    stopping, stopped = spec.search.early_stopping is not None, row["status"] == "pruned"
    # One that an earlier search stopped could not be told from one that was trained to its end.
    if row["status"] == "failed" or unknown or (stopped and not stopping):
        return Past(params, "failed", number)
    trained = None
    if stopping:
        # A ticket has more epochs than one training has, and may be judged in any of its rounds after a restart.
        epochs = spec.train.epochs
        trained = min(row["epochs_run"], epochs - 1) / epochs if stopped else 1.0
    constraints = constraint_values(
        spec.objectives,
        stored_bytes=row["stored_bytes"],
        accuracy=accuracy,
        latency_ms=latency,
        trained=trained,
    )
    return Past(params, row["status"], number, accuracy=accuracy, memory=memory, constraints=constraints)
