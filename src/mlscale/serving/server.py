"""The model server: SageMaker's and Vertex's container contracts over one model."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
import traceback
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import orjson

from mlscale.serving.batching import Batcher
from mlscale.serving.codec import LARGEST_BODY, BadRequestError, Reply, decoded, encoded, rows_of
from mlscale.serving.gpus import Gpus
from mlscale.serving.handler import Loaded, load
from mlscale.serving.health import DEVICE_HEADER, PORT, PORTS
from mlscale.serving.listener import Limits, Listener, run
from mlscale.serving.source import folder_of, model_folder

CANT_LOAD = 3
BAD_SETTINGS = 2
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Settings:
    """How the server was asked to run, from the environment that a container or a supervisor gives it."""

    folder: Path
    framework: str | None
    handler: str | None
    host: str
    port: int
    health_routes: frozenset[str]
    predict_routes: frozenset[str]
    largest_body: int
    batching: bool
    drain_s: float
    parent: int | None


def settings_of(environment: Mapping[str, str]) -> Settings:
    """Return the settings that `environment` says: ours first, then Vertex's, then SageMaker's.

    Raises:
        ValueError: what has to be a number is none.
    """
    port = next((name for name in PORTS if environment.get(name)), "")
    health = {"/ping", environment.get("AIP_HEALTH_ROUTE", "/ping"), environment.get("MLSCALE_HEALTH_PATH", "/ping")}
    return Settings(
        folder=folder_of(environment),
        framework=environment.get("MLSCALE_FRAMEWORK") or None,
        handler=environment.get("MLSCALE_HANDLER") or None,
        host=environment.get("MLSCALE_HOST", "0.0.0.0"),  # noqa: S104 - a container's contract; the supervisor says 127.0.0.1
        port=int(_number(environment, port, PORT)),
        health_routes=frozenset(health),
        predict_routes=frozenset({"/invocations", environment.get("AIP_PREDICT_ROUTE", "/invocations")}),
        largest_body=int(_number(environment, "MLSCALE_MAX_BODY_BYTES", LARGEST_BODY)),
        batching=environment.get("MLSCALE_BATCHING", "1") != "0",
        drain_s=_number(environment, "MLSCALE_DRAIN_TIMEOUT", 30),
        parent=int(_number(environment, "MLSCALE_PARENT_PID", 0)) or None,
    )


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    value = environment.get(name)
    if not value:
        return default
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{name} is {value!r}, which is not a number") from None


@dataclass(slots=True)
class Metrics:
    """What was counted since the server started."""

    codes: dict[int, int] = field(default_factory=dict)
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    seconds: float = 0.0
    in_flight: int = 0
    batches: int = 0
    rows: int = 0

    def count(self, code: int, seconds: float) -> None:
        """Count an answered request."""
        self.codes[code] = self.codes.get(code, 0) + 1
        self.buckets[bisect_left(BUCKETS_S, seconds)] += 1
        self.seconds += seconds

    def count_batch(self, rows: int) -> None:
        """Count one call of the model."""
        self.batches += 1
        self.rows += rows

    def exposition(self) -> str:
        """Return the metrics in Prometheus's text format (version 0.0.4)."""
        name = "model_request_duration_seconds"
        lines = ["# TYPE model_requests_total counter"]
        lines += [f'model_requests_total{{code="{code}"}} {count}' for code, count in sorted(self.codes.items())]
        lines.append(f"# TYPE {name} histogram")
        total = 0
        for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), self.buckets, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        lines += [f"{name}_sum {self.seconds:.6f}", f"{name}_count {total}"]
        lines += ["# TYPE model_requests_in_flight gauge", f"model_requests_in_flight {self.in_flight}"]
        lines += ["# TYPE model_batches_total counter", f"model_batches_total {self.batches}"]
        lines += ["# TYPE model_rows_total counter", f"model_rows_total {self.rows}"]
        lines += ["# TYPE process_cpu_seconds_total counter", f"process_cpu_seconds_total {time.process_time():.3f}"]
        return "\n".join(lines) + "\n"


class Application:
    """The routes."""

    def __init__(self, loaded: Loaded, settings: Settings) -> None:
        self._handler = loaded.handler
        self._settings = settings
        self._health_headers = ((DEVICE_HEADER, loaded.handler.device),) if loaded.handler.device else ()
        self._gpus = Gpus()
        self.metrics = Metrics()
        self.draining = False
        predict = loaded.handler.batchable if settings.batching else None
        self._batcher = Batcher(predict, self.metrics.count_batch, loaded.caller) if predict else None

    async def answer(self, method: str, path: str, headers: Sequence[tuple[str, str]], body: bytes) -> Reply:
        """Return the answer to one HTTP request."""
        if path in self._settings.predict_routes:
            if method == "POST":
                return await self._predicted(headers, body)
            reply = self.refusal(path, 405, f"{path} takes POST")
            return reply._replace(headers=(*reply.headers, ("allow", "POST")))
        if path in self._settings.health_routes and method in ("GET", "HEAD"):
            return Reply(503 if self.draining else 200, self._health_headers, b"")
        if path == "/metrics" and method == "GET":
            text = self.metrics.exposition() + self._gpus.exposition()
            return Reply(200, (("content-type", "text/plain; version=0.0.4"),), text.encode())
        return self.refusal(path, 404, f"there is no {method} {path}")

    def refusal(self, path: str, status: int, why: str) -> Reply:
        """Return what is said to a request that can't be answered."""
        if path in self._settings.predict_routes:
            self.metrics.count(status, 0.0)
        return _failed(status, why)

    async def _predicted(self, headers: Sequence[tuple[str, str]], body: bytes) -> Reply:
        begun = perf_counter()
        self.metrics.in_flight += 1
        kind = accept = ""
        for name, value in headers:
            if name == "content-type":
                kind = value
            elif name == "accept":
                accept = f"{accept},{value}" if accept else value
        try:
            answer, answer_kind = await self._answer(body, kind, accept)
            reply = Reply(200, (("content-type", answer_kind),), answer)
        except BadRequestError as error:
            reply = _failed(error.status, str(error))
        except Exception as error:  # noqa: BLE001 - a model may raise anything; the client gets its words, the log the rest
            traceback.print_exc()
            reply = _failed(500, f"{type(error).__name__}: {error}")
        self.metrics.in_flight -= 1
        self.metrics.count(reply.status, perf_counter() - begun)
        return reply

    async def _answer(self, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
        if self._batcher is None:
            self.metrics.count_batch(1)
            return await self._handler.answer(body, content_type, accept)
        asked = decoded(body, content_type)
        rows = rows_of(asked)
        predictions = await self._batcher.predictions(rows) if len(rows) else []
        return encoded(predictions, accept, wrapped=asked.wrapped)


def _failed(status: int, why: str) -> Reply:
    return Reply(status, (("content-type", "application/json"),), orjson.dumps({"error": why}))


def follow_parent(parent: int) -> None:
    """Die when the process `parent` dies, however it does: nothing may be left that nobody supervises.

    Source: prctl(2), PR_SET_PDEATHSIG; where there is no prctl a thread looks every second.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


async def serve(loaded: Loaded, settings: Settings) -> None:
    """Serve until SIGTERM; then let open requests end, for as long as `drain_s` says."""
    application = Application(loaded, settings)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    limits = Limits(body_bytes=settings.largest_body)
    listener = Listener(application, settings.host, settings.port, limits)
    await stopping.wait()
    application.draining = True
    limit = loop.time() + settings.drain_s
    while application.metrics.in_flight and loop.time() < limit:
        await asyncio.sleep(0.02)
    await listener.stop(1.0)
    if loaded.caller.in_thread:
        sys.stderr.write(f"the model did not come to an end within {settings.drain_s:g} s\n")
        sys.stderr.flush()
        os._exit(1)  # a thread can't be ended in any other way, and would be waited for


def main(arguments: Sequence[str] = ()) -> int:
    """Load the model and serve it; 3 when it can't be loaded.

    SageMaker starts its containers with the one argument `serve`.
    """
    if list(arguments) not in ([], ["serve"]):
        sys.stderr.write(f"serve is all that can be asked for, not {' '.join(arguments)}\n")
        return BAD_SETTINGS
    try:
        settings = settings_of(os.environ)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return BAD_SETTINGS
    if settings.parent is not None:
        follow_parent(settings.parent)
    begun = time.monotonic()
    try:
        loaded = load(model_folder(settings.folder, os.environ), settings.framework, settings.handler)
    except Exception as error:  # noqa: BLE001 - a user's code may raise anything; its last line is what `deploy` shows
        traceback.print_exc()
        sys.stderr.write(f"the model can't be loaded: {type(error).__name__}: {error}\n")
        return CANT_LOAD
    took = time.monotonic() - begun
    where = f" on {loaded.handler.device}" if loaded.handler.device else ""
    sys.stderr.write(
        f"{loaded.framework} model {loaded.file} loaded in {took:.2f} s{where}, "
        f"serving on {settings.host}:{settings.port}\n"
    )
    sys.stderr.flush()
    try:
        run(serve(loaded, settings))
    except OSError as error:
        sys.stderr.write(f"{settings.host}:{settings.port} can't be used: {error.strerror or error}\n")
        return BAD_SETTINGS
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
