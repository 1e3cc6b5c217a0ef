"""What is in the cloud, read for one deployment or for many; and which of its marks and leftovers should not stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from mlscale.deployment import WHOLE, Deployment, Identity, Kind, Revision, revision_of
from mlscale.errors import MlscaleError
from mlscale.providers.calling import in_order, together
from mlscale.providers.ownership import refuse_others
from mlscale.providers.sagemaker import requests, translate
from mlscale.providers.sagemaker.alarms import alarm_key, alarm_name
from mlscale.providers.sagemaker.arrangement import SHADOWS, VARIANTS
from mlscale.providers.sagemaker.calls import Call
from mlscale.providers.sagemaker.client import Client
from mlscale.providers.sagemaker.failures import is_absent
from mlscale.providers.sagemaker.scaling import SeenScaling
from mlscale.providers.sagemaker.translate import Raw
from mlscale.providers.sagemaker.watching import dashboard_name

WORTH_LISTING = 4
"""From how many deployments on listing all of the account costs fewer calls than asking for each one's."""

LARGEST_PAGE = 100
"""Items of a page of GetResources and of DescribeAlarms; policies come ten at a time (API references)."""

DESCRIBE: Mapping[str, tuple[str, str]] = {
    "endpoint": ("describe_endpoint", "EndpointName"),
    "endpoint-config": ("describe_endpoint_config", "EndpointConfigName"),
    "model": ("describe_model", "ModelName"),
}
DELETE: Mapping[str, tuple[str, str]] = {
    "endpoint-config": ("delete_endpoint_config", "EndpointConfigName"),
    "model": ("delete_model", "ModelName"),
}
_AUTOSCALING = "application-autoscaling"
_NAMESPACE = {"ServiceNamespace": "sagemaker"}


def described(client: Client, kind: str, name: str) -> dict[str, Any] | None:
    """Return an `endpoint`, `endpoint-config` or `model`, None if there is none."""
    operation, key = DESCRIBE[kind]
    return client.find("sagemaker", operation, **{key: name})


def status_of(client: Client, name: str) -> str | None:
    """Return the endpoint's status, None if there is none."""
    endpoint = described(client, "endpoint", name)
    return str(endpoint["EndpointStatus"]) if endpoint else None


def deletion(kind: str, name: str) -> Call:
    """Return the call that deletes an `endpoint-config` or a `model`."""
    operation, key = DELETE[kind]
    return Call("sagemaker", operation, {key: name})


def has_ours(client: Client, kind: str, resource: str, name: str) -> bool:
    """Return whether `resource` is there and belongs to the deployment `name`.

    Raises:
        NotOurs: it is there and belongs to somebody else.
    """
    found = described(client, kind, resource)
    if found is None:
        return False
    refuse_others(kind.replace("-", " "), resource, name, tags_of(client, _arn(kind, found)).get(requests.NAME))
    return True


def model_calls(client: Client, name: str, request: Mapping[str, Any]) -> tuple[Call, ...]:
    """Return what makes the Model of `request`, or gives one that is there the tags that it lacks; () if it has all.

    Its tags tell what it was made of: without one of them it would be read as another revision for ever.

    Raises:
        NotOurs: it is there and belongs to somebody else.
    """
    found = described(client, "model", str(request["ModelName"]))
    if found is None:
        return (Call("sagemaker", "create_model", request),)
    have = tags_of(client, _arn("model", found))
    refuse_others("model", found["ModelName"], name, have.get(requests.NAME))
    return tuple(_tag_changes(_arn("model", found), have, _tags(request["Tags"]), ()))


def is_on_its_way(client: Client, name: str, config: str) -> bool:
    """Return whether the endpoint serves `config`, or is being updated to it."""
    endpoint = described(client, "endpoint", name)
    if endpoint is None:
        return False
    if endpoint["EndpointStatus"] == "Updating":
        return bool(endpoint.get("PendingDeploymentSummary", {}).get("EndpointConfigName") == config)
    return bool(endpoint["EndpointStatus"] == "InService" and endpoint["EndpointConfigName"] == config)


def tags_of(client: Client, arn: str) -> dict[str, str]:
    """Return the tags of a resource."""
    return _tags(client.pages("sagemaker", "list_tags", "Tags", ResourceArn=arn))


def raw_of(client: Client, name: str, uploads: str = "") -> Raw | None:
    """Return what the cloud has of the deployment `name`, None if nothing.

    Where there is no endpoint, archives at `uploads` are looked for, too; an empty one leaves them out.

    Raises:
        NotOurs: an endpoint has the name, but not our marks.
    """
    endpoint = described(client, "endpoint", name)
    if endpoint is None:
        return _left(client, name, uploads)
    config_name = _config_name(endpoint)
    parts: list[Any] = together(
        lambda: described(client, "endpoint-config", config_name),
        lambda: tags_of(client, _arn("endpoint", endpoint)),
        lambda: our_alarms(client, name),
        lambda: dashboard_of(client, name),
        lambda: _coming(client, endpoint),
    )
    config, tags, alarms, dashboard, coming = parts
    refuse_others("endpoint", name, name, tags.get(requests.NAME))
    variants, slots = variants_in(config), _slots(config, endpoint)
    more: list[Any] = together(
        *(partial(_model, client, str(variant["ModelName"])) for variant in variants if variant.get("ModelName")),
        *(partial(_seen_scaling, client, name, slot, alarms, tags, endpoint) for slot in slots),
    )
    models, seen = more[: len(more) - len(slots)], more[len(more) - len(slots) :]
    return Raw(
        endpoint=endpoint,
        tags=tags,
        config=config,
        coming=coming,
        models={model["ModelName"]: (model, its_tags) for each in models if each for model, its_tags in [each]},
        scaling=dict(zip(slots, seen, strict=True)),
        alarms=alarms,
        dashboard=dashboard,
    )


def _coming(client: Client, endpoint: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the arrangement that an endpoint is on its way to, None if it is on none."""
    name = endpoint.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
    is_other = name and name != _config_name(endpoint)
    return described(client, "endpoint-config", name) if is_other else None


def variants_in(config: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Return the variants of an arrangement, shadows last; none where it was deleted."""
    return [each for key in (VARIANTS, SHADOWS) for each in (config or {}).get(key, ())]


def _left(client: Client, name: str, uploads: str) -> Raw | None:
    left = left_of(client, name, uploads)
    return Raw(None, left=left) if left else None


def deployments_of(client: Client, identities: Sequence[Identity], uploads: str) -> list[Deployment | None]:
    """Return what is there of each, in order; archives are at `uploads`.

    Endpoints, their arrangements, Models and dashboards are read one by one; tags, scaling and alarms come in lists of
    the whole account, whose pages do not grow with what is asked for.

    Raises:
        NotOurs: an endpoint has one of the names, but not our marks.
    """
    names = [each.name for each in identities]
    listed = _Listed(client, uploads)
    reads = listed.reads()
    parts: list[Any] = together(*reads, *(partial(_serving, client, name) for name in names))
    listed.take(parts[: len(reads)])
    served: list[_Serving | None] = parts[len(reads) :]
    raws = in_order(*(partial(listed.raw, name, each) for name, each in zip(names, served, strict=True)))
    return [translate.deployment(each, raw) if raw else None for each, raw in zip(identities, raws, strict=True)]


@dataclass(frozen=True, slots=True)
class _Serving:
    """An endpoint, its arrangement (None if that was deleted) and the Models in it."""

    endpoint: dict[str, Any]
    config: dict[str, Any] | None
    coming: dict[str, Any] | None
    models: Sequence[dict[str, Any]]


def _serving(client: Client, name: str) -> _Serving | None:
    endpoint = described(client, "endpoint", name)
    if endpoint is None:
        return None
    config = described(client, "endpoint-config", _config_name(endpoint))
    wanted = {each["ModelName"] for each in variants_in(config) if "ModelName" in each}
    models = [described(client, "model", each) for each in sorted(wanted)]
    return _Serving(endpoint, config, _coming(client, endpoint), [each for each in models if each])


class _Listed:
    """Tags, scaling, alarms and dashboards of the whole account, by what they belong to."""

    def __init__(self, client: Client, uploads: str) -> None:
        self._client = client
        self._uploads = uploads
        self._tags: dict[str, dict[str, str]] = {}
        self._found: dict[str, list[Any]] = {}

    def reads(self) -> list[Callable[[], Any]]:
        """Return the reads to be done side by side, in the order in which `take` wants what they give."""
        pages = self._client.pages
        return [
            lambda: pages(
                "resourcegroupstaggingapi",
                "get_resources",
                "ResourceTagMappingList",
                TagFilters=[{"Key": requests.NAME}],
                ResourceTypeFilters=["sagemaker:endpoint", "sagemaker:model"],
                ResourcesPerPage=LARGEST_PAGE,
            ),
            lambda: pages(_AUTOSCALING, "describe_scaling_policies", "ScalingPolicies", **_NAMESPACE),
            lambda: pages(_AUTOSCALING, "describe_scheduled_actions", "ScheduledActions", **_NAMESPACE),
            lambda: pages(
                "cloudwatch",
                "describe_alarms",
                "MetricAlarms",
                AlarmNamePrefix=alarm_name("", "").removesuffix("/"),
                MaxRecords=LARGEST_PAGE,
            ),
            lambda: pages("cloudwatch", "list_dashboards", "DashboardEntries", DashboardNamePrefix=dashboard_name("")),
            lambda: pages(_AUTOSCALING, "describe_scalable_targets", "ScalableTargets", **_NAMESPACE),
        ]

    def take(self, parts: Sequence[list[Any]]) -> None:
        """Keep what the reads gave."""
        tagged, *lists = parts
        self._tags = {each["ResourceARN"].lower(): _tags(each["Tags"]) for each in tagged}
        keys = ("policies", "actions", "alarms", "dashboards", "targets")
        self._found = dict(zip(keys, lists, strict=True))

    def raw(self, name: str, served: _Serving | None) -> Raw | None:
        """Return what belongs to the deployment `name`, which is served like this; None if nothing."""
        if served is None:
            return _left(self._client, name, self._uploads)
        tags = self._tags_of(_arn("endpoint", served.endpoint))
        refuse_others("endpoint", name, name, tags.get(requests.NAME))
        alarms = [each for each in self._found["alarms"] if alarm_key(name, each["AlarmName"])]
        has_dashboard = any(each["DashboardName"] == dashboard_name(name) for each in self._found["dashboards"])
        return Raw(
            endpoint=served.endpoint,
            tags=tags,
            config=served.config,
            coming=served.coming,
            models={each["ModelName"]: (each, self._tags_of(each["ModelArn"])) for each in served.models},
            scaling={
                slot: self._scaling(name, slot, served.endpoint, alarms, tags)
                for slot in _slots(served.config, served.endpoint)
            },
            alarms=alarms,
            dashboard=dashboard_of(self._client, name) if has_dashboard else None,
        )

    def _scaling(
        self,
        name: str,
        slot: str,
        endpoint: Mapping[str, Any],
        alarms: Sequence[Mapping[str, Any]],
        tags: Mapping[str, str],
    ) -> SeenScaling:
        targets, policies, actions = (
            [each for each in self._found[key] if each["ResourceId"] == _resource(name, slot)]
            for key in ("targets", "policies", "actions")
        )
        return _scaling(targets, policies, actions, alarms, tags, _count(endpoint, slot))

    def _tags_of(self, arn: str) -> dict[str, str]:
        # The list of tags is behind for a moment after a change; who is not in it is asked about by name.
        found = self._tags.get(arn.lower())
        return tags_of(self._client, arn) if found is None else found


def scaling_of(client: Client, name: str, slot: str) -> SeenScaling:
    """Return what is there of the scaling of one variant, now."""
    endpoint = described(client, "endpoint", name)
    if endpoint is None:
        return _seen_scaling(client, name, slot, our_alarms(client, name), {}, {})
    parts: list[Any] = together(lambda: our_alarms(client, name), lambda: tags_of(client, _arn("endpoint", endpoint)))
    alarms, tags = parts
    return _seen_scaling(client, name, slot, alarms, tags, endpoint)


def _seen_scaling(
    client: Client,
    name: str,
    slot: str,
    alarms: Sequence[Mapping[str, Any]],
    tags: Mapping[str, str],
    endpoint: Mapping[str, Any],
) -> SeenScaling:
    resource = _resource(name, slot)
    pages = client.pages
    targets, policies, actions = together(
        lambda: pages(
            _AUTOSCALING, "describe_scalable_targets", "ScalableTargets", ResourceIds=[resource], **_NAMESPACE
        ),
        lambda: pages(_AUTOSCALING, "describe_scaling_policies", "ScalingPolicies", ResourceId=resource, **_NAMESPACE),
        lambda: pages(
            _AUTOSCALING, "describe_scheduled_actions", "ScheduledActions", ResourceId=resource, **_NAMESPACE
        ),
    )
    return _scaling(targets, policies, actions, alarms, tags, _count(endpoint, slot))


def _scaling(
    targets: Sequence[Mapping[str, Any]],
    policies: Sequence[Mapping[str, Any]],
    actions: Sequence[Mapping[str, Any]],
    alarms: Sequence[Mapping[str, Any]],
    tags: Mapping[str, str],
    count: int | None,
) -> SeenScaling:
    return SeenScaling(
        target=next(iter(targets), None),
        policies=[each for each in policies if each["PolicyName"].startswith("mlscale-")],
        actions=[each for each in actions if each["ScheduledActionName"].startswith("mlscale-")],
        alarms=alarms,
        bounds=tags.get(requests.BOUNDS, ""),
        count=count,
    )


def our_alarms(client: Client, name: str) -> list[dict[str, Any]]:
    """Return the alarms of the deployment `name`."""
    return client.pages("cloudwatch", "describe_alarms", "MetricAlarms", AlarmNamePrefix=alarm_name(name, ""))


def dashboard_of(client: Client, name: str) -> str | None:
    """Return the text of the deployment's dashboard, None if there is none."""
    found = client.find("cloudwatch", "get_dashboard", DashboardName=dashboard_name(name))
    return str(found["DashboardBody"]) if found else None


def watching_of(client: Client, name: str) -> tuple[list[dict[str, Any]], str | None]:
    """Return the deployment's alarms and its dashboard."""
    return our_alarms(client, name), dashboard_of(client, name)


def has_shares(endpoint: Mapping[str, Any], wanted: Mapping[str, int]) -> bool:
    """Return whether each variant that is there has its share; also where the one that would get it is gone."""
    there = shares_there(endpoint, wanted)
    if not any(there.values()):
        return True
    weights = {str(each["VariantName"]): float(each.get("CurrentWeight", 1.0)) for each in variants_in(endpoint)}
    answering = [str(each["VariantName"]) for each in endpoint.get(VARIANTS, ())]
    found = dict(zip(answering, translate.shares_of([weights[each] for each in answering]), strict=True))
    total = sum(weights[each] for each in answering) or 1.0
    return all(found.get(slot, round(weights[slot] / total * WHOLE)) == share for slot, share in there.items())


def shares_there(endpoint: Mapping[str, Any], wanted: Mapping[str, int]) -> dict[str, int]:
    """Return what is wanted of the variants that there are."""
    names = {str(each["VariantName"]) for each in variants_in(endpoint)}
    return {slot: share for slot, share in wanted.items() if slot in names}


def tag_calls(client: Client, name: str, tags: Mapping[str, str], shared: Mapping[str, str]) -> tuple[Call, ...]:
    """Return the calls that give the endpoint `tags`, and its arrangement and Models `shared`; () if they have them.

    A tag that the endpoint's list of labels names and nobody wants any more is taken away; others are somebody else's.
    """
    endpoint = described(client, "endpoint", name)
    if endpoint is None:
        return ()
    arn = _arn("endpoint", endpoint)
    have = tags_of(client, arn)
    stale = sorted({requests.CANDIDATE, *have.get(requests.LABELS, "").split()} - tags.keys())
    calls = list(_tag_changes(arn, have, tags, stale))
    config = described(client, "endpoint-config", _config_name(endpoint))
    others = [("endpoint-config", config)] if config else []
    for variant in variants_in(config):
        model = described(client, "model", str(variant.get("ModelName", "")))
        others += [("model", model)] if model else []
    for kind, found in others:
        arn = _arn(kind, found)
        calls += _tag_changes(arn, tags_of(client, arn), shared, stale)
    # The endpoint's own come last: its list of labels says what is to be taken from the others.
    return tuple(sorted(calls, key=lambda call: call.request["ResourceArn"] == _arn("endpoint", endpoint)))


def _tag_changes(arn: str, have: Mapping[str, str], wanted: Mapping[str, str], stale: Sequence[str]) -> list[Call]:
    put = {key: value for key, value in wanted.items() if have.get(key) != value}
    gone = [key for key in stale if key in have]
    calls = []
    if gone:
        calls.append(Call("sagemaker", "delete_tags", {"ResourceArn": arn, "TagKeys": gone}))
    if put:
        calls.append(Call("sagemaker", "add_tags", {"ResourceArn": arn, "Tags": requests.tag_list(put)}))
    return calls


def adoption_calls(client: Client, name: str, labels: Mapping[str, str]) -> tuple[Call, ...]:
    """Return the calls that mark an endpoint, its arrangement and its Models as ours; () where they are.

    Raises:
        NotOurs: it belongs to another deployment.
    """
    endpoint = described(client, "endpoint", name)
    if endpoint is None:
        return ()
    have = tags_of(client, _arn("endpoint", endpoint))
    if have.get(requests.NAME) == name:
        return ()
    if requests.NAME in have:
        refuse_others("endpoint", name, name, have.get(requests.NAME))
    shared = {requests.NAME: name, **labels}
    return tag_calls(client, name, {**shared, requests.LABELS: " ".join(sorted(labels))}, shared)


def left_of(client: Client, name: str, uploads: str) -> tuple[str, ...]:
    """Return what is ours although there is no endpoint `name`: a run was cut off, or somebody deleted it."""
    parts: list[Any] = together(
        lambda: our_models(client, name),
        lambda: our_configs(client, name),
        lambda: our_alarms(client, name),
        lambda: uploads_of(client, name, uploads),
    )
    models, configs, alarms, places = parts
    return (
        *(f"model {each}" for each in models),
        *(f"endpoint config {each}" for each in configs),
        *(f"alarm {each['AlarmName']}" for each in alarms),
        *places,
    )


def our_models(client: Client, name: str) -> list[str]:
    """Return the names of the deployment's Models, the newest first."""
    listed = client.pages(
        "sagemaker", "list_models", "Models", NameContains=name, SortBy="CreationTime", SortOrder="Descending"
    )
    return [each["ModelName"] for each in listed if requests.revision_in(name, each["ModelName"])]


def our_configs(client: Client, name: str) -> list[str]:
    """Return the names of the deployment's EndpointConfigs."""
    listed = client.pages("sagemaker", "list_endpoint_configs", "EndpointConfigs", NameContains=name)
    return [each["EndpointConfigName"] for each in listed if requests.is_config(name, each["EndpointConfigName"])]


def our_endpoints(client: Client) -> list[str]:
    """Return the names of the endpoints that are ours, in this account and region."""
    found = client.pages(
        "resourcegroupstaggingapi",
        "get_resources",
        "ResourceTagMappingList",
        TagFilters=[{"Key": requests.NAME}],
        ResourceTypeFilters=["sagemaker:endpoint"],
    )
    return sorted(_tags(each["Tags"])[requests.NAME] for each in found)


def revisions_of(client: Client, name: str) -> list[Revision]:
    """Return the revisions whose Models are kept, the newest first.

    A Model that we did not make has no machines of its own: it gets those that serve now.
    """
    now = raw_of(client, name)
    variants = variants_in(now.config if now else None) or [{}]
    kind = Kind.SERVERLESS if variants[0].get("ServerlessConfig") else Kind.REALTIME
    found = together(*(partial(_model, client, each) for each in our_models(client, name)))
    contents = [
        translate.content_of(model, tags, {} if translate.machines_told(tags) else variants[0], kind)
        for model, tags in filter(None, found)
    ]
    revisions = [revision_of(content) for content in contents]
    return [each for number, each in enumerate(revisions) if each.id not in {old.id for old in revisions[:number]}]


def revision_at(client: Client, name: str) -> Callable[[str, datetime], str]:
    """Return a function that names the revision that a variant had at a time; empty before its present arrangement."""
    raw = raw_of(client, name)
    if raw is None or raw.config is None or raw.endpoint is None:
        return lambda variant, at: ""  # noqa: ARG005 - nothing is there to tell
    since, seen = raw.config["CreationTime"], {}
    for variant in variants_in(raw.config):
        model = raw.models.get(variant.get("ModelName", ""))
        if model:
            kind = Kind.SERVERLESS if variant.get("ServerlessConfig") else Kind.REALTIME
            seen[variant["VariantName"]] = revision_of(translate.content_of(*model, variant, kind)).id
    return lambda variant, at: seen.get(variant, "") if at >= since else ""


@dataclass(frozen=True, slots=True)
class Served:
    """Which revision each variant serves, by the variant's name, and since when it does at the latest."""

    kind: Kind
    since: datetime
    revisions: Mapping[str, str]


def serving_of(client: Client, name: str) -> Served | None:
    """Return what the endpoint's variants serve now, None if there is none or its arrangement was deleted."""
    endpoint = described(client, "endpoint", name)
    config = described(client, "endpoint-config", _config_name(endpoint)) if endpoint else None
    if config is None:
        return None
    variants = variants_in(config)
    kind = translate.kind_of(config)
    revisions = together(*(partial(_revision_of, client, name, each, kind) for each in variants))
    found = {str(each["VariantName"]): revision for each, revision in zip(variants, revisions, strict=True) if revision}
    return Served(kind, config["CreationTime"].astimezone(UTC), found)


def _revision_of(client: Client, name: str, variant: Mapping[str, Any], kind: Kind) -> str:
    """Return the id of the revision that a variant serves; a Model of ours has it in its name."""
    model = str(variant.get("ModelName", ""))
    told = requests.revision_in(name, model)
    found = None if told or not model else _model(client, model)
    return told or (revision_of(translate.content_of(*found, variant, kind)).id if found else "")


def unused(client: Client, name: str, keep: Sequence[str], uploads: str) -> list[tuple[str, str]]:
    """Return what nothing uses of the deployment's things, each as its kind and its name or place.

    A Model of a revision in `keep` is used, and so is its archive; an arrangement only by the endpoint.
    """
    endpoint = described(client, "endpoint", name)
    if endpoint is None:
        return []
    used = {_config_name(endpoint), endpoint.get("PendingDeploymentSummary", {}).get("EndpointConfigName")}
    configs, models, places = together(
        lambda: our_configs(client, name),
        lambda: our_models(client, name),
        lambda: uploads_of(client, name, uploads),
    )
    serving = together(*(partial(described, client, "endpoint-config", each) for each in sorted(filter(None, used))))
    in_use = {variant.get("ModelName") for each in serving for variant in variants_in(each)}
    kept = [each for each in models if each in in_use or requests.revision_in(name, each) in keep]
    their = together(*(partial(described, client, "model", each) for each in kept))
    needed = {(each.get("PrimaryContainer") or {}).get("ModelDataUrl") for each in their if each}
    return [
        *(("endpoint-config", each) for each in configs if each not in used),
        *(("model", each) for each in models if each not in kept),
        *(("upload", each) for each in places if each not in needed),
    ]


def uploads_of(client: Client, name: str, uploads: str) -> list[str]:
    """Return the places of the deployment's archives; none where there is no such bucket."""
    if not uploads:
        return []
    bucket, _, prefix = uploads.removeprefix("s3://").partition("/")
    folder = f"{prefix}/{name}/" if prefix else f"{name}/"
    try:
        listed = client.pages("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=folder)
    except MlscaleError as error:
        if not is_absent(error.__cause__):
            raise
        return []
    return [f"s3://{bucket}/{each['Key']}" for each in listed]


def arrangement_removals(client: Client, name: str) -> tuple[Call, ...]:
    """Return the calls that delete every arrangement and Model of the deployment."""
    configs, models = together(lambda: our_configs(client, name), lambda: our_models(client, name))
    return (
        *(deletion("endpoint-config", each) for each in configs),
        *(deletion("model", each) for each in models),
    )


def upload_removals(client: Client, name: str, uploads: str) -> tuple[Call, ...]:
    """Return the calls that delete every archive of the deployment."""
    calls = []
    for place in uploads_of(client, name, uploads):
        bucket, _, key = place.removeprefix("s3://").partition("/")
        calls.append(Call("s3", "delete_object", {"Bucket": bucket, "Key": key}))
    return tuple(calls)


def _model(client: Client, name: str) -> tuple[dict[str, Any], dict[str, str]] | None:
    model = described(client, "model", name)
    return (model, tags_of(client, _arn("model", model))) if model else None


def _slots(config: Mapping[str, Any] | None, endpoint: Mapping[str, Any]) -> list[str]:
    """Return the names of the variants that answer: the arrangement's, or the endpoint's where that was deleted."""
    found = (config or {}).get(VARIANTS) or endpoint.get(VARIANTS, ())
    return [str(each["VariantName"]) for each in found] or [requests.SLOT]


def _count(endpoint: Mapping[str, Any], slot: str) -> int | None:
    found = (each for each in variants_in(endpoint) if each["VariantName"] == slot)
    return next((each.get("DesiredInstanceCount") for each in found), None)


def _config_name(endpoint: Mapping[str, Any]) -> str:
    return str(endpoint.get("EndpointConfigName", ""))


def _resource(name: str, slot: str) -> str:
    return f"endpoint/{name}/variant/{slot}"


def _arn(kind: str, found: Mapping[str, Any]) -> str:
    return str(found[{"endpoint": "EndpointArn", "endpoint-config": "EndpointConfigArn", "model": "ModelArn"}[kind]])


def _tags(tags: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {each["Key"]: each["Value"] for each in tags}
