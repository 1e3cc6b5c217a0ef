"""The write-ahead journal: what a run is about to do, and what came of it, one small object an event."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from mlscale.clock import Clock
from mlscale.deployment import Scaling
from mlscale.errors import LeaseLost, WorkspaceFailed
from mlscale.plan.steps import StepKind
from mlscale.state.store import Store


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    at: AwareDatetime
    run_id: str
    fence: int
    seq: int


IN_ORDER = frozenset({"done", "unchanged", "rolled_back"})
"""Outcomes after which nothing is left half done."""


class RunStarted(_Event):
    """A run begins to carry out a plan.

    `revision` is what is to serve at its end, empty if nothing is. `scaling` is what held before, None if nothing was
    there: a provider may have to take it off for a while, and who is cut off then leaves nothing to read it from.
    """

    event: Literal["run_started"] = "run_started"
    command: str
    made_against: str
    steps: tuple[str, ...]
    revision: str = ""
    scaling: Scaling | None = None


class StepIntended(_Event):
    """A step is about to be done: after a kill, this is the one in doubt."""

    event: Literal["step_intended"] = "step_intended"
    key: str
    kind: StepKind
    subject: str


class StepBegan(_Event):
    """The provider works on a step by itself: whoever goes on asks for the operation by its name."""

    event: Literal["step_began"] = "step_began"
    key: str
    operation: str


class StepDone(_Event):
    """A step is done."""

    event: Literal["step_done"] = "step_done"
    key: str
    detail: str


class StepFailed(_Event):
    """A step did not work."""

    event: Literal["step_failed"] = "step_failed"
    key: str
    why: str
    retryable: bool


class RunFinished(_Event):
    """A run ended by itself; one without this was cut off."""

    event: Literal["run_finished"] = "run_finished"
    outcome: str
    why: str


Event: TypeAlias = Annotated[
    RunStarted | StepIntended | StepBegan | StepDone | StepFailed | RunFinished, Field(discriminator="event")
]

_Make: TypeAlias = Callable[[dict[str, Any]], Event]

_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


class Journal:
    """One run's writer. Thread-safe; numbers come in the order of the writes."""

    def __init__(self, store: Store, name: str, run_id: str, fence: int, clock: Clock) -> None:
        self._store = store
        self._folder = f"journal/{name}/{fence:08d}-{run_id}"
        self._run_id = run_id
        self._fence = fence
        self._clock = clock
        self._next = 0
        self._lock = threading.Lock()

    def started(
        self,
        command: str,
        made_against: str,
        steps: Sequence[str],
        *,
        revision: str = "",
        scaling: Scaling | None = None,
    ) -> None:
        """Write that the run begins."""
        facts: dict[str, Any] = {"command": command, "made_against": made_against, "steps": tuple(steps)}
        self._write(lambda base: RunStarted(**base, **facts, revision=revision, scaling=scaling))

    def intended(self, key: str, kind: StepKind, subject: str) -> None:
        """Write that a step is about to be done."""
        self._write(lambda base: StepIntended(**base, key=key, kind=kind, subject=subject))

    def began(self, key: str, operation: str) -> None:
        """Write by which name the provider knows what it does for a step."""
        self._write(lambda base: StepBegan(**base, key=key, operation=operation))

    def done(self, key: str, detail: str) -> None:
        """Write that a step is done."""
        self._write(lambda base: StepDone(**base, key=key, detail=detail))

    def failed(self, key: str, why: str, *, retryable: bool) -> None:
        """Write that a step did not work."""
        self._write(lambda base: StepFailed(**base, key=key, why=why, retryable=retryable))

    def finished(self, outcome: str, why: str = "") -> None:
        """Write that the run ended."""
        self._write(lambda base: RunFinished(**base, outcome=outcome, why=why))

    def _write(self, make: _Make) -> None:
        with self._lock:
            event = make({"at": self._clock.now(), "run_id": self._run_id, "fence": self._fence, "seq": self._next})
            path = f"{self._folder}/{self._next:06d}.json"
            data = event.model_dump_json().encode()
            # The number is used up even when the write fails: it may have arrived, and a gap does no harm.
            self._next += 1
            if self._store.create(path, data) is None:
                found = self._store.get(path)
                if found is None or found.data != data:
                    raise LeaseLost("another writer has this run's number", why=path, hint="run the same command again")


def new_run_id(now: datetime, seed: str) -> str:
    """Return a run's id: sorts by time, differs by `seed`, like `20261124T071500-3f2a1c`.

    The first three digits after the dash are the second's 4096ths, the last three a digest of `seed`.
    """
    fraction = now.microsecond * 4096 // 1_000_000
    return f"{now:%Y%m%dT%H%M%S}-{fraction:03x}{hashlib.sha256(seed.encode()).hexdigest()[:3]}"


def runs(store: Store, name: str) -> Sequence[str]:
    """Return the ids of the runs on `name`, oldest first.

    The order is that of their fences, as the folders' names have it: clocks of two machines may differ.
    """
    return list(dict.fromkeys(_run_of(path) for path in store.list(f"journal/{name}/")))


def events(store: Store, name: str, run_id: str) -> Iterator[Event]:
    """Yield a run's events in order.

    Raises:
        WorkspaceFailed: one is not of this version.
    """
    for path in store.list(f"journal/{name}/"):
        found = store.get(path) if _run_of(path) == run_id else None
        if found is not None:
            yield _event_of(found.data, path)


def unfinished(store: Store, name: str) -> str | None:
    """Return the id of the newest run if it was cut off, or goes on, else None: its last event says so."""
    last = store.list(f"journal/{name}/")[-1:]
    found = store.get(last[0]) if last else None
    return None if found is None or isinstance(_event_of(found.data, last[0]), RunFinished) else _run_of(last[0])


def not_ended_well(store: Store, name: str) -> RunStarted | None:
    """Return how the newest run began if it was cut off, stopped or failed; None if it left all in order."""
    paths = store.list(f"journal/{name}/")
    newest = [path for path in paths if _run_of(path) == _run_of(paths[-1])]
    found = [_event_of(each.data, path) for path in newest[:1] + newest[-1:] if (each := store.get(path))]
    if not found or not isinstance(found[0], RunStarted):
        return None
    return None if isinstance(found[-1], RunFinished) and found[-1].outcome in IN_ORDER else found[0]


def left_open(store: Store, name: str, run_id: str) -> dict[str, str]:
    """Return the operations that a run began and did not see the end of, by the key of their step."""
    found: dict[str, str] = {}
    for event in events(store, name, run_id):
        if isinstance(event, StepBegan):
            found[event.key] = event.operation
        elif isinstance(event, StepDone | StepFailed):
            found.pop(event.key, None)
    return found


def _run_of(path: str) -> str:
    return path.split("/")[2].partition("-")[2]


def _event_of(data: bytes, path: str) -> Event:
    try:
        return _EVENT.validate_json(data)
    except ValueError as error:
        raise WorkspaceFailed(
            "an event of the journal can't be read", why=path, hint="use the mlscale that wrote it"
        ) from error
