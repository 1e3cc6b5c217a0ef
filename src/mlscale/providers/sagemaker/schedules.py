"""Times of cron, five fields as the spec has them, in the six of Application Auto Scaling, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import TypeAlias

_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_SHORTEST_RANGE = 3
_CLOUD = re.compile(r"cron\((\S+) (\S+) (\S+) (\S+) (\S+) \*\)")

_Field: TypeAlias = Sequence[int | str]


def canonical(cron: str) -> str:
    """Return `cron` in the one form that is read back: lists and ranges only, days of the week by name.

    What AWS can't hold comes back as it is. What a field means is croniter's to say, by which schedules go on this
    machine too.
    """
    fields, nth = _expanded(cron)
    if _problem(fields, nth):
        return cron
    minute, hour, day, month = (
        _text(field, low, high) for field, (low, high) in zip(fields[:4], _RANGES[:4], strict=True)
    )
    return f"{minute} {hour} {day} {month} {_weekdays(fields[4], nth)}"


def in_the_cloud(cron: str) -> str:
    """Return `cron` as Application Auto Scaling writes it: 0 8 * * MON-FRI → cron(0 8 ? * MON-FRI *).

    Source: "Cron expressions reference" (Amazon EventBridge), which Application Auto Scaling's page on schedules names:
    one of the two fields for days is `?`, and a week begins with SUN, which is 1.
    """
    minute, hour, day, month, weekday = canonical(cron).split()
    if "#" in weekday:
        name, number = weekday.split("#")
        weekday = f"{_DAYS.index(name) + 1}#{number}"
    if weekday == "*":
        weekday = "?"
    else:
        day = "?"
    return f"cron({minute} {hour} {day} {month} {weekday} *)"


def from_the_cloud(schedule: str) -> str | None:
    """Return the five fields of what `in_the_cloud` made; None of anything else."""
    found = _CLOUD.fullmatch(schedule)
    if found is None:
        return None
    minute, hour, day, month, weekday = ("*" if field == "?" else field for field in found.groups())
    if "#" in weekday and weekday[0] in "1234567":
        weekday = f"{_DAYS[int(weekday[0]) - 1]}{weekday[1:]}"
    cron = f"{minute} {hour} {day} {month} {weekday}"
    try:
        is_ours = not problem(cron) and in_the_cloud(cron) == schedule
    except (ValueError, LookupError, ArithmeticError, AttributeError, TypeError):
        # What somebody wrote by hand may be no time at all, and croniter's parser has many ways to say so.
        return None
    return cron if is_ours else None


def problem(cron: str) -> str:
    """Return why Application Auto Scaling can't hold `cron`; empty if it can."""
    return _problem(*_expanded(cron))


def coincide(one: str, other: str) -> bool:
    """Return whether two times of cron in the same time zone can name the same moment."""
    (first, first_nth), (second, second_nth) = _expanded(one), _expanded(other)
    met = [_meet(*pair) for pair in zip(first, second, strict=True)]
    if first_nth and second_nth and first_nth != second_nth:
        return False
    return all(met)


@lru_cache
def _expanded(cron: str) -> tuple[Sequence[_Field], Mapping[int, AbstractSet[int | str]]]:
    from croniter import croniter

    fields, nth = croniter.expand(cron)
    return tuple(tuple(field) for field in fields), {int(weekday): numbers for weekday, numbers in nth.items()}


def _problem(fields: Sequence[_Field], nth: Mapping[int, AbstractSet[int | str]]) -> str:
    day, weekday = fields[2], fields[4]
    if list(day) != ["*"] and list(weekday) != ["*"]:
        return "it restricts the day of the month and the day of the week, and AWS takes one of the two"
    if "l" in day and len(day) > 1:
        return "AWS takes L alone, without other days"
    if nth and (len(weekday) != 1 or sum(len(numbers) for numbers in nth.values()) != 1):
        return "AWS takes one day with # and no other beside it"
    return ""


def _weekdays(field: _Field, nth: Mapping[int, AbstractSet[int | str]]) -> str:
    for weekday, numbers in nth.items():
        return f"{_DAYS[weekday]}#{min(numbers)}"
    return re.sub("[0-6]", lambda found: _DAYS[int(found[0])], _text(field, *_RANGES[4]))


def _text(field: _Field, low: int, high: int) -> str:
    if list(field) == ["*"] or set(field) == set(range(low, high + 1)):
        return "*"
    if list(field) == ["l"]:
        return "L"
    parts: list[str] = []
    numbers = sorted(int(each) for each in field)
    while numbers:
        run = next(n for n in range(len(numbers), 0, -1) if numbers[n - 1] - numbers[0] == n - 1)
        together, numbers = numbers[:run], numbers[run:]
        parts += [f"{together[0]}-{together[-1]}"] if run >= _SHORTEST_RANGE else [str(each) for each in together]
    return ",".join(parts)


def _meet(one: _Field, other: _Field) -> bool:
    # The last day of a month is any of its days, one month or another.
    return not {"*", "l"}.isdisjoint({*one, *other}) or not set(one).isdisjoint(other)
