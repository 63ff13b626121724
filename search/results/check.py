"""Finding what is wrong with an experiment folder, and repairing what can be.

Nothing is thrown away: damaged files move to ``results/quarantine``. What is still readable in them - every column of
every row group has its own checksums - is written as a new part. Unreadable values become null, but a row without what
is essential to it is dropped: a trial whose row is lost counts as not run, and resuming the search runs it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from search.config import UnreadableTrialError, recorded_config, recorded_params
from search.errors import UserError
from search.results.duplicates import Source, resolved, shared_hashes
from search.results.facts import parse_config, parse_meta
from search.results.folder import Folder
from search.results.load import META_PATH, SPEC_PATH
from search.results.parts import DamagedPartError, PartName, conform, read_footer, salvage
from search.results.points import ACCURACIES, MEASURES
from search.results.schema import KEYS, TABLES, TableName
from search.results.store import PREFIX, Problem, ResultStore, Snapshot

QUARANTINE = f"{PREFIX}/quarantine"
_METRICS = (*ACCURACIES, "loss")
_AFTER_LOSS: dict[TableName, str] = {
    "trials": "resuming the search runs these trials again",
    "epochs": "the curves of their trials have gaps",
    "proposals": "those of trials that ended can be written anew from the table trials",
}


@dataclass(frozen=True)
class Finding:
    """Something wrong in a folder."""

    path: str
    """The file or table, relative to the folder."""
    what: str
    """What is wrong, and what it means."""
    remedy: str
    """What repairing does; empty if nothing can be done."""
    repair: Callable[[], object] | None = None
    """Repairs it; None if nothing can be done or need be."""
    harmless: bool = False
    """Whether it is only told for information: readers deal with it."""


def check(folder: Folder) -> list[Finding]:
    """Read everything in an experiment folder and return what is wrong with it. Changes nothing.

    Call the findings' ``repair`` while no search runs in the folder, in order, and check again: a repair may bring
    other things to light.

    Raises:
        UserError: If a table was written by a later version.
    """
    store = ResultStore(folder, silent=True)
    found = [*_spec(folder), *_meta(folder), *_temporary(folder)]
    for name in TABLES:
        snapshot = store.snapshot(name)
        healthy, problems = _read_pages(store, name, snapshot)
        found += [_damaged(store, name, problem) for problem in problems]
        found += _interrupted(store, name, snapshot)
        found += _duplicates(store, name, [part for part in snapshot.parts if part.path in healthy])
    return found + _values(store) + _configs(store) + _journal(store)


def _spec(folder: Folder) -> list[Finding]:
    from search.spec import parse_spec

    try:
        parse_spec(folder.read(SPEC_PATH).decode(), where=SPEC_PATH)
    except FileNotFoundError:
        return [Finding(SPEC_PATH, "it is missing: the search cannot be resumed, its tables can be read", "")]
    except (UserError, UnicodeDecodeError) as error:
        return [Finding(SPEC_PATH, f"it cannot be read: {error}; the search cannot be resumed", "")]
    return []


def _meta(folder: Folder) -> list[Finding]:
    try:
        parse_meta(folder.read(META_PATH))
    except FileNotFoundError:
        return []
    except OSError as error:
        return [Finding(META_PATH, str(error), "")]
    except ValueError as error:
        remedy = "move it to the quarantine; resuming the search writes it anew"
        return [Finding(META_PATH, f"it cannot be used: {error}", remedy, lambda: _quarantine(folder, META_PATH))]
    return []


def _temporary(folder: Folder) -> list[Finding]:
    return [
        Finding(path, "a writer died while it wrote this file", "delete it", lambda path=path: folder.delete(path))  # type: ignore[misc]
        for path, _ in folder.list(recursive=True, temporary=True)
    ]


def _read_pages(store: ResultStore, name: TableName, snapshot: Snapshot) -> tuple[set[str], list[Problem]]:
    healthy, problems = set(), list(snapshot.problems)
    for part in snapshot.parts:
        try:
            store.read_part(name, part, TABLES[name].names)
            healthy.add(part.path)
        except DamagedPartError as error:
            problems.append(Problem(part.path, str(error)))
    return healthy, problems


def _damaged(store: ResultStore, name: TableName, problem: Problem) -> Finding:
    rows = salvaged(store, name, problem.path)

    def repair() -> None:
        # First the rows, then the file: a crash in between leaves duplicates, which are counted once.
        if rows.num_rows:
            store.append(name, rows)
        _quarantine(store.folder, problem.path)

    part = PartName.parse(problem.path.rpartition("/")[2])
    lost = part.rows - rows.num_rows if part else 0
    saved = f"write the {rows.num_rows} rows that can be read anew, and " if rows.num_rows else ""
    dropped = f"; {lost} rows are lost: {_AFTER_LOSS[name]}" if lost else ""
    remedy = f"{saved}move it to the quarantine{dropped}"
    return Finding(problem.path, f"readers leave it out: {problem.what}", remedy, repair)


def salvaged(store: ResultStore, name: TableName, path: str) -> pa.Table:
    """Return the rows of a damaged part that are still of use; values that cannot be read are null."""
    part = PartName.parse(path.rpartition("/")[2])
    if part is None:
        return TABLES[name].empty_table()
    with store.folder.open(path) as file:
        try:
            footer = read_footer(file, name, part)
        except DamagedPartError:
            return TABLES[name].empty_table()
        return salvage(file, name, footer)


def _interrupted(store: ResultStore, name: TableName, snapshot: Snapshot) -> list[Finding]:
    if not snapshot.superseded:
        return []
    what = f"a compaction stopped half-way: {len(snapshot.superseded)} of its parts are still there; readers skip them"
    return [Finding(f"{PREFIX}/{name}", what, "delete them", lambda: store.compact(name), harmless=True)]


def _duplicates(store: ResultStore, name: TableName, parts: Sequence) -> list[Finding]:
    sources: list[Source] = [(store, part) for part in parts]
    once, dropped = resolved(name, sources)
    if not dropped:
        return []
    trials = _named(once["trial_id"].unique().to_pylist())
    shared = shared_hashes(parts)
    holding = [i for i, part in enumerate(parts) if np.isin(part.footer.trial_hashes, shared).any()]
    what = f"rows that were written twice: {dropped} ({trials}); they count once"
    run = parts[holding[0] : holding[-1] + 1]
    return [Finding(f"{PREFIX}/{name}", what, "keep the first of each", lambda: store.merge(name, run), harmless=True)]


def _values(store: ResultStore) -> list[Finding]:
    trials = store.read("trials", ["trial_id", "status", *_METRICS, *MEASURES])
    finished = trials.filter(pc.field("status") == "finished")
    found = []
    for column, wanted in [
        *((metric, "finite") for metric in _METRICS),
        *((measure, "positive") for measure in MEASURES),
    ]:
        value = pc.field(column)
        sound = pc.is_finite(value) if wanted == "finite" else value > 0
        strange = finished.filter(~value.is_null() & ~sound)
        if strange.num_rows:
            named = _named(strange["trial_id"].to_pylist())
            what = f"{strange.num_rows} finished trials have no {wanted} {column} ({named})"
            if column in ACCURACIES:
                what += "; frontiers leave them out"
            elif column in MEASURES:
                what += f"; frontiers over {column} leave them out"
            found.append(Finding(f"{PREFIX}/trials", what, "", harmless=True))
    return found


def _configs(store: ResultStore) -> list[Finding]:
    """Find rows of which nobody can read the trial, or a search none to go on from; another program's may have none."""
    odd, stuck = [], []
    for table in ("trials", "proposals"):
        rows = store.read(table, ["trial_id", "config_json", "params_json"]).filter(pc.field("config_json").is_valid())
        for row in rows.to_pylist():
            if table == "trials" and parse_config(row["config_json"]) is None:
                odd.append(row["trial_id"])
            elif why := _why_not_resumed(row):
                stuck.append((table, row["trial_id"], why))
    found = []
    if odd:
        what = f"{len(odd)} trials have a config_json that is no mapping with a learning rate ({_named(odd)})"
        what += "; claims leave them out, and a search cannot go on from them"
        found.append(Finding(f"{PREFIX}/trials", what, ""))
    if stuck:
        table, _, why = stuck[0]
        what = f"a search cannot go on from {len(stuck)} rows: {why} ({_named([one for _, one, _ in stuck])})"
        found.append(Finding(f"{PREFIX}/{table}", what, ""))
    return found


def _why_not_resumed(row: Mapping[str, Any]) -> str:
    try:
        recorded_config(row)
        recorded_params(row)
    except UnreadableTrialError as error:
        return str(error)
    return ""


def _named(trial_ids: Sequence[str]) -> str:
    return f"trials {', '.join(trial_ids[:5])}" + ", ..." * (len(trial_ids) > 5)


def _journal(store: ResultStore) -> list[Finding]:
    """Find trials that the journal of proposals lacks; all that it says but the origin is in their rows."""
    shared = [field.name for field in TABLES["proposals"] if field.name in TABLES["trials"].names]
    trials = store.read("trials", [*shared, "started_at"])
    known = store.read("proposals", KEYS["proposals"])["trial_id"].combine_chunks()
    missing = trials.filter(pc.invert(pc.is_in(trials["trial_id"], known)))
    if not missing.num_rows:
        return []
    rows = missing.rename_columns({"started_at": "proposed_at"})
    rows = conform("proposals", rows, TABLES["proposals"].names)
    what = f"{rows.num_rows} trials are missing: a resumed search would not know that it proposed them"
    remedy = "write them anew from the table trials"
    return [Finding(f"{PREFIX}/proposals", what, remedy, lambda: store.append("proposals", rows))]


def _quarantine(folder: Folder, path: str) -> None:
    folder.write_whole(f"{QUARANTINE}/{path.removeprefix(f'{PREFIX}/')}", folder.read(path))
    folder.delete(path)
