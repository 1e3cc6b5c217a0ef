"""`mlscale destroy`: take the deployment down."""

from __future__ import annotations

import typer

from mlscale.cli import options
from mlscale.cli.options import Output

app = typer.Typer(rich_markup_mode=None)


@app.command()
def destroy(
    context: typer.Context,
    spec_word: options.SpecArgument = None,
    spec: options.SpecOption = None,
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
    """Take the deployment down: no process, no port and no file of it stays but its journal."""
    from mlscale.cli.console import show
    from mlscale.cli.running import carry_out, consent, show_plan
    from mlscale.engine.session import destroy_plan

    session = options.session_of(context, spec_word, spec, env=env, overrides=overrides, workspace=workspace)
    plan = destroy_plan(session)
    if output is Output.TEXT:
        show_plan(plan, "mlscale destroy")
    consent(plan, yes=yes, no_input=no_input, expected=session.identity.name)
    applied = carry_out(session, plan, output=output, no_color=no_color, timeout=timeout, lease_timeout=lease_timeout)
    gone = "Destroyed" if plan.steps else "Nothing to destroy:"
    facts = {"outcome": applied.outcome, "run_id": applied.run_id, "name": session.identity.name}
    show(f"{gone} {session.identity}", facts, output, no_color=no_color)
