"""SageMaker's own ways of moving traffic in steps, as a request, and which it can't go; pure.

Sources of the bounds: TrafficRoutingConfig, BlueGreenUpdatePolicy and RollingUpdatePolicy (API reference), "Exclusions"
of the deployment guardrails (developer guide).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from mlscale.deployment import WHOLE, Deployment, Kind, RolloutWish
from mlscale.providers.contract import Refusal

GUARDED = frozenset({"blue_green", "canary", "linear", "rolling"})
"""Strategies that SageMaker carries out by itself."""

LINK = "https://docs.aws.amazon.com/sagemaker/latest/"
EXCLUSIONS = f"{LINK}dg/deployment-guardrails-exclusions.html"
ROUTING = f"{LINK}APIReference/API_TrafficRoutingConfig.html"
ROLLING = f"{LINK}APIReference/API_RollingUpdatePolicy.html"
BLUE_GREEN = f"{LINK}APIReference/API_BlueGreenUpdatePolicy.html"

LONGEST_WAIT = timedelta(hours=1)
LONGEST_UPDATE = timedelta(hours=8)
SETTLING = timedelta(minutes=30)
"""What an update may take besides its waits, before SageMaker itself gives up and rolls back."""

PERCENT = WHOLE // 100
BOUNDS = {"canary": (1, 50), "linear": (10, 50), "rolling": (5, 50)}
"""The least and the greatest step in percent of the instances."""

BATCH = 25 * PERCENT
"""What a rolling update changes at a time where nothing is said: four batches."""


def refusals(asked: Deployment, seen: Deployment | None, rollout: RolloutWish) -> Iterator[Refusal]:
    """Yield what SageMaker can't do of an update as `rollout` says."""
    if rollout.strategy not in GUARDED:
        return
    if asked.kind is Kind.SERVERLESS:
        why = "SageMaker would switch a serverless endpoint all at once, without a way back: use all_at_once"
        yield Refusal("rollout.strategy", why, EXCLUSIONS)
        return
    machine = [each for served in asked.revisions for each in served.revision.content.machine]
    if any(each.startswith("ml.inf1.") for each in machine):
        why = "SageMaker switches all at once, without bake time, where a machine is ml.inf1: use all_at_once"
        yield Refusal("rollout.strategy", why, EXCLUSIONS)
    if asked.candidate or (seen and len(seen.revisions) > 1 and _is_new(asked, seen)):
        why = "SageMaker goes in steps only where the variants stay the same, and there are two: promote or abort first"
        yield Refusal("rollout.strategy", why, EXCLUSIONS)
    yield from _wait_refusals(rollout)
    yield from _step_refusals(rollout)


def _is_new(asked: Deployment, seen: Deployment) -> bool:
    there = {each.revision.id for each in seen.revisions}
    return any(each.revision.id not in there for each in asked.revisions)


def _wait_refusals(rollout: RolloutWish) -> Iterator[Refusal]:
    for path, wait in (("rollout.bake_time", rollout.bake_time), ("rollout.interval", rollout.interval)):
        if wait > LONGEST_WAIT:
            yield Refusal(path, "SageMaker takes 1h at most", ROUTING)
        elif wait % timedelta(seconds=1):
            yield Refusal(path, "SageMaker takes whole seconds", ROUTING)
    if _waits(rollout) > LONGEST_UPDATE - SETTLING and max(rollout.bake_time, rollout.interval) <= LONGEST_WAIT:
        why = "an update of SageMaker takes 8h at most, its waits included"
        yield Refusal("rollout.interval", why, ROLLING if rollout.strategy == "rolling" else BLUE_GREEN)


def _step_refusals(rollout: RolloutWish) -> Iterator[Refusal]:
    if rollout.strategy not in BOUNDS:
        return
    if rollout.strategy != "rolling" and not rollout.steps:
        yield Refusal("rollout.steps", f"a {rollout.strategy} needs a step", ROUTING)
        return
    if rollout.strategy == "canary" and len(set(rollout.steps) - {WHOLE}) > 1:
        why = "a canary of SageMaker has one step, and then the rest: write one, or use driver: weights"
        yield Refusal("rollout.steps", why, ROUTING)
        return
    size = _size(rollout)
    if rollout.strategy == "linear" and list(rollout.steps) != _even(size)[: len(rollout.steps)]:
        why = "SageMaker's linear steps are all as large as the first: write even ones, or use driver: weights"
        yield Refusal("rollout.steps", why, ROUTING)
        return
    least, most = BOUNDS[rollout.strategy]
    if size % PERCENT or not least * PERCENT <= size <= most * PERCENT:
        what = {"canary": "a canary", "linear": "a linear step", "rolling": "a batch"}[rollout.strategy]
        why = f"{what} of SageMaker is {least} % to {most} % of the instances, in whole percents"
        yield Refusal("rollout.steps", why, ROLLING if rollout.strategy == "rolling" else ROUTING)


def _size(rollout: RolloutWish) -> int:
    """Return the first step, in basis points."""
    return rollout.steps[0] if rollout.steps else BATCH


def _even(size: int) -> list[int]:
    return [min(WHOLE, number * size) for number in range(1, -(-WHOLE // size) + 1)] if size > 0 else []


def _wait(rollout: RolloutWish) -> timedelta:
    """Return how long SageMaker waits after each step: it has one time for all, the last step's bake included."""
    return rollout.bake_time if rollout.strategy == "blue_green" else max(rollout.interval, rollout.bake_time)


def _waits(rollout: RolloutWish) -> timedelta:
    """Return how long all waits of an update take together."""
    match rollout.strategy:
        case "blue_green":
            return _wait(rollout)
        case "canary":
            return 2 * _wait(rollout)
        case _:
            return len(_even(_size(rollout))) * _wait(rollout)


def expected(rollout: RolloutWish) -> timedelta:
    """Return how long an update takes besides starting instances."""
    return _waits(rollout) if rollout.strategy in GUARDED else timedelta(0)


def deployment_config(rollout: RolloutWish) -> dict[str, Any]:
    """Return the DeploymentConfig of an update that SageMaker carries out as `rollout`, one of GUARDED, says.

    Shares are percents of the instances there, and traffic follows them: one instance of four is a quarter.
    """
    wait = round(_wait(rollout).total_seconds())
    limit = round((_waits(rollout) + SETTLING).total_seconds())
    if rollout.strategy == "rolling":
        batch = {"MaximumBatchSize": _capacity(_size(rollout)), "WaitIntervalInSeconds": wait}
        return {"RollingUpdatePolicy": {**batch, "MaximumExecutionTimeoutInSeconds": limit}}
    routing: dict[str, Any] = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": wait}
    if rollout.strategy == "canary":
        routing |= {"Type": "CANARY", "CanarySize": _capacity(_size(rollout))}
    elif rollout.strategy == "linear":
        routing |= {"Type": "LINEAR", "LinearStepSize": _capacity(_size(rollout))}
    return {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": routing,
            "TerminationWaitInSeconds": 0,
            "MaximumExecutionTimeoutInSeconds": limit,
        }
    }


def _capacity(size: int) -> dict[str, Any]:
    return {"Type": "CAPACITY_PERCENT", "Value": size // PERCENT}
