"""A provider in memory that keeps the contract, takes its time, and breaks where it is told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from mlscale.autoscaling.policy import candidate_replicas
from mlscale.deployment import AT_ONCE, WHOLE, Deployment, Identity, Live, Revision, Role, RolloutWish, ServedRevision
from mlscale.errors import MlscaleError, NotDeployed, ProviderFailed
from mlscale.plan.diff import changes
from mlscale.plan.steps import Step, StepKind
from mlscale.providers.contract import (
    DONE,
    Answer,
    BadOfAll,
    Check,
    LogLine,
    LogQuery,
    Outcome,
    Progress,
    Refusal,
    Steps,
    Work,
)
from tests.doubles.mortal import Mortal


class Op(StrEnum):
    """What the fake can do."""

    CREATE = "create"
    ADD = "add"
    WAIT = "wait"
    SHIFT = "shift"
    SHARE = "share"
    DROP = "drop"
    CONFIGURE = "configure"
    DESTROY = "destroy"


@dataclass(frozen=True, slots=True)
class Call:
    """The fake's payload: what to do, to which deployment, with what it holds."""

    op: Op
    identity: Identity
    revision: str = ""
    asked: Deployment | None = None
    start_with: int = 1


class Fault(StrEnum):
    """How a step can break."""

    BEFORE = "fails before it does anything"
    AFTER = "fails after it did everything"
    BUSY = "is refused twice as retryable, then works"
    BUSY_EACH = "is refused as retryable at each of its seven calls, then works"
    ALWAYS_BUSY = "is refused as retryable for ever"
    LOST = "works, and its answer is lost"
    SILENT = "says done and did nothing"
    ROLLS_BACK = "is undone by the provider, which says why when it is read"


ONCE = (Fault.BEFORE, Fault.AFTER, Fault.SILENT, Fault.ROLLS_BACK)


def _nothing(key: str) -> None:
    """Let a step go on."""
    del key


class FakeProvider:
    """Keeps everything in `there`, for whichever process calls.

    `polls` is how often a wait says that it goes on. `faults` are by what a step does; one that is not about being
    busy strikes once. `mortal` is the process that calls now. `meanwhile` is called in the middle of each step with
    its key. `deaf_polls` is how many polls get no answer, `forgets` that the next one is told of no such operation,
    `moves_to` the operation by which a wait goes on after its first poll. `per_minute` is how many requests come,
    `bad` how many of 10,000 fail by the files of what answers, `silent` that no metrics arrive.
    """

    name = "fake"
    lag = timedelta(seconds=30)
    slowest_poll_s = 0.1
    settles_within_s = 5.0

    def __init__(self, *, polls: int = 2) -> None:
        self.there: dict[Identity, Deployment] = {}
        self.calls: list[str] = []
        self.faults: dict[Op, Fault] = {}
        self.mortal = Mortal()
        self.meanwhile: Callable[[str], None] = _nothing
        self.polls = polls
        self.refused_frameworks: frozenset[str] = frozenset()
        self.not_ready: MlscaleError | None = None
        self.kept: tuple[Revision, ...] = ()
        self.deaf_polls = 0
        self.forgets = False
        self.moves_to = ""
        self.per_minute = 0
        self.bad: dict[str, int] = {}
        self.silent = False
        self._rows: dict[tuple[datetime, str], BadOfAll] = {}
        self._waited: dict[str, int] = {}
        self._refused: dict[str, int] = {}
        self._lock = threading.Lock()

    def abilities(
        self, asked: Deployment, seen: Deployment | None, rollout: RolloutWish = AT_ONCE
    ) -> tuple[Refusal, ...]:
        """Refuse images, and the frameworks that a test names."""
        del seen, rollout
        content = asked.stable.revision.content if asked.stable else None
        if content and content.image:
            return (Refusal("model.image", "nothing here runs an image", "https://example.com/images"),)
        if content and content.framework in self.refused_frameworks:
            return (
                Refusal("model.framework", f"nothing here runs {content.framework}", "https://example.com/frameworks"),
            )
        return ()

    def preflight(self, asked: Deployment, seen: Deployment | None) -> None:
        """Return, or raise what a test wants."""
        del asked, seen
        if self.not_ready is not None:
            raise self.not_ready

    def pinned(self, asked: Deployment, seen: Deployment | None) -> Deployment:
        """Return it as it is: no image runs here."""
        del seen
        return asked

    def read(self, identity: Identity) -> Deployment | None:
        """Return what is there."""
        return self.there.get(identity)

    def read_all(self, identities: Sequence[Identity]) -> Sequence[Deployment | None]:
        """Return what is there of each."""
        return [self.read(each) for each in identities]

    def revisions(self, identity: Identity) -> Sequence[Revision]:
        """Return what a test says is kept."""
        del identity
        return self.kept

    def steps(self, asked: Deployment | None, seen: Deployment | None, rollout: RolloutWish) -> Steps:
        """Return the steps; a new revision is added, waited for, and gets the traffic before the old one goes."""
        del rollout
        if asked is None:
            return () if seen is None else (self._step(Op.DESTROY, seen.identity, destroys=True),)
        planned: list[Step[object]] = []
        if seen is None:
            planned.append(self._step(Op.CREATE, asked.identity, asked=asked))
        if asked.candidate:
            planned += self._trial(asked, seen, asked.candidate)
        else:
            planned += self._takeover(asked, seen, _keys(planned))
        before = _keys(planned)[-1:]
        if seen and any(not each.path.startswith(("revision", "model", "runtime")) for each in changes(asked, seen)):
            planned.append(self._step(Op.CONFIGURE, asked.identity, asked=asked, after=before))
        wanted = {each.revision.id for each in asked.revisions}
        planned += [
            self._step(Op.DROP, asked.identity, revision=each.revision.id, after=before)
            for each in (seen.revisions if seen else ())
            if each.revision.id not in wanted
        ]
        return tuple(planned)

    def _takeover(self, asked: Deployment, seen: Deployment | None, after: tuple[str, ...]) -> Sequence[Step[object]]:
        if asked.stable is None:
            return ()
        revision = asked.stable.revision.id
        have = next((each for each in seen.revisions if each.revision.id == revision), None) if seen else None
        if have and have.role is Role.STABLE and have.share == WHOLE:
            return ()
        planned: list[Step[object]] = []
        if have is None:
            live = seen.stable.live if seen and seen.stable else None
            count = max(asked.scaling.min, min(asked.scaling.max, live.desired if live else 0))
            planned.append(
                self._step(Op.ADD, asked.identity, revision=revision, asked=asked, start_with=count, after=after)
            )
        planned.append(self._step(Op.WAIT, asked.identity, revision=revision, after=_keys(planned)[-1:] or after))
        planned.append(self._step(Op.SHIFT, asked.identity, revision=revision, after=_keys(planned)[-1:]))
        return planned

    def _trial(self, asked: Deployment, seen: Deployment | None, tried: ServedRevision) -> Sequence[Step[object]]:
        have = next((each for each in seen.revisions if each.revision.id == tried.revision.id), None) if seen else None
        if have and (have.share, have.role) == (tried.share, tried.role):
            return ()
        name, planned = tried.revision.id, []
        if have is None:
            count = candidate_replicas(asked.scaling, seen, tried.share)
            planned.append(self._step(Op.ADD, asked.identity, revision=name, asked=asked, start_with=count))
        planned.append(self._step(Op.WAIT, asked.identity, revision=name, after=_keys(planned)))
        planned.append(self._step(Op.SHARE, asked.identity, revision=name, asked=asked, after=_keys(planned)[-1:]))
        return planned

    def _step(
        self, op: Op, identity: Identity, *, after: tuple[str, ...] = (), destroys: bool = False, **facts: Any
    ) -> Step[object]:
        kinds = {
            Op.CREATE: StepKind.CREATE,
            Op.ADD: StepKind.CREATE,
            Op.WAIT: StepKind.WAIT,
            Op.SHIFT: StepKind.SHIFT,
            Op.SHARE: StepKind.SHIFT,
            Op.DROP: StepKind.DELETE,
            Op.CONFIGURE: StepKind.UPDATE,
            Op.DESTROY: StepKind.DELETE,
        }
        revision = facts.get("revision", "")
        key = f"{revision or 'endpoint'}/{op}"
        return Step(key, kinds[op], f"{op} {revision}".strip(), Call(op, identity, **facts), after, destroys=destroys)

    def payloads(self) -> Any:
        """Return the fake's payload."""
        return Call

    def perform(self, step: Step[object], progress: Progress) -> Outcome:
        """Do `step`, unless a fault says otherwise."""
        call = _call(step)
        progress(f"doing {call.op}")
        self.meanwhile(step.key)
        with self._lock:
            return self.mortal.acting(lambda: self._performed(step, call))

    def _performed(self, step: Step[object], call: Call) -> Outcome:
        self.calls.append(step.key)
        fault = self.faults.get(call.op)
        if fault in ONCE:
            del self.faults[call.op]
        if fault is Fault.BEFORE:
            raise ProviderFailed("the fake broke", why=f"before {step.key}")
        if fault is Fault.ALWAYS_BUSY:
            raise ProviderFailed("the fake is busy", why=step.key, retryable=True)
        if fault is Fault.BUSY_EACH and self._refused.setdefault(step.key, 0) < 7:
            self._refused[step.key] += 1
            raise ProviderFailed("the fake is busy", why=f"call {self._refused[step.key]}", retryable=True)
        if fault in (Fault.BUSY, Fault.LOST) and self._refused.setdefault(step.key, 0) < 2:
            self._refused[step.key] += 1
            if fault is Fault.LOST:
                self._do(call)
            raise ProviderFailed("the fake is busy", why=step.key, retryable=True)
        if call.op is Op.WAIT:
            self._waited[step.key] = 0
            if fault is Fault.AFTER:
                raise ProviderFailed("the fake broke", why=f"after {step.key}")
            return Outcome(Work.RUNNING, "starting", "starting")
        before = self.there.get(call.identity)
        if fault is not Fault.SILENT:
            self._do(call)
        if fault is Fault.ROLLS_BACK and before is not None:
            self.there[call.identity] = replace(before, reason="the fake rolled back: its alarm went off")
        if fault is Fault.AFTER:
            raise ProviderFailed("the fake broke", why=f"after {step.key}")
        return DONE

    def is_done(self, step: Step[object]) -> bool:
        """Return whether doing `step` would change nothing."""
        call = _call(step)
        before = self.there.get(call.identity)
        if call.op is Op.WAIT:
            return bool(before and any(_is_ready(each, call.revision) for each in before.revisions))
        after = _after(before, call)
        return after == before

    def poll(self, step: Step[object], operation: str) -> Outcome:
        """Return that the wait goes on, `polls` times, then that it is done."""
        with self._lock:
            self.mortal.touch()
            if self.deaf_polls:
                self.deaf_polls -= 1
                raise ProviderFailed("the fake does not answer", why="it does not answer", retryable=True)
            if self.forgets:
                self.forgets = False
                raise ProviderFailed("there is no such operation", why=operation)
            self._waited[step.key] = self._waited.get(step.key, 0) + 1
            if self._waited[step.key] < self.polls:
                return Outcome(Work.RUNNING, self.moves_to or operation, "starting")
            call = _call(step)
            self._change(call.identity, lambda seen: _ready(seen, call.revision))
            return DONE

    def invoke(self, identity: Identity, body: bytes, content_type: str, accept: str) -> Answer:
        """Return the body, said by the stable revision."""
        seen = self.there.get(identity)
        if seen is None or seen.stable is None:
            raise NotDeployed("nothing is deployed", why=str(identity))
        del accept
        return Answer(200, content_type, body, seen.stable.revision.id)

    def logs(self, identity: Identity, query: LogQuery) -> Iterator[LogLine]:
        """Yield a line a revision."""
        seen = self.there.get(identity)
        for each in seen.revisions if seen else ():
            if query.revision in (None, each.revision.id):
                yield LogLine(None, each.revision.id, f"{each.revision.id}-1", "serving")

    def list(self) -> Sequence[Identity]:
        """Return what is there."""
        return tuple(self.there)

    def adopt(self, identity: Identity, labels: Mapping[str, str]) -> Steps:
        """Return nothing: all that is there is ours."""
        del identity, labels
        return ()

    def doctor(self, asked: Deployment | None = None) -> Sequence[Check]:
        """Return that all is well."""
        del asked
        return (Check("memory", ok=True, found="enough"),)

    def garbage(self, identity: Identity, keep: Sequence[str]) -> Steps:
        """Return nothing: the fake keeps no files."""
        del identity, keep
        return ()

    def shares_that_hold(self, shares: Mapping[str, int]) -> Mapping[str, int]:
        """Return the shares in whole percents; the first gets what is left."""
        first, *others = shares
        whole = {each: shares[each] // 100 * 100 for each in others}
        return {first: WHOLE - sum(whole.values()), **whole}

    def counts(
        self, identity: Identity, start: datetime, end: datetime, slow_over_ms: float | None
    ) -> Sequence[BadOfAll]:
        """Return what came by the shares of now; what was told once stays as it was."""
        minute = timedelta(minutes=1)
        at = start.replace(second=0, microsecond=0)
        while at + minute <= end - self.lag:
            for each in self.there[identity].revisions if at >= start else ():
                copied = each.share if each.role is Role.SHADOW else None
                requests = self.per_minute * (each.share if copied is None else copied) // WHOLE
                errors = requests * self.bad.get(each.revision.content.artifact, 0) // WHOLE
                slow = None if slow_over_ms is None else 0
                row = BadOfAll(each.revision.id, at, at + minute, requests, errors, slow)
                if requests and not self.silent:
                    self._rows.setdefault((at, each.revision.id), row)
            at += minute
        return [row for _, row in sorted(self._rows.items()) if row.start >= start and row.end <= end]

    def _do(self, call: Call) -> None:
        after = _after(self.there.get(call.identity), call)
        if after is None:
            self.there.pop(call.identity, None)
        else:
            self.there[call.identity] = after

    def _change(self, identity: Identity, how: Callable[[Deployment], Deployment]) -> None:
        self.there[identity] = how(self.there[identity])


def _after(seen: Deployment | None, call: Call) -> Deployment | None:
    """Return what is there once `call` is done; the same value when it was done before."""
    if call.op is Op.DESTROY:
        return None
    if call.op is Op.CREATE:
        return seen or replace(call.asked or _missing(call), revisions=(), sources={}, address="fake://here")
    if seen is None:
        raise ProviderFailed("there is nothing to change", why=str(call.identity))
    others = tuple(each for each in seen.revisions if each.revision.id != call.revision)
    match call.op:
        case Op.ADD:
            wanted = (call.asked or _missing(call)).revisions
            added = next((each for each in wanted if each.revision.id == call.revision), None)
            if added is None or len(others) < len(seen.revisions):
                return seen
            new = ServedRevision(added.revision, Role.CANDIDATE, 0, Live(call.start_with, 0))
            return replace(seen, revisions=(*seen.revisions, new))
        case Op.SHIFT:
            return replace(seen, revisions=tuple(_shifted(each, call.revision) for each in seen.revisions))
        case Op.SHARE:
            found = {each.revision.id: each for each in (call.asked or _missing(call)).revisions}
            return replace(
                seen,
                revisions=tuple(
                    replace(each, share=found[each.revision.id].share, role=found[each.revision.id].role)
                    if each.revision.id in found
                    else replace(each, share=0, role=Role.RETIRED)
                    for each in seen.revisions
                ),
            )
        case Op.DROP:
            return replace(seen, revisions=others)
        case Op.CONFIGURE:
            asked = call.asked or _missing(call)
            return replace(
                seen, scaling=asked.scaling, labels=asked.labels, settings=asked.settings, spec_hash=asked.spec_hash
            )
        case _:
            return seen


def _shifted(served: ServedRevision, chosen: str) -> ServedRevision:
    if served.revision.id == chosen:
        return replace(served, role=Role.STABLE, share=WHOLE)
    return replace(served, role=Role.RETIRED, share=0)


def _ready(seen: Deployment, revision: str) -> Deployment:
    return replace(
        seen,
        revisions=tuple(
            replace(each, live=replace(each.live, ready=each.live.desired))
            if each.revision.id == revision and each.live
            else each
            for each in seen.revisions
        ),
    )


def _is_ready(served: ServedRevision, revision: str) -> bool:
    return served.revision.id == revision and bool(served.live and served.live.ready == served.live.desired)


def _missing(call: Call) -> Deployment:
    raise AssertionError(f"{call.op} without what is asked")


def _keys(planned: Sequence[Step[object]]) -> tuple[str, ...]:
    return tuple(step.key for step in planned)


def _call(step: Step[object]) -> Call:
    assert isinstance(step.payload, Call)
    return step.payload
