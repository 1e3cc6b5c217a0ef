"""The gateway's decisions: which replica gets a request, what happens when it goes away, and what is counted."""

from __future__ import annotations

import asyncio
import os
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from mlscale.serving.upstream import HOP_BY_HOP, Response, Upstream, UpstreamBrokenError
from mlscale.serving.wire import Call, Dialect, Reply, answered, call_of, refused, unknown_endpoint

TRIES = 3
"""How many replicas get the same request when they go away under it: predictions are taken to be repeatable."""

WAIT_FOR_REPLICA_S = 10.0
UPSTREAM_TIMEOUT_S = 60.0
"""SageMaker Runtime's own limit for a model's answer."""

LARGEST_BODY = 25 * 2**20

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

TARGET_VARIANT = "x-amzn-sagemaker-target-variant"


@dataclass(slots=True, eq=False)
class Route:
    """A revision's share of the traffic in basis points, and its healthy replicas."""

    revision: str
    share: int
    upstreams: tuple[Upstream, ...]
    owed: int = 0


@dataclass(slots=True)
class Counters:
    """What was counted of one revision since the gateway started."""

    codes: dict[int, int] = field(default_factory=dict)
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    seconds: float = 0.0
    in_flight: int = 0

    def count(self, code: int, seconds: float) -> None:
        """Count one answered request."""
        self.codes[code] = self.codes.get(code, 0) + 1
        self.buckets[bisect_left(BUCKETS_S, seconds)] += 1
        self.seconds += seconds

    @property
    def requests(self) -> int:
        """All requests answered so far."""
        return sum(self.codes.values())


class NoReplicaError(Exception):
    """No healthy replica came in time."""


class Gateway:
    """One deployment's way in. `set_routes` holds from the next request on."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.counters: dict[str, Counters] = {}
        self.gauges: Mapping[str, Mapping[str, float]] = {}
        self._routes: tuple[Route, ...] = ()
        self._changed = asyncio.Event()

    def set_routes(self, routes: Iterable[Route]) -> None:
        """Put other routes in place of the present ones, at once for every request that comes after."""
        self._routes = tuple(routes)
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def is_healthy(self) -> bool:
        """Whether a request would find a replica now."""
        return any(route.share and route.upstreams for route in self._routes)

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        """Answer one HTTP request (RSGI)."""
        method, path = scope.method, scope.path
        call = call_of(path) if method == "POST" else None
        if call is not None:
            reply = await self.predicted(call, scope.headers, await protocol())
        elif method in ("GET", "HEAD") and path == "/ping":
            reply = Reply(200 if self.is_healthy else 503, (), b"")
        elif method == "GET" and path == "/metrics":
            reply = Reply(200, (("content-type", "text/plain; version=0.0.4"),), self.exposition().encode())
        else:
            reply = refused(Call(Dialect.PLAIN), 404, f"there is no {method} {path}", new_id())
        protocol.response_bytes(reply.status, list(reply.headers), reply.body)

    async def predicted(self, call: Call, headers: Any, body: bytes) -> Reply:
        """Return the answer to one prediction request."""
        request_id = headers.get("x-request-id") or new_id()
        if call.endpoint and call.endpoint != self.name:
            return unknown_endpoint(call, request_id)
        if len(body) > LARGEST_BODY:
            return refused(call, 413, f"the body is larger than {LARGEST_BODY:,} bytes", request_id)
        sent = {key: value for key, value in headers.items() if key not in HOP_BY_HOP}
        sent["x-request-id"] = request_id
        target = headers.get(TARGET_VARIANT)
        if target and all(route.revision != target for route in self._routes):
            return refused(call, 400, f"Variant {target} not found for endpoint {self.name}.", request_id)
        begun = perf_counter()
        try:
            revision, response = await self._forwarded(sent, body, target)
        except NoReplicaError:
            self._of("none").count(503, perf_counter() - begun)
            reply = refused(call, 503, "no replica is healthy: mlscale status", request_id)
            return Reply(reply.status, (*reply.headers, ("retry-after", "5")), reply.body)
        except TimeoutError:
            self._of("none").count(504, perf_counter() - begun)
            return refused(call, 504, f"the model did not answer within {UPSTREAM_TIMEOUT_S:g} s", request_id)
        except UpstreamBrokenError as error:
            self._of("none").count(503, perf_counter() - begun)
            return refused(call, 503, f"{TRIES} replicas went away under the request: {error}", request_id)
        self._of(revision).count(response.status, perf_counter() - begun)
        return answered(call, Reply(response.status, response.headers, response.body), revision, request_id, self.name)

    async def _forwarded(self, headers: Mapping[str, str], body: bytes, target: str | None) -> tuple[str, Response]:
        tried: set[Upstream] = set()
        while True:
            route, upstream = await self._chosen(target, tried)
            counters = self._of(route.revision)
            counters.in_flight += 1
            try:
                request = upstream.request("POST", "/invocations", headers, body)
                return route.revision, await asyncio.wait_for(request, UPSTREAM_TIMEOUT_S)
            except UpstreamBrokenError:
                tried.add(upstream)
                if len(tried) >= TRIES:
                    raise
            finally:
                counters.in_flight -= 1

    async def _chosen(self, target: str | None, tried: set[Upstream]) -> tuple[Route, Upstream]:
        """Return the next replica for a request, waiting a while when there is none: it may be starting again."""
        limit = asyncio.get_running_loop().time() + WAIT_FOR_REPLICA_S
        while True:
            changed = self._changed
            route = self._next_route(target, tried)
            if route is not None:
                fresh = [each for each in route.upstreams if each not in tried]
                return route, min(fresh, key=lambda each: each.in_flight)
            left = limit - asyncio.get_running_loop().time()
            if left <= 0:
                raise NoReplicaError
            try:
                await asyncio.wait_for(changed.wait(), left)
            except TimeoutError:
                raise NoReplicaError from None

    def _next_route(self, target: str | None, tried: set[Upstream]) -> Route | None:
        """Return the route whose turn it is (smooth weighted round robin: exact over any 10,000 requests)."""
        able = [route for route in self._routes if any(each not in tried for each in route.upstreams)]
        if target:
            return next((route for route in able if route.revision == target), None)
        able = [route for route in able if route.share]
        if len(able) < 2:  # noqa: PLR2004 - nothing to choose between
            return able[0] if able else None
        for route in able:
            route.owed += route.share
        chosen = max(able, key=lambda route: route.owed)
        chosen.owed -= sum(route.share for route in able)
        return chosen

    def _of(self, revision: str) -> Counters:
        found = self.counters.get(revision)
        if found is None:
            found = self.counters[revision] = Counters()
        return found

    def exposition(self) -> str:
        """Return the metrics in Prometheus's text format (version 0.0.4)."""
        lines = ["# TYPE mlscale_requests_total counter"]
        for revision, counters in self.counters.items():
            lines += [
                f'mlscale_requests_total{{revision="{revision}",code="{code}"}} {count}'
                for code, count in sorted(counters.codes.items())
            ]
        lines.append("# TYPE mlscale_request_duration_seconds histogram")
        for revision, counters in self.counters.items():
            lines += _histogram(revision, counters)
        lines.append("# TYPE mlscale_requests_in_flight gauge")
        lines += [
            f'mlscale_requests_in_flight{{revision="{revision}"}} {counters.in_flight}'
            for revision, counters in self.counters.items()
        ]
        for name, values in self.gauges.items():
            lines.append(f"# TYPE {name} gauge")
            lines += [f"{name}{{{labels}}} {value:g}" for labels, value in values.items()]
        return "\n".join(lines) + "\n"


def _histogram(revision: str, counters: Counters) -> Iterable[str]:
    name = "mlscale_request_duration_seconds"
    total = 0
    for bound, count in zip((*(f"{bound:g}" for bound in BUCKETS_S), "+Inf"), counters.buckets, strict=True):
        total += count
        yield f'{name}_bucket{{revision="{revision}",le="{bound}"}} {total}'
    yield f'{name}_sum{{revision="{revision}"}} {counters.seconds:.6f}'
    yield f'{name}_count{{revision="{revision}"}} {total}'


def new_id() -> str:
    """Return a request's id: 16 hex digits."""
    return os.urandom(8).hex()
