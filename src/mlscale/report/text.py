"""Values → words for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from mlscale.deployment import Deployment, ServedRevision
from mlscale.plan.diff import share_text
from mlscale.plan.steps import Change, Plan, Step, StepKind, Unknown
from mlscale.report.tables import table

MARKS = {
    StepKind.CREATE: "+",
    StepKind.UPDATE: "~",
    StepKind.SHIFT: "~",
    StepKind.SCALE: "~",
    StepKind.WAIT: " ",
    StepKind.DELETE: "-",
}


def plan(made: Plan, *, next_command: str) -> str:
    """Return a plan: each step with the fields it changes, warnings, cost, and what to do next."""
    if not made.steps:
        return "No changes: what is there is what the spec asks for."
    rows = [line for step in made.steps for line in _step_lines(step)]
    rows += [f"  ! warning  {warning}" for warning in made.warnings]
    rows.append(f"    cost     {cost_text([step.cost_delta for step in made.steps])}")
    count = "1 step" if len(made.steps) == 1 else f"{len(made.steps)} steps"
    rows.append(f"{count}. To make them: {next_command}")
    return "\n".join(rows)


def cost_text(deltas: Sequence[Decimal | Unknown]) -> str:
    """Return the sum of hourly differences, or why it is not known."""
    unknown = next((each for each in deltas if isinstance(each, Unknown)), None)
    if unknown is not None:
        return f"unknown: {unknown.why}"
    total = sum((each for each in deltas if isinstance(each, Decimal)), Decimal(0))
    return f"{'+' if total >= 0 else '-'}${abs(total):.2f}/h"


def _step_lines(step: Step[object]) -> Iterable[str]:
    marks = "".join(
        f"  ({word})" for word, is_so in (("destroys", step.destroys), ("interrupts", step.interrupts)) if is_so
    )
    yield f"  {MARKS[step.kind]} {step.kind:<8} {step.subject}{marks}"
    yield from (f"             {change_text(change)}" for change in step.changes)


def change_text(change: Change) -> str:
    """Return a field's change: `path: before → after`."""
    if change.before is None:
        return f"{change.path}: {change.after}"
    if change.after is None:
        return f"{change.path}: {change.before} → nothing"
    return f"{change.path}: {change.before} → {change.after}"


def deployment(seen: Deployment) -> str:
    """Return what is there: address, phase, revisions with traffic, replicas with health."""
    reason = f": {seen.reason}" if seen.reason else ""
    lines = [
        f"{seen.identity}  {seen.phase}{reason}",
        f"address   {seen.address or 'none'}",
        f"replicas  {seen.scaling.min} to {seen.scaling.max}",
    ]
    if seen.labels:
        lines.append("labels    " + ", ".join(f"{key}={value}" for key, value in sorted(seen.labels.items())))
    lines.append("")
    lines.append(
        table(("REVISION", "ROLE", "TRAFFIC", "READY", "FRAMEWORK"), [_revision(each) for each in seen.revisions])
    )
    rows = [
        (replica.name, replica.health, str(replica.restarts), replica.detail)
        for each in seen.revisions
        for replica in each.replicas
    ]
    if rows:
        lines += ["", table(("REPLICA", "HEALTH", "RESTARTS", "DETAIL"), rows)]
    return "\n".join(lines)


def _revision(served: ServedRevision) -> tuple[str, ...]:
    live = f"{served.live.ready}/{served.live.desired}" if served.live else "?"
    return (served.revision.id, served.role, share_text(served.share), live, served.revision.content.framework)
