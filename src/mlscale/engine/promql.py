"""What a server with Prometheus's HTTP API is asked, and the points that are in its answer; pure.

Source: "HTTP API" of Prometheus, range queries: a value a step, each of which is that of an instant query.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from mlscale.clock import MINUTE
from mlscale.engine.outside import shown
from mlscale.providers.contract import Point

HARMLESS = "PromQL info"
"""How a warning begins that leaves nothing out: before version 3 there was no other place for such words."""


class Unreadable(Exception):
    """There are no values in an answer; the text says why."""


def url(server: str, query: str, revision: str, minutes: Sequence[datetime]) -> str:
    """Return the address that gives a revision's value of `query` at the end of each minute and of those between."""
    words = {"revision": revision, "window": "1m"}
    asked = {
        "query": re.sub(r"\$(revision|window)\b", lambda found: words[found[1]], query),
        "start": f"{(minutes[0] + MINUTE).timestamp():.0f}",
        "end": f"{(minutes[-1] + MINUTE).timestamp():.0f}",
        "step": f"{MINUTE.total_seconds():.0f}",
    }
    return f"{server.rstrip('/')}/api/v1/query_range?{urlencode(asked)}"


def points(status: int, body: bytes, query: str, revision: str) -> list[Point]:
    """Return the values in an answer, each by the start of the minute that it is the value at the end of.

    Raises:
        Unreadable: the server says that it failed, that something is left out, or something else altogether.
    """
    try:
        found: Mapping[str, Any] = json.loads(body)
        if found["status"] != "success":
            why = ": ".join(str(found[key]) for key in ("errorType", "error") if key in found)
            raise Unreadable(shown([f"it answered {status}: {why}"]))
        if left_out := [each for each in found.get("warnings") or () if not str(each).startswith(HARMLESS)]:
            raise Unreadable(shown([f"it warned: {left_out[0]}"]))
        if found["data"]["resultType"] != "matrix":
            raise Unreadable(f"its query gave a {found['data']['resultType']}, and no numbers")
        return [
            Point(revision, query, at - MINUTE, value)
            for series in found["data"]["result"]
            for at, value in _values(series)
        ]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise Unreadable(shown([f"it answered {status}: {body[:100].decode(errors='replace')!r}"])) from None


def _values(series: Mapping[str, Any]) -> Iterator[tuple[datetime, float]]:
    if "histograms" in series:
        raise Unreadable("its query gave histograms, and no numbers")
    for at, value in series["values"]:
        yield datetime.fromtimestamp(float(at), UTC), float(value)
