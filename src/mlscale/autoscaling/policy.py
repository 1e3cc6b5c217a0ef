"""How many replicas a scaling policy wants now; pure, with the semantics of AWS Application Auto Scaling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo

from mlscale.deployment import WHOLE, Deployment, Metric, Role, Scaling, ScheduledBounds, StepPolicy, TargetPolicy

SCALE_IN_AT = 0.9
"""Scale in only when the metric would stay under this share of its target.

Source: the low alarm of a target tracking policy stands at 0.9 of its target (AWS, "Target tracking scaling
policies for Application Auto Scaling").
"""


@dataclass(frozen=True, slots=True)
class Window:
    """What was measured of one revision over the last window.

    `replicas` are those that run, `requests_per_minute` and `open_requests` totals of the revision, `cpu_percent` the
    mean over replicas of one core's percent, None if nobody measures it. `is_whole` is False while the revision has had
    its traffic for less than the window: what was counted is then too little to remove replicas by.
    """

    replicas: int
    requests_per_minute: float
    open_requests: float
    cpu_percent: float | None
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class Memory:
    """When a policy last acted, for its cooldowns; None is never."""

    last_out: datetime | None = None
    last_in: datetime | None = None


def desired_replicas(scaling: Scaling, window: Window, memory: Memory, now: datetime) -> tuple[int, Memory, str]:
    """Return the count that `scaling` wants at `now`, what to remember, and the reason in words.

    Bounds hold at once, whatever the cooldowns. Out: the largest wish wins, after that policy's cooldown since the
    last scale-out. In: the largest wish wins too, every target must want fewer or be met by as many, and the
    policy's cooldown since anything happened must be over. A metric without data removes nothing.
    """
    low, high = effective_bounds(scaling, now)
    current = window.replicas
    if not low <= current <= high:
        return max(low, min(high, current)), memory, f"bounds {low} to {high}"
    out = [wish for wish in _out_wishes(scaling, window, memory, now) if wish[0] > current]
    if out and current == high:
        return current, memory, f"{max(out)[1]}: at the maximum of {high}"
    if out:
        count, reason = max(out)
        return min(high, count), replace(memory, last_out=now), reason
    wish = _in_wish(scaling, window, memory, now)
    if wish is None or max(low, wish[0]) >= current:
        return current, memory, "as it is"
    return max(low, wish[0]), replace(memory, last_in=now), wish[1]


def starting_replicas(scaling: Scaling, seen: Deployment | None) -> int:
    """Return how many replicas a new revision starts with: what autoscaling has set for the traffic, in bounds.

    The bounds are the widest that the schedule ever gives: it is not for a takeover to undo them. Where two revisions
    share the traffic, each may have been scaled to its part of it, so what both have together is needed; and no more
    than the stable one's count means for all, because a run that was cut off may have given the candidate more already.
    A shadow answers nobody.
    """
    serving = [each for each in seen.revisions if each.share and each.role is not Role.SHADOW] if seen else []
    carrying = sum(each.live.desired for each in serving if each.live)
    for each in serving:
        if each.role is Role.STABLE and each.live:
            carrying = min(carrying, math.ceil(each.live.desired * WHOLE / each.share))
    most = max(scaling.max, *(each.max or each.min or 0 for each in scaling.schedule), 0)
    return max(scaling.min, min(most, carrying))


def candidate_replicas(scaling: Scaling, seen: Deployment | None, share: int) -> int:
    """Return how many replicas a candidate needs for `share` basis points of what is served now; one at least."""
    return max(1, math.ceil(starting_replicas(scaling, seen) * share / WHOLE))


def effective_bounds(scaling: Scaling, now: datetime) -> tuple[int, int]:
    """Return the least and the greatest count at `now`: the schedule entry that fired last, else the spec's own.

    An entry stays until another one fires; of two at the same time the later in the list holds.
    """
    fired = [
        (when, number, entry)
        for number, entry in enumerate(scaling.schedule)
        if (when := _last_time(entry, now)) is not None
    ]
    if not fired:
        return scaling.min, scaling.max
    entry = max(fired, key=lambda each: each[:2])[2]
    low = scaling.min if entry.min is None else entry.min
    high = scaling.max if entry.max is None else entry.max
    if entry.min is None:
        low = min(low, high)
    return low, max(low, high)


def _last_time(entry: ScheduledBounds, now: datetime) -> datetime | None:
    from croniter import CroniterBadDateError, croniter

    # get_prev is strictly before: the second after `now`'s own finds an entry that fires this very second.
    second_after = now.replace(microsecond=0) + timedelta(seconds=1)
    try:
        last: datetime = croniter(entry.cron, second_after.astimezone(_zone(entry.timezone))).get_prev(datetime)
    except CroniterBadDateError:
        return None
    return last.astimezone(UTC)


def _zone(name: str) -> tzinfo:
    from zoneinfo import ZoneInfo

    # A slim container has no time zone files, and UTC needs none.
    return UTC if name == "UTC" else ZoneInfo(name)


def _out_wishes(scaling: Scaling, window: Window, memory: Memory, now: datetime) -> Iterator[tuple[int, str]]:
    for policy in scaling.target:
        total = _total(policy.metric, window)
        if total is not None and _passed(memory.last_out, policy.scale_out_cooldown, now):
            yield _needed(total, policy.value), _reason(policy, total, window)
    for step in scaling.steps:
        if step.add > 0 and _is_met(step, window) and _passed(memory.last_out, step.cooldown, now):
            yield window.replicas + step.add, _step_reason(step)


def _in_wish(scaling: Scaling, window: Window, memory: Memory, now: datetime) -> tuple[int, str] | None:
    """Return the largest of the smaller counts that policies want, None if nobody wants fewer or somebody rests."""
    if not window.is_whole:
        return None
    wishes = []
    least = 0
    for policy in scaling.target:
        total = _total(policy.metric, window)
        if total is None or not _is_rested(memory, policy.scale_in_cooldown, now):
            return None
        least = max(least, _needed(total, policy.value))
        wishes.append((_needed(total, policy.value * SCALE_IN_AT), _reason(policy, total, window)))
    targets_agree = bool(wishes) and max(wishes)[0] < window.replicas
    removals = [
        (max(least, window.replicas + step.add), _step_reason(step))
        for step in scaling.steps
        if step.add < 0 and _is_met(step, window) and _is_rested(memory, step.cooldown, now)
    ]
    return max((*(wishes if targets_agree else ()), *removals), default=None)


def _total(metric: Metric, window: Window) -> float | None:
    match metric:
        case Metric.INVOCATIONS_PER_REPLICA:
            return window.requests_per_minute
        case Metric.CONCURRENCY:
            return window.open_requests
        case Metric.CPU:
            return None if window.cpu_percent is None else window.cpu_percent * window.replicas
        case Metric.GPU | Metric.QUEUE_DEPTH | Metric.CUSTOM:
            return None


def _is_met(step: StepPolicy, window: Window) -> bool:
    total = _total(step.metric, window)
    if total is None or not window.replicas:
        return False
    each = total / window.replicas
    return (step.above is not None and each > step.above) or (step.below is not None and each < step.below)


def _needed(total: float, value: float) -> int:
    # Rounded first: 0.3 / 0.1 is a little more than 3, and must not ask for a fourth replica.
    return math.ceil(round(total / value, 9))


def _reason(policy: TargetPolicy, total: float, window: Window) -> str:
    return f"{policy.metric} {total / max(1, window.replicas):.4g} a replica, target {policy.value:g}"


def _step_reason(step: StepPolicy) -> str:
    bound = f"above {step.above:g}" if step.above is not None else f"below {step.below:g}"
    return f"{step.metric} {bound}: {step.add:+d}"


def _is_rested(memory: Memory, cooldown: timedelta, now: datetime) -> bool:
    return _passed(memory.last_out, cooldown, now) and _passed(memory.last_in, cooldown, now)


def _passed(last: datetime | None, cooldown: timedelta, now: datetime) -> bool:
    # A clock that was set back must not stop scaling until it has caught up.
    return last is None or now < last or now - last >= cooldown
