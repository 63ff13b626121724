"""``report`` and ``convert``: results for people to look at, here and in other programs."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from search.cli.output import printable

Folders = Annotated[list[str], typer.Argument(metavar="DIR ...", help="Experiment folders, on the same data.")]


class Viewer(StrEnum):
    """Programs that results can be written for."""

    TENSORBOARD = "tensorboard"
    OPTUNA = "optuna"


def report(
    folders: Folders,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the files go; default DIR/report of the first DIR.")
    ] = None,
) -> None:
    """Write report.html, one file that needs no network, and each of its pictures as PNG and SVG."""
    from search.report import write_report

    page, *pictures = write_report(folders, out)
    print(printable(str(page)))
    print(f"and {len(pictures)} pictures beside it")


def convert(
    folders: Folders,
    to: Annotated[Viewer, typer.Option(help="The program that shall open them.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="New folder (tensorboard) or new file (optuna); default in the first DIR."),
    ] = None,
) -> None:
    """Write the results for TensorBoard or optuna-dashboard, and print the command that opens them."""
    from search.report.convert import sqlite_url, to_optuna, to_tensorboard
    from search.report.write import place_for
    from search.results import load

    results = load(*folders)
    if to is Viewer.TENSORBOARD:
        place = place_for(folders, out, "tensorboard")
        to_tensorboard(results, place)
        print(printable(f"tensorboard --logdir {shlex.quote(str(place))}"))
    else:
        place = place_for(folders, out, "optuna.db")
        to_optuna(results, place)
        print(printable(f"optuna-dashboard {shlex.quote(sqlite_url(place))}"))
