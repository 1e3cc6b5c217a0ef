"""What a replica is while it runs, and the one that is a process."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mlscale.providers.local import logs
from mlscale.providers.local.records import RevisionFile
from mlscale.serving.listener import free_port

HOST = "127.0.0.1"
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH")
"""What a replica gets of the supervisor's environment; a model sees no credentials of whoever deployed it."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What to start: a replica's name, the folder of its revision and how that is run, and where its log goes."""

    name: str
    folder: Path
    how: RevisionFile
    log: Path


class Running(Protocol):
    """Something that was started. `pid` is 0 where it is no process of this system, `host` empty once it is gone."""

    pid: int
    host: str
    port: int

    async def ended(self) -> str:
        """Return how it ended, when it has."""

    async def end(self, timeout_s: float) -> None:
        """Ask it to end, have it ended when it has not by then, and leave nothing of it."""


class Runtime(Protocol):
    """What starts replicas."""

    async def start(self, launch: Launch) -> Running:
        """Return a replica's server, just started.

        Raises:
            FileNotFoundError: what it is made of is gone.
            OSError | MlscaleError: it can't be started.
        """


def end_text(how: str, log: Path) -> str:
    """Return how something ended, with the last line that it wrote."""
    last = logs.last_lines(log, 1).strip()[:300]
    return f"{how}: {last}" if last else how


class Processes:
    """Starts replicas as processes."""

    async def start(self, launch: Launch) -> Running:
        """Return the model server of the revision in its own Python."""
        port = free_port(HOST)
        with launch.log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                launch.how.python,
                "-m",
                "mlscale.serving.server",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=launch.folder / "model",
                env=_environment(launch, port),
            )
        return _Process(process, port, launch.log)


def _environment(launch: Launch, port: int) -> dict[str, str]:
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    ours = {
        "PYTHONPATH": str(launch.folder / "runtime"),
        "PYTHONUNBUFFERED": "1",
        "MLSCALE_MODEL_DIR": str(launch.folder / "model"),
        "MLSCALE_FRAMEWORK": launch.how.framework,
        "MLSCALE_HEALTH_PATH": launch.how.health_path,
        "MLSCALE_HOST": HOST,
        "MLSCALE_PORT": str(port),
        "MLSCALE_PARENT_PID": str(os.getpid()),
    }
    if launch.how.handler:
        ours["MLSCALE_HANDLER"] = launch.how.handler
    return {**kept, **launch.how.environment, **ours}


class _Process:
    """One process of the model server."""

    host = HOST

    def __init__(self, process: asyncio.subprocess.Process, port: int, log: Path) -> None:
        self._process = process
        self._log = log
        self.pid = process.pid
        self.port = port

    async def ended(self) -> str:
        code = await self._process.wait()
        how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return end_text(how, self._log)

    async def end(self, timeout_s: float) -> None:
        if self._process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), timeout_s)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
