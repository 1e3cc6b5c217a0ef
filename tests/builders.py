"""Values for tests, with only what matters spelled out."""

from __future__ import annotations

from datetime import UTC, datetime
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
