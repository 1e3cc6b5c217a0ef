"""`mlscale status`: show the address, the revisions, their traffic and replicas."""

from __future__ import annotations

import typer

from mlscale.cli import options
from mlscale.cli.console import Output

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(epilog=options.examples("mlscale status", "mlscale status spec.yaml --env prod --output json"))
def status(
    context: typer.Context,
    spec_word: options.SpecArgument = None,
    spec: options.SpecOption = None,
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    workspace: options.WorkspaceOption = None,
    *,
    output: options.OutputOption = Output.TEXT,
    no_color: options.NoColorOption = False,
) -> int:
    """Show the address, the revisions with their traffic, and the replicas with their health."""
    from mlscale.cli.console import show
    from mlscale.deployment import Phase
    from mlscale.report import json, text
    from mlscale.state.journal import unfinished
    from mlscale.state.lease import holder

    session = options.session_of(context, spec_word, spec, env=env, overrides=overrides, workspace=workspace)
    seen = options.deployed(session)
    deploy = options.next_command(session, "deploy")
    name = session.identity.name
    owner, cut_off = holder(session.store, name), unfinished(session.store, name)
    lines = [text.deployment(seen)]
    if owner:
        lines.append(f"\nrun {owner.run_id} is changing it: {owner.command} on {owner.host}")
    elif cut_off:
        lines.append(f"\nrun {cut_off} was cut off; to go on from there: {deploy}")
    elif seen.phase is Phase.FAILED:
        lines.append(f"\nTo heal it: {deploy}")
    facts = {**json.data(seen), "changing": owner.model_dump(mode="json") if owner else None, "cut_off": cut_off}
    show("\n".join(lines), facts, output, no_color=no_color)
    return 1 if seen.phase is Phase.FAILED else 0
