"""HTTP with connections that stay open, one thread each; an answer is one write."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import ThreadedWSGIServer, make_server

from tests.doubles.aws.application import Application, Dropped

NO_BODY = frozenset({204, 304})


class Handler(MotoRequestHandler):
    """One connection. werkzeug's own handler closes it after each answer, which costs most of the time of a call."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def run_wsgi(self) -> None:
        """Answer one request."""
        if self.headers.get("Expect", "").lower().strip() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        environ = self.make_environ()
        chunked = environ.get("wsgi.input_terminated")
        stream = environ["wsgi.input"]
        body = stream.read() if chunked else stream.read(int(environ.get("CONTENT_LENGTH") or 0))
        application: Application = self.server.app  # type: ignore[assignment]  # ours, which is no WSGI application
        try:
            reply, written = application.reply(environ, body)
        except Dropped:
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._write(environ["REQUEST_METHOD"], reply.status, reply.headers, reply.body)
        written()

    def _write(self, method: str, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        named = {name.lower() for name, _ in headers}
        lines = [f"HTTP/1.1 {status} {'OK' if status < 400 else 'Error'}"]
        lines += [f"{name}: {value}" for name, value in headers if name.lower() != "connection"]
        if "content-length" not in named and status not in NO_BODY:
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        self.wfile.write(head if method == "HEAD" or status in NO_BODY else head + body)

    def log_request(self, *_: Any) -> None:
        """Say nothing: the journal has it."""


class Server(ThreadedWSGIServer):
    """A thread a connection, none of which keeps the process."""

    daemon_threads = True
    request_queue_size = 256


def listening(port: int) -> tuple[Any, str]:
    """Return a server that listens on a loopback port, 0 for any, and its address."""
    server = make_server("127.0.0.1", port, Application(), threaded=True, request_handler=Handler)  # type: ignore[arg-type]
    return server, f"http://127.0.0.1:{server.port}"
