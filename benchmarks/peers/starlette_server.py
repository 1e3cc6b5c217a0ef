"""Starlette on uvicorn with uvloop, httptools and orjson, the quickest way that it can be set up."""

from __future__ import annotations

import os

import orjson
import uvicorn
from predict import loaded
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PREDICT = loaded()


async def invocations(request: Request) -> Response:
    """Answer one request."""
    rows = orjson.loads(await request.body())["instances"]
    answer = orjson.dumps({"predictions": PREDICT(rows)}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(answer, media_type="application/json")


async def ping(_: Request) -> Response:
    """Say that it runs."""
    return Response()


app = Starlette(routes=[Route("/invocations", invocations, methods=["POST"]), Route("/ping", ping)])
uvicorn.run(
    app, host="127.0.0.1", port=int(os.environ["PORT"]), loop="uvloop", http="httptools", access_log=False,
    log_level="error", lifespan="off",
)  # fmt: skip
