"""A clock that stands still until somebody moves it or sleeps on it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

MORNING = datetime(2026, 11, 24, 7, 15, tzinfo=UTC)


class MovedClock:
    """Time of day and monotonic time that move together, by `move` and by `sleep`; `slept` is all the sleeping."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        """Return the morning, and what has passed since."""
        return MORNING + timedelta(seconds=self.passed_s)

    def monotonic(self) -> float:
        """Return what has passed, from a start that means nothing."""
        return 1000.0 + self.passed_s

    def sleep(self, seconds: float) -> None:
        """Let the time pass."""
        self.slept.append(seconds)
        self.move(seconds)

    def move(self, seconds: float) -> None:
        """Let the time pass without anybody sleeping."""
        self.passed_s += seconds
