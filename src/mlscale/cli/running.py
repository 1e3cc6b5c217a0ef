"""Carrying a plan out from the command line: shown, consented to, run, with signals that stop it in order."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from mlscale.cli.console import Output, Progress, note
from mlscale.cli.options import may_ask
from mlscale.cli.outcome import StoppedAtOnce
from mlscale.engine.apply import Applied, apply
from mlscale.engine.run import ApplyOptions, Event, Stop
from mlscale.errors import ConsentMissing, LeaseHeld, PlanStale, TimedOut
from mlscale.report import text

if TYPE_CHECKING:
    from mlscale.engine.session import Session
    from mlscale.plan.steps import Plan

TRIES = 3
"""How often a plan is made when what is there changes each time before it can be carried out."""


class Carrier(Protocol):
    """What the engine does with a plan."""

    def __call__(
        self, session: Session, plan: Plan, options: ApplyOptions, *, tell: Callable[[Event], None], stop: Stop
    ) -> Applied:
        """Return what came of it."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """How the user wants plans to be carried out.

    `expected` is the word that consent is typed as, None for y. `several` says that other plans are shown beside, so
    that each needs its name.
    """

    command: str
    output: Output
    no_color: bool = False
    yes: bool = False
    no_input: bool = False
    confirm: bool = False
    expected: str | None = None
    wait: bool = True
    several: bool = False
    timeout_s: float | None = None
    lease_wait_s: float = 0.0


def consent(session: Session, plan: Plan, wishes: Wishes, *, next_command: str) -> None:
    """Show what is about to be done, and return if it may be: nothing in it needs consent, or somebody gave it.

    Raises:
        ConsentMissing: nobody can be asked, or the answer was no.
    """
    risky = [step for step in plan.steps if step.destroys or step.interrupts]
    asks = bool(plan.steps) and not wishes.yes and bool(risky or wishes.confirm)
    if plan.steps and (asks or wishes.output is Output.TEXT):
        if wishes.several:
            note(f"{session.identity}:")
        note(text.plan(plan, next_command=next_command).rpartition("\n")[0], no_color=wishes.no_color)
    if not asks:
        return
    why = _harm(plan) if risky else "--confirm was given"
    if not may_ask(no_input=wishes.no_input):
        raise ConsentMissing("this needs consent", why=why, hint="add --yes")
    sys.stderr.write(f"{why}. Type {wishes.expected or 'y'} to go on: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() != (wishes.expected or "y"):
        raise ConsentMissing("no consent was given", why="the answer was another", hint="nothing was changed")


def _harm(plan: Plan) -> str:
    destroyed = ", ".join(step.subject for step in plan.steps if step.destroys)
    interrupted = ", ".join(step.subject for step in plan.steps if step.interrupts)
    parts = ((f"it destroys {destroyed}", destroyed), (f"it interrupts requests: {interrupted}", interrupted))
    return ", and ".join(words for words, is_so in parts if is_so)


def carry_out(
    session: Session,
    plan: Plan,
    wishes: Wishes,
    *,
    again: Callable[[], Plan] | None,
    next_command: str,
    by: Carrier = apply,
) -> tuple[Plan, Applied]:
    """Carry out `plan`, telling what happens; return what was carried out in the end, and what came of it.

    The first signal stops it in order, the second at once. `again` makes a fresh plan when what is there changed while
    another run was waited for; None carries out this plan or none. `by` is what the engine does with it.

    Raises:
        PlanStale: the plan does not fit what is there, and neither did those made after it.
    """
    clock = session.world.clock
    begun = clock.monotonic()
    if wishes.several and plan.steps:
        note(f"{session.identity}:")
    for tries_left in range(TRIES - 1, -1, -1):
        try:
            return plan, _applied(session, plan, wishes, clock.monotonic() - begun, by)
        except PlanStale:
            if again is None or not tries_left:
                raise
        note(f"  {session.identity.name} was changed by another run; planning again")
        fresh = again()
        if fresh.steps != plan.steps:
            consent(session, fresh, wishes, next_command=next_command)
        plan = fresh
    raise AssertionError("the last try returns or raises")


def _applied(session: Session, plan: Plan, wishes: Wishes, spent_s: float, by: Carrier) -> Applied:
    with under_way(session, wishes, spent_s) as (options, progress, stop):
        return by(session, plan, options, tell=progress, stop=stop)


@contextmanager
def under_way(
    session: Session, wishes: Wishes, spent_s: float = 0.0, progress: Progress | None = None
) -> Iterator[tuple[ApplyOptions, Progress, Stop]]:
    """Give what a run needs: its options, where it tells what happens, and what a signal stops it by.

    `progress` is where else it tells, `spent_s` what of the user's time is over.

    Raises:
        TimedOut: the user's time was over before another run let go of the lease.
    """
    options = ApplyOptions(
        command=wishes.command,
        wait=wishes.wait,
        timeout_s=None if wishes.timeout_s is None else max(0.0, wishes.timeout_s - spent_s),
        lease_wait_s=max(0.0, wishes.lease_wait_s - spent_s),
    )
    progress = progress or Progress(wishes.output, name=session.identity.name, no_color=wishes.no_color)
    stop = Stop()
    try:
        with _signals(stop, progress), progress.running():
            yield options, progress, stop
    except LeaseHeld as error:
        if options.timeout_s is None or options.timeout_s >= options.lease_wait_s:
            raise
        raise TimedOut("the time is over", why=f"another run holds the lease: {error.why}", hint=error.hint) from error


@contextmanager
def _signals(stop: Stop, progress: Progress) -> Iterator[None]:
    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if stop.requested:
            raise StoppedAtOnce(number, in_a_run=True)
        stop.request(number)
        what = progress.under_way()
        until = f"; under way: {what}" if what else ""
        # Not through sys.stderr: the signal may have come in the middle of a write to it.
        os.write(2, f"\nstopping at the next safe point{until}\nonce more stops at once\n".encode())

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
