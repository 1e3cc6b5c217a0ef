"""`mlscale plan`: show what a deploy would do."""

from __future__ import annotations

from collections.abc import Sequence
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
        "mlscale plan a.yaml b.yaml --output markdown --detailed-exitcode",
    )
)
def plan(
    context: typer.Context,
    specs: options.SpecsArgument = None,
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
    """Show what a deploy would do, and change nothing.

    Several specs are read together where they are at the same place, and each has a plan of its own.
    """
    from mlscale.cli.console import note
    from mlscale.engine.plans import destroy_plan, make_plans

    sessions = options.sessions_of(
        context, specs, spec, env=env, overrides=overrides, runtime=runtime, workspace=workspace
    )
    if out is not None and len(sessions) > 1:
        raise UsageError("a plan file has one plan", why=f"--out and {len(sessions)} specs", hint="save one at a time")
    plans = (
        [destroy_plan(each) for each in sessions] if destroy else make_plans(sessions, refresh_runtime=refresh_runtime)
    )
    if out is not None:
        _save(sessions[0], plans[0], out)
        note(f"saved to {out}")
    verb = "destroy" if destroy else "deploy"
    made = [
        (each, plan, options.next_command(each, verb, plan_file=out))
        for each, plan in zip(sessions, plans, strict=True)
    ]
    _show(made, output, no_color=no_color)
    return CHANGES_PENDING if detailed_exitcode and any(plan.steps for plan in plans) else 0


def _show(made: Sequence[tuple[Session, Plan, str]], output: PlanOutput, *, no_color: bool) -> None:
    """Print the plans, each with the command that carries it out: one as it is, several under their names."""
    from mlscale.cli.console import show
    from mlscale.report import json, markdown, text

    if output is PlanOutput.MARKDOWN:
        pages = [markdown.plan(plan, title=f"mlscale plan: {session.identity}") for session, plan, _ in made]
        show("\n".join(pages), {}, Output.TEXT, no_color=True)
        return
    facts = [{"deployment": str(session.identity), "plan": json.plan(plan)} for session, plan, _ in made]
    words = [text.plan(plan, next_command=command) for _, plan, command in made]
    if len(made) == 1:
        show(words[0], facts[0], Output(output), no_color=no_color)
    elif output is PlanOutput.JSONL:
        for each in facts:
            show("", each, Output.JSONL)
    else:
        named = [f"{session.identity}:\n{word}" for (session, _, _), word in zip(made, words, strict=True)]
        show("\n\n".join(named), {"plans": facts}, Output(output), no_color=no_color)


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
