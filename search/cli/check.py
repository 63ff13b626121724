"""``check``: is an experiment folder sound, and can what is not be repaired."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from search.cli.output import printable
from search.errors import UserError

if TYPE_CHECKING:
    from search.results.check import Finding

WRONG = 2
_ROUNDS = 5


def check(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Experiment folder: a path or a URI.")],
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair what can be; damaged files move to results/quarantine.")
    ] = False,
) -> None:
    """Read everything in an experiment folder, say what is wrong with it, and repair it on request.

    Exit code 0 if the folder is sound, or was made so; 2 if something is wrong with it.
    """
    from search.results import Folder
    from search.results.check import check as find
    from search.results.load import experiment

    folder = experiment(Folder(directory))
    found = find(folder)
    if repair and any(finding.repair for finding in found):
        from search.driver.lease import Lease

        with Lease(folder):
            # A repair may bring other things to light: rows that were saved can be duplicates.
            for _ in range(_ROUNDS):
                if not sum(_repaired(finding) for finding in find(folder)):
                    break
        found = find(folder)
    for finding in found:
        _tell(finding, "repair")
    wrong = [finding for finding in found if not finding.harmless]
    if wrong:
        advice = "; rps-search check --repair repairs what can be" if any(f.repair for f in wrong) else ""
        print(f"{folder}: {len(wrong)} problem{'s' * (len(wrong) > 1)}{advice}", file=sys.stderr)
        raise typer.Exit(WRONG)
    print(f"{folder}: sound")


def _repaired(finding: Finding) -> bool:
    """Repair a finding where that is possible, say so, and return whether it was.

    Raises:
        UserError: If the folder does not let it.
    """
    if finding.repair is None:
        return False
    try:
        finding.repair()
    except OSError as error:
        raise UserError(f"{finding.path}: cannot be repaired: {error}") from error
    _tell(finding, "repaired")
    return True


def _tell(finding: Finding, word: str) -> None:
    remedy = finding.remedy and f" - {word}: {finding.remedy}"
    print(printable(f"{finding.path}: {finding.what}{remedy}"))
