"""Asked × seen → steps for this machine, and what was read → Deployment; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from mlscale.deployment import (
    WHOLE,
    Content,
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
from mlscale.plan.diff import changes, share_text
from mlscale.plan.steps import Change, Step, StepKind
from mlscale.providers.contract import Steps
from mlscale.providers.local.records import Desired, Observed, ObservedRevision

GONE = "the supervisor is gone"
"""How the reason of a deployment begins whose background process does not run."""


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
    id: str
    start_with: int


@dataclass(frozen=True, slots=True)
class AwaitRevision:
    """Wait until a revision has as many healthy replicas as it started with."""

    name: str
    id: str
    startup_timeout: timedelta


@dataclass(frozen=True, slots=True)
class ShiftTraffic:
    """Give all traffic to one revision; the others stay, without any."""

    name: str
    id: str


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
    """Return the steps from `seen` to `asked`; none where nothing differs and everything runs."""
    if asked is None:
        return (_stop(seen),) if seen else ()
    planned: list[Step[object]] = []
    if seen is None or seen.reason.startswith(GONE):
        planned.append(_start(asked, seen))
    started = tuple(step.key for step in planned)
    takeover = _takeover(asked, seen, rollout, started)
    settled = tuple(step.key for step in takeover if step.kind is StepKind.UPDATE) or started
    drops = _drops(asked, seen, settled)
    return (*planned, *takeover, *_configure(asked, seen, settled), *drops)


def _start(asked: Deployment, seen: Deployment | None) -> Step[object]:
    payload = StartEndpoint(
        asked.identity.name, asked.settings["host"], int(asked.settings["port"]), scaling=asked.scaling
    )
    kind = StepKind.CREATE if seen is None else StepKind.UPDATE
    return Step("endpoint/start", kind, f"endpoint {asked.identity.name}", payload)


def _takeover(
    asked: Deployment, seen: Deployment | None, rollout: RolloutWish, started: tuple[str, ...]
) -> tuple[Step[object], ...]:
    served = asked.stable
    if served is None:
        return ()
    revision = served.revision
    present = {each.revision.id: each for each in seen.revisions} if seen else {}
    have = present.get(revision.id)
    name = asked.identity.name
    wait = AwaitRevision(name, revision.id, revision.content.health.startup_timeout)
    label = f"revision {revision.id}"
    planned: list[Step[object]] = []
    if have and have.role is Role.STABLE and have.share == WHOLE:
        if started:
            planned.append(Step(f"{revision.id}/wait", StepKind.WAIT, label, wait, after=started))
        return tuple(planned)
    if have is None:
        planned += _new_revision(asked, seen, revision, started)
    planned.append(Step(f"{revision.id}/wait", StepKind.WAIT, label, wait, after=_last(planned) or started))
    planned.append(
        Step(
            f"{revision.id}/shift",
            StepKind.SHIFT,
            label,
            ShiftTraffic(name, revision.id),
            after=_last(planned),
            changes=_share_changes(present, revision.id),
        )
    )
    if present and rollout.bake_time:
        bake = Bake(name, revision.id, rollout.bake_time)
        planned.append(
            Step(f"{revision.id}/bake", StepKind.WAIT, label, bake, after=_last(planned), expected=rollout.bake_time)
        )
    planned.append(
        Step(f"{revision.id}/promote", StepKind.UPDATE, label, PromoteRevision(name, revision.id), after=_last(planned))
    )
    return tuple(planned)


def _new_revision(
    asked: Deployment, seen: Deployment | None, revision: Revision, started: tuple[str, ...]
) -> tuple[Step[object], ...]:
    content = revision.content
    label = f"revision {revision.id}"
    name = asked.identity.name
    prepare = PrepareRevision(
        name,
        revision,
        model=asked.sources.get(content.artifact),
        handler=asked.sources.get(content.handler or ""),
        requirements=asked.sources.get(content.requirements or ""),
    )
    add = AddRevision(name, revision.id, start_with=starting_replicas(asked.scaling, seen))
    return (
        Step(
            f"{revision.id}/prepare",
            StepKind.CREATE,
            f"files of {label}",
            prepare,
            expected=timedelta(seconds=30 if content.requirements else 1),
        ),
        Step(
            f"{revision.id}/add",
            StepKind.CREATE,
            f"{label} with {_replicas_text(add.start_with)}",
            add,
            after=(*started, f"{revision.id}/prepare"),
            changes=_content_changes(asked, seen),
        ),
    )


def starting_replicas(scaling: Scaling, seen: Deployment | None) -> int:
    """Return how many replicas a new revision starts with: what autoscaling has set for the old one, in bounds."""
    live = seen.stable.live if seen and seen.stable else None
    return max(scaling.min, min(scaling.max, live.desired if live else scaling.min))


def _configure(asked: Deployment, seen: Deployment | None, after: tuple[str, ...]) -> tuple[Step[object], ...]:
    if seen is None:
        different: tuple[Change, ...] = ()
    else:
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
            interrupts=any(change.path.startswith("local.") for change in different),
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
    identity: Identity,
    desired: Desired,
    contents: Mapping[str, Content],
    observed: Observed | None,
    trouble: str,
) -> Deployment:
    """Return what is there, from the two records, the revisions' contents by id, and `trouble` with the supervisor.

    `trouble` is empty while the supervisor runs.
    """
    seen = {each.id: each for each in observed.revisions} if observed and not trouble else {}
    revisions = tuple(
        _served(Revision(each.id, contents[each.id]), each.role, each.share, seen.get(each.id))
        for each in desired.revisions
        if each.id in contents
    )
    phase, reason = _phase(desired, observed, revisions, trouble)
    return Deployment(
        identity=identity,
        revisions=revisions,
        scaling=desired.scaling,
        labels=desired.labels,
        settings={"host": desired.host, "port": str(desired.port)},
        phase=phase,
        reason=reason,
        address=f"http://{observed.host}:{observed.port}" if observed and observed.port and not trouble else None,
        spec_hash=desired.spec_hash,
    )


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


def _content_changes(asked: Deployment, seen: Deployment | None) -> tuple[Change, ...]:
    return tuple(
        change
        for change in changes(asked, seen)
        if change.path.startswith(("model.", "endpoint.health", "endpoint.machine", "runtime"))
    )


def _share_changes(present: Mapping[str, ServedRevision], new: str) -> tuple[Change, ...]:
    old = tuple(
        Change(f"revision {each.revision.id}", share_text(each.share), share_text(0))
        for each in present.values()
        if each.share and each.revision.id != new
    )
    had = present[new].share if new in present else 0
    return (*old, Change(f"revision {new}", share_text(had), share_text(WHOLE)))


def _last(planned: list[Step[object]]) -> tuple[str, ...]:
    return (planned[-1].key,) if planned else ()


def _replicas_text(count: int) -> str:
    return "1 replica" if count == 1 else f"{count} replicas"
