"""Values → plain data for programs."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

from mlscale.plan.steps import Plan, Step, Unknown
from mlscale.report.text import cost_sum


def data(value: Any) -> Any:
    """Return `value` as JSON has it: durations in seconds, times in ISO 8601, money as text, sets in order.

    A figure that is unknown is `{"unknown": why}`, so that no program takes it for a number.

    Raises:
        TypeError: a part of `value` is of another type; a bug, so no MlscaleError.
    """
    if isinstance(value, Unknown):
        return {"unknown": value.why}
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: data(getattr(value, each.name)) for each in fields(value)}
    match value:
        case Enum():
            return value.value
        case None | bool() | int() | float() | str():
            return value
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal():
            return str(value)
        case Mapping():
            return {str(key): data(each) for key, each in value.items()}
        case list() | tuple():
            return [data(each) for each in value]
        case AbstractSet():
            return sorted(data(each) for each in value)
        case _:
            raise TypeError(f"no JSON for {type(value).__name__}")


def plan(made: Plan) -> dict[str, Any]:
    """Return a plan: its steps without the provider's payloads, which are nobody else's."""
    return {
        "identity": data(either.identity) if (either := made.asked or made.seen) else None,
        "made_at": data(made.made_at),
        "made_against": made.made_against,
        "changes": data(made.changes),
        "notes": dict(made.notes),
        "warnings": list(made.warnings),
        "cost_delta": data(cost_sum([step.cost_delta for step in made.steps])),
        "steps": [_step(step) for step in made.steps],
    }


def _step(step: Step[object]) -> dict[str, Any]:
    return {each.name: data(getattr(step, each.name)) for each in fields(step) if each.name != "payload"}
