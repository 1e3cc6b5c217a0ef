"""How long a plan without changes takes for many deployments on SageMaker, against the calls that it needs.

The deployments are made on the AWS double. Between it and mlscale stands a server that answers what the double answered
before, each call after 50 ms: the double itself would take longer for some calls than for others. The peer is as many
bare calls to that server, as many at once, in the same round: calls / parallelism * 50 ms, and what this machine loses.

    python benchmarks/plan.py [--deployments 100] [--rounds 5]

Exits 1 if the median ratio is above 1.3.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from mlscale.engine.plans import make_plan, make_plans  # noqa: E402 - the double is found by the path above
from mlscale.engine.session import Session, open_session, system_world  # noqa: E402
from mlscale.providers.calling import PARALLEL  # noqa: E402
from mlscale.providers.contract import Work  # noqa: E402
from tests.doubles.aws import Double, serving  # noqa: E402
from tests.e2e.on_sagemaker import HANDLER  # noqa: E402

CALL_S = 0.05
TARGET = 1.3
SIZES = (10, 50)
"""Fewer deployments, of which only the number of calls is told."""

PER_DEPLOYMENT = frozenset({"DescribeEndpoint", "DescribeEndpointConfig", "DescribeModel", "GetDashboard"})
"""Calls for which no list has what they tell."""


@dataclass
class Answers:
    """What the double answered, by request; what it was not asked before is fetched from it. `calls` counts."""

    behind: str
    known: dict[bytes, bytes] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection until it ends."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:-2])}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                writer.write(await self._answer(lines[0], headers, body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, request: str, headers: Mapping[str, str], body: bytes) -> bytes:
        if request.startswith("GET /counted"):
            counted, self.calls = json.dumps(self.calls).encode(), Counter()
            return _reply("application/json", counted)
        if request.startswith("GET /waited"):
            await asyncio.sleep(CALL_S)
            return _reply("application/json", b"{}")
        target = headers.get("x-amz-target", "")
        self.calls[target.rpartition(".")[2] or "GetCallerIdentity"] += 1
        key = b"\0".join((request.encode(), target.encode(), body))
        if key not in self.known:
            self.known[key] = await asyncio.to_thread(_asked, self.behind, request, headers, body)
        else:
            await asyncio.sleep(CALL_S)
        return self.known[key]


def _asked(behind: str, request: str, headers: Mapping[str, str], body: bytes) -> bytes:
    method, path, _ = request.split(" ")
    connection = HTTPConnection(urlsplit(behind).netloc)
    connection.request(method, path, body, {name: value for name, value in headers.items() if name != "host"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise AssertionError(f"{headers.get('x-amz-target')}: {answer.status} {answer.read()!r}")
    return _reply(answer.headers["Content-Type"], answer.read())


def _reply(content_type: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def _serve(behind: str) -> None:
    server = await asyncio.start_server(Answers(behind).serve, "127.0.0.1", 0, limit=2**20)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


@contextmanager
def answering(double: Double) -> Iterator[str]:
    """Yield the address of a process that answers as the double does, and after 50 ms what it was asked before."""
    command = [sys.executable, __file__, "--behind", double.address]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def written(folder: Path, count: int) -> Sequence[Path]:
    """Return the specs of so many deployments of one model, each with every feature that a plan reads."""
    (folder / "model").mkdir()
    (folder / "model" / "weights.bin").write_bytes(b"weights" * 100_000)
    (folder / "requirements.txt").write_text("numpy\n")
    (folder / "inference.py").write_text(HANDLER)
    text = (ROOT / "tests" / "golden" / "sagemaker.yaml").read_text()
    specs = [folder / f"{number:03}.yaml" for number in range(count)]
    for spec in specs:
        spec.write_text(text.replace("name: reviews", f"name: reviews-{spec.stem}", 1))
    return specs


def opened(specs: Sequence[Path]) -> Sequence[Session]:
    """Return a session for each spec, those of one place with one provider, as the command has them."""
    return [open_session(system_world(), spec) for spec in specs]


def deploy(session: Session) -> None:
    """Make what the spec asks for, without records in a workspace."""
    provider = session.provider
    for step in make_plan(session).steps:
        outcome = provider.perform(step, _told)
        while outcome.work is not Work.DONE:
            outcome = provider.poll(step, outcome.operation or "")


def _told(text: str) -> None:
    """Take a progress line, and say nothing."""
    del text


@dataclass(frozen=True)
class Result:
    """One size: the calls of a plan by operation; how long it took, and as many bare calls; medians, seconds."""

    deployments: int
    calls: Mapping[str, int]
    took_s: float
    bare_s: float
    ratio: float

    @property
    def least_s(self) -> float:
        """What the calls take when they are always as many at once as may be, and nothing else takes time."""
        return sum(self.calls.values()) / PARALLEL * CALL_S


def measured(address: str, specs: Sequence[Path], rounds: int) -> Result:
    """Return the medians over `rounds` plans; one before, in which the double answers, is not counted."""
    os.environ["AWS_ENDPOINT_URL"] = address
    pairs: list[tuple[float, float]] = []
    calls: dict[str, int] = {}
    for _ in range(rounds + 1):
        sessions = opened(specs)
        counted(address)
        start = time.perf_counter()
        plans = make_plans(sessions)
        took = time.perf_counter() - start
        calls = counted(address)
        if any(plan.steps for plan in plans):
            raise AssertionError("a plan of what was just deployed has nothing to do")
        pairs.append((took, bare(address, sum(calls.values()))))
    return Result(
        len(specs),
        calls,
        took_s=statistics.median(took for took, _ in pairs[1:]),
        bare_s=statistics.median(alone for _, alone in pairs[1:]),
        ratio=statistics.median(took / alone for took, alone in pairs[1:]),
    )


def bare(address: str, count: int) -> float:
    """Return the seconds that so many calls take, as many at once, that are nothing but a request and its answer."""
    own = threading.local()

    def call(number: int) -> None:
        del number
        if not hasattr(own, "connection"):
            own.connection = HTTPConnection(urlsplit(address).netloc)
        own.connection.request("GET", "/waited")
        own.connection.getresponse().read()

    with ThreadPoolExecutor(PARALLEL) as pool:
        start = time.perf_counter()
        list(pool.map(call, range(count)))
        return time.perf_counter() - start


def counted(address: str) -> dict[str, int]:
    """Return the calls since the last look, by operation."""
    with urllib.request.urlopen(f"{address}/counted") as answer:  # noqa: S310 - loopback
        found: dict[str, int] = json.load(answer)
    return found


def main() -> int:
    """Print the calls of each size, and the time of the largest; return 1 if it is above its target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--deployments", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5, help="how often it is planned")
    parser.add_argument("--behind", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.behind:
        asyncio.run(_serve(words.behind))
    with tempfile.TemporaryDirectory() as folder, serving() as double, answering(double) as address:
        os.environ.update(double.environment)
        double.post("settings", delay_s=0.0)
        double.make_bucket("mlscale-workspace")
        double.make_role()
        specs = written(Path(folder), words.deployments)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(deploy, opened(specs)))
        results = [measured(address, specs[:size], 1) for size in SIZES if size < words.deployments]
        results.append(measured(address, specs, words.rounds))
    for each in results:
        print(f"{each.deployments:>4} deployments: {sum(each.calls.values())} calls: {_text(each.calls)}")
    last = results[-1]
    verdict = "ok" if last.ratio <= TARGET else "too slow"
    print(f"a plan {last.took_s:.2f} s, its calls bare {last.bare_s:.2f} s (without any loss {last.least_s:.2f} s)")
    print(f"ratio {last.ratio:.2f}, target {TARGET}: {verdict}")
    return int(last.ratio > TARGET)


def _text(calls: Mapping[str, int]) -> str:
    single = sum(number for name, number in calls.items() if name in PER_DEPLOYMENT)
    lists = (f"{name} {number}" for name, number in sorted(calls.items()) if name not in PER_DEPLOYMENT)
    return f"{single} for one deployment each, {', '.join(lists)}"


if __name__ == "__main__":
    sys.exit(main())
