"""What exists in the imitated cloud: accounts and regions, a clock that can be moved, and what tests have scripted."""

from __future__ import annotations

import struct
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

DELAY_S = 0.15
"""How long a change of an endpoint takes unless a test says otherwise."""

IN_PROGRESS = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})


def float32(number: float) -> float:
    """Return the number as it comes back from a service that keeps weights in 32 bits."""
    value: float = struct.unpack("f", struct.pack("f", number))[0]
    return value


@dataclass
class Settings:
    """What holds for all calls; values of metrics come `metrics_lag_s` late, `metrics_page` of them a page at most."""

    delay_s: float = DELAY_S
    latency_s: float = 0.0
    no_capacity: list[str] = field(default_factory=list)
    metrics_lag_s: float = 0.0
    metrics_page: int = 100_800


class Clock:
    """The time of day, and what tests have added to it."""

    def __init__(self) -> None:
        self.added_s = 0.0

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time() + self.added_s


@dataclass
class Record:
    """A model or an endpoint configuration: what was asked, kept whole."""

    name: str
    arn: str
    asked: Json
    created: float


@dataclass
class Variant:
    """A variant as it runs; a shadow gets copies of requests and answers none."""

    asked: Json
    weight: float
    count: int = 0
    serverless: Json = field(default_factory=dict)
    pools: dict[str, int] = field(default_factory=dict)
    is_shadow: bool = False

    @property
    def name(self) -> str:
        """Return its name."""
        name: str = self.asked["VariantName"]
        return name


@dataclass
class Change:
    """What an endpoint is busy with, and how it will end."""

    kind: str
    due: float
    started: float
    config_name: str
    config: Json
    variants: list[Variant]
    outcome: str = "done"
    reason: str = ""
    deployment: Json | None = None


@dataclass
class Endpoint:
    """An endpoint: the arrangement that serves, and the change under way if there is one."""

    name: str
    arn: str
    config_name: str
    config: Json
    variants: list[Variant]
    status: str
    created: float
    modified: float
    change: Change | None = None
    reason: str = ""
    deployment: Json | None = None

    def variant(self, name: str) -> Variant | None:
        """Return the variant of that name."""
        return next((each for each in self.variants if each.name == name), None)

    @property
    def answering(self) -> list[Variant]:
        """Return the variants that answer, without shadows."""
        return [each for each in self.variants if not each.is_shadow]


@dataclass
class Script:
    """How the next change of an endpoint ends; used once."""

    endpoint: str
    on: str
    outcome: str
    reason: str = ""
    lines: list[str] = field(default_factory=list)


@dataclass
class Answer:
    """What a variant answers to an invocation, until it is told otherwise."""

    status: int = 200
    body: str | None = None
    content_type: str = "application/json"
    latency_s: float = 0.0


@dataclass
class Region:
    """One account in one region."""

    world: World
    account: str
    name: str
    models: dict[str, Record] = field(default_factory=dict)
    configs: dict[str, Record] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    targets: dict[tuple[str, str, str], Json] = field(default_factory=dict)
    policies: dict[tuple[str, str, str, str], Json] = field(default_factory=dict)
    actions: dict[tuple[str, str, str, str], Json] = field(default_factory=dict)
    activities: list[Json] = field(default_factory=list)
    alarms: dict[str, Json] = field(default_factory=dict)
    alarm_history: list[Json] = field(default_factory=list)
    dashboards: dict[str, Json] = field(default_factory=dict)
    metrics: list[Json] = field(default_factory=list)
    expressions: dict[str, list[list[tuple[float, float]]]] = field(default_factory=dict)
    log_groups: dict[str, Json] = field(default_factory=dict)
    quotas: dict[str, float] = field(default_factory=dict)

    def arn(self, service: str, resource: str) -> str:
        """Return the name of a resource here, good everywhere."""
        return f"arn:aws:{service}:{self.name}:{self.account}:{resource}"

    def now(self) -> float:
        """Return seconds since the epoch."""
        return self.world.clock.now()


@dataclass
class Later:
    """Something that happens by itself once it is due and possible; `act` says whether it did."""

    due: float
    act: Callable[[], bool]


class World:
    """Everything that exists."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.settings = Settings()
        self.regions: dict[tuple[str, str], Region] = {}
        self.scripts: list[Script] = []
        self.answers: dict[tuple[str, str], Answer] = {}
        self.later: list[Later] = []

    def region(self, account: str, name: str) -> Region:
        """Return the region, empty if nobody was there yet."""
        key = (account, name)
        if key not in self.regions:
            self.regions[key] = Region(self, account, name)
        return self.regions[key]

    def script(self, endpoint: str, on: str) -> Script | None:
        """Return what was scripted for the endpoint's next change, and forget it."""
        found = next((each for each in self.scripts if each.endpoint == endpoint and each.on == on), None)
        if found is not None:
            self.scripts.remove(found)
        return found

    def catch_up(self) -> None:
        """Let happen what is due."""
        now = self.clock.now()
        self.later = [each for each in self.later if each.due > now or not each.act()]


def page(
    items: list[Json], asked: Mapping[str, Any], *, size: int, limit: str = "MaxResults"
) -> tuple[list[Json], Json]:
    """Return the page that was asked for, and the token of the next one as a member for the answer."""
    start = int(asked.get("NextToken") or 0)
    end = start + int(asked.get(limit) or size)
    return items[start:end], {"NextToken": str(end)} if end < len(items) else {}


def new_id() -> str:
    """Return a name that nothing else has."""
    return str(uuid.uuid4())
