"""The floor: an asyncio protocol on httptools with no limits, no timeouts and no routes; answers any POST."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import httptools
import orjson
import uvloop
from predict import loaded

PREDICT = loaded() if os.environ.get("MODEL") else None
NUMPY = orjson.OPT_SERIALIZE_NUMPY
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"


class Server(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: Any) -> None:
        """Start a parser."""
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.body = b""

    def data_received(self, data: bytes) -> None:
        """Feed it."""
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Keep the body's parts."""
        self.body += body

    def on_message_complete(self) -> None:
        """Answer."""
        body, self.body = self.body, b""
        if PREDICT is None:
            answer = b'{"predictions":[0]}'
        elif body:
            answer = orjson.dumps({"predictions": PREDICT(orjson.loads(body)["instances"])}, option=NUMPY)
        else:
            answer = b""
        self.transport.write(HEAD % (len(answer), answer))


async def main() -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", int(os.environ["PORT"]), backlog=1024)
    await server.serve_forever()


uvloop.run(main())
