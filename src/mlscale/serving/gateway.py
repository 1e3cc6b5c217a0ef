"""The gateway's decisions: which replica gets a request, what happens when it goes away, and what is counted."""

from __future__ import annotations

import asyncio
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import getrandbits
from time import perf_counter
from typing import NamedTuple

from mlscale.serving.codec import Reply
from mlscale.serving.mirror import Mirror
from mlscale.serving.tally import Tally
from mlscale.serving.upstream import (
    ANSWER_TIMEOUT_S,
    HOP_BY_HOP,
    AnswerTooLargeError,
    Response,
    Upstream,
    UpstreamBrokenError,
)
from mlscale.serving.wire import Call, Dialect, answered, call_of, refused, unknown_endpoint

TRIES = 3
"""How many replicas get the same request when they go away under it: predictions are taken to be repeatable."""

WAIT_FOR_REPLICA_S = 10.0

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

TARGET_VARIANT = "x-amzn-sagemaker-target-variant"

_SERVERS_FAULT = 500

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
"""What a client may name its request; anything else would be written into logs and other systems' headers."""


@dataclass(slots=True, eq=False)
class Route:
    """A revision's share of the traffic in basis points, and its healthy replicas.

    `copies` is the share of the requests, in basis points, that it gets a copy of: a shadow's, which has no traffic.
    """

    revision: str
    share: int
    upstreams: tuple[Upstream, ...]
    copies: int = 0
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


class Head(NamedTuple):
    """What the gateway takes from a request's headers."""

    request_id: str
    target: str | None
    """The revision that must answer, if the client names one."""
    forwarded: list[tuple[str, str]]


def head_of(headers: Iterable[tuple[str, str]]) -> Head:
    """Return what is to be known of the headers, and those that go on to the replica."""
    request_id, target, nominated = "", None, ""
    forwarded: list[tuple[str, str]] = []
    for header in headers:
        name, value = header
        if name in HOP_BY_HOP:
            if name == "connection":
                nominated = value
        elif name == "x-request-id":
            request_id = value if _REQUEST_ID.fullmatch(value) else ""
        else:
            if name == TARGET_VARIANT:
                target = value
            forwarded.append(header)
    if nominated and nominated.lower() not in ("keep-alive", "close"):
        gone = {name.strip().lower() for name in nominated.split(",")}
        forwarded = [header for header in forwarded if header[0] not in gone]
    request_id = request_id or new_id()
    forwarded.append(("x-request-id", request_id))
    return Head(request_id, target or None, forwarded)


class Gateway:
    """One deployment's way in. `set_routes` holds from the next request on."""

    def __init__(
        self,
        name: str,
        *,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
        wait_for_replica_s: float = WAIT_FOR_REPLICA_S,
    ) -> None:
        self.name = name
        self.counters: dict[str, Counters] = {}
        self.gauges: Mapping[str, Mapping[str, float]] = {}
        self.tally = Tally()
        self._answer_timeout_s = answer_timeout_s
        self._wait_for_replica_s = wait_for_replica_s
        self._routes: tuple[Route, ...] = ()
        self._in_turn: tuple[Route, ...] = ()
        self.mirror = Mirror(self._of, self.tally, answer_timeout_s)
        self._changed = asyncio.Event()

    def set_routes(self, routes: Iterable[Route]) -> None:
        """Put other routes in place of the present ones, at once for every request that comes after.

        Where only replicas came and went, whose turn it is stays: a small share would not get its due otherwise.
        """
        before = self._in_turn
        self._routes = tuple(routes)
        self._in_turn = tuple(route for route in self._routes if route.share and route.upstreams)
        if [(each.revision, each.share) for each in before] == [(each.revision, each.share) for each in self._in_turn]:
            for route, old in zip(self._in_turn, before, strict=True):
                route.owed = old.owed
        self.mirror.shadow = next((route for route in self._routes if route.copies), None)
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def is_healthy(self) -> bool:
        """Whether a request would find a replica now."""
        return bool(self._in_turn)

    async def answer(self, method: str, path: str, headers: Iterable[tuple[str, str]], body: bytes) -> Reply:
        """Return the answer to one HTTP request; names of headers are in lower case."""
        call = call_of(path)
        if call is not None and method == "POST":
            return await self.predicted(call, head_of(headers), body)
        if call is not None:
            reply = refused(call, 405, f"{path} takes POST", new_id())
            return reply._replace(headers=(*reply.headers, ("allow", "POST")))
        if path == "/ping" and method in ("GET", "HEAD"):
            return Reply(200 if self.is_healthy else 503, (), b"")
        if path == "/metrics" and method == "GET":
            return Reply(200, (("content-type", "text/plain; version=0.0.4"),), self.exposition().encode())
        return refused(Call(Dialect.PLAIN), 404, f"there is no {method} {path}", new_id())

    def refusal(self, path: str, status: int, why: str) -> Reply:
        """Return what is said to a request that is not HTTP or too large, in the words of whoever asks."""
        return refused(call_of(path) or Call(Dialect.PLAIN), status, why, new_id())

    async def predicted(self, call: Call, head: Head, body: bytes) -> Reply:
        """Return the answer to one prediction request."""
        if call.endpoint and call.endpoint != self.name:
            return unknown_endpoint(call, head.request_id)
        if head.target and all(route.revision != head.target for route in self._routes):
            return refused(call, 400, f"Variant {head.target} not found for endpoint {self.name}.", head.request_id)
        begun = perf_counter()
        try:
            revision, response, asked = await self._forwarded(head, body)
        except NoReplicaError:
            reply = refused(call, 503, "no replica is healthy: mlscale status", head.request_id)
            reply = reply._replace(headers=(*reply.headers, ("retry-after", "5")))
        except TimeoutError:
            limit = f"{self._answer_timeout_s:g} s"
            reply = refused(call, 504, f"the model did not answer within {limit}", head.request_id)
        except UpstreamBrokenError as error:
            reply = refused(call, 503, f"{TRIES} replicas went away under the request: {error}", head.request_id)
        except AnswerTooLargeError as error:
            reply = refused(call, 502, str(error), head.request_id)
        else:
            ended = perf_counter()
            self._of(revision).count(response.status, ended - begun)
            self.tally.count(revision, ended - asked, response.status >= _SERVERS_FAULT)
            if self.mirror.shadow is not None and head.target is None:
                self.mirror.copy(head.forwarded, body, response)
            return answered(call, Reply(*response), revision, head.request_id, self.name)
        self._of("none").count(reply.status, perf_counter() - begun)
        if self.mirror.shadow is not None and head.target is None:
            self.mirror.copy(head.forwarded, body, None)
        return reply

    async def _forwarded(self, head: Head, body: bytes) -> tuple[str, Response, float]:
        """Return who answered, what, and when that replica was asked."""
        tried: set[Upstream] = set()
        while True:
            found = self._next(head.target, tried)
            route, upstream = found or await self._awaited(head.target, tried)
            counters = self.counters.get(route.revision) or self._of(route.revision)
            counters.in_flight += 1
            begun = perf_counter()
            try:
                path, limit_s = upstream.predict_path, self._answer_timeout_s
                response = await upstream.request("POST", path, head.forwarded, body, limit_s)
            except UpstreamBrokenError:
                # Another replica may answer, and this revision has failed for all that.
                self.tally.count(route.revision, perf_counter() - begun, True)
                tried.add(upstream)
                if len(tried) >= TRIES:
                    raise
            except (TimeoutError, AnswerTooLargeError):
                self.tally.count(route.revision, perf_counter() - begun, True)
                raise
            else:
                return route.revision, response, begun
            finally:
                counters.in_flight -= 1

    async def _awaited(self, target: str | None, tried: set[Upstream]) -> tuple[Route, Upstream]:
        """Return the next replica for a request when there is none now: it may be starting again."""
        try:
            async with asyncio.timeout(self._wait_for_replica_s):
                while True:
                    await self._changed.wait()
                    found = self._next(target, tried)
                    if found is not None:
                        return found
        except TimeoutError:
            raise NoReplicaError from None

    def _next(self, target: str | None, tried: set[Upstream]) -> tuple[Route, Upstream] | None:
        """Return the replica whose turn it is, None if there is none.

        Between routes: smooth weighted round robin, exact over any 10,000 requests while the routes stay. Within one:
        the replica with the fewest open requests.
        """
        able = self._in_turn
        if target or tried:
            among = [each for each in self._routes if each.revision == target] if target else able
            able = tuple(route for route in among if any(each not in tried for each in route.upstreams))
        if not able:
            return None
        route = able[0] if len(able) == 1 else _turn(able)
        if len(route.upstreams) == 1:
            return route, route.upstreams[0]
        fresh = (each for each in route.upstreams if each not in tried)
        return route, min(fresh, key=_open_requests)

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
        lines += self.mirror.exposition()
        for name, values in self.gauges.items():
            lines.append(f"# TYPE {name} gauge")
            lines += [f"{name}{{{labels}}} {value:g}" for labels, value in values.items()]
        return "\n".join(lines) + "\n"


def _turn(routes: tuple[Route, ...]) -> Route:
    """Return the route that is owed most, after each got its share (nginx's smooth weighted round robin)."""
    total = 0
    chosen = routes[0]
    for route in routes:
        route.owed += route.share
        total += route.share
        if route.owed > chosen.owed:
            chosen = route
    chosen.owed -= total
    return chosen


def _open_requests(upstream: Upstream) -> int:
    return upstream.in_flight


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
    return f"{getrandbits(64):016x}"  # it tells requests apart and keeps no secret
