"""Times of cron in Application Auto Scaling's six fields: what they mean, and what is read back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from mlscale.providers.sagemaker import schedules

FIELDS = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 7)}
NAMES = ("SUN", "mon", "TUE", "Wed", "THU", "FRI", "SAT", "sun")


def _parts(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    step = st.integers(1, max(1, (high - low) // 2))
    part = st.one_of(
        number.map(str),
        st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}"),
        step.map(lambda each: f"*/{each}"),
        st.tuples(number, number, step).map(lambda each: f"{min(each[:2])}-{max(each[:2])}/{each[2]}"),
    )
    return st.lists(part, min_size=1, max_size=3).map(",".join)


@st.composite
def crons(draw: st.DrawFn) -> str:
    """Times of cron that AWS can hold, in any writing."""
    minute, hour, day, month, weekday = (draw(st.just("*") | _parts(*span)) for span in FIELDS.values())
    weekday = draw(st.sampled_from((weekday, draw(st.sampled_from(NAMES)), "MON-FRI", "FRI-MON", "TUE#2")))
    if draw(st.booleans()):
        weekday = "*"
        day = draw(st.sampled_from((day, "L")))
    else:
        day = "*"
    return draw(st.sampled_from((" ", "  "))).join((minute, hour, day, month, weekday))


@pytest.mark.parametrize(
    ("cron", "canonical", "cloud"),
    [
        ("0 8 * * MON-FRI", "0 8 * * MON-FRI", "cron(0 8 ? * MON-FRI *)"),
        ("0  8 * * 1-5", "0 8 * * MON-FRI", "cron(0 8 ? * MON-FRI *)"),
        ("0 8 ? * mon,tue", "0 8 * * MON,TUE", "cron(0 8 ? * MON,TUE *)"),
        ("0 8 * * 7", "0 8 * * SUN", "cron(0 8 ? * SUN *)"),
        ("0 8 * * 5-7", "0 8 * * SUN,FRI,SAT", "cron(0 8 ? * SUN,FRI,SAT *)"),
        ("*/15 * * * *", "0,15,30,45 * * * *", "cron(0,15,30,45 * * * ? *)"),
        ("0 0 1 */6 *", "0 0 1 1,7 *", "cron(0 0 1 1,7 ? *)"),
        ("0 0 l jan *", "0 0 L 1 *", "cron(0 0 L 1 ? *)"),
        ("0 8 * * mon#2", "0 8 * * MON#2", "cron(0 8 ? * 2#2 *)"),
        ("0-59 0-23 1-31 1-12 *", "* * * * *", "cron(* * * * ? *)"),
    ],
)
def test_cron_of_five_fields_becomes_that_of_six(cron: str, canonical: str, cloud: str) -> None:
    """A week begins with Sunday, one field of days is a question mark, and back comes the one canonical form."""
    assert (schedules.canonical(cron), schedules.in_the_cloud(cron)) == (canonical, cloud)
    assert schedules.from_the_cloud(cloud) == canonical


@pytest.mark.parametrize(
    "cloud",
    [
        "rate(1 day)",
        "at(2026-06-03T12:00:00)",
        "cron(0 8 ? * 2-6 *)",
        "cron(0/15 * * * ? *)",
        "cron(0 8 * * ? 2026)",
        "cron(0 8 ? * MON#9 *)",
        "cron(x 8 ? * MON *)",
        "cron(0 8 15W * ? *)",
        "cron(99 8 * * ? *)",
    ],
)
def test_a_time_that_we_would_not_write_is_not_read(cloud: str) -> None:
    """What somebody wrote by hand is a difference, even if it means the same."""
    assert schedules.from_the_cloud(cloud) is None


@settings(deadline=None)
@given(crons(), st.lists(st.datetimes(datetime(2026, 1, 1), datetime(2029, 1, 1)), min_size=5, max_size=20))  # noqa: DTZ001 - a time of day, in whatever zone
def test_the_cloud_means_the_same_times(cron: str, times: list[datetime]) -> None:
    """Both forms that we write name the moments that the spec's own text does, as AWS's page reads the one for AWS."""
    from croniter import CroniterBadDateError, croniter

    canonical, cloud = schedules.canonical(cron), schedules.in_the_cloud(cron)
    try:
        times = [*times, croniter(cron, times[0]).get_next(datetime)]
    except CroniterBadDateError:
        reject()

    for time in times:
        minute = time.replace(second=0, microsecond=0)
        expected = croniter.match(cron, minute)
        assert (croniter.match(canonical, minute), comes(cloud, minute)) == (expected, expected)
    assert schedules.from_the_cloud(cloud) == canonical


def comes(cloud: str, time: datetime) -> bool:
    """Return whether AWS's cron names `time`, read as "Cron expressions reference" says and by nothing of ours."""
    minute, hour, day, month, weekday, year = cloud.removeprefix("cron(").removesuffix(")").split()
    assert (year, (day, weekday).count("?")) == ("*", 1)
    week = {name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"), start=1)}
    today = time.isoweekday() % 7 + 1
    if day == "L":
        is_day = (time + timedelta(days=1)).month != time.month
    elif "#" in weekday:
        is_day = weekday == f"{today}#{(time.day + 6) // 7}"
    else:
        is_day = day == "?" or _named(day, time.day, {})
        is_day = is_day and (weekday == "?" or _named(weekday, today, week))
    return is_day and all(
        _named(text, value, {}) for text, value in ((minute, time.minute), (hour, time.hour), (month, time.month))
    )


def _named(text: str, value: int, names: Mapping[str, int]) -> bool:
    if text == "*":
        return True
    for part in text.split(","):
        ends = [names.get(end) or int(end) for end in part.split("-")]
        if ends[0] <= value <= ends[-1]:
            return True
    return False
