"""How many replicas a scaling policy wants now; pure, with the semantics of AWS Application Auto Scaling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from mlscale.deployment import Metric, Scaling, ScheduledBounds, StepPolicy, TargetPolicy

SCALE_IN_AT = 0.9
"""Scale in only when the metric would stay under this share of its target.

Source: a target tracking policy's low alarm stands at 0.9 of the target (facts of the AWS documentation,
"Target tracking scaling policies for Application Auto Scaling").
"""

SCHEDULE_MEMORY = timedelta(days=8)
"""How far back a schedule's last time is looked for: a weekly entry must be found."""


@dataclass(frozen=True, slots=True)
class Window:
    """What was measured of one revision over the last window.

    `replicas` are those that run, `requests_per_minute` and `open_requests` totals of the revision, `cpu_percent` the
    mean over replicas of one core's percent, None if nobody measures it.
    """

    replicas: int
    requests_per_minute: float
    open_requests: float
    cpu_percent: float | None


@dataclass(frozen=True, slots=True)
class Memory:
    """When a policy last acted, for its cooldowns; None is never."""

    last_out: datetime | None = None
    last_in: datetime | None = None


def desired_replicas(scaling: Scaling, window: Window, memory: Memory, now: datetime) -> tuple[int, Memory, str]:
    """Return the count that `scaling` wants at `now`, what to remember, and the reason in words.

    Bounds hold at once. Out: the largest wish wins, after that policy's cooldown. In: only when every target wants
    fewer, after the longest scale-in cooldown since anything happened.
    """
    low, high = effective_bounds(scaling, now)
    current = window.replicas
    if not low <= current <= high:
        return max(low, min(high, current)), memory, f"bounds {low} to {high}"
    out = [wish for wish in _out_wishes(scaling, window, memory, now) if wish[0] > current]
    if out:
        count, reason = max(out)
        return min(high, count), replace(memory, last_out=now) if high > current else memory, reason
    count, reason = _in_wish(scaling, window, memory, now)
    count = max(low, count)
    if count < current:
        return count, replace(memory, last_in=now), reason
    return current, memory, "as it is"


def effective_bounds(scaling: Scaling, now: datetime) -> tuple[int, int]:
    """Return the least and the greatest count at `now`: the schedule entry that fired last, else the spec's own."""
    fired = [(when, entry) for entry in scaling.schedule if (when := _last_time(entry, now))]
    if not fired:
        return scaling.min, scaling.max
    entry = max(fired, key=lambda each: each[0])[1]
    low = scaling.min if entry.min is None else entry.min
    high = scaling.max if entry.max is None else entry.max
    return low, max(low, high)


def _last_time(entry: ScheduledBounds, now: datetime) -> datetime | None:
    from zoneinfo import ZoneInfo

    from croniter import croniter

    local = now.astimezone(ZoneInfo(entry.timezone))
    last: datetime = croniter(entry.cron, local + timedelta(seconds=1)).get_prev(datetime)
    return last.astimezone(UTC) if now - last <= SCHEDULE_MEMORY else None


def _out_wishes(scaling: Scaling, window: Window, memory: Memory, now: datetime) -> Iterator[tuple[int, str]]:
    for policy in scaling.target:
        total = _total(policy.metric, window)
        if total is not None and _passed(memory.last_out, policy.scale_out_cooldown, now):
            yield _needed(total, policy.value), _reason(policy, total, window)
    for step in scaling.steps:
        if step.add > 0 and _is_met(step, window) and _passed(memory.last_out, step.cooldown, now):
            yield window.replicas + step.add, f"{step.metric} asks for {step.add:+d}"


def _in_wish(scaling: Scaling, window: Window, memory: Memory, now: datetime) -> tuple[int, str]:
    wishes = []
    for policy in scaling.target:
        total = _total(policy.metric, window)
        rested = all(_passed(last, policy.scale_in_cooldown, now) for last in (memory.last_out, memory.last_in))
        if total is None or not rested:
            return window.replicas, "cooldown"
        wishes.append((_needed(total, policy.value * SCALE_IN_AT), _reason(policy, total, window)))
    for step in scaling.steps:
        rested = all(_passed(last, step.cooldown, now) for last in (memory.last_out, memory.last_in))
        if step.add < 0 and rested and _is_met(step, window) and not scaling.target:
            wishes.append((window.replicas + step.add, f"{step.metric} asks for {step.add:+d}"))
    return max(wishes, default=(window.replicas, "no policy"))


def _total(metric: Metric, window: Window) -> float | None:
    match metric:
        case Metric.INVOCATIONS_PER_REPLICA:
            return window.requests_per_minute
        case Metric.CONCURRENCY:
            return window.open_requests
        case Metric.CPU:
            return None if window.cpu_percent is None else window.cpu_percent * window.replicas


def _is_met(step: StepPolicy, window: Window) -> bool:
    total = _total(step.metric, window)
    if total is None or not window.replicas:
        return False
    each = total / window.replicas
    return (step.above is not None and each > step.above) or (step.below is not None and each < step.below)


def _needed(total: float, value: float) -> int:
    return math.ceil(round(total / value, 9))


def _reason(policy: TargetPolicy, total: float, window: Window) -> str:
    return f"{policy.metric} {total / max(1, window.replicas):.4g} a replica, target {policy.value:g}"


def _passed(last: datetime | None, cooldown: timedelta, now: datetime) -> bool:
    return last is None or now - last >= cooldown
