"""Values for tests, with only what matters spelled out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from mlscale.deployment import (
    WHOLE,
    Content,
    Deployment,
    Identity,
    Role,
    Scaling,
    ServedRevision,
    revision_of,
)

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def a_content(artifact: str = "one", **fields: Any) -> Content:
    """Return what a revision is made of; another `artifact` is another revision."""
    return Content(**{"artifact": artifact, "framework": "custom", **fields})


def a_deployment(artifact: str = "one", **fields: Any) -> Deployment:
    """Return an asked deployment of one stable revision."""
    served = ServedRevision(revision_of(a_content(artifact)), Role.STABLE, WHOLE)
    known: dict[str, Any] = {
        "identity": Identity("fake", "reviews"),
        "revisions": (served,),
        "scaling": Scaling(min=1, max=4),
        "settings": {"host": "127.0.0.1", "port": "0"},
    }
    return Deployment(**{**known, **fields})


class FakeClock:
    """A clock that moves when somebody sleeps, and by `tick_s` at every look, so that no loop is endless."""

    def __init__(self, tick_s: float = 0.001) -> None:
        self._now = NOON
        self._seconds = 0.0
        self._tick_s = tick_s

    def now(self) -> datetime:
        """Return the time of day."""
        return self._now

    def monotonic(self) -> float:
        """Return the seconds so far."""
        self.sleep(self._tick_s)
        return self._seconds

    def sleep(self, seconds: float) -> None:
        """Move on."""
        self._seconds += seconds
        self._now += timedelta(seconds=seconds)
