"""`mlscale rollback`: go back to an earlier revision."""

from __future__ import annotations

from typing import Annotated

import typer

from mlscale.cli import options
from mlscale.cli.options import Output

app = typer.Typer(rich_markup_mode=None)


@app.command()
def rollback(
    context: typer.Context,
    spec_word: options.SpecArgument = None,
    spec: options.SpecOption = None,
    to: Annotated[str | None, typer.Option("--to", help="The revision; without it the one that served before.")] = None,
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    workspace: options.WorkspaceOption = None,
    *,
    yes: options.YesOption = False,
    no_input: options.NoInputOption = False,
    timeout: options.TimeoutOption = None,
    lease_timeout: options.LeaseTimeoutOption = "0s",
    output: options.OutputOption = Output.TEXT,
    no_color: options.NoColorOption = False,
) -> None:
    """Go back to an earlier revision; scaling, schedule and labels stay as they are."""
    from mlscale.cli.console import show
    from mlscale.cli.running import carry_out, consent, show_plan
    from mlscale.engine.session import rollback_plan
    from mlscale.report import json

    session = options.session_of(context, spec_word, spec, env=env, overrides=overrides, workspace=workspace)
    plan = rollback_plan(session, to)
    if output is Output.TEXT:
        show_plan(plan, "mlscale rollback")
    consent(plan, yes=yes, no_input=no_input)
    applied = carry_out(session, plan, output=output, no_color=no_color, timeout=timeout, lease_timeout=lease_timeout)
    revision = plan.asked.stable.revision.id if plan.asked and plan.asked.stable else ""
    facts = {"outcome": applied.outcome, "run_id": applied.run_id, "deployment": json.data(applied.deployment)}
    show(f"Revision {revision} serves {session.identity.name}.", facts, output, no_color=no_color)
