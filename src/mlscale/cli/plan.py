"""`mlscale plan`: show what a deploy would do."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlscale.cli import options
from mlscale.cli.checking import STDIN
from mlscale.cli.console import Output
from mlscale.errors import UsageError

if TYPE_CHECKING:
    from mlscale.engine.session import Session
    from mlscale.plan.steps import Plan

app = typer.Typer(rich_markup_mode=None, add_completion=False)
CHANGES_PENDING = 3


class PlanOutput(StrEnum):
    """What a plan looks like."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"
    MARKDOWN = "markdown"


@app.command(
    epilog=options.examples(
        "mlscale plan",
        "mlscale plan --env prod --set endpoint.replicas.max=8",
        "mlscale plan --out churn.plan.json",
        "mlscale plan --output markdown --detailed-exitcode",
    )
)
def plan(
    context: typer.Context,
    spec_word: options.SpecArgument = None,
    spec: options.SpecOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Save the plan for mlscale deploy --plan.")
    ] = None,
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    runtime: options.RuntimeOption = None,
    workspace: options.WorkspaceOption = None,
    *,
    destroy: Annotated[bool, typer.Option("--destroy", help="Show what mlscale destroy would do.")] = False,
    refresh_runtime: Annotated[
        bool, typer.Option("--refresh-runtime", help="As for a deploy with --refresh-runtime.")
    ] = False,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit with 3 when there are changes to make.")
    ] = False,
    output: Annotated[
        PlanOutput, typer.Option("--output", "-o", envvar="MLSCALE_OUTPUT", help="What the plan looks like.")
    ] = PlanOutput.TEXT,
    no_color: options.NoColorOption = False,
) -> int:
    """Show what a deploy would do, and change nothing."""
    from mlscale.cli.console import note, show
    from mlscale.engine.plans import destroy_plan, make_plan
    from mlscale.report import json, markdown, text

    session = options.session_of(
        context, spec_word, spec, env=env, overrides=overrides, runtime=runtime, workspace=workspace
    )
    made = destroy_plan(session) if destroy else make_plan(session, refresh_runtime=refresh_runtime)
    if out is not None:
        _save(session, made, out)
        note(f"saved to {out}")
    command = options.next_command(session, "destroy" if destroy else "deploy", plan_file=out)
    if output is PlanOutput.MARKDOWN:
        show(markdown.plan(made, title=f"mlscale plan: {session.identity}"), {}, Output.TEXT, no_color=True)
    else:
        facts = {"deployment": str(session.identity), "plan": json.plan(made)}
        show(text.plan(made, next_command=command), facts, Output(output), no_color=no_color)
    return CHANGES_PENDING if made.steps and detailed_exitcode else 0


def _save(session: Session, plan: Plan, out: Path) -> None:
    from mlscale.engine.plans import save_plan

    if session.spec_path == STDIN:
        raise UsageError("a plan for a spec from stdin can't be saved", why="--out", hint="save the spec to a file")
    try:
        out.write_text(save_plan(session, plan), encoding="utf-8")
    except OSError as error:
        raise UsageError(
            "the plan can't be saved", why=f"{out}: {error.strerror}", hint="another --out FILE"
        ) from error
