"""A plan as a file: saved, read back, refused when it was changed by hand or is of another version."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from mlscale.deployment import Deployment
from mlscale.errors import UsageError
from mlscale.plan.steps import Change, Plan, Step, StepKind, Unknown


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _SavedStep(_Record):
    key: str
    kind: StepKind
    subject: str
    payload_type: str
    payload: Any
    after: tuple[str, ...]
    changes: tuple[Change, ...]
    destroys: bool
    interrupts: bool
    expected: timedelta
    cost_delta: Decimal | Unknown


class _SavedPlan(_Record):
    made_at: datetime
    asked: Deployment | None
    seen: Deployment | None
    steps: tuple[_SavedStep, ...]
    changes: tuple[Change, ...]
    made_against: str
    warnings: tuple[str, ...]
    notes: dict[str, str]


class Origin(_Record):
    """What a plan was made from: the spec's path, the overlay and overrides laid over it, and the workspace."""

    spec: str
    env: str | None = None
    overrides: tuple[str, ...] = ()
    workspace: str | None = None


class PlanFile(_Record):
    """What stands in a plan file. `seal` is a digest of the rest, so that a changed file is noticed."""

    version: Literal[1] = 1
    made_from: Origin
    seal: str
    plan: _SavedPlan


def text_of(plan: Plan, made_from: Origin, *, payloads: Any) -> str:
    """Return `plan` as the text of a plan file.

    Args:
        plan: what to save.
        made_from: what `deploy --plan` opens again.
        payloads: the provider's payload type, as `Provider.payloads` gives it.
    """
    adapters = _adapters(payloads)
    steps = tuple(
        _SavedStep(
            key=step.key,
            kind=step.kind,
            subject=step.subject,
            payload_type=type(step.payload).__name__,
            payload=adapters[type(step.payload).__name__].dump_python(step.payload, mode="json"),
            after=step.after,
            changes=step.changes,
            destroys=step.destroys,
            interrupts=step.interrupts,
            expected=step.expected,
            cost_delta=step.cost_delta,
        )
        for step in plan.steps
    )
    saved = _SavedPlan(
        made_at=plan.made_at,
        asked=plan.asked,
        seen=plan.seen,
        steps=steps,
        changes=plan.changes,
        made_against=plan.made_against,
        warnings=plan.warnings,
        notes=dict(plan.notes),
    )
    return PlanFile(made_from=made_from, seal=_seal(made_from, saved), plan=saved).model_dump_json(indent=1)


def file_of(text: str | bytes, *, name: str) -> PlanFile:
    """Return the checked content of a plan file.

    Raises:
        UsageError: it is no plan file of this version, or was changed after it was saved.
    """
    try:
        file = PlanFile.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            "this is not a plan file that can be carried out",
            why=f"{name}: {place + ': ' if place else ''}{first['msg']}",
            hint="mlscale plan --out FILE",
        ) from error
    if file.seal != _seal(file.made_from, file.plan):
        raise UsageError(
            "the plan file was changed after it was saved",
            why=f"{name} does not match its seal",
            hint="mlscale plan --out FILE",
        )
    return file


def plan_of(file: PlanFile, *, payloads: Any) -> Plan:
    """Return the plan that `file` holds, its payloads read as `payloads`.

    Raises:
        UsageError: another version of mlscale, or another provider, made a step that this one does not know.
    """
    adapters = _adapters(payloads)
    saved = file.plan
    unknown = [step.key for step in saved.steps if step.payload_type not in adapters]
    if unknown:
        raise UsageError(
            "this is not a plan file that can be carried out",
            why=f"nothing here knows how to do {', '.join(unknown)}",
            hint=f"mlscale plan --out FILE {file.made_from.spec}",
        )
    steps: tuple[Step[object], ...] = tuple(
        Step(
            key=step.key,
            kind=step.kind,
            subject=step.subject,
            payload=adapters[step.payload_type].validate_python(step.payload),
            after=step.after,
            changes=step.changes,
            destroys=step.destroys,
            interrupts=step.interrupts,
            expected=step.expected,
            cost_delta=step.cost_delta,
        )
        for step in saved.steps
    )
    return Plan(
        made_at=saved.made_at,
        asked=saved.asked,
        seen=saved.seen,
        steps=steps,
        changes=saved.changes,
        made_against=saved.made_against,
        warnings=saved.warnings,
        notes=saved.notes,
    )


def _adapters(payloads: Any) -> dict[str, TypeAdapter[Any]]:
    """Return a reader for each type of the union `payloads`, by name: several have the same fields."""
    return {kind.__name__: TypeAdapter(kind) for kind in get_args(payloads) or (payloads,)}


def _seal(made_from: Origin, plan: _SavedPlan) -> str:
    return hashlib.sha256((made_from.model_dump_json() + plan.model_dump_json()).encode()).hexdigest()
