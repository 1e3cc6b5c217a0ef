"""Connections to one replica, kept open and used again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httptools

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 60.0
"""SageMaker Runtime's own limit for a model's answer."""

LARGEST_ANSWER = 256 * 2**20
"""More than any client of the clouds may get; a model that says more is broken, and would take the gateway with it."""

JOINED_UP_TO = 2**16
"""A body up to this size goes out in one write with its head; copying a larger one costs more than a second write."""

HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade", "content-length", "date", "server", "host", "expect",
    }
)  # fmt: skip
"""Headers that belong to one connection, or that each side writes for itself (RFC 9110, section 7.6.1)."""

_HOP_BY_HOP_BYTES = frozenset(name.encode() for name in HOP_BY_HOP)


class UpstreamBrokenError(Exception):
    """The replica was not reached, or went away before its answer was whole."""


class AnswerTooLargeError(Exception):
    """The replica's answer is larger than LARGEST_ANSWER."""


class Response(NamedTuple):
    """An answer as it came, less the headers of the connection."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(slots=True, eq=False)
class Upstream:
    """One replica. `in_flight` counts the requests that it has not answered yet.

    `predict_path` is where its server takes predictions: SageMaker's contract says /invocations, and by Vertex's it is
    what AIP_PREDICT_ROUTE says.
    """

    name: str
    host: str
    port: int
    predict_path: str = "/invocations"
    in_flight: int = 0
    _idle: list[_Connection] = field(default_factory=list)
    _closed: bool = False

    async def request(
        self,
        method: str,
        path: str,
        headers: Iterable[tuple[str, str]],
        body: bytes,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> Response:
        """Return the replica's answer.

        A connection that was kept open may have been closed by the other side meanwhile: then a new one is tried.

        Raises:
            UpstreamBrokenError: no whole answer came over a new connection.
            AnswerTooLargeError: the answer was cut off.
            TimeoutError: it took longer than `timeout_s`.
        """
        lines = [f"{method} {path} HTTP/1.1\r\nhost: {self.host}:{self.port}\r\ncontent-length: {len(body)}\r\n"]
        lines += [f"{name}: {value}\r\n" for name, value in headers]
        head = ("".join(lines) + "\r\n").encode("latin-1")
        self.in_flight += 1
        try:
            while self._idle:
                connection = self._idle.pop()
                if not connection.closed:
                    try:
                        return await self._exchange(connection, head, body, timeout_s)
                    except UpstreamBrokenError:
                        continue
            return await self._exchange(await self._connected(), head, body, timeout_s)
        finally:
            self.in_flight -= 1

    def close(self) -> None:
        """Close what is idle now, and what is in use as soon as it is answered."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    async def _exchange(self, connection: _Connection, head: bytes, body: bytes, timeout_s: float) -> Response:
        try:
            response = await connection.send(head, body, timeout_s)
        except BaseException:
            connection.close()
            raise
        if connection.reusable and not connection.closed and not self._closed:
            self._idle.append(connection)
        else:
            connection.close()
        return response

    async def _connected(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await loop.create_connection(lambda: _Connection(loop), self.host, self.port)
        except (OSError, TimeoutError) as error:
            raise UpstreamBrokenError(f"{self.name}: {error or 'no connection in time'}") from error
        return connection


class _Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    __slots__ = (
        "_body", "_deadline", "_headers", "_left", "_length_known", "_look_at", "_loop", "_parser", "_timer",
        "_transport", "_until_closed", "_waiter", "closed", "reusable",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.closed = False
        self.reusable = False
        self._loop = loop
        self._transport: Any = None
        self._waiter: asyncio.Future[Response] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = self._look_at = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self._start()

    def _start(self) -> None:
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        self._left = LARGEST_ANSWER
        self._length_known = False
        self._until_closed = False

    def send(self, head: bytes, body: bytes, timeout_s: float) -> asyncio.Future[Response]:
        """Return the future answer to one request."""
        waiter = self._waiter = self._loop.create_future()
        if self.closed:
            waiter.set_exception(UpstreamBrokenError("the connection is closed"))
            return waiter
        self._deadline = self._loop.time() + timeout_s
        if self._timer is None or self._look_at > self._deadline:
            self._look_again(timeout_s)
        if len(body) <= JOINED_UP_TO:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        return waiter

    def _look_again(self, in_s: float) -> None:
        """Look at the time later: one timer, set anew when it is over, costs less than one a request."""
        if self._timer is not None:
            self._timer.cancel()
        self._look_at = self._loop.time() + in_s
        self._timer = self._loop.call_later(in_s, self._look_at_time)

    def _look_at_time(self) -> None:
        self._timer = None
        if self._waiter is not None:
            left = self._deadline - self._loop.time()
            if left > 0:
                self._look_again(left)
            else:
                self._fail(TimeoutError())

    def close(self) -> None:
        """Close the connection."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Feed the parser; what it can't read breaks the connection, and so does what nobody asked for."""
        if self._waiter is None:
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(UpstreamBrokenError(f"not HTTP: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        """End an answer whose end is the connection's; fail one that is not whole."""
        self.closed = True
        if error is None and self._until_closed:
            self._finish()
        self._fail(UpstreamBrokenError(str(error or "the connection was closed")))

    def on_message_begin(self) -> None:
        """Close the connection on an answer that nobody waits for: the next request would get it."""
        if self._waiter is None:
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header unless it is the connection's own."""
        lower = name.lower()
        if lower in _HOP_BY_HOP_BYTES:
            if lower in (b"content-length", b"transfer-encoding"):
                self._length_known = True
        else:
            self._headers.append((lower.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """Know whether the end of the body can only be told by the end of the connection."""
        self._until_closed = not self._length_known

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body."""
        self._left -= len(body)
        if self._left < 0:
            self._fail(AnswerTooLargeError(f"the answer is larger than {LARGEST_ANSWER:,} bytes"))
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Hand the answer over; an interim one (1xx) is not it."""
        if self._parser.get_status_code() < 200:  # noqa: PLR2004 - the first status that is an answer
            self._start()
            return
        self.reusable = self._parser.should_keep_alive() and not self._transport.get_write_buffer_size()
        self._finish()

    def _finish(self) -> None:
        response = Response(self._parser.get_status_code(), tuple(self._headers), b"".join(self._body))
        self._start()
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(response)

    def _fail(self, error: Exception) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        self.close()
