"""What is sent to Vertex AI for a deployment: names, labels, and each request whole; pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from zlib import crc32

from mlscale.deployment import WHOLE, Content, Deployment, Health, Identity, Kind, Revision, Role, RolloutWish
from mlscale.providers.contract import Refusal
from mlscale.providers.vertex import images, machines, scaling
from mlscale.quantities import percent_of, percent_text

NAME, REVISION, SPEC_HASH = "mlscale-name", "mlscale-revision", "mlscale-spec-hash"
WATCHED = "mlscale-watched"
"""The label of an endpoint that has alert policies or a dashboard, or had: only then Cloud Monitoring is asked."""

TRIED = "mlscale-candidate"
"""The label of an endpoint with a candidate: its revision, and how many replicas it has at least for its share.

It is written with the share. Where others are set, a run was cut off before or after that: nothing else tells which.
"""

OWN = frozenset({NAME, REVISION, SPEC_HASH, WATCHED, TRIED})
"""The labels that are ours."""

FACTS: Sequence[str] = ("artifact", "framework", "framework_version", "handler", "requirements", "runtime")
"""What of a revision's content only the Model's description tells: labels can hold neither a dot nor a capital."""

FIXED: Sequence[str] = ("network", "encryption_key", "dedicated_endpoint")
"""The settings that an endpoint keeps for good."""

NEW = "0"
"""The id by which a DeployModel request calls the model that it deploys (TrafficSplit in the API reference)."""

LONGEST_STARTUP = timedelta(hours=2)
"""Bound of deploymentTimeout (ModelContainerSpec in the API reference)."""

DOCS = "https://docs.cloud.google.com/vertex-ai/docs/"
LINK = f"{DOCS}reference/rest/v1/"
_IDS = 2**33
"""A DeployedModel's id has ten digits at most, so 33 bits of a revision's id fit."""


def parent_of(identity: Identity) -> str:
    """Return the resource name of the project's region."""
    return f"projects/{identity.account}/locations/{identity.region}"


def endpoint_of(identity: Identity) -> str:
    """Return the resource name of the endpoint."""
    return f"{parent_of(identity)}/endpoints/{identity.name}"


def model_id(name: str, revision: str) -> str:
    """Return the id of a revision's Model."""
    return f"{name}-{revision}"


def revision_in(name: str, model: str) -> str | None:
    """Return the revision in the id of what we made for the deployment `name`; None if it is not ours."""
    found = re.fullmatch(rf"{re.escape(name)}-([0-9a-f]{{10}})", model.rpartition("/")[2])
    return found[1] if found else None


def is_about(name: str, operation: str) -> bool:
    """Return whether an operation's name tells that it is about the endpoint, or a Model, of the deployment `name`."""
    resource = operation.rpartition("/operations/")[0]
    return resource.endswith(f"/endpoints/{name}") or (
        "/models/" in resource and revision_in(name, resource) is not None
    )


def deployed_id(revision: str, service_account: str = "") -> str:
    """Return the id of a revision's DeployedModel: ten digits that follow from it, the first of them no 0.

    A service account can't be changed where it is: with another one the same revision has another id.
    """
    return str(10**9 + (int(revision, 16) + crc32(service_account.encode())) % _IDS)


def upload_folder(name: str, content: Content, uploads: str) -> str | None:
    """Return the place of a content's files, None if its image brings all that it serves."""
    return f"{uploads}/{name}/{content.artifact}" if content.artifact else None


def model(asked: Deployment, revision: Revision, uploads: str) -> dict[str, Any]:
    """Return the request of UploadModel."""
    content, name = revision.content, asked.identity.name
    container: dict[str, Any] = {"image_uri": content.image}
    if content.environment:
        container["env"] = [{"name": key, "value": value} for key, value in sorted(content.environment.items())]
    if not images.is_prebuilt(str(content.image)):
        container["ports"] = [{"container_port": images.PORT}]
        container["predict_route"] = images.PREDICT_ROUTE
        container["health_route"] = content.health.path
    seconds = f"{content.health.startup_timeout.total_seconds():.6f}".rstrip("0").rstrip(".")
    container["deployment_timeout"] = f"{seconds}s"
    made: dict[str, Any] = {
        "display_name": model_id(name, revision.id),
        "description": facts_text(content),
        "container_spec": container,
        "labels": model_labels(name, revision.id, asked.labels),
    }
    if folder := upload_folder(name, content, uploads):
        made["artifact_uri"] = folder
    if key := asked.settings.get("encryption_key"):
        made["encryption_spec"] = {"kms_key_name": key}
    return {"parent": parent_of(asked.identity), "model_id": model_id(name, revision.id), "model": made}


def facts_text(content: Content) -> str:
    """Return what a Model's description holds: the facts that nothing else in the cloud tells, as JSON."""
    facts: dict[str, Any] = {key: value for key in FACTS if (value := getattr(content, key))}
    facts["machine"] = list(content.machine)
    return json.dumps({"mlscale": facts}, sort_keys=True)


def facts_of(description: str) -> Mapping[str, Any]:
    """Return the facts in a Model's description; empty where somebody else wrote it."""
    try:
        found = json.loads(description)
    except ValueError:
        return {}
    facts = found.get("mlscale") if isinstance(found, dict) else None
    return facts if isinstance(facts, dict) else {}


def endpoint(asked: Deployment, revision: str) -> dict[str, Any]:
    """Return the request of CreateEndpoint."""
    settings = asked.settings
    labels = endpoint_labels(asked, revision)
    made: dict[str, Any] = {
        "display_name": asked.identity.name,
        "description": asked_text(labels),
        "labels": labels,
    }
    if network := settings.get("network"):
        made["network"] = network
    if key := settings.get("encryption_key"):
        made["encryption_spec"] = {"kms_key_name": key}
    if settings.get("dedicated_endpoint"):
        made["dedicated_endpoint_enabled"] = True
    if kept := settings.get("request_logging"):
        made["predict_request_response_logging_config"] = request_logging(kept)
    return {"parent": parent_of(asked.identity), "endpoint_id": asked.identity.name, "endpoint": made}


def request_logging(setting: str) -> dict[str, Any]:
    """Return the configuration of request logging for a setting like `10% to bq://project.dataset.table`."""
    share, _, destination = setting.partition(" to ")
    return {
        "enabled": True,
        "sampling_rate": percent_of(share) / 100,
        "bigquery_destination": {"output_uri": destination},
    }


def deploy(
    asked: Deployment, revision: Revision, machine: str, *, deployed_id: str, least: int, split: Mapping[str, int]
) -> dict[str, Any]:
    """Return the request of DeployModel.

    Args:
        asked: what is asked for.
        revision: what to deploy.
        machine: one of the revision's machines.
        deployed_id: the id that it gets.
        least: how many replicas it begins with.
        split: traffic in percent by DeployedModel id; the new one is `NEW`.
    """
    name = asked.identity.name
    found = machines.parse(machine)
    deployed: dict[str, Any] = {
        "id": deployed_id,
        "model": f"{parent_of(asked.identity)}/models/{model_id(name, revision.id)}",
        "display_name": model_id(name, revision.id),
        "dedicated_resources": scaling.dedicated(asked.scaling, found, least=least),
    }
    if account := asked.settings.get("service_account"):
        deployed["service_account"] = account
    return {"endpoint": endpoint_of(asked.identity), "deployed_model": deployed, "traffic_split": dict(split)}


def our_labels(asked: Deployment) -> dict[str, str]:
    """Return the labels that each of our resources has: whose it is, and the user's own."""
    return {NAME: asked.identity.name, **asked.labels}


def model_labels(name: str, revision: str, labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of a revision's Model: whose it is, the user's own `labels`, and which revision it is."""
    return {NAME: name, **labels, REVISION: revision}


def endpoint_labels(asked: Deployment, revision: str, *, was_watched: bool = False) -> dict[str, str]:
    """Return the labels of the endpoint; `revision` is the stable one."""
    return {
        **our_labels(asked),
        REVISION: revision,
        SPEC_HASH: asked.spec_hash,
        **({WATCHED: "yes"} if asked.auxiliaries or was_watched else {}),
    }


def tried_text(revision: str, least: int) -> str:
    """Return the label of a candidate."""
    return f"{revision}-{least}"


def tried_in(label: str) -> tuple[str, int]:
    """Return the revision in a candidate's label and its least count; no revision where somebody else wrote it."""
    found = re.fullmatch(r"([0-9a-f]{10})-([0-9]{1,9})", label)
    return (found[1], int(found[2])) if found else ("", 0)


def asked_text(labels: Mapping[str, str]) -> str:
    """Return what an endpoint's description holds: which of its labels a spec asked for, as JSON.

    An account may put labels of its own on everything, which are not ours to remove.
    """
    return json.dumps({"mlscale": {"labels": sorted(key for key in labels if key not in OWN)}})


def asked_labels(description: str) -> Sequence[str]:
    """Return the keys of the labels that a spec asked for, by the endpoint's description."""
    found = facts_of(description).get("labels", ())
    return [key for key in found if isinstance(key, str)]


def refusals(asked: Deployment, seen: Deployment | None, rollout: RolloutWish, uploads: str) -> tuple[Refusal, ...]:
    """Return what Vertex AI can't hold of `asked`."""
    return tuple(_refusals(asked, seen, rollout, uploads))


def _refusals(asked: Deployment, seen: Deployment | None, rollout: RolloutWish, uploads: str) -> Iterator[Refusal]:
    for each in asked.revisions:
        yield from _content_refused(each.revision.content, uploads)
    for key in FIXED:
        if seen and seen.facts.get("there") == "yes" and seen.settings.get(key) != asked.settings.get(key):
            is_now = seen.settings.get(key, "not set")
            why = f"an endpoint keeps what it was made with, and there it is {is_now}: deploy by another name"
            yield Refusal(f"vertex.{key}", why, f"{LINK}projects.locations.endpoints")
    if asked.kind is not Kind.REALTIME:
        yield Refusal(
            "endpoint.kind", f"Vertex AI has no endpoint of kind {asked.kind}", f"{LINK}projects.locations.endpoints"
        )
    yield from _rollout_refused(asked, rollout)


def _content_refused(content: Content, uploads: str) -> Iterator[Refusal]:
    if content.artifact and not uploads:
        yield Refusal(
            "workspace",
            "Vertex AI takes models from Cloud Storage: write workspace: gs://bucket/folder, or vertex.uploads",
        )
    if content.health.startup_timeout > LONGEST_STARTUP:
        yield Refusal("endpoint.health.startup_timeout", "Vertex AI takes 2h at most", f"{LINK}ModelContainerSpec")
    if content.health.path != Health().path and images.is_prebuilt(str(content.image)):
        yield Refusal(
            "endpoint.health.path", "a container of Google's has a route of its own", f"{LINK}ModelContainerSpec"
        )


def _rollout_refused(asked: Deployment, rollout: RolloutWish) -> Iterator[Refusal]:
    """Yield what of a rollout can't be. Vertex AI's rolling deployments are of v1beta1 alone, a preview."""
    tried = asked.candidate
    if asked.settings.get("network") and (tried or rollout.strategy != "all_at_once"):
        why = "an endpoint in a network holds one model: it can be switched all at once alone"
        yield Refusal("rollout.strategy", why, f"{DOCS}predictions/using-private-endpoints")
    elif rollout.strategy == "rolling":
        why = "Vertex AI replaces replicas between versions of one Model alone, and a revision is a Model of its own"
        yield Refusal("rollout.strategy", why, f"{DOCS}predictions/rolling-deployment")
    elif rollout.strategy in ("canary", "linear"):
        why = f"Vertex AI has no {rollout.strategy} rollout of its own, with alarms that guard it: use weights"
        yield Refusal("rollout.driver", why, f"{DOCS}general/deployment")
    elif tried and tried.role is Role.SHADOW:
        why = "Vertex AI splits requests, and gives nobody copies of them: use canary"
        yield Refusal("rollout.strategy", why, f"{DOCS}general/deployment")
    elif tried and tried.share * 100 % WHOLE:
        why = f"Vertex AI splits traffic in whole percents: {percent_text(tried.share * 100 / WHOLE)} is none"
        yield Refusal("rollout.steps", why, f"{LINK}projects.locations.endpoints")


def percents(shares: Mapping[str, int]) -> dict[str, int]:
    """Return shares of basis points as the nearest whole percents, 100 in all.

    Who has a share gets one percent at least; the largest takes what is lost or won by rounding.
    """
    whole = {key: max(1, (share * 100 + WHOLE // 2) // WHOLE) if share else 0 for key, share in shares.items()}
    if whole:
        largest = max(whole, key=lambda key: shares[key])
        whole[largest] += 100 - sum(whole.values())
    return whole
