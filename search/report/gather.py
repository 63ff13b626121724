"""From experiment folders to the facts of a report."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from search.errors import UserError
from search.report.answers import dense_models, headline, headline_measure, picks
from search.report.claims import all_claims, claim_line
from search.report.facts import Dense, Facts, Point
from search.report.figures import (
    RATIO_NOTE,
    budgets,
    describe_history,
    learning_curves,
    method_gaps,
    ratio_series,
    searched_importances,
)
from search.report.proposals import MEASURES, Proposals, proposals
from search.report.reproduce import origin
from search.report.running import Ran, failures, none_failed, ran, times
from search.report.text import plural, visible
from search.results import Results, load
from search.results.claims import candidates, judge
from search.results.hypervolume import history
from search.results.load import read_spec
from search.spec import Spec

# Accuracies that differ by less are one level.
_LEVEL = 0.01
FRONTIER_NOTE = (
    "Models are chosen by their accuracy on validation images and shown with their accuracy on test images, which no "
    "choice looked at: where the line falls, or a faint marker lies above it, that is chance one sees. Whiskers are "
    "95 % intervals over seeds; the validation interval of a hollow marker overlaps that of a neighbour, so that "
    "seeds do not tell them apart. Thin lines are each method's own frontier."
)


def gather(folders: Iterable[str | os.PathLike[str]]) -> Facts:
    """Read one or more experiments on the same data and return what there is to say about them.

    Raises:
        UserError: If a folder is no experiment, or they cannot be compared.
    """
    results = load(*folders)
    specs, notes = _specs(results)
    found = proposals(results)
    measure = next((meta["memory"] for meta in results.meta if "memory" in meta), "stored_bytes")
    dense = dense_models(found)
    max_bytes = next((int(s.objectives.max_bytes) for s in specs if s and s.objectives.max_bytes), None)
    max_latency = next((s.objectives.max_latency_ms for s in specs if s and s.objectives.max_latency_ms), None)
    chosen = picks(found, dense, max_bytes, max_latency)
    names = _names(results, specs)
    title = ", ".join(names)
    summary = ran(results)
    facts = Facts(
        title=title,
        eyebrow=_eyebrow(title, summary),
        headline="No finished trial yet",
        lede="",
        measure=measure,
        measures=MEASURES,
        accuracy_label="Test accuracy",
        experiments=names,
        methods=found.looks,
        dense=dense,
        points=found.shown,
        focus=[],
        fronts=found.shown_fronts,
        picks=chosen,
        empty=_empty(summary.counts),
        notes=notes,
        failures=failures(results),
        failures_note=none_failed(summary.counts),
        times=times(results, found.methods),
        reproduce=[
            origin(store.folder, spec, name) for store, spec, name in zip(results.stores, specs, names, strict=True)
        ],
    )
    facts.claims = [claim_line(line) for line in judge(all_claims(specs), candidates(results.stores))]
    if found.shown:
        _answer(facts, found, dense)
        _figures(facts, results, found)
    return facts


def _answer(facts: Facts, found: Proposals, dense: list[Dense]) -> None:
    best = headline_measure(facts.picks, facts.measure)
    front = facts.fronts[facts.measure].overall
    facts.headline = headline(found, best, dense) if best else "Only the dense model has finished"
    facts.lede = _lede(facts, found, front)
    own = facts.fronts[facts.measure].methods.values()
    facts.focus = _focus(
        [facts.points[index] for index in front], [facts.points[index].accuracy for indices in own for index in indices]
    )
    facts.frontier_note = FRONTIER_NOTE
    if all(one.accuracy is None for one in dense):
        facts.notes.append(
            "No dense model was trained in these experiments: add dense to space.methods to see its line."
        )
    if found.sampling:
        facts.notes.append(found.sampling)
    if all(len(point.trials) == 1 for point in facts.points):
        facts.notes.append(
            "Every proposal was trained with one seed, so that there are no intervals: repeats in the spec adds seeds."
        )


def _focus(front: list[Point], of_methods: list[float]) -> list[float]:
    """Return accuracies that the frontier's axis must show: intervals too, as far as they do not squeeze the rest.

    Args:
        front: The models of the frontier.
        of_methods: Accuracies on each method's own frontier; shown where the frontier alone has no height, or one model
            that beats all would stand alone in its picture.
    """
    accuracies = [point.accuracy for point in front]
    if max(accuracies) - min(accuracies) < _LEVEL:
        accuracies += of_methods
    room = 0.3 * (max(accuracies) - min(accuracies)) + 0.01
    lows = [max(point.low, min(accuracies) - room) for point in front if point.low is not None]
    highs = [min(point.high, max(accuracies) + room) for point in front if point.high is not None]
    return [*accuracies, *lows, *highs]


def _lede(facts: Facts, found: Proposals, front: list[int]) -> str:
    """Return what the frontier is made of and how sure it is."""
    shares: dict[str, int] = {}
    for index in front:
        name = facts.methods[facts.points[index].method].name
        shares[name] = shares.get(name, 0) + 1
    most = sorted(shares, key=lambda name: -shares[name])
    parts = ", ".join(f"{name} {shares[name]}" for name in most)
    tied = sum(facts.points[index].tied for index in front)
    form = "forms" if len(front) == 1 else "form"
    text = f"{plural(len(front), 'model')} of {plural(found.table.num_rows, 'proposal')} {form} the frontier ({parts})."
    return text + (f" Seeds do not tell {tied} of them from a neighbour." if tied else "")


def _figures(facts: Facts, results: Results, found: Proposals) -> None:
    facts.ratios = ratio_series(found)
    facts.ratio_note = RATIO_NOTE
    facts.gaps = method_gaps(found, facts.measure, _leader(facts, found))
    facts.budgets = budgets(found, results.meta, facts.measure)
    facts.importances = searched_importances(found, facts.measure)
    facts.curves, facts.curves_note = learning_curves(results, found, facts.measure)
    reference = _reference(found, facts.measure, results.meta)
    grown = history(found.table, reference, (facts.measure,)).to_pydict()
    facts.history = list(zip(grown["points"], grown["hypervolume"], strict=True))
    facts.history_note = describe_history(facts.history, reference, facts.measure)


def _leader(facts: Facts, found: Proposals) -> str | None:
    """Return the method, as the tables name it, of the model that the headline is about."""
    best = headline_measure(facts.picks, facts.measure)
    return next((name for name, index in found.methods.items() if best and index == best.method), None)


def _reference(found: Proposals, measure: str, meta: list[dict[str, Any]]) -> dict[str, float]:
    """Return the reference point that the specs fixed; without one, the largest model that was tried.

    Of several it is the poorest in both, so that what one spec counts as better than it counts here, too.
    """
    given = [one["reference"] for one in meta if one.get("reference") and one.get("memory", measure) == measure]
    if given:
        memory = max(float(one["memory"]) for one in given)
        return {"accuracy": min(float(one["accuracy"]) for one in given), measure: memory}
    return {"accuracy": 0.0, measure: float(found.table[measure].to_numpy().max())}


def _specs(results: Results) -> tuple[list[Spec | None], list[str]]:
    """Return each experiment's spec, and a note for each that cannot be read: the tables are worth a report anyway."""
    specs: list[Spec | None] = []
    notes = []
    for store in results.stores:
        try:
            specs.append(read_spec(store.folder))
        except UserError as error:
            specs.append(None)
            notes.append(visible(f"The spec is left out, since it cannot be read: {error}"))
    return specs, notes


def _names(results: Results, specs: list[Spec | None]) -> list[str]:
    return [
        visible(spec.name if spec else str(store.folder).rstrip("/").rpartition("/")[2])
        for store, spec in zip(results.stores, specs, strict=True)
    ]


def _eyebrow(title: str, summary: Ran) -> str:
    what = f"{summary.models} on {summary.datasets}" if summary.models and summary.datasets else None
    count = plural(sum(summary.counts.values()), "trial")
    return " · ".join(part for part in (title, what, count, summary.last_day) if part)


def _empty(counts: dict[str, int]) -> str:
    if not counts:
        return "The tables hold no trial yet: the report fills as the search writes. Run it again later."
    ended = ", ".join(f"{count:,} {status}" for status, count in sorted(counts.items()))
    return f"No trial has finished with an accuracy ({ended}), so that there is no frontier to show."
