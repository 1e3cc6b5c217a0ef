"""`mlscale plan`: show what a deploy would do."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlscale.cli import options
from mlscale.cli.options import Output

app = typer.Typer(rich_markup_mode=None)
CHANGES_PENDING = 3


class PlanOutput(StrEnum):
    """What a plan looks like."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"
    MARKDOWN = "markdown"


@app.command()
def plan(
    context: typer.Context,
    spec_word: options.SpecArgument = None,
    spec: options.SpecOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Save the plan to a file for mlscale deploy --plan.")
    ] = None,
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    workspace: options.WorkspaceOption = None,
    *,
    destroy: Annotated[bool, typer.Option("--destroy", help="Show what mlscale destroy would do.")] = False,
    refresh_runtime: Annotated[
        bool, typer.Option("--refresh-runtime", help="As for a deploy with --refresh-runtime.")
    ] = False,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit with 3 when there are changes to make.")
    ] = False,
    output: Annotated[
        PlanOutput, typer.Option("--output", "-o", envvar="MLSCALE_OUTPUT", help="What the plan looks like.")
    ] = PlanOutput.TEXT,
    no_color: options.NoColorOption = False,
) -> int:
    """Show what a deploy would do, and change nothing."""
    from mlscale.cli.console import note, show
    from mlscale.engine.session import destroy_plan, make_plan, save_plan
    from mlscale.report import json, markdown, text

    session = options.session_of(context, spec_word, spec, env=env, overrides=overrides, workspace=workspace)
    made = destroy_plan(session) if destroy else make_plan(session, refresh_runtime=refresh_runtime)
    command = f"mlscale {'destroy' if destroy else 'deploy'} {session.spec_path}"
    if out is not None:
        out.write_text(save_plan(session, made))
        command = f"mlscale deploy --plan {out}"
        note(f"saved to {out}")
    if output is PlanOutput.MARKDOWN:
        show(markdown.plan(made, title=f"mlscale plan: {session.identity}"), {}, Output.TEXT, no_color=True)
    else:
        show(text.plan(made, next_command=command), {"plan": json.plan(made)}, Output(output), no_color=no_color)
    return CHANGES_PENDING if made.steps and detailed_exitcode else 0
