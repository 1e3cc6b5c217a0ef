"""The gateway on real connections: replicas that die or misbehave, clients that do, and what is not HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from mlscale.serving.gateway import Gateway, Route
from mlscale.serving.listener import Limits, Listener, free_port
from mlscale.serving.upstream import Upstream, UpstreamBrokenError

HANDLER = """
import time

def model_fn(model_dir):
    return None

def input_fn(body, content_type):
    return body

def predict_fn(body, model):
    time.sleep(float(body.partition(" ")[0]))
    return [body.partition(" ")[2]]
"""
POST = b"POST /invocations HTTP/1.1\r\nhost: a\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@asynccontextmanager
async def gateway(
    *upstreams: Upstream,
    answer_timeout_s: float = 20.0,
    wait_for_replica_s: float = 5.0,
    limits: Limits | None = None,
) -> AsyncIterator[tuple[Gateway, Listener]]:
    """Run a gateway in front of one revision's replicas."""
    found = Gateway("reviews", answer_timeout_s=answer_timeout_s, wait_for_replica_s=wait_for_replica_s)
    found.set_routes([Route("a", 10_000, upstreams)])
    listener = Listener(found, "127.0.0.1", 0, limits or Limits(body_bytes=10_000))
    try:
        yield found, listener
    finally:
        await listener.stop(5.0)
        for each in upstreams:
            each.close()


@asynccontextmanager
async def replica(folder: Path) -> AsyncIterator[tuple[Upstream, asyncio.subprocess.Process]]:
    """Run a model server that sleeps as long as it is asked to and gives the rest of the words back."""
    (folder / "inference.py").write_text(HANDLER)
    upstream = Upstream("replica", "127.0.0.1", free_port("127.0.0.1"))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mlscale.serving.server",
        env={
            "PATH": os.environ["PATH"],
            "MLSCALE_MODEL_DIR": str(folder),
            "MLSCALE_HOST": "127.0.0.1",
            "MLSCALE_PORT": str(upstream.port),
        },
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(20):
            while not await is_up(upstream):
                await asyncio.sleep(0.05)
        yield upstream, process
    finally:
        upstream.close()
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def is_up(upstream: Upstream) -> bool:
    """Whether a replica answers its health route."""
    try:
        return (await upstream.request("GET", "/ping", (), b"", 5.0)).status == 200
    except UpstreamBrokenError:
        return False


Run = Callable[[Coroutine[Any, Any, Any]], Any]
on_both_loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run])

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def double(talk: Talk) -> AsyncIterator[Upstream]:
    """Run a replica that does with a connection what `talk` does."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await talk(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        upstream = Upstream("double", "127.0.0.1", server.sockets[0].getsockname()[1])
        yield upstream
        upstream.close()


async def request_of(reader: asyncio.StreamReader) -> bytes:
    """Return the head of the next request; its body is read, too."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0)
    await reader.readexactly(length)
    return head


async def talked(port: int, *parts: bytes, limit_s: float = 10.0) -> bytes:
    """Return all that comes back for bytes as they are, until the gateway closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with suppress(ConnectionError):
            for part in parts:
                writer.write(part)
                await writer.drain()
        received = b""
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(limit_s):
                while more := await reader.read(65536):
                    received += more
        return received
    finally:
        writer.close()


async def asked(port: int, body: bytes) -> tuple[int, bytes]:
    """Return the status and body of one prediction over a connection of its own."""
    sent = POST + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    answer = await talked(port, sent, limit_s=20.0)
    return int(answer.split(b" ")[1]), answer.partition(b"\r\n\r\n")[2]


def test_no_request_is_lost_or_hangs_when_a_replica_is_killed(tmp_path: Path) -> None:
    """16 clients, SIGKILL of one of two replicas in the middle: all 320 requests get their own answers."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()

    async def load() -> tuple[Sequence[tuple[int, bytes]], int]:
        async with replica(tmp_path / "one") as (one, doomed), replica(tmp_path / "two") as (two, _):  # noqa: SIM117
            async with gateway(one, two) as (_, listener):

                async def client(number: int) -> list[tuple[int, bytes]]:
                    return [await asked(listener.port, b"0.005 %d-%d" % (number, turn)) for turn in range(20)]

                clients = [asyncio.ensure_future(client(number)) for number in range(16)]
                await asyncio.sleep(0.3)
                doomed.send_signal(signal.SIGKILL)
                answers = await asyncio.gather(*clients)
                return [each for some in answers for each in some], one.in_flight + two.in_flight

    answers, left = asyncio.run(load())

    expected = [(200, b'["%d-%d"]' % (number, turn)) for number in range(16) for turn in range(20)]
    assert (list(answers), left) == (expected, 0)


def test_a_slow_replica_is_504_and_the_next_request_is_answered(tmp_path: Path) -> None:
    """The client is told after the limit; the connection that is still busy is not used again."""

    async def slow() -> Sequence[tuple[int, bytes]]:
        async with replica(tmp_path) as (upstream, _), gateway(upstream, answer_timeout_s=0.5) as (_, listener):
            late = await asked(listener.port, b"1 late")
            await asyncio.sleep(0.7)  # the model makes one prediction at a time, and the late one to its end
            return late, await asked(listener.port, b"0 quick")

    late, quick = asyncio.run(slow())

    assert late == (504, b'{"error":"the model did not answer within 0.5 s"}')
    assert quick == (200, b'["quick"]')


@on_both_loops
def test_clients_that_vanish_leave_nothing_behind(run: Run, tmp_path: Path) -> None:
    """50 connections that end in the middle of head, body and answer: the next client is served, nothing stays open."""

    async def vanishing() -> tuple[tuple[int, bytes], int, int]:
        async with replica(tmp_path) as (upstream, _), gateway(upstream) as (found, listener):
            for part in (
                b"POST /invo",
                POST + b"content-length: 9\r\n\r\n0.0",
                POST + b"content-length: 5\r\n\r\n0.1 a",
            ):
                for _ in range(50):
                    _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
                    writer.write(part)
                    await writer.drain()
                    writer.transport.abort()
            answer = await asked(listener.port, b"0 here")
            async with asyncio.timeout(20):
                while found.counters["a"].in_flight or listener.connections:
                    await asyncio.sleep(0.02)
            return answer, upstream.in_flight, len(listener.connections)

    assert run(vanishing()) == ((200, b'["here"]'), 0, 0)


def test_one_connection_to_a_replica_is_used_again() -> None:
    """20 requests in a row over two connections of clients need one to the replica."""
    connections: list[int] = []

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        while True:
            await request_of(reader)
            writer.write(OK)

    async def in_a_row() -> Sequence[bytes]:
        async with double(counted) as upstream, gateway(upstream) as (_, listener):
            one = POST + b"content-length: 2\r\n\r\n{}"
            last = POST + b"connection: close\r\ncontent-length: 2\r\n\r\n{}"
            return [await talked(listener.port, *([one] * 9), last) for _ in range(2)]

    answers = asyncio.run(in_a_row())

    assert [each.count(b"HTTP/1.1 200 OK") for each in answers] == [10, 10]
    assert len(connections) == 1


def once(answer: bytes) -> Talk:
    """Return what answers one request and closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(answer)

    return talk


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", 200, b"to the end"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, b"ok"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (OK + b"HTTP/1.1 200 OK\r\ncontent-le", 200, b"ok"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok", 503, None),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", 503, None),
        (b"HTTP/1.1 200 OK\r\ncont", 503, None),
        (b"what?\r\n\r\n", 503, None),
        (b"", 503, None),
    ],
)
def test_a_replicas_answer_is_whole_or_it_is_none(answer: bytes, status: int, body: bytes | None) -> None:
    """Its length, chunks or the end of the connection say where it ends; what breaks off is tried elsewhere."""

    async def once_more() -> tuple[int, bytes]:
        async with double(once(answer)) as upstream, gateway(upstream, wait_for_replica_s=0.0) as (_, listener):
            return await asked(listener.port, b"{}")

    found = asyncio.run(once_more())

    assert found[0] == status
    assert body is None or found[1] == body


def test_an_answer_that_nobody_asked_for_reaches_nobody() -> None:
    """A replica that says two things to one request: the next request gets its own answer, over another connection."""
    turns = iter(range(10))

    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request_of(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % next(turns))
            await writer.drain()
            await asyncio.sleep(0.02)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstray")

    async def in_a_row() -> Sequence[tuple[int, bytes]]:
        answers = []
        async with double(twice) as upstream, gateway(upstream) as (_, listener):
            for _ in range(3):
                answers.append(await asked(listener.port, b"{}"))
                await asyncio.sleep(0.1)
        return answers

    assert asyncio.run(in_a_row()) == [(200, b"0"), (200, b"1"), (200, b"2")]


def test_a_connection_that_the_replica_closed_while_idle_is_replaced() -> None:
    """The request goes over a new connection and is not counted as tried."""
    heads: list[bytes] = []

    async def one_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await request_of(reader))
        writer.write(OK)

    async def in_a_row() -> Sequence[tuple[int, bytes]]:
        async with double(one_each) as upstream, gateway(upstream) as (_, listener):
            return [await asked(listener.port, b"{}") for _ in range(10)]

    assert asyncio.run(in_a_row()) == [(200, b"ok")] * 10
    assert len(heads) == 10


@on_both_loops
def test_a_replica_that_answers_before_it_heard_all_is_believed(run: Run) -> None:
    """An early refusal is passed on, and the connection with half a body in it is not used again."""
    connections: list[int] = []

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 2\r\n\r\nno")
        await writer.drain()
        await asyncio.sleep(0.2)

    async def large() -> Sequence[tuple[int, bytes]]:
        limits = Limits(body_bytes=20_000_000)
        async with double(early) as upstream, gateway(upstream, limits=limits) as (_, listener):
            return [await asked(listener.port, b"a" * 10_000_000) for _ in range(2)]

    assert run(large()) == [(413, b"no")] * 2
    assert len(connections) == 2


def test_headers_reach_the_replica_less_the_connections_own() -> None:
    """What the client's connection is about stays; its request id goes on and comes back."""
    heads: list[bytes] = []

    async def remembered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await request_of(reader))
        writer.write(OK)

    async def one() -> bytes:
        async with double(remembered) as upstream, gateway(upstream) as (_, listener):
            sent = (
                POST
                + b"X-Request-Id: id-1\r\nX-Mine: 1\r\nX-Yours: 2\r\nUpgrade: h2c\r\nConnection: Upgrade, X-Mine\r\n"
            )
            return await talked(listener.port, sent + b"content-length: 2\r\n\r\n{}", limit_s=2.0)

    answer = asyncio.run(one())

    assert [line for line in heads[0].split(b"\r\n") if not line.startswith(b"host")] == [
        b"POST /invocations HTTP/1.1",
        b"content-length: 2",
        b"x-yours: 2",
        b"x-request-id: id-1",
        b"",
        b"",
    ]
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nx-request-id: id-1\r\n" in answer


@on_both_loops
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ([b"GARBAGE\r\n\r\n"], 400),
        ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"], 400),
        ([b"GET / HTTP/9.9\r\n\r\n"], 400),
        ([b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n"], 414),
        ([POST + b"x: " + b"a" * 70_000 + b"\r\n\r\n"], 431),
        ([POST + b"".join(b"x%d: a\r\n" % number for number in range(101)) + b"\r\n"], 431),
        ([POST + b"x: a\x01b\r\n\r\n"], 400),
        ([POST + b"x : a\r\n\r\n"], 400),
        ([POST + b"content-length: -5\r\n\r\nhello"], 400),
        ([POST + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!"], 400),
        ([POST + b"content-length: 99999999999999999999\r\n\r\nhello"], 400),
        ([POST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"], 400),
        ([CHUNKED + b"5\r\nhello\r\nzz\r\n"], 400),
        ([POST + b"content-length: 10001\r\n\r\n"], 413),
        ([POST + b"expect: 100-continue\r\ncontent-length: 10001\r\n\r\n"], 413),
        ([CHUNKED] + [b"1000\r\n" + b"a" * 4096 + b"\r\n"] * 3, 413),
        ([CHUNKED + b"5\r\nhello\r\n", b"1\r\n!\r\n0\r\n\r\n"], 200),
        ([b"POST /invocations?a=b HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"], 200),
        ([b"POST http://a/invocations HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"], 200),
        ([b"POST /invocations HTTP/1.0\r\ncontent-length: 2\r\n\r\n{}"], 200),
        ([b"GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n"], 404),
        ([b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n"], 404),
        ([b"CONNECT a:443 HTTP/1.1\r\nhost: a\r\n\r\n"], 405),
    ],
)
def test_what_is_not_http_or_too_much_is_refused(run: Run, sent: Sequence[bytes], status: int) -> None:
    """Each with its status and JSON that says why, and the next client is served."""

    async def both() -> tuple[bytes, tuple[int, bytes]]:
        async with double(once(OK)) as upstream, gateway(upstream) as (_, listener):
            return await talked(listener.port, *sent, limit_s=0.5), await asked(listener.port, b"{}")

    answer, after = run(both())

    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert status == 200 or json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert after == (200, b"ok")


@on_both_loops
def test_requests_that_come_together_are_answered_in_order(run: Run) -> None:
    """Pipelining: each answer is its own request's, however long each takes; nothing is answered after a close."""

    async def echoed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
            await asyncio.sleep(0.05 if length == 1 else 0)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (length, body))

    async def together() -> bytes:
        async with double(echoed) as upstream, gateway(upstream) as (_, listener):
            one = POST + b"content-length: 1\r\n\r\na"
            two = POST + b"content-length: 2\r\nconnection: close\r\n\r\nbb"
            return await talked(listener.port, one + one + two + one)

    answer = run(together())

    assert [part.rpartition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200 OK")[1:]] == [b"a", b"a", b"bb"]


@on_both_loops
def test_a_client_that_waits_to_be_told_is_told_to_go_on(run: Run) -> None:
    """Expect: 100-continue."""

    async def expecting() -> tuple[bytes, bytes]:
        async with double(once(OK)) as upstream, gateway(upstream) as (_, listener):
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(POST + b"expect: 100-continue\r\ncontent-length: 2\r\nconnection: close\r\n\r\n")
            told = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"{}")
            answer = await reader.read()
            writer.close()
            return told, answer

    told, answer = run(expecting())

    assert told == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer.endswith(b"\r\n\r\nok")


@on_both_loops
@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""),
        (b"POST /invocations HTTP/1.1\r\nhos", b"HTTP/1.1 408 Request Timeout\r\n"),
        (POST + b"content-length: 9\r\n\r\nhalf", b"HTTP/1.1 408 Request Timeout\r\n"),
        (b"GET /ping HTTP/1.1\r\nhost: a\r\n\r\n", b"HTTP/1.1 200 OK\r\n"),
    ],
)
def test_a_client_that_falls_silent_is_let_go(run: Run, sent: bytes, answer: bytes) -> None:
    """Before, in and between requests; in the middle of one it is told."""

    async def silent() -> bytes:
        limits = Limits(head_s=0.1, body_s=0.1)
        async with double(once(OK)) as upstream, gateway(upstream, limits=limits) as (_, listener):
            return await talked(listener.port, sent, limit_s=5.0)

    found = run(silent())

    assert found.startswith(answer)
    assert bool(found) == bool(answer)


@on_both_loops
def test_stopping_lets_open_requests_end(run: Run) -> None:
    """An open request is answered and its connection closed; nobody else gets in."""
    began = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        began.set()
        await asyncio.sleep(0.2)
        writer.write(OK)

    async def stopping() -> tuple[bytes, bool]:
        async with double(slow) as upstream, gateway(upstream) as (_, listener):
            answer = asyncio.ensure_future(talked(listener.port, POST + b"content-length: 2\r\n\r\n{}"))
            await began.wait()
            await listener.stop(5.0)
            try:
                await asyncio.open_connection("127.0.0.1", listener.port)
            except ConnectionError:
                return await answer, True
            return await answer, False

    answer, refused = run(stopping())

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nconnection: close\r\n" in answer
    assert refused


@on_both_loops
def test_a_client_that_sends_all_of_a_body_that_is_too_large_reads_why(run: Run) -> None:
    """Twenty megabytes are heard and forgotten, so that the refusal is not lost in a reset of the connection."""

    async def large() -> tuple[int, bytes]:
        async with gateway() as (_, listener):
            return await asked(listener.port, b"a" * 20_000_000)

    assert run(large()) == (413, b'{"error":"the body is larger than 10,000 bytes"}')


def test_a_taken_port_is_told() -> None:
    """Not shared with whoever has it."""

    async def taken() -> None:
        async with gateway() as (found, listener):
            Listener(found, "127.0.0.1", listener.port)

    with pytest.raises(OSError, match="Address already in use"):
        asyncio.run(taken())
