"""`mlscale gc`: delete the files of old revisions."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from mlscale.cli import options
from mlscale.cli.console import Output

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(epilog=options.examples("mlscale gc --dry-run", "mlscale gc"))
def gc(
    context: typer.Context,
    spec_word: options.SpecArgument = None,
    spec: options.SpecOption = None,
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    workspace: options.WorkspaceOption = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")] = False,
    timeout: options.TimeoutOption = None,
    lease_timeout: options.LeaseTimeoutOption = "0s",
    output: options.OutputOption = Output.TEXT,
    no_color: options.NoColorOption = False,
) -> None:
    """Delete the files of revisions beyond rollout.keep_revisions; never of one in use."""
    from mlscale.cli.console import show
    from mlscale.cli.running import Wishes, carry_out
    from mlscale.engine.plans import garbage_plan
    from mlscale.report import json, text

    session = options.session_of(context, spec_word, spec, env=env, overrides=overrides, workspace=workspace)
    wishes = Wishes(
        command=options.command_of(context),
        output=output,
        no_color=no_color,
        timeout_s=options.seconds_of(timeout, "--timeout"),
        lease_wait_s=options.seconds_of(lease_timeout, "--lease-timeout") or 0.0,
    )
    options.deployed(session)
    again = partial(garbage_plan, session)
    plan, command = again(), options.next_command(session, "gc")
    if dry_run or not plan.steps:
        words = text.plan(plan, next_command=command) if plan.steps else "Nothing to delete."
        facts = {"outcome": "dry_run" if plan.steps else "unchanged", "plan": json.plan(plan)}
        show(words, facts, output, no_color=no_color)
        return
    plan, applied = carry_out(session, plan, wishes, again=again, next_command=command)
    count = "1 unused thing" if len(plan.steps) == 1 else f"{len(plan.steps)} unused things"
    facts = {"outcome": applied.outcome, "run_id": applied.run_id, "plan": json.plan(plan)}
    show(f"Deleted {count}.", facts, output, no_color=no_color)
