"""The command ``rps-search``: its commands, and what happens when one of them goes wrong."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn

import typer

from search.cli import check, claims, cluster, compare, export, frontier, launch, plan, query, report, schema
from search.cli.output import printable
from search.errors import UserError

WRONG_INPUT = 2
INTERRUPTED = 130

app = typer.Typer(
    name="rps-search",
    help="Search for the compression that gives the best accuracy in a memory budget.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("launch")(launch.launch)
app.command("resume")(launch.resume)
app.command("repeat")(launch.repeat)
app.command("status")(launch.status)
app.command("query")(query.query)
app.command("frontier")(frontier.frontier)
app.command("claims")(claims.claims)
app.command("compare")(compare.compare)
app.command("check")(check.check)
app.command("schema")(schema.schema)
app.command("report")(report.report)
app.command("convert")(report.convert)
app.command("export")(export.export)
app.command("evaluate")(export.evaluate)
app.command("replay")(export.replay)
app.command("attach")(cluster.attach)
app.command("logs")(cluster.logs)
app.command("stop")(cluster.stop)
app.command("plan")(plan.plan)
app.add_typer(cluster.cluster_app, name="cluster")


def main() -> None:
    """Run the command line. Wrong input is one line on stderr and exit code 2, never a traceback."""
    if sys.stdout is None:  # Closed before the start.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
    try:
        " ".join(sys.argv).encode()
    except UnicodeEncodeError:
        _refuse("an argument is not valid UTF-8")
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        sys.stdout.flush()
    except UserError as error:
        _refuse(str(error))
    except typer.Abort:
        sys.exit(INTERRUPTED)
    except SystemExit as end:
        # Typer ends with 1 where whoever read our output has closed the pipe: they have seen enough.
        sys.exit(0 if isinstance(end.__context__, BrokenPipeError) else end.code)
    except BrokenPipeError:
        # Short output reaches the closed pipe only when it is flushed here.
        _close_stdout()
        sys.exit(0)
    except OSError as error:
        _close_stdout()
        place = f"{error.filename}: " if error.filename else ""
        _refuse(f"{place}{error.strerror or error}")
    except Exception as error:
        # Typer brings its own copy of click, whose usage errors have no public name.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        command = getattr(getattr(error, "ctx", None), "command_path", "rps-search")
        _refuse(f"{message().replace('Value error, ', '').rstrip('.')}. See: {command} --help")
    sys.exit(code if isinstance(code, int) else 0)


def _refuse(sentence: str) -> NoReturn:
    print(f"rps-search: {printable(' '.join(sentence.split()))}", file=sys.stderr)
    sys.exit(WRONG_INPUT)


def _close_stdout() -> None:
    """Let nothing be flushed at exit into a stdout that takes nothing any more."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
