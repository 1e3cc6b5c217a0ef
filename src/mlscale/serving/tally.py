"""What each revision answered, by the minute of the clock: how many requests, how many failed, how long they took."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from math import log2
from typing import TypeAlias

BUCKETS_PER_DOUBLING = 64
"""A bucket of times ends 1.1 % above its beginning, so a bound that lies between two is moved by 0.55 % at most."""

KEPT_MINUTES = 360
"""Six hours: a rollout looks back at its last interval, and whoever comes later at what it decided by."""

Key: TypeAlias = tuple[int, str, int, bool]
"""The minute (since 1970), the revision, the bucket of times (they count from 0 s), and whether it was a failure."""


def first_over(bound_ms: float) -> int:
    """Return the first bucket of the times that are over `bound_ms`: the one that begins nearest to it."""
    return round(log2(bound_ms * 1e3 + 1.0) * BUCKETS_PER_DOUBLING)


class Tally:
    """Counts that were not taken yet; `now_s` is the time of day."""

    def __init__(self, now_s: Callable[[], float] = time.time) -> None:
        self._now_s = now_s
        self._minute = 0
        self._from = self._until = 0.0
        self._open: dict[str, dict[int, int]] = {}
        self._counts: dict[Key, int] = {}

    def count(self, revision: str, seconds: float, failed: bool) -> None:  # noqa: FBT001 - by name it takes longer
        """Count what became of one request to a replica of `revision`."""
        now = self._now_s()
        if not self._from <= now < self._until:
            self._turn(now)
        times = self._open.get(revision)
        if times is None:
            times = self._open[revision] = {}
        bucket = int(log2(seconds * 1e6 + 1.0) * BUCKETS_PER_DOUBLING)
        if failed:
            bucket = ~bucket
        times[bucket] = times.get(bucket, 0) + 1

    def _turn(self, now_s: float) -> None:
        """Begin the minute of `now_s`."""
        self._close()
        self._minute = int(now_s // 60)
        self._from = self._minute * 60.0
        self._until = self._from + 60.0
        self._counts = {key: count for key, count in self._counts.items() if key[0] >= self._minute - KEPT_MINUTES}

    def _close(self) -> None:
        for revision, times in self._open.items():
            for bucket, count in times.items():
                key = (self._minute, revision, max(bucket, ~bucket), bucket < 0)
                self._counts[key] = self._counts.get(key, 0) + count
        self._open.clear()

    def counts(self) -> Mapping[Key, int]:
        """Return what was counted and not taken."""
        self._close()
        return self._counts

    def taken(self) -> None:
        """Begin anew: what `counts` gave is in good hands."""
        self._counts = {}
