"""AWS: the only place that calls boto3. Reads are tried again, changes once, and errors come out in our words."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mlscale import __version__
from mlscale.clock import Clock
from mlscale.errors import ExtraMissing, MlscaleError, ProviderFailed, WrongCredentials
from mlscale.providers.calling import PARALLEL, TIMEOUT_S, Reads, bucket_and_key, timeout_s, uploaded_text
from mlscale.providers.contract import Progress
from mlscale.providers.sagemaker.calls import Call
from mlscale.providers.sagemaker.failures import failure_of, is_absent, is_there_already

T = TypeVar("T")

CONNECTING, CONNECT_S = 0.25, 5.0
"""A connection must stand within this part of a call's time, and within these seconds; the answer has the rest."""

INVOKE_TIMEOUT_S = 70.0
"""A model may take 60 s to answer (InvokeEndpoint, API reference: set the socket timeout to 70 s)."""

UPLOAD_TRIES = 5
PART_SIZE = 16 << 20
"""An upload above this goes in parts; S3 takes 10 000 of them, so up to 160 GB."""

TOLD_EVERY_S = 2.0

_ACTION_PREFIXES = {"sagemaker-runtime": "sagemaker", "service-quotas": "servicequotas"}
"""Services whose actions have another prefix than boto3's name (Service Authorization Reference)."""

_S3_ACTIONS = {
    "head_object": "GetObject",
    "head_bucket": "ListBucket",
    "list_objects_v2": "ListBucket",
    "list_multipart_uploads": "ListBucketMultipartUploads",
    "upload_fileobj": "PutObject",
}
"""Calls of S3 that an action of another name allows (Service Authorization Reference, "Actions of Amazon S3")."""


@dataclass(frozen=True, slots=True)
class Invoked:
    """What the endpoint answered to one request: the model's own status, and the variant that gave it."""

    status: int
    content_type: str
    body: bytes
    variant: str = ""


class Client:
    """AWS in one region, for one account: None is whatever account the credentials are for.

    Several threads may use it. Nothing is loaded or called before the first use; where an account is expected, that one
    asks first who we are.
    """

    def __init__(self, account: str | None, region: str, clock: Clock) -> None:
        """Raise UsageError where the call timeout in the environment is none."""
        self._expected = account
        self._region = region
        self._clock = clock
        self._timeout_s = timeout_s()
        self._making = threading.RLock()
        self._core: Any = None
        self._session: Any = None
        self._clients: dict[tuple[str, int], Any] = {}
        self._asking = threading.Lock()
        self._asked: Future[str] | None = None
        self._reads = Reads(clock)

    def account(self) -> str:
        """Return the account of the credentials; AWS is asked once, also when several threads come at a time.

        Raises:
            WrongCredentials: there are none, they are not good, or another account was expected.
        """
        with self._asking:
            mine = self._asked is None
            if self._asked is None:
                self._asked = Future()
            asked = self._asked
        if mine:
            try:
                asked.set_result(self._account_found())
            except BaseException as error:
                with self._asking:
                    self._asked = None  # who waits gets this error, who comes later asks anew
                asked.set_exception(error)
                raise
        return asked.result()

    def read(self, service: str, operation: str, **request: Any) -> dict[str, Any]:
        """Return what the service answers, tried again while that may help; a streamed body comes as bytes."""
        self._client(service)  # before a turn is taken: it asks for the account, which is a read, too
        return self._reads.patiently(lambda: self._answer(service, operation, request))

    def find(self, service: str, operation: str, **request: Any) -> dict[str, Any] | None:
        """Return what `read` does; None where the service says that it is not there."""
        try:
            return self.read(service, operation, **request)
        except MlscaleError as error:
            if is_absent(error.__cause__):
                return None
            raise

    def pages(self, service: str, operation: str, key: str, **request: Any) -> list[Any]:
        """Return what every page of a list has under `key`, in order; each page is a read of its own."""
        client = self._client(service)
        from botocore.paginate import Paginator

        name = client.meta.method_to_api_mapping[operation]
        pages = Paginator(
            lambda **page: self.read(service, operation, **page),
            self._core.get_paginator_model(service).get_paginator(name),
            client.meta.service_model.operation_model(name),
        )
        with _errors_of(_action(service, name), self._region):
            return [each for page in pages.paginate(**request) for each in page.get(key, ())]

    def change(self, call: Call) -> dict[str, Any]:
        """Return what the service answers to the one try of `call`."""
        return self._answer(call.service, call.operation, call.request)

    def create(self, call: Call) -> None:
        """Make what `call` makes; one of that name already is no error (our names say what is in them)."""
        try:
            self.change(call)
        except MlscaleError as error:
            if not is_there_already(error.__cause__):
                raise

    def remove(self, call: Call) -> None:
        """Take away what `call` deletes; none there is no error."""
        try:
            self.change(call)
        except MlscaleError as error:
            if not is_absent(error.__cause__):
                raise

    def invoke(self, request: Mapping[str, Any]) -> Invoked:
        """Return what the endpoint answers to `request` (of `invoke_endpoint`), the model's own refusal too."""
        try:
            answer = self._answer("sagemaker-runtime", "invoke_endpoint", request)
        except ProviderFailed as error:
            refused = getattr(error.__cause__, "response", {})
            if refused.get("Error", {}).get("Code") != "ModelError":
                raise
            said = str(refused.get("OriginalMessage", "")).encode()
            return Invoked(int(refused.get("OriginalStatusCode", 500)), "", said)
        variant = answer.get("InvokedProductionVariant", "")
        return Invoked(200, answer.get("ContentType", ""), answer["Body"], variant)

    def upload(self, file: Path, place: str, progress: Progress) -> None:
        """Write `file` to `place` (`s3://bucket/key`), whole or not at all; parts of a killed upload are thrown away.

        Its parts are tried again by boto3: what is uploaded has a name of its own, so a late write harms nobody.
        """
        bucket, key = bucket_and_key(place, "s3")
        size = file.stat().st_size
        client = self._client("s3", UPLOAD_TRIES)
        from boto3.s3.transfer import TransferConfig

        if size > PART_SIZE:
            self._throw_away_parts(bucket, key)
        settings = TransferConfig(PART_SIZE, PARALLEL, PART_SIZE)
        told = _Told(size, progress, self._clock)
        with _errors_of(_action("s3", "upload_fileobj"), self._region), file.open("rb") as content:
            client.upload_fileobj(content, bucket, key, Callback=told, Config=settings)

    def is_there(self, place: str) -> bool:
        """Return whether there is an object at `place`."""
        bucket, key = bucket_and_key(place, "s3")
        return self.find("s3", "head_object", Bucket=bucket, Key=key) is not None

    def delete(self, place: str) -> None:
        """Delete the object at `place`; none there is no error."""
        bucket, key = bucket_and_key(place, "s3")
        self.remove(Call("s3", "delete_object", {"Bucket": bucket, "Key": key}))

    def _account_found(self) -> str:
        found = str(self.read("sts", "get_caller_identity")["Account"])
        if self._expected is not None and found != self._expected:
            raise WrongCredentials(
                "the credentials are for another account",
                why=f"the spec says {self._expected}, they are for {found}",
                hint="choose others with AWS_PROFILE, or correct account: in the spec",
            )
        return found

    def _answer(self, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        client = self._client(service)
        action = _action(service, operation, client.meta.method_to_api_mapping[operation])
        with _errors_of(action, self._region):
            answer: dict[str, Any] = getattr(client, operation)(**request)
            if hasattr(answer.get("Body"), "read"):
                answer["Body"] = answer["Body"].read()
        answer.pop("ResponseMetadata", None)
        return answer

    def _throw_away_parts(self, bucket: str, key: str) -> None:
        # Parts that a killed upload left are billed until somebody aborts it. Who may not see them goes on without.
        with suppress(WrongCredentials):
            for left in self.pages("s3", "list_multipart_uploads", "Uploads", Bucket=bucket, Prefix=key):
                if left["Key"] == key:
                    of_it = {"Bucket": bucket, "Key": key, "UploadId": left["UploadId"]}
                    self.remove(Call("s3", "abort_multipart_upload", of_it))

    def _client(self, service: str, tries: int = 1) -> Any:
        """Return boto3's client of `service`, which makes `tries` of each call itself."""
        is_checked = service != "sts" and self._expected is not None
        if is_checked and self._asked is None:
            self.account()  # whoever comes meanwhile makes its client first, and waits then
        made = self._clients.get((service, tries))
        if made is None:
            with self._making:
                made = self._clients.get((service, tries))
                if made is None:
                    made = self._clients[service, tries] = self._made(service, tries)
        if is_checked:
            self.account()
        return made

    def _made(self, service: str, tries: int) -> Any:
        try:
            import boto3
            import botocore.session
            from botocore.config import Config
        except ImportError as error:
            raise ExtraMissing(
                "an optional package is not installed",
                why="boto3 talks to AWS",
                hint="pip install 'mlscale[sagemaker]'",
            ) from error
        whole = self._timeout_s or (INVOKE_TIMEOUT_S if service == "sagemaker-runtime" else TIMEOUT_S)
        connecting = min(whole * CONNECTING, CONNECT_S)
        settings = Config(
            connect_timeout=connecting,
            read_timeout=whole - connecting,
            retries={"total_max_attempts": tries, "mode": "standard"},
            max_pool_connections=2 * PARALLEL,  # the engine's steps come to the reads
            tcp_keepalive=True,
            user_agent_extra=f"mlscale/{__version__}",
        )
        with _errors_of("reading the AWS settings", self._region):
            if self._session is None:
                self._core = botocore.session.get_session()
                self._session = boto3.Session(botocore_session=self._core, region_name=self._region or None)
            return self._session.client(service, config=settings)


def _action(service: str, operation: str, name: str = "") -> str:
    """Return the action of IAM that a call needs, `sagemaker:CreateModel`; `name` is the API's own for `operation`."""
    action = _S3_ACTIONS.get(operation, name or operation) if service == "s3" else name or operation
    return f"{_ACTION_PREFIXES.get(service, service)}:{action}"


@contextmanager
def _errors_of(doing: str, region: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except (BotoCoreError, ClientError, ResponseParserError) as error:
        raise failure_of(error, doing, region) from error


@dataclass
class _Told:
    """Tells how far an upload is, now and then; boto3 calls it from its threads with the bytes just sent."""

    size: int
    progress: Progress
    clock: Clock
    sent: int = 0
    last_s: float | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, sent: int) -> None:
        with self.lock:
            self.sent += sent
            now = self.clock.monotonic()
            if self.last_s is None or now >= self.last_s + TOLD_EVERY_S or self.sent == self.size:
                self.last_s = now
                self.progress(uploaded_text(self.sent, self.size))
