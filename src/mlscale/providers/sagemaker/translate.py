"""Asked × seen → steps for SageMaker, and what was read → Deployment; pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from mlscale.autoscaling.policy import candidate_replicas
from mlscale.deployment import (
    AT_ONCE,
    WHOLE,
    Auxiliary,
    AuxiliaryKind,
    Content,
    Deployment,
    Health,
    Identity,
    Kind,
    Live,
    Phase,
    Revision,
    Role,
    RolloutWish,
    Scaling,
    ServedRevision,
    revision_of,
)
from mlscale.plan.diff import changes, replicas_text, share_changes, share_text
from mlscale.plan.steps import SETTLE, Change, Step, StepKind
from mlscale.providers.contract import Steps
from mlscale.providers.sagemaker import arrangement, guardrails, packaging, requests, scaling, watching
from mlscale.providers.sagemaker.arrangement import Place
from mlscale.providers.sagemaker.payloads import (
    Adopt,
    AwaitEndpoint,
    AwaitGone,
    Configure,
    Discard,
    MakeConfig,
    MakeEndpoint,
    MakeModel,
    Release,
    RemoveArrangements,
    RemoveEndpoint,
    RemoveUploads,
    Scale,
    Shift,
    UpdateEndpoint,
    Upload,
    Watch,
)
from mlscale.providers.sagemaker.scaling import SeenScaling
from mlscale.quantities import percent_text, size_text

SERVING = frozenset({"InService", "Updating", "SystemUpdating", "RollingBack", "UpdateRollbackFailed"})
"""States in which an endpoint answers."""

BUSY = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})
"""States that end by themselves, and in which SageMaker refuses changes."""

CREATING, UPDATING, DELETING = timedelta(minutes=8), timedelta(minutes=8), timedelta(minutes=2)
SHIFTING, SCALING = timedelta(minutes=1), timedelta(minutes=5)
"""How long it usually takes: instances start in minutes."""

CONTENT_PATHS = ("model.", "endpoint.health", "endpoint.machine", "endpoint.kind", "runtime", "revision ")
"""Where a difference is another revision's."""

SETTING_PATHS = ("sagemaker.", "endpoint.serverless.", "endpoint.async_inference.")
"""Where a difference is another arrangement's."""


@dataclass(frozen=True, slots=True)
class Raw:
    """What the cloud answered about one deployment, as it came.

    `endpoint` is None where there is none, `config` where its arrangement was deleted; `coming` is the arrangement that
    it is on its way to. `models` are by name, each with its tags, `scaling` by the variants that it is of; `left` are
    names of what is ours without an endpoint.
    """

    endpoint: Mapping[str, Any] | None
    tags: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None
    coming: Mapping[str, Any] | None = None
    models: Mapping[str, tuple[Mapping[str, Any], Mapping[str, str]]] = field(default_factory=dict)
    scaling: Mapping[str, SeenScaling] = field(default_factory=dict)
    alarms: Sequence[Mapping[str, Any]] = ()
    dashboard: str | None = None
    left: tuple[str, ...] = ()


def steps(asked: Deployment | None, seen: Deployment | None, rollout: RolloutWish, uploads: str) -> Steps:
    """Return the steps from `seen` to `asked`; none where nothing differs.

    Args:
        asked: what is asked for, its image chosen; None takes everything down.
        seen: what is there.
        rollout: how a new revision takes over.
        uploads: the place of archives, like `s3://bucket/folder`.
    """
    if asked is None:
        return tuple(_removal(seen)) if seen else ()
    status = seen.facts.get("status", "") if seen else ""
    if seen is None or status in ("", "Failed", "OutOfService", "Deleting"):
        return tuple(_made(asked, seen, uploads))
    settle = _settle(asked, seen)
    after = tuple(step.key for step in settle)
    is_left = bool(settle) and arrangement.is_leaving(seen)
    # Of two variants one may be gone when what goes on has ended, and the arrangement has its first count.
    if not _serves(asked, seen) or status == arrangement.BROKEN or (is_left and asked.candidate):
        return (*settle, *_moved(asked, seen, rollout, uploads, after))
    if is_left:
        return (*settle, *_returned(asked, seen, after))
    shifted = tuple(_traffic(asked, seen, after))
    after = _last(shifted, after)
    planned = (*shifted, *_settings(asked, seen, after), *_watched(asked, seen, after))
    return (*settle, *planned) if planned or seen.phase is Phase.CHANGING else ()


def _last(found: Sequence[Step[object]], after: tuple[str, ...]) -> tuple[str, ...]:
    """Return what to wait for so that `found`, which wait for each other, are done."""
    return (found[-1].key,) if found else after


def _settle(asked: Deployment, seen: Deployment) -> tuple[Step[object], ...]:
    """Return the wait for what goes on at the endpoint, if something does."""
    status, name = seen.facts["status"], asked.identity.name
    if status not in BUSY:
        return ()
    # An endpoint that can't be made does not become another one; an update that was not asked for may end as it likes.
    wait = AwaitEndpoint(name, seen.pending if status == "Creating" else None)
    return (Step(SETTLE, StepKind.WAIT, f"endpoint {name}", wait, expected=UPDATING),)


def _serves(asked: Deployment, seen: Deployment) -> bool:
    """Return whether the asked revisions alone are there, or on their way, by the asked settings."""
    return bool(
        seen.stable
        and asked.stable
        and _served(asked) == _served(seen)
        and len(asked.revisions) == len(arrangement.slots_of(seen))
        and dict(asked.settings) == dict(seen.settings)
        and asked.kind is seen.kind
    )


def _served(deployment: Deployment) -> list[tuple[str, bool]]:
    return sorted((each.revision.id, each.role is Role.SHADOW) for each in deployment.revisions)


def _made(asked: Deployment, seen: Deployment | None, uploads: str) -> Iterator[Step[object]]:
    served = asked.stable
    if served is None:
        return
    name, revision = asked.identity.name, served.revision
    status = seen.facts.get("status", "") if seen else ""
    places = arrangement.places(asked, None)
    ready = list(_prepared(asked, None, places, uploads))
    config = str(_request(ready[-1])["EndpointConfigName"])
    yield from ready
    before: tuple[str, ...] = (ready[-1].key,)
    if status and status != "Deleting":
        label = f"endpoint {name}, which failed"
        yield Step("endpoint/clear", StepKind.DELETE, label, RemoveEndpoint(name))
    if status:
        cleared = ("endpoint/clear",) if status != "Deleting" else ()
        wait = AwaitGone(name)
        yield Step("endpoint/cleared", StepKind.WAIT, f"endpoint {name}", wait, cleared, expected=DELETING)
        before = (*before, "endpoint/cleared")
    machines = ", ".join(revision.content.machine) or "serverless"
    autoscaled = _is_autoscaled(asked.scaling)
    yield Step(
        "endpoint/create",
        StepKind.CREATE,
        f"endpoint {name} on {machines}",
        MakeEndpoint(name, requests.endpoint(asked, revision.id, config)),
        after=before,
        changes=(
            *_content_changes(asked, None),
            *_setting_changes(asked, None),
            *(() if autoscaled else _scaling_changes(asked, None)),
        ),
    )
    yield _wait(name, config, "endpoint/create", CREATING)
    tried = list(_tried(asked, None, places, ("endpoint/wait",)))
    yield from tried
    if autoscaled:  # an endpoint comes with its count and its tags
        after = _last(tried, ("endpoint/wait",))
        yield _configure(asked, revision.id, requests.SLOT, after, _scaling_changes(asked, None))
    yield from _watched(asked, None, ("endpoint/wait",))


def _moved(
    asked: Deployment, seen: Deployment, rollout: RolloutWish, uploads: str, after: tuple[str, ...]
) -> Iterator[Step[object]]:
    """Yield the steps to another arrangement.

    A variant that goes has lost its traffic before. Where it is autoscaled, or where the machines of an autoscaled one
    change, its autoscaling is taken off before and put on again after, and the count that it had chosen stays.
    """
    served = asked.stable
    if served is None:
        return
    name, revision, places = asked.identity.name, served.revision, arrangement.places(asked, seen)
    ready = list(_prepared(asked, seen, places, uploads))
    config = _request(ready[-1])
    parted = list(_parted(asked, seen, places, after))
    yield from parted
    yield from ready
    watched = list(_watched(asked, seen, _last(parted, after), places[0].slot))
    yield from watched
    before = (*after, ready[-1].key, *_last(parted, ()), *(step.key for step in watched))
    released = list(_released(seen, config, before))
    yield from released
    yield Step(
        "endpoint/update",
        StepKind.UPDATE,
        f"endpoint {name} to {_told(places)}",
        UpdateEndpoint(name, requests.update(asked, config["EndpointConfigName"], _way(seen, places, rollout))),
        after=tuple(step.key for step in released) or before,
        changes=(*_content_changes(asked, seen), *_setting_changes(asked, seen)),
    )
    yield _wait(
        name,
        config["EndpointConfigName"],
        "endpoint/update",
        UPDATING + guardrails.expected(_way(seen, places, rollout)),
    )
    tried = list(_tried(asked, seen, places, ("endpoint/wait",)))
    yield from tried
    after = _last(tried, ("endpoint/wait",))
    yield _configure(asked, revision.id, places[0].slot, after, _scaling_changes(asked, seen))


def _told(places: Sequence[Place]) -> str:
    stable, *others = (each.served.revision.id for each in places)
    return f"revision {stable}" + "".join(f" and {each} beside it" for each in others)


def _way(seen: Deployment, places: Sequence[Place], rollout: RolloutWish) -> RolloutWish:
    """Return how an update goes: SageMaker takes steps only where the variants are the same before and after."""
    return rollout if {each.slot for each in places} == set(arrangement.slots_of(seen)) else AT_ONCE


def _parted(
    asked: Deployment, seen: Deployment, places: Sequence[Place], after: tuple[str, ...]
) -> Iterator[Step[object]]:
    """Yield the steps that take the traffic from variants that will go; who gets it has the capacity for it before."""
    stays = {each.slot: each for each in places if not each.is_shadow}
    before = {each.metric_dimension: each.share for each in seen.revisions if each.role is not Role.SHADOW}
    leaving = {slot: 0 for slot in before if slot not in stays}
    first = places[0]
    if not any(before[slot] for slot in leaving) or first.slot not in before:
        return
    stay = {slot: each.served.share if each.kept else 0 for slot, each in stays.items() if slot in before}
    wanted = {**stay, first.slot: 0, **leaving}
    wanted[first.slot] = WHOLE - sum(wanted.values())
    if first.slot != seen.facts.get("slot"):
        scaled = list(_scaled(asked, seen, first, wanted[first.slot], after))
        yield from scaled
        after = _last(scaled, after)
    ids = {each.metric_dimension: each.revision.id for each in seen.revisions}
    told = tuple(
        Change(f"revision {ids[slot]}", share_text(before[slot]), share_text(share))
        for slot, share in wanted.items()
        if before[slot] != share
    )
    yield _shift("traffic/part", asked.identity.name, wanted, after, told)


def _released(seen: Deployment, config: Mapping[str, Any], after: tuple[str, ...]) -> Iterator[Step[object]]:
    """Yield the steps without which SageMaker refuses an update: a variant that is autoscaled goes, or its machines."""
    name, slot = seen.identity.name, seen.facts.get("slot")
    new = {each["VariantName"]: arrangement.machines(each) for each in config[arrangement.VARIANTS]}
    there = arrangement.variants_in(seen)
    for each in seen.facts.get("scaled", "").split():
        if each not in there or new.get(each) != arrangement.machines(there[each]):
            key = "endpoint/release" if each == slot else f"{each}/release"
            subject = f"autoscaling of {name}, for the update" if each == slot else f"autoscaling of variant {each}"
            yield Step(key, StepKind.DELETE, subject, Release(name, each), after)


def _tried(
    asked: Deployment, seen: Deployment | None, places: Sequence[Place], after: tuple[str, ...]
) -> Iterator[Step[object]]:
    """Yield the steps that bring traffic to a candidate that is there without: first what it needs to bear it."""
    for each in places[1:]:
        if each.is_shadow:
            continue  # it has its copies from the arrangement, and as many instances as the stable one had
        scaled = list(_scaled(asked, seen, each, each.served.share, after))
        yield from scaled
        shares = {place.slot: place.served.share for place in places}
        if each.served.share:
            yield _shift("traffic/shift", asked.identity.name, shares, _last(scaled, after), share_changes(asked, seen))


def _scaled(
    asked: Deployment, seen: Deployment | None, place: Place, share: int, after: tuple[str, ...]
) -> Iterator[Step[object]]:
    """Yield the step that gives a variant the capacity for `share`; none where it has just that."""
    count = candidate_replicas(asked.scaling, seen, share)
    wanted = Scaling(count, count) if place.is_shadow else arrangement.candidates_scaling(asked.scaling, count)
    live = next((each.live for each in seen.revisions if each.metric_dimension == place.slot), None) if seen else None
    scaled = seen.facts.get(arrangement.scaling_fact(place.slot), "") if seen else ""
    if wanted.target or wanted.steps:
        is_so = scaled == arrangement.scaling_text(wanted)
    else:
        is_so = not scaled and (live.desired == count if live else place.kept is None)
    if is_so:
        return
    yield Step(
        f"{place.slot}/scale",
        StepKind.SCALE,
        f"revision {place.served.revision.id} on {replicas_text(count)}",
        Scale(asked.identity.name, asked.kind, place.slot, wanted),
        after=after,
        expected=SCALING,
    )


def _shift(
    key: str, name: str, shares: Mapping[str, int], after: tuple[str, ...], told: tuple[Change, ...]
) -> Step[object]:
    subject = f"traffic of {name}"
    return Step(key, StepKind.SHIFT, subject, Shift(name, shares), after=after, changes=told, expected=SHIFTING)


def _traffic(asked: Deployment, seen: Deployment, after: tuple[str, ...]) -> Iterator[Step[object]]:
    """Yield the steps to other shares between the variants that are there.

    Capacity grows before the traffic comes, and shrinks when it has gone. As counts move by themselves they are looked
    at only where a share changes, or where a run was cut off before it had marked that all is done.
    """
    places = arrangement.places(asked, seen)
    if len(places) == 1:
        return
    before = {each.metric_dimension: each.share for each in seen.revisions}
    wanted = {each.slot: each.served.share for each in places}
    if before == wanted and arrangement.is_settled(asked, seen):
        return
    tried = places[1]
    grows = wanted[tried.slot] >= before[tried.slot]
    scaled = list(_scaled(asked, seen, tried, wanted[tried.slot], after if grows else (*after, "traffic/shift")))
    if grows:
        yield from scaled
    if before != wanted:
        after = _last(scaled, after) if grows else after
        yield _shift("traffic/shift", asked.identity.name, wanted, after, share_changes(asked, seen))
    if not grows:
        yield from scaled


def _returned(asked: Deployment, seen: Deployment, after: tuple[str, ...]) -> Iterator[Step[object]]:
    """Yield the steps back to the arrangement that serves still, when an update that was not asked for has ended.

    Where that has failed, SageMaker is there already, and the update has nothing to do.
    """
    served = asked.stable
    if served is None:
        return
    name, config, slot = asked.identity.name, seen.facts["config"], seen.facts["slot"]
    yield Step(
        "endpoint/update",
        StepKind.UPDATE,
        f"endpoint {name} back to revision {served.revision.id}",
        UpdateEndpoint(name, requests.update(asked, config, AT_ONCE)),
        after=after,
    )
    yield _wait(name, config, "endpoint/update", UPDATING)
    yield _configure(asked, served.revision.id, slot, ("endpoint/wait",), _scaling_changes(asked, seen))
    yield from _watched(asked, seen, ("endpoint/wait",))


def _wait(name: str, config: str, after: str, expected: timedelta) -> Step[object]:
    return Step(
        "endpoint/wait", StepKind.WAIT, f"endpoint {name}", AwaitEndpoint(name, config), (after,), expected=expected
    )


def _prepared(
    asked: Deployment, seen: Deployment | None, places: Sequence[Place], uploads: str
) -> Iterator[Step[object]]:
    """Yield the steps that bill nothing yet: archives, Models and the EndpointConfig, which is the last."""
    name = asked.identity.name
    ready: list[str] = []
    variants: list[Mapping[str, Any]] = []
    for place in places:
        if place.kept is not None:
            variants.append({**place.kept, "InitialVariantWeight": place.weight})
            continue
        made = list(_made_model(asked, place.served.revision, uploads))
        yield from made
        ready.append(made[-1].key)
        variant = requests.variant(
            asked,
            place.served.revision.content,
            requests.model(asked, place.served.revision, uploads)["ModelName"],
            slot=place.slot,
            count=place.count,
            weight=place.weight,
        )
        variants.append(arrangement.as_coming(variant, seen))
    shadows = [each for each, place in zip(variants, places, strict=True) if place.is_shadow]
    config = requests.config(asked, [each for each in variants if each not in shadows], shadows)
    yield Step(
        f"{places[0].served.revision.id}/config",
        StepKind.CREATE,
        f"endpoint config {config['EndpointConfigName']}",
        MakeConfig(name, config),
        after=tuple(ready),
    )


def _made_model(asked: Deployment, revision: Revision, uploads: str) -> Iterator[Step[object]]:
    """Yield the steps that make the Model of a revision, the last of which is its own."""
    name, content = asked.identity.name, revision.content
    place = requests.upload_place(name, content, uploads)
    uploaded: tuple[str, ...] = ()
    if place is not None:
        yield Step(
            f"{revision.id}/upload",
            StepKind.CREATE,
            f"files of revision {revision.id}",
            Upload(
                name,
                place,
                revision,
                model=asked.sources.get(content.artifact),
                handler=asked.sources.get(content.handler or ""),
                requirements=asked.sources.get(content.requirements or ""),
            ),
        )
        uploaded = (f"{revision.id}/upload",)
    model = requests.model(asked, revision, uploads)
    yield Step(
        f"{revision.id}/model", StepKind.CREATE, f"model {model['ModelName']}", MakeModel(name, model), after=uploaded
    )


def _request(step: Step[object]) -> Mapping[str, Any]:
    if not isinstance(step.payload, MakeConfig):
        raise TypeError(f"{step.key} makes no endpoint config")
    return step.payload.request


def _settings(asked: Deployment, seen: Deployment, after: tuple[str, ...]) -> Iterator[Step[object]]:
    """Yield the step for what changes in place, also where a run was cut off before it marked what it had done."""
    different, served = _scaling_changes(asked, seen), asked.stable
    marks = (seen.facts.get("marked"), seen.facts.get("settled", ""))
    if served and (different or marks != (served.revision.id, requests.candidate_mark(asked))):
        yield _configure(asked, served.revision.id, seen.facts.get("slot", requests.SLOT), after, different)


def _scaling_changes(asked: Deployment, seen: Deployment | None) -> tuple[Change, ...]:
    inside = ("endpoint.replicas", "endpoint.autoscaling", "labels.")
    return tuple(change for change in changes(asked, seen) if change.path.startswith(inside))


def _configure(
    asked: Deployment, revision: str, slot: str, after: tuple[str, ...], different: tuple[Change, ...]
) -> Step[object]:
    payload = Configure(
        asked.identity.name,
        asked.kind,
        slot,
        asked.scaling,
        requests.endpoint_tags(asked, revision),
        requests.labels_as_tags(asked),
    )
    return Step("endpoint/configure", StepKind.UPDATE, "endpoint settings", payload, after=after, changes=different)


def _is_autoscaled(wanted: Scaling) -> bool:
    return bool(wanted.min != wanted.max or wanted.target or wanted.steps or wanted.schedule)


def _watched(
    asked: Deployment, seen: Deployment | None, after: tuple[str, ...], slot: str = ""
) -> Iterator[Step[object]]:
    """Yield the step that watches the variant `slot`, the stable one if none is said."""
    different = tuple(change for change in changes(asked, seen) if change.path.startswith(("alarms.", "dashboards.")))
    there = (seen.facts.get("slot") if seen else None) or requests.SLOT
    slot = slot or there
    is_there = slot == there and not (seen and seen.facts.get("watched elsewhere"))
    if not different and (is_there or not asked.auxiliaries):
        return
    payload = Watch(asked.identity.name, asked.kind, slot, asked.auxiliaries, requests.labels_as_tags(asked))
    yield Step("endpoint/watch", StepKind.UPDATE, "alarms and dashboard", payload, after=after, changes=different)


def _removal(seen: Deployment) -> Iterator[Step[object]]:
    """Yield the steps that leave nothing.

    What bills goes first. The archives go before the arrangements: as long as one of those is there, what is left is
    found.
    """
    name, status = seen.identity.name, seen.facts.get("status", "")
    slot = seen.facts.get("slot", requests.SLOT)
    after: tuple[str, ...] = ()
    if status in BUSY and status != "Deleting":
        yield Step(SETTLE, StepKind.WAIT, f"endpoint {name}", AwaitEndpoint(name, None), expected=UPDATING)
        after = ("endpoint/settle",)
    yield Step(
        "endpoint/unwatch",
        StepKind.DELETE,
        "alarms and dashboard",
        Watch(name, seen.kind, slot, (), {requests.NAME: name}),
    )
    gone: tuple[str, ...] = ("endpoint/unwatch",)
    for each in arrangement.slots_of(seen) if status else requests.SLOTS[:3]:
        key = "endpoint/release" if each == slot else f"{each}/release"
        yield Step(key, StepKind.DELETE, f"autoscaling of {name}", Release(name, each), after=after)
        gone = (*gone, key)
    if status:
        yield Step(
            "endpoint/delete",
            StepKind.DELETE,
            f"endpoint {name}",
            RemoveEndpoint(name),
            after=gone,
            changes=changes(None, seen),
            destroys=True,
            interrupts=status in SERVING,
        )
        yield Step(
            "endpoint/gone",
            StepKind.WAIT,
            f"endpoint {name}",
            AwaitGone(name),
            after=("endpoint/delete",),
            expected=DELETING,
        )
        gone = ("endpoint/gone",)
    yield Step("files/delete", StepKind.DELETE, "uploaded files", RemoveUploads(name), after=gone, destroys=True)
    yield Step(
        "models/delete",
        StepKind.DELETE,
        "models and endpoint configs",
        RemoveArrangements(name),
        after=("files/delete",),
        destroys=True,
    )


def garbage_steps(name: str, unused: Sequence[tuple[str, str]]) -> Steps:
    """Return a step for each thing that nothing uses, given as its kind and its name or place."""
    return tuple(
        Step(f"{what}/discard", StepKind.DELETE, f"{kind.replace('-', ' ')} {what}", Discard(name, kind, what))
        for kind, what in unused
    )


def adoption(identity: Identity, labels: Mapping[str, str]) -> Steps:
    """Return the step that makes an endpoint ours."""
    name = identity.name
    return (Step("endpoint/adopt", StepKind.UPDATE, f"endpoint {name}", Adopt(name, labels)),)


def deployment(identity: Identity, raw: Raw) -> Deployment:
    """Return what is there, from the cloud's answers.

    Without an endpoint but with something left of one, a failed deployment of no revision.
    """
    if raw.endpoint is None:
        reason = f"the endpoint is gone, and this is left of it: {', '.join(raw.left)}"
        return Deployment(identity, phase=Phase.FAILED, reason=reason, scaling=Scaling(0, 0), facts={"left": "yes"})
    status, config = str(raw.endpoint["EndpointStatus"]), raw.config or {}
    variants = list(config.get(arrangement.VARIANTS, ()))
    kind = kind_of(config)
    revisions = _revisions(config, raw, kind)
    stable = next((each for each in revisions if each.role is Role.STABLE), None)
    slot = stable.metric_dimension if stable else str(variants[0]["VariantName"]) if variants else requests.SLOT
    pending = raw.endpoint.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
    if status == "Creating":
        pending = raw.endpoint.get("EndpointConfigName")
    phase, reason = _phase(status, pending, raw)
    seen_scaling = raw.scaling.get(slot, SeenScaling())
    facts = {
        "status": status,
        "config": str(raw.endpoint.get("EndpointConfigName", "")),
        "slot": slot,
        "scaled": " ".join(sorted(each for each, found in raw.scaling.items() if found.target)),
        "marked": raw.tags.get(requests.REVISION, ""),
        "settled": raw.tags.get(requests.CANDIDATE, ""),
        "variants": arrangement.text_of(config),
        **({"coming": arrangement.text_of(raw.coming)} if raw.coming else {}),
    }
    tried = next((each for each in revisions if each.role is Role.CANDIDATE), None)
    its = raw.scaling.get(tried.metric_dimension) if tried else None
    if tried and its and its.target:
        its_scaling = scaling.scaling_of(its, kind)
        facts[arrangement.scaling_fact(tried.metric_dimension)] = arrangement.scaling_text(its_scaling)
    labels = {key: raw.tags[key] for key in raw.tags.get(requests.LABELS, "").split() if key in raw.tags}
    auxiliaries, elsewhere = _watching(identity, kind, slot, [each.metric_dimension for each in revisions], raw)
    if elsewhere:
        facts["watched elsewhere"] = "yes"
    return Deployment(
        identity=identity,
        kind=kind,
        revisions=revisions,
        scaling=scaling.scaling_of(seen_scaling, kind),
        labels=labels,
        settings=_settings_of(config, variants, raw, slot),
        auxiliaries=auxiliaries,
        facts=facts,
        phase=phase,
        reason=reason,
        pending=pending,
        address=f"https://runtime.sagemaker.{identity.region}.amazonaws.com/endpoints/{identity.name}",
        spec_hash=raw.tags.get(requests.SPEC_HASH, ""),
    )


def _watching(
    identity: Identity, kind: Kind, slot: str, slots: Sequence[str], raw: Raw
) -> tuple[tuple[Auxiliary, ...], bool]:
    """Return what watches the endpoint, and whether some of it watches another variant than the stable one, `slot`.

    A promotion that was cut off has moved some of it already, and whoever takes it back must not lose that.
    """
    found: dict[tuple[AuxiliaryKind, str], Auxiliary] = {}
    elsewhere = False
    for each in (slot, *(other for other in slots if other != slot)):
        watches = watching.auxiliaries_of(identity.name, each, kind, raw.alarms, raw.dashboard, identity.region or "")
        elsewhere = elsewhere or (each != slot and bool(watches))
        found |= {(one.kind, one.key): one for one in watches}
    return watching.canonical(tuple(found.values())), elsewhere


def progress_text(endpoint: Mapping[str, Any]) -> str:
    """Return how far an endpoint is that is `BUSY`, for who waits."""
    state = str(endpoint["EndpointStatus"])
    variants = (endpoint.get("PendingDeploymentSummary") or endpoint).get("ProductionVariants", ())
    words = [
        str(each["Status"]) for variant in variants for each in variant.get("VariantStatus", ()) if "Status" in each
    ]
    counts = [
        f"{each.get('CurrentInstanceCount', 0)} of {each['DesiredInstanceCount']} instances"
        for each in variants
        if "DesiredInstanceCount" in each
    ]
    doing = ", ".join((*(word for word in words if word != state), *counts))
    # Until it rolls back, the reason that it has is that of an earlier change.
    reason = str(endpoint.get("FailureReason", "")) if state == "RollingBack" else ""
    return ": ".join(part for part in (state, doing, reason) if part)


def _phase(status: str, pending: str | None, raw: Raw) -> tuple[Phase, str]:
    """Return the phase and the cloud's own reason.

    An update that only changes counts, and SageMaker's own maintenance, leave what was asked for as it is: steady.
    """
    endpoint = raw.endpoint or {}
    reason = str(endpoint.get("FailureReason", ""))
    if status in ("Failed", "OutOfService", "UpdateRollbackFailed"):
        return Phase.FAILED, reason or f"the endpoint is {status}"
    if raw.config is None:
        return Phase.FAILED, f"the endpoint config {endpoint.get('EndpointConfigName')} was deleted while it is in use"
    if status in ("Creating", "RollingBack", "Deleting") or pending:
        return Phase.CHANGING, reason or f"the endpoint is {status}"
    return Phase.STEADY, reason


def kind_of(config: Mapping[str, Any]) -> Kind:
    """Return how requests reach the variants of an arrangement."""
    variants = config.get(arrangement.VARIANTS, ())
    if config.get("AsyncInferenceConfig"):
        return Kind.ASYNC
    return Kind.SERVERLESS if any(each.get("ServerlessConfig") for each in variants) else Kind.REALTIME


def _revisions(config: Mapping[str, Any], raw: Raw, kind: Kind) -> tuple[ServedRevision, ...]:
    """Return what each variant serves; one whose Model was deleted is left out, so that it shows as a difference."""
    endpoint = raw.endpoint or {}
    answering, shadows = (
        [
            (variant, Revision(revision_of(content).id, content), live.get(variant["VariantName"], {}))
            for variant in config.get(key, ())
            if (model := raw.models.get(variant.get("ModelName", "")))
            for content in [content_of(*model, variant, kind)]
        ]
        for key in (arrangement.VARIANTS, arrangement.SHADOWS)
        for live in [{each["VariantName"]: each for each in endpoint.get(key, ())}]
    )
    weights = [_weight(variant, live) for variant, _, live in answering]
    shares = shares_of(weights)
    marked = [number for number, (_, each, _) in enumerate(answering) if each.id == raw.tags.get(requests.REVISION)]
    stable = marked[0] if marked else max(range(len(answering)), key=lambda number: shares[number], default=0)
    copied = [min(WHOLE, round(_weight(variant, live) / (sum(weights) or 1.0) * WHOLE)) for variant, _, live in shadows]
    roles = [Role.STABLE if number == stable else Role.CANDIDATE for number in range(len(answering))]
    return tuple(
        ServedRevision(revision, role, share, _live(live), metric_dimension=variant["VariantName"])
        for (variant, revision, live), role, share in zip(
            (*answering, *shadows), (*roles, *(Role.SHADOW for _ in shadows)), (*shares, *copied), strict=True
        )
    )


def _weight(variant: Mapping[str, Any], live: Mapping[str, Any]) -> float:
    return float(live.get("CurrentWeight", variant.get("InitialVariantWeight", 1.0)))


def shares_of(weights: Sequence[float]) -> tuple[int, ...]:
    """Return weights as shares of basis points that make up the whole; all of it where there is one.

    SageMaker keeps weights as 32-bit floats, so 0.1 comes back as 0.10000000149: what is lost or gained by rounding
    goes to the largest.
    """
    total = sum(weights)
    if not weights or total <= 0:
        return tuple(WHOLE if number == 0 else 0 for number in range(len(weights)))
    shares = [round(weight / total * WHOLE) for weight in weights]
    shares[shares.index(max(shares))] += WHOLE - sum(shares)
    return tuple(shares)


def _live(variant: Mapping[str, Any]) -> Live | None:
    if "DesiredInstanceCount" not in variant:
        return None
    return Live(int(variant["DesiredInstanceCount"]), int(variant.get("CurrentInstanceCount", 0)))


def content_of(model: Mapping[str, Any], tags: Mapping[str, str], variant: Mapping[str, Any], kind: Kind) -> Content:
    """Return what a Model is made of; one that we did not make is an image with a model that only its place tells.

    `variant` is empty for a Model that no arrangement has: its machines are those that its tags tell.
    """
    container: Mapping[str, Any] = model.get("PrimaryContainer") or next(iter(model.get("Containers", ())), {})
    found = {name: tags.get(tag) for name, tag in requests.CONTENT_TAGS.items()}
    place = container.get("ModelDataUrl", "")
    seconds = variant.get("ContainerStartupHealthCheckTimeoutInSeconds") or tags.get(requests.STARTUP_TIMEOUT)
    health = Health(startup_timeout=timedelta(seconds=int(seconds))) if seconds else Health()
    artifact = found.pop("artifact") or (hashlib.sha256(place.encode()).hexdigest()[:16] if place else "")
    environment = {
        key: value
        for key, value in container.get("Environment", {}).items()
        if not key.startswith(packaging.OUR_VARIABLES)
    }
    return Content(
        artifact=artifact,
        framework=found.pop("framework") or "custom",
        **found,
        image=container.get("Image"),
        environment=environment,
        machine=() if kind is Kind.SERVERLESS else arrangement.machines(variant) if variant else machines_told(tags),
        health=health,
    )


def machines_told(tags: Mapping[str, str]) -> tuple[str, ...]:
    """Return the machine types that a Model's tags name, by preference; none if it was served on none."""
    return tuple(tags.get(requests.MACHINE, "").split())


def _settings_of(
    config: Mapping[str, Any], variants: Sequence[Mapping[str, Any]], raw: Raw, slot: str
) -> dict[str, str]:
    """Return the settings in the words of `spec.resolve`."""
    variant: Mapping[str, Any] = next((each for each in variants if each["VariantName"] == slot), {})
    model = raw.models.get(variant.get("ModelName", ""), ({}, {}))[0]
    vpc, capture = model.get("VpcConfig") or {}, config.get("DataCaptureConfig") or {}
    serverless, answers = variant.get("ServerlessConfig") or {}, config.get("AsyncInferenceConfig") or {}
    output = answers.get("OutputConfig", {})
    topics = output.get("NotificationConfig") or {}
    at_once = (answers.get("ClientConfig") or {}).get("MaxConcurrentInvocationsPerInstance")
    volume, memory = variant.get("VolumeSizeInGB"), serverless.get("MemorySizeInMB")
    found: dict[str, Any] = {
        "role": model.get("ExecutionRoleArn"),
        "subnets": " ".join(sorted(vpc.get("Subnets", ()))),
        "security_groups": " ".join(sorted(vpc.get("SecurityGroupIds", ()))),
        "network_isolation": "true" if model.get("EnableNetworkIsolation") else None,
        "kms_key": config.get("KmsKeyId"),
        "volume_size": size_text(volume * 2**30) if volume else None,
        "data_capture": (
            f"{percent_text(capture['InitialSamplingPercentage'])} to {capture['DestinationS3Uri']}"
            if capture.get("EnableCapture")
            else None
        ),
        "serverless.memory": size_text(memory * 2**20) if memory else None,
        "serverless.concurrency": serverless.get("MaxConcurrency"),
        "serverless.provisioned": serverless.get("ProvisionedConcurrency"),
        "async_inference.output": output.get("S3OutputPath"),
        "async_inference.failures": output.get("S3FailurePath"),
        "async_inference.concurrency": at_once,
        "async_inference.notify_success": topics.get("SuccessTopic"),
        "async_inference.notify_error": topics.get("ErrorTopic"),
    }
    return {key: str(value) for key, value in found.items() if value}


def _content_changes(asked: Deployment, seen: Deployment | None) -> tuple[Change, ...]:
    return tuple(change for change in changes(asked, seen) if change.path.startswith(CONTENT_PATHS))


def _setting_changes(asked: Deployment, seen: Deployment | None) -> tuple[Change, ...]:
    return tuple(change for change in changes(asked, seen) if change.path.startswith(SETTING_PATHS))
