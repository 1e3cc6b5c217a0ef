"""What SageMaker checks before it starts an update: the way of deploying, and what autoscaling holds on to."""

from __future__ import annotations

from tests.doubles.aws.fleet import kinds_of
from tests.doubles.aws.refusal import invalid
from tests.doubles.aws.world import Endpoint, Json, Region

LEAST_PERCENT = {"CanarySize": 1, "LinearStepSize": 10, "MaximumBatchSize": 5}
MOST_PERCENT = 50


def check_deployment(region: Region, deployment: Json, config: Json, endpoint: Endpoint | None) -> None:
    """Return if the endpoint can be deployed to in that way."""
    blue_green = deployment.get("BlueGreenUpdatePolicy")
    rolling = deployment.get("RollingUpdatePolicy")
    if blue_green is not None and rolling is not None:
        words = "Specify only one of BlueGreenUpdatePolicy and RollingUpdatePolicy."
        raise invalid("deployment.one-policy", words)
    variants = config["ProductionVariants"]
    if any("ServerlessConfig" in each for each in variants):
        raise invalid("deployment.serverless", "DeploymentConfig is not supported for serverless endpoints.")
    if endpoint is not None and {each["VariantName"] for each in variants} != {
        each.name for each in endpoint.answering
    }:
        words = "Production variant names of the new endpoint configuration must match the current ones."
        raise invalid("deployment.variant-names", words)
    if blue_green is not None:
        _check_blue_green(blue_green)
    if rolling is not None:
        if len(variants) > 1:
            raise invalid("deployment.rolling-variants", "Rolling update is not supported for multi-variant endpoints.")
        _check_size("MaximumBatchSize", rolling["MaximumBatchSize"])
    _check_alarms(region, deployment)


def _check_blue_green(policy: Json) -> None:
    routing = policy["TrafficRoutingConfiguration"]
    needed = {"CANARY": "CanarySize", "LINEAR": "LinearStepSize"}.get(routing["Type"])
    for member in ("CanarySize", "LinearStepSize"):
        if (member in routing) != (member == needed):
            verb = "is required" if member == needed else "is not allowed"
            words = f"{member} {verb} when traffic routing type is {routing['Type']}."
            raise invalid("deployment.sizes", words)
    if needed is not None:
        _check_size(needed, routing[needed])
    waits = routing["WaitIntervalInSeconds"] + policy.get("TerminationWaitInSeconds", 0)
    if policy.get("MaximumExecutionTimeoutInSeconds", waits + 1) <= waits:
        words = "MaximumExecutionTimeoutInSeconds must be larger than the total waiting time."
        raise invalid("deployment.timeout", words)


def _check_size(member: str, size: Json) -> None:
    if size["Type"] == "CAPACITY_PERCENT" and not LEAST_PERCENT[member] <= size["Value"] <= MOST_PERCENT:
        words = f"{member} must be between {LEAST_PERCENT[member]} and {MOST_PERCENT} percent."
        raise invalid("deployment.sizes", words)


def _check_alarms(region: Region, deployment: Json) -> None:
    for alarm in deployment.get("AutoRollbackConfiguration", {}).get("Alarms", []):
        if alarm.get("AlarmName") not in region.alarms:
            words = f"Alarm {alarm.get('AlarmName')} in AutoRollbackConfiguration does not exist."
            raise invalid("deployment.alarms", words)


def alarm_that_fired(region: Region, deployment: Json | None) -> str | None:
    """Return an alarm of the deployment that is in ALARM."""
    alarms = (deployment or {}).get("AutoRollbackConfiguration", {}).get("Alarms", [])
    names = [each["AlarmName"] for each in alarms]
    return next((name for name in names if region.alarms.get(name, {}).get("StateValue") == "ALARM"), None)


def check_autoscaled(region: Region, endpoint: Endpoint, config: Json) -> None:
    """Return if no variant that autoscaling holds would go away or get other machines."""
    new = {each["VariantName"]: each for each in config["ProductionVariants"]}
    held = [
        variant.name
        for variant in endpoint.variants
        if is_autoscaled(region, endpoint, variant.name)
        and (variant.name not in new or kinds_of(new[variant.name]) != kinds_of(variant.asked))
    ]
    if held:
        raise invalid(
            "update.autoscaled",
            f'The variant(s) "[{", ".join(held)}]" must be deregistered as a scalable target with AWS Auto Scaling '
            "before they can be removed or have their instance type updated.",
        )


def is_autoscaled(region: Region, endpoint: Endpoint, variant: str) -> bool:
    """Return whether the variant is a scalable target."""
    resource = f"endpoint/{endpoint.name}/variant/{variant}"
    return any(key[1] == resource for key in region.targets)
