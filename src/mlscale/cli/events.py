"""`mlscale events`: print what a run did, from the journal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from mlscale.cli import completion, options
from mlscale.cli.console import Output

app = typer.Typer(rich_markup_mode=None, add_completion=False)
SHOWN_RUNS = 5


@app.command(epilog=options.examples("mlscale events", "mlscale events --run 20261124T071500-3f2a1c --output jsonl"))
def events(
    context: typer.Context,
    spec_word: options.SpecArgument = None,
    spec: options.SpecOption = None,
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="RUN", help="The run; without it the last one.", autocompletion=completion.runs),
    ] = None,
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    workspace: options.WorkspaceOption = None,
    *,
    output: options.OutputOption = Output.TEXT,
    no_color: options.NoColorOption = False,
) -> None:
    """Print what a run did, from the journal, and which runs there were; also of what was destroyed since."""
    from mlscale.cli.console import show
    from mlscale.errors import UsageError
    from mlscale.state import journal

    session = options.session_of(context, spec_word, spec, env=env, overrides=overrides, workspace=workspace)
    name = session.identity.name
    known = list(journal.runs(session.store, name))
    if not known:
        options.deployed(session)
        show("No runs yet.", {"runs": [], "events": []}, output, no_color=no_color)
        return
    if run is not None and run not in known:
        raise UsageError("there is no such run", why=run, hint=f"known are {', '.join(known[-SHOWN_RUNS:])}")
    chosen = run or known[-1]
    found = [each.model_dump(mode="json") for each in journal.events(session.store, name, chosen)]
    if output is Output.JSONL:
        for each in found:
            show("", {"event": each}, output)
        return
    # The name of an operation is for the run that takes it up, and for programs: JSON has it.
    lines = [_line(each) for each in found if each["event"] != "step_began"]
    others = [each for each in reversed(known) if each != chosen][:SHOWN_RUNS]
    if others:
        lines += ["", f"other runs: {', '.join(others)}"]
    show("\n".join(lines), {"run": chosen, "runs": known, "events": found}, output, no_color=no_color)


def _line(event: dict[str, Any]) -> str:
    at = str(event["at"])[:19].replace("T", " ")
    match event["event"]:
        case "run_started":
            return f"{at}  run {event['run_id']}: {event['command']}"
        case "step_intended":
            return f"{at}    {event['kind']:<7} {event['subject']}"
        case "step_done":
            return f"{at}    done    {event['key']}{_first_line(event['detail'])}"
        case "step_failed":
            return f"{at}    failed  {event['key']}{_first_line(event['why'])}"
        case _:
            return f"{at}  run {event['outcome']}{_first_line(event['why'])}"


def _first_line(text: str) -> str:
    lines: Sequence[str] = text.splitlines()
    return f": {lines[0]}" if lines else ""
