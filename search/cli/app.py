"""The command ``rps-search``: its commands, and what happens when one of them goes wrong."""

from __future__ import annotations

import sys

import typer

from search.cli import check, cluster, frontier, launch, plan, query, report, schema
from search.errors import UserError

WRONG_INPUT = 2

app = typer.Typer(
    name="rps-search",
    help="Search for the compression that gives the best accuracy in a memory budget.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("launch")(launch.launch)
app.command("resume")(launch.resume)
app.command("status")(launch.status)
app.command("query")(query.query)
app.command("frontier")(frontier.frontier)
app.command("check")(check.check)
app.command("schema")(schema.schema)
app.command("report")(report.report)
app.command("convert")(report.convert)
app.command("attach")(cluster.attach)
app.command("logs")(cluster.logs)
app.command("stop")(cluster.stop)
app.command("plan")(plan.plan)
app.add_typer(cluster.cluster_app, name="cluster")


def main() -> None:
    """Run the command line. Wrong input is one line on stderr and exit code 2, never a traceback."""
    try:
        app()
    except UserError as error:
        print(f"rps-search: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(WRONG_INPUT)
    except BrokenPipeError:
        sys.exit(0)


if __name__ == "__main__":
    main()
