"""`mlscale logs`: print what the replicas wrote."""

from __future__ import annotations

from typing import Annotated

import typer

from mlscale.cli import completion, options
from mlscale.cli.console import Output

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(epilog=options.examples("mlscale logs", "mlscale logs --follow --tail 20", "mlscale logs --output jsonl"))
def logs(
    context: typer.Context,
    spec_word: options.SpecArgument = None,
    spec: options.SpecOption = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay, and print new lines as they come.")] = False,
    tail: Annotated[int, typer.Option("--tail", metavar="N", min=0, help="How many lines of each replica.")] = 100,
    revision: Annotated[
        str | None,
        typer.Option(
            "--revision", metavar="REVISION", help="Of this revision only.", autocompletion=completion.revisions
        ),
    ] = None,
    replica: Annotated[str | None, typer.Option("--replica", metavar="NAME", help="Of this replica only.")] = None,
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    workspace: options.WorkspaceOption = None,
    timeout: options.TimeoutOption = None,
    output: options.OutputOption = Output.TEXT,
) -> None:
    """Print what the replicas wrote, oldest first, each line with the replica that wrote it.

    What a cloud keeps of a deployment that is gone, or that could not be made, is printed too.
    """
    from mlscale.cli.console import note, show
    from mlscale.engine.session import status
    from mlscale.providers.contract import LogQuery
    from mlscale.report import json

    session = options.session_of(context, spec_word, spec, env=env, overrides=overrides, workspace=workspace)
    is_there = status(session) is not None
    query = LogQuery(revision=revision, replica=replica, tail=tail, follow=follow and is_there)
    with options.ended_after(timeout, "the log was read", options.next_command(session, "logs")):
        lines = session.provider.logs(session.identity, query)
        if not is_there:
            kept = list(lines)
            if not kept:
                options.deployed(session)
            lines = iter(kept)
        if output is Output.JSON and not follow:
            show("", {"lines": json.data(list(lines))}, output)
            return
        # What has no end is no one document: followed, JSON is a line each.
        each_line = Output.TEXT if output is Output.TEXT else Output.JSONL
        line = None
        for line in lines:
            show(f"{line.replica}  {line.text}", {"line": json.data(line)}, each_line, no_color=True)
        if line is None:
            note("no lines")
