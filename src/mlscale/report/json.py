"""Values → plain data for programs."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

from mlscale.plan.steps import Plan, Step


def data(value: Any) -> Any:
    """Return `value` as JSON has it: durations in seconds, times in ISO 8601, money as text."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: data(getattr(value, each.name)) for each in fields(value)}
    match value:
        case Enum():
            return value.value
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal():
            return str(value)
        case dict():
            return {str(key): data(each) for key, each in value.items()}
        case list() | tuple():
            return [data(each) for each in value]
        case _:
            return value


def plan(made: Plan) -> dict[str, Any]:
    """Return a plan: its steps without the provider's payloads, which are nobody else's."""
    return {
        "made_at": data(made.made_at),
        "made_against": made.made_against,
        "changes": data(made.changes),
        "warnings": list(made.warnings),
        "steps": [_step(step) for step in made.steps],
    }


def _step(step: Step[object]) -> dict[str, Any]:
    return {each.name: data(getattr(step, each.name)) for each in fields(step) if each.name != "payload"}
