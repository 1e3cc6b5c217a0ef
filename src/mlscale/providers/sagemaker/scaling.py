"""Scaling as Application Auto Scaling has it, and back: its requests, and what is missing in what is there.

What triggers a step policy is an alarm of ours, `step-1` and so on, `b-step-1` if it is of variant `b`; AWS makes the
alarms of a target policy itself.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, assert_never

from mlscale.autoscaling.policy import effective_bounds
from mlscale.deployment import CustomMetric, Kind, Metric, Scaling, ScheduledBounds, StepPolicy, TargetPolicy
from mlscale.providers.contract import Refusal
from mlscale.providers.sagemaker import alarms, schedules
from mlscale.providers.sagemaker.calls import Call, holds

LINK = "https://docs.aws.amazon.com/sagemaker/latest/dg/"
LINK_TO_SCALING = f"{LINK}endpoint-auto-scaling.html"
LINK_TO_ASYNC = f"{LINK}async-inference-monitor.html"
LINK_TO_SERVERLESS = f"{LINK}serverless-endpoints.html"
LINK_TO_METRICS = f"{LINK}monitoring-cloudwatch.html"
LINK_TO_SCHEDULES = (
    "https://docs.aws.amazon.com/autoscaling/application/userguide/scheduled-scaling-using-cron-expressions.html"
)

_DIMENSION = "sagemaker:variant:DesiredInstanceCount"
_TARGET, _STEP, _WAKE, _SCHEDULE = "mlscale-target-", "mlscale-step-", "mlscale-wake", "mlscale-schedule-"
_TRIGGER = re.compile(r"step-[0-9]+|wake")
_LATER_SLOT = re.compile(r"[b-j]")
"""A variant that is not the first of its endpoint, nor one that somebody else has named."""

_AWAKE = {"DynamicScalingInSuspended": False, "DynamicScalingOutSuspended": False, "ScheduledScalingSuspended": False}
_GPU_MACHINE = re.compile(r"ml\.[gp][0-9]")

# What of each a user can set, and what AWS takes where it is not set.
_TARGET_FIELDS = {
    "TargetValue": None,
    "PredefinedMetricSpecification": None,
    "CustomizedMetricSpecification": None,
    "ScaleInCooldown": None,
    "ScaleOutCooldown": None,
    "DisableScaleIn": False,
}
_STEP_FIELDS = {
    "AdjustmentType": None,
    "StepAdjustments": None,
    "MinAdjustmentMagnitude": None,
    "Cooldown": None,
    "MetricAggregationType": "Average",
}
_ACTION_FIELDS = {
    "Schedule": None,
    "Timezone": "UTC",
    "StartTime": None,
    "EndTime": None,
    "ScalableTargetAction": None,
}
_CONFIGURATIONS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "TargetTrackingScaling": ("TargetTrackingScalingPolicyConfiguration", _TARGET_FIELDS),
    "StepScaling": ("StepScalingPolicyConfiguration", _STEP_FIELDS),
}


@dataclass(frozen=True, slots=True)
class _Gauge:
    """Where CloudWatch has a metric; `by_variant` says if it is told for each variant or for the endpoint."""

    namespace: str
    name: str
    statistic: str
    by_variant: bool = True


# Source: "Amazon SageMaker AI metrics in Amazon CloudWatch"; the queue's: "Alarms and logs for tracking metrics from
# asynchronous endpoints". Concurrency has the statistics Minimum and Maximum only.
_GAUGES: Mapping[Metric, _Gauge] = {
    Metric.INVOCATIONS_PER_REPLICA: _Gauge("AWS/SageMaker", "InvocationsPerInstance", "Sum"),
    Metric.CONCURRENCY: _Gauge("AWS/SageMaker", "ConcurrentRequestsPerModel", "Maximum"),
    Metric.CPU: _Gauge("/aws/sagemaker/Endpoints", "CPUUtilization", "Average"),
    Metric.GPU: _Gauge("/aws/sagemaker/Endpoints", "GPUUtilization", "Average"),
    Metric.QUEUE_DEPTH: _Gauge("AWS/SageMaker", "ApproximateBacklogSizePerInstance", "Average", by_variant=False),
}
_BACKLOG = _Gauge("AWS/SageMaker", "HasBacklogWithoutCapacity", "Average", by_variant=False)
_PREDEFINED: Mapping[Metric, str] = {
    Metric.INVOCATIONS_PER_REPLICA: "SageMakerVariantInvocationsPerInstance",
    Metric.CONCURRENCY: "SageMakerVariantConcurrentRequestsPerModelHighResolution",
}


@dataclass(frozen=True, slots=True)
class SeenScaling:
    """What AWS answers about the scaling of one variant, as it came.

    `target` is its scalable target, `policies`, `actions` and `alarms` those with our names. `bounds` is what the
    endpoint's tag has (`bounds_text`), `count` the DesiredInstanceCount, None where there is no variant.
    """

    target: Mapping[str, Any] | None = None
    policies: Sequence[Mapping[str, Any]] = ()
    actions: Sequence[Mapping[str, Any]] = ()
    alarms: Sequence[Mapping[str, Any]] = ()
    bounds: str = ""
    count: int | None = None


def bounds_text(scaling: Scaling) -> str:
    """Return the bounds as the endpoint's tag has them: a schedule that has fired changes those of the target."""
    return f"{scaling.min} {scaling.max}"


def canonical(scaling: Scaling) -> Scaling:
    """Return `scaling` as it is read back: what a schedule leaves out is filled in, targets are in a fixed order."""
    return replace(
        scaling,
        target=tuple(sorted((_whole_target(each) for each in scaling.target), key=_policy_name)),
        steps=tuple(_whole_step(each) for each in scaling.steps),
        schedule=tuple(_whole_entry(each, scaling) for each in scaling.schedule),
    )


def _whole_target(policy: TargetPolicy) -> TargetPolicy:
    return replace(
        policy,
        value=float(policy.value),
        scale_in_cooldown=_whole_seconds(policy.scale_in_cooldown),
        scale_out_cooldown=_whole_seconds(policy.scale_out_cooldown),
    )


def _whole_step(step: StepPolicy) -> StepPolicy:
    return replace(
        step,
        above=None if step.above is None else float(step.above),
        below=None if step.below is None else float(step.below),
        cooldown=_whole_seconds(step.cooldown),
    )


def _whole_seconds(time: timedelta) -> timedelta:
    return timedelta(seconds=round(time.total_seconds()))


def _whole_entry(entry: ScheduledBounds, scaling: Scaling) -> ScheduledBounds:
    # An action that names one bound leaves the other as the last action left it; ours means the one of `replicas`.
    low = scaling.min if entry.min is None else entry.min
    high = scaling.max if entry.max is None else entry.max
    if entry.min is None:
        low = min(low, high)
    return replace(entry, cron=schedules.canonical(entry.cron), min=low, max=max(low, high))


def _policy_name(policy: TargetPolicy) -> str:
    if policy.custom is None:
        return f"{_TARGET}{policy.metric}"
    digest = hashlib.sha256(f"{policy.custom.namespace}\n{policy.custom.name}".encode()).hexdigest()
    return f"{_TARGET}{policy.metric}-{digest[:8]}"


def refusals(scaling: Scaling, kind: Kind, machine: Sequence[str] = ()) -> tuple[Refusal, ...]:
    """Return what of `scaling` SageMaker can't do for an endpoint of `kind` on `machine`, each with its reason."""
    if kind is Kind.SERVERLESS:
        if scaling == Scaling(0, 0):
            return ()
        why = "a serverless endpoint has no replicas: serverless.concurrency bounds it, and AWS does the rest"
        return (Refusal("endpoint.autoscaling", why, LINK_TO_SERVERLESS),)
    return (
        *_zero_refused(scaling, kind),
        *_metrics_refused(scaling, kind, machine),
        *_names_refused(scaling),
        *_schedule_refused(scaling),
    )


def _zero_refused(scaling: Scaling, kind: Kind) -> Iterator[Refusal]:
    if kind is not Kind.ASYNC and 0 in (scaling.min, *(each.min for each in scaling.schedule)):
        yield Refusal(
            "endpoint.replicas", "only an async endpoint has a queue for when no replica runs", LINK_TO_SCALING
        )


def _metrics_refused(scaling: Scaling, kind: Kind, machine: Sequence[str]) -> Iterator[Refusal]:
    followed = [("target", number, each.metric) for number, each in enumerate(scaling.target)]
    followed += [("steps", number, each.metric) for number, each in enumerate(scaling.steps)]
    for key, number, metric in followed:
        why, link = _unmeasured(metric, kind, machine)
        if key == "steps" and metric is Metric.CUSTOM:
            why, link = "a step has no metric of your own: use a target", LINK_TO_SCALING
        if why:
            yield Refusal(f"endpoint.autoscaling.{key}[{number}].metric", why, link)
    for number, step in enumerate(scaling.steps):
        if (step.above is None) == (step.below is None):
            path = f"endpoint.autoscaling.steps[{number}]"
            yield Refusal(path, "an alarm has one bound: above or below", LINK_TO_SCALING)


def _unmeasured(metric: Metric, kind: Kind, machine: Sequence[str]) -> tuple[str, str]:
    """Return why an endpoint of `kind` has no such metric, and where that is written; empty if it has."""
    match metric:
        case Metric.INVOCATIONS_PER_REPLICA | Metric.CONCURRENCY:
            why = "an async endpoint does not publish it, so nothing would ever scale: use queue_depth"
            return (why, LINK_TO_ASYNC) if kind is Kind.ASYNC else ("", "")
        case Metric.QUEUE_DEPTH:
            return ("", "") if kind is Kind.ASYNC else ("only an async endpoint has a queue", LINK_TO_ASYNC)
        case Metric.GPU:
            bare = [each for each in machine if not _GPU_MACHINE.match(each)]
            return (f"{bare[0]} has no GPU that is measured", LINK_TO_METRICS) if bare else ("", "")
        case Metric.CPU | Metric.CUSTOM:
            return "", ""
        case _:
            assert_never(metric)


def _names_refused(scaling: Scaling) -> Iterator[Refusal]:
    names = [_policy_name(each) for each in scaling.target]
    for number, name in enumerate(names):
        if name in names[:number]:
            yield Refusal(f"endpoint.autoscaling.target[{number}]", "a metric has one target", LINK_TO_SCALING)


def _schedule_refused(scaling: Scaling) -> Iterator[Refusal]:
    entries = canonical(scaling).schedule
    for number, entry in enumerate(entries):
        path = f"endpoint.autoscaling.schedule[{number}].cron"
        if why := schedules.problem(entry.cron):
            yield Refusal(path, f"{entry.cron}: {why}", LINK_TO_SCHEDULES)
            continue
        for other in entries[:number]:
            differs = (entry.min, entry.max) != (other.min, other.max)
            if differs and entry.timezone == other.timezone and schedules.coincide(entry.cron, other.cron):
                why = f"{entry.cron} and {other.cron} can come at once, and AWS does not say which of two holds"
                yield Refusal(path, why, LINK_TO_SCHEDULES)


def scaling_of(seen: SeenScaling, kind: Kind) -> Scaling:
    """Return what `seen` amounts to, in canonical form.

    A policy, alarm or action that is not as we would put it counts as absent, and so does a target that is suspended:
    it shows as a difference, and is put again. Where nothing can start the first replica, the least is told as one.
    """
    target = seen.target
    if kind is Kind.SERVERLESS or target is None or _is_suspended(target):
        count = 0 if kind is Kind.SERVERLESS else seen.count or 0
        return Scaling(count, count)
    _, name, _, slot = str(target["ResourceId"]).split("/")
    schedule = tuple(entry for each in _numbered(seen.actions) if (entry := _entry_of(each, name, slot)))
    low, high = _asked_bounds(seen, (int(target["MinCapacity"]), int(target["MaxCapacity"])), schedule)
    found = Scaling(
        low,
        high,
        tuple(sorted(filter(None, (_target_of(each, name, slot) for each in seen.policies)), key=_policy_name)),
        tuple(filter(None, (_step_of(each, name, slot, seen.alarms) for each in _numbered(seen.policies)))),
        schedule,
    )
    if _needs_waking(found, kind) and not _wakes(name, slot, seen):
        return replace(
            found,
            min=found.min or 1,
            max=found.max or 1,
            schedule=tuple(replace(each, min=each.min or 1, max=each.max or 1) for each in schedule),
        )
    return found


def _is_suspended(target: Mapping[str, Any]) -> bool:
    return any(target.get("SuspendedState", {}).values())


def _numbered(found: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return ours that have a number in their name, in its order."""
    ours = {_number(each): each for each in found if _number(each) is not None}
    return [ours[number] for number in sorted(filter(None, ours))]


def _number(found: Mapping[str, Any]) -> int | None:
    name = str(found.get("PolicyName") or found.get("ScheduledActionName"))
    match = re.fullmatch(rf"(?:{_STEP}|{_SCHEDULE})([1-9][0-9]*)", name)
    return int(match[1]) if match else None


def _asked_bounds(seen: SeenScaling, live: tuple[int, int], schedule: Sequence[ScheduledBounds]) -> tuple[int, int]:
    """Return the bounds that were asked for: the tag's, unless no entry of the schedule leads to the live ones."""
    tagged = re.fullmatch(r"([0-9]+) ([0-9]+)", seen.bounds)
    asked = (int(tagged[1]), int(tagged[2])) if tagged else live
    return asked if live == asked or live in _scheduled(schedule) else live


def _scheduled(schedule: Sequence[ScheduledBounds]) -> set[tuple[int | None, int | None]]:
    return {(each.min, each.max) for each in schedule}


def _target_of(policy: Mapping[str, Any], name: str, slot: str) -> TargetPolicy | None:
    metric = str(policy["PolicyName"]).removeprefix(_TARGET).split("-")[0]
    found = policy.get("TargetTrackingScalingPolicyConfiguration", {})
    if metric not in set(Metric) or not {"ScaleInCooldown", "ScaleOutCooldown", "TargetValue"} <= set(found):
        return None
    target = TargetPolicy(
        Metric(metric),
        float(found["TargetValue"]),
        timedelta(seconds=found["ScaleInCooldown"]),
        timedelta(seconds=found["ScaleOutCooldown"]),
        _custom_of(found.get("CustomizedMetricSpecification", {})) if metric == Metric.CUSTOM else None,
    )
    return target if _is_policy(policy, _target_request(target, name, slot)) else None


def _custom_of(found: Mapping[str, Any]) -> CustomMetric:
    dimensions = {str(each["Name"]): str(each["Value"]) for each in found.get("Dimensions", ())}
    return CustomMetric(
        str(found.get("Namespace", "")), str(found.get("MetricName", "")), str(found.get("Statistic", "")), dimensions
    )


def _step_of(policy: Mapping[str, Any], name: str, slot: str, found: Sequence[Mapping[str, Any]]) -> StepPolicy | None:
    number = _number(policy) or 0
    alarm = _named(found, "AlarmName", _alarm_name(name, slot, f"step-{number}"))
    adjustments = policy.get("StepScalingPolicyConfiguration", {}).get("StepAdjustments", ())
    cooldown = policy.get("StepScalingPolicyConfiguration", {}).get("Cooldown")
    metric = next((each for each, gauge in _GAUGES.items() if alarm and gauge.name == alarm.get("MetricName")), None)
    if alarm is None or metric is None or cooldown is None or len(adjustments) != 1 or "Threshold" not in alarm:
        return None
    is_above = "MetricIntervalLowerBound" in adjustments[0]
    step = StepPolicy(
        metric,
        int(adjustments[0]["ScalingAdjustment"]),
        above=float(alarm["Threshold"]) if is_above else None,
        below=None if is_above else float(alarm["Threshold"]),
        cooldown=timedelta(seconds=cooldown),
    )
    is_ours = _is_policy(policy, _step_request(step, number, name, slot)) and alarms.is_as_asked(
        alarm, _step_alarm(step, number, name, slot, str(policy["PolicyARN"]))
    )
    return step if is_ours else None


def _entry_of(action: Mapping[str, Any], name: str, slot: str) -> ScheduledBounds | None:
    cron = schedules.from_the_cloud(str(action.get("Schedule", "")))
    bounds = action.get("ScalableTargetAction", {})
    if cron is None or not {"MinCapacity", "MaxCapacity"} <= set(bounds):
        return None
    zone = str(action.get("Timezone", "UTC"))
    entry = ScheduledBounds(cron, zone, int(bounds["MinCapacity"]), int(bounds["MaxCapacity"]))
    return entry if holds(action, _action_request(entry, _number(action) or 0, name, slot), _ACTION_FIELDS) else None


def _needs_waking(scaling: Scaling, kind: Kind) -> bool:
    return kind is Kind.ASYNC and 0 in (scaling.min, *(each.min for each in scaling.schedule))


def _wakes(name: str, slot: str, seen: SeenScaling) -> bool:
    policy = _named(seen.policies, "PolicyName", _WAKE)
    alarm = _named(seen.alarms, "AlarmName", _alarm_name(name, slot, "wake"))
    return (
        policy is not None
        and alarm is not None
        and _is_policy(policy, _wake_request(name, slot))
        and alarms.is_as_asked(alarm, _wake_alarm(name, slot, str(policy["PolicyARN"])))
    )


def _alarm_name(name: str, slot: str, key: str) -> str:
    """Return the name of what triggers the policy `key` of a variant."""
    return alarms.alarm_name(name, f"{slot}-{key}" if _LATER_SLOT.fullmatch(slot) else key)


def _trigger(name: str, slot: str, alarm: str) -> str:
    """Return which policy of a variant an alarm triggers; empty if it triggers none of it."""
    key = alarms.alarm_key(name, alarm)
    if _LATER_SLOT.fullmatch(slot):
        key = key.removeprefix(f"{slot}-") if key.startswith(f"{slot}-") else ""
    return key if _TRIGGER.fullmatch(key) else ""


def _named(found: Sequence[Mapping[str, Any]], key: str, name: str) -> Mapping[str, Any] | None:
    return next((each for each in found if each[key] == name), None)


def _is_policy(policy: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    configuration, fields = _CONFIGURATIONS[request["PolicyType"]]
    return (
        policy["PolicyName"] == request["PolicyName"]
        and policy["PolicyType"] == request["PolicyType"]
        and holds(policy.get(configuration, {}), request[configuration], fields)
    )


def calls(name: str, slot: str, kind: Kind, scaling: Scaling, seen: SeenScaling, now: datetime) -> tuple[Call, ...]:
    """Return what makes `seen` as `scaling` asks, in an order that works; none if it is so.

    An alarm needs the ARN of its policy, so it comes when the policy has been read: make the calls, read, ask again,
    until none is left. Bounds that an entry of the schedule leads to are let be; others become those of `now`. A fixed
    count has no scalable target, and setting it is not done here.
    """
    wanted = canonical(scaling)
    if _is_fixed(wanted) or kind is Kind.SERVERLESS:
        return release_calls(name, slot, seen)
    policies = [_target_request(each, name, slot) for each in wanted.target]
    policies += [_step_request(each, number, name, slot) for number, each in enumerate(wanted.steps, start=1)]
    policies += [_wake_request(name, slot)] if _needs_waking(wanted, kind) else []
    actions = [_action_request(each, number, name, slot) for number, each in enumerate(wanted.schedule, start=1)]
    put_policies = [each for each in policies if not _has_policy(seen, each)]
    put_actions = [each for each in actions if not _has_action(seen, each)]
    deletes = _deletes(name, slot, seen, policies, actions)
    is_rescheduled = bool(put_actions) or any(each.operation == "delete_scheduled_action" for each in deletes)
    return (
        *deletes,
        *_register_calls(name, slot, wanted, seen, now, is_rescheduled=is_rescheduled),
        *(Call("application-autoscaling", "put_scaling_policy", each) for each in put_policies),
        *(Call("application-autoscaling", "put_scheduled_action", each) for each in put_actions),
        *(
            alarms.put(each)
            for each in _alarm_requests(name, slot, wanted, seen, policies)
            if not _has_alarm(seen, each)
        ),
    )


def release_calls(name: str, slot: str, seen: SeenScaling) -> tuple[Call, ...]:
    """Return what takes all scaling away; none if there is none. Policies and schedule go with their target.

    The alarms go first: what is left of a run that was cut off is then found by its target.
    """
    target = Call("application-autoscaling", "deregister_scalable_target", _of(name, slot))
    return (*alarms.deletes(_triggers(name, slot, seen)), *((target,) if seen.target is not None else ()))


def _is_fixed(scaling: Scaling) -> bool:
    return scaling.min == scaling.max and not (scaling.target or scaling.steps or scaling.schedule)


def _has_policy(seen: SeenScaling, request: Mapping[str, Any]) -> bool:
    return any(_is_policy(each, request) for each in seen.policies)


def _has_action(seen: SeenScaling, request: Mapping[str, Any]) -> bool:
    action = _named(seen.actions, "ScheduledActionName", request["ScheduledActionName"])
    return action is not None and holds(action, request, _ACTION_FIELDS)


def _has_alarm(seen: SeenScaling, request: Mapping[str, Any]) -> bool:
    return any(alarms.is_as_asked(each, request) for each in seen.alarms)


def _deletes(
    name: str,
    slot: str,
    seen: SeenScaling,
    policies: Sequence[Mapping[str, Any]],
    actions: Sequence[Mapping[str, Any]],
) -> list[Call]:
    """Return the calls that delete ours that nobody wants, alarms first, and policies of a name with another type."""
    wanted = {each["PolicyName"]: each["PolicyType"] for each in policies}
    keys = {policy.removeprefix("mlscale-") for policy in wanted}
    unwanted = [each for each in _triggers(name, slot, seen) if _trigger(name, slot, each) not in keys]
    names = {each["ScheduledActionName"] for each in actions}
    return [
        *alarms.deletes(unwanted),
        *(
            Call("application-autoscaling", "delete_scaling_policy", _of(name, slot, PolicyName=each["PolicyName"]))
            for each in seen.policies
            if wanted.get(each["PolicyName"]) != each["PolicyType"]
        ),
        *(
            Call(
                "application-autoscaling",
                "delete_scheduled_action",
                _of(name, slot, ScheduledActionName=each["ScheduledActionName"]),
            )
            for each in seen.actions
            if each["ScheduledActionName"] not in names
        ),
    ]


def _triggers(name: str, slot: str, seen: SeenScaling) -> list[str]:
    found = [str(each["AlarmName"]) for each in seen.alarms]
    return [each for each in found if _trigger(name, slot, each)]


def _register_calls(
    name: str, slot: str, wanted: Scaling, seen: SeenScaling, now: datetime, *, is_rescheduled: bool
) -> Iterator[Call]:
    low, high = effective_bounds(wanted, now)
    live = (seen.target["MinCapacity"], seen.target["MaxCapacity"]) if seen.target else None
    is_suspended = seen.target is not None and _is_suspended(seen.target)
    explained = {(wanted.min, wanted.max), *_scheduled(wanted.schedule)}
    if live not in explained or is_suspended or (is_rescheduled and live != (low, high)):
        request = _of(name, slot, MinCapacity=low, MaxCapacity=high)
        if is_suspended:
            request["SuspendedState"] = _AWAKE
        yield Call("application-autoscaling", "register_scalable_target", request)


def _of(name: str, slot: str, **request: Any) -> dict[str, Any]:
    resource = {"ServiceNamespace": "sagemaker", "ResourceId": f"endpoint/{name}/variant/{slot}"}
    return {**resource, "ScalableDimension": _DIMENSION, **request}


def _target_request(policy: TargetPolicy, name: str, slot: str) -> dict[str, Any]:
    configuration: dict[str, Any] = {
        "TargetValue": policy.value,
        "ScaleInCooldown": round(policy.scale_in_cooldown.total_seconds()),
        "ScaleOutCooldown": round(policy.scale_out_cooldown.total_seconds()),
        "DisableScaleIn": False,
    }
    if policy.metric in _PREDEFINED:
        configuration["PredefinedMetricSpecification"] = {"PredefinedMetricType": _PREDEFINED[policy.metric]}
    else:
        configuration["CustomizedMetricSpecification"] = _customized(policy, name, slot)
    return _of(
        name,
        slot,
        PolicyName=_policy_name(policy),
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=configuration,
    )


def _customized(policy: TargetPolicy, name: str, slot: str) -> dict[str, Any]:
    own = policy.custom
    if own is None:
        gauge = _GAUGES[policy.metric]
        return {
            "Namespace": gauge.namespace,
            "MetricName": gauge.name,
            "Statistic": gauge.statistic,
            "Dimensions": _dimensions(gauge, name, slot),
        }
    dimensions = [{"Name": key, "Value": value} for key, value in sorted(own.dimensions.items())]
    found = {"Namespace": own.namespace, "MetricName": own.name, "Statistic": own.statistic}
    return {**found, "Dimensions": dimensions} if dimensions else found


def _dimensions(gauge: _Gauge, name: str, slot: str) -> list[dict[str, str]]:
    endpoint = {"Name": "EndpointName", "Value": name}
    return [endpoint, {"Name": "VariantName", "Value": slot}] if gauge.by_variant else [endpoint]


def _step_request(step: StepPolicy, number: int, name: str, slot: str) -> dict[str, Any]:
    # The interval begins at the alarm's threshold, and is open on the other side.
    bound = "MetricIntervalLowerBound" if step.above is not None else "MetricIntervalUpperBound"
    return _stepping(f"{_STEP}{number}", {bound: 0.0, "ScalingAdjustment": step.add}, step.cooldown, name, slot)


def _wake_request(name: str, slot: str) -> dict[str, Any]:
    """Return the policy with which a queue starts the first replica.

    Source of its numbers and those of its alarm: "Autoscale an asynchronous endpoint" (Amazon SageMaker AI), "Define a
    scaling policy that scales up from zero for new requests".
    """
    adjustment = {"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}
    return _stepping(_WAKE, adjustment, timedelta(minutes=5), name, slot)


def _stepping(policy: str, adjustment: Mapping[str, Any], cooldown: timedelta, name: str, slot: str) -> dict[str, Any]:
    configuration = {
        "AdjustmentType": "ChangeInCapacity",
        "MetricAggregationType": "Average",
        "Cooldown": round(cooldown.total_seconds()),
        "StepAdjustments": [adjustment],
    }
    return _of(name, slot, PolicyName=policy, PolicyType="StepScaling", StepScalingPolicyConfiguration=configuration)


def _action_request(entry: ScheduledBounds, number: int, name: str, slot: str) -> dict[str, Any]:
    return _of(
        name,
        slot,
        ScheduledActionName=f"{_SCHEDULE}{number}",
        Schedule=schedules.in_the_cloud(entry.cron),
        Timezone=entry.timezone,
        ScalableTargetAction={"MinCapacity": entry.min, "MaxCapacity": entry.max},
    )


def _alarm_requests(
    name: str, slot: str, wanted: Scaling, seen: SeenScaling, policies: Sequence[Mapping[str, Any]]
) -> Iterator[Mapping[str, Any]]:
    """Yield the alarms whose policy is there as it shall be, so that its ARN stays."""
    asked = {each["PolicyName"]: each for each in policies}
    arns = {
        each["PolicyName"]: str(each["PolicyARN"])
        for each in seen.policies
        if each["PolicyName"] in asked and _is_policy(each, asked[each["PolicyName"]])
    }
    for number, step in enumerate(wanted.steps, start=1):
        if arn := arns.get(f"{_STEP}{number}"):
            yield _step_alarm(step, number, name, slot, arn)
    if arn := arns.get(_WAKE):
        yield _wake_alarm(name, slot, arn)


def _step_alarm(step: StepPolicy, number: int, name: str, slot: str, arn: str) -> dict[str, Any]:
    gauge = _GAUGES[step.metric]
    is_above = step.above is not None
    bound = f"{'above' if is_above else 'below'} {step.above if is_above else step.below:g}"
    return {
        **_alarm(f"step-{number}", gauge, name, slot, arn),
        "AlarmDescription": f"Replicas of {name}: {step.add:+d} while {step.metric} is {bound}. By mlscale.",
        "EvaluationPeriods": 1,
        "DatapointsToAlarm": 1,
        "Threshold": step.above if is_above else step.below,
        "ComparisonOperator": "GreaterThanThreshold" if is_above else "LessThanThreshold",
        # Silence is not idleness: a metric without data changes nothing.
        "TreatMissingData": "notBreaching",
    }


def _wake_alarm(name: str, slot: str, arn: str) -> dict[str, Any]:
    return {
        **_alarm("wake", _BACKLOG, name, slot, arn),
        "AlarmDescription": f"Starts the first replica of {name} when requests wait and none runs. By mlscale.",
        "EvaluationPeriods": 2,
        "DatapointsToAlarm": 2,
        "Threshold": 1.0,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "missing",
    }


def _alarm(key: str, gauge: _Gauge, name: str, slot: str, arn: str) -> dict[str, Any]:
    return {
        "AlarmName": _alarm_name(name, slot, key),
        "ActionsEnabled": True,
        "AlarmActions": [arn],
        "Namespace": gauge.namespace,
        "MetricName": gauge.name,
        "Statistic": gauge.statistic,
        "Dimensions": _dimensions(gauge, name, slot),
        "Period": 60,
        "Tags": [{"Key": "mlscale:name", "Value": name}],
    }
