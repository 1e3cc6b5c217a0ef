"""What an endpoint's containers wrote: CloudWatch Logs → log lines.

SageMaker keeps a group for each endpoint and in it a stream for each container, named by variant and instance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeAlias

from mlscale.clock import Clock
from mlscale.providers.calling import together
from mlscale.providers.contract import LogLine, LogQuery
from mlscale.providers.sagemaker.client import Client

STREAMS = 50
"""Streams that are looked at, the newest: one page of DescribeLogStreams."""

STILL_WRITES_MS = 3 * 3_600_000
"""A stream that is this much behind the newest is one of an instance that is gone; CloudWatch may be an hour late in
saying when a stream was last written to (DescribeLogStreams, lastEventTimestamp)."""

POLL_EVERY_S = 3.0
LATE_BY_MS = 60_000
"""How long after its time a line may still come to light."""

LARGEST_PAGE = 10_000
"""Lines that one call gives at most (GetLogEvents)."""

Event: TypeAlias = Mapping[str, Any]


def group(name: str) -> str:
    """Return the name of an endpoint's log group, which SageMaker makes."""
    return f"/aws/sagemaker/Endpoints/{name}"


def lines(
    client: Client, name: str, query: LogQuery, revision_at: Callable[[str, datetime], str], clock: Clock
) -> Iterator[LogLine]:
    """Yield the lines of the endpoint `name` that `query` asks for, oldest first; none where nothing was written yet.

    `revision_at` tells which revision a variant had at a time. A replica is the id of its instance.
    """
    streams = _streams(client, name)
    found = _tail(client, name, [each["logStreamName"] for each in _writing(streams)], query)
    seen = Counter(_key(event) for event in found)
    newest = left_out = max((_ms(event) for event in found), default=_newest_ms(streams))
    yield from _shown(found if query.tail else (), query, revision_at)
    while query.follow:
        start = max(0, newest - LATE_BY_MS)
        now: Counter[tuple[str, int, str]] = Counter()
        news = []
        for event in _since(client, name, start):
            now[_key(event)] += 1
            # An event has no id in both of the calls that give it: the nth of the same words at a time is told once.
            if now[_key(event)] > seen[_key(event)] and _ms(event) > left_out:
                news.append(event)
        left_out = 0  # what the tail left out is counted by now
        seen = Counter({key: count for key, count in (seen | now).items() if key[1] >= start})
        newest = max((_ms(event) for event in news), default=newest)
        yield from _shown(news, query, revision_at)
        clock.sleep(POLL_EVERY_S)


def last_lines(client: Client, name: str, count: int, *, since: datetime | None = None, variant: str = "") -> str:
    """Return the last `count` lines of the container that began last, which is one of those that a change started.

    Of `variant` where one is said: beside a candidate, containers of the stable revision begin as well. Empty if none
    began after `since`, or none has written anything.
    """
    prefix = f"{variant}/" if variant else ""
    streams = [each for each in _streams(client, name) if each["logStreamName"].startswith(prefix)]
    if not streams:
        return ""
    last = max(streams, key=lambda each: int(each.get("creationTime", 0)))
    if since is not None and int(last.get("creationTime", 0)) < since.timestamp() * 1000:
        return ""
    return "\n".join(_text(event) for event in _last(client, name, last["logStreamName"], count))


def _tail(client: Client, name: str, streams: Sequence[str], query: LogQuery) -> Sequence[Event]:
    """Return the last events of each stream, at least one of each, by time."""
    count = max(1, query.tail)
    wanted = [stream for stream in streams if _is_wanted(stream, query)]
    found = together(*(partial(_last, client, name, stream, count) for stream in wanted))
    return sorted((event for each in found for event in each), key=_ms)


def _streams(client: Client, name: str) -> Sequence[Mapping[str, Any]]:
    """Return the streams of an endpoint, none where there is no group."""
    found = client.find(
        "logs",
        "describe_log_streams",
        logGroupName=group(name),
        orderBy="LastEventTime",
        descending=True,
        limit=STREAMS,
    )
    return tuple(found["logStreams"]) if found else ()


def _writing(streams: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return the streams that are still written to, as far as anybody knows."""
    newest = _newest_ms(streams)
    return [each for each in streams if newest - _written_ms(each) <= STILL_WRITES_MS]


def _newest_ms(streams: Sequence[Mapping[str, Any]]) -> int:
    return max((_written_ms(each) for each in streams), default=0)


def _written_ms(stream: Mapping[str, Any]) -> int:
    return max(int(stream.get(word, 0)) for word in ("creationTime", "lastEventTimestamp", "lastIngestionTime"))


def _last(client: Client, name: str, stream: str, count: int) -> Sequence[Event]:
    """Return the last `count` events of a stream; a page may have fewer than there are, or none."""
    found: list[Event] = []
    token: Mapping[str, str] = {}
    while len(found) < count:
        page = client.find(
            "logs",
            "get_log_events",
            logGroupName=group(name),
            logStreamName=stream,
            startFromHead=False,
            limit=min(count - len(found), LARGEST_PAGE),
            **token,
        )
        if page is None:
            break
        found = [*({**event, "logStreamName": stream} for event in page["events"]), *found]
        before = {"nextToken": page["nextBackwardToken"]}
        if before == token:  # the stream's beginning (GetLogEvents, nextBackwardToken)
            break
        token = before
    return found


def _since(client: Client, name: str, start_ms: int) -> Iterator[Event]:
    """Yield the events of every stream from a time on; none where there is no group yet."""
    token: Mapping[str, str] = {}
    while True:
        page = client.find("logs", "filter_log_events", logGroupName=group(name), startTime=start_ms, **token)
        if page is None:
            return
        yield from page["events"]
        if not page.get("nextToken"):
            return
        token = {"nextToken": page["nextToken"]}


def _shown(events: Iterable[Event], query: LogQuery, revision_at: Callable[[str, datetime], str]) -> Iterator[LogLine]:
    for event in sorted(events, key=_ms):
        variant, replica = _named(event["logStreamName"])
        at = datetime.fromtimestamp(_ms(event) / 1000, UTC)
        revision = revision_at(variant, at)
        if _is_wanted(event["logStreamName"], query) and query.revision in (None, revision):
            yield LogLine(at, revision, replica, _text(event))


def _is_wanted(stream: str, query: LogQuery) -> bool:
    return query.replica in (None, _named(stream)[1])


def _named(stream: str) -> tuple[str, str]:
    """Return the variant and the replica that a stream is named by."""
    variant, _, replica = stream.partition("/")
    return variant, replica or stream


def _key(event: Event) -> tuple[str, int, str]:
    return event["logStreamName"], _ms(event), event["message"]


def _ms(event: Event) -> int:
    return int(event["timestamp"])


def _text(event: Event) -> str:
    return str(event["message"]).rstrip("\n")
