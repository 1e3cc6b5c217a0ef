"""A rollout → one page of HTML that needs no network, no script and no other file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from mlscale.deployment import WHOLE
from mlscale.plan.diff import share_text
from mlscale.report import plot
from mlscale.report.plot import Point, Series
from mlscale.report.rollout_words import (
    HEAD,
    following,
    happened,
    period,
    rate_text,
    row,
    state,
    steps,
    time_of,
    used,
    worded,
)
from mlscale.state.rollouts import Counted, Phase, Rollout

MOST_POINTS = 360
"""Windows beyond this number are added up by twos, threes and so on: a plot has no more room."""

WORTH_SHOWING = 4
"""A maximum above this many times all that was measured is named, not drawn: it would leave the lines no room."""

BEYOND = 0.04
"""By which part of their width plots go on behind the end."""

_STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1c2024; --dim: #5c646d; --rule: #e3e6ea; --panel: #f6f7f9;
  --candidate: #0b62c4; --baseline: #8a6d1f; --max: #c02626; --good: #17703a; --bad: #b42318; --open: #7a5b00; }
@media (prefers-color-scheme: dark) {
  :root { --back: #14171a; --text: #e8eaed; --dim: #9aa3ad; --rule: #2c3238; --panel: #1c2125; --candidate: #6cb2ff;
    --baseline: #d9b64e; --max: #ff7b72; --good: #5fd38d; --bad: #ff8f85; --open: #e3c567; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 3rem; max-width: 60rem; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.25rem 0 .5rem; overflow-wrap: anywhere; }
p { margin: .25rem 0; }
code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere; }
.dim, figcaption, footer { color: var(--dim); font-size: .9rem; }
.state { display: inline-block; padding: 0 .6em; border-radius: 1em; border: 1px solid currentcolor; font-size: 1rem;
  vertical-align: .1em; }
.good { color: var(--good); } .bad { color: var(--bad); } .open { color: var(--open); }
.why { margin: 1rem 0; padding: .75rem 1rem; background: var(--panel); border-radius: 6px; white-space: pre-line;
  overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .4rem .75rem .4rem 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
th { font-weight: 600; color: var(--dim); white-space: nowrap; }
.figure { text-align: right; white-space: nowrap; } .word { white-space: nowrap; }
.note td { color: var(--dim); padding-top: 0; } tr:has(+ .note) td { border-bottom: 0; }
figure { margin: 0; overflow-x: auto; }
figcaption span { margin-right: 1.25rem; white-space: nowrap; }
.key { display: inline-block; width: 1.6em; height: 0; margin-right: .4em; vertical-align: .3em;
  border-top: 2.5px solid; }
.key.candidate { border-color: var(--candidate); } .key.baseline { border-top: 2.5px dashed var(--baseline); }
.key.max { border-top: 2.5px dotted var(--max); } .key.mark { border-top: 1px dashed var(--dim); }
svg { display: block; width: 100%; min-width: 36rem; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--dim); } .down { text-anchor: end; } .across, .number { text-anchor: middle; }
.grid { stroke: var(--rule); } line.mark { stroke: var(--dim); stroke-dasharray: 2 3; }
line.max { stroke: var(--max); stroke-width: 1.5; stroke-dasharray: 1 3; stroke-linecap: round; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.line.candidate { stroke: var(--candidate); } .line.baseline { stroke: var(--baseline); stroke-dasharray: 6 4; }
.dot.candidate { fill: var(--candidate); } .dot.baseline { fill: transparent; stroke: var(--baseline); r: 4px; }
@media print { body { max-width: none; } h2 { break-after: avoid; } figure, tr { break-inside: avoid; } }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_CLASSES = {Phase.PROMOTED: "good", Phase.ROLLED_BACK: "bad"}
_VERDICT_CLASSES = {"pass": "good", "fail": "bad", "error": "bad"}


_SHARE = 2
"""The place of the share in a row of what happened."""


def page(rollout: Rollout) -> str:
    """Return the page: how it ended, the verdicts, traffic and each metric over time, and what happened."""
    title = f"Rollout {rollout.id}: {state(rollout)}"
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        *_head(rollout),
        *_verdicts(rollout),
        *_traffic(rollout),
        *(part for metric in _metrics(rollout) for part in _metric(rollout, metric)),
        *_moments(rollout),
        "<footer><p>Times are UTC. Made by mlscale.</p></footer>",
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _head(rollout: Rollout) -> Iterator[str]:
    kind, word = _CLASSES.get(rollout.phase, "open"), escape(worded(rollout.phase.value))
    yield f'<h1>Rollout {escape(rollout.id)} <span class="state {kind}">{word}</span></h1>'
    revisions = f"<code>{escape(rollout.stable.id)}</code> → <code>{escape(rollout.candidate.id)}</code>"
    yield f"<p>{escape(rollout.strategy.capitalize())} of revision {revisions}, {escape(period(rollout))}</p>"
    yield f'<p class="dim">Steps: {escape(", ".join(steps(rollout)))}</p>'
    if rollout.why:
        yield f'<p class="why">{escape(rollout.why)}</p>'
    if words := following(rollout):
        yield f'<p class="dim">Next: {escape(words)}</p>'


def _verdicts(rollout: Rollout) -> Iterator[str]:
    rows = [row(each) for each in rollout.verdicts]
    if not rows:
        return
    columns = used(rows)
    heads = "".join(_cell("th", HEAD[each], is_figure=each > 1) for each in columns)
    yield f'<h2>Verdicts</h2>\n<div class="wide"><table>\n<tr>{heads}</tr>'
    for each in rows:
        cells = [_cell("td", each.cells[number], is_figure=number > 1) for number in columns]
        kind = _VERDICT_CLASSES.get(each.outcome, "open")
        cells[1] = f'<td class="word {kind}">{each.mark} {escape(each.cells[1])}</td>'
        yield f"<tr>{''.join(cells)}</tr>"
        if each.note:
            yield f'<tr class="note"><td></td><td colspan="{len(columns) - 1}">{escape(each.note)}</td></tr>'
    yield "</table></div>"


def _cell(tag: str, text: str, *, is_figure: bool) -> str:
    kind = ' class="figure"' if is_figure else ""
    return f"<{tag}{kind}>{escape(text)}</{tag}>"


def _traffic(rollout: Rollout) -> Iterator[str]:
    if not rollout.history:
        return
    share = Series(
        "candidate",
        [Point(each.at, each.share / WHOLE, share_text(each.share)) for each in rollout.history],
        holds=True,
    )
    what = "copies that it gets" if rollout.strategy == "shadow" else "share of the traffic"
    yield f"<h2>Candidate’s {what}</h2>\n<figure>"
    yield plot.svg(
        f"The candidate's {what} over time",
        [share],
        start=rollout.began_at,
        end=_end(rollout),
        value_text=rate_text,
        marks=[each.at for each in rollout.history],
        highest=1.0,
    )
    keys = _key("candidate", "candidate"), _key("mark", "what happened, by its number below")
    yield f"<figcaption>{''.join(keys)}</figcaption>"
    yield "</figure>"


def _metrics(rollout: Rollout) -> Sequence[str]:
    """Return the metrics that were judged or counted, in the order of the verdicts."""
    counted = [name for each in rollout.windows for name in (*each.candidate, *each.baseline)]
    return list(dict.fromkeys([*(each.metric for each in rollout.verdicts), *counted]))


def _metric(rollout: Rollout, metric: str) -> Iterator[str]:
    windows = _pooled(rollout.windows, metric)
    series = [
        Series("candidate", list(_points(windows, "candidate"))),
        Series("baseline", list(_points(windows, "baseline"))),  # dashed: what is below it stays to be seen
    ]
    values = [each.value for one in series for each in one.points if each.value is not None]
    yield f"<h2>{escape(metric)}</h2>"
    if not values:
        yield '<p class="dim">Nothing was measured.</p>'
        return
    judged = next((each for each in rollout.verdicts if each.metric == metric), None)
    limit = judged.max if judged else None
    is_drawn = limit is not None and limit <= WORTH_SHOWING * max(values)
    keys = [_key("candidate", "candidate"), _key("baseline", "baseline")]
    if limit is not None:
        keys.append(_key("max", f"max {rate_text(limit)}{'' if is_drawn else ', far above what is shown'}"))
    yield "<figure>"
    yield plot.svg(
        f"{metric} of candidate and baseline over time",
        series,
        start=rollout.began_at,
        end=_end(rollout),
        value_text=rate_text,
        limit=limit if is_drawn else None,
        marks=[each.at for each in rollout.history],
    )
    yield f"<figcaption>{''.join(keys)}</figcaption>\n</figure>"


@dataclass(frozen=True, slots=True)
class _Window:
    """What was counted of one metric from `start` to `end`, None of a revision of which nothing was."""

    start: datetime
    end: datetime
    baseline: tuple[int, int] | None
    candidate: tuple[int, int] | None


def _pooled(windows: Sequence[Counted], metric: str) -> Sequence[_Window]:
    """Return the windows of a metric in order of time, neighbors added up where there are too many."""
    ordered = sorted(windows, key=lambda each: each.start)
    size = -(-len(ordered) // MOST_POINTS) or 1
    groups = [ordered[at : at + size] for at in range(0, len(ordered), size)]
    return [
        _Window(
            group[0].start,
            group[-1].end,
            _sum([each.baseline.get(metric) for each in group]),
            _sum([each.candidate.get(metric) for each in group]),
        )
        for group in groups
    ]


def _sum(counts: Sequence[tuple[int, int] | None]) -> tuple[int, int] | None:
    known = [each for each in counts if each is not None]
    return (sum(bad for bad, _ in known), sum(of for _, of in known)) if known else None


def _points(windows: Sequence[_Window], whose: str) -> Iterator[Point]:
    """Yield a value for each window, and none where time went by that nothing was counted in."""
    for before, window in zip([None, *windows], windows, strict=False):
        if before is not None and before.end < window.start:
            yield Point(before.end, None)
        yield _point(window, whose)


def _point(window: _Window, whose: str) -> Point:
    counts = window.baseline if whose == "baseline" else window.candidate
    middle = window.start + (window.end - window.start) / 2
    if counts is None or not counts[1]:
        return Point(middle, None)
    bad, of = counts
    times = f"{window.start.astimezone(UTC):%H:%M}–{window.end.astimezone(UTC):%H:%M}"
    return Point(middle, bad / of, f"{times} {whose}: {rate_text(bad / of)}, {bad:,} of {of:,}")


def _end(rollout: Rollout) -> datetime:
    """Return the right end of the plots: a little beyond the last that is known, so that it has some width."""
    ends = [each.end for each in rollout.windows] + [each.at for each in rollout.history]
    last = max([rollout.ended_at or rollout.began_at, *ends])
    return last + (last - rollout.began_at) * BEYOND


def _key(name: str, words: str) -> str:
    return f'<span><i class="key {name}"></i>{escape(words)}</span>'


def _moments(rollout: Rollout) -> Iterator[str]:
    if not rollout.history:
        return
    yield '<h2>What happened</h2>\n<div class="wide"><table>'
    yield '<tr><th>#</th><th>UTC</th><th class="figure">candidate’s share</th><th>what</th><th></th></tr>'
    for number, each in enumerate(rollout.history, 1):
        words = (str(number), time_of(each, rollout), share_text(each.share), happened(each), each.text)
        yield f"<tr>{''.join(_cell('td', word, is_figure=place == _SHARE) for place, word in enumerate(words))}</tr>"
    yield "</table></div>"
