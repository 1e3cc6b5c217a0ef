"""What an endpoint's containers wrote: Cloud Logging → log lines.

Vertex AI labels each entry with the DeployedModel and the replica that wrote it (Online prediction logging, container
logging); a call gives entries of all of them, so few calls are made: a project may make 60 a minute (Logging quotas).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from mlscale.clock import Clock
from mlscale.deployment import Identity
from mlscale.providers.contract import LogLine, LogQuery
from mlscale.providers.vertex import requests
from mlscale.providers.vertex.client import Client

CONTAINER = "aiplatform.googleapis.com%2Fprediction_container"
"""The log of what containers print; requests have another one."""

LARGEST_PAGE = 1000
"""Entries that one call gives at most (ListLogEntries, page_size)."""

POLL_EVERY_S = 5.0
LATE_BY = timedelta(seconds=30)
"""How long after its time an entry may still come to light."""

BEGINNING = datetime.min.replace(tzinfo=UTC)

Entry: TypeAlias = Mapping[str, Any]


def lines(
    client: Client,
    identity: Identity,
    query: LogQuery,
    revision_at: Callable[[str, datetime], str],
    clock: Clock,
    deployed_id: str = "",
) -> Iterator[LogLine]:
    """Yield the lines that `query` asks for, oldest first: of the newest thousand the last ones of each replica.

    `revision_at` tells which revision a DeployedModel had at a time, `deployed_id` is the id of the asked revision's;
    empty is the one that follows from it.
    """
    wanted = _filter(identity, query, deployed_id)
    count = max(query.tail, LARGEST_PAGE) if query.tail else 1
    found = _newest(client, identity, wanted, count)
    seen = {_key(entry) for entry in found}
    newest = _at(found[-1]) if found else clock.now()
    left_out = _at(found[0]) if len(found) == count else BEGINNING  # what is older was not asked for
    yield from _shown(_tail(found, query.tail), query, revision_at)
    while query.follow:
        clock.sleep(POLL_EVERY_S)
        start = newest - LATE_BY
        later = f'{wanted} AND timestamp>="{start.isoformat()}"'
        entries = client.pages("logging", "list_log_entries", **_request(identity, later, "asc"))
        news = [entry for entry in entries if _key(entry) not in seen and _at(entry) >= left_out]
        seen, left_out = {_key(entry) for entry in entries}, BEGINNING
        newest = max((_at(entry) for entry in news), default=newest)
        yield from _shown(news, query, revision_at)


def last_lines(client: Client, identity: Identity, count: int, deployed_id: str = "") -> str:
    """Return the last `count` lines of an endpoint's containers, or of one DeployedModel's; empty if there are none.

    An endpoint's other revisions go on writing while one fails.
    """
    found = _newest(client, identity, _filter(identity, LogQuery(tail=count), deployed_id), count)
    return "\n".join(_text(entry) for entry in found)


def _newest(client: Client, identity: Identity, wanted: str, count: int) -> Sequence[Entry]:
    """Return the last `count` entries, oldest first; a page may have fewer than there are, or none."""
    found: list[Entry] = []
    token: Mapping[str, str] = {}
    while len(found) < count:
        asked = _request(identity, wanted, "desc") | {"page_size": min(count - len(found), LARGEST_PAGE)}
        page = client.page("logging", "list_log_entries", **asked, **token)
        found += page.get("entries", ())
        if not page.get("next_page_token"):
            break
        token = {"page_token": page["next_page_token"]}
    return found[::-1]


def _request(identity: Identity, wanted: str, order: str) -> dict[str, Any]:
    return {
        "resource_names": [f"projects/{identity.account}"],
        "filter": wanted,
        "order_by": f"timestamp {order}",
        "page_size": LARGEST_PAGE,
    }


def _filter(identity: Identity, query: LogQuery, deployed_id: str = "") -> str:
    """Return the filter (Logging query language) for an endpoint's containers, a revision's or a replica's alone."""
    tests = {
        "logName": f"projects/{identity.account}/logs/{CONTAINER}",
        "resource.type": "aiplatform.googleapis.com/Endpoint",
        "resource.labels.location": identity.region or "",
        "resource.labels.endpoint_id": identity.name,
    }
    if deployed_id or query.revision is not None:
        tests["labels.deployed_model_id"] = deployed_id or _deployed_id(query.revision or "")
    if query.replica is not None:
        tests["labels.replica_id"] = query.replica
    return " AND ".join(f"{field}={json.dumps(value)}" for field, value in tests.items())


def _deployed_id(revision: str) -> str:
    """Return the id of a revision's DeployedModel; what is no revision is no id either, and has no lines."""
    try:
        return requests.deployed_id(revision)
    except ValueError:
        return revision


def _tail(entries: Sequence[Entry], count: int) -> Sequence[Entry]:
    """Return the last `count` entries of each replica, in order."""
    of: Counter[tuple[str, str]] = Counter()
    kept = []
    for entry in reversed(entries):
        of[_who(entry)] += 1
        if of[_who(entry)] <= count:
            kept.append(entry)
    return kept[::-1]


def _shown(entries: Sequence[Entry], query: LogQuery, revision_at: Callable[[str, datetime], str]) -> Iterator[LogLine]:
    for entry in entries:
        at, (deployed_id, replica) = _at(entry), _who(entry)
        # Of a revision that is gone only who asks for it knows what it was.
        revision = revision_at(deployed_id, at) or query.revision or ""
        yield LogLine(at, revision, replica, _text(entry))


def _who(entry: Entry) -> tuple[str, str]:
    """Return the DeployedModel and the replica that wrote an entry."""
    labels = entry.get("labels", {})
    deployed_id = str(labels.get("deployed_model_id", ""))
    return deployed_id, str(labels.get("replica_id", deployed_id))


def _at(entry: Entry) -> datetime:
    return datetime.fromisoformat(entry["timestamp"]).astimezone(UTC)


def _key(entry: Entry) -> tuple[str, str]:
    return str(entry["timestamp"]), str(entry.get("insert_id", ""))


def _text(entry: Entry) -> str:
    """Return the words of an entry: a line as it was printed, or of what was printed as JSON its message."""
    if "text_payload" in entry:
        return str(entry["text_payload"]).rstrip("\n")
    payload = entry.get("json_payload", {})
    return str(payload["message"]).rstrip("\n") if "message" in payload else json.dumps(payload)
