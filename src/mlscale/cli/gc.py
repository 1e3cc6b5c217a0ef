"""`mlscale gc`: delete the files of old revisions."""

from __future__ import annotations

from typing import Annotated

import typer

from mlscale.cli import options
from mlscale.cli.options import Output

app = typer.Typer(rich_markup_mode=None)


@app.command()
def gc(
    context: typer.Context,
    spec_word: options.SpecArgument = None,
    spec: options.SpecOption = None,
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    workspace: options.WorkspaceOption = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")] = False,
    lease_timeout: options.LeaseTimeoutOption = "0s",
    output: options.OutputOption = Output.TEXT,
    no_color: options.NoColorOption = False,
) -> None:
    """Delete the files of revisions beyond rollout.keep_revisions; never of one in use."""
    from mlscale.cli.console import show
    from mlscale.cli.running import carry_out
    from mlscale.engine.session import garbage_plan
    from mlscale.report import json, text

    session = options.session_of(context, spec_word, spec, env=env, overrides=overrides, workspace=workspace)
    plan = garbage_plan(session)
    if dry_run or not plan.steps:
        words = text.plan(plan, next_command="mlscale gc") if plan.steps else "Nothing to delete."
        show(words, {"plan": json.plan(plan)}, output, no_color=no_color)
        return
    carry_out(session, plan, output=output, no_color=no_color, timeout=None, lease_timeout=lease_timeout)
    show(f"Deleted {len(plan.steps)}.", {"plan": json.plan(plan)}, output, no_color=no_color)
