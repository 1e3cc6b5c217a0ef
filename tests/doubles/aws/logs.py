"""CloudWatch Logs: groups, streams, and what containers write into them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tests.doubles.aws.refusal import Refusal
from tests.doubles.aws.world import Json, Region, new_id, page

PAGE = 50
EVENTS = 10000
MOST_EVENTS = 10000


def write_container(region: Region, endpoint: str, variant: str, lines: Sequence[str]) -> None:
    """Keep what a new instance of a variant printed."""
    # rule logs.endpoint-group
    stream = f"{variant}/i-{new_id().replace('-', '')[:17]}"
    write(region, f"/aws/sagemaker/Endpoints/{endpoint}", stream, lines)


def write(region: Region, group: str, stream: str, lines: Sequence[str]) -> None:
    """Keep lines; the group and the stream are made if they are not there."""
    streams = _group(region, group, make=True)["streams"]
    held = streams.setdefault(stream, {"created": _now_ms(region), "events": []})
    held["events"] += [
        {"timestamp": _now_ms(region), "message": line, "ingestionTime": _now_ms(region)} for line in lines
    ]


def _now_ms(region: Region) -> int:
    return int(region.now() * 1000)


def _group(region: Region, name: str, *, make: bool = False) -> Json:
    if name not in region.log_groups:
        if not make:
            words = "The specified log group does not exist."
            raise Refusal("logs.missing", "ResourceNotFoundException", words)
        region.log_groups[name] = {"created": _now_ms(region), "streams": {}, "retention": None}
    found: Json = region.log_groups[name]
    return found


def _name(asked: Json) -> str:
    """Return the group that is named, by name or by ARN."""
    name: str = asked.get("logGroupName") or asked["logGroupIdentifier"].removesuffix(":*").rpartition("log-group:")[2]
    return name


def _stream(region: Region, asked: Json) -> Json:
    stream = _group(region, _name(asked))["streams"].get(asked["logStreamName"])
    if stream is None:
        words = "The specified log stream does not exist."
        raise Refusal("logs.missing", "ResourceNotFoundException", words)
    found: Json = stream
    return found


def create_log_group(region: Region, asked: Json) -> Json:
    """Make a group."""
    if asked["logGroupName"] in region.log_groups:
        words = "The specified log group already exists"
        raise Refusal("logs.exists", "ResourceAlreadyExistsException", words)
    _group(region, asked["logGroupName"], make=True)
    return {}


def create_log_stream(region: Region, asked: Json) -> Json:
    """Make a stream."""
    streams = _group(region, asked["logGroupName"])["streams"]
    if asked["logStreamName"] in streams:
        words = "The specified log stream already exists"
        raise Refusal("logs.exists", "ResourceAlreadyExistsException", words)
    streams[asked["logStreamName"]] = {"created": _now_ms(region), "events": []}
    return {}


def put_log_events(region: Region, asked: Json) -> Json:
    """Keep lines."""
    now = _now_ms(region)
    _stream(region, asked)["events"].extend({**each, "ingestionTime": now} for each in asked["logEvents"])
    return {"nextSequenceToken": "0"}


def put_retention_policy(region: Region, asked: Json) -> Json:
    """Keep how long lines are kept."""
    _group(region, asked["logGroupName"])["retention"] = asked["retentionInDays"]
    return {}


def delete_log_group(region: Region, asked: Json) -> Json:
    """Forget a group."""
    _group(region, asked["logGroupName"])
    del region.log_groups[asked["logGroupName"]]
    return {}


def describe_log_groups(region: Region, asked: Json) -> Json:
    """Return a page of groups."""
    prefix = asked.get("logGroupNamePrefix", "")
    rows = [
        {
            "logGroupName": name,
            "arn": region.arn("logs", f"log-group:{name}:*"),
            "creationTime": group["created"],
            "metricFilterCount": 0,
            "storedBytes": 0,
            **({"retentionInDays": group["retention"]} if group["retention"] else {}),
        }
        for name, group in sorted(region.log_groups.items())
        if name.startswith(prefix)
    ]
    return _paged(rows, asked, "logGroups", PAGE)


def _paged(rows: list[Json], asked: Json, key: str, size: int) -> Json:
    shown, token = page(rows, {"NextToken": asked.get("nextToken"), "MaxResults": asked.get("limit")}, size=size)
    return {key: shown, **({"nextToken": token["NextToken"]} if token else {})}


def describe_log_streams(region: Region, asked: Json) -> Json:
    """Return a page of streams."""
    name = _name(asked)
    prefix = asked.get("logStreamNamePrefix", "")
    rows = [
        {
            "logStreamName": stream,
            "arn": region.arn("logs", f"log-group:{name}:log-stream:{stream}"),
            "creationTime": held["created"],
            "storedBytes": 0,
            **_span(held["events"]),
        }
        for stream, held in sorted(_group(region, name)["streams"].items())
        if stream.startswith(prefix)
    ]
    if asked.get("orderBy") == "LastEventTime":
        rows.sort(key=lambda each: (each.get("lastEventTimestamp", 0), each["logStreamName"]))
    if asked.get("descending"):
        rows.reverse()
    return _paged(rows, asked, "logStreams", PAGE)


def _span(events: list[Json]) -> Json:
    if not events:
        return {}
    moments = [each["timestamp"] for each in events]
    ingested = events[-1]["ingestionTime"]
    return {"firstEventTimestamp": min(moments), "lastEventTimestamp": max(moments), "lastIngestionTime": ingested}


def get_log_events(region: Region, asked: Json) -> Json:
    """Return lines of one stream; a token that comes back unchanged says that there are no more."""
    events = [each for each in _stream(region, asked)["events"] if _in_time(each, asked)]
    most = asked.get("limit") or MOST_EVENTS
    token = asked.get("nextToken", "")
    if token.startswith("f/"):
        start = int(token[2:])
    elif token.startswith("b/"):
        start = max(0, int(token[2:]) - most)
        events = events[: int(token[2:])]
    else:
        start = 0 if asked.get("startFromHead") else max(0, len(events) - most)
    shown = events[start : start + most]
    # rule logs.tokens
    return {
        "events": shown,
        "nextForwardToken": f"f/{start + len(shown)}",
        "nextBackwardToken": f"b/{start}",
    }


def _in_time(event: Json, asked: Json) -> bool:
    start, end = asked.get("startTime"), asked.get("endTime")
    return (start is None or event["timestamp"] >= start) and (end is None or event["timestamp"] < end)


def filter_log_events(region: Region, asked: Json) -> Json:
    """Return lines over streams of a group, by time."""
    names, prefix = asked.get("logStreamNames"), asked.get("logStreamNamePrefix", "")
    if names and prefix:
        words = "logStreamNames and logStreamNamePrefix can't be used together"
        raise Refusal("logs.both", "InvalidParameterException", words)
    pattern = asked.get("filterPattern", "")
    rows = [
        {**event, "logStreamName": stream, "eventId": f"{event['timestamp']:020}{number:012}"}
        for stream, held in sorted(_group(region, _name(asked))["streams"].items())
        if (not names or stream in names) and stream.startswith(prefix)
        for number, event in enumerate(held["events"])
        if _in_time(event, asked) and matches(pattern, event["message"])
    ]
    rows.sort(key=lambda each: each["timestamp"])
    return {"searchedLogStreams": [], **_paged(rows, asked, "events", EVENTS)}


def matches(pattern: str, message: str) -> bool:
    """Return whether a line fits a pattern of terms: all plain ones, any with `?`, none with `-`."""
    # rule logs.terms
    terms = [(mark, quoted or plain) for mark, quoted, plain in re.findall(r'([?-]?)(?:"([^"]*)"|(\S+))', pattern)]
    either = [word for mark, word in terms if mark == "?"]
    return (
        all(word in message for mark, word in terms if not mark)
        and not any(word in message for mark, word in terms if mark == "-")
        and (not either or any(word in message for word in either))
    )


OPERATIONS = {
    "CreateLogGroup": create_log_group,
    "CreateLogStream": create_log_stream,
    "PutLogEvents": put_log_events,
    "PutRetentionPolicy": put_retention_policy,
    "DeleteLogGroup": delete_log_group,
    "DescribeLogGroups": describe_log_groups,
    "DescribeLogStreams": describe_log_streams,
    "GetLogEvents": get_log_events,
    "FilterLogEvents": filter_log_events,
}
