"""What is in the cloud, read for one deployment or for many; and which of its marks and leftovers should not stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mlscale.deployment import Identity, Revision, revision_of
from mlscale.errors import MlscaleError, ProviderFailed
from mlscale.providers.calling import together
from mlscale.providers.ownership import refuse_others
from mlscale.providers.vertex import machines, requests, translate, watching
from mlscale.providers.vertex.calls import Call
from mlscale.providers.vertex.client import Client
from mlscale.providers.vertex.failures import is_absent
from mlscale.providers.vertex.translate import Raw


def endpoint_of(client: Client, identity: Identity) -> dict[str, Any] | None:
    """Return the endpoint, None if there is none."""
    return client.find("endpoint", "get_endpoint", name=requests.endpoint_of(identity))


def model_of(client: Client, identity: Identity, model: str) -> dict[str, Any] | None:
    """Return the Model with an id, None if there is none."""
    return client.find("model", "get_model", name=f"{requests.parent_of(identity)}/models/{model}")


def model_calls(client: Client, identity: Identity, request: Mapping[str, Any]) -> tuple[Call, ...] | None:
    """Return the calls that give a Model the labels and the description of its `request`; None where it isn't there.

    Nothing else of a Model can be changed, by whomever.

    Raises:
        NotOurs: it is somebody else's.
    """
    model, asked = str(request["model_id"]), request["model"]
    found = model_of(client, identity, model)
    if found is None:
        return None
    have = found.get("labels", {})
    refuse_others("model", model, identity.name, have.get(requests.NAME))
    labels = {**have, **asked["labels"]}
    if labels == have and found.get("description", "") == asked["description"]:
        return ()
    return (_update_model(found, labels=labels, description=asked["description"]),)


def _update_model(model: Mapping[str, Any], **fields: Any) -> Call:
    request = {"model": {"name": model["name"], **fields}, "update_mask": {"paths": sorted(fields)}}
    return Call("model", "update_model", request)


def has_endpoint(client: Client, identity: Identity) -> bool:
    """Return whether the endpoint is there and ours.

    Raises:
        NotOurs: it is somebody else's.
    """
    found = endpoint_of(client, identity)
    if found is not None:
        refuse_others("endpoint", identity.name, identity.name, found.get("labels", {}).get(requests.NAME))
    return found is not None


def deployed_models(endpoint: Mapping[str, Any] | None) -> Sequence[Mapping[str, Any]]:
    """Return the DeployedModels of an endpoint, none where there is no endpoint."""
    return endpoint.get("deployed_models", ()) if endpoint else ()


def deployed(endpoint: Mapping[str, Any] | None, deployed_id: str) -> Mapping[str, Any] | None:
    """Return a DeployedModel of an endpoint by its id."""
    return next((each for each in deployed_models(endpoint) if each["id"] == deployed_id), None)


def raws_of(client: Client, identities: Sequence[Identity], uploads: str) -> list[Raw | None]:
    """Return what the cloud has of each deployment, in order, None where it has nothing; all are of one region.

    Endpoints, and what goes on at each, are read one by one; the rest comes in lists that are read once for all.

    Args:
        client: the region's.
        identities: the deployments.
        uploads: the place of files.

    Raises:
        NotOurs: an endpoint has one of the names, but not our labels.
    """
    if not identities:
        return []
    # First what goes on: what ends after that is seen in what it made or took away.
    pending = pending_of(client, identities)
    reads = (partial(endpoint_of, client, each) for each in identities)
    parts: list[Any] = together(partial(_models, client, identities), *reads)
    models, *endpoints = parts
    for each, endpoint in zip(identities, endpoints, strict=True):
        if endpoint is not None:
            refuse_others("endpoint", each.name, each.name, endpoint.get("labels", {}).get(requests.NAME))
    is_watched = any(requests.WATCHED in each.get("labels", {}) for each in endpoints if each)
    listed = _Listed(models, *(watching_of(client, identities[0]) if is_watched else ([], [])))
    found = zip(identities, endpoints, pending, strict=True)
    return together(*(partial(_raw, client, each, of, going, listed, uploads) for each, of, going in found))


@dataclass(frozen=True, slots=True)
class _Listed:
    """What was listed for several deployments, and has others' among it."""

    models: Sequence[dict[str, Any]]
    policies: Sequence[dict[str, Any]]
    dashboards: Sequence[dict[str, Any]]


def _raw(
    client: Client,
    identity: Identity,
    endpoint: Mapping[str, Any] | None,
    pending: tuple[str, ...],
    listed: _Listed,
    uploads: str,
) -> Raw | None:
    ours = _ours(listed.models, identity)
    if endpoint is None:
        left = tuple(each for each in ours if requests.revision_in(identity.name, each))
        has_files = not left and bool(uploads_of(client, identity, uploads))
        is_there = pending or left or has_files
        return Raw(None, pending=pending, left=left, has_files=has_files) if is_there else None
    names = sorted({last(each["model"]) for each in deployed_models(endpoint)} - ours.keys())
    others = together(*(partial(model_of, client, identity, each) for each in names))
    models = {**ours, **{name: each for name, each in zip(names, others, strict=True) if each}}
    if requests.WATCHED not in endpoint.get("labels", {}):
        return Raw(endpoint, models, pending=pending)
    dashboard = next(iter(watching.dashboards_of(identity, listed.dashboards)), None)
    return Raw(endpoint, models, listed.policies, dashboard, pending)


def pending_of(client: Client, identities: Sequence[Identity]) -> list[tuple[str, ...]]:
    """Return the names of the operations that go on at each deployment's endpoint and Models.

    What is being made is seen nowhere else, so all of the region's are looked through; a server that lists only its
    own operations there has the endpoint's with the endpoint.
    """
    everywhere, *own = together(
        partial(client.operations, requests.parent_of(identities[0])),
        *(partial(client.operations, requests.endpoint_of(each)) for each in identities),
    )
    names = [each.name for each in everywhere]
    return [
        tuple(dict.fromkeys([*(found.name for found in at), *(n for n in names if requests.is_about(each.name, n))]))
        for each, at in zip(identities, own, strict=True)
    ]


def is_over(client: Client, operation: str) -> bool:
    """Return whether an operation has ended, however; one that nobody knows any more has."""
    try:
        return client.operation(operation).done
    except MlscaleError as error:
        if is_absent(error.__cause__):
            return True
        raise


def our_models(client: Client, identity: Identity) -> dict[str, dict[str, Any]]:
    """Return the deployment's Models by their id, the newest first."""
    return _ours(_models(client, [identity]), identity)


def _models(client: Client, identities: Sequence[Identity]) -> list[dict[str, Any]]:
    """Return the Models of deployments, and others besides."""
    wanted = f"={identities[0].name}" if len(identities) == 1 else ":*"
    label = f"labels.{requests.NAME}{wanted}"
    return client.matching("model", "list_models", label, parent=requests.parent_of(identities[0]))


def _ours(models: Sequence[dict[str, Any]], identity: Identity) -> dict[str, dict[str, Any]]:
    newest = sorted(models, key=lambda each: str(each.get("create_time", "")), reverse=True)
    return {last(each["name"]): each for each in newest if each.get("labels", {}).get(requests.NAME) == identity.name}


def watching_of(client: Client, identity: Identity) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the alert policies of the deployment's project, and its dashboards; some are others'."""
    name = f"projects/{identity.account}"
    # Not filtered over there: what a filter on labels leaves out by mistake would ring for ever.
    policies, dashboards = together(
        lambda: client.pages("alert_policy", "list_alert_policies", name=name),
        lambda: client.pages("dashboard", "list_dashboards", parent=name),
    )
    return policies, dashboards


def our_endpoints(client: Client, project: str, region: str) -> list[str]:
    """Return the names of the endpoints that are ours, in this project and region."""
    parent = f"projects/{project}/locations/{region}"
    listed = client.matching("endpoint", "list_endpoints", f"labels.{requests.NAME}:*", parent=parent)
    return sorted(each["labels"][requests.NAME] for each in listed if requests.NAME in each.get("labels", {}))


def revisions_of(client: Client, identity: Identity) -> list[Revision]:
    """Return the revisions whose Models are kept, the newest first."""
    found = []
    for model in our_models(client, identity).values():
        machine = next(iter(requests.facts_of(model.get("description", "")).get("machine", ())), "")
        resources = {"dedicated_resources": machines.resources_of(machine)} if machine else {}
        found.append(revision_of(translate.content_of(model, resources)))
    return found


def revision_of_deployed(identity: Identity, deployed: Mapping[str, Any]) -> str:
    """Return the revision of one of our DeployedModels, whose name has it; empty if it is not ours."""
    return requests.revision_in(identity.name, deployed.get("display_name", "")) or ""


def serving_of(client: Client, identity: Identity) -> dict[str, str]:
    """Return which revision each DeployedModel is, by its id; empty where there is no endpoint."""
    deployed = deployed_models(endpoint_of(client, identity))
    names = sorted({last(each["model"]) for each in deployed})
    found = together(*(partial(model_of, client, identity, each) for each in names))
    models = dict(zip(names, found, strict=True))
    return {
        each["id"]: revision_of(translate.content_of(models[last(each["model"])] or {}, each)).id for each in deployed
    }


def series_of(client: Client, request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the time series that a request asks for, page by page: one may be there several times, in parts.

    Raises:
        ProviderFailed: Cloud Monitoring has not given all that it has.
    """
    found: list[dict[str, Any]] = []
    token = ""
    while True:
        asked = {**request, "page_token": token} if token else request
        page = client.page("metric", "list_time_series", **asked)
        if wrong := page.get("execution_errors"):
            why = "; ".join(sorted(each.get("message", "it does not say why") for each in wrong))
            hint = "the same command again"
            raise ProviderFailed("Cloud Monitoring did not give all values", why=why, hint=hint, retryable=True)
        found += page.get("time_series", ())
        token = page.get("next_page_token", "")
        if not token:
            return found


def settings_calls(
    client: Client, identity: Identity, labels: Mapping[str, str], request_logging: str, models: Sequence[str]
) -> tuple[Call, ...]:
    """Return the calls that give the endpoint `labels` and its logging, and its Models the labels of everybody.

    Those of `models`, by their id, are its own even where they have lost their labels: they are deployed there.

    What one call changes of the endpoint, another would be refused for: its etag is another one then.
    """
    endpoint = endpoint_of(client, identity)
    if endpoint is None:
        return ()
    have = endpoint.get("labels", {})
    asked = requests.asked_labels(endpoint.get("description", ""))
    stale = {each for each in asked if each in have and each not in labels}
    calls = []
    shared = {key: value for key, value in labels.items() if key == requests.NAME or key not in requests.OWN}
    found = our_models(client, identity)
    found |= {each: model for each in models if each not in found and (model := model_of(client, identity, each))}
    for key, model in found.items():
        its = model.get("labels", {})
        revision = requests.revision_in(identity.name, key)
        ours = requests.model_labels(identity.name, revision, shared) if revision else shared
        wanted = {key: value for key, value in its.items() if key not in stale} | ours
        if wanted != its:
            calls.append(_update_model(model, labels=wanted))
    wanted = {key: value for key, value in have.items() if key not in stale} | dict(labels)
    changed: dict[str, Any] = {}
    said = requests.asked_text(labels)
    if wanted != have or said != endpoint.get("description", ""):
        changed |= {"labels": wanted, "description": said}
    if request_logging != translate.logging_of(endpoint):
        logging = requests.request_logging(request_logging) if request_logging else {"enabled": False}
        changed["predict_request_response_logging_config"] = logging
    if changed:
        calls.append(update_endpoint(endpoint, **changed))
    return tuple(calls)


def update_endpoint(endpoint: Mapping[str, Any], **fields: Any) -> Call:
    """Return the call that changes fields of an endpoint, if nobody has changed it since it was read."""
    changed = {"name": endpoint["name"], "etag": endpoint.get("etag", ""), **fields}
    return Call("endpoint", "update_endpoint", {"endpoint": changed, "update_mask": {"paths": sorted(fields)}})


def unused(
    client: Client, identity: Identity, keep: Sequence[str], uploads: str
) -> tuple[Sequence[str], Sequence[str]]:
    """Return the ids of the Models that we made, and the places of the files, that nothing uses."""
    endpoint = endpoint_of(client, identity)
    if endpoint is None:
        return (), ()
    serving = {last(each["model"]) for each in endpoint.get("deployed_models", ())}
    models = our_models(client, identity)
    revisions = {each: requests.revision_in(identity.name, each) for each in models}
    kept = {each for each, own in revisions.items() if each in serving or own is None or own in keep}
    used = [models[each]["artifact_uri"] for each in kept if models[each].get("artifact_uri")]
    folders = tuple(f"{each}{end}" for each in used for end in ("/", "."))
    places = uploads_of(client, identity, uploads)
    return [each for each in models if each not in kept], [each for each in places if not each.startswith(folders)]


def uploads_of(client: Client, identity: Identity, uploads: str) -> Sequence[str]:
    """Return the places of the deployment's files."""
    return client.listed(f"{uploads}/{identity.name}/") if uploads else ()


def adoption_calls(client: Client, identity: Identity, labels: Mapping[str, str]) -> tuple[Call, ...]:
    """Return the calls that mark an endpoint and its Models as ours; () where they are.

    Raises:
        NotOurs: it belongs to another deployment.
    """
    endpoint = endpoint_of(client, identity)
    if endpoint is None:
        return ()
    have = endpoint.get("labels", {})
    if have.get(requests.NAME) == identity.name:
        return ()
    if requests.NAME in have:
        refuse_others("endpoint", identity.name, identity.name, have.get(requests.NAME))
    shared = {requests.NAME: identity.name, **labels}
    calls = []
    for each in endpoint.get("deployed_models", ()):
        model = model_of(client, identity, last(each["model"]))
        if model is not None:
            calls.append(_update_model(model, labels={**model.get("labels", {}), **shared}))
    said = requests.asked_text(shared)
    return (*calls, update_endpoint(endpoint, labels={**have, **shared}, description=said))


def last(name: str) -> str:
    """Return the id at the end of a resource name, without a Model's version.

    The rest has the project's number where we wrote its id.
    """
    return name.rpartition("/")[2].partition("@")[0]
