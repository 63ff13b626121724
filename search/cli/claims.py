"""``claims``: what a study set out to check, judged by its results."""

from __future__ import annotations

from typing import Annotated

import typer

from search.cli.output import FormatOption, OutOption, write_or_print
from search.errors import UserError


def claims(
    folders: Annotated[list[str], typer.Argument(metavar="DIR ...", help="Experiment folders.")],
    form: FormatOption = None,
    out: OutOption = None,
) -> None:
    """Judge the claims that the specs make: the figure, its 95 % interval over seeds, and holds / does not hold.

    Of each side the proposal that is best on validation stands for it; test accuracies are compared. Write claims into
    a spec, also of an experiment that is over: rps-search resume DIR --set "claims=[...]".
    """
    from search.report.claims import all_claims
    from search.results.claims import candidates, judge, table
    from search.results.load import load, read_spec
    from search.results.same_data import check_same_data

    results = load(*folders)
    wanted = all_claims(read_spec(store.folder) for store in results.stores)
    if not wanted:
        raise UserError(f"{folders[0]}: the spec makes no claims; add them under claims (rps-search schema says how)")
    check_same_data(results.stores)
    found = table(judge(wanted, candidates(results.stores)))
    empty = [name for name in found.column_names if found[name].null_count == len(found)]
    write_or_print(found, form, out, shown=found.drop_columns(empty))
