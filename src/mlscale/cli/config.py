"""`mlscale config`: show settings, and where each comes from."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from mlscale.cli import options
from mlscale.cli.options import Output

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)

SETTINGS = {
    "spec": ("MLSCALE_SPEC", "./spec.yaml, ./mlscale.yaml"),
    "env": ("MLSCALE_ENV", ""),
    "workspace": ("MLSCALE_WORKSPACE", ".mlscale/ beside the spec"),
    "output": ("MLSCALE_OUTPUT", "text"),
    "timeout": ("MLSCALE_TIMEOUT", "none"),
    "lease-timeout": ("MLSCALE_LEASE_TIMEOUT", "0s"),
    "yes": ("MLSCALE_YES", "no"),
    "no-input": ("MLSCALE_NO_INPUT", "no"),
}


@app.callback()
def config() -> None:
    """Show settings, and where each comes from."""


@app.command()
def show(
    *,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False,
    output: options.OutputOption = Output.TEXT,
) -> None:
    """Show the settings that hold for commands run here."""
    from mlscale.cli.console import show as print_result
    from mlscale.cli.user_config import CONFIG_FILE, settings
    from mlscale.report.tables import table

    stored = settings()
    rows = []
    for name, (variable, default) in SETTINGS.items():
        if variable in os.environ:
            rows.append((name, os.environ[variable], variable))
        elif name in stored:
            rows.append((name, stored[name], str(CONFIG_FILE)))
        else:
            rows.append((name, default, "default"))
    shown = rows if origin else [row[:2] for row in rows]
    facts = {"settings": [dict(zip(("name", "value", "origin"), row, strict=True)) for row in rows]}
    head = ("SETTING", "VALUE", "ORIGIN") if origin else ("SETTING", "VALUE")
    print_result(table(head, shown), facts, output)
