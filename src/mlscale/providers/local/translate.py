"""Asked × seen → steps for this machine, and what was read → Deployment; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from mlscale.autoscaling.policy import starting_replicas
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
from mlscale.plan.diff import changes, share_text
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
    """Return the steps from `seen` to `asked`; none where nothing differs and everything runs.

    What has failed is healed: its files are prepared again if they are gone, and a supervisor is started where none
    answers.
    """
    if asked is None:
        return (_stop(seen),) if seen else ()
    start = (_start(asked, seen),) if seen is None or seen.address is None else ()
    started = tuple(step.key for step in start)
    if _serves(asked, seen):
        configure = _configure(asked, seen, started)
        # The settings may be what is wrong: they come before the wait.
        heal = _heal(asked, (*started, *(step.key for step in configure))) if _has_failed(seen) else ()
        return (*start, *configure, *heal, *_drops(asked, seen, started))
    takeover = _takeover(asked, seen, rollout, started)
    settled = (takeover[-1].key,) if takeover else started
    return (*start, *takeover, *_configure(asked, seen, settled), *_drops(asked, seen, settled))


def _serves(asked: Deployment, seen: Deployment | None) -> bool:
    """Return whether the asked revision is the stable one and has all traffic."""
    have = seen.stable if seen else None
    wanted = asked.stable
    return bool(have and wanted and have.revision.id == wanted.revision.id and have.share == WHOLE)


def _has_failed(seen: Deployment | None) -> bool:
    return seen is not None and (seen.address is None or seen.phase is Phase.FAILED)


def _heal(asked: Deployment, after: tuple[str, ...]) -> tuple[Step[object], ...]:
    """Return the steps that have a revision serve again that did: its files whole, its replicas healthy."""
    if asked.stable is None:
        return ()
    revision = asked.stable.revision
    prepare = _prepare(asked, revision, StepKind.UPDATE)
    return (prepare, _wait(asked, revision, (*after, prepare.key)))


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
    served = asked.stable
    if served is None:
        return ()
    revision = served.revision
    present = {each.revision.id: each for each in seen.revisions} if seen else {}
    name = asked.identity.name
    label = f"revision {revision.id}"
    planned: list[Step[object]] = []
    if revision.id not in present:
        planned += _new_revision(asked, seen, revision, started)
    elif _has_failed(seen):
        planned.append(_prepare(asked, revision, StepKind.UPDATE))
    planned.append(_wait(asked, revision, _last(planned) or started))
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
    add = AddRevision(asked.identity.name, revision, start_with=starting_replicas(asked.scaling, seen))
    return (
        _prepare(asked, revision, StepKind.CREATE),
        Step(
            f"{revision.id}/add",
            StepKind.CREATE,
            f"revision {revision.id} with {_replicas_text(add.start_with)}",
            add,
            after=(*started, f"{revision.id}/prepare"),
            changes=_content_changes(asked, seen),
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
