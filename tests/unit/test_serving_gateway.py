"""What the gateway decides, with upstreams that say what they are told to."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Sequence

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlscale.serving.codec import Reply
from mlscale.serving.gateway import TRIES, Gateway, Head, Route, head_of
from mlscale.serving.mirror import MOST_OPEN, MOST_OPEN_BYTES
from mlscale.serving.upstream import AnswerTooLargeError, Response, Upstream, UpstreamBrokenError
from mlscale.serving.wire import Call, Dialect

PLAIN = Call(Dialect.PLAIN)
HEAD = Head("id-1", None, [("x-request-id", "id-1")])


class Canned(Upstream):
    """A replica that answers with its name, raises, or hangs."""

    def __init__(self, name: str, error: Exception | None = None, *, status: int = 200, hangs: bool = False) -> None:
        super().__init__(name, "127.0.0.1", 1)
        self.hangs = hangs
        self.error = error
        self.status = status
        self.asked: list[tuple[Sequence[tuple[str, str]], bytes]] = []
        self.paths: list[str] = []

    async def request(
        self, method: str, path: str, headers: Iterable[tuple[str, str]], body: bytes, timeout_s: float = 60.0
    ) -> Response:
        """Return its name."""
        assert (method, timeout_s) == ("POST", 60.0)
        self.paths.append(path)
        self.asked.append((list(headers), body))
        if self.hangs:
            await asyncio.Event().wait()
        if self.error:
            raise self.error
        return Response(self.status, (), self.name.encode())


def a_gateway(*routes: Route, wait_for_replica_s: float = 10.0) -> Gateway:
    """Return a gateway that has these routes."""
    gateway = Gateway("reviews", wait_for_replica_s=wait_for_replica_s)
    gateway.set_routes(routes)
    return gateway


def answers(gateway: Gateway, count: int, head: Head = HEAD) -> Sequence[str]:
    """Return what so many requests in a row are answered."""

    async def in_a_row() -> Sequence[str]:
        return [(await gateway.predicted(PLAIN, head, b"")).body.decode() for _ in range(count)]

    return asyncio.run(in_a_row())


def reply(gateway: Gateway, head: Head = HEAD, call: Call = PLAIN) -> Reply:
    """Return the answer to one request."""
    return asyncio.run(gateway.predicted(call, head, b"body"))


@pytest.mark.parametrize("shares", [(9_000, 1_000), (9_999, 1), (3_333, 3_333, 3_334), (10_000,), (5_000, 0, 5_000)])
def test_shares_are_exact_over_ten_thousand_requests(shares: Sequence[int]) -> None:
    """Each route gets its basis points, to the request."""
    names = "abc"[: len(shares)]
    routes = [Route(name, share, (Canned(name),)) for name, share in zip(names, shares, strict=True)]

    counted = Counter(answers(a_gateway(*routes), 10_000))

    assert [counted[name] for name in names] == list(shares)


def test_shares_are_spread_evenly() -> None:
    """One in ten is every tenth, not a thousand in a row."""
    gateway = a_gateway(Route("a", 9_000, (Canned("a"),)), Route("b", 1_000, (Canned("b"),)))

    assert "".join(answers(gateway, 20)) == "aaaaabaaaaaaaaabaaaa"


def test_a_new_weight_holds_from_the_next_request() -> None:
    """Requests before it go by the old weights, those after by the new ones."""
    a, b = Canned("a"), Canned("b")
    gateway = a_gateway(Route("a", 10_000, (a,)), Route("b", 0, (b,)))
    before = answers(gateway, 10)

    gateway.set_routes([Route("a", 0, (a,)), Route("b", 10_000, (b,))])

    assert (before, answers(gateway, 10)) == (["a"] * 10, ["b"] * 10)


def test_whose_turn_it_is_outlives_replicas_that_come_and_go() -> None:
    """A small share gets its due although the routes are set anew before each of its turns."""
    a, b = Canned("a"), Canned("b")
    gateway = a_gateway()
    counted: Counter[str] = Counter()

    for _ in range(100):
        gateway.set_routes([Route("a", 9_900, (a,)), Route("b", 100, (b,))])
        counted.update(answers(gateway, 10))

    assert counted == {"a": 990, "b": 10}


def test_a_route_without_replicas_gets_no_traffic() -> None:
    """While the candidate has none healthy, the others answer."""
    gateway = a_gateway(Route("a", 5_000, ()), Route("b", 5_000, (Canned("b"),)))

    assert answers(gateway, 4) == ["b"] * 4


def test_the_replica_with_the_fewest_open_requests_is_next() -> None:
    """Within a revision the load goes where there is least of it."""
    busy, idle = Canned("busy"), Canned("idle")
    busy.in_flight = 2

    assert answers(a_gateway(Route("a", 10_000, (busy, idle))), 2) == ["idle", "idle"]


def test_a_request_is_tried_on_another_replica_when_one_goes_away() -> None:
    """The client gets an answer, and only that one is counted."""
    gone = Canned("gone", UpstreamBrokenError("gone"))
    gateway = a_gateway(Route("a", 10_000, (gone, Canned("left"))))

    assert answers(gateway, 1) == ["left"]
    assert {revision: each.codes for revision, each in gateway.counters.items()} == {"a": {200: 1}}


def test_a_request_is_tried_on_another_revision_when_its_own_has_no_replica_left() -> None:
    """Any answer is better than none."""
    gone = Canned("gone", UpstreamBrokenError("gone"))
    gateway = a_gateway(Route("a", 9_000, (gone,)), Route("b", 1_000, (Canned("b"),)))

    assert answers(gateway, 1) == ["b"]


def test_a_request_that_ends_every_replica_is_given_up() -> None:
    """After TRIES replicas the client is told, for it may be the request that ends them."""
    replicas = tuple(Canned(str(number), UpstreamBrokenError("gone")) for number in range(TRIES + 1))

    found = reply(a_gateway(Route("a", 10_000, replicas)))

    assert (found.status, json.loads(found.body)) == (503, {"error": "3 replicas went away under the request: gone"})
    assert sum(len(each.asked) for each in replicas) == TRIES


def test_without_a_replica_a_request_waits_then_is_told_when_to_come_back() -> None:
    """503 with retry-after; it is counted as nobody's."""
    gateway = a_gateway(Route("a", 10_000, ()), wait_for_replica_s=0.0)

    found = reply(gateway)

    assert found == Reply(
        503,
        (("content-type", "application/json"), ("x-request-id", "id-1"), ("retry-after", "5")),
        b'{"error":"no replica is healthy: mlscale status"}',
    )
    assert gateway.counters["none"].codes == {503: 1}


def test_a_request_that_waits_is_answered_by_the_replica_that_comes() -> None:
    """A replica that starts again takes what waited for it."""
    gateway = a_gateway(Route("a", 10_000, ()))

    async def coming() -> Reply:
        waiting = asyncio.ensure_future(gateway.predicted(PLAIN, HEAD, b""))
        await asyncio.sleep(0)
        gateway.set_routes([Route("a", 10_000, ())])  # something else changed
        await asyncio.sleep(0)
        gateway.set_routes([Route("a", 10_000, (Canned("here"),))])
        return await waiting

    assert asyncio.run(coming()).body == b"here"


def test_each_replica_is_asked_at_its_own_route() -> None:
    """SageMaker's where nothing is said, and the one that a server by Vertex's contract was given."""
    ours, vertexs = Canned("ours"), Canned("vertexs")
    vertexs.predict_path = "/v1/models/sums:predict"

    answers(a_gateway(Route("a", 5_000, (ours,)), Route("b", 5_000, (vertexs,))), 2)

    assert (ours.paths, vertexs.paths) == (["/invocations"], ["/v1/models/sums:predict"])


def test_a_replica_that_broke_is_not_asked_again_for_the_same_request() -> None:
    """The only replica went away under it: the request waits for another one."""
    gone = Canned("gone", UpstreamBrokenError("gone"))

    found = reply(a_gateway(Route("a", 10_000, (gone,)), wait_for_replica_s=0.0))

    assert (found.status, len(gone.asked)) == (503, 1)


def test_a_target_variant_is_the_one_that_answers() -> None:
    """SageMaker's header names the revision, whatever its share; an unknown one is refused."""
    gateway = a_gateway(Route("a", 10_000, (Canned("a"),)), Route("b", 0, (Canned("b"),)))

    assert answers(gateway, 3, HEAD._replace(target="b")) == ["b"] * 3
    refusal = reply(gateway, HEAD._replace(target="c"), Call(Dialect.SAGEMAKER, "reviews"))
    assert (refusal.status, json.loads(refusal.body)) == (
        400,
        {"Message": "Variant c not found for endpoint reviews."},
    )


def test_another_endpoints_name_is_not_answered() -> None:
    """The name in a cloud's path has to be ours."""
    gateway = a_gateway(Route("a", 10_000, (Canned("a"),)))

    assert reply(gateway, call=Call(Dialect.SAGEMAKER, "other")).status == 400
    assert reply(gateway, call=Call(Dialect.VERTEX, "other", "projects/p/locations/l")).status == 404
    assert gateway.counters == {}


@pytest.mark.parametrize(
    ("error", "status", "why"),
    [
        (TimeoutError(), 504, "the model did not answer within 60 s"),
        (AnswerTooLargeError("the answer is larger than 5 bytes"), 502, "the answer is larger than 5 bytes"),
    ],
)
def test_a_slow_or_endless_answer_is_not_asked_for_again(error: Exception, status: int, why: str) -> None:
    """The next replica would do the same work for nothing."""
    replicas = (Canned("a", error), Canned("b", error))
    gateway = a_gateway(Route("a", 10_000, replicas))

    found = reply(gateway)

    assert (found.status, json.loads(found.body)) == (status, {"error": why})
    assert [len(each.asked) for each in replicas] == [1, 0]
    assert gateway.counters["none"].codes == {status: 1}
    assert gateway.counters["a"].in_flight == 0


@pytest.mark.parametrize(
    ("headers", "head"),
    [
        ([("host", "a"), ("content-length", "12")], Head("new", None, [("x-request-id", "new")])),
        ([("transfer-encoding", "chunked"), ("upgrade", "h2c")], Head("new", None, [("x-request-id", "new")])),
        ([], Head("new", None, [("x-request-id", "new")])),
        ([("x-request-id", "id-1")], Head("id-1", None, [("x-request-id", "id-1")])),
        ([("x-request-id", "a b")], Head("new", None, [("x-request-id", "new")])),
        ([("x-request-id", "a\r\nx: 1")], Head("new", None, [("x-request-id", "new")])),
        ([("x-request-id", "a" * 129)], Head("new", None, [("x-request-id", "new")])),
        (
            [("accept", "a"), ("accept", "b"), ("connection", "keep-alive"), ("keep-alive", "5"), ("te", "gzip")],
            Head("new", None, [("accept", "a"), ("accept", "b"), ("x-request-id", "new")]),
        ),
        (
            [("connection", "close, X-Mine"), ("x-mine", "1"), ("x-yours", "2"), ("expect", "100-continue")],
            Head("new", None, [("x-yours", "2"), ("x-request-id", "new")]),
        ),
        (
            [("x-amzn-sagemaker-target-variant", "b")],
            Head("new", "b", [("x-amzn-sagemaker-target-variant", "b"), ("x-request-id", "new")]),
        ),
    ],
)
def test_what_goes_on_of_the_headers(headers: Sequence[tuple[str, str]], head: Head) -> None:
    """Not what is the connection's or named by it; a request id only if it can't be mistaken for something else."""
    found = head_of(headers)

    if head.request_id == "new":
        assert len(bytes.fromhex(found.request_id)) == 8
        forwarded = [(name, "new" if name == "x-request-id" else value) for name, value in found.forwarded]
        found = found._replace(request_id="new", forwarded=forwarded)
    assert found == head


def test_the_exposition_is_prometheus_text() -> None:
    """Prometheus's own parser reads every family, and the numbers are those that were counted."""
    gateway = a_gateway(Route("a", 10_000, (Canned("a"),)))
    answers(gateway, 3)
    reply(gateway, HEAD._replace(target="c"))
    gateway.counters["a"].count(500, 0.3)
    gateway.gauges = {"mlscale_replicas_wanted": {'revision="a"': 2.0}}

    families = {each.name: each for each in text_string_to_metric_families(gateway.exposition())}

    assert {name: each.type for name, each in families.items()} == {
        "mlscale_requests": "counter",
        "mlscale_request_duration_seconds": "histogram",
        "mlscale_requests_in_flight": "gauge",
        "mlscale_replicas_wanted": "gauge",
    }
    assert [(each.labels, each.value) for each in families["mlscale_requests"].samples] == [
        ({"revision": "a", "code": "200"}, 3.0),
        ({"revision": "a", "code": "500"}, 1.0),
    ]
    samples = families["mlscale_request_duration_seconds"].samples
    buckets = {each.labels["le"]: each.value for each in samples if each.name.endswith("_bucket")}
    assert (buckets["0.25"], buckets["0.5"], buckets["+Inf"]) == (3.0, 4.0, 4.0)
    assert [each.value for each in samples if each.name.endswith("_count")] == [4.0]
    assert [each.value for each in families["mlscale_replicas_wanted"].samples] == [2.0]
    assert gateway.counters["a"].requests == 4


def answer(gateway: Gateway, method: str, path: str) -> Reply:
    """Return what a request without headers and body is answered."""
    return asyncio.run(gateway.answer(method, path, [], b""))


def test_the_routes() -> None:
    """Predictions, health, metrics; anything else is 404, a prediction's path with another method 405."""
    gateway = a_gateway(Route("a", 10_000, (Canned("a"),)))

    assert answer(gateway, "POST", "/invocations")[::2] == (200, b"a")
    assert answer(gateway, "POST", "/endpoints/reviews/invocations")[::2] == (200, b"a")
    assert answer(gateway, "GET", "/ping") == Reply(200, (), b"")
    assert answer(gateway, "HEAD", "/ping") == Reply(200, (), b"")
    assert answer(gateway, "GET", "/metrics").status == 200
    wrong = answer(gateway, "GET", "/invocations")
    assert (wrong.status, dict(wrong.headers)["allow"], wrong.body) == (
        405,
        "POST",
        b'{"error":"/invocations takes POST"}',
    )
    assert answer(gateway, "DELETE", "/ping")[::2] == (404, b'{"error":"there is no DELETE /ping"}')
    assert answer(a_gateway(), "GET", "/ping") == Reply(503, (), b"")


def test_what_is_not_heard_to_its_end_is_refused_in_the_words_of_whoever_asks() -> None:
    """By its path; a path that means nothing gets the plain words."""
    gateway = a_gateway()

    sagemaker = gateway.refusal("/endpoints/reviews/invocations", 413, "too large")
    assert (sagemaker.status, dict(sagemaker.headers)["x-amzn-errortype"]) == (413, "ValidationError")
    assert gateway.refusal("", 400, "not HTTP")[::2] == (400, b'{"error":"not HTTP"}')


def tallied(gateway: Gateway) -> dict[tuple[str, bool], int]:
    """Return how many requests to replicas of each revision were answered, and how many failed."""
    found: Counter[tuple[str, bool]] = Counter()
    for (_, revision, _, failed), count in gateway.tally.counts().items():
        found[revision, failed] += count
    return dict(found)


@pytest.mark.parametrize(
    ("error", "status", "counts"),
    [
        (None, 200, {("a", False): 1}),
        (TimeoutError(), 504, {("a", True): 1}),
        (AnswerTooLargeError("large"), 502, {("a", True): 1}),
        (UpstreamBrokenError("gone"), 200, {("a", True): 1, ("b", False): 1}),
    ],
)
def test_a_failure_is_counted_at_the_revision_that_failed(
    error: Exception | None, status: int, counts: dict[tuple[str, bool], int]
) -> None:
    """Also where another one answered in its place: that is no merit of the first."""
    gateway = a_gateway(Route("a", 5_000, (Canned("a", error),)), Route("b", 5_000, (Canned("b"),)))

    assert reply(gateway).status == status
    assert tallied(gateway) == counts


@pytest.mark.parametrize(("status", "failures"), [(200, 0), (400, 0), (429, 0), (500, 1), (503, 1)])
def test_a_models_own_error_is_a_failure_and_a_refusal_is_none(status: int, failures: int) -> None:
    """5xx is the model's, 4xx the client's."""
    gateway = a_gateway(Route("a", 10_000, (Canned("a", status=status),)))

    reply(gateway)

    assert tallied(gateway) == {("a", bool(failures)): 1}


def copied(gateway: Gateway, count: int, head: Head = HEAD) -> Sequence[str]:
    """Return what so many requests in a row are answered, once their copies are, too."""

    async def in_a_row() -> Sequence[str]:
        found = [(await gateway.predicted(PLAIN, head, b"body")).body.decode() for _ in range(count)]
        for _ in range(3):
            await asyncio.sleep(0)
        return found

    return asyncio.run(in_a_row())


def copies(gateway: Gateway) -> dict[str, int]:
    """Return what became of the copies, less what never came."""
    return {each.value: count for each, count in gateway.mirror.outcomes["b"].items() if count}


@pytest.mark.parametrize(("share", "sent"), [(10_000, 50), (2_400, 12), (200, 1)])
def test_a_shadow_gets_its_share_of_copies_and_answers_nobody(share: int, sent: int) -> None:
    """To the request; each has the body and the headers of what it copies, and a mark."""
    shadow = Canned("b")
    gateway = a_gateway(Route("a", 10_000, (Canned("a"),)), Route("b", 0, (shadow,), copies=share))

    assert copied(gateway, 50) == ["a"] * 50
    assert shadow.asked == [([*HEAD.forwarded, ("x-mlscale-copy", "true")], b"body")] * sent
    assert tallied(gateway) == {("a", False): 50, ("b", False): sent}
    assert gateway.counters["b"].codes == {200: sent}


@pytest.mark.parametrize(
    ("stable", "shadow", "outcome"),
    [
        (Canned("a"), Canned("a"), {"same": 1}),
        (Canned("a"), Canned("b"), {"other_body": 1}),
        (Canned("a"), Canned("a", status=404), {"other_status": 1}),
        (Canned("a"), Canned("a", status=500), {"failed": 1}),
        (Canned("a"), Canned("a", UpstreamBrokenError("gone")), {"failed": 1}),
        (Canned("a"), Canned("a", TimeoutError()), {"failed": 1}),
        (Canned("a", TimeoutError()), Canned("a"), {"alone": 1}),
    ],
)
def test_answers_of_a_shadow_are_compared(stable: Canned, shadow: Canned, outcome: dict[str, int]) -> None:
    """With what the client got: status first, then the body."""
    gateway = a_gateway(Route("a", 10_000, (stable,)), Route("b", 0, (shadow,), copies=10_000))

    copied(gateway, 1)

    assert copies(gateway) == outcome
    assert gateway.counters["b"].in_flight == 0


def test_a_shadow_that_hangs_delays_nobody_and_is_sent_no_more_than_it_may_have() -> None:
    """Clients are answered; what is more than the bound is not sent, and told."""
    gateway = a_gateway(Route("a", 10_000, (Canned("a"),)), Route("b", 0, (Canned("b", hangs=True),), copies=10_000))

    assert copied(gateway, MOST_OPEN + 36) == ["a"] * (MOST_OPEN + 36)

    assert copies(gateway) == {"not_sent": 36}
    assert 'mlscale_copies_total{revision="b",outcome="not_sent"} 36' in gateway.exposition()


def test_large_copies_are_bounded_by_their_bytes() -> None:
    """What waits for a slow shadow takes no more memory than it may."""
    gateway = a_gateway(Route("a", 10_000, (Canned("a"),)), Route("b", 0, (Canned("b", hangs=True),), copies=10_000))
    body = bytes(MOST_OPEN_BYTES // 3)

    async def four() -> None:
        for _ in range(4):
            await gateway.predicted(PLAIN, HEAD, body)

    asyncio.run(four())

    assert copies(gateway) == {"not_sent": 2}


def test_a_shadow_without_replicas_is_sent_nothing() -> None:
    """It is told as not sent, and no failure."""
    gateway = a_gateway(Route("a", 10_000, (Canned("a"),)), Route("b", 0, (), copies=10_000))

    copied(gateway, 1)

    assert (copies(gateway), tallied(gateway)) == ({"not_sent": 1}, {("a", False): 1})


def test_what_names_its_revision_is_not_copied() -> None:
    """It is meant for that one alone."""
    shadow = Canned("b")
    gateway = a_gateway(Route("a", 10_000, (Canned("a"),)), Route("b", 0, (shadow,), copies=10_000))

    assert copied(gateway, 1, HEAD._replace(target="a")) == ["a"]
    assert shadow.asked == []
