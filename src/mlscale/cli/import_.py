"""`mlscale import`: take over what somebody else made under the spec's name."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from mlscale.cli import options
from mlscale.cli.console import Output

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    name="import", epilog=options.examples("mlscale import", "mlscale import spec.yaml --confirm && mlscale plan")
)
def import_(
    context: typer.Context,
    spec_word: options.SpecArgument = None,
    spec: options.SpecOption = None,
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    workspace: options.WorkspaceOption = None,
    *,
    confirm: Annotated[bool, typer.Option("--confirm", help="Ask before anything is changed.")] = False,
    yes: options.YesOption = False,
    no_input: options.NoInputOption = False,
    timeout: options.TimeoutOption = None,
    lease_timeout: options.LeaseTimeoutOption = "0s",
    output: options.OutputOption = Output.TEXT,
    no_color: options.NoColorOption = False,
) -> None:
    """Take over what somebody else made under the spec's name: it gets our marks and the spec's labels.

    Nothing else of it changes, and it serves on. From then on mlscale plan shows how it differs from the spec.
    """
    from mlscale.cli.console import show
    from mlscale.cli.running import Wishes, carry_out, consent
    from mlscale.engine.adopt import adopt, adoption
    from mlscale.report import json

    session = options.session_of(context, spec_word, spec, env=env, overrides=overrides, workspace=workspace)
    wishes = Wishes(
        command=options.command_of(context),
        output=output,
        no_color=no_color,
        yes=yes,
        no_input=no_input,
        confirm=confirm,
        timeout_s=options.seconds_of(timeout, "--timeout"),
        lease_wait_s=options.seconds_of(lease_timeout, "--lease-timeout") or 0.0,
    )
    again = partial(adoption, session)
    plan, command = again(), options.next_command(session, "import")
    consent(session, plan, wishes, next_command=command)
    plan, applied = carry_out(session, plan, wishes, again=again, next_command=command, by=adopt)
    head = "Imported" if plan.steps else "Nothing to import, it is ours:"
    facts = {"outcome": applied.outcome, "run_id": applied.run_id, "deployment": json.data(applied.deployment)}
    words = f"{head} {session.identity}\nHow it differs from the spec: {options.next_command(session, 'plan')}"
    show(words, facts, output, no_color=no_color)
