"""A rollout, live or ended → text for 80 columns, Markdown, one page of HTML, and facts for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mlscale.deployment import WHOLE
from mlscale.plan.diff import share_text
from mlscale.report import json, rollout_page
from mlscale.report.markdown import code, plain
from mlscale.report.rollout_words import Row, following, happened, period, row, state, steps, time_of
from mlscale.report.tables import folded, table
from mlscale.state.rollouts import Moment, Rollout

WIDTH = 79
"""One column less than a terminal has: some break a line that is full."""

BAR = 40
MOST_MOMENTS, MOST_LIVE_MOMENTS = 20, 4
"""The last of them that a text shows; a live one is drawn again and again, and has to stay on the screen."""

_LABEL = 12
_SHORTEST_NAME = 8
_HEAD = ("METRIC", "VERDICT", "CANDIDATE", "BASELINE", "WORSE BY", "MARGIN", "MAX", "REQUESTS")


def text(rollout: Rollout) -> str:
    """Return a rollout for a terminal: traffic, steps, what each metric shows, what happened, and what comes next."""
    parts = [list(_head(rollout)), list(_verdicts(rollout)), list(_moments(rollout)), list(_end(rollout))]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _head(rollout: Rollout) -> Iterator[str]:
    yield f"Rollout {rollout.id}: {state(rollout)}"
    yield from _labelled("time", period(rollout))
    is_shadow = rollout.strategy == "shadow" and rollout.is_live
    rest = WHOLE if is_shadow else WHOLE - rollout.share
    yield _bar("stable", rollout.stable.id, rest)
    yield _bar("copies" if is_shadow else "candidate", rollout.candidate.id, rollout.share)
    yield from _labelled("steps", "   ".join(steps(rollout)))


def _bar(label: str, name: str, share: int) -> str:
    bar = "█" * max(round(share * BAR / WHOLE), int(share > 0))
    return f"  {label:<{_LABEL}}{name:<12}{share_text(share):>6}  {bar}".rstrip()


def _labelled(label: str, words: str) -> Iterator[str]:
    first, *others = folded(words, WIDTH - _LABEL - 2)
    yield f"  {label:<{_LABEL}}{first}".rstrip()
    yield from (" " * (_LABEL + 2) + each for each in others)


def _verdicts(rollout: Rollout) -> Iterator[str]:
    """Yield a table of the metrics, without columns that no metric has, and below it what the figures don't say."""
    found = [row(each) for each in rollout.verdicts]
    if not found:
        return
    cells = [_cells(each) for each in found]
    kept = [number for number in range(len(_HEAD)) if number not in _OPTIONAL or any(_has(each, number) for each in cells)]
    rows = [[each[number] for number in kept] for each in [list(_HEAD), *cells]]
    widths = [max(len(each[column]) for each in rows) for column in range(len(kept))]
    room = max(_SHORTEST_NAME, WIDTH - 2 - sum(each + 2 for each in widths[1:]))
    head, *body = [[_cut(each[0], room), *each[1:]] for each in rows]
    yield from (f"  {line}" for line in table(head, body, width=WIDTH).splitlines())
    for each in found:
        if each.note:
            yield from _labelled("", f"{each.metric}: {each.note}")


_OPTIONAL = frozenset({3, 4, 5, 6})
"""Columns that some metrics lack: those of the comparison, and the absolute maximum."""


def _has(cells: Sequence[str], number: int) -> bool:
    return cells[number] != "-"


def _cells(found: Row) -> list[str]:
    return [
        found.metric,
        found.verdict,
        found.candidate,
        found.baseline,
        found.worse_by,
        found.margin,
        found.max,
        found.requests,
    ]


def _cut(name: str, room: int) -> str:
    return name if len(name) <= room else f"{name[: room - 1]}…"


def _moments(rollout: Rollout) -> Iterator[str]:
    shown = rollout.history[-(MOST_LIVE_MOMENTS if rollout.is_live else MOST_MOMENTS) :]
    for each in shown:
        label = f"  {time_of(each, rollout)}  {share_text(each.share):>6}  "
        first, *others = folded(_said(each), WIDTH - len(label))
        yield f"{label}{first}"
        yield from (" " * len(label) + line for line in others)


def _said(moment: Moment) -> str:
    return f"{happened(moment)}: {moment.text}" if moment.text else happened(moment)


def _end(rollout: Rollout) -> Iterator[str]:
    if rollout.why and (not rollout.history or rollout.history[-1].text != rollout.why):
        yield from _labelled("why", rollout.why)
    if words := following(rollout):
        yield from _labelled("next", words)


def markdown(rollout: Rollout) -> str:
    """Return a rollout for a comment on a pull request or a CI summary; nothing of it is read as Markdown of its own."""
    lines = [
        f"### Rollout {plain(rollout.id)}: {plain(state(rollout))}",
        "",
        f"{code(rollout.stable.id)} → {code(rollout.candidate.id)}, {plain(period(rollout))}. "
        f"Steps: {', '.join(steps(rollout))}.",
    ]
    if rollout.why:
        lines += ["", plain(rollout.why)]
    if rollout.verdicts:
        lines += ["", "| metric | verdict | candidate | baseline | worse by | margin | max | requests | |"]
        lines += ["|---|---|--:|--:|--:|--:|--:|--:|---|"]
        for each in map(row, rollout.verdicts):
            name, *rest = _cells(each)
            lines += [f"| {plain(name)} | {' | '.join(rest)} | {plain(each.note)} |"]
    if rollout.history:
        lines += ["", "| UTC | candidate's share | what happened |", "|---|--:|---|"]
        lines += [
            f"| {time_of(each, rollout)} | {share_text(each.share)} | {plain(_said(each))} |" for each in rollout.history
        ]
    if words := following(rollout):
        lines += ["", f"Next: {plain(words)}"]
    return "\n".join(lines) + "\n"


def html(rollout: Rollout) -> str:
    """Return a rollout as one page with its plots, which needs nothing else and runs nothing."""
    return rollout_page.page(rollout)


def data(rollout: Rollout) -> dict[str, Any]:
    """Return a rollout's facts: shares in basis points, rates 0 to 1, and of each window what was counted."""
    facts = json.data(rollout.model_dump(exclude={"version"}))
    return dict(facts)
