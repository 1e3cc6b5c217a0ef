"""An HTTP server in this process's event loop: granian does the protocol, an RSGI application the rest."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from typing import Any

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.rsgi import ProtocolClosed  # type: ignore[attr-defined]  # imported there for us, not defined
from granian.server.embed import Server

BODY_TIMEOUT_S = 60.0

HEADERS = HTTP1Settings(header_read_timeout=30_000, max_buffer_size=2**16)
"""A client has 30 s for its headers, and as long between two requests; more than about 64 KiB of them are refused."""

logging.getLogger("_granian").setLevel(logging.ERROR)


class BodyError(Exception):
    """A request's body can't be taken; `status` is HTTP's word for why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


async def body_of(protocol: Any, length: int | None, largest: int) -> bytes:
    """Return a request's body.

    Args:
        protocol: RSGI's side of the request.
        length: what the headers say; None if they don't. A body that is known to be too large is not read at all.
        largest: how many bytes are taken.

    Raises:
        BodyError: 413 there are more; 408 they were not all there within BODY_TIMEOUT_S; 400 the client went away, or
            what it sent was not HTTP.
    """
    if length is not None and length > largest:
        raise BodyError(413, f"the body is larger than {largest:,} bytes")
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            if length is None:
                return await _chunked(protocol, largest)
            whole: bytes = await protocol()
            return whole
    except TimeoutError:
        raise BodyError(408, f"the body was not whole after {BODY_TIMEOUT_S:g} s") from None
    except ProtocolClosed:
        raise BodyError(400, "the body was not whole") from None


async def _chunked(protocol: Any, largest: int) -> bytes:
    parts, size, ends = [], 0, 0
    async for part in protocol:
        size += len(part)
        if size > largest:
            raise BodyError(413, f"the body is larger than {largest:,} bytes")
        ends += not part
        parts.append(part)
    if ends > 1:  # granian 2.8 gives one empty part at the end of a body, and one more if it broke off
        raise BodyError(400, "the body was not whole")
    return b"".join(parts)


class RsgiServer:
    """Serves one application on one address until it is stopped."""

    def __init__(self, application: Any, host: str, port: int) -> None:
        """Serve `application` on `host` and `port` of this machine.

        Raises:
            OSError: the address is not ours or is taken.
        """
        _refuse_taken(host, port)
        self.host = host
        self.port = port
        self._server: Any = Server(
            application,
            address=host,
            port=port,
            interface=Interfaces.RSGI,
            http=HTTPModes.http1,
            http1_settings=HEADERS,
            websockets=False,
            backlog=1024,
            log_enabled=False,
        )
        self._task = asyncio.ensure_future(self._server.serve())

    async def stop(self, timeout_s: float = 10.0) -> None:
        """Take no more connections, and return when those open are done."""
        self._server.stop()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._task), timeout_s)


def _refuse_taken(host: str, port: int) -> None:
    """Raise the system's error if the port is taken: granian would share it with whoever has it."""
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        probe.listen(1)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
