"""`mlscale logs`: print what the replicas wrote."""

from __future__ import annotations

from typing import Annotated

import typer

from mlscale.cli import options
from mlscale.cli.options import Output

app = typer.Typer(rich_markup_mode=None)


@app.command()
def logs(
    context: typer.Context,
    spec_word: options.SpecArgument = None,
    spec: options.SpecOption = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay, and print new lines as they come.")] = False,
    tail: Annotated[int, typer.Option("--tail", min=0, help="How many lines of each replica.")] = 100,
    revision: Annotated[str | None, typer.Option("--revision", help="Of this revision only.")] = None,
    replica: Annotated[str | None, typer.Option("--replica", help="Of this replica only.")] = None,
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    workspace: options.WorkspaceOption = None,
    output: options.OutputOption = Output.TEXT,
) -> None:
    """Print what the replicas wrote, each line with the replica that wrote it."""
    from mlscale.cli.console import show
    from mlscale.providers.contract import LogQuery
    from mlscale.report import json

    session = options.session_of(context, spec_word, spec, env=env, overrides=overrides, workspace=workspace)
    query = LogQuery(revision=revision, replica=replica, tail=tail, follow=follow)
    lines = session.provider.logs(session.identity, query)
    if output is Output.JSON and not follow:
        show("", {"lines": json.data(list(lines))}, output)
        return
    for line in lines:
        show(
            f"{line.replica}  {line.text}",
            {"line": json.data(line)},
            Output.JSONL if output is not Output.TEXT else output,
            no_color=True,
        )
