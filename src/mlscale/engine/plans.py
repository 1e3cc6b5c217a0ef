"""The plans of a session: deploy, destroy, roll back, collect garbage; made, saved and read back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from shlex import split

from mlscale.deployment import AT_ONCE, WHOLE, Deployment, Revision, Role, RolloutWish, Scaling, ServedRevision
from mlscale.engine.session import Session, World, open_session
from mlscale.errors import NotDeployed, PlanStale, Unsupported, UsageError
from mlscale.plan import make, planfile
from mlscale.plan.diff import share_text
from mlscale.plan.steps import Plan
from mlscale.providers import artifact
from mlscale.providers.contract import Refusal
from mlscale.quantities import duration_text
from mlscale.spec.model import Spec
from mlscale.spec.resolve import Digests, deployment_of, ignored_by, is_driven, shares_of, wish_of
from mlscale.state import revisions, rollouts
from mlscale.state.journal import not_ended_well

READ_AT_ONCE = 8
"""Places that are read side by side."""


def make_plan(session: Session, *, refresh_runtime: bool = False) -> Plan:
    """Return the plan from what is there to what the spec asks for.

    Raises:
        Unsupported: the provider can't do it.
        UsageError: a file that the spec names is missing.
    """
    seen = session.provider.read(session.identity)
    return _plan_from(session, _files_of(session), seen, refresh_runtime=refresh_runtime)


def make_plans(sessions: Sequence[Session], *, refresh_runtime: bool = False) -> Sequence[Plan]:
    """Return a plan for each session, in order; those at the same place are read together.

    Meanwhile the files on this machine are read, each once: a large model takes longer than what is asked of a cloud.

    Raises:
        MlscaleError: as `make_plan`.
    """
    digest, runtime = cache(artifact.digest), cache(artifact.runtime_digest)
    pool = ThreadPoolExecutor(READ_AT_ONCE, thread_name_prefix="plan")
    try:
        reads = [pool.submit(_read_together, each) for each in _by_place(sessions)]
        files = [_files_of(each, digest, runtime) for each in sessions]
        seen = {number: found for read in reads for number, found in read.result().items()}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return [
        _plan_from(each, files[number], seen[number], refresh_runtime=refresh_runtime)
        for number, each in enumerate(sessions)
    ]


def _by_place(sessions: Sequence[Session]) -> Sequence[Mapping[int, Session]]:
    """Return the sessions, by their number, that one read can be for."""
    places: dict[object, dict[int, Session]] = {}
    for number, each in enumerate(sessions):
        place = (each.identity.provider, each.identity.account, each.identity.region)
        # What this machine has lies beside each spec, and is not one place.
        places.setdefault(place if each.identity.region else number, {})[number] = each
    return list(places.values())


def _read_together(sessions: Mapping[int, Session]) -> Mapping[int, Deployment | None]:
    provider = next(iter(sessions.values())).provider
    found = provider.read_all([each.identity for each in sessions.values()])
    return dict(zip(sessions, found, strict=True))


def _plan_from(session: Session, files: _Files, seen: Deployment | None, *, refresh_runtime: bool) -> Plan:
    wish = wish_of(session.spec)
    asked = _pinned(session, files, seen, refresh_runtime=refresh_runtime)
    if seen and is_rollout(session, asked, seen):
        return _next_of_rollout(session, asked, seen)
    steps = session.provider.steps(asked, seen, wish)
    if steps:
        session.provider.preflight(asked, seen)
    warnings = (*ignored_by(session.spec), *_warnings(session), *_ended(session, seen))
    plan = make.plan(asked, seen, steps, now=session.world.clock.now(), warnings=warnings)
    return replace(plan, notes={"rollout": native_text(wish)}) if wish.steps and _moves(asked, seen) else plan


def _pinned(session: Session, files: _Files, seen: Deployment | None, *, refresh_runtime: bool) -> Deployment:
    """Return what the spec asks for as the provider will hold it."""
    asked = _asked_of(session, files, seen, refresh_runtime=refresh_runtime)
    _refuse_unsupported(session, asked, seen, wish_of(session.spec))
    return session.provider.pinned(asked, None if refresh_runtime else seen)


def is_rollout(session: Session, asked: Deployment | None, seen: Deployment | None) -> bool:
    """Return whether what is asked for takes over by shares that mlscale goes through, one after the other."""
    return _moves(asked, seen) and is_driven(session.spec)


def _moves(asked: Deployment | None, seen: Deployment | None) -> bool:
    before, after = (each.stable if each else None for each in (seen, asked))
    return bool(before and after and before.revision.id != after.revision.id)


def native_text(wish: RolloutWish) -> str:
    """Return what a rollout is that the provider drives: how it goes, what it watches, and what it can't do."""
    interval, share = duration_text(wish.interval), share_text(wish.steps[0])
    way = {
        "canary": f"{share} of the instances, after {interval} all of them: two steps, at most 50% in the first",
        "linear": f"{share} of the instances more each {interval}",
        "rolling": f"{share} of the instances at a time, {interval} apart",
    }[wish.strategy]
    return (
        f"{way}; native: the provider shifts instances, not requests, goes back when one of the spec's alarms rings, "
        "and compares nothing; what both cost meanwhile is unknown: no price book"
    )


def _next_of_rollout(session: Session, asked: Deployment, seen: Deployment) -> Plan:
    """Return the plan to the share that comes next; what comes after it is a note, because it rests on evidence."""
    new, stable = asked.stable, seen.stable
    if new is None or stable is None:
        raise TypeError("a rollout leads from one revision to another")
    here = next((each.share for each in seen.revisions if each.revision.id == new.revision.id), 0)
    left = [each for each in shares_of(session.spec) if each > here]
    rollout = session.spec.rollout
    role = Role.SHADOW if rollout.strategy == "shadow" else Role.CANDIDATE
    plan = (
        trial_plan(session, asked, seen, replace(new, role=role, share=left[0]), stable=stable.revision)
        if left
        else promotion_plan(session, asked, seen)
    )
    warnings = (*ignored_by(session.spec), *_warnings(session))
    return replace(plan, notes={"rollout": rollout_text(session.spec, left)}, warnings=warnings)


def rollout_text(spec: Spec, left: Sequence[int]) -> str:
    """Return what a rollout does beyond its next step, who drives it and why, how long it takes, and what it costs."""
    rollout = spec.rollout
    interval = duration_text(rollout.interval)
    if rollout.strategy == "shadow":
        way = f"copies of {share_text(left[0])} of the requests for {interval} at least" if left else "the verdict"
    else:
        way = ", ".join(f"{share_text(each)} for {interval} at least" for each in left) or "the verdict"
    return (
        f"{way}, then 100% if it is shown to be no worse; by weights: mlscale shifts them and compares both revisions, "
        f"and takes the new one back as soon as it is shown to be worse; within {duration_text(rollout.deadline)}; "
        "what both cost meanwhile is unknown: no price book"
    )


def wanted(session: Session, seen: Deployment | None) -> Deployment:
    """Return what the spec asks for as the provider will hold it; what is `seen` of it stays.

    Raises:
        Unsupported: the provider can't do it.
        UsageError: a file that the spec names is missing.
    """
    return _pinned(session, _files_of(session), seen, refresh_runtime=False)


def trial_plan(
    session: Session, asked: Deployment, seen: Deployment, candidate: ServedRevision, *, stable: Revision
) -> Plan:
    """Return the plan to `candidate` beside the stable revision, which keeps its scaling and everything else.

    Args:
        session: the spec's session.
        asked: what the spec asks for, as `wanted` gives it; its files and settings are the candidate's.
        seen: what is there.
        candidate: the candidate, with its role and share.
        stable: the revision that serves beside it.

    Raises:
        NotDeployed: the stable revision is not there.
        Unsupported: the provider can't hold both.
    """
    before = make.back_to_stable(seen)
    served = before.stable if before else None
    if before is None or served is None or served.revision.id != stable.id:
        why = f"revision {stable.id} was there when the rollout began, and is not"
        raise NotDeployed("the stable revision is gone", why=why, hint="mlscale rollout abort, or mlscale deploy")
    rest = WHOLE if candidate.role is Role.SHADOW else WHOLE - candidate.share
    both = replace(
        before,
        revisions=(replace(served, share=rest), candidate),
        scaling=standing_scaling(session, seen) or seen.scaling,
        sources=asked.sources,
    )
    _refuse_unsupported(session, both, seen, AT_ONCE)
    steps = session.provider.steps(both, seen, AT_ONCE)
    if steps and all(each.revision.id != candidate.revision.id for each in seen.revisions):
        session.provider.preflight(asked, seen)
    return make.plan(both, seen, steps, now=session.world.clock.now())


def promotion_plan(session: Session, asked: Deployment, seen: Deployment) -> Plan:
    """Return the plan that gives the candidate everything, with all that the spec asks for; the stable one goes."""
    return make.plan(asked, seen, session.provider.steps(asked, seen, AT_ONCE), now=session.world.clock.now())


def abort_plan(session: Session, seen: Deployment) -> Plan:
    """Return the plan back to the stable revision alone; the candidate goes.

    Raises:
        NotDeployed: there is none.
    """
    asked = make.back_to_stable(seen)
    if asked is None:
        raise NotDeployed("there is no stable revision to go back to", why=str(session.identity), hint="mlscale deploy")
    asked = replace(asked, scaling=standing_scaling(session, seen) or seen.scaling)
    return make.plan(asked, seen, session.provider.steps(asked, seen, AT_ONCE), now=session.world.clock.now())


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
    known += [each for each in session.provider.revisions(session.identity) if each not in known]
    left, going = seen.stable.revision.id, not_ended_well(session.store, session.identity.name)
    if to is None and going and going.revision:
        if split(going.command)[1:2] == ["rollback"]:
            to = going.revision  # that may serve already, and the one before it is not meant
        else:
            left = going.revision  # that may be on its way, and what serves until then is the one before it
    others = [each for each in known if each.id != left]
    chosen = [each for each in known if each.id.startswith(to)] if to else others[:1]
    if len(chosen) != 1:
        listed = ", ".join(each.id for each in known) or "none"
        raise UsageError(
            "there is no such revision to go back to",
            why=f"{to or 'the one before'}: known are {listed}",
            hint="mlscale rollback --to REVISION",
        )
    asked = make.with_revision(seen, ServedRevision(chosen[0], Role.STABLE, WHOLE))
    asked = replace(asked, scaling=standing_scaling(session, seen) or seen.scaling)
    steps = session.provider.steps(asked, seen, wish_of(session.spec))
    return make.plan(asked, seen, steps, now=session.world.clock.now())


def standing_scaling(session: Session, seen: Deployment | None) -> Scaling | None:
    """Return the scaling that holds: what is `seen`, or what was before a run that left things half done.

    None where nothing was.
    """
    going = not_ended_well(session.store, session.identity.name)
    return going.scaling if going else seen.scaling if seen else None


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
    refuse_stale(session, plan)
    return session, plan


def asked_for(session: Session, seen: Deployment | None, *, refresh_runtime: bool = False) -> Deployment:
    """Return what the spec asks for, with the serving code of what is `seen` unless that is to be refreshed.

    Raises:
        UsageError: a file that the spec names is missing.
    """
    return _asked_of(session, _files_of(session), seen, refresh_runtime=refresh_runtime)


@dataclass(frozen=True, slots=True)
class _Files:
    """What the files that a spec names hold, and where each is, by its digest; `runtime` is the serving code's."""

    digests: Mapping[str, str]
    sources: Mapping[str, str]
    runtime: str | None


def _files_of(
    session: Session,
    digest: Callable[[Path], str] = artifact.digest,
    runtime: Callable[[], str] = artifact.runtime_digest,
) -> _Files:
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
    digests = {name: digest(path) for name, path in paths.items()}
    sources = {digests[name]: str(path) for name, path in paths.items()}
    return _Files(digests, sources, None if model.image else runtime())


def _asked_of(session: Session, files: _Files, seen: Deployment | None, *, refresh_runtime: bool) -> Deployment:
    digests, runtime = files.digests, files.runtime
    if runtime and seen and seen.stable and not refresh_runtime:
        runtime = seen.stable.revision.content.runtime or runtime
    found = Digests(digests.get("artifact", ""), digests.get("handler"), digests.get("requirements"), runtime)
    return deployment_of(session.spec, found, files.sources)


def refusals_of(session: Session) -> Sequence[Refusal]:
    """Return what the provider can't do of the spec, whatever is there."""
    return session.provider.abilities(asked_for(session, None), None, wish_of(session.spec))


def _refuse_unsupported(session: Session, asked: Deployment, seen: Deployment | None, wish: RolloutWish) -> None:
    refusals = session.provider.abilities(asked, seen, wish)
    if refusals:
        raise Unsupported(
            f"{session.provider.name} can't do what the spec asks",
            why="\n".join(f"{each.path}: {each.why} {each.link}".rstrip() for each in refusals),
            hint=f"change {refusals[0].path}",
        )


def _ended(session: Session, seen: Deployment | None) -> Iterator[str]:
    """Yield the rollout that would end, because what is planned leaves no candidate."""
    found = rollouts.current(session.store, session.identity.name) if seen and seen.candidate else None
    if found and found.is_live:
        yield f"the rollout of revision {found.candidate.id}, at {share_text(found.share)}, ends with this"


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


def refuse_stale(session: Session, plan: Plan) -> None:
    """Return if what is there is still what the plan was made against.

    Raises:
        PlanStale: it is not.
    """
    now = make.digest(session.provider.read(session.identity))
    if now != plan.made_against:
        raise PlanStale(
            "the deployment changed after the plan was made",
            why=f"{session.identity} was read as {plan.made_against}, is now {now}",
            hint=f"mlscale plan {session.spec_path}",
        )
