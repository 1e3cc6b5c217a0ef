"""Cloud Logging: what containers print, and what others wrote."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

from google.protobuf import empty_pb2, json_format

from tests.doubles.vertex import listing, protos
from tests.doubles.vertex.call import Call
from tests.doubles.vertex.filters import parsed
from tests.doubles.vertex.refusal import invalid
from tests.doubles.vertex.world import Json, Project, Region, World

LOGGING = "google.cloud.logging_v2"
RESOURCE = "aiplatform.googleapis.com/Endpoint"
ENTRIES = 1000
NAME = re.compile(r"(projects/[^/]+)/logs/(.+)")


def moment(seconds: float) -> str:
    """Return a time as JSON has it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def console(region: Region, endpoint: Any) -> str:
    """Return the address of an endpoint's log that the service puts into its errors."""
    name = quote(endpoint.name.rpartition("/")[2])
    query = f"resource.type%3D%22aiplatform.googleapis.com%2FEndpoint%22%0Aresource.labels.endpoint_id%3D%22{name}%22"
    return f"https://console.cloud.google.com/logs/viewer?project={region.project.number}&advancedFilter={query}"


def _written(region: Region, endpoint: Any, deployed: Any, log: str, more: Json) -> None:
    project = region.project
    now = moment(region.now())
    project.entries.append(
        {
            "log_name": f"projects/{project.id}/logs/aiplatform.googleapis.com%2F{log}",
            "resource": {
                "type": RESOURCE,
                "labels": {
                    "resource_container": project.number,
                    "location": region.name,
                    "endpoint_id": endpoint.name.rpartition("/")[2],
                },
            },
            "timestamp": now,
            "receive_timestamp": now,
            "insert_id": f"{len(project.entries):012}",
            "labels": {"deployed_model_id": deployed.id, "replica_id": f"{deployed.id}-0"},
            **more,
        }
    )


def write_container(
    region: Region, endpoint: Any, deployed: Any, lines: Sequence[str], *, severity: str = "INFO"
) -> None:
    """Write lines that a container printed."""
    # rule logs.container
    for line in lines:
        more = {"severity": severity, "json_payload": {"message": line, "levelname": severity}}
        _written(region, endpoint, deployed, "prediction_container", more)


def write_access(region: Region, endpoint: Any, deployed: Any, *, status: int, latency_s: float, call: Call) -> None:
    """Write a request into the access log."""
    # rule logs.access
    payload = {"method": call.operation, "response_code": status, "latency": f"{latency_s}s"}
    _written(region, endpoint, deployed, "prediction_access", {"severity": "INFO", "json_payload": payload})


def _lookup(entry: Json, name: str) -> list[str]:
    """Return what an entry has under a path of a filter, in the protocol's words or JSON's."""
    if name == "*":
        return [str(each) for each in _leaves(entry)]
    value: Any = entry
    for part in re.sub(r'"', "", name).split("."):
        plain = re.sub(r"(?<=[a-z])([A-Z])", lambda found: "_" + found[1].lower(), part)
        if not isinstance(value, Mapping):
            return []
        value = value.get(part, value.get(plain))
    if value is None:
        return []
    return [unquote(str(value))] if name in {"logName", "log_name"} else [str(each) for each in _leaves(value)]


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [leaf for each in value.values() for leaf in _leaves(each)]
    return [value]


def chosen(world: World, names: Sequence[str], text: str) -> list[Json]:
    """Return the entries of projects that a filter leaves, oldest first.

    Raises:
        Refusal: there is no project, or the filter can't be read.
    """
    if not names:
        raise invalid("logs.names", "Must specify at least one resource name.")
    projects: dict[str, Project] = {}
    for name in names:
        owner = world.owner(name.partition("/locations/")[0])
        projects[owner.number] = owner
    # rule logs.filter
    test = parsed(unquote(text))
    held = [each for project in projects.values() for each in project.entries]
    found = [each for each in held if test(lambda name, each=each: _lookup(each, name))]  # type: ignore[misc]
    return sorted(found, key=lambda each: (each["timestamp"], each["insert_id"]))


def message_of(entry: Json) -> Any:
    """Return an entry as the service sends it."""
    return json_format.ParseDict(entry, protos.message("LogEntry", LOGGING)())


def list_log_entries(world: World, request: Any, _call: Call) -> Any:
    """Return a page of entries."""
    found = chosen(world, request.resource_names, request.filter)
    if request.order_by.replace(" ", "") in {"timestampdesc", '"timestampdesc"'}:
        found.reverse()
    elif request.order_by.strip() not in {"", "timestamp", "timestamp asc"}:
        raise invalid("logs.order", f"Invalid order_by: {request.order_by}")
    page, token = listing.page(found, request, most=ENTRIES)
    return protos.message("ListLogEntriesResponse", LOGGING)(
        entries=[message_of(each) for each in page], next_page_token=token
    )


def write_log_entries(world: World, request: Any, _call: Call) -> Any:
    """Keep entries that a caller wrote."""
    for asked in request.entries:
        entry = json_format.MessageToDict(asked, preserving_proto_field_name=True)
        entry.setdefault("log_name", request.log_name)
        now = moment(world.clock.now())
        if not entry["log_name"]:
            raise invalid("logs.log-name", "Log entry has no log_name.")
        owner = world.owner(entry["log_name"])
        entry = {"timestamp": now, "severity": "DEFAULT", **entry, "receive_timestamp": now}
        owner.entries.append({"insert_id": f"{len(owner.entries):012}", **entry})
    return protos.message("WriteLogEntriesResponse", LOGGING)()


def list_logs(world: World, request: Any, _call: Call) -> Any:
    """Return the names of logs that have entries."""
    names = sorted({each["log_name"] for each in world.owner(request.parent).entries})
    page, token = listing.page(names, request)
    return protos.message("ListLogsResponse", LOGGING)(log_names=page, next_page_token=token)


def delete_log(world: World, request: Any, _call: Call) -> Any:
    """Forget the entries of a log."""
    found = NAME.fullmatch(request.log_name)
    owner = world.owner(request.log_name)
    wanted = unquote(found[2]) if found else ""
    owner.entries = [each for each in owner.entries if unquote(each["log_name"].partition("/logs/")[2]) != wanted]
    return empty_pb2.Empty()


OPERATIONS = {
    ("LoggingServiceV2", "ListLogEntries"): list_log_entries,
    ("LoggingServiceV2", "WriteLogEntries"): write_log_entries,
    ("LoggingServiceV2", "ListLogs"): list_logs,
    ("LoggingServiceV2", "DeleteLog"): delete_log,
}
