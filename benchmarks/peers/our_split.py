"""10,000 requests to the gateway at 10 %, then 50 % from the middle on; prints who answered, as JSON."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

from mlscale.serving.gateway import Gateway, Route
from mlscale.serving.listener import Listener
from mlscale.serving.upstream import Upstream

REQUEST = b"POST /invocations HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}"
CLIENTS = 16
EACH = 625


async def answered(reader: asyncio.StreamReader) -> str:
    """Return the revision that answered, or the status if it was no success."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    lines = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
    await reader.readexactly(int(lines["content-length"]))
    status = head.split(" ")[1]
    return lines["x-mlscale-revision"] if status == "200" else status


async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer whatever comes."""
    try:
        while True:
            await reader.readuntil(b"\r\n\r\n{}")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]")
    except asyncio.IncompleteReadError:
        writer.close()


async def main() -> None:
    """Print the counts before and after the change, and the errors."""
    server = await asyncio.start_server(replica, "127.0.0.1", 0)
    one, two = (Upstream(name, "127.0.0.1", server.sockets[0].getsockname()[1]) for name in "ab")
    gateway = Gateway("reviews")
    gateway.set_routes((Route("a", 9_000, (one,)), Route("b", 1_000, (two,))))
    listener = Listener(gateway, "127.0.0.1", 0)
    halves = Counter[str](), Counter[str]()
    changed: list[bool] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        for _ in range(EACH):
            half = halves[len(changed)]
            writer.write(REQUEST)
            half[await answered(reader)] += 1
        writer.close()

    clients = [asyncio.ensure_future(client()) for _ in range(CLIENTS)]
    while halves[0].total() < CLIENTS * EACH // 2:
        await asyncio.sleep(0)
    gateway.set_routes((Route("a", 5_000, (one,)), Route("b", 5_000, (two,))))
    changed.append(True)
    await asyncio.gather(*clients)
    found = {name: [half["a"], half["b"]] for name, half in zip(("before", "after"), halves, strict=True)}
    errors = sum(half.total() for half in halves) - sum(map(sum, found.values()))
    print(json.dumps({**found, "errors": errors}))
    server.close()


asyncio.run(main())
