"""`mlscale schema`: print the JSON Schema of specs."""

from __future__ import annotations

import json

import typer

app = typer.Typer(rich_markup_mode=None)


@app.command()
def schema() -> None:
    """Print the JSON Schema (2020-12) of specs, for editors and other tools."""
    from mlscale.spec.schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
