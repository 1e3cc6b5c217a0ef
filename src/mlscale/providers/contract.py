"""What every provider does, and what some can do besides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol, TypeAlias, runtime_checkable

from mlscale.deployment import AT_ONCE, Content, Deployment, Identity, Revision, RolloutWish
from mlscale.plan.steps import Step

Steps: TypeAlias = tuple[Step[object], ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A thing that the provider can't do: what was asked (the spec's path), why not, and where that is written."""

    path: str
    why: str
    link: str = ""


class Work(StrEnum):
    """How far a step is."""

    DONE = "done"
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call: done, or an operation that goes on at the provider and can be polled by its name."""

    work: Work
    operation: str | None = None
    detail: str = ""


DONE = Outcome(Work.DONE)


@dataclass(frozen=True, slots=True)
class Answer:
    """A prediction's answer as it came: HTTP status, content type, body, and the revision that gave it."""

    status: int
    content_type: str
    body: bytes
    revision: str = ""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that a replica wrote. `at` is None where the source has no time."""

    at: datetime | None
    revision: str
    replica: str
    text: str


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that `doctor` looked at: ok, what was found, and what to do when it is not ok."""

    name: str
    ok: bool
    found: str
    hint: str = ""


class Provider(Protocol):
    """The contract. A method that reads raises when it can't read: unreadable is never the same as absent.

    `slowest_poll_s` is how many seconds apart looks at work that goes on should become, when it takes long;
    `settles_within_s` how long after a call its effect may take to be seen by a read.
    """

    name: str
    slowest_poll_s: float
    settles_within_s: float

    def abilities(
        self, asked: Deployment, seen: Deployment | None, rollout: RolloutWish = AT_ONCE
    ) -> tuple[Refusal, ...]:
        """Return what can't be done of `asked`, taking over as `rollout` says, each with its reason."""

    def preflight(self, asked: Deployment, seen: Deployment | None) -> None:
        """Return if nothing is known that would stop a new revision; asked before the first change, by reading alone.

        Raises:
            NoCapacity: a quota is too small.
            WrongCredentials: the credentials are missing, or for another account.
            Unsupported: what is named (a role, an image, a bucket) is not there.
        """

    def pinned(self, asked: Deployment, seen: Deployment | None) -> Deployment:
        """Return `asked` with its image named so that it means one thing; what is `seen` stays where it still fits.

        Raises:
            UsageError: there is no such image.
        """

    def read(self, identity: Identity) -> Deployment | None:
        """Return what is there under `identity`, None if nothing is.

        Raises:
            NotOurs: something has the name, but not our marks.
            ProviderFailed: it can't be read.
        """

    def read_all(self, identities: Sequence[Identity]) -> Sequence[Deployment | None]:
        """Return what `read` gives for each, in the same order, with fewer calls where many are asked for.

        Raises:
            NotOurs: as `read`.
            ProviderFailed: as `read`.
        """

    def revisions(self, identity: Identity) -> Sequence[Revision]:
        """Return the revisions that can be gone back to by what the provider alone keeps, the newest first."""

    def steps(self, asked: Deployment | None, seen: Deployment | None, rollout: RolloutWish) -> Steps:
        """Return the steps from `seen` to `asked`, in an order that `after` allows; pure, no call is made.

        `asked` None takes everything down. No difference gives no step. Where `asked` has a candidate, it is made
        without traffic, and its replicas (`candidate_replicas`) and share are brought to what is asked; the stable one
        stays as it is, and whatever is neither of the two goes.
        """

    def payloads(self) -> Any:
        """Return the type (a union) of this provider's payloads, so that a plan can be saved and read."""

    def perform(self, step: Step[object], progress: Progress) -> Outcome:
        """Carry out `step`; doing it twice is harmless.

        Raises:
            ProviderFailed: it did not work; `retryable` says if again may help.
        """

    def is_done(self, step: Step[object]) -> bool:
        """Return whether `step` has nothing left to do, by reading."""

    def poll(self, step: Step[object], operation: str) -> Outcome:
        """Return how far `operation` of `step` is; the outcome may name another, as which it goes on.

        Raises:
            ProviderFailed: the operation failed; `why` has the provider's reason and the last log lines.
        """

    def invoke(self, identity: Identity, body: bytes, content_type: str, accept: str) -> Answer:
        """Return the endpoint's answer to one request."""

    def logs(self, identity: Identity, query: LogQuery) -> Iterator[LogLine]:
        """Yield log lines, oldest first; without end when `query.follow`."""

    def list(self) -> Sequence[Identity]:
        """Return what of ours is there, in this workspace or account and region."""

    def doctor(self, asked: Deployment | None = None) -> Sequence[Check]:
        """Return what is needed to work here, and for `asked`, and whether it is there."""

    def adopt(self, identity: Identity, labels: Mapping[str, str]) -> Steps:
        """Return steps that put our marks and `labels` on what has the name and is not ours yet; empty if it is ours.

        Raises:
            NotDeployed: nothing has that name.
            Unsupported: there is something that can't become ours.
        """

    def garbage(self, identity: Identity, keep: Sequence[str]) -> Steps:
        """Return steps that delete what belongs to no revision in use and none in `keep` (revision ids)."""


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which log lines: of one revision or replica (None is all), the last `tail`, and whether to stay for more."""

    revision: str | None = None
    replica: str | None = None
    tail: int = 100
    follow: bool = False


class Progress(Protocol):
    """Where a long call tells how far it is."""

    def __call__(self, text: str) -> None:
        """Tell one line."""


@runtime_checkable
class Permissions(Protocol):
    """Can say what its caller must be allowed to do."""

    def policy(self, asked: Deployment, workspace: str) -> Mapping[str, Any]:
        """Return the least policy with which `asked` can be deployed, changed and taken down, as the cloud reads it.

        Only whether `asked` has files matters, not what is in them. `workspace` is where lease and journal are.
        """


@runtime_checkable
class Traffic(Protocol):
    """Can split traffic between revisions, in basis points."""

    def shares_that_hold(self, shares: Mapping[str, int]) -> Mapping[str, int]:
        """Return the nearest shares that the provider can hold exactly; equal to `shares` when it can."""


@dataclass(frozen=True, slots=True)
class BadOfAll:
    """Counts of one revision over one window: the raw material of evidence. `end` is not in the window."""

    revision: str
    start: datetime
    end: datetime
    requests: int
    errors: int
    slow: int | None


@runtime_checkable
class Metrics(Protocol):
    """Can count what each revision answered; `lag` is how long after its end a window is counted to its end."""

    lag: timedelta

    def counts(
        self, identity: Identity, start: datetime, end: datetime, slow_over_ms: float | None
    ) -> Sequence[BadOfAll]:
        """Return a row per revision and whole minute of the clock between `start` and `end`, in time order.

        A minute without data has no row, and one that ended less than `lag` ago has none yet. `slow` is None where
        `slow_over_ms` is, or where nobody counts it.
        """


@dataclass(frozen=True, slots=True)
class Point:
    """What one expression gives for one revision in the minute from `start`; several where it gives several series."""

    revision: str
    expression: str
    start: datetime
    value: float


@runtime_checkable
class Queries(Protocol):
    """Can evaluate expressions of the user's own, in the language of its metrics; counted to its end after `lag`."""

    lag: timedelta

    def points(self, identity: Identity, expressions: Sequence[str], start: datetime, end: datetime) -> Sequence[Point]:
        """Return what each expression gives for each revision and whole minute of the clock between `start` and `end`.

        `$variant` and `$endpoint` stand for their names. A minute without data has no point.

        Raises:
            ProviderFailed: an expression can't be evaluated, or not wholly.
        """


class JobState(StrEnum):
    """How far a batch job is."""

    PENDING = "pending"
    RUNNING = "running"
    PREEMPTED = "preempted"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class JobRequest:
    """One worker's job: a revision over some shards, written under a ledger that outlives the worker.

    `key` is ours: a job with the same key is the same job, looked up before another is made.
    """

    key: str
    content: Content
    shards: tuple[str, ...]
    output: str
    ledger: str
    machine: str
    spot: bool
    deadline: datetime


@dataclass(frozen=True, slots=True)
class JobSeen:
    """A job as the provider has it; `billable` is None until the provider says."""

    key: str
    state: JobState
    operation: str
    billable: timedelta | None = None
    reason: str = ""


@runtime_checkable
class Batch(Protocol):
    """Can run batch jobs, on spot capacity where it has any."""

    def submit(self, identity: Identity, job: JobRequest) -> JobSeen:
        """Return the job that runs `job.key`: found, or made."""

    def jobs(self, identity: Identity, prefix: str) -> Sequence[JobSeen]:
        """Return the jobs whose key begins with `prefix`, oldest first."""

    def cancel(self, identity: Identity, key: str) -> None:
        """Stop a job; one that has ended or never was is no error."""


@runtime_checkable
class Costs(Protocol):
    """Can tell what was billed."""

    def billed(self, identity: Identity, start: datetime, end: datetime) -> Sequence[Mapping[str, str]]:
        """Return FOCUS rows, a row per resource, day and charge."""


@runtime_checkable
class Budgets(Protocol):
    """Can hold a budget with alerts at the provider; steps for it come from `Provider.steps`."""

    def spent_this_month(self, identity: Identity) -> Mapping[str, str]:
        """Return amounts as decimal text by currency."""
