"""`mlscale list`: list the deployments of this workspace."""

from __future__ import annotations

from pathlib import Path

import typer

from mlscale.cli import options
from mlscale.cli.console import Output

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(name="list", epilog=options.examples("mlscale list", "mlscale list models/churn --output json"))
def list_(
    context: typer.Context,
    place: options.FolderArgument = Path(),
    *,
    output: options.OutputOption = Output.TEXT,
    no_color: options.NoColorOption = False,
) -> None:
    """List the deployments whose spec is in this folder."""
    from mlscale.cli.console import show
    from mlscale.engine.session import LOCAL_ROOT
    from mlscale.providers.registry import Site
    from mlscale.report import json
    from mlscale.report.tables import table

    provider = options.world_of(context).provider(Site("local", options.folder_of(place) / LOCAL_ROOT))
    seen = [found for identity in provider.list() if (found := provider.read(identity))]
    if output is Output.JSONL:
        for each in seen:
            show("", {"deployment": json.data(each)}, output)
        return
    rows = [
        (each.identity.name, each.phase, each.stable.revision.id if each.stable else "", each.address or "")
        for each in seen
    ]
    words = table(("NAME", "PHASE", "REVISION", "ADDRESS"), rows) if rows else "No deployments here."
    show(words, {"deployments": json.data(seen)}, output, no_color=no_color)
