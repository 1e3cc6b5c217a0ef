"""Signals to real processes: the first stops in order, the second at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, Cli

BLOCKED = """
import sys
import threading

from mlscale.cli.app import main
from mlscale.clock import SystemClock
from mlscale.engine.session import World
from mlscale.state.store import open_store
from tests.doubles.fake_provider import FakeProvider


def blocks(key):
    print("in a step", flush=True)
    threading.Event().wait()


provider = FakeProvider()
provider.meanwhile = blocks
world = World(provider=lambda site: provider, store=open_store, clock=SystemClock(), variables={})
sys.exit(main(sys.argv[1:], world))
"""
SPEC = "version: 1\nname: reviews\nprovider: local\nmodel: {source: model.bin, framework: custom}\n"
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.fixture
def blocked(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A deploy whose step is in a call that does not end."""
    (tmp_path / "spec.yaml").write_text(SPEC)
    (tmp_path / "model.bin").write_text("one")
    process = subprocess.Popen(
        [sys.executable, "-c", BLOCKED, "deploy"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "in a step\n"
    yield process
    process.kill()
    process.communicate()


def line_that_begins(process: subprocess.Popen[str], beginning: str) -> str:
    """Return the next line on stderr that begins so."""
    assert process.stderr
    return next(line for line in process.stderr if line.startswith(beginning))


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_the_second_signal_stops_at_once(
    blocked: subprocess.Popen[str], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """The first says what is under way and waits for it, the second does not, and the lease is free."""
    blocked.send_signal(number)
    said = line_that_begins(blocked, "stopping")
    assert said == "stopping at the next safe point; under way: create\n"
    assert line_that_begins(blocked, "once more") == "once more stops at once\n"

    blocked.send_signal(number)

    assert blocked.wait(timeout=10) == code
    assert blocked.stderr
    assert blocked.stderr.read() == "error: stopped at once\n\nhint: the same command again goes on\n"
    assert '"owner": null' in (tmp_path / ".mlscale" / "leases" / "reviews.json").read_text()


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_ends_what_only_looks(custom: Cli, number: signal.Signals, code: int) -> None:
    """A command that changes nothing ends with the first signal, and has nothing to say about it."""
    assert custom.run("deploy").returncode == 0
    process = subprocess.Popen(
        custom.command("logs", "--follow"),
        cwd=custom.folder,
        env=custom.environment(None),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert "serving on" in process.stdout.readline()

    process.send_signal(number)
    _, stderr = process.communicate(timeout=10)

    assert (process.returncode, stderr) == (code, "")


def test_a_timeout_ends_what_follows(custom: Cli) -> None:
    """`logs --follow --timeout` ends by itself with exit code 8; the lines until then are on stdout."""
    assert custom.run("deploy").returncode == 0

    followed = custom.run("logs", "--follow", "--timeout", "0.5s")

    assert followed.returncode == 8
    assert "serving on" in followed.stdout
    assert "0.5s ended while the log was read" in followed.stderr
