"""Application Auto Scaling: scalable targets, policies with their alarms, scheduled actions, activities."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from tests.doubles.aws import lifecycle
from tests.doubles.aws.fleet import placed
from tests.doubles.aws.refusal import Refusal, invalid
from tests.doubles.aws.world import Endpoint, Json, Region, Variant, new_id, page

Key = TypeVar("Key", bound="tuple[str, ...]")

PAGE = 50
POLICIES_PAGE = 10
VARIANT_ID = re.compile(r"endpoint/([^/]+)/variant/([^/]+)")
INSTANCES = "sagemaker:variant:DesiredInstanceCount"
CONCURRENCY = "sagemaker:variant:DesiredProvisionedConcurrency"
COPIES = "sagemaker:inference-component:DesiredCopyCount"
PREDEFINED = {
    INSTANCES: {
        "SageMakerVariantInvocationsPerInstance": "InvocationsPerInstance",
        "SageMakerVariantConcurrentRequestsPerModelHighResolution": "ConcurrentRequestsPerModel",
    },
    CONCURRENCY: {"SageMakerVariantProvisionedConcurrencyUtilization": "ServerlessProvisionedConcurrencyUtilization"},
    COPIES: {
        "SageMakerInferenceComponentInvocationsPerCopy": "InvocationsPerCopy",
        "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution": "ConcurrentRequestsPerCopy",
    },
}
"""What target tracking may follow by name, and the metric in CloudWatch behind it."""

SUSPENDED = ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended")
SCHEDULE = re.compile(
    r"(cron\((\S+ ){5}\S+\)|rate\(\d+ (minute|minutes|hour|hours|day|days)\)|at\(\d{4}-\d\d-\d\dT[\d:]+\))"
)
ALARM_SIDES = (("High", "GreaterThanThreshold", 3, 1.0), ("Low", "LessThanThreshold", 15, 0.9))


def target_key(asked: Json) -> tuple[str, str, str]:
    """Return what a scalable target is known by."""
    return asked["ServiceNamespace"], asked["ResourceId"], asked["ScalableDimension"]


def register_scalable_target(region: Region, asked: Json) -> Json:
    """Register a target, or change the bounds of a registered one."""
    key = target_key(asked)
    _check_resource(region, asked)
    old = region.targets.get(key)
    if old is None and ("MinCapacity" not in asked or "MaxCapacity" not in asked):
        words = "Minimum and maximum capacity are required when a scalable target is registered for the first time."
        raise invalid("target.capacities", words)
    kept = old or {
        "ServiceNamespace": key[0],
        "ResourceId": key[1],
        "ScalableDimension": key[2],
        "RoleARN": _service_role(region),
        "CreationTime": region.now(),
        "SuspendedState": dict.fromkeys(SUSPENDED, False),
        "ScalableTargetARN": region.arn("application-autoscaling", f"scalable-target/{new_id()}"),
    }
    # rule target.partial
    bounds = {name: asked[name] for name in ("MinCapacity", "MaxCapacity") if name in asked}
    suspended = kept["SuspendedState"] | asked.get("SuspendedState", {})
    new = kept | bounds | {"SuspendedState": suspended}
    if new["MinCapacity"] > new["MaxCapacity"]:
        words = "Maximum capacity cannot be less than minimum capacity."
        raise invalid("target.bounds", words)
    region.targets[key] = new
    _bring_inside(region, new)
    if asked.get("Tags"):
        region.tags[new["ScalableTargetARN"]] = dict(asked["Tags"])
    return {"ScalableTargetARN": new["ScalableTargetARN"]}


def _service_role(region: Region) -> str:
    name = "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
    return f"arn:aws:iam::{region.account}:role/aws-service-role/sagemaker.application-autoscaling.amazonaws.com/{name}"


def _check_resource(region: Region, asked: Json) -> None:
    """Return if the variant is there."""
    if asked["ServiceNamespace"] != "sagemaker" or asked["ScalableDimension"] == COPIES:
        return
    found = variant_of(region, asked["ResourceId"])
    if found is None:
        words = f"SageMaker endpoint variant not found for resource ID: {asked['ResourceId']}"
        raise invalid("target.resource-missing", words)
    endpoint, variant = found
    if endpoint.status in {"Creating", "Failed", "Deleting"}:
        words = f"Endpoint {endpoint.name} is {endpoint.status}; it must be InService."
        raise invalid("target.resource-state", words)
    if (asked["ScalableDimension"] == CONCURRENCY) != bool(variant.serverless):
        words = f"{asked['ScalableDimension']} does not fit variant {variant.name}."
        raise invalid("target.dimension", words)


def _bring_inside(region: Region, target: Json) -> None:
    """Change a variant's count to one inside of the target's bounds."""
    # rule target.current-capacity
    found = variant_of(region, target["ResourceId"]) if target["ScalableDimension"] == INSTANCES else None
    if found is None or found[0].status != "InService":
        return
    endpoint, variant = found
    wanted = min(max(variant.count, target["MinCapacity"]), target["MaxCapacity"])
    if wanted == variant.count:
        return
    changed = placed(region, replace(variant, count=wanted))
    variants = [changed if each is variant else each for each in endpoint.variants]
    lifecycle.begin(region, endpoint, "weights", variants=variants)
    note_activity(region, target["ResourceId"], "the bounds of the scalable target changed", variant.count, wanted)


def variant_of(region: Region, resource: str) -> tuple[Endpoint, Variant] | None:
    """Return the variant that a resource ID names."""
    found = VARIANT_ID.fullmatch(resource)
    endpoint = region.endpoints.get(found[1].lower()) if found else None
    variant = endpoint.variant(found[2]) if endpoint is not None and found else None
    return (endpoint, variant) if endpoint is not None and variant is not None else None


def deregister_scalable_target(region: Region, asked: Json) -> Json:
    """Forget a target with its policies and scheduled actions."""
    key = target_key(asked)
    if key not in region.targets:
        raise _not_found("target.missing", "scalable target found", key)
    _forget(region, key)
    return {}


def _not_found(rule: str, what: str, key: tuple[str, str, str], more: str = "") -> Refusal:
    where = f"service namespace: {key[0]}, resource ID: {key[1]}, scalable dimension: {key[2]}"
    return Refusal(rule, "ObjectNotFoundException", f"No {what} for {where}{more}")


def _forget(region: Region, key: tuple[str, str, str]) -> None:
    # rule target.cascade
    region.tags.pop(region.targets.pop(key)["ScalableTargetARN"], None)
    for policy in [each for each in region.policies if each[:3] == key]:
        _forget_policy(region, policy)
    for action in [each for each in region.actions if each[:3] == key]:
        del region.actions[action]


def let_go(region: Region, endpoint: str) -> None:
    """Forget all targets of an endpoint that goes away."""
    for key in list(region.targets):
        found = VARIANT_ID.fullmatch(key[1])
        if found and found[1] == endpoint:
            _forget(region, key)


def describe_scalable_targets(region: Region, asked: Json) -> Json:
    """Return a page of targets."""
    wanted = asked.get("ResourceIds")
    rows = [each for each in _of(region.targets, asked) if not wanted or each["ResourceId"] in wanted]
    shown, token = page(rows, asked, size=PAGE)
    return {"ScalableTargets": shown, **token}


def _of(kept: Mapping[Key, Json], asked: Json) -> list[Json]:
    """Return what belongs to the namespace, resource and dimension that are named."""
    asked_key = (asked["ServiceNamespace"], asked.get("ResourceId"), asked.get("ScalableDimension"))
    return [
        row
        for key, row in kept.items()
        if all(want is None or want == have for want, have in zip(asked_key, key[:3], strict=True))
    ]


def put_scaling_policy(region: Region, asked: Json) -> Json:
    """Keep a policy; target tracking makes its two alarms."""
    key = target_key(asked)
    target = region.targets.get(key)
    if target is None:
        raise _not_found("policy.target-missing", "scalable target registered", key)
    name = asked["PolicyName"]
    kind = asked.get("PolicyType", "StepScaling")
    member = f"{kind}PolicyConfiguration"
    if member not in asked or kind == "PredictiveScaling":
        raise invalid("policy.body", f"{member} is required for policy type {kind}.")
    old = region.policies.get((*key, name))
    if old is not None and old["PolicyType"] != kind:
        raise invalid("policy.type-change", f"The type of the existing policy {name} is {old['PolicyType']}.")
    if kind == "TargetTrackingScaling":
        _check_tracking(region, key, name, asked[member])
    resource = f"resource/{key[0]}/{key[1]}"
    # rule policy.stable-arn
    arn = (old or {}).get("PolicyARN") or region.arn(
        "autoscaling", f"scalingPolicy:{new_id()}:{resource}:policyName/{name}"
    )
    policy = {
        "PolicyARN": arn,
        "PolicyName": name,
        "ServiceNamespace": key[0],
        "ResourceId": key[1],
        "ScalableDimension": key[2],
        "PolicyType": kind,
        member: asked[member],
        "CreationTime": (old or {}).get("CreationTime", region.now()),
    }
    if old is not None:
        _drop_alarms(region, arn)
    region.policies[*key, name] = policy
    if kind == "TargetTrackingScaling":
        _make_alarms(region, policy, asked[member])
    return {"PolicyARN": arn, "Alarms": _alarms_of(region, policy)}


def _check_tracking(region: Region, key: tuple[str, str, str], name: str, body: Json) -> None:
    predefined = body.get("PredefinedMetricSpecification")
    customized = body.get("CustomizedMetricSpecification")
    if (predefined is None) == (customized is None):
        words = "Specify either PredefinedMetricSpecification or CustomizedMetricSpecification."
        raise invalid("policy.metric", words)
    if (
        predefined is not None
        and key[0] == "sagemaker"
        and predefined["PredefinedMetricType"] not in PREDEFINED[key[2]]
    ):
        words = f"Predefined metric type {predefined['PredefinedMetricType']} is not supported for {key[2]}."
        raise invalid("policy.metric-type", words)
    for other in region.policies.values():
        theirs = other.get("TargetTrackingScalingPolicyConfiguration", {})
        if target_key(other) == key and other["PolicyName"] != name and _metric(theirs) == _metric(body):
            words = "Only one TargetTrackingScaling policy for a given metric specification is allowed."
            raise invalid("policy.same-metric", words)


def _metric(body: Json) -> Any:
    return body.get("PredefinedMetricSpecification") or body.get("CustomizedMetricSpecification")


def _make_alarms(region: Region, policy: Json, body: Json) -> None:
    """Make the alarms that drive a policy, as the service does by itself."""
    # rule policy.tracking-alarms
    for side, comparison, periods, factor in ALARM_SIDES:
        name = f"TargetTracking-{policy['ResourceId']}-Alarm{side}-{new_id()}"
        region.alarms[name] = {
            "AlarmName": name,
            "AlarmArn": region.arn("cloudwatch", f"alarm:{name}"),
            "AlarmDescription": f"DO NOT EDIT OR DELETE. For TargetTrackingScaling policy {policy['PolicyARN']}.",
            "AlarmConfigurationUpdatedTimestamp": region.now(),
            "ActionsEnabled": True,
            "OKActions": [],
            "AlarmActions": [policy["PolicyARN"]],
            "InsufficientDataActions": [],
            "StateValue": "INSUFFICIENT_DATA",
            "StateReason": "Unchecked: Initial alarm creation",
            "StateUpdatedTimestamp": region.now(),
            **_alarm_metric(policy, body),
            "EvaluationPeriods": periods,
            "Threshold": body["TargetValue"] * factor,
            "ComparisonOperator": comparison,
        }


def _alarm_metric(policy: Json, body: Json) -> Json:
    predefined = body.get("PredefinedMetricSpecification")
    if predefined is None:
        custom = body["CustomizedMetricSpecification"]
        if "Metrics" in custom:
            return {"Metrics": custom["Metrics"]}
        members = ("MetricName", "Namespace", "Dimensions", "Statistic", "Unit")
        return {"Period": 60, **{name: custom[name] for name in members if name in custom}}
    found = VARIANT_ID.fullmatch(policy["ResourceId"])
    names = PREDEFINED.get(policy["ScalableDimension"], {})
    kind = predefined["PredefinedMetricType"]
    dimensions = [("EndpointName", found[1]), ("VariantName", found[2])] if found else []
    fast = kind.endswith("HighResolution")
    return {
        "Namespace": "AWS/SageMaker",
        "MetricName": names.get(kind, kind),
        "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions],
        "Statistic": "Sum" if kind.endswith("InvocationsPerInstance") else "Average",
        "Period": 10 if fast else 60,
    }


def _drop_alarms(region: Region, policy: str) -> None:
    """Forget the alarms that the service made for a policy, not those of its user."""
    for name, alarm in list(region.alarms.items()):
        if name.startswith("TargetTracking-") and alarm["AlarmActions"] == [policy]:
            del region.alarms[name]


def _alarms_of(region: Region, policy: Json) -> list[Json]:
    """Return the alarms that drive a policy, whoever made them."""
    # rule policy.step-alarms
    return [
        {"AlarmName": each["AlarmName"], "AlarmARN": each["AlarmArn"]}
        for each in region.alarms.values()
        if policy["PolicyARN"] in each["AlarmActions"]
    ]


def describe_scaling_policies(region: Region, asked: Json) -> Json:
    """Return a page of policies."""
    # rule policy.names-filter
    names = asked.get("PolicyNames")
    rows = [each for each in _of(region.policies, asked) if not names or each["PolicyName"] in names]
    shown, token = page(rows, asked, size=POLICIES_PAGE)
    return {"ScalingPolicies": [{**each, "Alarms": _alarms_of(region, each)} for each in shown], **token}


def delete_scaling_policy(region: Region, asked: Json) -> Json:
    """Forget a policy with the alarms that were made for it."""
    key = target_key(asked)
    name = asked["PolicyName"]
    if (*key, name) not in region.policies:
        raise _not_found("policy.missing", "scaling policy found", key, f", policy name: {name}")
    _forget_policy(region, (*key, name))
    return {}


def _forget_policy(region: Region, key: tuple[str, str, str, str]) -> None:
    arn = region.policies.pop(key)["PolicyARN"]
    _drop_alarms(region, arn)
    for alarm in region.alarms.values():
        # rule policy.step-delete
        alarm["AlarmActions"] = [each for each in alarm["AlarmActions"] if each != arn]


def put_scheduled_action(region: Region, asked: Json) -> Json:
    """Keep a scheduled action, or change parts of one."""
    key = target_key(asked)
    if key not in region.targets:
        raise _not_found("action.target-missing", "scalable target registered", key)
    name = asked["ScheduledActionName"]
    old = region.actions.get((*key, name))
    if old is None and "Schedule" not in asked:
        raise invalid("action.schedule", "Schedule is required for a new scheduled action.")
    if "Schedule" in asked and not SCHEDULE.fullmatch(asked["Schedule"]):
        raise invalid("action.schedule", f"Schedule expression is not valid: {asked['Schedule']}")
    action = asked.get("ScalableTargetAction") or {}
    if not action.keys() & {"MinCapacity", "MaxCapacity"}:
        words = "At least one of MinCapacity and MaxCapacity is required in ScalableTargetAction."
        raise invalid("action.capacity", words)
    kept = old or {
        "ScheduledActionARN": region.arn(
            "autoscaling", f"scheduledAction:{new_id()}:resource/{key[0]}/{key[1]}:scheduledActionName/{name}"
        ),
        "CreationTime": region.now(),
    }
    # rule action.times
    kept = {member: value for member, value in kept.items() if member not in {"StartTime", "EndTime"}}
    region.actions[*key, name] = kept | asked
    return {}


def describe_scheduled_actions(region: Region, asked: Json) -> Json:
    """Return a page of scheduled actions."""
    names = asked.get("ScheduledActionNames")
    rows = [each for each in _of(region.actions, asked) if not names or each["ScheduledActionName"] in names]
    shown, token = page(rows, asked, size=PAGE)
    return {"ScheduledActions": shown, **token}


def delete_scheduled_action(region: Region, asked: Json) -> Json:
    """Forget a scheduled action."""
    key = target_key(asked)
    name = asked["ScheduledActionName"]
    if (*key, name) not in region.actions:
        raise _not_found("action.missing", "scheduled action found", key, f", scheduled action name: {name}")
    del region.actions[*key, name]
    return {}


def describe_scaling_activities(region: Region, asked: Json) -> Json:
    """Return a page of what scaling did, newest first."""
    key = (asked["ServiceNamespace"], asked.get("ResourceId"), asked.get("ScalableDimension"))
    members = ("ServiceNamespace", "ResourceId", "ScalableDimension")
    rows = [
        each
        for each in reversed(region.activities)
        if all(want is None or want == each[name] for want, name in zip(key, members, strict=True))
    ]
    shown, token = page(rows, asked, size=PAGE)
    return {"ScalingActivities": shown, **token}


def note_activity(region: Region, resource: str, cause: str, before: int, after: int) -> None:
    """Keep what scaling did to a variant."""
    region.activities.append(
        {
            "ActivityId": new_id(),
            "ServiceNamespace": "sagemaker",
            "ResourceId": resource,
            "ScalableDimension": INSTANCES,
            "Description": f"Setting desired instance count to {after}.",
            "Cause": cause,
            "StartTime": region.now(),
            "EndTime": region.now(),
            "StatusCode": "Successful",
            "StatusMessage": f"Successfully set desired instance count to {after}. Change successfully fulfilled by "
            f"sagemaker. It was {before}.",
        }
    )


def tag_resource(region: Region, asked: Json) -> Json:
    """Set tags of a target."""
    region.tags[_target_arn(region, asked)] = region.tags.get(asked["ResourceARN"], {}) | asked["Tags"]
    return {}


def untag_resource(region: Region, asked: Json) -> Json:
    """Take tags from a target."""
    arn = _target_arn(region, asked)
    region.tags[arn] = {key: value for key, value in region.tags.get(arn, {}).items() if key not in asked["TagKeys"]}
    return {}


def list_tags_for_resource(region: Region, asked: Json) -> Json:
    """Return the tags of a target."""
    return {"Tags": region.tags.get(_target_arn(region, asked), {})}


def _target_arn(region: Region, asked: Json) -> str:
    arn: str = asked["ResourceARN"]
    if arn not in {each["ScalableTargetARN"] for each in region.targets.values()}:
        raise Refusal("target.tags-missing", "ResourceNotFoundException", f"The resource {arn} does not exist.")
    return arn


OPERATIONS = {
    "RegisterScalableTarget": register_scalable_target,
    "DeregisterScalableTarget": deregister_scalable_target,
    "DescribeScalableTargets": describe_scalable_targets,
    "PutScalingPolicy": put_scaling_policy,
    "DescribeScalingPolicies": describe_scaling_policies,
    "DeleteScalingPolicy": delete_scaling_policy,
    "PutScheduledAction": put_scheduled_action,
    "DescribeScheduledActions": describe_scheduled_actions,
    "DeleteScheduledAction": delete_scheduled_action,
    "DescribeScalingActivities": describe_scaling_activities,
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
    "ListTagsForResource": list_tags_for_resource,
}
