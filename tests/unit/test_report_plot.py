"""Values over time as SVG: where things stand, and what is left out."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest

from mlscale.report import plot
from mlscale.report.plot import Point, Series
from tests.builders import NOON

HOUR = timedelta(hours=1)


def drawn(
    *values: float | None,
    holds: bool = False,
    highest: float | None = None,
    limit: float | None = None,
    span: timedelta = HOUR,
    marks: tuple[datetime, ...] = (),
) -> str:
    """Return a plot of values that come evenly."""
    points = [Point(NOON + span * number / max(len(values) - 1, 1), each, "w") for number, each in enumerate(values)]
    return plot.svg(
        "t",
        [Series("a", points, holds=holds)],
        start=NOON,
        end=NOON + span,
        value_text=lambda value: f"{value:g}",
        highest=highest,
        limit=limit,
        marks=marks,
    )


def labels(svg: str, kind: str) -> list[str]:
    """Return the texts of a class."""
    return re.findall(rf'<text class="{kind}"[^>]*>([^<]*)</text>', svg)


def path(svg: str) -> str:
    """Return the way of the one line."""
    return str(re.findall(r'class="line a" d="([^"]*)"', svg)[0])


def test_a_line_goes_from_corner_to_corner() -> None:
    """From 0 at the left and bottom to the highest at the right and top."""
    assert path(drawn(0.0, 10.0, highest=10.0)) == "M58.0 204.0L746.0 20.0"


def test_a_value_that_holds_makes_steps_until_the_end() -> None:
    """A share stays what it is until it is changed."""
    assert path(drawn(0.0, 5.0, None, holds=True, highest=10.0)) == "M58.0 204.0H402.0V112.0"
    assert path(drawn(5.0, holds=True, highest=10.0)) == "M58.0 112.0H746.0"


def test_a_missing_value_breaks_the_line() -> None:
    """What stands alone has a dot; of what is missing nothing is drawn."""
    svg = drawn(1.0, None, 1.0, highest=10.0)

    assert path(svg) == "M58.0 185.6M746.0 185.6"
    assert svg.count("<circle") == 2


@pytest.mark.parametrize(
    ("values", "limit", "ticks"),
    [
        ((0.0,), None, ["0", "0.002", "0.004", "0.006", "0.008", "0.01"]),
        ((0.008,), None, ["0", "0.002", "0.004", "0.006", "0.008", "0.01"]),
        ((0.008,), 0.02, ["0", "0.005", "0.01", "0.015", "0.02", "0.025"]),
        ((95.0,), None, ["0", "20", "40", "60", "80", "100"]),
        ((None,), None, ["0", "0.002", "0.004", "0.006", "0.008", "0.01"]),
    ],
)
def test_the_axis_has_round_numbers_above_all_that_is_shown(
    values: tuple[float | None, ...], limit: float | None, ticks: list[str]
) -> None:
    """A limit is in it as well; without a value it is small, and not divided by nothing."""
    assert labels(drawn(*values, limit=limit), "down") == ticks


@pytest.mark.parametrize(
    ("span", "first", "count"),
    [
        (timedelta(seconds=30), "12:00", 1),
        (timedelta(minutes=10), "12:00", 6),
        (timedelta(hours=2), "12:00", 9),
        (timedelta(days=3), "12:00", 7),
        (timedelta(days=5), "01-02", 5),
        (timedelta(days=300), "01-07", 5),
    ],
)
def test_times_are_round_and_have_room(span: timedelta, first: str, count: int) -> None:
    """Minutes, hours or days, whatever fits."""
    found = labels(drawn(1.0, 1.0, span=span), "across")

    assert (found[0], len(found)) == (first, count)


def test_marks_that_are_near_share_a_label() -> None:
    """Each has its line; numbers on top of each other could not be read."""
    svg = drawn(1.0, marks=(NOON, NOON + HOUR / 100, NOON + HOUR / 50, NOON + HOUR / 2))

    assert labels(svg, "number") == ["1–3", "4"]
    assert svg.count('class="mark"') == 4


def test_many_points_have_no_dots() -> None:
    """They would hide the line."""
    assert drawn(*[1.0] * plot.MOST_DOTS).count("<circle") == plot.MOST_DOTS
    assert drawn(*[1.0] * (plot.MOST_DOTS + 1)).count("<circle") == 0
