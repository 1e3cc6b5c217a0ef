"""The time of day and the waiting, as an argument, so that a test needs neither."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import Protocol


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
