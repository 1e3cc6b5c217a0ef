"""A proxy as most people write one: Starlette on uvicorn, aiohttp's client, a weighted choice."""

from __future__ import annotations

import os
import random

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

BACKENDS = os.environ["BACKENDS"].split(",")
SESSIONS: list[aiohttp.ClientSession] = []


async def invocations(request: Request) -> Response:
    """Answer one request."""
    if not SESSIONS:
        SESSIONS.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
    port = random.choices(BACKENDS, (9, 1))[0]  # noqa: S311 - a share of the traffic is no secret
    kind = {"content-type": request.headers.get("content-type", "")}
    body = await request.body()
    async with SESSIONS[0].post(f"http://127.0.0.1:{port}/invocations", data=body, headers=kind) as answer:
        return Response(await answer.read(), answer.status, media_type=answer.content_type)


uvicorn.run(
    Starlette(routes=[Route("/invocations", invocations, methods=["POST"])]), host="127.0.0.1",
    port=int(os.environ["PORT"]), loop="uvloop", http="httptools", access_log=False, log_level="error", lifespan="off",
)  # fmt: skip
