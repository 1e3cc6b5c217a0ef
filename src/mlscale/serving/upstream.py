"""Connections to one replica, kept open and used again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import httptools

CONNECT_TIMEOUT_S = 2.0

HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer",
        "transfer-encoding", "upgrade", "content-length", "date", "server", "host", "expect",
    }
)  # fmt: skip
"""Headers that belong to one connection, or that each side writes for itself (RFC 9110, section 7.6.1)."""


class UpstreamBrokenError(Exception):
    """The replica was not reached, or went away before its answer was whole."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer as it came, less the headers of the connection."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(slots=True, eq=False)
class Upstream:
    """One replica. `in_flight` counts the requests that it has not answered yet."""

    name: str
    host: str
    port: int
    in_flight: int = 0
    _idle: list[_Connection] = field(default_factory=list)

    async def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Return the replica's answer.

        A connection that was kept open may have been closed by the other side meanwhile: then a new one is tried.

        Raises:
            UpstreamBrokenError: no whole answer came over a new connection.
        """
        head = _head(method, path, f"{self.host}:{self.port}", headers, len(body))
        self.in_flight += 1
        try:
            while self._idle:
                connection = self._idle.pop()
                if not connection.closed:
                    try:
                        return await self._exchange(connection, head, body)
                    except UpstreamBrokenError:
                        continue
            return await self._exchange(await self._connected(), head, body)
        finally:
            self.in_flight -= 1

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop().close()

    async def _exchange(self, connection: _Connection, head: bytes, body: bytes) -> Response:
        try:
            response = await connection.send(head, body)
        except BaseException:
            connection.close()
            raise
        if connection.reusable:
            self._idle.append(connection)
        else:
            connection.close()
        return response

    async def _connected(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            made = loop.create_connection(_Connection, self.host, self.port)
            _, connection = await asyncio.wait_for(made, CONNECT_TIMEOUT_S)
        except (OSError, TimeoutError) as error:
            raise UpstreamBrokenError(f"{self.name}: {error}") from error
        return connection


def _head(method: str, path: str, host: str, headers: Mapping[str, str], length: int) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"host: {host}", f"content-length: {length}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class _Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self.closed = False
        self.reusable = False
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Response] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []

    def send(self, head: bytes, body: bytes) -> asyncio.Future[Response]:
        """Return the future answer to one request."""
        self._waiter = asyncio.get_running_loop().create_future()
        if self._transport is None or self.closed:
            self._waiter.set_exception(UpstreamBrokenError("the connection is closed"))
        else:
            self._transport.write(head + body)
        return self._waiter

    def close(self) -> None:
        """Close the connection."""
        self.closed = True
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        if isinstance(transport, asyncio.Transport) or hasattr(transport, "write"):
            self._transport = transport  # type: ignore[assignment]  # uvloop's transport is no asyncio.Transport

    def data_received(self, data: bytes) -> None:
        """Feed the parser; what it can't read breaks the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"not HTTP: {error}")
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Fail the request that waits."""
        self.closed = True
        self._fail(str(error or "the connection was closed"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header unless it is the connection's own."""
        text = name.decode("latin-1").lower()
        if text not in HOP_BY_HOP:
            self._headers.append((text, value.decode("latin-1")))

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Hand the answer over."""
        status = self._parser.get_status_code()
        self.reusable = self._parser.should_keep_alive()
        response = Response(status, tuple(self._headers), b"".join(self._body))
        self._headers, self._body = [], []
        self._parser = httptools.HttpResponseParser(self)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(response)

    def _fail(self, why: str) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(UpstreamBrokenError(why))
