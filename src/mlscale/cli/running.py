"""Carrying a plan out from the command line: shown, consented to, run, with signals that stop it in order."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from mlscale.cli.console import Progress, note
from mlscale.cli.options import Output, may_ask, seconds_of
from mlscale.engine.apply import Applied, ApplyOptions, Stop
from mlscale.engine.session import apply
from mlscale.errors import ConsentMissing
from mlscale.report import text

if TYPE_CHECKING:
    from mlscale.engine.session import Session
    from mlscale.plan.steps import Plan


def carry_out(
    session: Session,
    plan: Plan,
    *,
    output: Output,
    no_color: bool,
    timeout: str | None,
    lease_timeout: str,
    wait: bool = True,
) -> Applied:
    """Carry out `plan`, telling what happens; the first signal stops it in order, the second at once."""
    progress = Progress(output, no_color=no_color)
    stop = Stop()
    options = ApplyOptions(
        command=" ".join(["mlscale", *sys.argv[1:]]),
        wait=wait,
        timeout_s=seconds_of(timeout, "--timeout"),
        lease_wait_s=seconds_of(lease_timeout, "--lease-timeout") or 0.0,
    )
    with _signals(stop), progress.running():
        return apply(session, plan, options, tell=progress, stop=stop)


@contextmanager
def _signals(stop: Stop) -> Iterator[None]:
    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if stop.requested:
            raise KeyboardInterrupt
        stop.request(number)
        note("stopping at the next safe point; once more stops at once")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def show_plan(plan: Plan, command: str) -> None:
    """Show on stderr what is about to be done."""
    if plan.steps:
        note(text.plan(plan, next_command=command).rpartition("\n")[0])


def consent(plan: Plan, *, yes: bool, no_input: bool, confirm: bool = False, expected: str | None = None) -> None:
    """Return if the plan may be carried out: nothing in it needs consent, or somebody gave it.

    Args:
        plan: what is about to be done.
        yes: consent from the command line.
        no_input: nobody may be asked.
        confirm: ask even where nothing needs consent.
        expected: the word that must be typed, None for y.

    Raises:
        ConsentMissing: nobody can be asked, or the answer was no.
    """
    risky = [step for step in plan.steps if step.destroys or step.interrupts]
    if yes or not plan.steps or not (risky or confirm):
        return
    why = f"{risky[0].kind} {risky[0].subject}" if risky else "--confirm was given"
    if not may_ask(no_input=no_input):
        raise ConsentMissing("this needs consent", why=why, hint="add --yes")
    sys.stderr.write(f"{why}. Type {expected or 'y'} to go on: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() != (expected or "y"):
        raise ConsentMissing("this needs consent", why="the answer was no", hint="nothing was changed")
