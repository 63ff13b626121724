"""Searches compared as wholes: the hypervolume that each kind of search reaches, over several seeds of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import pyarrow as pa

from search.errors import UserError
from search.results.hypervolume import hypervolume
from search.results.intervals import welch
from search.results.load import Results
from search.results.points import drawable, points
from search.results.same_data import data_differences, spec_differences

_SCHEMA = pa.schema(
    [
        ("experiment", pa.string()),
        ("searches", pa.int64()),
        ("trials", pa.float64()),
        *((name, pa.float64()) for name in ("hypervolume", "difference", "low", "high")),
    ]
)


@dataclass(frozen=True)
class Searched:
    """One search: the name of its experiment, how many trials it finished, and the hypervolume it reached."""

    experiment: str
    trials: int
    hypervolume: float


def searched(results: Sequence[Results], on: str = "accuracy_val") -> list[Searched]:
    """Return what each of several searches reached, under its name; if specs differ, with what they differ in.

    Args:
        results: One experiment each.
        on: The accuracy that counts, ``accuracy_val`` or ``accuracy`` (test).

    Raises:
        UserError: If a search has finished nothing or is given twice, or they do not share a data set and a reference
            point: volumes of different boxes cannot be compared.
    """
    found, boxes = [], {}
    holders: dict[tuple[str, str], int] = {}
    stores = [one.stores[0] for one in results]
    apart = data_differences(stores)
    for index, one in enumerate(results):
        place, meta = one.stores[0].folder, one.meta[0]
        reference = meta.get("reference")
        if not reference:
            raise UserError(f"{place}: its reference point is not known; it has not begun to search")
        measure = meta.get("memory", "stored_bytes")
        table = points(drawable(one.stores, (measure,)), (measure,))
        if not table.num_rows:
            raise UserError(f"{place}: no trial has finished; leave it out, or resume it first")
        # Seeds of trials derive from the search's: two searches of one experiment have no trial in common.
        for trial in zip(table["experiment"].to_pylist(), table["trial_id"].to_pylist(), strict=True):
            if (other := holders.setdefault(trial, index)) != index:
                holder = str(results[other].stores[0].folder)
                twice = "is given twice" if holder == str(place) else f"holds trials of {holder}"
                raise UserError(
                    f"{place} {twice}: one search counts once, so leave one of them out, or launch the spec with "
                    "another seed"
                )
        names = sorted({name or "no name" for name in table["dataset"].to_pylist()})  # Another program may give none.
        datasets = ", ".join([*names, *filter(None, [apart[index]])])
        boxes[measure, datasets, float(reference["accuracy"]), float(reference["memory"])] = place
        if len(boxes) > 1:
            (a, first), (b, second) = list(boxes.items())[:2]
            raise UserError(
                f"{first} and {second} have different reference points ({_box(a)}; {_box(b)}); compare searches on the "
                "same data whose specs have the same objectives"
            )
        box = {"accuracy": float(reference["accuracy"]), measure: float(reference["memory"])}
        volume = hypervolume(table, box, (measure,), on=on)
        found.append(Searched(table["experiment"][0].as_py(), sum(table["seeds"].to_pylist()), volume))
    # Of one name, but not seeds of one search.
    others = spec_differences(stores, [one.experiment for one in found])
    return [
        replace(one, experiment=f"{one.experiment} ({text})") if text else one
        for one, text in zip(found, others, strict=True)
    ]


def compare(found: Sequence[Searched]) -> pa.Table:
    """Return a row for each experiment's name, best first: its mean hypervolume over searches, and its distance to
    the best with Welch's 95 % interval (null where there is one search only).
    """
    groups: dict[str, list[Searched]] = {}
    for one in found:
        groups.setdefault(one.experiment, []).append(one)
    volumes = {name: [one.hypervolume for one in group] for name, group in groups.items()}
    order = sorted(groups, key=lambda name: -fmean(volumes[name]))
    rows = []
    for name in order:
        difference, half = welch(volumes[name], volumes[order[0]])
        rows.append(
            {
                "experiment": name,
                "searches": len(groups[name]),
                "trials": fmean(one.trials for one in groups[name]),
                "hypervolume": fmean(volumes[name]),
                "difference": difference if name != order[0] else None,
                "low": difference - half if half is not None and name != order[0] else None,
                "high": difference + half if half is not None and name != order[0] else None,
            }
        )
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def _box(key: tuple[str, str, float, float]) -> str:
    measure, datasets, accuracy, memory = key
    return f"{datasets}, accuracy {accuracy:g}, {measure} {memory:g}"
