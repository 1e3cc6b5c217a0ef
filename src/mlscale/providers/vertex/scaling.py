"""Scaling as the dedicated resources of a DeployedModel have it, and back; pure.

Vertex AI looks every 15 s and takes the highest count that it came to in the last five minutes; nobody can set
cooldowns. Source: "Scale inference nodes by using autoscaling".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlscale.deployment import CustomMetric, Metric, Scaling, TargetPolicy
from mlscale.providers.contract import Refusal
from mlscale.providers.vertex.machines import Machine, resources_of

LINK = "https://docs.cloud.google.com/vertex-ai/docs/predictions/autoscaling"
LINK_TO_RESOURCES = "https://docs.cloud.google.com/vertex-ai/docs/reference/rest/v1/DedicatedResources"

METRICS: Mapping[Metric, str] = {
    Metric.CPU: "aiplatform.googleapis.com/prediction/online/cpu/utilization",
    Metric.GPU: "aiplatform.googleapis.com/prediction/online/accelerator/duty_cycle",
    Metric.INVOCATIONS_PER_REPLICA: "aiplatform.googleapis.com/prediction/online/request_count",
}
"""What can be followed, in percent, percent, and requests a minute per replica (AutoscalingMetricSpec)."""

USUAL = 60
"""The target of the CPU, and of the GPU where there is one, where nothing is asked for (DedicatedResources)."""

_WHOLE_PERCENT = 100
_MOST = 2**31 - 1
_PLAIN = TargetPolicy(Metric.CPU, USUAL)
_RESOURCES = "dedicated_resources"


def canonical(scaling: Scaling, machines: Sequence[Machine] = ()) -> Scaling:
    """Return `scaling` as it is read back: targets in a fixed order, and none where they are what is usual anyway.

    Cooldowns, which Vertex AI does not hold, are those of a target that names none. Without `machines` a target of the
    CPU alone is kept as it is: that it is the usual one is known only where no machine has a GPU.
    """
    targets = sorted((_whole(each) for each in scaling.target), key=_order)
    gpus = {bool(machine.accelerator) for machine in machines} or {True}
    usual = len(gpus) == 1 and targets == _usual(has_gpu=gpus == {True})
    return replace(scaling, target=() if usual else tuple(targets))


def _whole(policy: TargetPolicy) -> TargetPolicy:
    return replace(_PLAIN, metric=policy.metric, value=float(policy.value), custom=policy.custom)


def _order(policy: TargetPolicy) -> tuple[str, str]:
    return policy.metric, f"{policy.custom}"


def _usual(*, has_gpu: bool) -> list[TargetPolicy]:
    followed = (Metric.CPU, Metric.GPU) if has_gpu else (Metric.CPU,)
    return [replace(_PLAIN, metric=metric, value=float(USUAL)) for metric in followed]


def refusals(scaling: Scaling, machines: Sequence[Machine]) -> tuple[Refusal, ...]:
    """Return what of `scaling` Vertex AI can't do on `machines`, each with its reason."""
    return tuple(_refused(scaling, machines))


def _refused(scaling: Scaling, machines: Sequence[Machine]) -> Iterator[Refusal]:
    if scaling.min < 1:
        yield Refusal("endpoint.replicas", "a model keeps one replica at least", LINK_TO_RESOURCES)
    metrics = [each.metric for each in scaling.target]
    for number, policy in enumerate(scaling.target):
        path = f"endpoint.autoscaling.target[{number}]"
        if policy.metric in metrics[:number]:
            yield Refusal(path, "a metric has one target", LINK_TO_RESOURCES)
        yield from _target_refused(path, policy, machines)
    if scaling.steps:
        yield Refusal("endpoint.autoscaling.steps", "Vertex AI has no steps: use a target", LINK)
    if scaling.schedule:
        why = "Vertex AI has no schedule: change replicas with a deploy at those times"
        yield Refusal("endpoint.autoscaling.schedule", why, LINK)


def _target_refused(path: str, policy: TargetPolicy, machines: Sequence[Machine]) -> Iterator[Refusal]:
    metric, value = policy.metric, policy.value
    if metric not in METRICS:
        followed = ", ".join(sorted(METRICS))
        what = "a metric of your own" if metric is Metric.CUSTOM else str(metric)
        yield Refusal(f"{path}.metric", f"Vertex AI follows {followed}, not {what}", LINK)
        return
    most = _MOST if metric is Metric.INVOCATIONS_PER_REPLICA else _WHOLE_PERCENT
    if value % 1 or not 1 <= value <= most:
        yield Refusal(f"{path}.value", f"{value:g} is no whole number from 1 to {most}", LINK_TO_RESOURCES)
    if bare := next((each.type for each in machines if metric is Metric.GPU and not each.accelerator), None):
        yield Refusal(f"{path}.metric", f"{bare} has no GPU", LINK)
    for name in ("scale_in_cooldown", "scale_out_cooldown"):
        if getattr(policy, name) != getattr(_PLAIN, name):
            yield Refusal(f"{path}.{name}", "Vertex AI has no cooldown: it goes by the last five minutes", LINK)


def dedicated(scaling: Scaling, machine: Machine, *, least: int) -> dict[str, Any]:
    """Return the DedicatedResources of a model that begins with `least` replicas on `machine`."""
    bounds = {"min_replica_count": least, "max_replica_count": max(least, scaling.max)}
    targets = canonical(scaling, [machine]).target
    followed = {"autoscaling_metric_specs": _specs(targets)} if targets else {}
    return {**resources_of(str(machine)), **bounds, **followed}


def _specs(targets: Sequence[TargetPolicy]) -> list[dict[str, Any]]:
    return [{"metric_name": METRICS[each.metric], "target": int(each.value)} for each in targets]


def scaling_of(resources: Mapping[str, Any]) -> Scaling:
    """Return the scaling of a DedicatedResources in canonical form.

    Targets that are written out and are the usual ones are none; a metric that we can't ask for is one of somebody's
    own.
    """
    least = int(resources.get("min_replica_count", 1))
    targets = sorted(map(_target, resources.get("autoscaling_metric_specs", ())), key=_order)
    usual = targets == _usual(has_gpu=_has_gpu(resources))
    return Scaling(least, int(resources.get("max_replica_count", least)), () if usual else tuple(targets))


def _target(spec: Mapping[str, Any]) -> TargetPolicy:
    name, value = str(spec["metric_name"]), float(spec.get("target", USUAL))
    metric = next((metric for metric, known in METRICS.items() if known == name), None)
    if metric is not None:
        return replace(_PLAIN, metric=metric, value=value)
    namespace, _, rest = name.partition("/")
    return replace(_PLAIN, metric=Metric.CUSTOM, value=value, custom=CustomMetric(namespace, rest))


def _has_gpu(resources: Mapping[str, Any]) -> bool:
    return bool(int(resources.get("machine_spec", {}).get("accelerator_count", 0)))


def mutation(deployed_id: str, scaling: Scaling, present: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]] | None:
    """Return the DeployedModel, and the paths of its field mask, that make `present` as `scaling` asks.

    Args:
        deployed_id: which one.
        scaling: what is asked for, in canonical form.
        present: its DedicatedResources as they are.

    Returns:
        None where nothing differs.
    """
    seen, usual = scaling_of(present), _usual(has_gpu=_has_gpu(present))
    targets = [] if list(scaling.target) == usual else list(scaling.target)
    changed: dict[str, Any] = {}
    if seen.min != scaling.min:
        changed["min_replica_count"] = scaling.min
    if seen.max != scaling.max:
        changed["max_replica_count"] = scaling.max
    if list(seen.target) != targets:
        # An empty list in a message is as one that is left out: the usual targets are written out.
        changed["autoscaling_metric_specs"] = _specs(targets or usual)
    if not changed:
        return None
    return {"id": deployed_id, _RESOURCES: changed}, [f"{_RESOURCES}.{field}" for field in changed]
