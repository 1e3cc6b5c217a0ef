"""An HTTP server in this process's event loop: granian does the protocol, an RSGI application the rest."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from typing import Any

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

logging.getLogger("_granian").setLevel(logging.ERROR)


class Listener:
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


def free_port(host: str) -> int:
    """Return a port of `host` that nothing uses now."""
    with socket.socket(_family(host)) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _refuse_taken(host: str, port: int) -> None:
    """Raise the system's error if the port is taken: granian would share it with whoever has it."""
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        probe.listen(1)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
