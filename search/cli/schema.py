"""``schema``: what may stand in a spec, and what stands in the tables."""

from __future__ import annotations

import json
from typing import Annotated

import pyarrow as pa
import typer

from search.cli.output import FormatOption, OutOption, write
from search.errors import UserError, unknown_name


def schema(
    table: Annotated[str | None, typer.Option(help="trials, epochs or proposals; default: the spec.")] = None,
    form: FormatOption = None,
    out: OutOption = None,
) -> None:
    """Print the JSON schema of specs, for editors that check YAML; or the columns of a result table."""
    from search.results.schema import SCHEMA_VERSION, TABLES

    if table is None:
        if form is not None or out is not None:
            raise UserError("the schema of specs is JSON on standard output; --format and --out go with --table")
        from search.spec import Spec

        print(json.dumps(Spec.model_json_schema(), indent=2))
        return
    for name, fields in TABLES.items():
        if name == table:
            rows = [
                {
                    "column": field.name,
                    "type": str(field.type),
                    "required": not field.nullable,
                    "meaning": field.metadata[b"description"].decode(),
                }
                for field in fields
            ]
            columns = pa.Table.from_pylist(rows).append_column("version", pa.array([SCHEMA_VERSION] * len(rows)))
            write(columns.to_reader(), form, out)
            return
    raise UserError(unknown_name("table", table, TABLES))
