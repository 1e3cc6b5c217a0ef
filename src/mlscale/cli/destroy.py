"""`mlscale destroy`: take the deployment down."""

from __future__ import annotations

from functools import partial

import typer

from mlscale.cli import options
from mlscale.cli.console import Output

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(epilog=options.examples("mlscale destroy", "mlscale destroy spec.yaml --env staging --yes"))
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
    from mlscale.cli.running import Wishes, carry_out, consent
    from mlscale.engine.plans import destroy_plan

    session = options.session_of(context, spec_word, spec, env=env, overrides=overrides, workspace=workspace)
    wishes = Wishes(
        command=options.command_of(context),
        output=output,
        no_color=no_color,
        yes=yes,
        no_input=no_input,
        expected=session.identity.name,
        timeout_s=options.seconds_of(timeout, "--timeout"),
        lease_wait_s=options.seconds_of(lease_timeout, "--lease-timeout") or 0.0,
    )
    again = partial(destroy_plan, session)
    plan, command = again(), options.next_command(session, "destroy")
    consent(session, plan, wishes, next_command=command)
    plan, applied = carry_out(session, plan, wishes, again=again, next_command=command)
    head = "Destroyed" if plan.steps else "Nothing to destroy:"
    facts = {"outcome": applied.outcome, "run_id": applied.run_id, "name": session.identity.name}
    show(f"{head} {session.identity}", facts, output, no_color=no_color)
