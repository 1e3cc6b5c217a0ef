"""`mlscale doctor`: look at what is needed, and whether it is there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlscale.cli import options
from mlscale.cli.options import Output

app = typer.Typer(rich_markup_mode=None)


@app.command()
def doctor(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="The folder of the spec.")] = Path(),
    *,
    output: options.OutputOption = Output.TEXT,
    no_color: options.NoColorOption = False,
) -> int:
    """Look at what is needed to deploy here, and whether it is there; exit code 1 when something is missing."""
    from mlscale.cli.console import show
    from mlscale.engine.session import LOCAL_ROOT
    from mlscale.report import json

    checks = options.world_of(context).provider("local", folder / LOCAL_ROOT).doctor()
    lines = [
        f"{'✓' if each.ok else '✗'} {each.name:<13} {each.found}{'' if each.ok else f'  ({each.hint})'}"
        for each in checks
    ]
    show("\n".join(lines), {"checks": json.data(checks)}, output, no_color=no_color)
    return 0 if all(each.ok for each in checks) else 1
