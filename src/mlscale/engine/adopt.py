"""Takes over what somebody else made: under the lease it gets our marks, and what it then is is read back."""

from __future__ import annotations

from collections.abc import Callable

from mlscale.engine.apply import Applied, leased
from mlscale.engine.run import ApplyOptions, Event, Run, Stop
from mlscale.engine.session import Session
from mlscale.errors import MlscaleError, PlanStale
from mlscale.plan import make
from mlscale.plan.steps import Plan
from mlscale.state.journal import Journal, new_run_id


def adoption(session: Session) -> Plan:
    """Return the plan that puts our marks and the spec's labels on what has the spec's name; no step if it is ours.

    Raises:
        NotDeployed: nothing has that name.
        Unsupported: what has it can't become ours.
    """
    steps = session.provider.adopt(session.identity, session.spec.labels)
    return make.plan(None, None, steps, now=session.world.clock.now())


def adopt(session: Session, plan: Plan, options: ApplyOptions, *, tell: Callable[[Event], None], stop: Stop) -> Applied:
    """Carry out an `adoption` under the lease, and read back what is ours now.

    What fails is not taken back: a mark does no harm, and the same command again puts the rest.

    Raises:
        LeaseHeld: another run is changing the deployment.
        PlanStale: other steps are needed now.
        NotAsAsked: everything was done, and yet it is not ours.
        MlscaleError: what a step raised.
    """
    clock, name = session.world.clock, session.identity.name
    run_id = new_run_id(clock.now(), session.world.seed())
    if not plan.steps:
        return Applied("unchanged", session.provider.read(session.identity), run_id)
    limit = None if options.timeout_s is None else clock.monotonic() + options.timeout_s
    with leased(session, run_id, options, tell, stop) as lease:
        if adoption(session).steps != plan.steps:
            raise PlanStale("the deployment changed after the plan was made", why=str(session.identity))
        journal = Journal(session.store, name, run_id, lease.fence, clock)
        run = Run(session.provider, journal, lease, clock, options=options, limit=limit, tell=tell, stop=stop)
        journal.started(options.command, plan.made_against, [step.key for step in plan.steps])
        run.say("run_started", "", name)
        try:
            run.carry_out(plan)
            seen = session.provider.read(session.identity)
        except MlscaleError as error:
            journal.finished(error.cause, error.why)
            raise
        journal.finished("done")
        run.say("run_finished", "", name)
    return Applied("done", seen, run_id)
