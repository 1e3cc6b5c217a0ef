"""The services' own messages and methods, taken from the clients that Google publishes."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass, replace
from typing import Any

import grpc
from google.cloud.location import locations_pb2
from google.iam.v1 import iam_policy_pb2
from google.longrunning import operations_pb2

VERTEX, BETA = "google.cloud.aiplatform.v1.", "google.cloud.aiplatform.v1beta1."

CLIENTS = {
    VERTEX: (
        "google.cloud.aiplatform_v1",
        ("endpoint_service", "model_service", "job_service", "prediction_service"),
    ),
    "google.monitoring.v3.": (
        "google.cloud.monitoring_v3",
        ("alert_policy_service", "metric_service", "notification_channel_service"),
    ),
    "google.monitoring.dashboard.v1.": ("google.cloud.monitoring_dashboard_v1", ("dashboards_service",)),
    "google.logging.v2.": ("google.cloud.logging_v2", ("logging_service_v2",)),
    "google.cloud.resourcemanager.v3.": ("google.cloud.resourcemanager_v3", ("projects",)),
}
"""What the names of services begin with, and the client that has them; it is imported when the first call comes."""

COMMON = (operations_pb2, locations_pb2, iam_policy_pb2)
MIXED_IN = ("google.longrunning.", "google.cloud.location.", "google.iam.v1.")
"""Services that every regional client of Vertex AI calls, too."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method: what is sent to it, and which version of the API was called."""

    service: str
    operation: str
    request: Any
    version: str = "v1"


class _Recorder(grpc.Channel):  # type: ignore[misc]  # grpc has no types
    """A channel on which nothing is called: it writes down what could be."""

    def __init__(self) -> None:
        self.methods: dict[str, Method] = {}

    def unary_unary(self, method: str, request_serializer: Any = None, *_: Any, **__: Any) -> Any:
        """Write a method down."""
        service, operation = method[1:].split("/")
        request = _written_by(request_serializer, operation)
        self.methods[method] = Method(service.rpartition(".")[2], operation, request)
        return lambda *_, **__: None

    unary_stream = unary_unary
    stream_unary = unary_unary
    stream_stream = unary_unary

    def subscribe(self, callback: Any, try_to_connect: bool = False) -> None:  # noqa: FBT001, FBT002 - grpc's own
        """Do nothing."""

    def unsubscribe(self, callback: Any) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def _written_by(serializer: Any, operation: str) -> Any:
    """Return the protobuf class that writes itself so; of one that is no proto-plus class only the name leads to it."""
    owner = getattr(serializer, "__self__", None)
    if owner is not None:
        return owner.pb()
    found = (getattr(module, f"{operation}Request", None) for module in COMMON)
    return next((each for each in found if each is not None), None)


@functools.cache
def _methods(prefix: str) -> dict[str, Method]:
    package, services = CLIENTS[prefix]
    recorder = _Recorder()
    for service in services:
        module = importlib.import_module(f"{package}.services.{service}.transports.grpc")
        transport = next(each for name, each in vars(module).items() if name.endswith("GrpcTransport"))
        made = transport(channel=recorder)
        # Behind its interceptor for logs a channel is asked for nothing before a call is made.
        made._logged_channel = recorder
        made._stubs.clear()
        for name, member in vars(transport).items():
            if isinstance(member, property) and name not in {"grpc_channel", "operations_client", "kind"}:
                getattr(made, name)
    return recorder.methods


def method(path: str) -> Method | None:
    """Return the method of a path, None if no client of ours has it."""
    name = path.removeprefix("/")
    if name.startswith(MIXED_IN):
        return _methods(VERTEX).get(path)
    if name.startswith(BETA):
        found = _methods(VERTEX).get(f"/{VERTEX}{name.removeprefix(BETA)}")
        # rule beta.same-wire
        return found and replace(found, version="v1beta1")
    prefix = next((each for each in CLIENTS if name.startswith(each)), None)
    return _methods(prefix).get(path) if prefix else None


def load() -> None:
    """Import what nearly every test calls."""
    _methods(VERTEX)


@functools.cache
def _package(name: str) -> Any:
    return importlib.import_module(name)


@functools.cache
def message(name: str, package: str = "google.cloud.aiplatform_v1") -> Any:
    """Return the protobuf class of a message; a dot in `name` leads into a nested one."""
    found = _package(f"{package}.types")
    for part in name.split("."):
        found = getattr(found, part)
    return found.pb()


@functools.cache
def enum(name: str, package: str = "google.cloud.aiplatform_v1") -> Any:
    """Return an enumeration."""
    return getattr(_package(f"{package}.types"), name)
