"""Google Cloud: the only place that calls its clients. Reads are tried again, changes once; values are plain dicts."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, cast

from mlscale.clock import Clock
from mlscale.errors import ExtraMissing, MlscaleError, ProviderFailed, UsageError
from mlscale.providers.contract import Progress
from mlscale.providers.vertex.calls import Call
from mlscale.providers.vertex.failures import code_of, failure_of, failure_of_status, is_absent, is_there_already
from mlscale.quantities import duration_of

T = TypeVar("T")

PARALLEL = 8
"""Reads that are under way at once."""

TIMEOUT_VARIABLE = "MLSCALE_CALL_TIMEOUT"
TIMEOUT_S = 20.0
PREDICT_TIMEOUT_S = 610.0
"""A dedicated endpoint may take 10 minutes to answer (inferenceTimeout in the API reference); shared ones take one."""

TRIES = 5
FIRST_PAUSE_S = 0.25
TRY_WITHIN_S = 20.0
"""No try of a read begins later than this after the first."""

VERTEX, GOOGLE = "MLSCALE_VERTEX_API_ENDPOINT", "MLSCALE_GOOGLE_API_ENDPOINT"
"""Other addresses for Vertex AI and for what else of Google's is asked; http:// is plain and anonymous."""

DEPLOYED_MODEL = "x-vertex-ai-deployed-model-id"
"""Where a RawPredict answer says which DeployedModel gave it: in its first metadata."""


@dataclass(frozen=True, slots=True)
class _Service:
    module: str
    client: str
    variable: str = GOOGLE
    host: str = ""


_SERVICES: Mapping[str, _Service] = {
    "endpoint": _Service("google.cloud.aiplatform_v1", "EndpointServiceClient", VERTEX),
    "model": _Service("google.cloud.aiplatform_v1", "ModelServiceClient", VERTEX),
    "prediction": _Service("google.cloud.aiplatform_v1", "PredictionServiceClient", VERTEX),
    "alert_policy": _Service(
        "google.cloud.monitoring_v3", "AlertPolicyServiceClient", host="monitoring.googleapis.com"
    ),
    "notification_channel": _Service(
        "google.cloud.monitoring_v3", "NotificationChannelServiceClient", host="monitoring.googleapis.com"
    ),
    "metric": _Service("google.cloud.monitoring_v3", "MetricServiceClient", host="monitoring.googleapis.com"),
    "dashboard": _Service(
        "google.cloud.monitoring_dashboard_v1", "DashboardsServiceClient", host="monitoring.googleapis.com"
    ),
    "logging": _Service(
        "google.cloud.logging_v2.services.logging_service_v2", "LoggingServiceV2Client", host="logging.googleapis.com"
    ),
    "project": _Service(
        "google.cloud.resourcemanager_v3", "ProjectsClient", host="cloudresourcemanager.googleapis.com"
    ),
}


@dataclass(frozen=True, slots=True)
class Operation:
    """A long-running operation: whether it is over, and what came of it."""

    name: str
    done: bool
    error: MlscaleError | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Invoked:
    """What the endpoint answered to one request, and the DeployedModel that gave it."""

    status: int
    content_type: str
    body: bytes
    deployed_model_id: str = ""


class Client:
    """Google Cloud, for one project and region. Several threads may use it; nothing is loaded before the first use."""

    def __init__(self, project: str, region: str, clock: Clock) -> None:
        """Raise UsageError where the call timeout in the environment is none."""
        self.project = project
        self.region = region
        self.parent = f"projects/{project}/locations/{region}"
        self._clock = clock
        self._timeout_s = _timeout_s(os.environ.get(TIMEOUT_VARIABLE, ""))
        self._making = threading.RLock()
        self._made: dict[tuple[str, str], Any] = {}

    def read(self, service: str, method: str, **request: Any) -> dict[str, Any]:
        """Return what the service answers, tried again while that may help."""
        return self._patiently(lambda: self._answer(service, method, request))

    def find(self, service: str, method: str, **request: Any) -> dict[str, Any] | None:
        """Return what `read` does; None where the service says that it is not there."""
        try:
            return self.read(service, method, **request)
        except MlscaleError as error:
            if is_absent(error.__cause__):
                return None
            raise

    def pages(self, service: str, method: str, **request: Any) -> list[dict[str, Any]]:
        """Return what every page of a list has, in order."""
        return self._patiently(lambda: self._listed(service, method, request))

    def page(self, service: str, method: str, **request: Any) -> dict[str, Any]:
        """Return one page of a list as it comes, with `next_page_token` where there is another."""
        return self._patiently(lambda: self._one_page(service, method, request))

    def change(self, call: Call) -> dict[str, Any]:
        """Return what the service answers to the one try of `call`."""
        return self._answer(call.service, call.method, call.request)

    def create(self, call: Call) -> str:
        """Begin to make what `call` makes, and return the operation; empty where one of that name is there already."""
        try:
            return self.begin(call)
        except MlscaleError as error:
            if is_there_already(error.__cause__):
                return ""
            raise

    def remove(self, call: Call) -> str:
        """Begin to delete what `call` deletes, and return the operation; empty where there is none."""
        try:
            return self.begin(call)
        except MlscaleError as error:
            if is_absent(error.__cause__):
                return ""
            raise

    def begin(self, call: Call) -> str:
        """Return the name of the operation that the one try of `call` began."""
        client = self._client(call.service)
        with _errors_of(call.method):
            begun = getattr(client, call.method)(request=dict(call.request), retry=None, timeout=self._call_s())
        return str(begun.operation.name)

    def operation(self, name: str) -> Operation:
        """Return how far an operation is.

        Raises:
            ProviderFailed: nobody knows it any more.
        """
        from google.longrunning import operations_pb2

        request = operations_pb2.GetOperationRequest(name=name)
        client = self._client("endpoint")

        def seen() -> Operation:
            with _errors_of("get_operation"):
                found = client.get_operation(request, retry=None, timeout=self._call_s())
            return self._seen(found, name)

        return self._patiently(seen)

    def operations(self, resource: str) -> list[Operation]:
        """Return the operations that go on at a resource; none where the server keeps no list of them."""
        from google.longrunning import operations_pb2

        client = self._client("endpoint")
        request = operations_pb2.ListOperationsRequest(name=resource)

        def listed() -> list[Operation]:
            with _errors_of("list_operations"):
                found = client.list_operations(request, retry=None, timeout=self._call_s())
            return [self._seen(each, each.name) for each in found.operations]

        try:
            return [each for each in self._patiently(listed) if not each.done]
        except MlscaleError as error:
            if code_of(error.__cause__) in ("UNIMPLEMENTED", "NOT_FOUND"):
                return []
            raise

    def raw_predict(self, endpoint: str, body: bytes, content_type: str, host: str = "") -> Invoked:
        """Return what the endpoint answers; `host` is a dedicated endpoint's own address."""
        from google.api import httpbody_pb2
        from google.cloud.aiplatform_v1 import RawPredictRequest

        request = RawPredictRequest(
            endpoint=endpoint, http_body=httpbody_pb2.HttpBody(content_type=content_type, data=body)
        )
        # Google's own client keeps the metadata to itself, so the method is called on its channel.
        transport = self._client("prediction", host).transport
        stub = transport.grpc_channel.unary_unary(
            "/google.cloud.aiplatform.v1.PredictionService/RawPredict",
            request_serializer=RawPredictRequest.serialize,
            response_deserializer=httpbody_pb2.HttpBody.FromString,
        )
        metadata = [("x-goog-request-params", f"endpoint={endpoint}")]
        with _errors_of("raw_predict"):
            answer, call = stub.with_call(request, timeout=self._timeout_s or PREDICT_TIMEOUT_S, metadata=metadata)
        told = dict(call.initial_metadata())
        return Invoked(200, answer.content_type, answer.data, str(told.get(DEPLOYED_MODEL, "")))

    def upload(self, file: Path, place: str, progress: Progress) -> None:
        """Write `file` to `place` (`gs://bucket/key`), whole or not at all."""
        bucket, key = _bucket_and_key(place)
        progress(f"{file.name}, {file.stat().st_size / 1e6:.1f} MB")
        import obstore

        with _storage_errors(place):
            obstore.put(self._bucket(bucket), key, file)

    def is_there(self, place: str) -> bool:
        """Return whether there is an object at `place`."""
        import obstore

        bucket, key = _bucket_and_key(place)
        try:
            with _storage_errors(place):
                obstore.head(self._bucket(bucket), key)
        except FileNotFoundError:
            return False
        return True

    def delete(self, place: str) -> None:
        """Delete the object at `place`; none there is no error."""
        import obstore

        bucket, key = _bucket_and_key(place)
        try:
            with _storage_errors(place):
                obstore.delete(self._bucket(bucket), key)
        except FileNotFoundError:
            return

    def listed(self, place: str) -> list[str]:
        """Return the places of all objects whose names begin with `place`."""
        import obstore

        bucket, prefix = _bucket_and_key(place)
        with _storage_errors(place):
            pages = list(obstore.list(self._bucket(bucket), prefix))
        return sorted(f"gs://{bucket}/{each['path']}" for page in pages for each in page)

    def together(self, *reads: Callable[[], T]) -> list[T]:
        """Return what each of `reads` returns, done side by side."""
        if len(reads) <= 1:
            return [read() for read in reads]
        self._client("endpoint")  # its modules are loaded by one thread
        with ThreadPoolExecutor(min(PARALLEL, len(reads)), thread_name_prefix="read") as pool:
            return [future.result() for future in [pool.submit(read) for read in reads]]

    def _patiently(self, read: Callable[[], T]) -> T:
        started, pause = self._clock.monotonic(), FIRST_PAUSE_S
        for _ in range(TRIES - 1):
            try:
                return read()
            except ProviderFailed as error:
                if not error.retryable or self._clock.monotonic() + pause > started + TRY_WITHIN_S:
                    raise
            self._clock.sleep(pause)
            pause *= 2
        return read()

    def _answer(self, service: str, method: str, request: Mapping[str, Any]) -> dict[str, Any]:
        client = self._client(service)
        with _errors_of(method):
            answer = getattr(client, method)(request=dict(request), retry=None, timeout=self._call_s())
        return {} if answer is None else _plain(answer)

    def _listed(self, service: str, method: str, request: Mapping[str, Any]) -> list[dict[str, Any]]:
        client = self._client(service)
        with _errors_of(method):
            pager = getattr(client, method)(request=dict(request), retry=None, timeout=self._call_s())
            return [_plain(each) for each in pager]

    def _one_page(self, service: str, method: str, request: Mapping[str, Any]) -> dict[str, Any]:
        client = self._client(service)
        with _errors_of(method):
            pager = getattr(client, method)(request=dict(request), retry=None, timeout=self._call_s())
            return _plain(next(iter(pager.pages)))

    def _seen(self, operation: Any, name: str) -> Operation:
        error = None
        if operation.done and operation.HasField("error"):
            from grpc import StatusCode

            names = {code.value[0]: code.name for code in StatusCode}
            status = operation.error
            error = failure_of_status(names.get(status.code, "UNKNOWN"), status.message, name.rpartition("/")[0])
        return Operation(name, bool(operation.done), error)

    def _call_s(self) -> float:
        return self._timeout_s or TIMEOUT_S

    def _client(self, service: str, host: str = "") -> Any:
        with self._making:
            made = self._made.get((service, host))
            if made is None:
                made = self._made[service, host] = self._new(_SERVICES[service], host)
        return made

    def _new(self, service: _Service, host: str) -> Any:
        try:
            module = import_module(service.module)
            import grpc
        except ImportError as error:
            raise ExtraMissing(
                "an optional package is not installed",
                why=f"{service.module} talks to Google Cloud",
                hint="pip install 'mlscale[vertex]'",
            ) from error
        kind = getattr(module, service.client)
        chosen = os.environ.get(service.variable, "")
        default = service.host or f"{self.region}-aiplatform.googleapis.com"
        if chosen.startswith("http://"):
            channel = self._channel(chosen.removeprefix("http://").rstrip("/"), grpc)
            return kind(transport=kind.get_transport_class("grpc")(channel=channel))
        place = chosen.removeprefix("https://").rstrip("/") or host or default
        with _errors_of("reading the credentials of Google Cloud"):
            return kind(client_options={"api_endpoint": place})

    def _channel(self, place: str, grpc: Any) -> Any:
        """Return the plain channel to `place`: one for all services there."""
        key = ("channel", place)
        if key not in self._made:
            self._made[key] = grpc.insecure_channel(place)
        return self._made[key]

    def _bucket(self, bucket: str) -> Any:
        from obstore.store import from_url

        host = os.environ.get("STORAGE_EMULATOR_HOST", "")
        options: dict[str, Any] = {"client_options": {"allow_http": True}}
        if host:
            # A token that is given is used as it is; with skip_signature obstore 0.12 still asks for one to write.
            options |= {"base_url": host if "://" in host else f"http://{host}", "bearer_token": "emulator"}
        with self._making:
            if ("bucket", bucket) not in self._made:
                with _storage_errors(bucket):
                    self._made["bucket", bucket] = from_url(f"gs://{bucket}", **options)
        return self._made["bucket", bucket]


def _plain(message: Any) -> dict[str, Any]:
    """Return a message as a dict: field names in snake case, enums by name, what is not set left out."""
    kind = type(message)
    if hasattr(kind, "to_dict"):
        plain: dict[str, Any] = kind.to_dict(
            message,
            preserving_proto_field_name=True,
            use_integers_for_enums=False,
            always_print_fields_with_no_presence=False,
        )
        return plain
    from google.protobuf.json_format import MessageToDict

    found: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return found


def _timeout_s(text: str) -> float | None:
    """Return the seconds that the environment gives a call, None where it says nothing."""
    if not text:
        return None
    hint = f"write it like {TIMEOUT_VARIABLE}=20s"
    try:
        seconds = duration_of(text).total_seconds()
    except ValueError as error:
        raise UsageError(f"{TIMEOUT_VARIABLE} is not a duration", why=str(error), hint=hint) from error
    if not seconds:
        raise UsageError(f"{TIMEOUT_VARIABLE} is not a duration", why=f"{text} is no time at all", hint=hint)
    return seconds


def _bucket_and_key(place: str) -> tuple[str, str]:
    scheme, _, rest = place.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "gs" or not bucket or not key:
        raise UsageError("this is no place in Cloud Storage", why=place, hint="write it like gs://bucket/folder/file")
    return bucket, key


@contextmanager
def _errors_of(doing: str) -> Iterator[None]:
    from google.api_core.exceptions import GoogleAPICallError, RetryError, from_grpc_error
    from google.auth.exceptions import GoogleAuthError
    from grpc import RpcError

    try:
        yield
    except (GoogleAPICallError, RetryError, GoogleAuthError) as error:
        raise failure_of(error, doing) from error
    except RpcError as error:
        known: GoogleAPICallError = cast("Any", from_grpc_error)(error)
        raise failure_of(known, doing) from known


@contextmanager
def _storage_errors(place: str) -> Iterator[None]:
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError:
        raise
    except BaseError as error:
        raise ProviderFailed(
            "Cloud Storage could not do it",
            why=f"{place}: {str(error).splitlines()[0]}",
            hint="mlscale doctor",
            retryable=True,
        ) from error
