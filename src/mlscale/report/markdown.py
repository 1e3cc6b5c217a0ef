"""Values → Markdown, for comments on pull requests."""

from __future__ import annotations

import re

from mlscale.plan.diff import value_text
from mlscale.plan.steps import Change, Plan, StepKind
from mlscale.report.text import MARKS, act, cost_text, marks

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~#@])")


def plan(made: Plan, *, title: str) -> str:
    """Return a plan as a Markdown section with one table; nothing of it is read as Markdown of its own."""
    if not made.steps:
        return f"### {plain(title)}\n\nNo changes.\n"
    lines = [f"### {plain(title)}", "", "| | step | what | changes |", "|---|---|---|---|"]
    for step in made.steps:
        shown = () if step.kind is StepKind.DELETE else step.changes
        what = plain(f"{step.subject}{marks(step)}")
        lines.append(f"| {MARKS[step.kind].strip()} | {act(step)} | {what} | {'<br>'.join(map(_change, shown))} |")
    lines += ["", f"Cost: {plain(cost_text([step.cost_delta for step in made.steps]))}"]
    lines += [f"\n{plain(topic.capitalize())}: {plain(note)}" for topic, note in made.notes.items()]
    lines += [f"\n**Warning:** {plain(warning)}" for warning in made.warnings]
    return "\n".join(lines) + "\n"


def _change(change: Change) -> str:
    after = code(value_text(change.after))
    return f"{code(change.path)}: {after if change.before is None else f'{code(value_text(change.before))} → {after}'}"


def code(text: str) -> str:
    """Return `text` as a code span that fits into a cell: fenced by more backticks than it has itself."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{fence}{pad}{_one_line(text).replace('|', chr(92) + '|')}{pad}{fence}"


def plain(text: str) -> str:
    """Return `text` on one line, with nothing in it that Markdown reads as its own."""
    return _SPECIAL.sub(r"\\\1", _one_line(text))


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())
