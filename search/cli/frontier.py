"""``frontier``: the best trade between accuracy and memory that an experiment found, and which point to take."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
import typer

from search.cli.output import FormatOption, OutOption, format_table, write_or_print
from search.errors import UserError

if TYPE_CHECKING:
    from search.results import Folder

_ACCURACY_OF = {"val": "accuracy_val", "test": "accuracy"}
_DENSE = {"stored_bytes": "dense_bytes", "stored_parameters": "dense_parameters"}
"""What the driver notes of the dense model, by measure."""
_HIDDEN_IN_TABLES = {"number", "finished_at", "accuracy_val_low", "accuracy_val_high"}


def frontier(
    folders: Annotated[list[str], typer.Argument(metavar="DIR ...", help="Experiment folders.")],
    by: Annotated[
        list[str] | None, typer.Option(help="A frontier for each method, model, experiment or dataset; repeatable.")
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(help="stored_bytes (default), stored_parameters, latency_ms or flops; repeatable, up to three."),
    ] = None,
    on: Annotated[str, typer.Option(help="Accuracy that decides: val, or test as papers do.")] = "val",
    max_bytes: Annotated[
        str | None, typer.Option(help="Only the most accurate point that stores at most this (200kB).")
    ] = None,
    within: Annotated[
        float | None, typer.Option(help="Only the smallest point within this many percentage points of dense.")
    ] = None,
    knee: Annotated[bool, typer.Option("--knee", help="Only the point after which memory brings little.")] = False,
    gaps: Annotated[bool, typer.Option("--gaps", help="By how much methods differ at equal memory.")] = False,
    history: Annotated[bool, typer.Option("--history", help="How the hypervolume grew.")] = False,
    form: FormatOption = None,
    out: OutOption = None,
) -> None:
    """Print the frontier: the points that none beats in accuracy and memory at once, seeds averaged first.

    Points are chosen by validation accuracy; the column accuracy is their test accuracy, which chose nothing. Where
    overlaps is true, seeds do not tell a point from its neighbour.
    """
    from search.results.load import load

    picks = {"--max-bytes": max_bytes is not None, "--within": within is not None, "--knee": knee}
    _refuse_together({"--gaps": gaps, "--history": history}, picks, by)
    asked = _Asked(load(*folders), tuple(measure or ["stored_bytes"]), accuracy_named(on), tuple(by or ()))
    if gaps:
        found = asked.gaps()
    elif history:
        found = asked.history()
    elif any(picks.values()):
        found = asked.picks(max_bytes, within, knee)
    else:
        found = asked.frontier()
        asked.explain(found)
    printed = write_or_print(found, form, out, shown=found if history else for_people(found))
    if printed and not (gaps or history or any(picks.values()) or by):
        asked.print_methods()


def accuracy_named(on: str) -> str:
    """Return the column of the accuracy that ``--on`` names.

    Raises:
        UserError: If it is none.
    """
    if on not in _ACCURACY_OF:
        raise UserError(f"--on {on}: write val or test")
    return _ACCURACY_OF[on]


def _refuse_together(alone: Mapping[str, bool], picks: Mapping[str, bool], by: Sequence[str] | None) -> None:
    """Refuse options that ask for different tables, rather than answer one of them.

    Raises:
        UserError: If more than one table is asked for; picks are rows of one table.
    """
    wanted = [name for name, given in alone.items() if given]
    wanted += [", ".join(name for name, given in picks.items() if given)] if any(picks.values()) else []
    if len(wanted) > 1:
        raise UserError(f"{' and '.join(wanted)} are different tables: ask for one at a time")
    if wanted and by:
        raise UserError(
            f"--by draws several frontiers, but {wanted[0]} is answered over all points: leave out one of them"
        )


def print_frontier(folder: Folder) -> None:
    """Print the frontier of one experiment, as the command without options does."""
    from search.results.load import load

    asked = _Asked(load(folder.uri), ("stored_bytes",), "accuracy_val", ())
    found = asked.frontier()
    asked.explain(found)
    if found.num_rows:
        print(format_table(for_people(found)), end="")
        asked.print_methods()


def for_people(table: pa.Table) -> pa.Table:
    """Return the columns a person wants to see: not those that are empty, or the same in every row."""
    drop = [name for name in table.column_names if name in _HIDDEN_IN_TABLES or table[name].null_count == len(table)]
    shared = [name for name in ("experiment", "dataset", "model") if name in table.column_names]
    drop += [name for name in shared if len(table[name].unique()) == 1]
    if "seeds" in table.column_names and table["seeds"].unique().to_pylist() == [1]:
        drop.append("seeds")
    return table.drop_columns(sorted(set(drop)))


class _Asked:
    """What the options of one call mean."""

    def __init__(self, results: Any, measures: tuple[str, ...], on: str, by: tuple[str, ...]) -> None:
        from search.results import points

        self.results, self.on, self.by = results, on, by
        self.measures = points.check_measures(measures)
        self.trials = points.drawable(results.stores, measures)
        self.points = points.points(self.trials, measures)

    def frontier(self) -> pa.Table:
        from search.results.frontier import frontier

        return frontier(self.points, self.measures, on=self.on, by=self.by)

    def print_methods(self) -> None:
        """Print each method's own frontier below that over all, where there is more than one method."""
        from search.results.frontier import frontier

        found = frontier(self.points, self.measures, on=self.on, by=("method",))
        if len(found["method"].unique()) > 1:
            print("\neach method's own frontier:")
            print(format_table(for_people(found)), end="")

    def gaps(self) -> pa.Table:
        from search.results.picks import gaps

        points = self._one_data_set()
        found = gaps(points, self._one_measure("--gaps"), on=self.on)
        compared = {*found["better"].to_pylist(), *found["worse"].to_pylist()}
        methods = {*points["method"].to_pylist()}
        if len(methods) < 2:
            who = "one method alone has" if methods else "no trial has finished, and so there are"
            print(f"rps-search: {who} no gaps", file=sys.stderr)
        elif alone := sorted(map(str, methods - compared)):
            print(
                f"rps-search: left out, since no other method has points at their memory: {', '.join(alone)}",
                file=sys.stderr,
            )
        return found

    def history(self) -> pa.Table:
        from search.results.hypervolume import history

        reference = self._reference()  # Refused, if it is, before anything is said.
        if reference is None:
            raise UserError(
                "--history needs one experiment, whose reference point is known for stored_bytes and stored_parameters"
            )
        return history(self._one_data_set(), reference, self.measures, on=self.on)

    def picks(self, max_bytes: str | None, within: float | None, knee: bool) -> pa.Table:
        from search.results import picks

        points = self._one_data_set()
        rows: dict[str, tuple[pa.Table, int | None]] = {}
        if max_bytes is not None:
            if "stored_bytes" not in self.measures:
                raise UserError(f"--max-bytes needs --measure stored_bytes, but got {', '.join(self.measures)}")
            rows[f"at most {max_bytes}"] = points, picks.best_within(points, parse_bytes(max_bytes), on=self.on)
        if within is not None:
            if not 0 <= within <= 100:  # NaN, too
                raise UserError(f"--within {within:g}: write percentage points from 0 to 100, such as 1")
            dense = picks.dense_accuracy(points, on=self.on)
            if dense is None:
                raise UserError("--within needs a finished trial of the method dense; add dense to space.methods")
            measure = self._one_measure("--within")
            rows[f"within {within:g}"] = points, picks.smallest_above(points, dense - within / 100, measure, on=self.on)
        if knee:
            chosen = self.frontier()
            rows["knee"] = chosen, picks.knee(chosen, self._one_measure("--knee"), on=self.on)
        found = []
        for name, (table, row) in rows.items():
            if row is None:
                reason = "none is that small or that accurate"
                if name == "knee":
                    reason = "none is above the line between the ends"
                raise UserError(f"no point is {name}: {reason}, of {table.num_rows}")
            one = table.slice(row, 1).select(points.column_names)
            found.append(one.add_column(0, "pick", pa.array([name])))
        return pa.concat_tables(found)

    def explain(self, found: pa.Table) -> None:
        """Say on stderr what the frontier is made of, and its hypervolume where a reference point is known."""
        reference = self._reference()  # Refused, if it is, before anything is said.
        used = int(sum(self.points["seeds"].to_pylist()))
        left_out = self.trials.num_rows - used
        note = (
            f"; {left_out} left out: not finished, or without finite accuracies and positive measures"
            if left_out
            else ""
        )
        decides = "validation" if self.on == "accuracy_val" else "test"
        print(
            f"{found.num_rows} of {self.points.num_rows} points are on the frontier, chosen by {decides} accuracy"
            f" ({used} trials{note})",
            file=sys.stderr,
        )
        if reference is not None and not self.by and self.points.num_rows:
            from search.results.hypervolume import hypervolume

            share = hypervolume(self.points, reference, self.measures, on=self.on)
            print(f"hypervolume: {share:.4f} of the box up to the reference point {_named(reference)}", file=sys.stderr)

    def _reference(self) -> Mapping[str, float] | None:
        """Return the reference point, if there is one experiment and it is known for every measure asked for.

        For the measure that the spec trades it is the spec's, for others the dense model.
        """
        if len(self.results.meta) != 1 or not self.results.meta[0].get("reference"):
            return None
        meta = self.results.meta[0]
        known = {measure: meta.get(fact) for measure, fact in _DENSE.items()}
        known[meta.get("memory", "stored_bytes")] = meta["reference"]["memory"]
        if not all(known.get(measure) for measure in self.measures):
            return None
        return {"accuracy": meta["reference"]["accuracy"], **{measure: known[measure] for measure in self.measures}}

    def _one_measure(self, option: str) -> str:
        if len(self.measures) > 1:
            raise UserError(f"{option} takes one --measure, but got {', '.join(self.measures)}")
        return self.measures[0]

    def _one_data_set(self) -> pa.Table:
        names = self.points["dataset"].unique().to_pylist()
        if len(names) > 1:
            named = ", ".join(name or "one without a name" for name in names)  # A row of another program may lack it.
            raise UserError(f"accuracies on different data sets cannot be compared, but here are {named}")
        return self.points


def parse_bytes(text: str) -> int:
    """Return a number of bytes written for people.

    Raises:
        UserError: If it is none.
    """
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        return TypeAdapter(ByteSize).validate_python(text)
    except ValidationError as error:
        raise UserError(f"--max-bytes {text}: write a number of bytes, such as 200000, 200kB or 1MiB") from error


def _named(reference: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in reference.items())
