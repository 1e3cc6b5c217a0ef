"""A replica's process, from its start to its end, whenever that comes."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from mlscale.providers.local import records
from mlscale.providers.local.records import RevisionFile
from mlscale.providers.local.replicas import Replica
from mlscale.providers.local.running import Processes
from tests.e2e.conftest import processes_of

SERVER = """
import http.server, os
class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(os.environ["MLSCALE_PORT"])), Healthy).serve_forever()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A revision's folder, whose server is a small one of this test's."""
    package = tmp_path / "runtime" / "mlscale" / "serving"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "server.py").write_text(SERVER)
    (tmp_path / "model").mkdir()
    records.write(tmp_path / records.LAUNCH, RevisionFile(python=sys.executable, framework="custom"))
    return tmp_path


def _replica(folder: Path) -> Replica:
    processes = Processes()
    return Replica("one-1", folder, folder / "logs" / "one-1.log", lambda _: processes, lambda: None)


async def _until_healthy(replica: Replica) -> None:
    async with asyncio.timeout(20):
        while replica.health != "healthy":
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 4, 6, 10, 20])
def test_one_that_is_drained_while_it_starts_leaves_no_process(folder: Path, turns: int) -> None:
    """However many turns of the loop its start has had, no process is left when it was drained."""

    async def start_and_drain() -> None:
        replica = _replica(folder)
        replica.start()
        for _ in range(turns):
            await asyncio.sleep(0)
        await replica.drain()

    asyncio.run(start_and_drain())

    assert processes_of(folder) == {}


def test_files_that_come_back_are_found(folder: Path) -> None:
    """A replica without its files waits, says which are gone, and starts when they are there again."""

    async def lose_and_find() -> str:
        replica = _replica(folder)
        (folder / records.LAUNCH).rename(folder / "lost")
        replica.start()
        async with asyncio.timeout(10):
            while replica.health != "backing_off":
                await asyncio.sleep(0.02)
        told = replica.detail
        (folder / "lost").rename(folder / records.LAUNCH)
        await _until_healthy(replica)
        assert replica.failures == 0
        await replica.drain()
        return told

    assert asyncio.run(lose_and_find()) == f"its files are gone: {folder / records.LAUNCH}"


def test_one_that_can_not_be_executed_backs_off(folder: Path) -> None:
    """A Python that may not be run is told with the system's reason, and counts as a failed start."""
    (folder / "python").write_text("")
    records.write(folder / records.LAUNCH, RevisionFile(python=str(folder / "python"), framework="custom"))

    async def fail_twice() -> Replica:
        replica = _replica(folder)
        replica.start()
        async with asyncio.timeout(10):
            while replica.failures < 2:
                await asyncio.sleep(0.02)
        await replica.drain()
        return replica

    assert "Permission denied" in asyncio.run(fail_twice()).detail


def test_one_that_ignores_its_end_is_killed(folder: Path) -> None:
    """A server that does not end when it is asked to is ended all the same, in seconds."""
    server = folder / "runtime" / "mlscale" / "serving" / "server.py"
    server.write_text("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVER)

    async def drain_when_healthy() -> None:
        replica = _replica(folder)
        replica.start()
        await _until_healthy(replica)
        async with asyncio.timeout(10):
            await replica.drain()

    asyncio.run(drain_when_healthy())

    assert processes_of(folder) == {}


def test_its_environment_is_the_models_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model sees its own variables and none of whoever deployed it."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-caller")
    server = folder / "runtime" / "mlscale" / "serving" / "server.py"
    server.write_text("import os\nprint(sorted(os.environ), flush=True)\n" + SERVER)
    launch = RevisionFile(python=sys.executable, framework="custom", environment={"DEPTH": "3"})
    records.write(folder / records.LAUNCH, launch)

    async def run_once() -> None:
        replica = _replica(folder)
        replica.start()
        await _until_healthy(replica)
        await replica.drain()

    asyncio.run(run_once())

    said = (folder / "logs" / "one-1.log").read_text()
    assert "DEPTH" in said
    assert "AWS_SECRET_ACCESS_KEY" not in said
