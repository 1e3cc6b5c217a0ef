"""What a revision answers in a minute, for metrics that are put into a cloud's double."""

from __future__ import annotations

from dataclasses import dataclass

FAST_MS, SLOW_MS = 100.0, 1000.0
MINUTES = 30
"""For how many minutes from now a revision answers so."""


@dataclass(frozen=True, slots=True)
class Answered:
    """How many requests in each minute, and how many of them with an error or slowly."""

    requests: int
    errors: int = 0
    slow: int = 0

    @property
    def times_ms(self) -> list[float]:
        """Return how long each took."""
        return [SLOW_MS] * self.slow + [FAST_MS] * (self.requests - self.slow)
