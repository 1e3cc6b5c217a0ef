"""The steps of a plan being done: journal, step, outcome, several side by side; what went wrong, as one error."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Literal

from mlscale.clock import Clock
from mlscale.errors import Interrupted, MlscaleError, NotAsAsked, ProviderFailed, Terminated, TimedOut
from mlscale.plan.steps import Plan, Step, StepKind
from mlscale.providers.contract import DONE, Outcome, Provider, Work
from mlscale.state.journal import Journal
from mlscale.state.lease import Held

SIDE_BY_SIDE = 8
LONGEST_CALL_S = 20.0
"""A mutating call ends within this time; it starts only if the lease outlives it (DESIGN §5)."""

TRIES, MOST_TRIES = 5, 30
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 8.0
POLL_EVERY_S = 0.1
LONGEST_SLEEP_S = 2.0
"""How long nobody looks whether the run shall stop."""

POLLS_GROW_BY = 1.5
"""Looks at work that goes on get rarer, up to the provider's `slowest_poll_s`: short work is seen to end soon, and long
work is not asked about all the time."""

_Kind = Literal["waiting", "run_started", "started", "progress", "retry", "done", "failed", "run_finished"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, and when; for whoever watches."""

    at: datetime
    kind: _Kind
    key: str
    subject: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class ApplyOptions:
    """How to carry out a plan: what the user typed, our own limit in seconds, how long to wait for the lease.

    `wait` False returns when all is begun that can be, without waiting for what the provider still does; a step that
    needs the end of another that goes on is left to the next run.
    """

    command: str
    wait: bool = True
    timeout_s: float | None = None
    lease_wait_s: float = 0.0


class Stop:
    """A wish to stop at the next safe point; set from a signal handler."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._signal: int = signal.SIGINT

    @property
    def requested(self) -> bool:
        """Whether somebody wants the run to stop."""
        return self._event.is_set()

    def request(self, number: int = signal.SIGINT) -> None:
        """Ask for a stop; `number` is the signal that asked."""
        self._signal = number
        self._event.set()

    def error(self, going_on: str) -> Interrupted:
        """Return the error for a run that stopped, saying what goes on at the provider."""
        kind = Terminated if self._signal == signal.SIGTERM else Interrupted
        return kind(
            "stopped at a safe point",
            why=going_on or "nothing goes on at the provider",
            hint="the same command again goes on from here",
        )


def rarer(pause: float, provider: Provider) -> float:
    """Return the pause (seconds) after the one of `pause`, between looks at what goes on there."""
    return min(pause * POLLS_GROW_BY, max(provider.slowest_poll_s, POLL_EVERY_S))


class Run:
    """One plan being carried out."""

    def __init__(
        self,
        provider: Provider,
        journal: Journal,
        lease: Held,
        clock: Clock,
        *,
        options: ApplyOptions,
        limit: float | None,
        tell: Callable[[Event], None],
        stop: Stop,
        begun: Mapping[str, str] | None = None,
    ) -> None:
        """Carry out plans for `options`, until the monotonic time `limit` at most.

        `begun` are operations that a run before began and did not see the end of, by the key of their step.
        """
        self._provider = provider
        self._journal = journal
        self._lease = lease
        self._clock = clock
        self._options = options
        self._tell = tell
        self._stop = stop
        self._limit = limit
        self._telling = threading.Lock()
        self._broken = threading.Event()
        self._begun = dict(begun or {})

    def carry_out(self, plan: Plan) -> None:
        """Do every step of `plan`, each after those it waits for.

        A step that fails lets those that run end and starts no more.

        Raises:
            MlscaleError: the first failure; TimedOut and Interrupted when it was time or a signal.
        """
        open_steps = {step.key: step for step in plan.steps}
        done: set[str] = set()
        running: dict[Future[Work], Step[object]] = {}
        failure: BaseException | None = None
        pool = ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="step")
        try:
            while open_steps or running:
                if failure is None:
                    for step in [each for each in open_steps.values() if done.issuperset(each.after)]:
                        running[pool.submit(self._do, step)] = open_steps.pop(step.key)
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    step = running.pop(future)
                    error = future.exception()
                    if error is not None:
                        self._broken.set()
                        failure = failure or error
                    elif future.result() is Work.DONE:
                        done.add(step.key)
        finally:
            # After a second Ctrl-C nothing is waited for, not even a call that is under way.
            pool.shutdown(wait=False, cancel_futures=True)
        if failure is not None:
            raise failure

    def take_back(self, plan: Plan) -> None:
        """Do the steps of `plan` after another failed: neither that failure nor our time limit stops them."""
        self._broken.clear()
        self._limit = None
        self.carry_out(plan)

    def say(self, kind: _Kind, key: str, subject: str, text: str = "") -> None:
        """Tell whoever watches; one at a time."""
        with self._telling:
            self._tell(Event(self._clock.now(), kind, key, subject, text))

    def _do(self, step: Step[object]) -> Work:
        self._checkpoint(step)
        self._lease.check(LONGEST_CALL_S)
        self._journal.intended(step.key, step.kind, step.subject)
        self.say("started", step.key, step.subject)
        try:
            outcome = self._resumed(step) or self._performed(step)
            if outcome.work is Work.RUNNING and outcome.operation:
                self._journal.began(step.key, outcome.operation)
            if self._options.wait:
                outcome = self._awaited(step, outcome)
            if outcome.work is Work.DONE and step.kind is not StepKind.WAIT:
                self._confirm(step)
        except MlscaleError as error:
            self._journal.failed(step.key, str(error), retryable=error.retryable)
            self.say("failed", step.key, step.subject, error.why)
            raise
        if outcome.work is Work.DONE:
            self._journal.done(step.key, outcome.detail)
            self.say("done", step.key, step.subject, outcome.detail)
        return outcome.work

    def _resumed(self, step: Step[object]) -> Outcome | None:
        """Return how far the operation is that a run before began for `step`; None if there is none to go on with."""
        operation = self._begun.pop(step.key, None)
        if operation is None:
            return None
        try:
            outcome = self._provider.poll(step, operation)
        except MlscaleError:  # it is over, and did not work; or nobody knows it any more: it is done anew
            return None
        if outcome.work is Work.DONE and step.kind is not StepKind.WAIT and not self._provider.is_done(step):
            return None
        return outcome

    def _performed(self, step: Step[object]) -> Outcome:
        """Return what came of the step's call, made again while that may help.

        Where the user gave a time it is tried until then, else a few times in a row with the same failure: a step of
        many calls may have each of them refused for a moment, and comes further each time.
        """
        pause, in_vain, said = FIRST_PAUSE_S, 0, ""
        for tried in count(1):
            try:
                if tried > 1 and self._provider.is_done(step):  # a call that failed for us may have worked over there
                    return DONE
                self._lease.check(LONGEST_CALL_S)
                return self._provider.perform(step, lambda text: self._heard(step, text))
            except ProviderFailed as error:
                if error.why != said:
                    pause, in_vain, said = FIRST_PAUSE_S, 0, error.why
                in_vain += 1
                over = in_vain >= TRIES or tried >= MOST_TRIES
                if not error.retryable or (over and self._limit is None):
                    raise
                self.say("retry", step.key, step.subject, f"{error.why}; again in {pause:g} s")
            self._clock.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)
            self._checkpoint(step)
        raise AssertionError("a try returns or raises")

    def _heard(self, step: Step[object], text: str) -> None:
        """Tell how far a long call is; it ends here, by our error, when it is time to stop."""
        self.say("progress", step.key, step.subject, text)
        self._checkpoint(step)

    def _awaited(self, step: Step[object], outcome: Outcome) -> Outcome:
        told, pause, failed = "", POLL_EVERY_S, 0
        while outcome.work is Work.RUNNING:
            self._checkpoint(step)
            if outcome.detail != told:
                told = outcome.detail
                self.say("progress", step.key, step.subject, told)
            self._sleep(step, pause)
            pause = rarer(pause, self._provider)
            known = outcome.operation
            try:
                outcome = self._provider.poll(step, known or "")
                failed = 0
            except ProviderFailed as error:
                # That nobody answers for a while says nothing about what goes on there.
                failed += 1
                if not error.retryable or (failed >= TRIES and self._limit is None):
                    raise
                self.say("retry", step.key, step.subject, error.why)
            if outcome.operation and outcome.operation != known:  # begun anew, as on the next machine of a list
                self._journal.began(step.key, outcome.operation)
        return outcome

    def _sleep(self, step: Step[object], seconds: float) -> None:
        """Return after that time, or raise soon after somebody wants the run to stop."""
        while seconds > LONGEST_SLEEP_S:
            self._clock.sleep(LONGEST_SLEEP_S)
            self._checkpoint(step)
            seconds -= LONGEST_SLEEP_S
        self._clock.sleep(seconds)

    def _confirm(self, step: Step[object]) -> None:
        """Return when `step` is seen to be done; what was only said to be done must not let the next step destroy.

        A wait has nothing to confirm: it is made of looks itself.
        """
        limit, pause = self._clock.monotonic() + self._provider.settles_within_s, POLL_EVERY_S
        while not self._provider.is_done(step):
            if self._clock.monotonic() >= limit:
                raise NotAsAsked(
                    "a step was done without effect", why=f"{step.subject}: {step.kind} was said to be done, and is not"
                )
            self._clock.sleep(pause)
            pause = rarer(pause, self._provider)

    def _checkpoint(self, step: Step[object]) -> None:
        """Return if the run may go on; a safe point, because what was begun is journalled and can be polled."""
        if self._stop.requested or self._broken.is_set():
            raise self._stop.error(f"{step.subject} goes on")
        if self._limit is not None and self._clock.monotonic() >= self._limit:
            raise TimedOut(
                "the time is over",
                why=f"{self._options.timeout_s:g} s ended while {step.subject} was not done; it goes on by itself",
                hint=f"the same command again goes on: {self._options.command}",
            )
