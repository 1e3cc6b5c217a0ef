"""From a request to a reply: kill switch, faults, latency, the operation, then the journal."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from tests.doubles import cloud_storage
from tests.doubles.aws.faults import AFTER_COMMIT, DROPPED, Fault, Faults
from tests.doubles.aws.kill import Ended
from tests.doubles.vertex import (
    deployments,
    endpoints,
    jobs,
    logs,
    metrics,
    models,
    operations,
    prediction,
    protos,
    surroundings,
    watching,
)
from tests.doubles.vertex import faults as wording
from tests.doubles.vertex.call import Call, Kill
from tests.doubles.vertex.refusal import Refusal
from tests.doubles.vertex.saved import Saved, restored
from tests.doubles.vertex.world import Json, World

Implementation = Callable[[World, Any, Call], Any]

OWNED: dict[tuple[str, str], Implementation] = {
    **models.OPERATIONS,
    **endpoints.OPERATIONS,
    **deployments.OPERATIONS,
    **jobs.OPERATIONS,
    **prediction.OPERATIONS,
    **operations.OPERATIONS,
    **metrics.OPERATIONS,
    **watching.OPERATIONS,
    **logs.OPERATIONS,
    **surroundings.OPERATIONS,
}
"""What is imitated; all else is UNIMPLEMENTED."""

CRASH = "the double crashed: "
WAIT_STEP_S = 0.02


@dataclass(frozen=True, slots=True)
class Entry:
    """One call of the journal."""

    call: Call
    code: str
    error: str | None


class Application:
    """All services, whichever port they are called on."""

    def __init__(self) -> None:
        self.world = World()
        self.faults = Faults()
        self.kill: Kill | None = None
        self.saved: Saved | None = None
        self.journal: list[Entry] = []
        self.unimplemented: set[str] = set()
        self.lock = threading.Lock()

    def reply(self, path: str, body: bytes, context: Any) -> bytes:
        """Return the answer to a gRPC call; an error ends it."""
        method = protos.method(path)
        _, service, operation = path.split("/")
        call = Call(service.rpartition(".")[2], operation, {}, "grpc", body=body)
        if method is not None:
            call.version = method.version
            with suppress(DecodeError):
                call.message = method.request.FromString(body)
        kill = self.kill
        try:
            number = kill.arriving(call) if kill is not None else None
            if kill is not None:
                context.add_callback(lambda: kill.replied(number))
            return self._answered(call, method, context, number)
        except Ended:
            raise _aborted(context, "CANCELLED", "the caller is gone") from None

    def _answered(self, call: Call, method: protos.Method | None, context: Any, number: int | None) -> bytes:
        fault = self._arriving(call)
        if fault is not None and fault.kind not in AFTER_COMMIT:
            self.note(call, *wording.worded(fault, call))
            self._fail(call, fault, context)
        if call.operation == "WaitOperation":
            self._wait(call, context)
        with self.lock:
            code, said, metadata, takes_s = self._done(call, method)
            self._committed(call, code, said if isinstance(said, str) else None, number)
        if takes_s:
            time.sleep(takes_s)
        if fault is not None:
            self._fail(call, fault, context)
        if isinstance(said, str):
            context.set_trailing_metadata(metadata)
            raise _aborted(context, code, said)
        if metadata:
            context.send_initial_metadata(metadata)
        return said

    def _arriving(self, call: Call) -> Fault | None:
        with self.lock:
            fault = self.faults.of(call)
        if self.world.settings.latency_s:
            time.sleep(self.world.settings.latency_s)
        return fault

    def _done(self, call: Call, method: protos.Method | None) -> tuple[str, str | bytes, Any, float]:
        """Return the code, the words of an error or the bytes of an answer, and what goes with it."""
        self.world.settle()
        owned = OWNED.get((call.service, call.operation)) if method is not None else None
        try:
            if owned is None:
                raise self._not_implemented(call)
            self._check_permission(call)
            answer = owned(self.world, call.message, call)
            if isinstance(answer, prediction.Reply):
                return "OK", answer.message.SerializeToString(), answer.metadata, answer.takes_s
            return "OK", answer.SerializeToString(), (), 0.0
        except Refusal as refusal:
            return refusal.code, refusal.message, _details(refusal), 0.0
        except Exception as crash:  # noqa: BLE001 - whatever is wrong here must not look like the service's own answer
            traceback.print_exc(file=sys.stderr)
            return "INTERNAL", f"{CRASH}{call.name}: {type(crash).__name__}: {crash}", (), 0.0

    def _not_implemented(self, call: Call) -> Refusal:
        self.unimplemented.add(call.name)
        words = f"The method {call.name} is not imitated by this double"
        return Refusal("double.not-implemented", "UNIMPLEMENTED", words)

    def _check_permission(self, call: Call) -> None:
        """Return if nobody took the permission for a call away."""
        wanted = wording.permission(call)
        if wanted in self.world.settings.denied:
            code, words = wording.worded(Fault(".", "access_denied"), call)
            raise Refusal("iam.denied", code, words)

    def _committed(self, call: Call, code: str, error: str | None, number: int | None) -> None:
        self.journal.append(Entry(call, code, error))
        if self.kill is not None:
            self.kill.committed(number)

    def note(self, call: Call, code: str, error: str) -> None:
        """Write down a call that had no effect."""
        with self.lock:
            self.journal.append(Entry(call, code, error))

    def _fail(self, call: Call, fault: Fault, context: Any) -> NoReturn:
        """End a call with an error, or let the caller wait and hear nothing."""
        if fault.kind.startswith("hang"):
            over = threading.Event()
            if context.add_callback(over.set):
                over.wait(fault.seconds)
        if fault.kind in DROPPED:
            # rule fault.dropped
            raise _aborted(context, "UNAVAILABLE", wording.DROPPED)
        raise _aborted(context, *wording.worded(fault, call))

    def _wait(self, call: Call, context: Any) -> None:
        """Return when an operation is done or the caller's time is over."""
        try:
            with self.lock:
                name, until = operations.waited_for(self.world, call.message)
        except Refusal:
            return  # the call itself says so
        while time.monotonic() < until and context.is_active():
            with self.lock:
                self.world.settle()
                found = self.world.operations.get(name)
                if found is None or found.done:
                    return
            time.sleep(WAIT_STEP_S)

    def stored(self, method: str, target: str, headers: Any, body: bytes) -> tuple[cloud_storage.Answer | None, Any]:
        """Return Cloud Storage's answer, None for no answer, and what to call once it is written."""
        request = cloud_storage.understood(method, target, headers, body)
        call = surroundings.storage_call(request)
        kill = self.kill
        try:
            number = kill.arriving(call) if kill is not None else None
            answer = self._stored(request, call, number)
        except Ended:
            return None, _nothing
        return answer, (lambda: kill.replied(number)) if kill is not None else _nothing

    def _stored(self, request: cloud_storage.Request, call: Call, number: int | None) -> cloud_storage.Answer | None:
        fault = self._arriving(call)
        if fault is None and wording.permission(call) in self.world.settings.denied:
            fault = Fault(".", "access_denied")
        if fault is not None and fault.kind not in AFTER_COMMIT:
            self.note(call, *wording.worded(fault, call))
            return self._storage_fault(request, call, fault)
        with self.lock:
            self.world.settle()
            answer = self.world.buckets.answer(request)
            self._committed(call, str(answer.status), None, number)
        return answer if fault is None else self._storage_fault(request, call, fault)

    def _storage_fault(self, request: cloud_storage.Request, call: Call, fault: Fault) -> cloud_storage.Answer | None:
        if fault.kind.startswith("hang"):
            time.sleep(fault.seconds)
        if fault.kind in DROPPED:
            return None
        # rule fault.storage
        code, words = wording.worded(fault, call)
        return cloud_storage.refused(wording.STATUS[code], wording.STORED.get(code, code), words, json_api=request.json)

    def shown_journal(self) -> list[Json]:
        """Return every call with its whole request."""
        return [
            {
                "number": number,
                "service": entry.call.service,
                "operation": entry.call.operation,
                "version": entry.call.version,
                "request": entry.call.params if entry.call.message is None else deployments.plain(entry.call.message),
                "mutating": entry.call.mutating,
                "workspace": entry.call.workspace,
                "permission": wording.permission(entry.call),
                "code": entry.code,
                "error": entry.error,
            }
            for number, entry in enumerate(self.journal, 1)
        ]

    def restore(self) -> None:
        """Go back to what was saved, without faults, kills and a journal.

        Raises:
            ValueError: nothing was.
        """
        if self.saved is None:
            raise ValueError("nothing was saved")
        self.world = restored(self.saved)
        self._forget()

    def reset(self) -> None:
        """Forget everything."""
        self.world, self.saved = World(), None
        self._forget()

    def _forget(self) -> None:
        self.faults, self.kill = Faults(), None
        self.journal, self.unimplemented = [], set()


def _details(refusal: Refusal) -> tuple[tuple[str, bytes], ...]:
    """Return what goes with an error about a field (google/rpc/error_details.proto)."""
    if not refusal.field:
        return ()
    violation = {"field": refusal.field, "description": refusal.about}
    status = status_pb2.Status(code=code_pb2.Code.Value(refusal.code), message=refusal.message)
    status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    return (("grpc-status-details-bin", status.SerializeToString()),)


def _aborted(context: Any, code: str, words: str) -> AssertionError:
    """End a call with an error; this does not come back, and the annotation is for who calls it."""
    context.abort(grpc.StatusCode[code], words)
    return AssertionError("abort came back")


def _nothing() -> None:
    """Do nothing."""
