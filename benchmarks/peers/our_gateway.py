"""mlscale's gateway alone, 90/10 over two backends, on uvloop."""

from __future__ import annotations

import asyncio
import os

import uvloop

from mlscale.serving.gateway import Gateway, Route
from mlscale.serving.listener import Listener
from mlscale.serving.upstream import Upstream


async def main() -> None:
    """Serve until killed."""
    first, second = (Upstream(port, "127.0.0.1", int(port)) for port in os.environ["BACKENDS"].split(","))
    gateway = Gateway("reviews")
    gateway.set_routes((Route("a", 9_000, (first,)), Route("b", 1_000, (second,))))
    listener = Listener(gateway, "127.0.0.1", int(os.environ["PORT"]))
    await asyncio.Event().wait()
    await listener.stop()


uvloop.run(main())
