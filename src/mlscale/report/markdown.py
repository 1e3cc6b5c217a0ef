"""Values → Markdown, for comments on pull requests."""

from __future__ import annotations

from mlscale.plan.steps import Plan
from mlscale.report.text import MARKS, change_text, cost_text


def plan(made: Plan, *, title: str) -> str:
    """Return a plan as a Markdown section with one table."""
    if not made.steps:
        return f"### {title}\n\nNo changes.\n"
    lines = [f"### {title}", "", "| | step | what | changes |", "|---|---|---|---|"]
    for step in made.steps:
        changes = "<br>".join(_cell(change_text(change)) for change in step.changes)
        lines.append(f"| {MARKS[step.kind].strip()} | {step.kind} | {_cell(step.subject)} | {changes} |")
    lines += ["", f"Cost: {cost_text([step.cost_delta for step in made.steps])}"]
    lines += [f"\n**Warning:** {_cell(warning)}" for warning in made.warnings]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
