"""What a scaling policy wants: bounds, targets, steps, cooldowns, schedules."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlscale.autoscaling.policy import Memory, Window, desired_replicas, effective_bounds
from mlscale.deployment import Metric, Scaling, ScheduledBounds, StepPolicy, TargetPolicy

NOON = datetime(2026, 6, 3, 12, 0, tzinfo=UTC)  # a Wednesday
PER_REPLICA = TargetPolicy(Metric.INVOCATIONS_PER_REPLICA, 600.0)
TRACKED = Scaling(min=1, max=10, target=(PER_REPLICA,))


def a_window(replicas: int, per_minute: float = 0.0, open_requests: float = 0.0, cpu: float | None = None) -> Window:
    """Return a window with only what the test names."""
    return Window(replicas, per_minute, open_requests, cpu)


def test_target_scales_out_to_what_the_total_needs() -> None:
    """2,500 requests a minute at 600 a replica need five replicas, at once."""
    count, memory, reason = desired_replicas(TRACKED, a_window(2, per_minute=2500), Memory(), NOON)

    assert (count, memory) == (5, Memory(last_out=NOON))
    assert reason == "invocations_per_replica 1250 a replica, target 600"


def test_scale_out_waits_for_its_cooldown() -> None:
    """29 s after a scale-out nothing is added, after 30 s it is."""
    window = a_window(2, per_minute=2500)

    early = desired_replicas(TRACKED, window, Memory(last_out=NOON - timedelta(seconds=29)), NOON)
    late = desired_replicas(TRACKED, window, Memory(last_out=NOON - timedelta(seconds=30)), NOON)

    assert (early[0], late[0]) == (2, 5)


def test_scale_in_does_not_delay_scale_out() -> None:
    """Replicas removed a second ago come back as soon as they are needed."""
    just_removed = Memory(last_in=NOON - timedelta(seconds=1))

    assert desired_replicas(TRACKED, a_window(2, per_minute=2500), just_removed, NOON)[0] == 5


def test_scale_in_keeps_a_tenth_in_hand() -> None:
    """1,150 a minute would fit two replicas of 600, but not at 0.9 of the target, so three stay."""
    stays = desired_replicas(TRACKED, a_window(3, per_minute=1150), Memory(), NOON)
    goes = desired_replicas(TRACKED, a_window(3, per_minute=1080), Memory(), NOON)

    assert (stays[0], goes[0]) == (3, 2)


@pytest.mark.parametrize("memory", [Memory(last_out=NOON), Memory(last_in=NOON)])
def test_scale_in_rests_after_any_activity(memory: Memory) -> None:
    """Nothing is removed for five minutes after replicas were added, or removed."""
    window = a_window(5, per_minute=60)

    early = desired_replicas(TRACKED, window, memory, NOON + timedelta(seconds=299))
    late = desired_replicas(TRACKED, window, memory, NOON + timedelta(seconds=300))

    assert (early[0], late[0]) == (5, 1)


def test_largest_wish_wins() -> None:
    """A quiet metric does not hold back a busy one, and the busiest decides how far."""
    scaling = replace(TRACKED, target=(PER_REPLICA, TargetPolicy(Metric.CONCURRENCY, 2.0)))

    assert desired_replicas(scaling, a_window(3, per_minute=2400, open_requests=14), Memory(), NOON)[0] == 7
    assert desired_replicas(scaling, a_window(3, per_minute=60, open_requests=5), Memory(), NOON)[0] == 3


def test_no_data_removes_nothing() -> None:
    """While a target's metric is not measured, replicas stay."""
    scaling = replace(TRACKED, target=(PER_REPLICA, TargetPolicy(Metric.CPU, 70.0)))

    assert desired_replicas(scaling, a_window(4, per_minute=0, cpu=None), Memory(), NOON)[0] == 4


def test_a_window_that_is_not_whole_removes_nothing() -> None:
    """Before a whole window was measured replicas are added, but none is removed; bounds hold all the same."""
    scaling = replace(TRACKED, steps=(StepPolicy(Metric.CONCURRENCY, -1, below=1.0),))
    begun = replace(a_window(4, per_minute=10), is_whole=False)

    assert desired_replicas(scaling, begun, Memory(), NOON)[0] == 4
    assert desired_replicas(scaling, replace(begun, requests_per_minute=3000), Memory(), NOON)[0] == 5
    assert desired_replicas(scaling, replace(begun, replicas=20), Memory(), NOON)[0] == 10


def test_no_traffic_goes_down_to_the_minimum() -> None:
    """Without requests only `min` replicas stay."""
    assert desired_replicas(replace(TRACKED, min=2), a_window(9), Memory(), NOON)[0] == 2


def test_maximum_holds_and_is_said() -> None:
    """A wish above max is cut to it, and at max nothing is remembered as an activity."""
    busy = a_window(10, per_minute=60_000)

    assert desired_replicas(TRACKED, replace(busy, replicas=4), Memory(), NOON)[0] == 10
    count, memory, reason = desired_replicas(TRACKED, busy, Memory(), NOON)
    assert (count, memory) == (10, Memory())
    assert reason.endswith("at the maximum of 10")


@pytest.mark.parametrize(("running", "expected"), [(1, 3), (0, 3), (20, 8)])
def test_bounds_hold_despite_cooldowns(running: int, expected: int) -> None:
    """A count out of bounds is corrected at once."""
    resting = Memory(last_out=NOON, last_in=NOON)

    assert desired_replicas(Scaling(min=3, max=8), a_window(running), resting, NOON)[0] == expected


@pytest.mark.parametrize(("cpu", "expected"), [(85.0, 4), (85.1, 6), (95.1, 9)])
def test_steps_add_beyond_their_bound(cpu: float, expected: int) -> None:
    """A step acts above its bound, not at it; of two that are met the larger counts."""
    steps = (StepPolicy(Metric.CPU, 2, above=85.0), StepPolicy(Metric.CPU, 5, above=95.0))

    assert desired_replicas(Scaling(min=1, max=10, steps=steps), a_window(4, cpu=cpu), Memory(), NOON)[0] == expected


def test_step_has_its_own_cooldown() -> None:
    """A step that has acted waits for its cooldown."""
    scaling = Scaling(min=1, max=10, steps=(StepPolicy(Metric.CPU, 2, above=85.0, cooldown=timedelta(minutes=2)),))
    window = a_window(4, cpu=99.0)

    early = desired_replicas(scaling, window, Memory(last_out=NOON), NOON + timedelta(seconds=119))
    late = desired_replicas(scaling, window, Memory(last_out=NOON), NOON + timedelta(seconds=120))

    assert (early[0], late[0]) == (4, 6)


def test_step_removes_no_replica_that_a_target_needs() -> None:
    """A step that removes stops where a target would add again."""
    idle_cpu = StepPolicy(Metric.CPU, -3, below=20.0)
    scaling = replace(TRACKED, steps=(idle_cpu,))

    assert desired_replicas(scaling, a_window(5, per_minute=2300, cpu=5.0), Memory(), NOON)[0] == 4
    assert desired_replicas(scaling, a_window(5, per_minute=2500, cpu=5.0), Memory(), NOON)[0] == 5


def test_step_removes_without_targets() -> None:
    """A removing step works alone, down to the minimum."""
    scaling = Scaling(min=2, max=10, steps=(StepPolicy(Metric.CONCURRENCY, -4, below=1.0),))

    assert desired_replicas(scaling, a_window(4, open_requests=0.5), Memory(), NOON)[0] == 2


def test_clock_set_back_stops_nothing() -> None:
    """An activity that lies in the future, because the clock was set back, is no cooldown."""
    tomorrow = Memory(last_out=NOON + timedelta(days=1))

    assert desired_replicas(TRACKED, a_window(2, per_minute=2500), tomorrow, NOON)[0] == 5


MORNINGS = ScheduledBounds("0 8 * * MON-FRI", "Europe/Berlin", min=4)
EVENINGS = ScheduledBounds("0 20 * * *", "Europe/Berlin", min=1, max=2)
SCHEDULED = Scaling(min=2, max=6, schedule=(MORNINGS, EVENINGS))


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (datetime(2026, 6, 3, 5, 59, 59, 999_999, tzinfo=UTC), (1, 2)),
        (datetime(2026, 6, 3, 6, 0, tzinfo=UTC), (4, 6)),
        (datetime(2026, 6, 3, 6, 0, 0, 1, tzinfo=UTC), (4, 6)),
        (datetime(2026, 6, 3, 17, 59, 59, tzinfo=UTC), (4, 6)),
        (datetime(2026, 6, 3, 18, 0, tzinfo=UTC), (1, 2)),
        (datetime(2026, 6, 6, 12, 0, tzinfo=UTC), (1, 2)),  # Saturday: Friday's evening still holds
        (datetime(2026, 12, 2, 6, 30, tzinfo=UTC), (1, 2)),  # in winter Berlin's 8 o'clock is 7 UTC
        (datetime(2026, 12, 2, 7, 0, tzinfo=UTC), (4, 6)),
    ],
)
def test_last_entry_that_fired_holds(now: datetime, expected: tuple[int, int]) -> None:
    """Bounds change to the second with the schedule, in its time zone, summer and winter."""
    assert effective_bounds(SCHEDULED, now) == expected


def test_later_entry_holds_at_the_same_time() -> None:
    """Of two entries that fire together the later one in the list holds."""
    twice = (ScheduledBounds("0 8 * * *", min=3), ScheduledBounds("0 8 * * *", min=5))

    assert effective_bounds(Scaling(min=1, max=9, schedule=twice), NOON) == (5, 9)


def test_monthly_entry_holds_all_month() -> None:
    """An entry stays until the next one, however long that is."""
    monthly = Scaling(min=1, max=9, schedule=(ScheduledBounds("0 0 1 * *", min=3),))

    assert effective_bounds(monthly, datetime(2026, 6, 30, tzinfo=UTC)) == (3, 9)


def test_entry_that_never_comes_changes_nothing() -> None:
    """The 30th of February leaves the spec's own bounds."""
    never = Scaling(min=1, max=9, schedule=(ScheduledBounds("0 0 30 2 *", min=3),))

    assert effective_bounds(never, NOON) == (1, 9)


def test_scheduled_bound_moves_the_other_one_along() -> None:
    """A scheduled max below the spec's min lowers min, a scheduled min above its max raises max."""
    lowered = Scaling(min=4, max=6, schedule=(ScheduledBounds("0 8 * * *", max=2),))
    raised = Scaling(min=1, max=2, schedule=(ScheduledBounds("0 8 * * *", min=5),))

    assert effective_bounds(lowered, NOON) == (2, 2)
    assert effective_bounds(raised, NOON) == (5, 5)


@given(
    low=st.integers(1, 20),
    more=st.integers(0, 20),
    running=st.integers(0, 60),
    per_minute=st.floats(0, 1e7),
    open_requests=st.floats(0, 1e5),
    cpu=st.none() | st.floats(0, 1e4),
    last=st.none() | st.integers(0, 600),
)
def test_count_is_always_in_bounds(
    low: int, more: int, running: int, per_minute: float, open_requests: float, cpu: float | None, last: int | None
) -> None:
    """Whatever was measured, the count lies between min and max."""
    scaling = Scaling(
        min=low,
        max=low + more,
        target=(PER_REPLICA, TargetPolicy(Metric.CONCURRENCY, 0.1)),
        steps=(StepPolicy(Metric.CPU, 7, above=85.0), StepPolicy(Metric.CPU, -7, below=10.0)),
    )
    memory = Memory(last_out=None if last is None else NOON - timedelta(seconds=last))

    count, _, reason = desired_replicas(scaling, Window(running, per_minute, open_requests, cpu), memory, NOON)

    assert low <= count <= low + more
    assert reason
