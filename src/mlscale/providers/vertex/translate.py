"""Asked × seen → steps for Vertex AI, and what was read → Deployment; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeAlias

from mlscale.autoscaling.policy import starting_replicas
from mlscale.deployment import (
    WHOLE,
    Auxiliary,
    Content,
    Deployment,
    Health,
    Identity,
    Live,
    Phase,
    Revision,
    Role,
    RolloutWish,
    Scaling,
    ServedRevision,
    revision_of,
)
from mlscale.plan.diff import changes, share_text
from mlscale.plan.steps import Change, Step, StepKind
from mlscale.providers.contract import Steps
from mlscale.providers.vertex import machines, requests, scaling, watching
from mlscale.quantities import percent_text

CONTENT_PATHS = ("model.", "endpoint.health", "endpoint.machine", "runtime", "revision ")
"""Where a difference is another revision's."""

UPLOADING, CREATING, DEPLOYING = timedelta(minutes=1), timedelta(seconds=10), timedelta(minutes=12)
REMOVING = timedelta(minutes=1)
"""How long it usually takes: machines start in minutes."""


@dataclass(frozen=True, slots=True)
class Upload:
    """Put the files of a model into the folder `place`; `model` is where they are here, None if they are not."""

    identity: Identity
    place: str
    revision: Revision
    model: str | None = None


@dataclass(frozen=True, slots=True)
class MakeModel:
    """Begin to make the Model of a revision."""

    identity: Identity
    request: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MakeEndpoint:
    """Begin to make the endpoint."""

    identity: Identity
    request: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Deploy:
    """Begin to deploy a revision; `requests` are the same on each machine that it may run on, by preference."""

    identity: Identity
    revision: str
    requests: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class AwaitReplicas:
    """Wait until a revision has `least` replicas that answer."""

    identity: Identity
    revision: str
    least: int


@dataclass(frozen=True, slots=True)
class AwaitOperation:
    """Wait for an operation that another run began, or somebody else did."""

    identity: Identity
    operation: str


@dataclass(frozen=True, slots=True)
class Shift:
    """Give a revision all traffic."""

    identity: Identity
    revision: str


@dataclass(frozen=True, slots=True)
class Bake:
    """Keep the old revision for `bake_time`, and watch that the new one has replicas."""

    identity: Identity
    revision: str
    bake_time: timedelta


@dataclass(frozen=True, slots=True)
class Undeploy:
    """Begin to take a DeployedModel off the endpoint, by its id."""

    identity: Identity
    deployed_id: str


@dataclass(frozen=True, slots=True)
class Configure:
    """Change in place what is no part of a revision: labels, and bounds and targets of the stable one."""

    identity: Identity
    revision: str
    scaling: Scaling
    labels: Mapping[str, str]
    request_logging: str = ""


@dataclass(frozen=True, slots=True)
class Watch:
    """Have these alert policies and this dashboard, and no other."""

    identity: Identity
    auxiliaries: tuple[Auxiliary, ...]
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RemoveEndpoint:
    """Begin to delete the endpoint, which has no model any more."""

    identity: Identity


@dataclass(frozen=True, slots=True)
class RemoveUploads:
    """Delete every file of the deployment."""

    identity: Identity


@dataclass(frozen=True, slots=True)
class RemoveModel:
    """Begin to delete a Model, by its id."""

    identity: Identity
    model_id: str


@dataclass(frozen=True, slots=True)
class Discard:
    """Delete one file that nothing uses."""

    identity: Identity
    place: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """Put our labels on an endpoint that somebody else made, and on its Models."""

    identity: Identity
    labels: Mapping[str, str]


Payload: TypeAlias = (
    Upload
    | MakeModel
    | MakeEndpoint
    | Deploy
    | AwaitReplicas
    | AwaitOperation
    | Shift
    | Bake
    | Undeploy
    | Configure
    | Watch
    | RemoveEndpoint
    | RemoveUploads
    | RemoveModel
    | Discard
    | Adopt
)


@dataclass(frozen=True, slots=True)
class Raw:
    """What the cloud answered about one deployment, as it came.

    `endpoint` is None where there is none; `models` are by their id; `pending` is an operation that goes on there;
    `left` are ids of Models that are ours without an endpoint.
    """

    endpoint: Mapping[str, Any] | None
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    policies: Sequence[Mapping[str, Any]] = ()
    dashboard: Mapping[str, Any] | None = None
    pending: str = ""
    left: tuple[str, ...] = ()


def steps(asked: Deployment | None, seen: Deployment | None, rollout: RolloutWish, uploads: str) -> Steps:
    """Return the steps from `seen` to `asked`; none where nothing differs.

    Args:
        asked: what is asked for, its image chosen; None takes everything down.
        seen: what is there.
        rollout: how a new revision takes over.
        uploads: the place of files, like `gs://bucket/folder`.
    """
    if asked is None:
        return tuple(_removal(seen)) if seen else ()
    settle = _settle(seen)
    planned = tuple(_planned(asked, seen, rollout, uploads, _keys(settle)))
    return (*settle, *planned)


def _settle(seen: Deployment | None) -> tuple[Step[object], ...]:
    """Return the wait for what goes on there: another change is refused until then."""
    if seen is None or not seen.pending:
        return ()
    wait = AwaitOperation(seen.identity, seen.pending)
    return (Step("endpoint/settle", StepKind.WAIT, f"endpoint {seen.identity.name}", wait, expected=DEPLOYING),)


def _planned(
    asked: Deployment, seen: Deployment | None, rollout: RolloutWish, uploads: str, after: tuple[str, ...]
) -> Iterator[Step[object]]:
    served = asked.stable
    if served is None:
        return
    is_there = seen is not None and seen.facts.get("there") == "yes"
    present = seen.revisions if seen and is_there else ()
    revision = served.revision
    done = after
    if seen is None or not is_there or not _serves(asked, seen):
        takeover = list(_takeover(asked, seen if is_there else None, rollout, uploads, after))
        yield from takeover
        done = (takeover[-1].key,)
    drops = list(_drops(asked, seen if is_there else None, done))
    yield from drops
    settled = (*done, *_keys(drops)) if drops else done
    settings = list(_settings(asked, seen if is_there else None, revision.id, settled, is_new=not present))
    yield from settings
    # Where there is something to watch is written on the endpoint first: what is made after that is found again.
    yield from _watched(asked, seen, _keys(settings) or done)


def _serves(asked: Deployment, seen: Deployment) -> bool:
    """Return whether the asked revision has all traffic, by the asked settings."""
    have = next(
        (each for each in seen.revisions if asked.stable and each.revision.id == asked.stable.revision.id), None
    )
    return bool(have and have.share == WHOLE and not _moves(asked, seen))


def _moves(asked: Deployment, seen: Deployment) -> tuple[Change, ...]:
    """Return the settings that differ and can't be changed in place: they need another deployment of the model."""
    return tuple(
        change
        for change in changes(asked, seen)
        if change.path.startswith(f"{asked.identity.provider}.") and not change.path.endswith(".request_logging")
    )


def _takeover(
    asked: Deployment, seen: Deployment | None, rollout: RolloutWish, uploads: str, after: tuple[str, ...]
) -> Iterator[Step[object]]:
    served = asked.stable
    if served is None:
        return
    identity, revision = asked.identity, served.revision
    label = f"revision {revision.id}"
    present = {each.revision.id: each for each in seen.revisions} if seen else {}
    made: list[Step[object]] = []
    if seen is None:
        request = requests.endpoint(asked, revision.id)
        made.append(
            Step(
                "endpoint/create",
                StepKind.CREATE,
                f"endpoint {identity.name}",
                MakeEndpoint(identity, request),
                after=after,
                expected=CREATING,
            )
        )
    least = starting_replicas(asked.scaling, seen)
    if revision.id not in present:
        made += _new_revision(asked, seen, revision, uploads, least, (*after, *_keys(made)))
    yield from made
    last = (made[-1].key,) if made else after
    yield Step(
        f"{revision.id}/wait",
        StepKind.WAIT,
        label,
        AwaitReplicas(identity, revision.id, least),
        last,
        expected=DEPLOYING,
    )
    yield Step(
        f"{revision.id}/shift",
        StepKind.SHIFT,
        label,
        Shift(identity, revision.id),
        after=(f"{revision.id}/wait",),
        changes=_share_changes(present, revision.id),
    )
    if present and rollout.bake_time:
        yield Step(
            f"{revision.id}/bake",
            StepKind.WAIT,
            label,
            Bake(identity, revision.id, rollout.bake_time),
            after=(f"{revision.id}/shift",),
            expected=rollout.bake_time,
        )


def _new_revision(
    asked: Deployment,
    seen: Deployment | None,
    revision: Revision,
    uploads: str,
    least: int,
    after: tuple[str, ...],
) -> list[Step[object]]:
    """Return the steps that deploy a revision without traffic; the first one of all gets it at once."""
    identity, content = asked.identity, revision.content
    made: list[Step[object]] = []
    if folder := requests.upload_folder(identity.name, content, uploads):
        upload = Upload(identity, folder, revision, asked.sources.get(content.artifact))
        made.append(Step(f"{revision.id}/upload", StepKind.CREATE, f"files of revision {revision.id}", upload))
    request = requests.model(asked, revision, uploads)
    made.append(
        Step(
            f"{revision.id}/model",
            StepKind.CREATE,
            f"model {request['model_id']}",
            MakeModel(identity, request),
            after=_keys(made),
            expected=UPLOADING,
        )
    )
    split = {each.metric_dimension: each.share for each in seen.revisions if each.share} if seen else {}
    shares = {**requests.percents(split), requests.NEW: 0} if split else {requests.NEW: 100}
    wanted = tuple(requests.deploy(asked, revision, machine, least=least, split=shares) for machine in content.machine)
    made.append(
        Step(
            f"{revision.id}/deploy",
            StepKind.CREATE,
            f"revision {revision.id} on {', '.join(content.machine)}, {_replicas_text(least)}",
            Deploy(identity, revision.id, wanted),
            after=(*after, made[-1].key),
            changes=_content_changes(asked, seen),
            expected=DEPLOYING,
        )
    )
    return made


def _drops(asked: Deployment, seen: Deployment | None, after: tuple[str, ...]) -> Iterator[Step[object]]:
    wanted = {each.revision.id for each in asked.revisions}
    for each in seen.revisions if seen else ():
        if each.revision.id not in wanted:
            yield Step(
                f"{each.revision.id}/undeploy",
                StepKind.DELETE,
                f"revision {each.revision.id}",
                Undeploy(asked.identity, each.metric_dimension),
                after=after,
                expected=REMOVING,
            )


def _settings(
    asked: Deployment, seen: Deployment | None, revision: str, after: tuple[str, ...], *, is_new: bool
) -> Iterator[Step[object]]:
    """Yield the step for what changes in place, also where a run was cut off before it marked what it had done."""
    inside = ("endpoint.replicas", "endpoint.autoscaling", "labels.", f"{asked.identity.provider}.request_logging")
    different = tuple(change for change in changes(asked, seen) if change.path.startswith(inside))
    was_watched = seen is not None and seen.facts.get("watched") == "yes"
    marked = seen is not None and seen.facts.get("marked") == revision and (was_watched or not asked.auxiliaries)
    if is_new or (marked and not different):
        return
    payload = Configure(
        asked.identity,
        revision,
        asked.scaling,
        requests.endpoint_labels(asked, revision, was_watched=was_watched),
        asked.settings.get("request_logging", ""),
    )
    yield Step("endpoint/configure", StepKind.UPDATE, "endpoint settings", payload, after=after, changes=different)


def _watched(asked: Deployment, seen: Deployment | None, after: tuple[str, ...]) -> Iterator[Step[object]]:
    different = tuple(change for change in changes(asked, seen) if change.path.startswith(("alarms.", "dashboards.")))
    if different:
        payload = Watch(asked.identity, asked.auxiliaries, requests.our_labels(asked))
        yield Step("endpoint/watch", StepKind.UPDATE, "alarms and dashboard", payload, after=after, changes=different)


def _removal(seen: Deployment) -> Iterator[Step[object]]:
    """Yield the steps that leave nothing; what bills goes first, and the Models last, by which the rest is found."""
    identity, settle = seen.identity, _settle(seen)
    yield from settle
    before = _keys(settle)
    if seen.facts.get("watched") == "yes":
        unwatch = Watch(identity, (), {})
        yield Step("endpoint/unwatch", StepKind.DELETE, "alarms and dashboard", unwatch)
        before = ("endpoint/unwatch", *before)
    if seen.facts.get("there") == "yes":
        drops = [
            Step(
                f"{each.metric_dimension}/undeploy",
                StepKind.DELETE,
                f"revision {each.revision.id}",
                Undeploy(identity, each.metric_dimension),
                after=_keys(settle),
                destroys=True,
                interrupts=bool(each.share),
                expected=REMOVING,
            )
            # The one with the traffic goes last: only the last may go with it.
            for each in sorted(seen.revisions, key=lambda each: each.share)
        ]
        for number, drop in enumerate(drops):
            yield drop if number == 0 else _after(drop, drops[number - 1].key)
        yield Step(
            "endpoint/delete",
            StepKind.DELETE,
            f"endpoint {identity.name}",
            RemoveEndpoint(identity),
            after=(*before, *_keys(drops)),
            changes=changes(None, seen),
            destroys=True,
            interrupts=True,
        )
        before = ("endpoint/delete",)
    yield Step("files/delete", StepKind.DELETE, "uploaded files", RemoveUploads(identity), after=before, destroys=True)
    for each in seen.facts.get("models", "").split():
        yield Step(
            f"{each}/delete",
            StepKind.DELETE,
            f"model {each}",
            RemoveModel(identity, each),
            after=("files/delete",),
            destroys=True,
        )


def _after(step: Step[object], key: str) -> Step[object]:
    return replace(step, after=(*step.after, key))


def garbage_steps(identity: Identity, models: Sequence[str], places: Sequence[str]) -> Steps:
    """Return a step for each Model and file that nothing uses."""
    return (
        *(
            Step(f"{each}/discard", StepKind.DELETE, f"model {each}", RemoveModel(identity, each), expected=REMOVING)
            for each in models
        ),
        *(Step(f"{each}/discard", StepKind.DELETE, f"file {each}", Discard(identity, each)) for each in places),
    )


def adoption(identity: Identity, labels: Mapping[str, str]) -> Steps:
    """Return the step that makes an endpoint ours."""
    return (Step("endpoint/adopt", StepKind.UPDATE, f"endpoint {identity.name}", Adopt(identity, labels)),)


def deployment(identity: Identity, raw: Raw) -> Deployment:
    """Return what is there, from the cloud's answers.

    Without an endpoint but with Models left of one, a failed deployment of no revision.
    """
    if raw.endpoint is None:
        reason = f"the endpoint is gone, and this is left of it: {', '.join(f'model {each}' for each in raw.left)}"
        facts = {"there": "no", "models": " ".join(raw.left)}
        return Deployment(identity, phase=Phase.FAILED, reason=reason, scaling=Scaling(0, 0), facts=facts)
    endpoint = raw.endpoint
    labels = endpoint.get("labels", {})
    revisions = _revisions(endpoint, raw, labels.get(requests.REVISION, ""))
    stable = next((each for each in revisions if each.role is Role.STABLE), None)
    deployed = {each["id"]: each for each in endpoint.get("deployed_models", ())}
    own = deployed.get(stable.metric_dimension, {}) if stable else {}
    dedicated = own.get("dedicated_resources", {})
    asked = requests.asked_labels(endpoint.get("description", ""))
    return Deployment(
        identity=identity,
        revisions=revisions,
        scaling=scaling.scaling_of(dedicated) if dedicated else Scaling(0, 0),
        labels={key: labels[key] for key in asked if key in labels},
        settings=_settings_of(endpoint, own),
        auxiliaries=watching.auxiliaries_of(identity, raw.policies, raw.dashboard),
        facts={
            "there": "yes",
            "marked": labels.get(requests.REVISION, ""),
            "watched": labels.get(requests.WATCHED, "no"),
            "models": " ".join(sorted(raw.models)),
        },
        phase=Phase.CHANGING if raw.pending else Phase.STEADY,
        reason="an operation goes on at the endpoint" if raw.pending else "",
        pending=raw.pending or None,
        address=f"https://{identity.region}-aiplatform.googleapis.com/v1/{requests.endpoint_of(identity)}",
        spec_hash=labels.get(requests.SPEC_HASH, ""),
    )


def _revisions(endpoint: Mapping[str, Any], raw: Raw, marked: str) -> tuple[ServedRevision, ...]:
    split = {key: int(value) for key, value in endpoint.get("traffic_split", {}).items()}
    found = [
        (each, Revision(revision_of(content).id, content))
        for each in endpoint.get("deployed_models", ())
        for content in [content_of(raw.models.get(each["model"].rpartition("/")[2].partition("@")[0], {}), each)]
    ]
    shares = [split.get(each["id"], 0) * WHOLE // 100 for each, _ in found]
    chosen = [number for number, (_, revision) in enumerate(found) if revision.id == marked]
    stable = chosen[0] if chosen else max(range(len(found)), key=lambda number: shares[number], default=0)
    return tuple(
        ServedRevision(
            revision,
            Role.STABLE if number == stable else Role.CANDIDATE,
            shares[number],
            _live(each),
            metric_dimension=each["id"],
        )
        for number, (each, revision) in enumerate(found)
    )


def _live(deployed: Mapping[str, Any]) -> Live | None:
    """Return the counts; a server that does not say how many replicas answer has those that it was asked for."""
    resources = deployed.get("dedicated_resources", {})
    least = int(resources.get("min_replica_count", 1))
    available = deployed.get("status", {}).get("available_replica_count")
    return Live(max(least, int(available or 0)), least if available is None else int(available))


def content_of(model: Mapping[str, Any], deployed: Mapping[str, Any]) -> Content:
    """Return what a Model is made of; one that we did not make is an image with files that only their place tells.

    A machine of the revision's own list is no difference, whichever of them it runs on.
    """
    container = model.get("container_spec", {})
    facts = requests.facts_of(model.get("description", ""))
    seconds = str(container.get("deployment_timeout", "")).removesuffix("s")
    health = Health(
        path=container.get("health_route") or Health().path,
        startup_timeout=timedelta(seconds=float(seconds)) if seconds else Health().startup_timeout,
    )
    used = machines.text_of(deployed.get("dedicated_resources", {}))
    listed = tuple(facts.get("machine", ()))
    return Content(
        artifact=facts.get("artifact", model.get("artifact_uri", "")),
        framework=facts.get("framework", "custom"),
        framework_version=facts.get("framework_version"),
        handler=facts.get("handler"),
        requirements=facts.get("requirements"),
        runtime=facts.get("runtime"),
        image=container.get("image_uri"),
        environment={each["name"]: each.get("value", "") for each in container.get("env", ())},
        machine=listed if used in listed else tuple(each for each in (used,) if each),
        health=health,
    )


def _settings_of(endpoint: Mapping[str, Any], deployed: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings in the words of `spec.resolve`."""
    kept = endpoint.get("predict_request_response_logging_config", {})
    found = {
        "service_account": deployed.get("service_account"),
        "network": endpoint.get("network"),
        "encryption_key": endpoint.get("encryption_spec", {}).get("kms_key_name"),
        "dedicated_endpoint": "true" if endpoint.get("dedicated_endpoint_enabled") else None,
        "request_logging": (
            f"{percent_text(round(kept.get('sampling_rate', 0) * 100, 6))} to "
            f"{kept.get('bigquery_destination', {}).get('output_uri', '')}"
            if kept.get("enabled")
            else None
        ),
    }
    return {key: value for key, value in found.items() if value}


def _content_changes(asked: Deployment, seen: Deployment | None) -> tuple[Change, ...]:
    return tuple(change for change in changes(asked, seen) if change.path.startswith(CONTENT_PATHS))


def _share_changes(present: Mapping[str, ServedRevision], new: str) -> tuple[Change, ...]:
    old = tuple(
        Change(f"revision {each.revision.id}", share_text(each.share), share_text(0))
        for each in present.values()
        if each.share and each.revision.id != new
    )
    had = present[new].share if new in present else 0
    return (*old, Change(f"revision {new}", share_text(had), share_text(WHOLE)))


def _keys(steps: Sequence[Step[object]]) -> tuple[str, ...]:
    return tuple(step.key for step in steps)


def _replicas_text(count: int) -> str:
    return "1 replica" if count == 1 else f"{count} replicas"
