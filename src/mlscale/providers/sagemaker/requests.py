"""What is sent to SageMaker for a deployment: names, tags, and each request whole; pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from mlscale.autoscaling.policy import effective_bounds
from mlscale.deployment import (
    WHOLE,
    Auxiliary,
    AuxiliaryKind,
    Content,
    Deployment,
    Kind,
    Revision,
    Role,
    RolloutWish,
    Scaling,
)
from mlscale.providers.contract import Refusal
from mlscale.providers.sagemaker import guardrails, packaging
from mlscale.providers.sagemaker.alarms import alarm_name
from mlscale.providers.sagemaker.calls import Call
from mlscale.quantities import percent_of, size_of

SLOTS = tuple("abcdefghij")
"""Names of the variants that we make; their metrics, scaling and alarms are by them. An endpoint has ten at most."""

SLOT = SLOTS[0]
"""The first variant of an endpoint."""

NAME, REVISION, CANDIDATE, SPEC_HASH, BOUNDS, LABELS = (
    "mlscale:name",
    "mlscale:revision",
    "mlscale:candidate",
    "mlscale:spec-hash",
    "mlscale:bounds",
    "mlscale:labels",
)
STARTUP_TIMEOUT, MACHINE = "mlscale:startup-timeout", "mlscale:machine"
"""What an arrangement tells of the revision that it serves, and nothing else of one that is kept."""
CONTENT_TAGS: Mapping[str, str] = {
    "artifact": "mlscale:artifact",
    "framework": "mlscale:framework",
    "framework_version": "mlscale:framework-version",
    "handler": "mlscale:handler",
    "requirements": "mlscale:requirements",
    "runtime": "mlscale:runtime",
}
"""What of a revision's content nothing else in the cloud tells, by the field that it fills."""

LINK = "https://docs.aws.amazon.com/sagemaker/latest/"
ALGORITHMS = "dg/your-algorithms-inference-code.html"
SERVERLESS, ASYNC, SHADOWS = (
    "dg/serverless-endpoints.html",
    "dg/async-inference-create-endpoint.html",
    "dg/shadow-tests-exclusions.html",
)
UPDATES, CAPTURE = "dg/serverless-endpoints-update-delete.html", "dg/model-monitor-data-capture.html"
VARIANT = "APIReference/API_ProductionVariant.html"

LONGEST_TAG = 256
MOST_TAGS = 50
OUR_TAGS = 12
SHORTEST_STARTUP, LONGEST_STARTUP = timedelta(seconds=60), timedelta(hours=1)
"""Bounds of ContainerStartupHealthCheckTimeoutInSeconds (SageMaker API reference)."""


def refusals(asked: Deployment, seen: Deployment | None, rollout: RolloutWish, uploads: str) -> tuple[Refusal, ...]:
    """Return what SageMaker can't hold of `asked`, or would do otherwise without a word."""
    return tuple(_refusals(asked, seen, rollout, uploads))


def _refusals(asked: Deployment, seen: Deployment | None, rollout: RolloutWish, uploads: str) -> Iterator[Refusal]:
    content = asked.stable.revision.content if asked.stable else None
    if content and content.artifact and not uploads:
        yield Refusal(
            "workspace", "SageMaker takes models from S3: write workspace: s3://bucket/folder, or sagemaker.uploads"
        )
    if content and content.health.path != "/ping":
        yield Refusal("endpoint.health.path", "SageMaker asks /ping, and nothing else", f"{LINK}{ALGORITHMS}")
    startup = content.health.startup_timeout if content else SHORTEST_STARTUP
    if not SHORTEST_STARTUP <= startup <= LONGEST_STARTUP or startup % timedelta(seconds=1):
        why = "SageMaker takes 1m to 1h, in whole seconds"
        yield Refusal("endpoint.health.startup_timeout", why, f"{LINK}{VARIANT}")
    yield from guardrails.refusals(asked, seen, rollout)
    if asked.candidate:
        yield from _candidate_refusals(asked)
    if seen and seen.facts.get("status") and seen.kind is not asked.kind:
        yield Refusal(
            "endpoint.kind",
            f"SageMaker can't make {asked.kind} of an endpoint that is {seen.kind}: take another name, or destroy it",
            f"{LINK}{UPDATES}",
        )
    if asked.settings.get("data_capture"):
        yield from _capture_refusals(asked)
    if len(" ".join(asked.labels)) > LONGEST_TAG or len(asked.labels) > MOST_TAGS - OUR_TAGS:
        yield Refusal(
            "labels", f"SageMaker takes {MOST_TAGS} tags, and {OUR_TAGS} are ours: write fewer or shorter ones"
        )


def _candidate_refusals(asked: Deployment) -> Iterator[Refusal]:
    is_shadow = any(each.role is Role.SHADOW for each in asked.revisions)
    if asked.kind is Kind.SERVERLESS:
        why = (
            "a serverless endpoint has one variant, so nothing can be tried beside the stable revision: use all_at_once"
        )
        yield Refusal("rollout.strategy", why, f"{LINK}{SHADOWS if is_shadow else SERVERLESS}")
    elif asked.kind is Kind.ASYNC:
        why = "an async endpoint has one variant, so nothing can be tried beside the stable revision: use blue_green"
        yield Refusal("rollout.strategy", why, f"{LINK}{SHADOWS if is_shadow else ASYNC}")
    elif is_shadow and any(each.startswith("ml.inf1.") for each in _machines(asked)):
        yield Refusal("rollout.strategy", "SageMaker has no shadows on ml.inf1", f"{LINK}{SHADOWS}")


def _machines(asked: Deployment) -> Iterator[str]:
    for each in asked.revisions:
        yield from each.revision.content.machine


def _capture_refusals(asked: Deployment) -> Iterator[Refusal]:
    share = percent_of(asked.settings["data_capture"].partition(" to ")[0])
    if share != round(share):
        yield Refusal("sagemaker.data_capture.share", "SageMaker takes whole percents", f"{LINK}{CAPTURE}")
    if asked.kind is not Kind.REALTIME:
        yield Refusal("sagemaker.data_capture", f"SageMaker captures nothing of {asked.kind}", f"{LINK}{CAPTURE}")


def model_name(name: str, revision: str, request: Mapping[str, Any]) -> str:
    """Return the name of the Model that `request` makes: the same content has the same name everywhere."""
    return f"{name}-{revision}-{_digest(request, 'ModelName')[:8]}"


def config_name(name: str, request: Mapping[str, Any]) -> str:
    """Return the name of the EndpointConfig that `request` makes."""
    return f"{name}-{_digest(request, 'EndpointConfigName')[:10]}"


def revision_in(name: str, model: str) -> str | None:
    """Return the revision in the name of a Model of the deployment `name`, None if it is no name of ours."""
    found = re.fullmatch(rf"{re.escape(name)}-([0-9a-f]{{10}})-[0-9a-f]{{8}}", model)
    return found[1] if found else None


def is_config(name: str, config: str) -> bool:
    """Return whether `config` is what we call an EndpointConfig of the deployment `name`."""
    return re.fullmatch(rf"{re.escape(name)}-[0-9a-f]{{10}}", config) is not None


def upload_place(name: str, content: Content, uploads: str) -> str | None:
    """Return where the archive of `content` is, None if an image brings all that it serves."""
    if not content.artifact:
        return None
    return f"{uploads}/{name}/{packaging.key_of(content)}.tar.gz"


def model(asked: Deployment, revision: Revision, uploads: str) -> dict[str, Any]:
    """Return the request of CreateModel."""
    content, settings, name = revision.content, asked.settings, asked.identity.name
    place = upload_place(name, content, uploads)
    container: dict[str, Any] = {"Image": content.image}
    if place is not None:
        container["ModelDataUrl"] = place
    if environment := {**content.environment, **packaging.environment_of(content, asked.identity.region or "")}:
        container["Environment"] = environment
    request: dict[str, Any] = {"PrimaryContainer": container, "ExecutionRoleArn": settings["role"]}
    if subnets := settings.get("subnets"):
        request["VpcConfig"] = {"Subnets": subnets.split(), "SecurityGroupIds": settings["security_groups"].split()}
    if settings.get("network_isolation"):
        request["EnableNetworkIsolation"] = True
    request["ModelName"] = model_name(name, revision.id, request)
    request["Tags"] = tag_list({**labels_as_tags(asked), REVISION: revision.id, **content_tags(content)})
    return request


def variant(
    asked: Deployment, content: Content, model: str, *, slot: str, count: int, weight: float = 1.0
) -> dict[str, Any]:
    """Return a new variant of an EndpointConfig, served by `count` instances at first."""
    variant: dict[str, Any] = {"VariantName": slot, "ModelName": model, "InitialVariantWeight": weight}
    settings = asked.settings
    if asked.kind is Kind.SERVERLESS:
        size: dict[str, Any] = {
            "MemorySizeInMB": size_of(settings["serverless.memory"]) // 2**20,
            "MaxConcurrency": int(settings["serverless.concurrency"]),
        }
        if warm := settings.get("serverless.provisioned"):
            size["ProvisionedConcurrency"] = int(warm)
        return {**variant, "ServerlessConfig": size}
    variant["InitialInstanceCount"] = max(1, count)
    if len(content.machine) == 1:
        variant["InstanceType"] = content.machine[0]
    else:
        variant["InstancePools"] = [
            {"InstanceType": machine, "Priority": number} for number, machine in enumerate(content.machine, 1)
        ]
    variant["ContainerStartupHealthCheckTimeoutInSeconds"] = round(content.health.startup_timeout.total_seconds())
    if volume := settings.get("volume_size"):
        variant["VolumeSizeInGB"] = size_of(volume) // 2**30
    return variant


def config(
    asked: Deployment, variants: Sequence[Mapping[str, Any]], shadows: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Return the request of CreateEndpointConfig for variants that answer, and for shadows, which do not."""
    settings = asked.settings
    request: dict[str, Any] = {"ProductionVariants": list(variants)}
    if shadows:
        request["ShadowProductionVariants"] = list(shadows)
    if key := settings.get("kms_key"):
        request["KmsKeyId"] = key
    if capture := settings.get("data_capture"):
        share, _, destination = capture.partition(" to ")
        request["DataCaptureConfig"] = {
            "EnableCapture": True,
            "InitialSamplingPercentage": round(percent_of(share)),
            "DestinationS3Uri": destination,
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        }
    if asked.kind is Kind.ASYNC:
        request["AsyncInferenceConfig"] = _async_inference(settings)
    request["EndpointConfigName"] = config_name(asked.identity.name, request)
    request["Tags"] = tag_list({**labels_as_tags(asked), REVISION: asked.stable.revision.id if asked.stable else ""})
    return request


def endpoint(asked: Deployment, revision: str, config: str) -> dict[str, Any]:
    """Return the request of CreateEndpoint."""
    return {
        "EndpointName": asked.identity.name,
        "EndpointConfigName": config,
        "Tags": tag_list(endpoint_tags(asked, revision)),
    }


def update(asked: Deployment, config: str, rollout: RolloutWish) -> dict[str, Any]:
    """Return the request of UpdateEndpoint: counts and weights stay as they are, data capture follows the config.

    Beside a candidate the weights are the config's, which gives it none: a variant that comes back has no old traffic.
    An update that goes in steps is stopped by the deployment's alarms, which must be there.
    """
    changed = ["DataCaptureConfig", *(["DesiredWeight"] if asked.candidate else [])]
    request: dict[str, Any] = {
        "EndpointName": asked.identity.name,
        "EndpointConfigName": config,
        "RetainAllVariantProperties": True,
        "ExcludeRetainedVariantProperties": [{"VariantPropertyType": each} for each in changed],
    }
    if rollout.strategy in guardrails.GUARDED:
        request["DeploymentConfig"] = guardrails.deployment_config(rollout)
        names = [alarm_name(asked.identity.name, each.key) for each in asked.auxiliaries if _stops_an_update(each)]
        if names:
            request["DeploymentConfig"]["AutoRollbackConfiguration"] = {
                "Alarms": [{"AlarmName": each} for each in names]
            }
    return request


def weights(name: str, wanted: Mapping[str, int]) -> Call:
    """Return the call that gives each variant its share, in basis points."""
    changed = [{"VariantName": slot, "DesiredWeight": share / WHOLE} for slot, share in wanted.items()]
    return Call(
        "sagemaker",
        "update_endpoint_weights_and_capacities",
        {"EndpointName": name, "DesiredWeightsAndCapacities": changed},
    )


def count(name: str, slot: str, scaling: Scaling, have: int | None, now: datetime) -> Call | None:
    """Return the call that brings the count of instances into the bounds that hold now; None where it is in them."""
    least, most = effective_bounds(scaling, now)
    if have is None or least <= have <= most:
        return None
    wanted = {"VariantName": slot, "DesiredInstanceCount": max(least, min(most, have))}
    request = {"EndpointName": name, "DesiredWeightsAndCapacities": [wanted]}
    return Call("sagemaker", "update_endpoint_weights_and_capacities", request)


def _stops_an_update(auxiliary: Auxiliary) -> bool:
    # Without a request this alarm rings by itself, and SageMaker would roll back what nobody has tried.
    return auxiliary.kind is AuxiliaryKind.ALARM and auxiliary.key != "no_invocations"


def labels_as_tags(asked: Deployment) -> dict[str, str]:
    """Return the tags that each of our resources has: whose it is, and the user's labels."""
    return {NAME: asked.identity.name, **asked.labels}


def endpoint_tags(asked: Deployment, revision: str) -> dict[str, str]:
    """Return the tags of the endpoint; `revision` is the stable one, a candidate is told with its share.

    The bounds are there because a schedule changes those of the scalable target, and the keys of the labels because
    an account may put tags of its own on everything, which are not ours to remove.
    """
    scaling = asked.scaling
    return {
        **labels_as_tags(asked),
        REVISION: revision,
        SPEC_HASH: asked.spec_hash,
        BOUNDS: f"{scaling.min} {scaling.max}",
        LABELS: " ".join(sorted(asked.labels)),
        **({CANDIDATE: mark} if (mark := candidate_mark(asked)) else {}),
    }


def candidate_mark(asked: Deployment) -> str:
    """Return what the endpoint's tag says of a candidate for which all is done: its id and share; empty without one."""
    served = asked.candidate
    return f"{served.revision.id} {served.share}" if served else ""


def content_tags(content: Content) -> dict[str, str]:
    """Return the tags of a Model that say what it was made of."""
    found = {tag: getattr(content, field) for field, tag in CONTENT_TAGS.items()}
    found[STARTUP_TIMEOUT] = str(round(content.health.startup_timeout.total_seconds()))
    found[MACHINE] = " ".join(content.machine)
    return {tag: value for tag, value in found.items() if value}


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags as SageMaker takes them, in a fixed order."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def _async_inference(settings: Mapping[str, str]) -> dict[str, Any]:
    output: dict[str, Any] = {"S3OutputPath": settings["async_inference.output"]}
    if failures := settings.get("async_inference.failures"):
        output["S3FailurePath"] = failures
    topics = {
        word: topic
        for word, key in (("SuccessTopic", "notify_success"), ("ErrorTopic", "notify_error"))
        if (topic := settings.get(f"async_inference.{key}"))
    }
    if topics:
        output["NotificationConfig"] = topics
    found: dict[str, Any] = {"OutputConfig": output}
    if concurrency := settings.get("async_inference.concurrency"):
        found["ClientConfig"] = {"MaxConcurrentInvocationsPerInstance": int(concurrency)}
    return found


def _digest(request: Mapping[str, Any], *names: str) -> str:
    facts = {key: value for key, value in request.items() if key not in (*names, "Tags")}
    return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
