"""Values → words for people."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal

from mlscale.deployment import Deployment, Kind, Phase, ServedRevision
from mlscale.plan.diff import bounds_text, share_text, value_text
from mlscale.plan.steps import Change, Plan, Step, StepKind, Unknown
from mlscale.quantities import duration_text
from mlscale.report.tables import WIDTH, folded, table

MARKS = {
    StepKind.CREATE: "+",
    StepKind.UPDATE: "~",
    StepKind.SHIFT: "~",
    StepKind.SCALE: "~",
    StepKind.WAIT: " ",
    StepKind.DELETE: "-",
}

LONG = timedelta(minutes=1)
"""A step that is expected to take this long says so."""

_INDENT = 14
_ACT = re.compile(r"[a-z]{2,9}")


def plan(made: Plan, *, next_command: str) -> str:
    """Return a plan: each step with the fields it changes, warnings, cost, and what to do next."""
    if not made.steps:
        return "No changes: what is there is what the spec asks for."
    rows = [line for step in made.steps for line in _step_lines(step)]
    rows += [line for warning in made.warnings for line in _hanging("  ! warning", warning)]
    rows += [line for topic, note in made.notes.items() for line in _hanging(f"    {topic:<9}", note)]
    rows += _hanging("    cost", cost_text([step.cost_delta for step in made.steps]))
    rows.append(f"{_count_text(len(made.steps))}: {next_command}")
    return "\n".join(rows)


def _count_text(steps: int) -> str:
    return "1 step. To make it" if steps == 1 else f"{steps} steps. To make them"


def cost_text(deltas: Sequence[Decimal | Unknown]) -> str:
    """Return the sum of hourly differences, or why it is not known."""
    match cost_sum(deltas):
        case Unknown(why):
            return f"unknown: {why}"
        case total:
            digits = 2 if not total or abs(total) >= Decimal("0.01") else 6
            return f"{'+' if total >= 0 else '-'}${abs(total):.{digits}f}/h"


def cost_sum(deltas: Sequence[Decimal | Unknown]) -> Decimal | Unknown:
    """Return the sum of hourly differences; one that is unknown makes the sum unknown."""
    total = Decimal(0)
    for each in deltas:
        if isinstance(each, Unknown):
            return each
        total += each
    return total


def act(step: Step[object]) -> str:
    """Return the word for what a step does: the end of its key (`add`, `promote`), else its kind."""
    word = step.key.rpartition("/")[2]
    return word if _ACT.fullmatch(word) else step.kind.value


def marks(step: Step[object]) -> str:
    """Return what a reader must know before saying yes, in brackets; empty where there is nothing."""
    words = [word for word, is_so in (("destroys", step.destroys), ("interrupts", step.interrupts)) if is_so]
    words += [f"about {duration_text(step.expected)}"] if step.expected >= LONG else []
    return f"  ({', '.join(words)})" if words else ""


def _step_lines(step: Step[object]) -> Iterator[str]:
    shares = [f"{each.path.removeprefix('revision ')} {_arrow(each)}" for each in step.changes]
    is_shift = step.kind is StepKind.SHIFT and shares
    subject = "   ".join(shares) if is_shift else step.subject
    yield from _hanging(f"  {MARKS[step.kind]} {act(step)}", f"{subject}{marks(step)}")
    if is_shift or step.kind is StepKind.DELETE:
        return  # that a thing goes says all; a line a field would hide it
    for change in step.changes:
        yield from _hanging("", change_text(change))


def _hanging(label: str, text: str, indent: int = _INDENT) -> Iterator[str]:
    """Yield the lines of `text` beside `label`, each line but the first under the one before."""
    first, *others = folded(text, WIDTH - indent)
    yield (label.ljust(indent) + first).rstrip()
    yield from (" " * indent + each for each in others)


def change_text(change: Change) -> str:
    """Return a field's change: `path: before → after`."""
    return f"{change.path}: {_arrow(change)}"


def _arrow(change: Change) -> str:
    after = value_text(change.after)
    return after if change.before is None else f"{value_text(change.before)} → {after}"


def deployment(seen: Deployment) -> str:
    """Return what is there: address, phase, revisions with traffic, replicas with health."""
    lines = [
        *folded(f"{seen.identity}  {_phase_text(seen)}", WIDTH),
        f"address   {seen.address or 'none'}",
        _size_text(seen),
    ]
    if seen.stable and seen.stable.revision.content.machine:
        lines += _hanging("machine", ", ".join(seen.stable.revision.content.machine), indent=10)
    if seen.labels:
        words = ", ".join(f"{key}={value}" for key, value in sorted(seen.labels.items()))
        lines += _hanging("labels", words, indent=10)
    if seen.revisions:
        head = ("REVISION", "ROLE", "TRAFFIC", "READY", "FRAMEWORK")
        lines += ["", table(head, [_revision(each, seen.kind) for each in seen.revisions])]
    rows = [
        (replica.name, replica.health, str(replica.restarts), replica.detail)
        for each in seen.revisions
        for replica in each.replicas
    ]
    if rows:
        lines += ["", table(("REPLICA", "HEALTH", "RESTARTS", "DETAIL"), rows)]
    return "\n".join(lines)


def _phase_text(seen: Deployment) -> str:
    if not seen.reason:
        return seen.phase
    words = "; the last change failed: " if seen.phase is Phase.STEADY else ": "
    return f"{seen.phase}{words}{seen.reason}"


def _size_text(seen: Deployment) -> str:
    """Return how large it may be: bounds of replicas, or what a worker has where there are none."""
    if seen.kind is not Kind.SERVERLESS:
        return f"replicas  {bounds_text(seen.scaling.min, seen.scaling.max)}"
    memory, most = seen.settings.get("serverless.memory", "?"), seen.settings.get("serverless.concurrency", "?")
    warm = seen.settings.get("serverless.provisioned")
    return f"workers   {most} at most, {memory} each{f', {warm} kept warm' if warm else ''}"


def _revision(served: ServedRevision, kind: Kind) -> tuple[str, ...]:
    unknown = "-" if kind is Kind.SERVERLESS else "?"
    live = f"{served.live.ready}/{served.live.desired}" if served.live else unknown
    return (served.revision.id, served.role, share_text(served.share), live, served.revision.content.framework)
