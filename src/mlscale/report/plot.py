"""Values over time → a plot in SVG, which takes its colors from the page that it stands in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT = 760, 230
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 20, 26
MOST_DOTS = 150
"""Of more points the line alone is drawn: dots would hide it."""

_TICKS_DOWN, _TICKS_ACROSS = 5, 8
_NICE = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STEPS = tuple(
    timedelta(minutes=each)
    for each in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10_080, 20_160, 43_200, 86_400)
)
_NEAR = 28
"""Two numbers that are nearer would touch each other."""
_LABEL_ROOM = 8


@dataclass(frozen=True, slots=True)
class Point:
    """A value at a time, None where there is none; `words` are shown to who points at it."""

    at: datetime
    value: float | None
    words: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """One line. `name` is its class in the page's style; with `holds` a value stays until the next one."""

    name: str
    points: Sequence[Point]
    holds: bool = False


def svg(
    title: str,
    series: Sequence[Series],
    *,
    start: datetime,
    end: datetime,
    value_text: Callable[[float], str],
    limit: float | None = None,
    marks: Sequence[datetime] = (),
    highest: float | None = None,
) -> str:
    """Return the plot of `series` from `start` to `end`.

    Args:
        title: what a screen reader says.
        series: the lines, the last one on top.
        start: the left end.
        end: the right end.
        value_text: words for a value at the axis.
        limit: a line across.
        marks: times that get a line down and a number, counted from 1.
        highest: the top of the axis; above all that is shown if left out.
    """
    values = [each.value for one in series for each in one.points if each.value is not None]
    top = highest or _top(max([*values, limit or 0.0]))
    frame = _Frame(start, max(end, start + timedelta(seconds=1)), top)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        *_axes(frame, value_text),
        *_marks(frame, marks),
        *(_limit(frame, limit) if limit is not None else ()),
        *(part for each in series for part in _line(frame, each)),
        "</svg>",
    ]
    return "\n".join(parts)


@dataclass(frozen=True, slots=True)
class _Frame:
    start: datetime
    end: datetime
    top: float

    def x(self, at: datetime) -> float:
        """Return the place of a time across; one outside is put at the nearest end."""
        part = (at - self.start) / (self.end - self.start)
        return round(LEFT + min(max(part, 0.0), 1.0) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        """Return the place of a value down."""
        return round(HEIGHT - BOTTOM - min(value / self.top, 1.0) * (HEIGHT - TOP - BOTTOM), 1)


def _top(highest: float) -> float:
    """Return the top of an axis with `highest` below it, of which a fifth is a round number."""
    if highest <= 0:
        return 0.01
    rough = highest * 1.05 / _TICKS_DOWN
    power = 10.0 ** floor(log10(rough))
    return float(next(each * power for each in _NICE if each * power >= rough * (1 - 1e-9)) * _TICKS_DOWN)


def _axes(frame: _Frame, value_text: Callable[[float], str]) -> Iterator[str]:
    for number in range(_TICKS_DOWN + 1):
        value = frame.top * number / _TICKS_DOWN
        y = frame.y(value)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
        yield f'<text class="down" x="{LEFT - _LABEL_ROOM}" y="{y + 4}">{escape(value_text(value))}</text>'
    step = next((each for each in _STEPS if (frame.end - frame.start) / each <= _TICKS_ACROSS), _STEPS[-1])
    at = _EPOCH + ceil((frame.start - _EPOCH) / step) * step
    form = "%H:%M" if step < timedelta(days=1) else "%m-%d"
    while at <= frame.end:
        x = frame.x(at)
        yield f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        yield f'<text class="across" x="{x}" y="{HEIGHT - _LABEL_ROOM}">{at.astimezone(UTC).strftime(form)}</text>'
        at += step


def _marks(frame: _Frame, marks: Sequence[datetime]) -> Iterator[str]:
    """Yield a line for each time, with its number; those that are too near to each other share a label."""
    groups: list[tuple[float, int, int]] = []
    for number, at in enumerate(marks, 1):
        x = frame.x(at)
        yield f'<line class="mark" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        if groups and x - groups[-1][0] < _NEAR:
            groups[-1] = (*groups[-1][:2], number)
        else:
            groups.append((x, number, number))
    for x, first, last in groups:
        label = str(first) if first == last else f"{first}–{last}"
        yield f'<text class="number" x="{x}" y="{TOP - _LABEL_ROOM}">{label}</text>'


def _limit(frame: _Frame, limit: float) -> Iterator[str]:
    y = frame.y(limit)
    yield f'<line class="max" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'


def _line(frame: _Frame, series: Series) -> Iterator[str]:
    """Yield the line of a series, broken where a value is missing, and its dots."""
    path: list[str] = []
    before: Point | None = None
    for each in series.points:
        if each.value is not None:
            x, y = frame.x(each.at), frame.y(each.value)
            is_new = before is None or before.value is None
            if is_new:
                path.append(f"M{x} {y}")
            elif series.holds:
                path.append(f"H{x}V{y}")
            else:
                path.append(f"L{x} {y}")
        before = each
    if series.holds and before is not None and before.value is not None:
        path.append(f"H{frame.x(frame.end)}")
    yield f'<path class="line {escape(series.name)}" d="{"".join(path)}"/>'
    if series.holds or len(series.points) > MOST_DOTS:
        return
    for each in series.points:
        if each.value is not None:
            yield (
                f'<circle class="dot {escape(series.name)}" cx="{frame.x(each.at)}" cy="{frame.y(each.value)}" r="3">'
                f"<title>{escape(each.words)}</title></circle>"
            )
