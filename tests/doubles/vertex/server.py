"""Three loopback ports: gRPC in plaintext for all services, Cloud Storage, and the control API."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from concurrent import futures
from http.server import ThreadingHTTPServer
from typing import Any

import grpc

from tests.doubles import cloud_storage
from tests.doubles.vertex import control, protos
from tests.doubles.vertex.application import Application

THREADS = 64
LARGEST = 64 << 20


class _Anything(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Takes every method, known or not."""

    def __init__(self, application: Application) -> None:
        self._application = application

    def service(self, details: Any) -> Any:
        """Return what answers a method."""
        path: str = details.method
        return grpc.unary_unary_rpc_method_handler(lambda body, context: self._application.reply(path, body, context))


class _Http(ThreadingHTTPServer):
    """A thread a connection, none of which keeps the process."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, application: Application, handler: type[cloud_storage.Handler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.application = application

    @property
    def address(self) -> str:
        """Return where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


class _Storage(cloud_storage.Handler):
    """One connection to Cloud Storage."""

    server: _Http
    _then: Callable[[], None]

    def answer(self, method: str, headers: Mapping[str, str], body: bytes) -> cloud_storage.Answer | None:
        """Return what Cloud Storage answers."""
        answer, self._then = self.server.application.stored(method, self.path, headers, body)
        return answer

    def written(self) -> None:
        """Tell the kill switch that the answer is out."""
        self._then()


class _Control(cloud_storage.Handler):
    """One connection to the control API."""

    server: _Http

    def answer(self, method: str, headers: Mapping[str, str], body: bytes) -> cloud_storage.Answer | None:
        """Return what the control API answers."""
        del headers
        application = self.server.application
        try:
            asked = json.loads(body or b"{}")
            with application.lock:
                application.world.settle()
                status, said = 200, control.answer(application, method, self.path, asked)
        except control.Unknown as unknown:
            status, said = 404, {"error": f"no such control: {unknown}"}
        except (TypeError, ValueError, KeyError, AttributeError) as wrong:
            status, said = 400, {"error": f"{type(wrong).__name__}: {wrong}"}
        headers_out = (("Content-Type", "application/json"),)
        return cloud_storage.Answer(status, json.dumps(said, default=str).encode(), headers_out)


def listening(port: int) -> tuple[Any, dict[str, str]]:
    """Return a server that listens for gRPC on a loopback port, 0 for any, and the addresses of all three."""
    protos.load()
    application = Application()
    server = grpc.server(
        futures.ThreadPoolExecutor(THREADS),
        handlers=[_Anything(application)],
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", LARGEST)],
    )
    taken = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    storage, steering = _Http(application, _Storage), _Http(application, _Control)
    for each in (storage, steering):
        threading.Thread(target=each.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    addresses = {"grpc": f"http://127.0.0.1:{taken}", "storage": storage.address, "control": steering.address}
    return server, addresses
