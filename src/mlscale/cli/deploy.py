"""`mlscale deploy`: make what is there what the spec asks for."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlscale.cli import options
from mlscale.cli.console import Output
from mlscale.errors import MlscaleError, UsageError

if TYPE_CHECKING:
    from mlscale.cli.running import Wishes
    from mlscale.engine.apply import Applied
    from mlscale.engine.session import Session
    from mlscale.plan.steps import Plan

app = typer.Typer(rich_markup_mode=None, add_completion=False)
NOT_WITH_A_PLAN = {
    "specs": "specs",
    "spec": "--spec",
    "env": "--env",
    "overrides": "--set",
    "runtime": "--runtime",
    "refresh_runtime": "--refresh-runtime",
}


@dataclass(frozen=True, slots=True)
class Job:
    """One deployment to make. `again` plans it afresh; None for a saved plan, which is carried out as it is or not."""

    session: Session
    plan: Plan
    again: Callable[[], Plan] | None

    @property
    def next_command(self) -> str:
        """The command that does this job."""
        return options.next_command(self.session, "deploy")


@app.command(
    epilog=options.examples(
        "mlscale deploy",
        "mlscale deploy spec.yaml --env prod --timeout 10m",
        "mlscale deploy --plan churn.plan.json --yes",
        "mlscale deploy a.yaml b.yaml --output json",
    )
)
def deploy(
    context: typer.Context,
    specs: options.SpecsArgument = None,
    spec: options.SpecOption = None,
    plan_file: Annotated[
        Path | None, typer.Option("--plan", metavar="FILE", help="Carry out a plan saved with mlscale plan --out.")
    ] = None,
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    runtime: options.RuntimeOption = None,
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
    serves on and the exit code is 4. Several specs are all planned before the first is carried out; after one that
    fails no other is begun.
    """
    from mlscale.cli.running import Wishes, consent

    wishes = Wishes(
        command=options.command_of(context),
        output=output,
        no_color=no_color,
        yes=yes,
        no_input=no_input,
        confirm=confirm,
        wait=wait,
        timeout_s=options.seconds_of(timeout, "--timeout"),
        lease_wait_s=options.seconds_of(lease_timeout, "--lease-timeout") or 0.0,
    )
    if plan_file is not None:
        jobs = [_saved(context, plan_file, workspace)]
    else:
        sessions = options.sessions_of(
            context, specs, spec, env=env, overrides=overrides, runtime=runtime, workspace=workspace
        )
        jobs = _planned(sessions, refresh_runtime=refresh_runtime)
    wishes = replace(wishes, several=len(jobs) > 1)
    for job in jobs:
        consent(job.session, job.plan, wishes, next_command=job.next_command)
    if len(jobs) == 1:
        _one(jobs[0], wishes)
    else:
        _several(jobs, wishes)


def _saved(context: typer.Context, plan_file: Path, workspace: str | None) -> Job:
    from mlscale.engine.plans import load_plan

    for name, word in NOT_WITH_A_PLAN.items():
        if options.is_typed(context, name):
            raise UsageError(f"--plan and {word} are both there", why="a saved plan has its own", hint="keep one")
    place = workspace if not options.is_users_default(context, "workspace") else None
    try:
        text = plan_file.read_bytes()
    except OSError as error:
        raise UsageError(
            "the plan file can't be read", why=f"{plan_file}: {error.strerror}", hint="mlscale plan --out FILE"
        ) from error
    session, plan = load_plan(options.world_of(context), text, str(plan_file), workspace=place)
    return Job(session, plan, again=None)


def _planned(sessions: Sequence[Session], *, refresh_runtime: bool) -> list[Job]:
    from mlscale.engine.plans import make_plan, make_plans

    plans = make_plans(sessions, refresh_runtime=refresh_runtime)
    return [
        Job(session, plan, partial(make_plan, session, refresh_runtime=refresh_runtime))
        for session, plan in zip(sessions, plans, strict=True)
    ]


def _one(job: Job, wishes: Wishes) -> None:
    from mlscale.cli.console import show

    plan, applied = _carried_out(job, wishes)
    show(_text(job.session, plan, applied), _facts(applied), wishes.output, no_color=wishes.no_color)


def _carried_out(job: Job, wishes: Wishes) -> tuple[Plan, Applied]:
    """Return what was carried out, and what came of it; a rollout by shares is gone to its end."""
    from mlscale.cli.running import carry_out, under_way
    from mlscale.engine.plans import is_rollout

    if not is_rollout(job.session, job.plan.asked, job.plan.seen) and not (job.plan.asked and job.plan.asked.candidate):
        if job.plan.seen and job.plan.seen.candidate:
            from mlscale.engine.driver import Ways
            from mlscale.engine.rollout import let_go

            with under_way(job.session, wishes) as (run_options, progress, stop):
                let_go(job.session, Ways(run_options, progress, stop))
        return carry_out(job.session, job.plan, wishes, again=job.again, next_command=job.next_command)

    from mlscale.engine.apply import Applied
    from mlscale.engine.driver import Ways
    from mlscale.engine.rollout import drive
    from mlscale.engine.session import status

    if not wishes.wait:
        raise UsageError(
            "a rollout goes on as long as somebody drives it",
            why=f"--no-wait, and rollout.strategy is {job.session.spec.rollout.strategy}",
            hint=options.next_command(job.session, "rollout", "--canary", "10"),
        )
    with under_way(job.session, wishes) as (run_options, progress, stop):
        found = drive(job.session, Ways(run_options, progress, stop))
    return job.plan, Applied("done", status(job.session), found.id)


def _several(jobs: Sequence[Job], wishes: Wishes) -> None:
    """Carry out the jobs one after the other, and tell what came of each.

    Raises:
        MlscaleError: the first failure, after all was told.
    """
    from mlscale.cli.console import show
    from mlscale.cli.outcome import facts_of

    rows: list[dict[str, Any]] = []
    failure: MlscaleError | None = None
    for job in jobs:
        row = {"spec": str(job.session.spec_path), "name": job.session.identity.name}
        if failure is not None:
            rows.append({**row, "outcome": "not_begun"})
            words = f"{job.session.spec_path}: not begun, because one before it failed"
        else:
            try:
                plan, applied = _carried_out(job, wishes)
            except MlscaleError as error:
                failure = error
                rows.append({**row, "outcome": "failed", "error": facts_of(error)})
                words = f"{job.session.spec_path}: failed, {error.what}"
            else:
                rows.append({**row, **_facts(applied)})
                words = f"{job.session.spec_path}: {_headline(job.session, plan, applied)}"
        if wishes.output is not Output.JSON:
            show(words, rows[-1], wishes.output, no_color=wishes.no_color)
    if wishes.output is Output.JSON:
        show("", {"deployments": rows}, wishes.output)
    if failure is not None:
        raise failure


def _facts(applied: Applied) -> dict[str, Any]:
    from mlscale.report import json

    return {"outcome": applied.outcome, "run_id": applied.run_id, "deployment": json.data(applied.deployment)}


def _text(session: Session, plan: Plan, applied: Applied) -> str:
    head = _headline(session, plan, applied)
    seen = applied.deployment
    if seen is None or seen.address is None:
        return head
    request = str(session.spec_path.with_name("request.json"))
    commands = [options.next_command(session, "invoke", "--file", request)]
    if session.identity.region is None:  # a cloud wants requests signed, which curl does not know how to
        data = shlex.quote(f"@{request}")
        commands.append(f"curl {seen.address}/invocations -H 'content-type: application/json' -d {data}")
    return "\n".join((head, "", *(f"  {each}" for each in commands)))


def _headline(session: Session, plan: Plan, applied: Applied) -> str:
    seen = applied.deployment
    if applied.outcome == "started":
        return f"Started. See how far it is: {options.next_command(session, 'status')}"
    if plan.asked is None:
        return f"Destroyed {session.identity}"
    if seen is None or seen.stable is None:
        return "Done."
    head = "No changes: what is there is what the spec asks for." if applied.outcome == "unchanged" else "Deployed."
    return f"{head} {seen.identity.name} serves revision {seen.stable.revision.id} at {seen.address}"
