"""What is served: one type for what is asked and for what is seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from enum import StrEnum

WHOLE = 10_000
"""All traffic, in basis points: a share is an integer, so two shares compare exactly."""

TO_BUILD = "to build"
"""The image of a content that we build one for, until `Provider.pinned` says which."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Where a deployment is and what it is called; two with the same identity are the same one.

    `account` is an AWS account or a Google project, `region` a cloud region; both None on this machine.
    `name` includes the environment: `reviews-prod`.
    """

    provider: str
    name: str
    account: str | None = None
    region: str | None = None

    def __str__(self) -> str:
        return "/".join(part for part in (self.provider, self.account, self.region, self.name) if part)


class Kind(StrEnum):
    """How requests reach the model: answered at once, the same without machines of one's own, or from a queue."""

    REALTIME = "realtime"
    SERVERLESS = "serverless"
    ASYNC = "async"


class Role(StrEnum):
    """What a revision is to its endpoint."""

    STABLE = "stable"
    CANDIDATE = "candidate"
    SHADOW = "shadow"
    RETIRED = "retired"


class Phase(StrEnum):
    """What the endpoint is doing."""

    STEADY = "steady"
    CHANGING = "changing"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Health:
    """How a replica shows that it can serve: `GET path` answers 200 within `startup_timeout` of its start."""

    path: str = "/ping"
    startup_timeout: timedelta = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Content:
    """What a revision is made of; its id is a digest of this, so equal content is the same revision.

    Scaling, schedules, alarms, budgets and labels are not in it: they change in place.

    `artifact` is the digest of the model's files, `handler` and `requirements` those of their files (None if
    there is none), `runtime` that of the serving code or None where none of ours is in it. `image` is the container
    image: an own one, one that we build, or one of the cloud's. `artifact` is empty for an image that has its model in
    it. `machine` is what to run on, by preference; on this machine what a replica gets of it.
    """

    artifact: str
    framework: str
    framework_version: str | None = None
    handler: str | None = None
    requirements: str | None = None
    image: str | None = None
    runtime: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    machine: tuple[str, ...] = ()
    health: Health = Health()

    @property
    def is_built(self) -> bool:
        """Whether its image is one that we build."""
        return self.image is not None and self.runtime is not None


@dataclass(frozen=True, slots=True)
class Revision:
    """One version of what is served. `id` is ten hex digits, computed by `revision_of`."""

    id: str
    content: Content


def revision_of(content: Content) -> Revision:
    """Return the revision that `content` is: the same content gives the same id on every machine."""
    import hashlib  # it loads OpenSSL, and most of who imports this module make no revision

    facts = asdict(content)
    facts["health"]["startup_timeout"] = content.health.startup_timeout.total_seconds()
    facts["environment"] = dict(sorted(content.environment.items()))
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return Revision(hashlib.sha256(text.encode()).hexdigest()[:10], content)


@dataclass(frozen=True, slots=True)
class Live:
    """Counts that the provider reports now; never asked for, so never a difference.

    `desired` is what its autoscaling wants, `ready` how many pass their health check.
    """

    desired: int
    ready: int


@dataclass(frozen=True, slots=True)
class Replica:
    """One running copy of a revision, as seen. `health` is starting, healthy, unhealthy or backing_off."""

    name: str
    health: str
    restarts: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ServedRevision:
    """A revision on an endpoint. `share` is its traffic in basis points (10000 is all).

    `metric_dimension` is how its metrics are told apart: the provider's own word.
    """

    revision: Revision
    role: Role
    share: int
    live: Live | None = None
    replicas: tuple[Replica, ...] = ()
    metric_dimension: str = ""


class Metric(StrEnum):
    """What autoscaling can follow."""

    INVOCATIONS_PER_REPLICA = "invocations_per_replica"
    CONCURRENCY = "concurrency"
    CPU = "cpu"
    GPU = "gpu"
    QUEUE_DEPTH = "queue_depth"
    CUSTOM = "custom"


@dataclass(frozen=True, slots=True)
class CustomMetric:
    """A metric of the user's own, as the cloud's monitoring has it; `statistic` is its word, like Average."""

    namespace: str
    name: str
    statistic: str = "Average"
    dimensions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TargetPolicy:
    """Keep a metric near a value by adding and removing replicas.

    `value`: requests a minute per replica, open requests per replica, percent of one core for cpu and of one GPU for
    gpu, waiting requests per replica for queue_depth; for a custom metric, which `custom` then names, its own unit.
    """

    metric: Metric
    value: float
    scale_in_cooldown: timedelta = timedelta(minutes=5)
    scale_out_cooldown: timedelta = timedelta(seconds=30)
    custom: CustomMetric | None = None


@dataclass(frozen=True, slots=True)
class StepPolicy:
    """While a metric is above (or below) a bound, change the replica count by `add` (negative removes)."""

    metric: Metric
    add: int
    above: float | None = None
    below: float | None = None
    cooldown: timedelta = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class ScheduledBounds:
    """From each time that `cron` (five fields, in `timezone`) names, use these bounds until the next such time."""

    cron: str
    timezone: str = "UTC"
    min: int | None = None
    max: int | None = None


@dataclass(frozen=True, slots=True)
class Scaling:
    """How many replicas, and what moves that number between `min` and `max`."""

    min: int = 1
    max: int = 1
    target: tuple[TargetPolicy, ...] = ()
    steps: tuple[StepPolicy, ...] = ()
    schedule: tuple[ScheduledBounds, ...] = ()


class AuxiliaryKind(StrEnum):
    """Resources beside the endpoint that change in place."""

    ALARM = "alarm"
    DASHBOARD = "dashboard"
    BUDGET = "budget"


@dataclass(frozen=True, slots=True)
class Auxiliary:
    """A resource beside the endpoint, found again by our `key`; `content` is what it holds, in the spec's words."""

    kind: AuxiliaryKind
    key: str
    content: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model in production, asked or seen.

    Asked: one stable revision with all traffic, or beside it a candidate with a share (a shadow: with the share of the
    requests that it gets copies of); no live counts, phase steady.
    Seen: what the provider has. `reason` is the provider's own word for a failed or changing phase, `pending` the
    operations that go on there, a space between their names. `address` is where requests go, `spec_hash` the mark of
    the last spec applied. `settings` are the provider's own endpoint settings (the port here, the VPC there), as text;
    `facts` are what the provider must know again of what it has read, and nobody asks for: never a difference.
    `sources` says where the files with a digest are (digest → path or URL); asked only, and never a difference.
    """

    identity: Identity
    kind: Kind = Kind.REALTIME
    revisions: tuple[ServedRevision, ...] = ()
    scaling: Scaling = Scaling()
    labels: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    auxiliaries: tuple[Auxiliary, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    phase: Phase = Phase.STEADY
    reason: str = ""
    pending: str | None = None
    address: str | None = None
    spec_hash: str = ""

    @property
    def stable(self) -> ServedRevision | None:
        """The revision that the endpoint goes back to, None before the first deploy."""
        return next((served for served in self.revisions if served.role is Role.STABLE), None)

    @property
    def candidate(self) -> ServedRevision | None:
        """The revision that is tried beside the stable one, None if there is none."""
        tried = (Role.CANDIDATE, Role.SHADOW)
        return next((served for served in self.revisions if served.role in tried), None)


@dataclass(frozen=True, slots=True)
class RolloutWish:
    """How a new revision shall take over in one plan.

    `steps` are the shares of a canary in basis points, `interval` the time between them; only where the provider goes
    those steps by itself. A rollout that mlscale drives asks for two revisions with their shares, all at once.
    """

    strategy: str = "all_at_once"
    bake_time: timedelta = timedelta(0)
    steps: tuple[int, ...] = ()
    interval: timedelta = timedelta(0)


AT_ONCE = RolloutWish()


def without_live(seen: Deployment) -> Deployment:
    """Return `seen` less what moves by itself: counts, replicas, address. A plan is made against this."""
    still = tuple(replace(served, live=None, replicas=()) for served in seen.revisions)
    return replace(seen, revisions=still, address=None)
