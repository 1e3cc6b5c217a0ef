"""`mlscale deploy`: make what is there what the spec asks for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlscale.cli import options
from mlscale.cli.options import Output

if TYPE_CHECKING:
    from mlscale.engine.apply import Applied
    from mlscale.engine.session import Session
    from mlscale.plan.steps import Plan

app = typer.Typer(rich_markup_mode=None)


@app.command()
def deploy(
    context: typer.Context,
    specs: Annotated[
        list[Path] | None, typer.Argument(metavar="[SPEC]...", help="Specs; each is one deployment.")
    ] = None,
    spec: options.SpecOption = None,
    plan_file: Annotated[
        Path | None, typer.Option("--plan", help="Carry out a plan saved with mlscale plan --out.")
    ] = None,
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    workspace: options.WorkspaceOption = None,
    *,
    confirm: Annotated[bool, typer.Option("--confirm", help="Ask before anything is changed.")] = False,
    refresh_runtime: Annotated[
        bool, typer.Option("--refresh-runtime", help="Serve with this mlscale's serving code, as a new revision.")
    ] = False,
    yes: options.YesOption = False,
    no_input: options.NoInputOption = False,
    wait: options.WaitOption = True,
    timeout: options.TimeoutOption = None,
    lease_timeout: options.LeaseTimeoutOption = "0s",
    output: options.OutputOption = Output.TEXT,
    no_color: options.NoColorOption = False,
) -> None:
    """Make what is there what the spec asks for; no difference, nothing done.

    A new revision starts beside the old one and takes over when it is healthy. When it does not hold, the old one
    serves on and the exit code is 4.
    """
    from mlscale.cli.console import show
    from mlscale.cli.running import carry_out, consent, show_plan
    from mlscale.engine.session import load_plan, make_plan
    from mlscale.report import json

    def planned(path: Path | None) -> tuple[Session, Plan]:
        session = options.session_of(context, path, spec, env=env, overrides=overrides, workspace=workspace)
        return session, make_plan(session, refresh_runtime=refresh_runtime)

    paths: list[Path | None] = [*(specs or ())]
    jobs: list[Callable[[], tuple[Session, Plan]]] = [partial(planned, path) for path in paths]
    if plan_file is not None:
        world = options.world_of(context)
        jobs = [partial(load_plan, world, _read(plan_file), str(plan_file), workspace=workspace), *jobs]
    for job in jobs or [partial(planned, None)]:
        session, plan = job()
        if output is Output.TEXT:
            show_plan(plan, f"mlscale deploy {session.spec_path}")
        consent(plan, yes=yes, no_input=no_input, confirm=confirm)
        applied = carry_out(
            session,
            plan,
            output=output,
            no_color=no_color,
            timeout=timeout,
            lease_timeout=lease_timeout,
            wait=wait,
        )
        facts = {"outcome": applied.outcome, "run_id": applied.run_id, "deployment": json.data(applied.deployment)}
        show(_text(session, applied), facts, output, no_color=no_color)


def _text(session: Session, applied: Applied) -> str:
    seen = applied.deployment
    if applied.outcome == "started":
        return f"Started. See how far it is: mlscale status {session.spec_path}"
    if seen is None or seen.stable is None:
        return "Done."
    head = "No changes: what is there is what the spec asks for." if applied.outcome == "unchanged" else "Deployed."
    path = session.spec_path
    return "\n".join(
        (
            f"{head} {seen.identity.name} serves revision {seen.stable.revision.id} at {seen.address}",
            "",
            f"  mlscale invoke {path} --file request.json",
            f"  curl {seen.address}/invocations -H 'content-type: application/json' -d @request.json",
        )
    )


def _read(path: Path) -> bytes:
    from mlscale.errors import UsageError

    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError("the plan file can't be read", why=f"{path}: {error.strerror}") from error
