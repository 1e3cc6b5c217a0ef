"""Google Cloud: the only place that calls its clients. Reads are tried again, changes once; values are plain dicts."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import IO, Any, TypeVar

from mlscale import __version__
from mlscale.clock import Clock
from mlscale.errors import ExtraMissing, MlscaleError, WrongCredentials
from mlscale.providers.calling import TIMEOUT_S, TRY_WITHIN_S, Reads, bucket_and_key, timeout_s, uploaded_text
from mlscale.providers.contract import Progress
from mlscale.providers.vertex.addresses import GOOGLE, STORAGE, VERTEX, Address, advice, chosen
from mlscale.providers.vertex.calls import Call
from mlscale.providers.vertex.failures import (
    code_of,
    failure_of,
    failure_of_status,
    failure_of_storage,
    is_absent,
    is_there_already,
    lasting,
)

T = TypeVar("T")

PREDICT_TIMEOUT_S = 610.0
"""A dedicated endpoint may take 10 minutes to answer (API reference, inferenceTimeout), a shared one takes one."""

CONNECT_S = 5.0
STORAGE_TRIES = 5
PART_SIZE = 16 << 20
"""An upload above this goes in parts; Cloud Storage takes 10 000 of them, so up to 160 GB."""

PARTS = 4
"""Parts that are under way at once."""

PART_TIMEOUT_S = 300.0
TOLD_EVERY_S = 2.0

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)

DEPLOYED_MODEL = "x-vertex-ai-deployed-model-id"
"""Where a RawPredict answer says which DeployedModel gave it: in its first metadata (API reference, rawPredict)."""

ENDPOINT_ID = "x-vertex-ai-endpoint-id"
"""What a dedicated endpoint is told over gRPC (Use dedicated public endpoints for online inference)."""

OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.min_reconnect_backoff_ms", round(CONNECT_S * 1000)),
)
"""The first two are Google's own, and the last is how long connecting may take.

By default gRPC waits after each connection that failed for longer, from 1 s up to 2 minutes, and fails all calls
meanwhile: for whoever polls, a network that is down would be down for half as long again.
"""


@dataclass(frozen=True, slots=True)
class _Service:
    module: str
    name: str
    host: str = ""


_VERTEX = "google.cloud.aiplatform_v1"
_MONITORING, _MONITORING_HOST = "google.cloud.monitoring_v3", "monitoring.googleapis.com"
_SERVICES: Mapping[str, _Service] = {
    "endpoint": _Service(_VERTEX, "EndpointService"),
    "model": _Service(_VERTEX, "ModelService"),
    "prediction": _Service(_VERTEX, "PredictionService"),
    "alert_policy": _Service(_MONITORING, "AlertPolicyService", _MONITORING_HOST),
    "notification_channel": _Service(_MONITORING, "NotificationChannelService", _MONITORING_HOST),
    "metric": _Service(_MONITORING, "MetricService", _MONITORING_HOST),
    "dashboard": _Service("google.cloud.monitoring_dashboard_v1", "DashboardsService", _MONITORING_HOST),
    "logging": _Service(
        "google.cloud.logging_v2.services.logging_service_v2", "LoggingServiceV2", "logging.googleapis.com"
    ),
    "project": _Service("google.cloud.resourcemanager_v3", "Projects", "cloudresourcemanager.googleapis.com"),
}


@dataclass(frozen=True, slots=True)
class Operation:
    """A long-running operation: whether it is over, and what came of it.

    `metadata` and `response` have `@type` beside their fields; they are empty where there is none yet.
    """

    name: str
    done: bool
    error: MlscaleError | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    response: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Invoked:
    """What the endpoint answered to one request, and the DeployedModel that gave it."""

    status: int
    content_type: str
    body: bytes
    deployed_model_id: str = ""


class Client:
    """Google Cloud, for one project and region. Several threads may use it; nothing is loaded before the first use.

    Requests and answers are protobuf's JSON, with field names in snake case and enums by name; what is not set is left
    out. A name that Python has, too, comes with an underscore behind it (`type_`), and may be sent without. A request
    that the API's messages do not allow is a bug of ours, and its error comes out as it is.
    """

    def __init__(self, project: str, region: str, clock: Clock) -> None:
        """Raise UsageError where the environment's call timeout or an address in it is none."""
        self.project = project
        self.region = region
        self.parent = f"projects/{project}/locations/{region}"
        self._clock = clock
        self._timeout_s = timeout_s()
        self._addresses = {variable: chosen(variable, os.environ) for variable in (VERTEX, GOOGLE)}
        self._making = threading.RLock()
        self._clients: dict[tuple[str, str], Any] = {}
        self._channels: dict[Address, Any] = {}
        self._buckets: dict[tuple[str, float], Any] = {}
        self._found: Any = None
        self._reads = Reads(clock)

    def who(self) -> str:
        """Return whose credentials are used, as far as they say it themselves.

        Raises:
            WrongCredentials: there are none.
        """
        address = self._addresses[VERTEX]
        if address is not None and address.is_plain:
            return f"anonymous, as {VERTEX} says"
        _imported("google.auth")
        with _credentials_for(VERTEX):
            found = self._credentials()
        named = (getattr(found, word, "") for word in ("service_account_email", "account"))
        return next((str(each) for each in named if each), "with credentials that do not say whose they are")

    def read(self, service: str, method: str, **request: Any) -> dict[str, Any]:
        """Return what the service answers, tried again while that may help."""
        return self._patiently(service, lambda: self._answer(service, method, request))

    def find(self, service: str, method: str, **request: Any) -> dict[str, Any] | None:
        """Return what `read` does; None where the service says that it is not there."""
        try:
            return self.read(service, method, **request)
        except MlscaleError as error:
            if is_absent(error.__cause__):
                return None
            raise

    def matching(self, service: str, method: str, wanted: str, **request: Any) -> list[dict[str, Any]]:
        """Return what `pages` does of what the filter `wanted` leaves; more where the server does not know the filter.

        It saves pages alone: whoever asks looks at each.
        """
        try:
            return self.pages(service, method, filter=wanted, **request)
        except MlscaleError as error:
            if code_of(error.__cause__) not in {"INVALID_ARGUMENT", "UNIMPLEMENTED"}:
                raise
        return self.pages(service, method, **request)

    def page(self, service: str, method: str, **request: Any) -> dict[str, Any]:
        """Return one page of a list as it comes, with `next_page_token` where there is another."""
        return self._patiently(service, lambda: _plain(self._page(service, method, request)[0]))

    def pages(self, service: str, method: str, **request: Any) -> list[dict[str, Any]]:
        """Return what every page of a list has, in order; each page is a read of its own."""
        found: list[dict[str, Any]] = []
        token = ""
        while True:
            asked = request | ({"page_token": token} if token else {})
            items, token = self._patiently(service, partial(self._items, service, method, asked))
            found += items
            if not token:
                return found

    def change(self, call: Call) -> dict[str, Any]:
        """Return what the service answers to the one try of `call`."""
        return self._answer(call.service, call.method, call.request)

    def begin(self, call: Call) -> str:
        """Return the name of the operation that the one try of `call` began."""
        return str(self._called(call.service, call.method, call.request).operation.name)

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

    def operation(self, name: str) -> Operation:
        """Return how far an operation is.

        Raises:
            ProviderFailed: nobody knows it any more.
        """
        return _seen(self._patiently("endpoint", partial(self._longrunning, "get_operation", name)))

    def operations(self, resource: str) -> list[Operation]:
        """Return the operations that go on at a resource; none where the server keeps no list of them."""
        try:
            return self._under_way(resource, "done=false")
        except MlscaleError as error:
            match code_of(error.__cause__):
                case "UNIMPLEMENTED" | "NOT_FOUND":
                    return []
                case "INVALID_ARGUMENT":  # the filter, which it need not know
                    return self._under_way(resource, "")
            raise

    def _under_way(self, resource: str, wanted: str) -> list[Operation]:
        found: list[Operation] = []
        token = ""
        while True:
            page = self._patiently("endpoint", partial(self._longrunning, "list_operations", resource, token, wanted))
            found += [_seen(each) for each in page.operations if not each.done]
            token = page.next_page_token
            if not token:
                return found

    def invoke(self, endpoint: str, body: bytes, content_type: str, host: str = "") -> Invoked:
        """Return what `raw_predict` does; where a server has Predict alone, what that answers to `instances`."""
        try:
            return self.raw_predict(endpoint, body, content_type, host)
        except MlscaleError as error:
            asked = _instances(body)
            if code_of(error.__cause__) != "UNIMPLEMENTED" or asked is None:
                raise
        return self._predicted(endpoint, asked, host)

    def raw_predict(self, endpoint: str, body: bytes, content_type: str, host: str = "") -> Invoked:
        """Return what the endpoint answers; `host` is a dedicated endpoint's own address.

        A prediction may cost or count, so it is tried once.
        """
        client = self._client("prediction", host)
        from google.api import httpbody_pb2
        from google.cloud.aiplatform_v1 import RawPredictRequest

        said = httpbody_pb2.HttpBody(content_type=content_type, data=body)
        request = RawPredictRequest(endpoint=endpoint, http_body=said)
        with _errors_of(_doing("prediction", "raw_predict")):
            # The client keeps what comes before the answer to itself; its transport does not.
            answer, call = client.transport.raw_predict.with_call(
                request, timeout=self._timeout_s or PREDICT_TIMEOUT_S, metadata=_leading(endpoint, host)
            )
        before = dict(call.initial_metadata() or ())
        return Invoked(200, answer.content_type, answer.data, str(before.get(DEPLOYED_MODEL, "")))

    def _predicted(self, endpoint: str, asked: Mapping[str, Any], host: str) -> Invoked:
        client = self._client("prediction", host)
        from google.cloud.aiplatform_v1 import PredictRequest
        from google.protobuf.json_format import ParseDict

        request = PredictRequest(ParseDict({**asked, "endpoint": endpoint}, PredictRequest.pb()()))
        with _errors_of(_doing("prediction", "predict")):
            answer = client.transport.predict(
                request, timeout=self._timeout_s or PREDICT_TIMEOUT_S, metadata=_leading(endpoint, host)
            )
        said = _plain(answer)
        body = json.dumps({"predictions": said.get("predictions", [])}).encode()
        return Invoked(200, "application/json", body, str(said.get("deployed_model_id", "")))

    def upload(self, file: Path, place: str, progress: Progress) -> None:
        """Write `file` to `place` (`gs://bucket/key`), whole or not at all.

        Its parts are tried again by obstore, which throws them away where it fails: what is uploaded has a name of its
        own, so a late write harms nobody.
        """
        bucket, key = bucket_and_key(place, "gs")
        store = self._bucket(bucket, self._timeout_s or PART_TIMEOUT_S)
        import obstore

        with file.open("rb") as content:
            told = _Told(content, file.stat().st_size, progress, self._clock)
            with _storage_errors(f"writing {place}", absent=False):
                obstore.put(store, key, told, chunk_size=PART_SIZE, max_concurrency=PARTS)  # type: ignore[arg-type]
        told.all()

    def is_there(self, place: str) -> bool:
        """Return whether there is an object at `place`."""
        bucket, key = bucket_and_key(place, "gs")
        store = self._bucket(bucket, self._call_s)
        import obstore

        try:
            with self._reads.in_turn(), _storage_errors(f"looking for {place}"):
                obstore.head(store, key)
        except FileNotFoundError:
            return False
        return True

    def delete(self, place: str) -> None:
        """Delete the object at `place`; none there is no error."""
        bucket, key = bucket_and_key(place, "gs")
        store = self._bucket(bucket, self._call_s)
        import obstore

        with suppress(FileNotFoundError), _storage_errors(f"deleting {place}"):
            obstore.delete(store, key)

    def listed(self, place: str) -> list[str]:
        """Return the places of all objects whose names begin with `place`, sorted."""
        bucket, prefix = bucket_and_key(place, "gs")
        store = self._bucket(bucket, self._call_s)
        import obstore

        folder = prefix.rpartition("/")[0]  # obstore's own prefix is of whole segments
        with self._reads.in_turn(), _storage_errors(f"listing {place}", absent=False):
            keys = [each["path"] for page in obstore.list(store, folder or None) for each in page]
        return sorted(f"gs://{bucket}/{key}" for key in keys if key.startswith(prefix))

    @property
    def _call_s(self) -> float:
        return self._timeout_s or TIMEOUT_S

    def _patiently(self, service: str, once: Callable[[], T]) -> T:
        """Return what `once` does, done again while its failure may pass by itself."""
        self._client(service)  # before a turn is taken: loading its modules takes long
        return self._reads.patiently(once)

    def _answer(self, service: str, method: str, request: Mapping[str, Any]) -> dict[str, Any]:
        answer = self._called(service, method, request)
        return {} if answer is None else _plain(answer)

    def _called(self, service: str, method: str, request: Mapping[str, Any]) -> Any:
        client = self._client(service)
        with _errors_of(_doing(service, method)):
            return getattr(client, method)(request=dict(request), retry=None, timeout=self._call_s)

    def _page(self, service: str, method: str, request: Mapping[str, Any]) -> tuple[Any, Any]:
        """Return one page, and the client's iterator that began with it."""
        pager = self._called(service, method, request)
        return next(iter(pager.pages)), pager

    def _items(self, service: str, method: str, request: Mapping[str, Any]) -> tuple[list[dict[str, Any]], str]:
        """Return what one page has, and the token of the next, empty if there is none."""
        page, pager = self._page(service, method, request)
        # Only the iterator knows which field of its pages has the items. Without the token it asks for no more of them.
        token, page.next_page_token = page.next_page_token, ""
        return [_plain(each) for each in pager], token

    def _longrunning(self, method: str, name: str, token: str = "", wanted: str = "") -> Any:
        """Return what the service says about operations; whichever client of Vertex AI is asked, it is the same."""
        client = self._client("endpoint")
        from google.longrunning import operations_pb2

        request = (
            operations_pb2.ListOperationsRequest(name=name, filter=wanted, page_token=token)
            if method == "list_operations"
            else operations_pb2.GetOperationRequest(name=name)
        )
        with _errors_of(_doing("", method)):
            return getattr(client, method)(request, retry=None, timeout=self._call_s)

    def _client(self, service: str, host: str = "") -> Any:
        """Return Google's client of `service`, which tries a call once and has no deadline of its own."""
        made = self._clients.get((service, host))
        if made is None:
            with self._making:
                made = self._clients.get((service, host))
                if made is None:
                    made = self._clients[service, host] = self._made(_SERVICES[service], host)
        return made

    def _made(self, service: _Service, host: str) -> Any:
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what gRPC writes to stderr, its errors say as well
        module = _imported(service.module)
        from google.api_core.gapic_v1.client_info import ClientInfo

        kind = getattr(module, f"{service.name}Client")
        variable = GOOGLE if service.host else VERTEX
        address = self._addresses[variable] or Address(
            host or service.host or f"{self.region}-aiplatform.googleapis.com"
        )
        info = ClientInfo(user_agent=f"mlscale/{__version__}")
        transport = kind.get_transport_class("grpc")
        if address not in self._channels and address.is_plain:
            self._channels[address] = _plain_channel(address.place)
        if address not in self._channels:
            with _credentials_for(variable):
                first = kind(
                    credentials=self._credentials(),
                    transport=partial(transport, channel=partial(_channel, transport)),
                    client_options={"api_endpoint": address.place},
                    client_info=info,
                )
            self._channels[address] = first.transport.grpc_channel
            return first
        return kind(transport=transport(channel=self._channels[address], client_info=info), client_info=info)

    def _credentials(self) -> Any:
        """Return what google-auth finds, once: it may ask the metadata server of a machine in the cloud."""
        with self._making:
            if self._found is None:
                import warnings

                import google.auth

                # It says so on stderr at every start where a user's own credentials name no project; a service that
                # minds refuses, and failures.py says what to do.
                warnings.filterwarnings("ignore", "Your application has authenticated using end user credentials")
                self._found, _ = google.auth.default(scopes=SCOPES)
            return self._found

    def _bucket(self, bucket: str, timeout_s: float) -> Any:
        """Return obstore's store of a bucket, whose requests each take `timeout_s` at most."""
        with self._making:
            made = self._buckets.get((bucket, timeout_s))
            if made is None:
                made = self._buckets[bucket, timeout_s] = self._opened(bucket, timeout_s)
        return made

    def _opened(self, bucket: str, timeout_s: float) -> Any:
        from datetime import timedelta

        from obstore.store import GCSStore

        host = os.environ.get(STORAGE)
        options: dict[str, Any] = {
            "client_options": {
                "allow_http": bool(host),
                "timeout": timedelta(seconds=timeout_s),
                "connect_timeout": timedelta(seconds=min(timeout_s, CONNECT_S)),
            },
            "retry_config": {"max_retries": STORAGE_TRIES - 1, "retry_timeout": timedelta(seconds=TRY_WITHIN_S)},
        }
        if host:
            # A token that is given is used as it is; with skip_signature obstore 0.12 still asks for one to write.
            options |= {"base_url": host if "://" in host else f"http://{host}", "bearer_token": "emulator"}
        else:
            _imported("google.auth")
            with _credentials_for(STORAGE):
                options["credential_provider"] = _Token(self._credentials())
        return GCSStore(bucket, **options)


def _instances(body: bytes) -> Mapping[str, Any] | None:
    """Return what of a body Predict can take, None where it has no instances."""
    try:
        found = json.loads(body)
    except ValueError:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("instances"), list):
        return None
    return {key: found[key] for key in ("instances", "parameters") if key in found}


def _leading(endpoint: str, host: str) -> list[tuple[str, str]]:
    """Return what leads a prediction to its endpoint; under a name of its own it goes by a header more."""
    from google.api_core.gapic_v1.routing_header import to_grpc_metadata

    own = [(ENDPOINT_ID, endpoint.rpartition("/")[2])] if host else []
    return [to_grpc_metadata((("endpoint", endpoint),)), *own]


def _doing(service: str, method: str) -> str:
    """Return a method as the API's reference names it, `EndpointService.DeployModel`."""
    owner = _SERVICES[service].name if service else "Operations"
    return f"{owner}.{''.join(word.capitalize() for word in method.split('_'))}"


def _imported(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ExtraMissing(
            "an optional package is not installed",
            why=f"{module} talks to Google Cloud",
            hint="pip install 'mlscale[vertex]'",
        ) from error


def _plain_channel(place: str) -> Any:
    import grpc

    # gRPC goes by http_proxy for every address, those of this machine too.
    return grpc.insecure_channel(place, [*OPTIONS, ("grpc.enable_http_proxy", 0)])


def _channel(transport: Any, host: str, **settings: Any) -> Any:
    """Return the channel that Google's client would make, which connects anew more often."""
    return transport.create_channel(host, **(settings | {"options": list(OPTIONS)}))


def _seen(found: Any) -> Operation:
    metadata, response = _unpacked(found.metadata), _unpacked(found.response)
    kind = str(metadata.get("@type", "")).rpartition(".")[2].removesuffix("OperationMetadata")
    error = None
    if found.done and found.HasField("error"):
        from grpc import StatusCode

        names = {code.value[0]: code.name for code in StatusCode}
        error = lasting(failure_of_status(names.get(found.error.code, "UNKNOWN"), found.error.message, kind))
    return Operation(found.name, bool(found.done), error, metadata, response)


def _unpacked(packed: Any) -> dict[str, Any]:
    """Return what an Any has in it; of a message that no loaded client knows its type alone."""
    if not packed.type_url:
        return {}
    try:
        return _plain(packed)
    except TypeError:
        return {"@type": packed.type_url}


def _plain(message: Any) -> dict[str, Any]:
    """Return a message as a dict."""
    from google.protobuf.json_format import MessageToDict

    raw = type(message).pb(message) if hasattr(type(message), "pb") else message
    plain: dict[str, Any] = MessageToDict(raw, preserving_proto_field_name=True)
    return plain


@contextmanager
def _errors_of(doing: str) -> Iterator[None]:
    from google.api_core.exceptions import GoogleAPIError, from_grpc_error
    from google.auth.exceptions import GoogleAuthError
    from grpc import RpcError

    try:
        yield
    except (GoogleAPIError, GoogleAuthError) as error:
        raise failure_of(error, doing) from error
    except RpcError as error:
        known = from_grpc_error(error)
        raise failure_of(known, doing) from known


@contextmanager
def _credentials_for(variable: str) -> Iterator[None]:
    """Translate the errors of credentials that are read to ask whom `variable` may name."""
    try:
        with _errors_of("reading the credentials of Google Cloud"):
            yield
    except WrongCredentials as error:
        hint = advice(variable, os.environ) or error.hint
        raise WrongCredentials(error.what, why=error.why, hint=hint) from error.__cause__


@contextmanager
def _storage_errors(doing: str, *, absent: bool = True) -> Iterator[None]:
    """Translate obstore's errors; with `absent` an object that is not there is for the caller."""
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError as error:
        if absent and "NoSuchBucket" not in str(error):
            raise
        raise failure_of_storage(error, doing) from error
    except BaseError as error:
        raise failure_of_storage(error, doing) from error


class _Token:
    """Gives obstore the token that the other calls have."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials
        self._asking = threading.Lock()

    def __call__(self) -> dict[str, Any]:
        """Return a token, and when it ends."""
        from datetime import UTC

        from google.auth.transport.requests import Request

        with self._asking:
            if not self._credentials.valid:
                self._credentials.refresh(Request())
            ends = self._credentials.expiry  # in UTC, without saying so
        return {"token": self._credentials.token, "expires_at": ends and ends.replace(tzinfo=UTC)}


@dataclass
class _Told:
    """A file that tells now and then how far it is: what was read of it less what may still be under way."""

    content: IO[bytes]
    size: int
    progress: Progress
    clock: Clock
    last_s: float | None = None

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        now = self.clock.monotonic()
        sent = self.content.tell() - PARTS * PART_SIZE
        if sent > 0 and (self.last_s is None or now >= self.last_s + TOLD_EVERY_S):
            self.last_s = now
            self._tell(sent)
        return self.content.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go elsewhere; obstore asks for the size this way."""
        return self.content.seek(offset, whence)

    def tell(self) -> int:
        """Return where it is."""
        return self.content.tell()

    def all(self) -> None:
        """Say that all of it is there."""
        self._tell(self.size)

    def _tell(self, sent: int) -> None:
        self.progress(uploaded_text(sent, self.size))
