"""The time of day and the waiting, as an argument, so that a test needs neither."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

MINUTE = timedelta(minutes=1)


def whole_minutes(start: datetime, until: datetime) -> tuple[datetime, datetime]:
    """Return the first and the last moment of the whole minutes of the clock between two times."""
    first, last = (at.replace(second=0, microsecond=0) for at in (start, until))
    return (first if first == start else first + MINUTE), last


class Clock(Protocol):
    """Where a loop gets its time from."""

    def now(self) -> datetime:
        """Return the time of day, aware, in UTC."""

    def monotonic(self) -> float:
        """Return seconds that only ever grow; for measuring, not for showing."""

    def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""


class SystemClock:
    """This machine's clock."""

    def now(self) -> datetime:
        """Return this machine's time of day, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return this machine's monotonic seconds, those of a suspended machine included where the system counts them.

        A lease goes on ageing while the laptop that holds it sleeps; CLOCK_MONOTONIC stands still then, CLOCK_BOOTTIME
        does not (Linux clock_gettime(2)).
        """
        if sys.platform == "linux":
            return time.clock_gettime(time.CLOCK_BOOTTIME)
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Return after `seconds` of this machine's time."""
        time.sleep(seconds)
