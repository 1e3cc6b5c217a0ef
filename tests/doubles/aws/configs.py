"""SageMaker endpoint configurations."""

from __future__ import annotations

from tests.doubles.aws.listing import listed
from tests.doubles.aws.models import found_model
from tests.doubles.aws.refusal import invalid
from tests.doubles.aws.tags import keep
from tests.doubles.aws.world import Json, Record, Region

SERVERLESS_MEMORY_MB = range(1024, 6145, 1024)
VARIANTS = ("ProductionVariants", "ShadowProductionVariants")


def create_endpoint_config(region: Region, asked: Json) -> Json:
    """Keep a configuration."""
    name = asked["EndpointConfigName"]
    arn = config_arn(region, name)
    if name.lower() in region.configs:
        raise invalid("config.duplicate", f'Cannot create already existing endpoint configuration "{arn}".')
    variants = asked["ProductionVariants"] + asked.get("ShadowProductionVariants", [])
    names = [each["VariantName"] for each in variants]
    if len(set(names)) < len(names):
        raise invalid(
            "config.variant-names", "Production variant names must be unique within an endpoint configuration."
        )
    for variant in variants:
        _check_variant(region, variant, asked)
    _check_together(asked)
    region.configs[name.lower()] = Record(name, arn, asked, region.now())
    keep(region, arn, asked.get("Tags", []))
    return {"EndpointConfigArn": arn}


def _check_together(asked: Json) -> None:
    """Return if the variants can be on one endpoint."""
    variants, shadows = asked["ProductionVariants"], asked.get("ShadowProductionVariants", [])
    is_serverless = any("ServerlessConfig" in each for each in variants + shadows)
    if shadows and (len(variants) > 1 or len(shadows) > 1):
        words = "Specify one variant in ProductionVariants and one in ShadowProductionVariants."
        raise invalid("config.shadow-one", words)
    if shadows and (is_serverless or "AsyncInferenceConfig" in asked):
        words = "ShadowProductionVariants is not supported for serverless or asynchronous endpoints."
        raise invalid("config.shadow-kind", words)
    if len(variants) > 1 and is_serverless:
        raise invalid("config.serverless-several", "A serverless endpoint can have only one production variant.")
    if len(variants) > 1 and "AsyncInferenceConfig" in asked:
        raise invalid("config.async-several", "An asynchronous endpoint can have only one production variant.")


def config_arn(region: Region, name: str) -> str:
    """Return the name of a configuration, good everywhere."""
    return region.arn("sagemaker", f"endpoint-config/{name.lower()}")


def _check_variant(region: Region, variant: Json, asked: Json) -> None:
    name = variant["VariantName"]
    if "ModelName" in variant:
        found_model(region, variant["ModelName"])
        if "ManagedInstanceScaling" in variant:
            words = "ManagedInstanceScaling is only supported for inference component endpoints."
            raise invalid("config.managed-scaling", words)
    elif "ExecutionRoleArn" not in asked:
        raise invalid("config.component-role", f"ExecutionRoleArn is required: variant {name} has no ModelName.")
    if "ServerlessConfig" in variant:
        _check_serverless(variant, asked)
        return
    pools = variant.get("InstancePools", [])
    if ("InstanceType" in variant) == bool(pools):
        raise invalid("config.instance-type", f"Specify either InstanceType or InstancePools for variant {name}.")
    if "InitialInstanceCount" not in variant and "ModelName" in variant:
        raise invalid("config.instance-count", f"InitialInstanceCount is required for variant {name}.")
    for member in ("InstanceType", "Priority"):
        if len({pool[member] for pool in pools}) < len(pools):
            raise invalid("config.pools", f"Each instance pool of variant {name} needs a {member} of its own.")


def _check_serverless(variant: Json, asked: Json) -> None:
    name = variant["VariantName"]
    for member in ("InstanceType", "InstancePools", "InitialInstanceCount", "VolumeSizeInGB"):
        if member in variant:
            raise invalid("config.serverless", f"{member} can't be used with ServerlessConfig in variant {name}.")
    if "AsyncInferenceConfig" in asked:
        raise invalid("config.serverless-async", "AsyncInferenceConfig is not supported for serverless endpoints.")
    serverless = variant["ServerlessConfig"]
    if serverless["MemorySizeInMB"] not in SERVERLESS_MEMORY_MB:
        sizes = ", ".join(map(str, SERVERLESS_MEMORY_MB))
        raise invalid("config.serverless-memory", f"MemorySizeInMB of variant {name} must be one of {sizes}.")
    if serverless.get("ProvisionedConcurrency", 0) > serverless["MaxConcurrency"]:
        words = f"ProvisionedConcurrency of variant {name} must not be above its MaxConcurrency."
        raise invalid("config.serverless-provisioned", words)


def describe_endpoint_config(region: Region, asked: Json) -> Json:
    """Return a configuration as it was asked."""
    config = found_config(region, asked["EndpointConfigName"])
    kept = {name: value for name, value in config.asked.items() if name != "Tags"}
    # rule config.all-fields
    return {
        "EnableNetworkIsolation": False,
        **kept,
        **{name: [_completed(each) for each in config.asked[name]] for name in VARIANTS if name in config.asked},
        "EndpointConfigArn": config.arn,
        "CreationTime": config.created,
    }


def _completed(variant: Json) -> Json:
    # rule config.weight-default
    return {"InitialVariantWeight": 1.0, **variant}


def found_config(region: Region, name: str) -> Record:
    """Return the configuration of that name.

    Raises:
        Refusal: there is none.
    """
    config = region.configs.get(name.lower())
    if config is None:
        raise invalid("config.missing", f'Could not find endpoint configuration "{config_arn(region, name)}".')
    return config


def delete_endpoint_config(region: Region, asked: Json) -> Json:
    """Forget a configuration, in use or not."""
    config = found_config(region, asked["EndpointConfigName"])
    # rule config.delete-in-use
    del region.configs[config.name.lower()]
    region.tags.pop(config.arn, None)
    return {}


def list_endpoint_configs(region: Region, asked: Json) -> Json:
    """Return a page of configurations."""
    rows = [
        {"EndpointConfigName": each.name, "EndpointConfigArn": each.arn, "CreationTime": each.created}
        for each in region.configs.values()
    ]
    return listed(rows, asked, key="EndpointConfigs", name="EndpointConfigName")


OPERATIONS = {
    "CreateEndpointConfig": create_endpoint_config,
    "DescribeEndpointConfig": describe_endpoint_config,
    "DeleteEndpointConfig": delete_endpoint_config,
    "ListEndpointConfigs": list_endpoint_configs,
}
