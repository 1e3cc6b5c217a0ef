"""Asked × seen × the provider's steps → a Plan that can be shown, saved and carried out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from graphlib import CycleError, TopologicalSorter

from mlscale.deployment import WHOLE, Deployment, Phase, Role, ServedRevision, without_live
from mlscale.plan.diff import changes, fields, value_text
from mlscale.plan.steps import Plan, Step


def plan(
    asked: Deployment | None,
    seen: Deployment | None,
    steps: Sequence[Step[object]],
    *,
    now: datetime,
    warnings: Sequence[str] = (),
) -> Plan:
    """Return the plan that carries out `steps`, in an order that every `after` allows.

    Raises:
        ValueError: two steps share a key, or one waits for a step that is not there or for itself; a provider's bug.
    """
    return Plan(
        made_at=now,
        asked=asked,
        seen=seen,
        steps=_in_order(steps),
        changes=changes(asked, seen),
        made_against=digest(seen),
        warnings=tuple(warnings),
    )


def digest(seen: Deployment | None) -> str:
    """Return a digest of what a plan depends on: without counts and times, so autoscaling makes no plan stale."""
    if seen is None:
        return "absent"
    facts = {**fields(without_live(seen)), "phase": seen.phase.value}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def back_to_stable(seen: Deployment) -> Deployment | None:
    """Return what to ask for so that `seen` is its stable revision alone again; None if it has no stable one."""
    stable = seen.stable
    if stable is None:
        return None
    return with_revision(seen, stable)


def with_revision(deployment: Deployment, served: ServedRevision) -> Deployment:
    """Return `deployment` with `served` as its only revision: stable, all traffic. Scaling and labels stay."""
    alone = replace(served, role=Role.STABLE, share=WHOLE, live=None, replicas=())
    asked = replace(without_live(deployment), revisions=(alone,))
    return replace(asked, phase=Phase.STEADY, reason="", pending=None)


def difference(asked: Deployment | None, seen: Deployment | None) -> tuple[str, ...]:
    """Return what is not as asked, a line a field; empty when the world is as it should be."""
    return tuple(
        f"{change.path}: asked {value_text(change.after)}, is {value_text(change.before)}"
        for change in changes(asked, seen)
    )


def _in_order(steps: Sequence[Step[object]]) -> tuple[Step[object], ...]:
    by_key = {step.key: step for step in steps}
    if len(by_key) != len(steps):
        raise ValueError(f"two steps share a key: {sorted(step.key for step in steps)}")
    missing = {key for step in steps for key in step.after} - by_key.keys()
    if missing:
        raise ValueError(f"steps that nobody plans are waited for: {sorted(missing)}")
    try:
        order = list(TopologicalSorter({step.key: step.after for step in steps}).static_order())
    except CycleError as error:
        raise ValueError(f"steps wait for each other: {error.args[1]}") from error
    return tuple(by_key[key] for key in order)
