"""Recorded evidence, a line for each rollout and window → what would have been decided, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from enum import StrEnum
from typing import TypeAlias

import orjson

from mlscale.errors import UsageError
from mlscale.rollout.judge import ERROR_RATE, LATENCY, Counts, Judge, MetricRule, Outcome, Verdict, Window

REQUESTS = "requests"
METRICS = {"errors": ERROR_RATE, "slow": LATENCY}
"""The metrics that a line has under another name than the spec."""

KEYS = ("rollout", "at", "baseline", "candidate")
_SHORTEST_FORM = '{"rollout":"r1","at":"2026-01-01T00:01:00Z","baseline":{"requests":540,"errors":3},"candidate":{...}}'
_LONGEST_SHOWN = 40

ByMetric: TypeAlias = Mapping[str, Counts]


class Decision(StrEnum):
    """What a rollout came to."""

    PROMOTE = "promote"
    ROLL_BACK = "roll_back"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Replayed:
    """A rollout's decision, the time of the window that brought it as it was written, and how many windows it took."""

    rollout: str
    decision: Decision
    at: str
    windows: int
    because: Verdict


def usual_rules(margin: float) -> tuple[MetricRule, ...]:
    """Return what is asked where no spec says it: errors and slow requests, each from where it is measured."""
    return tuple(MetricRule(name, margin, where_measured=True) for name in METRICS.values())


def decisions(
    lines: Iterable[bytes], file: str, new_judge: Callable[[], Judge], own: Sequence[str] = (), most: int | None = None
) -> Iterator[Replayed]:
    """Yield what each rollout comes to, as soon as it does; what is undecided when the lines end comes last.

    Args:
        lines: JSON, a line each; empty ones are passed over.
        file: what they are from, for what is said of a bad one.
        new_judge: makes a judge that has seen nothing.
        own: metrics that a line may have under their own names.
        most: after so many windows a rollout without a decision is inconclusive.

    Raises:
        UsageError: a line is not what it should be.
    """
    reader = _Reader(file, {**METRICS, **{name: name for name in own}})
    live: dict[str, _Rollout] = {}
    decided: set[str] = set()
    for line in lines:
        record = reader.record(line)
        if record is None or record.rollout in decided:
            continue
        rollout = live.get(record.rollout)
        if rollout is None:
            rollout = live[record.rollout] = _Rollout(record, new_judge())
        before = rollout.seen.get(record.at)
        if before is not None:
            if before != record.digest:
                raise reader.bad(f"{record.rollout} at {record.at_text} was counted otherwise in a line before")
            continue
        decision = rollout.decision_after(record)
        if decision is None and len(rollout.seen) == most:
            decision = Decision.INCONCLUSIVE
        if decision is not None:
            yield rollout.replayed(decision)
            decided.add(record.rollout)
            del live[record.rollout]
    for rollout in live.values():
        yield rollout.replayed(Decision.INCONCLUSIVE)


_DECISIVE = {Outcome.PASS: Decision.PROMOTE, Outcome.FAIL: Decision.ROLL_BACK}


@dataclass(slots=True)
class _Record:
    """A line: a rollout's window, with the counts of each variant by metric."""

    rollout: str
    at_text: str
    at: datetime
    baseline: ByMetric
    candidate: ByMetric
    digest: int
    """Of what was counted, to know it again."""


class _Rollout:
    """A rollout without a decision: its judge, and the windows that it was shown."""

    __slots__ = ("judge", "newest", "seen")

    def __init__(self, first: _Record, judge: Judge) -> None:
        self.judge = judge
        self.newest = first
        self.seen: dict[datetime, int] = {}

    def decision_after(self, record: _Record) -> Decision | None:
        """Return what one more window brings; one that comes late is looked at late."""
        self.seen[record.at] = record.digest
        if record.at > self.newest.at:
            self.newest = record
        self.judge.look(Window(record.at, record.at, record.baseline, record.candidate))
        return _DECISIVE.get(self.judge.outcome)

    def replayed(self, decision: Decision) -> Replayed:
        """Return what it came to."""
        newest = self.newest
        return Replayed(newest.rollout, decision, newest.at_text, len(self.seen), self.judge.verdict())


@dataclass(slots=True)
class _Reader:
    """Reads lines, and knows which one it is at."""

    file: str
    names: Mapping[str, str]
    number: int = 0

    def bad(self, why: str) -> UsageError:
        """Return what is to be raised for the line."""
        return UsageError(
            "a line is no evidence", why=f"{self.file}:{self.number}: {why}", hint=f"a line is like {_SHORTEST_FORM}"
        )

    def record(self, line: bytes) -> _Record | None:
        """Return what the next line says, None if it is empty."""
        self.number += 1
        if not line.strip():
            return None
        try:
            found = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise self.bad(f"this is not JSON: {error}") from None
        if type(found) is not dict:
            raise self.bad("it is no object")
        rollout, at_text = found.get("rollout"), found.get("at")
        if type(rollout) is not str or not rollout:
            raise self.bad("rollout must be the rollout's name")
        if len(found) > len(KEYS):
            self._refuse_misspelt(found, KEYS)
        baseline, candidate = found.get("baseline"), found.get("candidate")
        return _Record(
            rollout,
            str(at_text),
            self._time(at_text),
            self._counts(baseline, "baseline"),
            self._counts(candidate, "candidate"),
            hash(orjson.dumps((baseline, candidate), option=orjson.OPT_SORT_KEYS)),
        )

    def _time(self, text: object) -> datetime:
        try:
            at = datetime.fromisoformat(text) if type(text) is str else None
        except ValueError:
            at = None
        if at is None or at.tzinfo is None:
            raise self.bad(f"at must be a time with its zone, like 2026-01-01T00:01:00Z, and is {_shown(text)}")
        return at

    def _counts(self, found: object, variant: str) -> ByMetric:
        """Return a variant's counts; without a metric that was not measured, and empty where nothing was."""
        if found is None:
            return {}
        if type(found) is not dict:
            raise self.bad(f"{variant} must be an object with {REQUESTS}, and is {_shown(found)}")
        if REQUESTS not in found:
            raise self.bad(f"{variant} has no {REQUESTS}")
        if found[REQUESTS] is None:
            return {}
        of = self._count(found[REQUESTS], variant, REQUESTS)
        counts = {}
        for key, value in found.items():
            name = self.names.get(key)
            if name is None:
                if key != REQUESTS:
                    raise self._unknown(key, variant)
            elif value is not None:
                bad = self._count(value, variant, key)
                if bad > of:
                    raise self.bad(f"{variant} has {bad:,} {key} of {of:,} {REQUESTS}")
                counts[name] = Counts(bad, of)
        return counts

    def _count(self, value: object, variant: str, key: str) -> int:
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int or value < 0:
            raise self.bad(f"{variant}.{key} must be a whole number, 0 or more, and is {_shown(value)}")
        return value

    def _refuse_misspelt(self, line: Mapping[str, object], known: Sequence[str]) -> None:
        """Refuse a key that was probably meant to be another; what else a line has is its writer's own."""
        for key in line:
            close = [] if key in known else get_close_matches(key, known, n=1)
            if close:
                raise self.bad(f"there is no {_shown(key)}; did you mean {close[0]}?")

    def _unknown(self, key: str, variant: str) -> UsageError:
        known = [REQUESTS, *self.names]
        close = get_close_matches(key, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else f": {', '.join(known)} can be judged"
        return self.bad(f"{variant} has {_shown(key)}{hint}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
