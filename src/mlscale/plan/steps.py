"""What a plan is made of: steps in order, each with its reason, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Generic, TypeVar

from mlscale.deployment import Deployment

Payload = TypeVar("Payload", covariant=True)
"""What a provider needs to carry out a step: frozen values of its own."""


class StepKind(StrEnum):
    """What a step does, in words that hold for every provider."""

    CREATE = "create"
    UPDATE = "update"
    SHIFT = "shift"
    SCALE = "scale"
    WAIT = "wait"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Change:
    """One field that differs. `path` is the spec's word for it; None means absent."""

    path: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Unknown:
    """A figure that nobody has, and why; never taken for zero."""

    why: str


NO_PRICE_BOOK = Unknown("no price book")


@dataclass(frozen=True, slots=True)
class Step(Generic[Payload]):
    """One change at the provider.

    `key` is unique in the plan and the same whenever the same step is planned again. `after` are keys of steps that
    must be done first. `destroys` loses something that can't be had again, `interrupts` stops requests from being
    answered. `cost_delta` is USD per hour.
    """

    key: str
    kind: StepKind
    subject: str
    payload: Payload
    after: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    destroys: bool = False
    interrupts: bool = False
    expected: timedelta = timedelta(seconds=1)
    cost_delta: Decimal | Unknown = NO_PRICE_BOOK


SETTLE = "endpoint/settle"
"""The key of a step that waits for what goes on at the provider; the rest is planned anew when that is over."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps that turn `seen` into `asked`; none when there is no difference.

    `made_against` is the digest of what was read (`plan.make.digest`); `warnings` are for the reader alone.
    `asked` is None for a plan that destroys.
    """

    made_at: datetime
    asked: Deployment | None
    seen: Deployment | None
    steps: tuple[Step[object], ...]
    changes: tuple[Change, ...]
    made_against: str
    warnings: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
