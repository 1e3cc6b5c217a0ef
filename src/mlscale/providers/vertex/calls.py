"""A call that changes something at Google Cloud, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """One call that changes something: `service` as the client knows it, `method` as Google's clients name it.

    The request is its proto as JSON, with field names in snake case and enums by name.
    """

    service: str
    method: str
    request: Mapping[str, Any]
