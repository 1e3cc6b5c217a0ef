"""Carries a plan out under the lease, and says truthfully what came of it: read back, put back, remembered."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Literal

from mlscale.deployment import Deployment, Phase, Revision, RolloutWish, Scaling
from mlscale.engine.plans import garbage_plan, refuse_stale, standing_scaling
from mlscale.engine.run import POLL_EVERY_S, ApplyOptions, Event, Run, Stop, rarer
from mlscale.engine.session import Session
from mlscale.errors import Interrupted, LeaseLost, MlscaleError, NoCapacity, NotAsAsked, RolledBack, TimedOut
from mlscale.plan import make
from mlscale.plan.steps import SETTLE, Plan, Step
from mlscale.spec.resolve import wish_of
from mlscale.state import revisions, rollouts
from mlscale.state.journal import Journal, left_open, new_run_id, not_ended_well, unfinished
from mlscale.state.lease import Held, Owner, acquire


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of a run: `outcome` is done, unchanged or started; `deployment` is what was read back."""

    outcome: Literal["done", "unchanged", "started"]
    deployment: Deployment | None
    run_id: str


def apply(
    session: Session,
    plan: Plan,
    options: ApplyOptions,
    *,
    tell: Callable[[Event], None],
    stop: Stop,
    held: Held | None = None,
) -> Applied:
    """Carry out `plan` under the lease, read back what came of it, and say so.

    A plan without steps changes nothing. When the change does not hold, what was there before is put back. `held` is
    the lease of whoever has it already, and keeps it.

    Raises:
        LeaseHeld: another run is changing the deployment.
        PlanStale: the deployment changed after the plan was made.
        RolledBack: the change failed and what was there before serves.
        NotAsAsked: everything was done, and yet something else is there.
        MlscaleError: what a step raised, when there was nothing to go back to.
    """
    clock, name = session.world.clock, session.identity.name
    run_id = new_run_id(clock.now(), session.world.seed())
    cut_off = unfinished(session.store, name)
    if not plan.steps and not_ended_well(session.store, name) is None:
        return Applied("unchanged", _verified(session, plan, plan.seen), run_id)
    limit = None if options.timeout_s is None else clock.monotonic() + options.timeout_s
    with nullcontext(held) if held else leased(session, run_id, options, tell, stop) as lease:
        if held:
            held.advance()
        if not _settling(plan):  # else it is planned anew anyway
            refuse_stale(session, plan)
        journal = Journal(session.store, name, run_id, lease.fence, clock)
        begun = left_open(session.store, name, cut_off) if cut_off else {}
        run = Run(
            session.provider, journal, lease, clock, options=options, limit=limit, tell=tell, stop=stop, begun=begun
        )
        scaling = standing_scaling(session, plan.seen)
        journal.started(
            options.command,
            plan.made_against,
            [step.key for step in plan.steps],
            revision=plan.asked.stable.revision.id if plan.asked and plan.asked.stable else "",
            scaling=scaling,
        )
        run.say("run_started", "", name, f"going on after run {cut_off}, which was cut off" if cut_off else "")
        try:
            _remember_before(session, plan, run_id)
            plan = _settled(session, plan, run) if options.wait else plan
            run.carry_out(plan)
            seen = _verified(session, plan, session.provider.read(session.identity)) if options.wait else None
        except (Interrupted, TimedOut, LeaseLost) as error:
            journal.finished(error.cause, error.why)
            raise
        except MlscaleError as error:
            raised = _put_back(session, plan, scaling, error, run)
            journal.finished(raised.cause, raised.why)
            raise raised from error
        if options.wait:
            _remember(session, plan, run_id)
            if held is None:
                served = plan.asked.stable if plan.asked else None
                rollouts.settle(session.store, name, served.revision.id if served else "", clock.now())
            _collect_garbage(session, run, run.carry_out)
        applied = Applied(("done" if plan.steps else "unchanged") if options.wait else "started", seen, run_id)
        journal.finished(applied.outcome)
        run.say("run_finished", "", name)
    return applied


def _settled(session: Session, plan: Plan, run: Run) -> Plan:
    """Return the plan from what is there once that has come to rest; what goes on there brings or takes something.

    Where nothing goes on it is the plan as it was.
    """
    waits = _settling(plan)
    if not waits:
        return plan
    run.carry_out(replace(plan, steps=waits))
    seen = session.provider.read(session.identity)
    steps = session.provider.steps(plan.asked, seen, wish_of(session.spec))
    return replace(plan, steps=make.plan(plan.asked, seen, steps, now=session.world.clock.now()).steps)


def _settling(plan: Plan) -> tuple[Step[object], ...]:
    """Return the step that waits for what goes on at the provider, if there is one."""
    return tuple(step for step in plan.steps if step.key == SETTLE)


def leased(session: Session, run_id: str, options: ApplyOptions, tell: Callable[[Event], None], stop: Stop) -> Held:
    """Return the lease, waited for as long as `options` say.

    Raises:
        LeaseHeld: another run has it.
    """
    clock, name = session.world.clock, session.identity.name
    told: set[str] = set()

    def waiting(owner: Owner) -> None:
        if stop.requested:
            raise stop.error("")
        if owner.run_id not in told:
            told.add(owner.run_id)
            tell(Event(clock.now(), "waiting", "", name, f"run {owner.run_id}: {owner.command} on {owner.host}"))

    longest = options.lease_wait_s if options.timeout_s is None else min(options.lease_wait_s, options.timeout_s)
    return acquire(
        session.store,
        name,
        command=options.command,
        run_id=run_id,
        clock=clock,
        wait_s=longest,
        on_wait=waiting,
    )


def _verified(session: Session, plan: Plan, seen: Deployment | None) -> Deployment | None:
    """Return what is there, if it is what was asked; settling takes a moment where replicas come and go."""
    clock = session.world.clock
    limit, pause = clock.monotonic() + session.provider.settles_within_s, POLL_EVERY_S
    while True:
        wrong = make.difference(plan.asked, seen)
        failed = seen is not None and seen.phase is not Phase.STEADY
        if not wrong and not failed:
            return seen
        if clock.monotonic() >= limit:
            break
        clock.sleep(pause)
        pause = rarer(pause, session.provider)
        seen = session.provider.read(session.identity)
    raise NotAsAsked(
        "what serves is not what was asked for",
        why="\n".join((*wrong, *((seen.reason,) if seen and seen.reason else ()))),
        hint=f"mlscale status {session.spec_path}",
    )


def _put_back(session: Session, plan: Plan, scaling: Scaling | None, error: MlscaleError, run: Run) -> MlscaleError:
    """Return the error to raise after what failed was taken back: what was there before, or nothing if nothing was.

    A failure to take it back is told with the first one.
    """
    if plan.asked is None:
        return error
    before = make.back_to_stable(plan.seen) if plan.seen else None
    if before and scaling:
        before = replace(before, scaling=scaling)
    more = ""
    try:
        seen = session.provider.read(session.identity)
        if seen and seen.reason and seen.reason not in error.why:
            more = f"{seen.reason}\n"
        steps = session.provider.steps(before, seen, RolloutWish())
        if steps:
            run.take_back(make.plan(before, seen, steps, now=session.world.clock.now()))
    except MlscaleError as second:
        return error.and_why(f"{more}taking it back failed as well: {second}")
    if before is None or before.stable is None:
        return error.and_why(f"{more}what was made for it is taken down again")
    why = f"{error.why}\n{more}revision {before.stable.revision.id} serves, as before"
    _collect_garbage(session, run, run.take_back)
    if isinstance(error, NoCapacity) and not steps:
        return NoCapacity(error.what, why=why, hint=error.hint)
    return RolledBack(error.what, why=why, hint=error.hint)


def _remember_before(session: Session, plan: Plan, run_id: str) -> None:
    """Remember what serves now, unless it is known: a rollback goes back to it, also when the records were lost."""
    served = plan.seen.stable if plan.seen else None
    if plan.asked is None or plan.seen is None or served is None:
        return
    known = revisions.recorded(session.store, session.identity.name)
    if all(each.revision.id != served.revision.id for each in known):
        _record(session, served.revision, plan.seen.spec_hash, run_id)


def _remember(session: Session, plan: Plan, run_id: str) -> None:
    name = session.identity.name
    if plan.asked is None:
        for each in revisions.recorded(session.store, name):
            revisions.forget(session.store, name, each.revision.id)
    elif plan.asked.stable:
        _record(session, plan.asked.stable.revision, plan.asked.spec_hash, run_id)


def _record(session: Session, revision: Revision, spec_hash: str, run_id: str) -> None:
    now = session.world.clock.now()
    served = revisions.Recorded(revision=revision, deployed_at=now, run_id=run_id, spec_hash=spec_hash)
    revisions.record(session.store, session.identity.name, served)


def _collect_garbage(session: Session, run: Run, carry_out: Callable[[Plan], None]) -> None:
    """Delete what no kept revision needs; how the change ended stands, so a failure here is told and is none of it."""
    name = session.identity.name
    try:
        seen = session.provider.read(session.identity)
        if seen is None:
            return
        carry_out(garbage_plan(session))
        used = {each.revision.id for each in seen.revisions}
        for each in revisions.recorded(session.store, name)[session.spec.rollout.keep_revisions :]:
            if each.revision.id not in used:
                revisions.forget(session.store, name, each.revision.id)
    except MlscaleError as error:
        run.say("progress", "", name, f"files of old revisions stay, until mlscale gc: {error.why or error.what}")
