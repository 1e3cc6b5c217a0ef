"""A rollout, live or ended → text for 80 columns, Markdown, one page of HTML, and facts for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlscale.deployment import WHOLE
from mlscale.plan.diff import share_text
from mlscale.report import json, rollout_page
from mlscale.report.markdown import code, plain
from mlscale.report.rollout_words import HEAD, following, happened, period, row, state, steps, time_of, used
from mlscale.report.tables import folded
from mlscale.state.rollouts import Moment, Rollout

WIDTH = 79
"""One column less than a terminal has: some break a line that is full."""

BAR = 40
MOST_MOMENTS, MOST_LIVE_MOMENTS = 20, 4
"""The last of them that a text shows; a live one is drawn again and again, and has to stay on the screen."""

_LABEL = 12
_SHORTEST_NAME = 8


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
    """Yield a table of the metrics, the figures one below the other, and below it what they don't say."""
    rows = [row(each) for each in rollout.verdicts]
    if not rows:
        return
    columns = used(rows)
    lines = [(" ", [HEAD[each].upper() for each in columns])]
    lines += [(each.mark, [each.cells[number] for number in columns]) for each in rows]
    widths = [max(len(cells[place]) for _, cells in lines) for place in range(len(columns))]
    gap = 2 if sum(widths) + 2 * len(widths) <= WIDTH else 1
    widths[0] = max(_SHORTEST_NAME, min(widths[0], WIDTH - 2 - sum(widths[1:]) - gap * (len(widths) - 1)))
    for mark, cells in lines:
        padded = [_cut(cells[0], widths[0]).ljust(widths[0]), cells[1].ljust(widths[1])]
        padded += [each.rjust(width) for each, width in zip(cells[2:], widths[2:], strict=True)]
        yield f"{mark} {(' ' * gap).join(padded)}".rstrip()
    for each in rows:
        if each.note:
            yield from (f"  {line}" for line in folded(f"{each.cells[0]}: {each.note}", WIDTH - 2))


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
    if _has_own_why(rollout):
        yield from _labelled("why", rollout.why)
    if words := following(rollout):
        yield from _labelled("next", words)


def _has_own_why(rollout: Rollout) -> bool:
    """Return whether the last moment does not say already why it is as it is."""
    return bool(rollout.why) and (not rollout.history or rollout.history[-1].text != rollout.why)


def markdown(rollout: Rollout) -> str:
    """Return a rollout for a pull request or a CI summary; nothing of it is read as Markdown of its own."""
    revisions = f"{code(rollout.stable.id)} → {code(rollout.candidate.id)}"
    lines = [
        f"### Rollout {plain(rollout.id)}: {plain(state(rollout))}",
        "",
        f"{revisions}, {plain(period(rollout))}. Steps: {', '.join(steps(rollout))}.",
    ]
    if _has_own_why(rollout):
        lines += ["", plain(rollout.why)]
    if rollout.verdicts:
        rows = [row(each) for each in rollout.verdicts]
        columns = used(rows)
        lines += ["", f"| | {' | '.join(HEAD[each] for each in columns)} | |"]
        lines += [f"|---|---|---|{'--:|' * (len(columns) - 2)}---|"]
        for each in rows:
            cells = " | ".join(plain(each.cells[number]) for number in columns)
            lines += [f"| {each.mark} | {cells} | {plain(each.note)} |"]
    if rollout.history:
        lines += ["", "| UTC | candidate's share | what happened |", "|---|--:|---|"]
        lines += [
            f"| {time_of(each, rollout)} | {share_text(each.share)} | {plain(_said(each))} |"
            for each in rollout.history
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
