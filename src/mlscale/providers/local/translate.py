"""Asked × seen → steps for this machine, and what was read → Deployment; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TypeAlias

from mlscale.autoscaling.policy import candidate_replicas, starting_replicas
from mlscale.deployment import (
    WHOLE,
    Deployment,
    Identity,
    Live,
    Phase,
    Replica,
    Revision,
    Role,
    RolloutWish,
    Scaling,
    ServedRevision,
)
from mlscale.plan.diff import changes, content_fields, replicas_text, share_changes
from mlscale.plan.steps import Change, Step, StepKind
from mlscale.providers.contract import Steps
from mlscale.providers.local.records import Desired, Observed, ObservedRevision


@dataclass(frozen=True, slots=True)
class StartEndpoint:
    """Have one supervisor run, with these settings if there were none before."""

    name: str
    host: str
    port: int
    scaling: Scaling


@dataclass(frozen=True, slots=True)
class PrepareRevision:
    """Put a revision's files in place: model, serving code, and its own environment if it has requirements.

    `model`, `handler` and `requirements` are paths of files with the digests that `revision` names; None where it
    has none. All None: the files must be there already (a rollback).
    """

    name: str
    revision: Revision
    model: str | None
    handler: str | None
    requirements: str | None


@dataclass(frozen=True, slots=True)
class AddRevision:
    """Run a prepared revision beside the others, without traffic."""

    name: str
    revision: Revision
    start_with: int


@dataclass(frozen=True, slots=True)
class GrowRevision:
    """Have a revision that is tried run with so many replicas at least."""

    name: str
    id: str
    replicas: int


@dataclass(frozen=True, slots=True)
class AwaitRevision:
    """Wait until a revision has as many healthy replicas as it shall start with."""

    name: str
    id: str
    startup_timeout: timedelta


@dataclass(frozen=True, slots=True)
class ShiftTraffic:
    """Give each revision its share of the traffic in basis points; those that are not named stay, without any.

    The share of `shadow` is that of the requests that it gets copies of. `replicas` are counts that are enough from
    then on: what is needed less goes in the same moment, so that no run can be cut off between the two.
    """

    name: str
    shares: Mapping[str, int]
    shadow: str = ""
    replicas: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bake:
    """Watch a revision that has the traffic for a while before the old one goes."""

    name: str
    id: str
    bake_time: timedelta


@dataclass(frozen=True, slots=True)
class PromoteRevision:
    """Make a revision the stable one; what was stable is retired."""

    name: str
    id: str


@dataclass(frozen=True, slots=True)
class DropRevision:
    """Drain and stop a revision's replicas."""

    name: str
    id: str


@dataclass(frozen=True, slots=True)
class Configure:
    """Change in place what is no part of a revision."""

    name: str
    scaling: Scaling
    labels: Mapping[str, str]
    host: str
    port: int
    spec_hash: str


@dataclass(frozen=True, slots=True)
class DeleteFiles:
    """Delete a folder of the deployment that nothing uses: a revision's, or an environment's."""

    name: str
    folder: str


@dataclass(frozen=True, slots=True)
class StopEndpoint:
    """Stop everything and delete the deployment's folder."""

    name: str


Payload: TypeAlias = (
    StartEndpoint
    | PrepareRevision
    | AddRevision
    | GrowRevision
    | AwaitRevision
    | ShiftTraffic
    | Bake
    | PromoteRevision
    | DropRevision
    | Configure
    | DeleteFiles
    | StopEndpoint
)


def steps(asked: Deployment | None, seen: Deployment | None, rollout: RolloutWish) -> Steps:
    """Return the steps from `seen` to `asked`; none where nothing differs and everything runs.

    What has failed is healed: its files are prepared again if they are gone, and a supervisor is started where none
    answers.
    """
    if asked is None:
        return (_stop(seen),) if seen else ()
    start = (_start(asked, seen),) if seen is None or seen.address is None else ()
    started = tuple(step.key for step in start)
    if _is_arranged(asked, seen):
        configure = _configure(asked, seen, started)
        # The settings may be what is wrong: they come before the wait.
        heal = _heal(asked, seen, (*started, *(step.key for step in configure)))
        return (*start, *configure, *heal, *_drops(asked, seen, started))
    if asked.candidate is None:
        takeover = _takeover(asked, seen, rollout, started)
        settled = _last(takeover) or started
        return (*start, *takeover, *_configure(asked, seen, settled), *_drops(asked, seen, settled))
    cleared = _cleared(asked, seen, rollout, started)
    drops = _drops(asked, seen, _last(cleared) or started)
    # The old candidate is gone before the new one is made: this machine need not hold three.
    ready = (*(_last(cleared) or started), *(step.key for step in drops))
    trial = _trial(asked, seen, ready, is_cleared=bool(cleared))
    return (*start, *cleared, *drops, *trial, *_configure(asked, seen, _last(trial) or ready))


def _is_arranged(asked: Deployment, seen: Deployment | None) -> bool:
    """Return whether each asked revision has its role and its share."""
    have = {(each.revision.id, each.role, each.share) for each in seen.revisions} if seen else set()
    return seen is not None and have.issuperset((each.revision.id, each.role, each.share) for each in asked.revisions)


def _has_failed(seen: Deployment | None) -> bool:
    return seen is not None and (seen.address is None or seen.phase is Phase.FAILED)


def _is_up(seen: Deployment | None, revision: str) -> bool:
    """Return whether a replica of `revision` can answer now."""
    if seen is None or seen.address is None:
        return False
    return any(each.revision.id == revision and each.live and each.live.ready for each in seen.revisions)


def _heal(asked: Deployment, seen: Deployment | None, after: tuple[str, ...]) -> tuple[Step[object], ...]:
    """Return the steps that have revisions serve again that did: their files whole, their replicas healthy.

    A candidate is waited for as well where a run was cut off that had begun to.
    """
    planned: list[Step[object]] = []
    for served in asked.revisions:
        revision = served.revision
        if _has_failed(seen):
            prepare = _prepare(asked, revision, StepKind.UPDATE)
            planned += (prepare, _wait(asked, revision, (*after, prepare.key)))
        elif served.role is not Role.STABLE and not _is_up(seen, revision.id):
            planned.append(_wait(asked, revision, after))
    return tuple(planned)


def _wait(asked: Deployment, revision: Revision, after: tuple[str, ...]) -> Step[object]:
    payload = AwaitRevision(asked.identity.name, revision.id, revision.content.health.startup_timeout)
    return Step(f"{revision.id}/wait", StepKind.WAIT, f"revision {revision.id}", payload, after=after)


def _start(asked: Deployment, seen: Deployment | None) -> Step[object]:
    payload = StartEndpoint(
        asked.identity.name, asked.settings["host"], int(asked.settings["port"]), scaling=asked.scaling
    )
    kind = StepKind.CREATE if seen is None else StepKind.UPDATE
    return Step("endpoint/start", kind, f"endpoint {asked.identity.name}", payload)


def _takeover(
    asked: Deployment, seen: Deployment | None, rollout: RolloutWish, started: tuple[str, ...]
) -> tuple[Step[object], ...]:
    """Return the steps after which the asked stable revision is that, with all traffic.

    Back to one that is stable already, nothing is watched and, if it can answer, nothing waited for.
    """
    served = asked.stable
    if served is None:
        return ()
    revision = served.revision
    present = {each.revision.id: each for each in seen.revisions} if seen else {}
    is_stable = revision.id in present and present[revision.id].role is Role.STABLE
    name = asked.identity.name
    label = f"revision {revision.id}"
    planned: list[Step[object]] = []
    if not (is_stable and _is_up(seen, revision.id)):
        planned += _ready(asked, seen, served, starting_replicas(asked.scaling, seen), started)
    planned.append(
        Step(
            f"{revision.id}/shift",
            StepKind.SHIFT,
            label,
            ShiftTraffic(name, {revision.id: WHOLE}),
            after=_last(planned) or started,
            changes=share_changes(asked, seen),
        )
    )
    if present and rollout.bake_time and not is_stable:
        bake = Bake(name, revision.id, rollout.bake_time)
        planned.append(
            Step(f"{revision.id}/bake", StepKind.WAIT, label, bake, after=_last(planned), expected=rollout.bake_time)
        )
    if not is_stable:
        promote = PromoteRevision(name, revision.id)
        planned.append(Step(f"{revision.id}/promote", StepKind.UPDATE, label, promote, after=_last(planned)))
    return tuple(planned)


def _ready(
    asked: Deployment, seen: Deployment | None, served: ServedRevision, count: int, after: tuple[str, ...]
) -> tuple[Step[object], ...]:
    """Return the steps after which a revision runs with `count` replicas, if it is not there with as many, healthy."""
    revision = served.revision
    have = next((each for each in seen.revisions if each.revision.id == revision.id), None) if seen else None
    planned: list[Step[object]] = []
    if have is None:
        planned += _new_revision(asked, seen, revision, count, after)
    elif _has_failed(seen) and not _is_up(seen, revision.id):
        planned.append(_prepare(asked, revision, StepKind.UPDATE))
    if count and have and have.role is not Role.STABLE and (have.live is None or have.live.desired < count):
        planned.append(_grow(asked, have, count, _last(planned) or after))
    planned.append(_wait(asked, revision, _last(planned) or after))
    return tuple(planned)


def _grow(asked: Deployment, have: ServedRevision, count: int, after: tuple[str, ...]) -> Step[object]:
    revision = have.revision
    return Step(
        f"{revision.id}/grow",
        StepKind.SCALE,
        f"revision {revision.id} with {replicas_text(count)}",
        GrowRevision(asked.identity.name, revision.id, count),
        after=after,
        changes=(_count_change(have, count),),
    )


def _cleared(
    asked: Deployment, seen: Deployment | None, rollout: RolloutWish, started: tuple[str, ...]
) -> tuple[Step[object], ...]:
    """Return the steps after which the asked stable one is stable, and nothing has traffic that is not asked for."""
    stable = asked.stable
    if stable is None:
        return ()
    is_stable = seen is not None and seen.stable is not None and seen.stable.revision.id == stable.revision.id
    if not is_stable:
        return _takeover(asked, seen, rollout, started)
    wanted = {each.revision.id for each in asked.revisions}
    present = {each.revision.id: each for each in seen.revisions} if seen else {}
    if all(each.revision.id in wanted or not each.share for each in present.values()):
        return ()
    return (
        Step(
            f"{stable.revision.id}/clear",
            StepKind.SHIFT,
            f"revision {stable.revision.id}",
            ShiftTraffic(asked.identity.name, {stable.revision.id: WHOLE}),
            after=started,
            changes=share_changes(replace(asked, revisions=(replace(stable, share=WHOLE),)), seen),
        ),
    )


def _trial(
    asked: Deployment, seen: Deployment | None, after: tuple[str, ...], *, is_cleared: bool
) -> tuple[Step[object], ...]:
    """Return the steps after which the candidate is beside the stable one, with its replicas and its share.

    More replicas come before the traffic for which they are, and fewer with it.
    """
    stable, tried = asked.stable, asked.candidate
    if stable is None or tried is None:
        return ()
    label = f"revision {tried.revision.id}"
    present = {each.revision.id: each for each in _after_clearing(asked, seen, is_cleared=is_cleared)}
    have = present.get(tried.revision.id)
    count = candidate_replicas(asked.scaling, seen, tried.share)
    planned: list[Step[object]] = []
    if have is None or have.share < tried.share or not _is_up(seen, tried.revision.id):
        least = count if have is None or have.share != tried.share else 0
        planned += _ready(asked, seen, tried, least, after)
    if not is_cleared and not _is_up(seen, stable.revision.id):
        planned = [*_ready(asked, seen, stable, 0, after), *planned]
    shares = {stable.revision.id: stable.share, tried.revision.id: tried.share}
    is_new = have is None and tried.role is Role.CANDIDATE and tried.share == 0
    if is_new and present.keys() == {stable.revision.id} and present[stable.revision.id].share == stable.share:
        return tuple(planned)
    fewer = have and have.live and have.share > tried.share and have.live.desired > count
    shift = ShiftTraffic(
        asked.identity.name,
        shares,
        shadow=tried.revision.id if tried.role is Role.SHADOW else "",
        replicas={tried.revision.id: count} if fewer else {},
    )
    differences = share_changes(asked, seen)
    if have and fewer:
        differences = (*differences, _count_change(have, count))
    last = tuple(step.key for step in planned if step.key.endswith("/wait"))
    planned.append(
        Step(f"{tried.revision.id}/shift", StepKind.SHIFT, label, shift, after=last or after, changes=differences)
    )
    return tuple(planned)


def _after_clearing(asked: Deployment, seen: Deployment | None, *, is_cleared: bool) -> tuple[ServedRevision, ...]:
    """Return the asked revisions that are there, as they are when all others are gone."""
    wanted = {each.revision.id for each in asked.revisions}
    there = tuple(each for each in (seen.revisions if seen else ()) if each.revision.id in wanted)
    if not is_cleared or asked.stable is None:
        return there
    stable = asked.stable.revision.id
    others = tuple(replace(each, share=0) for each in there if each.revision.id != stable)
    return (replace(asked.stable, share=WHOLE), *others)


def _new_revision(
    asked: Deployment, seen: Deployment | None, revision: Revision, count: int, after: tuple[str, ...]
) -> tuple[Step[object], ...]:
    add = AddRevision(asked.identity.name, revision, start_with=count)
    return (
        _prepare(asked, revision, StepKind.CREATE),
        Step(
            f"{revision.id}/add",
            StepKind.CREATE,
            f"revision {revision.id} with {replicas_text(add.start_with)}",
            add,
            after=(*after, f"{revision.id}/prepare"),
            changes=_content_changes(revision, seen),
        ),
    )


def _prepare(asked: Deployment, revision: Revision, kind: StepKind) -> Step[object]:
    content = revision.content
    payload = PrepareRevision(
        asked.identity.name,
        revision,
        model=asked.sources.get(content.artifact),
        handler=asked.sources.get(content.handler or ""),
        requirements=asked.sources.get(content.requirements or ""),
    )
    expected = timedelta(seconds=30 if content.requirements else 1)
    return Step(f"{revision.id}/prepare", kind, f"files of revision {revision.id}", payload, expected=expected)


def _configure(asked: Deployment, seen: Deployment | None, after: tuple[str, ...]) -> tuple[Step[object], ...]:
    different = tuple(
        change
        for change in changes(asked, seen)
        if change.path.startswith(("endpoint.replicas", "endpoint.autoscaling", "labels.", "local."))
    )
    if not different:
        return ()
    configure = Configure(
        asked.identity.name,
        asked.scaling,
        asked.labels,
        asked.settings["host"],
        int(asked.settings["port"]),
        asked.spec_hash,
    )
    return (
        Step(
            "endpoint/configure",
            StepKind.UPDATE,
            "endpoint settings",
            configure,
            after=after,
            changes=different,
            interrupts=seen is not None and any(change.path.startswith("local.") for change in different),
        ),
    )


def _drops(asked: Deployment, seen: Deployment | None, after: tuple[str, ...]) -> tuple[Step[object], ...]:
    wanted = {served.revision.id for served in asked.revisions}
    leftover = [each for each in (seen.revisions if seen else ()) if each.revision.id not in wanted]
    return tuple(
        Step(
            f"{each.revision.id}/drop",
            StepKind.DELETE,
            f"revision {each.revision.id}",
            DropRevision(asked.identity.name, each.revision.id),
            after=after,
        )
        for each in leftover
    )


def _stop(seen: Deployment) -> Step[object]:
    return Step(
        "endpoint/stop",
        StepKind.DELETE,
        f"endpoint {seen.identity.name}",
        StopEndpoint(seen.identity.name),
        changes=changes(None, seen),
        destroys=True,
        interrupts=True,
    )


def garbage_steps(name: str, folders: tuple[str, ...]) -> Steps:
    """Return a step for each folder to delete, by its path under the home of the deployment `name`."""
    return tuple(
        Step(f"files/{folder}", StepKind.DELETE, f"files of {folder}", DeleteFiles(name, folder)) for folder in folders
    )


def deployment(
    identity: Identity, desired: Desired, observed: Observed | None, *, trouble: str = "", damage: str = ""
) -> Deployment:
    """Return what is there, from what is desired and what is observed.

    Args:
        identity: what it is called.
        desired: the record of what shall be.
        observed: what the supervisor sees; None while it starts, or when there is trouble with it.
        trouble: what is wrong with the supervisor; empty while it runs or starts.
        damage: what is wrong with the files; empty if nothing.
    """
    seen = {each.id: each for each in observed.revisions} if observed else {}
    revisions = tuple(
        _served(Revision(each.id, each.content), each.role, each.share, seen.get(each.id)) for each in desired.revisions
    )
    phase, reason = _phase(desired, observed, revisions, trouble or damage)
    return Deployment(
        identity=identity,
        revisions=revisions,
        scaling=desired.scaling,
        labels=desired.labels,
        settings={"host": desired.host, "port": str(desired.port)},
        phase=phase,
        reason=reason,
        address=_address(observed) if observed and observed.port else None,
        spec_hash=desired.spec_hash,
    )


def _address(observed: Observed) -> str:
    host = f"[{observed.host}]" if ":" in observed.host else observed.host
    return f"http://{host}:{observed.port}"


def _served(revision: Revision, role: Role, share: int, seen: ObservedRevision | None) -> ServedRevision:
    replicas = tuple(
        Replica(each.name, each.health, each.restarts, each.detail) for each in (seen.replicas if seen else ())
    )
    ready = sum(each.health == "healthy" for each in replicas)
    live = Live(desired=seen.wanted, ready=ready) if seen else None
    return ServedRevision(revision, role, share, live, replicas, metric_dimension=f'revision="{revision.id}"')


def _phase(
    desired: Desired, observed: Observed | None, revisions: tuple[ServedRevision, ...], trouble: str
) -> tuple[Phase, str]:
    if trouble:
        return Phase.FAILED, trouble
    if observed is None or observed.generation != desired.generation:
        return Phase.CHANGING, "the supervisor has not taken up the last change yet"
    if observed.failed:
        return Phase.FAILED, observed.failed
    dead = [each for each in revisions if each.share and not (each.live and each.live.ready)]
    if dead:
        detail = next((replica.detail for replica in dead[0].replicas if replica.detail), "they are starting")
        return Phase.FAILED, f"no replica of revision {dead[0].revision.id} is healthy: {detail}"
    return Phase.STEADY, ""


def _content_changes(revision: Revision, seen: Deployment | None) -> tuple[Change, ...]:
    """Return what is in `revision` otherwise than in the stable one."""
    before = content_fields(seen.stable.revision.content) if seen and seen.stable else {}
    after = content_fields(revision.content)
    paths = [*before, *(path for path in after if path not in before)]
    return tuple(
        Change(path, before.get(path), after.get(path)) for path in paths if before.get(path) != after.get(path)
    )


def _count_change(have: ServedRevision, count: int) -> Change:
    before = replicas_text(have.live.desired) if have.live else None
    return Change(f"replicas of revision {have.revision.id}", before, replicas_text(count))


def _last(planned: Sequence[Step[object]]) -> tuple[str, ...]:
    return (planned[-1].key,) if planned else ()
