"""What exists in the imitated cloud: projects and regions, a clock that can be moved, and what tests have scripted."""

from __future__ import annotations

import itertools
import re
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.doubles.cloud_storage import Buckets
from tests.doubles.vertex.refusal import Refusal, invalid

Json = dict[str, Any]

DELAY_S = 0.15
"""How long an operation takes unless a test says otherwise."""

NUMBERS = {"acme-ml": "123456789012"}
"""Numbers of projects; all others have one that is made from their ID."""

PLACE = re.compile(r"projects/([^/]+)(?:/locations/([a-z0-9-]+))?(?:/(.+))?")


@dataclass
class Settings:
    """What holds for all calls; metrics are seen `metrics_lag_s` late, `metrics_page` points of them a page at most."""

    delay_s: float = DELAY_S
    delays: dict[str, float] = field(default_factory=dict)
    latency_s: float = 0.0
    no_capacity: list[str] = field(default_factory=list)
    no_spot_capacity: list[str] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)
    metrics_lag_s: float = 0.0
    metrics_page: int = 100_000
    metrics_errors: list[str] = field(default_factory=list)


class Clock:
    """The time of day, and what tests have added to it."""

    def __init__(self) -> None:
        self.added_s = 0.0

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time() + self.added_s


@dataclass
class Script:
    """How the next change of a resource ends; used once. An empty `target` is any."""

    target: str
    on: str
    outcome: str
    reason: str = ""
    lines: list[str] = field(default_factory=list)


@dataclass
class Answer:
    """What a deployed model answers to a prediction, until it is told otherwise."""

    status: int = 200
    body: str | None = None
    content_type: str = "application/json"
    latency_s: float = 0.0


@dataclass
class Operation:
    """Something that takes time: when it ends, and what it does then."""

    name: str
    method: str
    version: str
    target: str
    started: float
    due: float
    metadata: Any
    act: Callable[[], Any] | None
    fails: tuple[str, str] | None = None
    response: Any = None
    error: tuple[str, str] | None = None
    done: bool = False
    updated: float = 0.0
    uses: str = ""


@dataclass
class Region:
    """One project in one location."""

    world: World
    project: Project
    name: str
    models: dict[str, Any] = field(default_factory=dict)
    endpoints: dict[str, Any] = field(default_factory=dict)
    batch_jobs: dict[str, Any] = field(default_factory=dict)
    custom_jobs: dict[str, Any] = field(default_factory=dict)
    quotas: dict[str, float] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Return what the names of all that is here begin with."""
        # rule names.number
        return f"projects/{self.project.number}/locations/{self.name}"

    def now(self) -> float:
        """Return seconds since the epoch."""
        return self.world.clock.now()


@dataclass
class Project:
    """A project, and what of it is in no location."""

    id: str
    number: str
    policies: dict[str, Any] = field(default_factory=dict)
    channels: dict[str, Any] = field(default_factory=dict)
    dashboards: dict[str, Any] = field(default_factory=dict)
    points: list[Any] = field(default_factory=list)
    entries: list[Json] = field(default_factory=list)


@dataclass
class Later:
    """Something that happens by itself once it is due."""

    due: float
    act: Callable[[], None]


class World:
    """Everything that exists."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.settings = Settings()
        self.projects: dict[str, Project] = {}
        self.regions: dict[tuple[str, str], Region] = {}
        self.operations: dict[str, Operation] = {}
        self.scripts: list[Script] = []
        self.answers: dict[tuple[str, str], Answer] = {}
        self.owed: dict[tuple[str, str], float] = {}
        self.later: list[Later] = []
        self.buckets = Buckets()
        self._numbers = itertools.count(1)

    def new_number(self, digits: int = 19) -> str:
        """Return a number that nothing else has, as long as the service's."""
        return f"{4 * 10 ** (digits - 1) + 7919 * next(self._numbers)}"

    def project(self, asked: str) -> Project:
        """Return the project of an ID or a number."""
        number = asked if asked.isdigit() else NUMBERS.get(asked) or f"{zlib.crc32(asked.encode()) + 10**11}"
        if number not in self.projects:
            names = {number: name for name, number in NUMBERS.items()}
            self.projects[number] = Project(names.get(number, asked), number)
        return self.projects[number]

    def region(self, project: str, name: str) -> Region:
        """Return the region, empty if nobody was there yet."""
        owner = self.project(project)
        key = (owner.number, name)
        if key not in self.regions:
            self.regions[key] = Region(self, owner, name)
        return self.regions[key]

    def located(self, name: str) -> tuple[Region, str]:
        """Return the region that a resource's name is in, and the rest of the name.

        Raises:
            Refusal: it is no such name.
        """
        found = PLACE.fullmatch(name)
        if found is None or found[2] is None:
            raise invalid("names.form", f"Invalid resource name: {name or '(empty)'}.")
        return self.region(found[1], found[2]), found[3] or ""

    def owner(self, name: str) -> Project:
        """Return the project that a resource's name is in.

        Raises:
            Refusal: it is no such name.
        """
        found = PLACE.fullmatch(name)
        if found is None:
            raise invalid("names.form", f"Invalid resource name: {name or '(empty)'}.")
        return self.project(found[1])

    def script(self, target: str, on: str) -> Script | None:
        """Return what was scripted for the resource's next change, and forget it."""
        found = next((each for each in self.scripts if each.on == on and each.target in {"", target}), None)
        if found is not None:
            self.scripts.remove(found)
        return found

    def under_way(self, target: str) -> Iterator[Operation]:
        """Return the operations on a resource that are not done."""
        return (each for each in self.operations.values() if each.target == target and not each.done)

    def delay(self, method: str) -> float:
        """Return how long an operation takes."""
        return self.settings.delays.get(method, self.settings.delay_s)

    def settle(self) -> None:
        """Let happen what is due, in its order."""
        now = self.clock.now()
        while True:
            due: list[Operation | Later] = [
                each for each in self.operations.values() if not each.done and each.due <= now
            ]
            due += [each for each in self.later if each.due <= now]
            if not due:
                return
            first = min(due, key=lambda each: each.due)
            if isinstance(first, Later):
                self.later.remove(first)
                first.act()
            else:
                _end(first)


def _end(operation: Operation) -> None:
    operation.done, operation.updated = True, operation.due
    act, operation.act = operation.act, None
    if operation.fails is not None:
        operation.error = operation.fails
        return
    try:
        operation.response = act() if act is not None else None
    except Refusal as refusal:
        operation.error = (refusal.code, refusal.message)


def stamp(message: Any, seconds: float) -> None:
    """Set a timestamp of a message."""
    message.seconds, message.nanos = int(seconds), int(seconds % 1 * 1e9)
