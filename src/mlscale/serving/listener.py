"""HTTP/1.1 on a port, for the gateway and for replicas: parsed by httptools (llhttp), answered by an application."""

from __future__ import annotations

import asyncio
import socket
import traceback
from collections import deque
from collections.abc import Coroutine, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

import httptools

from mlscale.serving.codec import LARGEST_BODY, Reply

SWEEP_S = 1.0
LARGEST_HEAD = 2**16
MOST_HEADERS = 100
MOST_CONNECTIONS = 1000
"""Further ones are closed at once; a process may have 1,024 files on most systems, and the replicas need some."""

LINGER_S = 2.0
"""So long a client is heard that goes on sending what was refused: closing at once would reset the connection, and the
refusal would be lost on its way."""


def _status_line(status: int, phrase: str) -> bytes:
    return f"HTTP/1.1 {status} {phrase}\r\ncontent-length: ".encode()


_STATUS_LINES = {each.value: _status_line(each.value, each.phrase) for each in HTTPStatus}


class Limits(NamedTuple):
    """How much of a client's time and bytes is taken."""

    head_s: float = 30.0
    """For the headers, between two requests, and for taking an answer."""
    body_s: float = 60.0
    body_bytes: int = LARGEST_BODY


class Application(Protocol):
    """What answers."""

    async def answer(self, method: str, path: str, headers: Sequence[tuple[str, str]], body: bytes) -> Reply:
        """Return the answer to one request; names of headers are in lower case."""

    def refusal(self, path: str, status: int, why: str) -> Reply:
        """Return what is said to a request that is not HTTP or too large; the path may be empty."""


class Listener:
    """Serves one application on one address until it is stopped."""

    def __init__(self, application: Application, host: str, port: int, limits: Limits | None = None) -> None:
        """Serve `application` on `host` and `port` of this machine.

        Raises:
            OSError: the address is not ours or is taken.
        """
        self.application = application
        self.limits = limits or Limits()
        self.connections: set[_Connection] = set()
        self.stopping = False
        self.date = b""
        self._loop = asyncio.get_running_loop()
        opened = _opened(host, port)
        self.host = host
        self.port = int(opened.getsockname()[1])
        self._server: asyncio.Server | None = None
        self._starting = self._loop.create_task(self._serve(opened))
        self._sweep()

    async def stop(self, timeout_s: float = 10.0) -> None:
        """Take no more connections, and return when those open are done."""
        self.stopping = True
        await self._starting
        if self._server is not None:
            self._server.close()
        for each in [each for each in self.connections if each.is_idle]:
            each.close()
        limit = self._loop.time() + timeout_s
        while self.connections and self._loop.time() < limit:
            await asyncio.sleep(0.02)
        for each in list(self.connections):
            each.abort()
        self._timer.cancel()

    async def _serve(self, opened: socket.socket) -> None:
        self._server = await self._loop.create_server(lambda: _Connection(self, self._loop), sock=opened, backlog=1024)

    def _sweep(self) -> None:
        """End the connections whose time is over, and keep the date."""
        now = self._loop.time()
        for each in [each for each in self.connections if each.deadline < now]:
            each.expire()
        self.date = f"\r\ndate: {formatdate(usegmt=True)}\r\n".encode()
        self._timer = self._loop.call_later(SWEEP_S, self._sweep)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` in uvloop where it is installed: it takes about a tenth less time than the standard loop."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


def free_port(host: str) -> int:
    """Return a port of `host` that nothing uses now."""
    with socket.socket(_family(host)) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _opened(host: str, port: int) -> socket.socket:
    opened = socket.socket(_family(host))
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setblocking(False)  # noqa: FBT003 - its only argument
        opened.bind((host, port))
        opened.listen(1024)
    except BaseException:
        opened.close()
        raise
    return opened


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class _Request(NamedTuple):
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    keep_alive: bool


_NEVER = float("inf")


class _Connection(asyncio.Protocol):
    """One client's connection: one request is answered at a time, in the order in which they came."""

    __slots__ = (
        "_body", "_deaf", "_expects", "_has_begun", "_headers", "_length", "_listener", "_loop", "_parser", "_paused",
        "_promised", "_task", "_transport", "_url", "_waiting", "deadline",
    )  # fmt: skip

    def __init__(self, listener: Listener, loop: asyncio.AbstractEventLoop) -> None:
        self._listener = listener
        self._loop = loop
        self._transport: Any = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[_Request | Reply] = deque()
        self._task: asyncio.Task[None] | None = None
        self._paused = False
        self._deaf = False
        self.deadline = loop.time() + listener.limits.head_s
        self.on_message_begin()
        self._has_begun = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being answered or waits for it."""
        return self._task is None and not self._has_begun

    def close(self) -> None:
        """Close the connection when what was written is sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close the connection now."""
        self._transport.abort()

    def expire(self) -> None:
        """End the connection; say why if a request had begun."""
        if self._paused or not self._has_begun or self._deaf:
            self.abort()
        else:
            self._refuse(408, "the request was not whole in time")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, unless there are too many."""
        self._transport = transport
        if len(self._listener.connections) >= MOST_CONNECTIONS or self._listener.stopping:
            self.abort()
        else:
            self._listener.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's interface
        """Forget the connection; what is being answered is answered to nobody."""
        self._listener.connections.discard(self)
        self._waiting.clear()

    def pause_writing(self) -> None:
        """Begin nothing new for a client that does not take its answers."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on."""
        self._paused = False
        self._next()

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        if self._deaf:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(400, f"this is not HTTP/1.1: {error}")

    def _stay(self, rest: bytes) -> None:
        """Read a request again without its wish for another protocol, which may be ignored (RFC 9110, section 7.8).

        Java's client wishes for HTTP/2 in every first request; llhttp would take its body for the other protocol's.
        """
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse(405, "CONNECT is not served here")
            return
        lines = [b"%b %b HTTP/1.1" % (method, self._url)]
        for name, value in self._headers:
            if name == "connection":
                kept = ",".join(each for each in value.split(",") if each.strip().lower() != "upgrade")
                lines.append(f"connection: {kept}".encode("latin-1"))
            elif name not in ("upgrade", "http2-settings"):
                lines.append(f"{name}: {value}".encode("latin-1"))
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._has_begun = True
        self._url = b""
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        self._length = self._promised = 0
        self._expects = False

    def on_url(self, url: bytes) -> None:
        """Keep a part of the target."""
        self._url += url
        if len(self._url) > LARGEST_HEAD:
            self._refuse(414, f"the target is longer than {LARGEST_HEAD:,} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self._length += len(name) + len(value)
        if self._length > LARGEST_HEAD or len(self._headers) >= MOST_HEADERS:
            self._refuse(431, f"more than {MOST_HEADERS} headers, or more than {LARGEST_HEAD:,} bytes of them")
        lower = name.lower()
        if lower == b"content-length":
            self._promised = int(value)
        elif lower == b"expect":
            self._expects = value.lower() == b"100-continue"
        self._headers.append((lower.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """Refuse a body that says it is too large; let a client go on that waits to be told."""
        self._length = 0
        self.deadline = self._loop.time() + self._listener.limits.body_s
        if self._promised > self._listener.limits.body_bytes:
            self._refuse_body()
        elif self._expects and self._task is None and not self._deaf:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body."""
        self._length += len(body)
        if self._length > self._listener.limits.body_bytes:
            self._refuse_body()
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Have the request answered, after those before it."""
        if self._deaf or self._parser.should_upgrade():
            return
        keep_alive = self._parser.should_keep_alive() and self._parser.get_http_version() != "1.0"
        method, path = self._parser.get_method().decode("latin-1"), _path(self._url)
        self._waiting.append(_Request(method, path, self._headers, b"".join(self._body), keep_alive))
        self._has_begun = False
        self._deaf = not keep_alive
        self._next()

    def _next(self) -> None:
        """Answer what came first, unless something is being answered or the client takes nothing."""
        if self._transport.is_closing():
            return
        if self._task is not None or self._paused:
            self._transport.pause_reading()
            return
        if not self._waiting:
            self._transport.resume_reading()
            return
        self.deadline = _NEVER
        first = self._waiting.popleft()
        if isinstance(first, Reply):
            self._write(first, keep_alive=False)
        else:
            self._task = self._loop.create_task(self._answer(first))

    async def _answer(self, request: _Request) -> None:
        try:
            reply = await self._listener.application.answer(request.method, request.path, request.headers, request.body)
        except Exception:  # noqa: BLE001 - a bug must not leave the client without an answer
            traceback.print_exc()
            reply = self._listener.application.refusal(request.path, 500, "the server failed")
        self._task = None
        if not self._transport.is_closing():
            self._write(reply, keep_alive=request.keep_alive, is_head=request.method == "HEAD")
            self._next()

    def _write(self, reply: Reply, *, keep_alive: bool, is_head: bool = False) -> None:
        keep_alive = keep_alive and not self._listener.stopping
        lines = "".join([f"{name}: {value}\r\n" for name, value in reply.headers])
        head = b"%b%d%b%b%b\r\n" % (
            _STATUS_LINES.get(reply.status) or _status_line(reply.status, ""),
            len(reply.body),
            self._listener.date,
            lines.encode("latin-1"),
            b"" if keep_alive else b"connection: close\r\n",
        )
        self._transport.write(head if is_head else head + reply.body)
        self.deadline = self._loop.time() + self._listener.limits.head_s
        if not keep_alive:
            self._waiting.clear()
            self._end()

    def _end(self) -> None:
        if self._has_begun:
            self.deadline = self._loop.time() + LINGER_S
            self._transport.write_eof()
            self._transport.resume_reading()
        else:
            self._transport.close()

    def _refuse_body(self) -> None:
        self._refuse(413, f"the body is larger than {self._listener.limits.body_bytes:,} bytes")

    def _refuse(self, status: int, why: str) -> None:
        """Answer a request that is not heard to its end, after those before it, and close.

        What follows can't be told apart from it.
        """
        if not self._deaf:
            self._deaf = True
            self._waiting.append(self._listener.application.refusal(_path(self._url), status, why))
            self._next()


def _path(target: bytes) -> str:
    """Return the path of a request's target, without its query; empty where there is none."""
    if target.startswith(b"/"):
        return target.partition(b"?")[0].decode("latin-1")
    try:
        return (httptools.parse_url(target).path or b"").decode("latin-1")
    except httptools.HttpParserInvalidURLError:
        return ""
