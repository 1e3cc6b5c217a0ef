"""`mlscale schema`: print the JSON Schema of specs."""

from __future__ import annotations

import json

import typer

from mlscale.cli import options
from mlscale.cli.console import Output

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(epilog=options.examples("mlscale schema > spec.schema.json"))
def schema(*, output: options.OutputOption = Output.TEXT) -> None:
    """Print the JSON Schema (2020-12) of specs, for editors and other tools."""
    from mlscale.cli.console import show
    from mlscale.spec.schema import json_schema

    # As JSON it has one keyword more, schema_version, which a reader of JSON Schema passes over.
    show(json.dumps(json_schema(), indent=2), json_schema(), output)
