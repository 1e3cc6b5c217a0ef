"""One command's view of one spec: where its deployment, provider and workspace are, and what can be done to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from mlscale.clock import Clock, SystemClock
from mlscale.deployment import WHOLE, Deployment, Identity, Phase, Revision, Role, RolloutWish, ServedRevision
from mlscale.engine.apply import SETTLES_WITHIN_S, Applied, ApplyOptions, Event, Run, Stop
from mlscale.errors import (
    Interrupted,
    LeaseLost,
    MlscaleError,
    NotAsAsked,
    NotDeployed,
    PlanStale,
    RolledBack,
    TimedOut,
    Unsupported,
    UsageError,
)
from mlscale.plan import make, planfile
from mlscale.plan.steps import Plan
from mlscale.providers import artifact
from mlscale.providers.contract import Provider, Refusal
from mlscale.spec.model import Spec
from mlscale.spec.parse import parse
from mlscale.spec.resolve import Digests, deployment_of, identity_of, wish_of
from mlscale.state import revisions
from mlscale.state.journal import Journal, new_run_id, unfinished
from mlscale.state.lease import Held, Owner, acquire
from mlscale.state.store import Store, open_store

LOCAL_ROOT = ".mlscale"


@dataclass(frozen=True, slots=True)
class World:
    """The outside, as an argument: `provider` gets the provider's name and the folder beside the spec.

    `seed` gives a text that no other run has.
    """

    provider: Callable[[str, Path], Provider]
    store: Callable[[str], Store]
    clock: Clock
    variables: Mapping[str, str]
    seed: Callable[[], str] = token_hex


def system_world() -> World:
    """Return the real outside."""
    clock = SystemClock()
    return World(
        provider=lambda name, root: _provider(name, root, clock), store=open_store, clock=clock, variables=os.environ
    )


def _provider(name: str, root: Path, clock: Clock) -> Provider:
    from mlscale.providers.local.provider import Local

    if name != "local":
        raise Unsupported("there is no such provider", why=name, hint="use provider: local")
    return Local(root, clock)


@dataclass(frozen=True, slots=True)
class Session:
    """A spec, and what it stands for."""

    world: World
    spec_path: Path
    spec: Spec
    identity: Identity
    provider: Provider
    workspace: str
    store: Store
    env: str | None = None
    overrides: tuple[str, ...] = ()


def open_session(
    world: World,
    spec_path: Path,
    *,
    text: bytes | None = None,
    env: str | None = None,
    overrides: Sequence[str] = (),
    workspace: str | None = None,
    default_workspace: str | None = None,
) -> Session:
    """Return the session for a spec file, or for `text` read from elsewhere as if it stood at `spec_path`.

    `workspace` goes before the spec's own, `default_workspace` comes after it.

    Raises:
        SpecInvalid: the spec has problems.
        UsageError: there is no such file.
    """
    spec = parse(
        read_spec(spec_path) if text is None else text,
        str(spec_path),
        variables=world.variables,
        env=env,
        overrides=overrides,
    )
    root = spec_path.resolve().parent / LOCAL_ROOT
    place = workspace or spec.workspace or default_workspace or str(root)
    if "://" not in place:
        place = str((spec_path.resolve().parent / place) if workspace is None else Path(place).resolve())
    return Session(
        world,
        spec_path,
        spec,
        identity_of(spec),
        world.provider(spec.provider, root),
        place,
        world.store(place),
        env,
        tuple(overrides),
    )


def read_spec(path: Path) -> bytes:
    """Return the bytes of a spec file.

    Raises:
        UsageError: it is not there or can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            "the spec can't be read", why=f"{path}: {error.strerror}", hint="mlscale init sklearn makes one"
        ) from error


def status(session: Session) -> Deployment | None:
    """Return what is there, None if nothing is."""
    return session.provider.read(session.identity)


def make_plan(session: Session, *, refresh_runtime: bool = False) -> Plan:
    """Return the plan from what is there to what the spec asks for.

    Raises:
        Unsupported: the provider can't do it.
        UsageError: a file that the spec names is missing.
    """
    seen = session.provider.read(session.identity)
    asked = asked_for(session, seen, refresh_runtime=refresh_runtime)
    _refuse_unsupported(session, asked, seen)
    asked = session.provider.pinned(asked, None if refresh_runtime else seen)
    steps = session.provider.steps(asked, seen, wish_of(session.spec))
    return make.plan(asked, seen, steps, now=session.world.clock.now(), warnings=_warnings(session))


def destroy_plan(session: Session) -> Plan:
    """Return the plan that takes everything down."""
    seen = session.provider.read(session.identity)
    return make.plan(None, seen, session.provider.steps(None, seen, RolloutWish()), now=session.world.clock.now())


def rollback_plan(session: Session, to: str | None) -> Plan:
    """Return the plan back to revision `to`, or to the one that served before this; scaling and labels stay.

    Raises:
        NotDeployed: nothing is deployed.
        UsageError: there is no such revision.
    """
    seen = session.provider.read(session.identity)
    if seen is None or seen.stable is None:
        raise NotDeployed("nothing is deployed", why=str(session.identity), hint="mlscale deploy")
    known = [each.revision for each in revisions.recorded(session.store, session.identity.name)]
    others = [each for each in known if each.id != seen.stable.revision.id]
    chosen = [each for each in known if each.id.startswith(to)] if to else others[:1]
    if len(chosen) != 1:
        listed = ", ".join(each.id for each in known) or "none"
        raise UsageError(
            "there is no such revision to go back to",
            why=f"{to or 'the one before'}: known are {listed}",
            hint="mlscale rollback --to REVISION",
        )
    asked = make.with_revision(seen, ServedRevision(chosen[0], Role.STABLE, WHOLE))
    steps = session.provider.steps(asked, seen, wish_of(session.spec))
    return make.plan(asked, seen, steps, now=session.world.clock.now())


def garbage_plan(session: Session) -> Plan:
    """Return the plan that deletes revisions beyond `rollout.keep_revisions`; never one in use."""
    seen = session.provider.read(session.identity)
    kept = revisions.recorded(session.store, session.identity.name)[: session.spec.rollout.keep_revisions]
    steps = session.provider.garbage(session.identity, [each.revision.id for each in kept])
    return make.plan(seen, seen, steps, now=session.world.clock.now())


def save_plan(session: Session, plan: Plan) -> str:
    """Return `plan` as the text of a file that `load_plan` reads."""
    made_from = planfile.Origin(
        spec=str(session.spec_path.resolve()),
        env=session.env,
        overrides=session.overrides,
        workspace=session.workspace,
    )
    return planfile.text_of(plan, made_from, payloads=session.provider.payloads())


def load_plan(world: World, text: bytes, name: str, *, workspace: str | None = None) -> tuple[Session, Plan]:
    """Return the session and the plan that a plan file holds.

    Raises:
        UsageError: it is no plan file, or was changed.
        PlanStale: the deployment changed after the plan was made, or the spec names another one now.
    """
    file = planfile.file_of(text, name=name)
    made_from = file.made_from
    session = open_session(
        world,
        Path(made_from.spec),
        env=made_from.env,
        overrides=made_from.overrides,
        workspace=workspace or made_from.workspace,
    )
    plan = planfile.plan_of(file, payloads=session.provider.payloads())
    about = plan.asked or plan.seen
    if about is not None and about.identity != session.identity:
        raise PlanStale(
            "the spec names another deployment than the plan",
            why=f"the plan is for {about.identity}, the spec for {session.identity}",
            hint=f"mlscale plan --out {name} {made_from.spec}",
        )
    _refuse_stale(session, plan)
    return session, plan


def apply(session: Session, plan: Plan, options: ApplyOptions, *, tell: Callable[[Event], None], stop: Stop) -> Applied:
    """Carry out `plan` under the lease, read back what came of it, and say so.

    A plan without steps changes nothing. When the change does not hold, what was there before is put back.

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
    if not plan.steps and cut_off is None:
        return Applied("unchanged", _verified(session, plan, plan.seen), run_id)
    limit = None if options.timeout_s is None else clock.monotonic() + options.timeout_s
    with _lease(session, run_id, options, tell, stop) as lease:
        _refuse_stale(session, plan)
        journal = Journal(session.store, name, run_id, lease.fence, clock)
        run = Run(session.provider, journal, lease, clock, options=options, limit=limit, tell=tell, stop=stop)
        journal.started(options.command, plan.made_against, [step.key for step in plan.steps])
        run.say("run_started", "", name, f"going on after run {cut_off}, which was cut off" if cut_off else "")
        try:
            _remember_before(session, plan, run_id)
            run.carry_out(plan)
            seen = _verified(session, plan, session.provider.read(session.identity)) if options.wait else None
        except (Interrupted, TimedOut, LeaseLost) as error:
            journal.finished(error.cause, error.why)
            raise
        except MlscaleError as error:
            raised = _put_back(session, plan, error, run)
            journal.finished(raised.cause, raised.why)
            raise raised from error
        if options.wait:
            _remember(session, plan, run_id)
            _collect_garbage(session, run)
        applied = Applied(("done" if plan.steps else "unchanged") if options.wait else "started", seen, run_id)
        journal.finished(applied.outcome)
        run.say("run_finished", "", name)
    return applied


def _lease(session: Session, run_id: str, options: ApplyOptions, tell: Callable[[Event], None], stop: Stop) -> Held:
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


def asked_for(session: Session, seen: Deployment | None, *, refresh_runtime: bool = False) -> Deployment:
    """Return what the spec asks for, with the serving code of what is `seen` unless that is to be refreshed.

    Raises:
        UsageError: a file that the spec names is missing.
    """
    base, model = session.spec_path.resolve().parent, session.spec.model
    if model.source and "://" in model.source:
        raise UsageError(
            "the model must be on this machine", why=f"model.source is {model.source}", hint="copy it here first"
        )
    paths = {
        name: base / text
        for name, text in (("artifact", model.source), ("handler", model.handler), ("requirements", model.requirements))
        if text is not None
    }
    digests = {name: artifact.digest(path) for name, path in paths.items()}
    sources = {digests[name]: str(path) for name, path in paths.items()}
    runtime = None if model.image else artifact.runtime_digest()
    if runtime and seen and seen.stable and not refresh_runtime:
        runtime = seen.stable.revision.content.runtime or runtime
    found = Digests(digests.get("artifact", ""), digests.get("handler"), digests.get("requirements"), runtime)
    return deployment_of(session.spec, found, sources)


def refusals_of(session: Session) -> Sequence[Refusal]:
    """Return what the provider can't do of the spec, whatever is there."""
    return session.provider.abilities(asked_for(session, None), None)


def _refuse_unsupported(session: Session, asked: Deployment, seen: Deployment | None) -> None:
    refusals = session.provider.abilities(asked, seen)
    if refusals:
        raise Unsupported(
            f"{session.provider.name} can't do what the spec asks",
            why="\n".join(f"{each.path}: {each.why} {each.link}".rstrip() for each in refusals),
            hint=f"change {refusals[0].path}",
        )


def _warnings(session: Session) -> tuple[str, ...]:
    folder = session.spec_path.resolve().parent
    if session.spec.model.source is None:
        return ()
    source = (folder / session.spec.model.source).resolve()
    foreign = artifact.is_archive(source) or not source.is_relative_to(folder)
    found = artifact.pickles(source) if foreign else ()
    return tuple(
        f"{name} in {session.spec.model.source} is a pickle from outside the spec's folder: "
        "loading it runs code that its author chose"
        for name in found
    )


def _refuse_stale(session: Session, plan: Plan) -> None:
    now = make.digest(session.provider.read(session.identity))
    if now != plan.made_against:
        raise PlanStale(
            "the deployment changed after the plan was made",
            why=f"{session.identity} was read as {plan.made_against}, is now {now}",
            hint=f"mlscale plan {session.spec_path}",
        )


def _verified(session: Session, plan: Plan, seen: Deployment | None) -> Deployment | None:
    """Return what is there, if it is what was asked; settling takes a moment where replicas come and go."""
    clock = session.world.clock
    limit = clock.monotonic() + SETTLES_WITHIN_S
    while True:
        wrong = make.difference(plan.asked, seen)
        failed = seen is not None and seen.phase is not Phase.STEADY
        if not wrong and not failed:
            return seen
        if clock.monotonic() >= limit:
            break
        clock.sleep(0.1)
        seen = session.provider.read(session.identity)
    raise NotAsAsked(
        "what serves is not what was asked for",
        why="\n".join((*wrong, *((seen.reason,) if seen and seen.reason else ()))),
        hint=f"mlscale status {session.spec_path}",
    )


def _put_back(session: Session, plan: Plan, error: MlscaleError, run: Run) -> MlscaleError:
    """Return the error to raise after what failed was taken back: what was there before, or nothing if nothing was.

    A failure to take it back is told with the first one.
    """
    if plan.asked is None:
        return error
    before = make.back_to_stable(plan.seen) if plan.seen else None
    why = error.why
    try:
        seen = session.provider.read(session.identity)
        if seen and seen.reason and seen.reason not in why:
            why += f"\n{seen.reason}"
        steps = session.provider.steps(before, seen, RolloutWish())
        if steps:
            run.take_back(make.plan(before, seen, steps, now=session.world.clock.now()))
    except MlscaleError as second:
        return type(error)(error.what, why=f"{why}\ntaking it back failed as well: {second}", hint=error.hint)
    if before is None or before.stable is None:
        return type(error)(error.what, why=f"{why}\nwhat was made for it is taken down again", hint=error.hint)
    return RolledBack(
        error.what,
        why=f"{why}\nrevision {before.stable.revision.id} serves, as before",
        hint=error.hint,
    )


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


def _collect_garbage(session: Session, run: Run) -> None:
    """Delete what no kept revision needs; the change is done, so a failure here is told and is none of the change's."""
    seen = session.provider.read(session.identity)
    if seen is None:
        return
    known = revisions.recorded(session.store, session.identity.name)
    used = {each.revision.id for each in seen.revisions}
    try:
        run.carry_out(garbage_plan(session))
        for each in known[session.spec.rollout.keep_revisions :]:
            if each.revision.id not in used:
                revisions.forget(session.store, session.identity.name, each.revision.id)
    except MlscaleError as error:
        run.say("progress", "", session.identity.name, f"files of old revisions stay: {error.why or error.what}")
