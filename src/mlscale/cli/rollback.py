"""`mlscale rollback`: go back to an earlier revision."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from mlscale.cli import completion, options
from mlscale.cli.console import Output

if TYPE_CHECKING:
    from mlscale.cli.running import Wishes
    from mlscale.engine.session import Session

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(epilog=options.examples("mlscale rollback", "mlscale rollback --to 3f2a1c"))
def rollback(
    context: typer.Context,
    spec_word: options.SpecArgument = None,
    spec: options.SpecOption = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="REVISION",
            help="The revision, or how it begins; without it the one before.",
            autocompletion=completion.revisions,
        ),
    ] = None,
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
    from mlscale.cli.running import Wishes, carry_out, consent
    from mlscale.engine.plans import rollback_plan
    from mlscale.report import json

    session = options.session_of(context, spec_word, spec, env=env, overrides=overrides, workspace=workspace)
    wishes = Wishes(
        command=options.command_of(context),
        output=output,
        no_color=no_color,
        yes=yes,
        no_input=no_input,
        timeout_s=options.seconds_of(timeout, "--timeout"),
        lease_wait_s=options.seconds_of(lease_timeout, "--lease-timeout") or 0.0,
    )
    options.deployed(session)
    aborted = _aborted(session, wishes)
    if aborted and (to is None or aborted.startswith(to)):
        facts = {"outcome": "done", "run_id": "", "deployment": json.data(options.deployed(session))}
        show(f"Revision {aborted} serves alone again: {session.identity}", facts, output, no_color=no_color)
        return
    # Planned again without --to, it would go back from what another run has put there.
    again = partial(rollback_plan, session, to) if to else None
    plan, command = rollback_plan(session, to), options.next_command(session, "rollback", *(["--to", to] if to else []))
    consent(session, plan, wishes, next_command=command)
    plan, applied = carry_out(session, plan, wishes, again=again, next_command=command)
    facts = {"outcome": applied.outcome, "run_id": applied.run_id, "deployment": json.data(applied.deployment)}
    revision = plan.asked.stable.revision.id if plan.asked and plan.asked.stable else "none"
    serves = "serves already" if applied.outcome == "unchanged" else "serves again"
    show(f"Revision {revision} {serves}: {session.identity}", facts, output, no_color=no_color)


def _aborted(session: Session, wishes: Wishes) -> str:
    """Return the revision that a live rollout went back to, whoever drives it; empty where none went on."""
    from mlscale.cli.running import under_way
    from mlscale.engine.driver import Ways
    from mlscale.engine.rollout import wish
    from mlscale.state import rollouts

    found = rollouts.current(session.store, session.identity.name)
    if found is None or not found.is_live:
        return ""
    with under_way(session, wishes) as (run_options, tell, stop):
        return wish(session, rollouts.Wish.ABORT, Ways(run_options, tell, stop)).stable.id
