"""``query``: questions in SQL over the results of experiments."""

from __future__ import annotations

from typing import Annotated

import typer

from search.cli.output import FormatOption, OutOption, write
from search.errors import UserError


def query(
    arguments: Annotated[
        list[str], typer.Argument(metavar="DIR [DIR ...] SQL", help="Experiment folders, then the SQL.")
    ],
    form: FormatOption = None,
    out: OutOption = None,
    memory: Annotated[str, typer.Option(help="Most memory that the query may take.")] = "768MB",
) -> None:
    """Ask the tables of one or more experiments, in SQL, over the views trials, epochs, proposals and frontier.

    The SQL can only read these views: no files, no network, no extensions. Columns: rps-search schema --table trials.
    """
    from search.results.load import load
    from search.results.query import Query

    *folders, sql = arguments
    if not folders:
        raise UserError('name the folder and then the SQL: rps-search query DIR "SELECT count(*) FROM trials"')
    questions = Query(load(*folders).stores, memory)
    try:
        write(questions.batches(sql), form, out)
    finally:
        questions.close()
