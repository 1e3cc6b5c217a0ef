"""Asked × seen → steps for Vertex AI, and what was read → Deployment; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from mlscale.autoscaling.policy import candidate_replicas, starting_replicas
from mlscale.deployment import (
    WHOLE,
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
from mlscale.plan.diff import changes, replicas_text, share_changes
from mlscale.plan.steps import SETTLE, Change, Step, StepKind
from mlscale.providers.contract import Steps
from mlscale.providers.vertex import machines, requests, scaling, watching
from mlscale.providers.vertex.payloads import (
    Adopt,
    AwaitOperation,
    AwaitReplicas,
    Bake,
    Configure,
    Deploy,
    Discard,
    MakeEndpoint,
    MakeModel,
    RemoveEndpoint,
    RemoveModel,
    RemoveUploads,
    Resize,
    Shift,
    Undeploy,
    Upload,
    Watch,
)
from mlscale.quantities import percent_text

CONTENT_PATHS = ("model.", "endpoint.health", "endpoint.machine", "runtime", "revision ")
"""Where a difference is another revision's."""

UPLOADING, CREATING, DEPLOYING = timedelta(minutes=1), timedelta(seconds=10), timedelta(minutes=12)
REMOVING = timedelta(minutes=1)
"""How long it usually takes: machines start in minutes."""


@dataclass(frozen=True, slots=True)
class Raw:
    """What the cloud answered about one deployment, as it came.

    `endpoint` is None where there is none; `models` are by their id; `pending` are operations that go on there. Without
    an endpoint `left` are the ids of Models that are ours, and `has_files` tells, where there is none of these either,
    whether anything was uploaded for one.
    """

    endpoint: Mapping[str, Any] | None
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    policies: Sequence[Mapping[str, Any]] = ()
    dashboard: Mapping[str, Any] | None = None
    pending: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    has_files: bool = False


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
    wait = AwaitOperation(seen.identity, tuple(seen.pending.split()))
    return (Step(SETTLE, StepKind.WAIT, f"endpoint {seen.identity.name}", wait, expected=DEPLOYING),)


def _planned(
    asked: Deployment, seen: Deployment | None, rollout: RolloutWish, uploads: str, after: tuple[str, ...]
) -> Iterator[Step[object]]:
    if asked.stable is None:
        return
    there = seen if seen and seen.facts.get("there") == "yes" else None
    moved = list(
        _trial(asked, there, uploads, after)
        if there and asked.candidate and _found(asked, there, asked.stable.revision)
        else _takeover(asked, there, rollout, uploads, after)
    )
    yield from moved
    waited_for = {key for each in moved for key in each.after}
    settled = tuple(key for key in _keys(moved) if key not in waited_for) or after
    settings = list(_settings(asked, there, settled))
    yield from settings
    # Where there is something to watch is written on the endpoint first: what is made after that is found again.
    yield from _watched(asked, seen, _keys(settings) or settled)


def _found(asked: Deployment, seen: Deployment, revision: Revision) -> ServedRevision | None:
    """Return where `revision` is deployed with the asked service account, None if it isn't.

    A deployment keeps its service account for good: where only that differs, the revision is deployed once more.
    """
    is_same = _account(asked) == _account(seen)
    same = (each for each in seen.revisions if each.revision.id == revision.id)
    return next((each for each in same if is_same or each.role is not Role.STABLE), None)


def _id_of(asked: Deployment, seen: Deployment | None, revision: Revision) -> str:
    """Return the id of a deployment that is to be made, or is there: by the revision, and by the account if need be.

    Where the Model has lost what tells its revision it is there under one of these, and stays.
    """
    found = _found(asked, seen, revision) if seen else None
    if found:
        return found.metric_dimension
    plain, own = requests.deployed_id(revision.id), requests.deployed_id(revision.id, _account(asked))
    taken = {each.metric_dimension for each in seen.revisions} if seen else ()
    is_same = seen is not None and _account(asked) == _account(seen)
    return own if (own if is_same else plain) in taken else plain


def _takeover(
    asked: Deployment, seen: Deployment | None, rollout: RolloutWish, uploads: str, after: tuple[str, ...]
) -> Iterator[Step[object]]:
    """Yield the steps until the stable revision is alone and has all traffic; none if that is so."""
    served = asked.stable
    if served is None:
        return
    identity, revision = asked.identity, served.revision
    label = f"revision {revision.id}"
    found = _found(asked, seen, revision) if seen else None
    if seen and found and found.share == WHOLE:
        if seen.facts.get("tried"):  # a candidate without traffic, or one that is gone
            yield _shift(asked, seen, {found.metric_dimension: WHOLE}, after)
            after = (f"{revision.id}/shift",)
        yield from _drops(asked, seen, (found.metric_dimension,), after)
        return
    deployed_id = _id_of(asked, seen, revision)
    made: list[Step[object]] = []
    if seen is None:
        made.append(
            Step(
                "endpoint/create",
                StepKind.CREATE,
                f"endpoint {identity.name}",
                MakeEndpoint(identity, requests.endpoint(asked, revision.id)),
                after=after,
                changes=_changed(asked, None, ("endpoint.kind", "labels.", f"{identity.provider}.")),
                expected=CREATING,
            )
        )
    # The way back is gone at once: what is stable was made for all traffic, and what it leaves may be broken.
    is_back = found is not None and found.role is Role.STABLE
    least = asked.scaling.min if is_back else starting_replicas(asked.scaling, seen)
    others = seen.revisions if seen else ()
    if found is None and others and asked.settings.get("network"):
        made += _replaced(asked, seen, revision, uploads, least, after)
        others = ()
    elif found is None:
        made += _new_revision(asked, seen, revision, uploads, least, (*after, *_keys(made)), beside=others)
    elif found.live and found.live.desired < least and not is_back:
        made.append(_resize(asked, revision, deployed_id, least, after))
    yield from made
    yield _wait(asked, revision, deployed_id, least, _keys(made[-1:]) or after)
    yield _shift(asked, seen, {deployed_id: WHOLE}, (f"{revision.id}/wait",))
    last = f"{revision.id}/shift"
    if seen and seen.revisions and rollout.bake_time:
        payload = Bake(identity, revision.id, deployed_id, rollout.bake_time)
        last = f"{revision.id}/bake"
        yield Step(last, StepKind.WAIT, label, payload, (f"{revision.id}/shift",), expected=rollout.bake_time)
    if others:
        yield from _drops(asked, seen, (deployed_id,), (last,))


def _replaced(
    asked: Deployment,
    seen: Deployment | None,
    revision: Revision,
    uploads: str,
    least: int,
    after: tuple[str, ...],
) -> Iterator[Step[object]]:
    """Yield the steps that put a revision in the place of what is there: an endpoint in a network holds one model.

    Nobody answers in between, so all that can be ready before is.
    """
    *ready, deploy = _new_revision(asked, seen, revision, uploads, least, after, beside=())
    drops = [
        replace(each, interrupts=True)
        for each in _drops(asked, seen, (_id_of(asked, seen, revision),), (*after, *_keys(ready[-1:])))
    ]
    yield from ready
    yield from drops
    yield replace(deploy, after=(*deploy.after, *_keys(drops)))


def _trial(asked: Deployment, seen: Deployment, uploads: str, after: tuple[str, ...]) -> Iterator[Step[object]]:
    """Yield the steps until the candidate has its share and its replicas beside the stable revision, and nothing else.

    What is neither of the two goes first: its traffic is the stable one's, and it bills for nothing.
    """
    served, tried = asked.stable, asked.candidate
    stable = _found(asked, seen, served.revision) if served else None
    if stable is None or tried is None:
        return
    revision, found = tried.revision, _found(asked, seen, tried.revision)
    kept = [each for each in (stable, found) if each]
    wanted = _id_of(asked, seen, revision)
    others = [each for each in seen.revisions if each not in kept]
    if any(each.share for each in others):
        shares = {each.metric_dimension: each.share for each in kept}
        shares[stable.metric_dimension] += WHOLE - sum(shares.values())
        split = requests.percents({key: share for key, share in shares.items() if share})
        back = Shift(asked.identity, split, seen.facts.get("tried", "") if found else "")
        yield Step("endpoint/back", StepKind.SHIFT, f"revision {stable.revision.id}", back, after)
        after = ("endpoint/back",)
    drops = list(_drops(asked, seen, tuple(each.metric_dimension for each in kept), after))
    yield from drops
    ready = (*after, *_keys(drops))
    if found and (found.share, stable.share) == (tried.share, WHOLE - tried.share):
        marked = _marked(seen, found)
        if marked and marked != _least_of(seen, found):
            yield _resize(asked, revision, wanted, marked, ready)
        return
    least = candidate_replicas(asked.scaling, seen, tried.share)
    if found is None:
        made = _new_revision(asked, seen, revision, uploads, least, ready, beside=(replace(stable, share=WHOLE),))
        yield from made
        ready = _keys(made[-1:])
    elif found.live and found.live.desired < least:
        yield _resize(asked, revision, wanted, least, ready)
        ready = (f"{revision.id}/resize",)
    yield _wait(asked, revision, wanted, least, ready)
    shares = {stable.metric_dimension: WHOLE - tried.share, wanted: tried.share}
    yield _shift(asked, seen, shares, (f"{revision.id}/wait",), requests.tried_text(revision.id, least))
    # What goes on there may be another run's deployment of the same revision, with another count.
    is_set = _least_of(seen, found) == least if found else not seen.pending
    if not is_set and ready != (f"{revision.id}/resize",):
        yield _resize(asked, revision, wanted, least, (f"{revision.id}/shift",))


def _least_of(seen: Deployment, found: ServedRevision) -> int | None:
    """Return how many replicas a revision beside the stable one is set to have at least; None if it is not there."""
    set_to = dict(each.split("=") for each in seen.facts.get("least", "").split())
    least = set_to.get(found.metric_dimension)
    return None if least is None else int(least)


def _marked(seen: Deployment, found: ServedRevision) -> int | None:
    """Return how many replicas a candidate needs for its share, as was written with that; None if nothing was."""
    revision, least = requests.tried_in(seen.facts.get("tried", ""))
    return least if revision == found.revision.id else None


def _account(deployment: Deployment) -> str:
    return deployment.settings.get("service_account", "")


def _wait(asked: Deployment, revision: Revision, deployed_id: str, least: int, after: tuple[str, ...]) -> Step[object]:
    payload = AwaitReplicas(asked.identity, revision.id, deployed_id, least)
    key, label = f"{revision.id}/wait", f"revision {revision.id}"
    return Step(key, StepKind.WAIT, label, payload, after, expected=DEPLOYING)


def _shift(
    asked: Deployment, seen: Deployment | None, shares: Mapping[str, int], after: tuple[str, ...], tried: str = ""
) -> Step[object]:
    """Return the step that gives each deployed model its basis points of the traffic."""
    moving = asked.candidate or asked.stable
    name = moving.revision.id if moving else ""
    split = requests.percents({key: share for key, share in shares.items() if share})
    payload = Shift(asked.identity, split, tried)
    changes = share_changes(asked, seen)
    return Step(f"{name}/shift", StepKind.SHIFT, f"revision {name}", payload, after, changes=changes)


def _resize(
    asked: Deployment, revision: Revision, deployed_id: str, least: int, after: tuple[str, ...]
) -> Step[object]:
    scaling = replace(asked.scaling, min=least, max=max(least, asked.scaling.max))
    return Step(
        f"{revision.id}/resize",
        StepKind.UPDATE,
        f"revision {revision.id} to {replicas_text(least)}",
        Resize(asked.identity, deployed_id, scaling),
        after=after,
    )


def _new_revision(
    asked: Deployment,
    seen: Deployment | None,
    revision: Revision,
    uploads: str,
    least: int,
    after: tuple[str, ...],
    *,
    beside: Sequence[ServedRevision],
) -> list[Step[object]]:
    """Return the steps that deploy a revision without traffic `beside` others; the first of all gets it at once."""
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
    split = {each.metric_dimension: each.share for each in beside if each.share}
    shares = {**requests.percents(split), requests.NEW: 0} if split else {requests.NEW: 100}
    new = _id_of(asked, seen, revision)
    wanted = tuple(
        requests.deploy(asked, revision, machine, deployed_id=new, least=least, split=shares)
        for machine in content.machine
    )
    scaled = () if seen and seen.revisions else ("endpoint.replicas", "endpoint.autoscaling")
    account = (f"{identity.provider}.service_account",) if seen else ()  # a new endpoint tells its settings
    made.append(
        Step(
            f"{revision.id}/deploy",
            StepKind.CREATE,
            f"revision {revision.id} on {', '.join(content.machine)}, {replicas_text(least)}",
            Deploy(identity, revision.id, wanted),
            after=(*after, made[-1].key),
            changes=_changed(asked, seen, (*CONTENT_PATHS, *scaled, *account)),
            expected=DEPLOYING,
        )
    )
    return made


def _drops(
    asked: Deployment, seen: Deployment | None, kept: tuple[str, ...], after: tuple[str, ...]
) -> Iterator[Step[object]]:
    """Yield a step for each deployed model that is not `kept`, by its id: a revision may be there twice."""
    for each in seen.revisions if seen else ():
        if each.metric_dimension not in kept:
            yield Step(
                f"{each.metric_dimension}/undeploy",
                StepKind.DELETE,
                f"revision {each.revision.id}",
                Undeploy(asked.identity, each.metric_dimension),
                after=after,
                expected=REMOVING,
            )


def _settings(asked: Deployment, seen: Deployment | None, after: tuple[str, ...]) -> Iterator[Step[object]]:
    """Yield the step for what changes in place, also where a run was cut off before it marked what it had done."""
    served = asked.stable
    if seen is None or served is None:
        return
    scaled = ("endpoint.replicas", "endpoint.autoscaling") if seen.revisions else ()
    different = _changed(asked, seen, ("labels.", f"{asked.identity.provider}.request_logging", *scaled))
    was_watched = seen.facts.get("watched") == "yes"
    revision = served.revision.id
    is_marked = seen.facts.get("marked") == revision and seen.facts.get("labelled") == "yes"
    if is_marked and (was_watched or not asked.auxiliaries) and not different:
        return
    payload = Configure(
        asked.identity,
        _id_of(asked, seen, served.revision),
        asked.scaling,
        requests.endpoint_labels(asked, revision, was_watched=was_watched),
        asked.settings.get("request_logging", ""),
        tuple(seen.facts.get("models", "").split()),
    )
    yield Step("endpoint/configure", StepKind.UPDATE, "endpoint settings", payload, after=after, changes=different)


def _watched(asked: Deployment, seen: Deployment | None, after: tuple[str, ...]) -> Iterator[Step[object]]:
    """Yield the step for what watches the endpoint, also where only its labels are others."""
    different = _changed(asked, seen, ("alarms.", "dashboards."))
    labels = dict(each.split("=", 1) for each in seen.facts.get("watchers", "").split()) if seen else {}
    if different or (asked.auxiliaries and not requests.our_labels(asked).items() <= labels.items()):
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
        drops = _undeployments(seen, _keys(settle))
        yield from drops
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
        if requests.revision_in(identity.name, each) is None:  # an imported endpoint's, which is not ours to delete
            continue
        yield Step(
            f"{each}/delete",
            StepKind.DELETE,
            f"model {each}",
            RemoveModel(identity, each),
            after=("files/delete",),
            destroys=True,
        )


def _undeployments(seen: Deployment, after: tuple[str, ...]) -> list[Step[object]]:
    """Return the steps that take every revision off, one after the other: only the last may go with its traffic."""
    identity, ordered = seen.identity, sorted(seen.revisions, key=lambda each: each.share)
    made: list[Step[object]] = []
    if len([each for each in ordered if each.share]) > 1:
        gathered = Shift(identity, requests.percents({ordered[-1].metric_dimension: WHOLE}))
        label = f"revision {ordered[-1].revision.id}"
        made.append(Step("endpoint/gather", StepKind.SHIFT, label, gathered, after))
    for each in ordered:
        made.append(
            Step(
                f"{each.metric_dimension}/undeploy",
                StepKind.DELETE,
                f"revision {each.revision.id}",
                Undeploy(identity, each.metric_dimension),
                after=(*after, *_keys(made[-1:])),
                destroys=True,
                interrupts=each is ordered[-1] and bool(each.share),
                expected=REMOVING,
            )
        )
    return made


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

    Without an endpoint but with something left of one, a failed deployment of no revision; where something is made
    still, one that changes.
    """
    pending = " ".join(raw.pending) or None
    phase = Phase.CHANGING if pending else Phase.STEADY
    reason = "an operation goes on at the endpoint" if pending else ""
    if raw.endpoint is None:
        if not pending:
            left = [*(f"model {each}" for each in raw.left), *(["uploaded files"] if raw.has_files else [])]
            phase, reason = Phase.FAILED, f"the endpoint is gone, and this is left of it: {', '.join(left)}"
        facts = {"there": "no", "models": " ".join(raw.left)}
        return Deployment(identity, phase=phase, reason=reason, scaling=Scaling(0, 0), facts=facts, pending=pending)
    endpoint = raw.endpoint
    labels = endpoint.get("labels", {})
    revisions = _revisions(endpoint, raw, labels.get(requests.REVISION, ""))
    stable = next((each for each in revisions if each.role is Role.STABLE), None)
    deployed = {each["id"]: each for each in endpoint.get("deployed_models", ())}
    own = deployed.get(stable.metric_dimension, {}) if stable else {}
    dedicated = own.get("dedicated_resources", {})
    ours = {key: labels[key] for key in requests.asked_labels(endpoint.get("description", "")) if key in labels}
    return Deployment(
        identity=identity,
        revisions=revisions,
        scaling=scaling.scaling_of(dedicated) if dedicated else Scaling(0, 0),
        labels=ours,
        settings=_settings_of(endpoint, own),
        auxiliaries=watching.auxiliaries_of(identity, raw.policies, raw.dashboard),
        facts={
            "there": "yes",
            "marked": labels.get(requests.REVISION, ""),
            "labelled": "yes" if _are_labelled(identity, raw.models, ours) else "no",
            "watched": labels.get(requests.WATCHED, "no"),
            "models": " ".join(sorted(raw.models)),
            **_tried_facts(endpoint, stable),
            **_watchers(identity, raw),
        },
        phase=phase,
        reason=reason,
        pending=pending,
        address=f"https://{_host_of(identity, endpoint)}/v1/{requests.endpoint_of(identity)}",
        spec_hash=labels.get(requests.SPEC_HASH, ""),
    )


def _watchers(identity: Identity, raw: Raw) -> dict[str, str]:
    """Return the labels of what watches the endpoint, if anything does."""
    found = watching.labels_of(identity, raw.policies, raw.dashboard)
    return {"watchers": " ".join(f"{key}={value}" for key, value in sorted(found.items()))} if found else {}


def _are_labelled(identity: Identity, models: Mapping[str, Mapping[str, Any]], labels: Mapping[str, str]) -> bool:
    """Return whether each Model that we made has the labels by which it is found, and those of the endpoint."""
    made = {key: revision for key in models if (revision := requests.revision_in(identity.name, key))}
    return all(
        requests.model_labels(identity.name, revision, labels).items() <= models[key].get("labels", {}).items()
        for key, revision in made.items()
    )


def _tried_facts(endpoint: Mapping[str, Any], stable: ServedRevision | None) -> dict[str, str]:
    """Return what is to know of those beside the stable one: its candidate's label, and the least counts by id."""
    others = [
        (each["id"], each.get("dedicated_resources", {}))
        for each in endpoint.get("deployed_models", ())
        if stable is None or each["id"] != stable.metric_dimension
    ]
    facts = {
        "tried": endpoint.get("labels", {}).get(requests.TRIED, ""),
        "least": " ".join(f"{key}={each.get('min_replica_count', 1)}" for key, each in others),
    }
    return {key: value for key, value in facts.items() if value}


def _host_of(identity: Identity, endpoint: Mapping[str, Any]) -> str:
    """Return who answers requests: a dedicated endpoint has a name of its own, and is asked nowhere else."""
    return endpoint.get("dedicated_endpoint_dns") or f"{identity.region}-aiplatform.googleapis.com"


def _revisions(endpoint: Mapping[str, Any], raw: Raw, marked: str) -> tuple[ServedRevision, ...]:
    split = {key: int(value) for key, value in endpoint.get("traffic_split", {}).items()}
    found = [
        (each, Revision(revision_of(content).id, content))
        for each in endpoint.get("deployed_models", ())
        for content in [content_of(raw.models.get(each["model"].rpartition("/")[2].partition("@")[0], {}), each)]
    ]
    shares = [split.get(each["id"], 0) * WHOLE // 100 for each, _ in found]
    chosen = [number for number, (_, revision) in enumerate(found) if revision.id == marked]
    stable = max(chosen or range(len(found)), key=lambda number: shares[number], default=0)
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
    available = replicas_of(deployed)
    return Live(max(least, available or 0), least if available is None else available)


def replicas_of(deployed: Mapping[str, Any]) -> int | None:
    """Return how many replicas of a DeployedModel answer, None if the server does not say.

    A message leaves out a count of 0, so there are none where only the count is left out.
    """
    status = deployed.get("status")
    return None if status is None else int(status.get("available_replica_count", 0))


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
    found = {
        "service_account": deployed.get("service_account"),
        "network": endpoint.get("network"),
        "encryption_key": endpoint.get("encryption_spec", {}).get("kms_key_name"),
        "dedicated_endpoint": "true" if endpoint.get("dedicated_endpoint_enabled") else None,
        "request_logging": logging_of(endpoint),
    }
    return {key: value for key, value in found.items() if value}


def logging_of(endpoint: Mapping[str, Any]) -> str:
    """Return an endpoint's request logging in the words of `spec.resolve`, empty where it has none."""
    kept = endpoint.get("predict_request_response_logging_config", {})
    if not kept.get("enabled"):
        return ""
    share = percent_text(round(kept.get("sampling_rate", 0) * 100, 6))
    return f"{share} to {kept.get('bigquery_destination', {}).get('output_uri', '')}"


def _changed(asked: Deployment, seen: Deployment | None, paths: tuple[str, ...]) -> tuple[Change, ...]:
    return tuple(change for change in changes(asked, seen) if change.path.startswith(paths))


def _keys(steps: Iterable[Step[object]]) -> tuple[str, ...]:
    return tuple(step.key for step in steps)
