"""`mlscale events`: print what a run did, from the journal."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mlscale.cli import options
from mlscale.cli.options import Output

app = typer.Typer(rich_markup_mode=None)


@app.command()
def events(
    context: typer.Context,
    spec_word: options.SpecArgument = None,
    spec: options.SpecOption = None,
    run: Annotated[str | None, typer.Option("--run", help="The run; without it the last one.")] = None,
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    workspace: options.WorkspaceOption = None,
    *,
    output: options.OutputOption = Output.TEXT,
    no_color: options.NoColorOption = False,
) -> None:
    """Print what a run did, from the journal, and which runs there were."""
    from mlscale.cli.console import show
    from mlscale.errors import UsageError
    from mlscale.state import journal

    session = options.session_of(context, spec_word, spec, env=env, overrides=overrides, workspace=workspace)
    name = session.identity.name
    known = list(journal.runs(session.store, name))
    if run is not None and run not in known:
        raise UsageError("there is no such run", why=run, hint=f"known are {', '.join(known[-5:]) or 'none'}")
    if not known:
        show("No runs yet.", {"runs": [], "events": []}, output, no_color=no_color)
        return
    found = [each.model_dump(mode="json") for each in journal.events(session.store, name, run or known[-1])]
    show("\n".join(_line(each) for each in found), {"runs": known, "events": found}, output, no_color=no_color)


def _line(event: dict[str, Any]) -> str:
    at = str(event["at"])[:19]
    match event["event"]:
        case "run_started":
            return f"{at}  run {event['run_id']}: {event['command']}"
        case "step_intended":
            return f"{at}    {event['kind']:<7} {event['key']}"
        case "step_done":
            return f"{at}    done    {event['key']}"
        case "step_failed":
            return f"{at}    failed  {event['key']}: {str(event['why']).splitlines()[0]}"
        case _:
            return f"{at}  {event['outcome']} {event['why']}".rstrip()
