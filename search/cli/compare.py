"""``compare``: which kind of search reaches more with the same number of trials."""

from __future__ import annotations

from typing import Annotated

import typer

from search.cli.frontier import accuracy_named
from search.cli.output import FormatOption, OutOption, write_or_print


def compare(
    folders: Annotated[list[str], typer.Argument(metavar="DIR ...", help="Experiment folders, one a search.")],
    on: Annotated[str, typer.Option(help="Accuracy that counts: val or test.")] = "val",
    form: FormatOption = None,
    out: OutOption = None,
) -> None:
    """Compare whole searches by the hypervolume they reached; folders of one experiment name are seeds of one search.

    difference is to the best, with Welch's 95 % interval over seeds.
    """
    from search.results.compare import compare, searched
    from search.results.load import load

    decides = accuracy_named(on)
    write_or_print(compare(searched([load(folder) for folder in folders], decides)), form, out)
