"""From a request to a reply: kill switch, faults, latency, then our own operations or moto's, then the journal."""

from __future__ import annotations

import io
import json
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from tests.doubles.aws import (
    configs,
    control,
    endpoints,
    lifecycle,
    logs,
    metrics,
    models,
    quotas,
    runtime,
    scaling,
    surroundings,
    tags,
    watching,
    wire,
)
from tests.doubles.aws.faults import AFTER_COMMIT, DROPPED, Fault, Faults, worded
from tests.doubles.aws.kill import Ended, Kill
from tests.doubles.aws.refusal import Refusal
from tests.doubles.aws.runtime import Runtime
from tests.doubles.aws.saved import Saved, restored
from tests.doubles.aws.validation import check
from tests.doubles.aws.wire import Call, Reply
from tests.doubles.aws.world import Json, Region, World

Operation = Callable[[Region, Json], Json]

OWNED: Mapping[str, Mapping[str, Operation]] = {
    "sagemaker": models.OPERATIONS | configs.OPERATIONS | endpoints.OPERATIONS | tags.OPERATIONS,
    "application-autoscaling": scaling.OPERATIONS,
    "cloudwatch": watching.OPERATIONS | metrics.OPERATIONS,
    "logs": logs.OPERATIONS,
    "service-quotas": quotas.OPERATIONS,
    "resourcegroupstaggingapi": tags.TAGGING_OPERATIONS,
}
"""What is imitated here; of these services nothing else is answered, but SageMaker's jobs and the like by moto."""

MOTO_TOO = frozenset({"sagemaker"})
RUNTIME_OPERATIONS = {
    "InvokeEndpoint": runtime.invoke_endpoint,
    "InvokeEndpointAsync": runtime.invoke_endpoint_async,
}
CRASH = "MlscaleDoubleCrashed"
NOT_IMPLEMENTED = "MlscaleDoubleNotImplemented"


class Dropped(Exception):
    """No answer: the connection ends."""


class Application:
    """All services behind one port."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self.world = World()
        self.faults = Faults()
        self.kill: Kill | None = None
        self.saved: Saved | None = None
        self.journal: list[Json] = []
        self.unimplemented: set[str] = set()
        self._runtime = Runtime()
        self._lock = threading.Lock()
        self._moto: Any = DomainDispatcherApplication(create_backend_app)

    def reply(self, environ: Json, body: bytes) -> tuple[Reply, Callable[[], None]]:
        """Return the answer to a request, and what to call once it is written.

        Raises:
            Dropped: there is no answer, and the connection must end.
        """
        if environ["PATH_INFO"].startswith("/double/"):
            return self._controlled(environ, body), _nothing
        call = wire.understood(environ, body)
        call.account = surroundings.account_of(call.access_key, call.headers)
        kill = self.kill
        try:
            number = kill.arriving(call) if kill is not None else None
            answer = self._answered(call, environ, body, lambda: kill.committed(number) if kill is not None else None)
        except Ended:
            raise Dropped from None
        return answer, (lambda: kill.replied(number) if kill is not None else None)

    def _controlled(self, environ: Json, body: bytes) -> Reply:
        try:
            asked = json.loads(body or b"{}")
            with self._lock:
                self.settle()
                method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
                return wire.plain(control.answer(self, method, path, environ.get("QUERY_STRING", ""), asked))
        except control.Unknown as unknown:
            status, words = 404, f"no such control: {unknown}"
        except (TypeError, ValueError, KeyError, AttributeError) as wrong:
            status, words = 400, f"{type(wrong).__name__}: {wrong}"
        reply = wire.plain({"error": words})
        reply.status = status
        return reply

    def _answered(self, call: Call, environ: Json, body: bytes, committed: Callable[[], None]) -> Reply:
        with self._lock:
            fault = self.faults.of(call)
        if self.world.settings.latency_s:
            time.sleep(self.world.settings.latency_s)
        if fault is not None and fault.kind not in AFTER_COMMIT:
            self._note(call, 0, fault.kind)
            return self._faulty(call, fault)
        with self._lock:
            self.settle()
            answer, takes_s = self._done(call, environ, body)
            self._write_down(call, answer.status, answer.error)
            committed()
        if takes_s:
            time.sleep(takes_s)
        return answer if fault is None else self._faulty(call, fault)

    def _faulty(self, call: Call, fault: Fault) -> Reply:
        """Return the error, or let the caller wait and hear nothing."""
        if fault.kind.startswith("hang"):
            time.sleep(fault.seconds)
        if fault.kind in DROPPED:
            raise Dropped
        return wire.error(call, *worded(fault, call))

    def _note(self, call: Call, status: int, error: str) -> None:
        with self._lock:
            self._write_down(call, status, error)

    def _write_down(self, call: Call, status: int, error: str | None) -> None:
        self.journal.append(
            {
                "number": len(self.journal) + 1,
                "service": call.service,
                "operation": call.operation,
                "params": call.params,
                "mutating": call.mutating,
                "workspace": call.workspace,
                "region": call.region,
                "account": call.account,
                "status": status,
                "error": error,
            }
        )

    def settle(self) -> None:
        """Let everything happen that is due."""
        for region in list(self.world.regions.values()):
            lifecycle.settle(region)
        self.world.catch_up()

    def _done(self, call: Call, environ: Json, body: bytes) -> tuple[Reply, float]:
        """Return the answer, and how long it takes apart from all else."""
        region = self.world.region(call.account, call.region)
        owned = OWNED.get(call.service, {}).get(call.operation)
        try:
            if call.service == "sagemaker-runtime":
                return RUNTIME_OPERATIONS[call.operation](region, self._runtime, call)
            if owned is not None:
                check(call.service, call.operation, call.params)
                return wire.result(owned(region, call.params)), 0.0
            if call.service in OWNED and call.service not in MOTO_TOO:
                raise self._not_implemented(call)
            return self._by_moto(call, environ, body), 0.0
        except Refusal as refusal:
            return wire.error(call, refusal.code, refusal.message, refusal.status), 0.0
        except Exception as crash:  # noqa: BLE001 - whatever is wrong here must not look like the service's own answer
            traceback.print_exc(file=sys.stderr)
            return wire.error(call, CRASH, f"{call.name}: {type(crash).__name__}: {crash}", 500), 0.0

    def _not_implemented(self, call: Call) -> Refusal:
        self.unimplemented.add(call.name)
        words = f"The operation {call.name} is not imitated by this double"
        return Refusal("double.not-implemented", NOT_IMPLEMENTED, words, 501)

    def _by_moto(self, call: Call, environ: Json, body: bytes) -> Reply:
        """Return moto's answer."""
        said: list[tuple[str, list[tuple[str, str]]]] = []

        def start(status: str, headers: list[tuple[str, str]], *_: object) -> None:
            said.append((status, headers))

        environ = {**environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        try:
            pieces = self._moto(environ, start)
            try:
                answer = b"".join(pieces)
            finally:
                if hasattr(pieces, "close"):
                    pieces.close()
        except NotImplementedError as missing:
            raise self._not_implemented(call) from missing
        except AttributeError as missing:
            if call.service != "s3" and "'NoneType' object" in str(missing):
                raise self._not_implemented(call) from missing
            raise
        status, headers = said[-1]
        code = int(status.split()[0])
        problem = wire.error_code(headers, answer) or status if code >= 400 else None
        return Reply(code, headers, answer, problem)

    def restore(self) -> None:
        """Go back to what was saved, with the settings and the clock of then, without faults, kills and a journal.

        Raises:
            ValueError: nothing was.
        """
        if self.saved is None:
            raise ValueError("nothing was saved")
        self._begin_anew(restored(self.saved))

    def _begin_anew(self, world: World) -> None:
        self.world = world
        self.faults.rules = []
        self.kill = None
        self.journal.clear()
        self._runtime.forget()

    def reset(self) -> None:
        """Forget everything, moto's part, the settings and the moved clock too."""
        self._begin_anew(World())
        self.saved = None
        self.unimplemented.clear()
        environ = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/moto-api/reset",
            "SERVER_NAME": "double",
            "SERVER_PORT": "80",
        }
        environ |= {"HTTP_HOST": "double", "wsgi.url_scheme": "http", "QUERY_STRING": ""}
        self._by_moto(Call("moto", "Reset", {}, "json"), environ, b"")


def _nothing() -> None:
    """Do nothing once the reply is written."""
