"""SageMaker endpoints."""

from __future__ import annotations

from dataclasses import replace

from tests.doubles.aws import lifecycle, quotas, scaling
from tests.doubles.aws.configs import found_config
from tests.doubles.aws.fleet import RETAINED, pending, placed, retained, summary, used, variants_of
from tests.doubles.aws.guardrails import check_autoscaled, check_deployment
from tests.doubles.aws.listing import listed
from tests.doubles.aws.models import found_model
from tests.doubles.aws.refusal import invalid
from tests.doubles.aws.tags import keep
from tests.doubles.aws.world import Endpoint, Json, Record, Region, Variant, float32


def create_endpoint(region: Region, asked: Json) -> Json:
    """Start an endpoint."""
    name = asked["EndpointName"]
    arn = _arn(region, name)
    if name.lower() in region.endpoints:
        raise invalid("endpoint.duplicate", f'Cannot create already existing endpoint "{arn}".')
    config = _config_with_models(region, asked["EndpointConfigName"])
    variants = variants_of(region, config.asked)
    deployment = asked.get("DeploymentConfig")
    if deployment is not None:
        check_deployment(region, deployment, config.asked, None)
    quotas.check_endpoints(region)
    quotas.check(region, used(variants))
    now = region.now()
    endpoint = Endpoint(name, arn, config.name, config.asked, [], "Creating", now, now, deployment=deployment)
    region.endpoints[name.lower()] = endpoint
    keep(region, arn, asked.get("Tags", []))
    lifecycle.begin(region, endpoint, "create", variants=variants)
    endpoint.variants = variants
    return {"EndpointArn": arn}


def _arn(region: Region, name: str) -> str:
    return region.arn("sagemaker", f"endpoint/{name.lower()}")


def _config_with_models(region: Region, name: str) -> Record:
    """Return a configuration whose models are all there.

    Raises:
        Refusal: it is not there, or one of its models is not.
    """
    config = found_config(region, name)
    for variant in config.asked["ProductionVariants"] + config.asked.get("ShadowProductionVariants", []):
        if "ModelName" in variant:
            # rule endpoint.model-missing
            found_model(region, variant["ModelName"])
    return config


def found_endpoint(region: Region, name: str) -> Endpoint:
    """Return the endpoint of that name.

    Raises:
        Refusal: there is none.
    """
    endpoint = region.endpoints.get(name.lower())
    if endpoint is None:
        raise invalid("endpoint.missing", f'Could not find endpoint "{_arn(region, name)}".')
    return endpoint


def _free_endpoint(region: Region, name: str) -> Endpoint:
    """Return the endpoint of that name, which is busy with nothing.

    Raises:
        Refusal: there is none, or it is busy.
    """
    endpoint = found_endpoint(region, name)
    if lifecycle.is_busy(endpoint):
        raise invalid("endpoint.busy", f'Cannot update in-progress endpoint "{endpoint.arn}".')
    return endpoint


def update_endpoint(region: Region, asked: Json) -> Json:
    """Start to deploy another configuration."""
    endpoint = _usable_endpoint(region, asked["EndpointName"])
    config = _config_with_models(region, asked["EndpointConfigName"])
    # rule update.old-config-missing
    found_config(region, endpoint.config_name)
    deployment = asked.get("DeploymentConfig")
    if deployment is None and asked.get("RetainDeploymentConfig"):
        # rule update.retain-deployment
        deployment = endpoint.deployment
    if deployment is not None:
        check_deployment(region, deployment, config.asked, endpoint)
    check_autoscaled(region, endpoint, config.asked)
    kept = _kept(asked)
    variants = retained(region, variants_of(region, config.asked), endpoint.variants, kept)
    quotas.check(region, used(variants))
    # rule update.capture
    lifecycle.begin(
        region,
        endpoint,
        "update",
        variants=variants,
        config_name=config.name,
        config=config.asked,
        deployment=deployment,
    )
    return {"EndpointArn": endpoint.arn}


def _usable_endpoint(region: Region, name: str) -> Endpoint:
    endpoint = _free_endpoint(region, name)
    if endpoint.status == "Failed":
        raise invalid("endpoint.failed", f'Cannot update failed endpoint "{endpoint.arn}".')
    return endpoint


def _kept(asked: Json) -> frozenset[str]:
    """Return what the update keeps of the live variants."""
    # rule update.retain
    if not asked.get("RetainAllVariantProperties"):
        return frozenset()
    excluded = {each["VariantPropertyType"] for each in asked.get("ExcludeRetainedVariantProperties", [])}
    return RETAINED - excluded


def update_endpoint_weights_and_capacities(region: Region, asked: Json) -> Json:
    """Start to change weights and counts of variants."""
    endpoint = _usable_endpoint(region, asked["EndpointName"])
    wishes = asked["DesiredWeightsAndCapacities"]
    names = [each["VariantName"] for each in wishes]
    missing = [name for name in names if endpoint.variant(name) is None]
    if missing:
        words = f'The variant name(s) "{", ".join(missing)}" is/are not present within endpoint configuration '
        raise invalid("weights.variant-missing", f'{words}"{endpoint.config_name}".')
    if len(set(names)) < len(names):
        raise invalid("weights.variant-twice", "Each variant name can be given only once.")
    if sum("DesiredInstanceCount" in each for each in wishes) > 1:
        raise invalid("weights.one-count", "Only the capacity of one variant can be changed at a time.")
    wished = {each["VariantName"]: each for each in wishes}
    variants = [_wished(region, each, wished.get(each.name, {})) for each in endpoint.variants]
    quotas.check(region, used(variants) - used(endpoint.variants))
    lifecycle.begin(region, endpoint, "weights", variants=variants)
    return {"EndpointArn": endpoint.arn}


def _wished(region: Region, variant: Variant, wish: Json) -> Variant:
    # rule weights.partial
    changed = replace(variant, serverless=variant.serverless | wish.get("ServerlessUpdateConfig", {}))
    if "DesiredWeight" in wish:
        # rule weights.float32, # rule weights.shadow
        changed = replace(changed, weight=float32(wish["DesiredWeight"]))
    if "DesiredInstanceCount" in wish:
        # rule weights.bounds
        changed = placed(region, replace(changed, count=wish["DesiredInstanceCount"]))
    return changed


def describe_endpoint(region: Region, asked: Json) -> Json:
    """Return what an endpoint serves and what it is busy with."""
    endpoint = found_endpoint(region, asked["EndpointName"])
    change = endpoint.change
    shown: Json = {
        "EndpointName": endpoint.name,
        "EndpointArn": endpoint.arn,
        "EndpointConfigName": endpoint.config_name,
        **_variants(region, endpoint),
        "EndpointStatus": endpoint.status,
        "CreationTime": endpoint.created,
        "LastModifiedTime": endpoint.modified,
    }
    for name in ("AsyncInferenceConfig", "ExplainerConfig", "MetricsConfig", "CrossRegionTrafficConfig"):
        if name in endpoint.config:
            shown[name] = endpoint.config[name]
    if "DataCaptureConfig" in endpoint.config:
        shown["DataCaptureConfig"] = _capture(endpoint.config["DataCaptureConfig"])
    if endpoint.reason:
        shown["FailureReason"] = endpoint.reason
    if endpoint.deployment is not None:
        shown["LastDeploymentConfig"] = endpoint.deployment
    if change is not None and change.kind in {"create", "update"}:
        # rule endpoint.pending
        shown["PendingDeploymentSummary"] = {
            "EndpointConfigName": change.config_name,
            **_by_kind([(each, pending(region, each, "Creating")) for each in change.variants]),
            "StartTime": change.started,
        }
    return shown


def _variants(region: Region, endpoint: Endpoint) -> Json:
    change = endpoint.change
    if change is not None and change.kind == "create":
        # rule endpoint.creating
        starting = [(replace(each, count=0, pools={}), each) for each in endpoint.variants]
        return _by_kind([(now, summary(region, now, wanted, "Creating")) for now, wanted in starting])
    if change is not None and change.kind == "weights":
        pairs = zip(endpoint.variants, change.variants, strict=True)
        return _by_kind([(now, summary(region, now, wanted, "Updating")) for now, wanted in pairs])
    return _by_kind([(each, summary(region, each, each)) for each in endpoint.variants])


def _by_kind(shown: list[tuple[Variant, Json]]) -> Json:
    # rule endpoint.shadows
    shadows = [summary for variant, summary in shown if variant.is_shadow]
    found = {"ProductionVariants": [summary for variant, summary in shown if not variant.is_shadow]}
    return found | ({"ShadowProductionVariants": shadows} if shadows else {})


def _capture(config: Json) -> Json:
    enabled = config.get("EnableCapture", False)
    return {
        "EnableCapture": enabled,
        "CaptureStatus": "Started" if enabled else "Stopped",
        "CurrentSamplingPercentage": config["InitialSamplingPercentage"],
        "DestinationS3Uri": config["DestinationS3Uri"],
        "KmsKeyId": config.get("KmsKeyId", ""),
    }


def delete_endpoint(region: Region, asked: Json) -> Json:
    """Start to delete an endpoint; autoscaling lets go of it."""
    endpoint = _free_endpoint(region, asked["EndpointName"])
    # rule endpoint.delete-deregisters
    scaling.let_go(region, endpoint.name)
    lifecycle.begin_delete(region, endpoint)
    return {}


def list_endpoints(region: Region, asked: Json) -> Json:
    """Return a page of endpoints."""
    rows = [
        {
            "EndpointName": each.name,
            "EndpointArn": each.arn,
            "EndpointStatus": each.status,
            "CreationTime": each.created,
            "LastModifiedTime": each.modified,
        }
        for each in region.endpoints.values()
    ]
    return listed(rows, asked, key="Endpoints", name="EndpointName")


OPERATIONS = {
    "CreateEndpoint": create_endpoint,
    "UpdateEndpoint": update_endpoint,
    "UpdateEndpointWeightsAndCapacities": update_endpoint_weights_and_capacities,
    "DescribeEndpoint": describe_endpoint,
    "DeleteEndpoint": delete_endpoint,
    "ListEndpoints": list_endpoints,
}
