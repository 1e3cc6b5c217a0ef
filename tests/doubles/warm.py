"""`mlscale` without its start: a process that has everything loaded, and a fork of it for each command.

    python -m tests.doubles.warm [MODULE...]

Requests and answers are lines of JSON on stdin and stdout. `{"begin": {"words": [...], "folder": "...",
"environment": {...}, "clock": ""}}` gives `{"pid": 1}`, a process that waits for `{"go": 1}`; `{"end": 1}` gives what
came of it, `{"code": 0, "stdout": "...", "stderr": "..."}`, with the code -9 for one that was killed. Its clock is this
machine's, or with the address of a double's control API that double's.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.doubles import double_clock

ROOT = Path(__file__).resolve().parents[2]
LONGEST_S = 120
"""After this many seconds a command is ended by SIGALRM."""

SERVICES = ("sts", "s3", "iam", "ecr", "sagemaker", "application-autoscaling", "cloudwatch", "logs", "service-quotas")
NOT_LOADED = ("mlscale.serving", "mlscale.providers.local", "mlscale.providers.vertex")


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of a command; the code of one that was killed is the signal's number below zero."""

    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Begun:
    """A command whose process is there, and does nothing until it may."""

    warm: Warm
    pid: int

    def go(self) -> None:
        """Let it begin."""
        self.warm.ask(go=self.pid)

    def end(self) -> Ended:
        """Wait for its end, and return what came of it."""
        return Ended(**self.warm.ask(end=self.pid))


class Warm:
    """A running process that forks."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def begin(self, words: tuple[str, ...], folder: Path, environment: Mapping[str, str], *, clock: str = "") -> Begun:
        """Return a command that waits to be let go."""
        asked = {"words": words, "folder": str(folder), "environment": dict(environment), "clock": clock}
        return Begun(self, self.ask(begin=asked)["pid"])

    def ask(self, **request: Any) -> Any:
        """Return the answer to one request."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@contextmanager
def warm(*modules: str) -> Iterator[Warm]:
    """Have such a process while the block runs, which has `modules` loaded, too."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.doubles.warm", *modules],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield Warm(process)
        process.kill()


def main() -> int:
    """Answer requests until stdin ends."""
    _load()
    for module in sys.argv[1:]:
        importlib.import_module(module)
    children: dict[int, _Child] = {}
    for line in sys.stdin:
        match json.loads(line):
            case {"begin": asked}:
                child = _forked(asked)
                children[child.pid] = child
                answer: Any = {"pid": child.pid}
            case {"go": pid}:
                os.write(children[pid].gate, b"go")
                answer = {}
            case {"end": pid}:
                answer = _outcome(children.pop(pid))
            case other:
                raise ValueError(other)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    return 0


def _load() -> None:
    """Import what commands import, and read what boto3 reads; no thread is started, which a fork would not have."""
    import boto3
    import botocore.session
    from botocore.loaders import create_loader

    import mlscale

    for module in pkgutil.walk_packages(mlscale.__path__, "mlscale."):
        if not module.name.startswith(NOT_LOADED):
            importlib.import_module(module.name)
    # A session of botocore reads the services' descriptions anew, which takes longer than all else that a command does.
    loader = create_loader()
    botocore.session.create_loader = lambda *_: loader
    session = boto3.Session(botocore_session=botocore.session.get_session(), region_name="us-east-1")
    for service in SERVICES:
        session.client(service, aws_access_key_id="none", aws_secret_access_key="none")


@dataclass(frozen=True, slots=True)
class _Child:
    """A fork: a byte into `gate` lets it go; it writes into files."""

    pid: int
    gate: int
    stdout: Path
    stderr: Path


def _forked(asked: Mapping[str, Any]) -> _Child:
    """Return a fork; in the fork itself, never return."""
    outputs = [Path(tempfile.mkstemp(prefix="mlscale-warm-")[1]) for _ in range(2)]
    waiting, gate = os.pipe()
    pid = os.fork()
    if pid:
        os.close(waiting)
        return _Child(pid, gate, *outputs)
    os.setsid()
    for number, place in enumerate((Path(os.devnull), *outputs)):
        os.dup2(os.open(place, os.O_RDWR), number)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.read(waiting, 2)
    signal.alarm(LONGEST_S)
    sys.argv = ["mlscale", *asked["words"]]
    if clock := asked["clock"]:
        sys.exit(double_clock.run(asked["words"], clock))
    from mlscale.cli.start import main as mlscale

    sys.exit(mlscale())


def _outcome(child: _Child) -> dict[str, Any]:
    code = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
    os.close(child.gate)
    said = {"stdout": child.stdout.read_text(), "stderr": child.stderr.read_text()}
    child.stdout.unlink()
    child.stderr.unlink()
    return {"code": code, **said}


if __name__ == "__main__":
    sys.exit(main())
