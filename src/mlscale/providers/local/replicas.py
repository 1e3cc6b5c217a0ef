"""The replicas of one revision: started, checked, started again when they end, drained when they are not wanted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mlscale.errors import MlscaleError
from mlscale.providers.local import records
from mlscale.providers.local.records import ObservedReplica, RevisionFile
from mlscale.providers.local.running import Launch, Running, Runtime
from mlscale.serving.health import DEVICE_HEADER
from mlscale.serving.upstream import AnswerTooLargeError, Response, Upstream, UpstreamBrokenError

CHECK_STARTING_S = 0.1
CHECK_HEALTHY_S = 2.0
CHECK_TIMEOUT_S = 2.0
UNHEALTHY_AFTER = 3
BACK_OFF_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
SETTLED_AFTER_S = 60.0
FILES_AGAIN_S = 1.0
"""How soon a replica whose files are gone looks for them again: `deploy` puts them back."""

DRAIN_S = 30.0
END_S = 5.0


@dataclass(slots=True, eq=False)
class Replica:
    """One model server, started again and again until it is not wanted."""

    name: str
    folder: Path
    log: Path
    runtime: Callable[[RevisionFile], Runtime]
    changed: Callable[[], None]
    health: str = "starting"
    restarts: int = 0
    failures: int = 0
    detail: str = ""
    upstream: Upstream | None = None
    _running: Running | None = None
    _task: asyncio.Task[None] | None = field(default=None)

    def start(self) -> None:
        """Begin to run it."""
        self._task = asyncio.ensure_future(self._live())

    def observed(self) -> ObservedReplica:
        """Return it as it is now."""
        return ObservedReplica(
            name=self.name,
            pid=self._running.pid if self._running else 0,
            port=self.upstream.port if self.upstream else 0,
            health=self.health,
            restarts=self.restarts,
            detail=self.detail,
        )

    @property
    def healthy_pid(self) -> int:
        """The process that serves, 0 while none does or it is none of this system."""
        return self._running.pid if self._running and self.health == "healthy" else 0

    async def drain(self) -> None:
        """Let open requests end, then end the server; it is out of rotation already."""
        self._become("draining")
        limit = time.monotonic() + DRAIN_S
        while self.upstream and self.upstream.in_flight and time.monotonic() < limit:
            await asyncio.sleep(0.02)
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._end(END_S)

    async def _live(self) -> None:
        while True:
            begun = time.monotonic()
            try:
                launch = records.read_launch(self.folder)
                await self._begin(launch)
            except FileNotFoundError as error:
                self._become("backing_off", f"its files are gone: {error.filename}")
                await asyncio.sleep(FILES_AGAIN_S)
                continue
            except (OSError, MlscaleError) as error:
                self._become("backing_off", f"it can't be started: {error}")
                await self._back_off()
                continue
            watched = asyncio.ensure_future(self._checked(launch))
            try:
                await self._until_ended(watched)
            finally:
                watched.cancel()
            if time.monotonic() - begun > SETTLED_AFTER_S:
                self.failures = 0
            self.restarts += 1
            self._become("backing_off")
            await self._back_off()

    async def _back_off(self) -> None:
        self.failures += 1
        await asyncio.sleep(BACK_OFF_S[min(self.failures, len(BACK_OFF_S)) - 1])

    async def _begin(self, how: RevisionFile) -> None:
        self.log.parent.mkdir(exist_ok=True)
        starting = asyncio.ensure_future(self.runtime(how).start(Launch(self.name, self.folder, how, self.log)))
        try:
            self._running = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # Drained in this very moment: what starts must be known to be ended.
            with suppress(OSError, MlscaleError):
                self._running = await starting
            raise
        self.upstream = Upstream(self.name, self._running.host, self._running.port)
        self._become("starting")

    async def _until_ended(self, watched: asyncio.Task[str]) -> None:
        """Return when the server ended, by itself or because its checks failed; `detail` says how."""
        if self._running is None:
            return
        ending = asyncio.ensure_future(self._running.ended())
        await asyncio.wait({ending, watched}, return_when=asyncio.FIRST_COMPLETED)
        if ending.done():
            self._become("backing_off", ending.result())
        else:
            ending.cancel()
            self._become("unhealthy", watched.result())
        await self._end(1.0)

    async def _checked(self, launch: RevisionFile) -> str:
        """Return why the replica is not healthy any more; until then keep `health` true."""
        limit = time.monotonic() + launch.startup_timeout_s
        while (answer := await self._answer(launch.health_path)) is None:
            if time.monotonic() > limit:
                return f"not healthy within {launch.startup_timeout_s:g} s of its start"
            await asyncio.sleep(CHECK_STARTING_S)
        self.failures = 0
        device = dict(answer.headers).get(DEVICE_HEADER, "")
        self._become("healthy", f"on {device}" if device else "")
        missed = 0
        while missed < UNHEALTHY_AFTER:
            await asyncio.sleep(CHECK_HEALTHY_S)
            missed = 0 if await self._answer(launch.health_path) else missed + 1
        return f"GET {launch.health_path} failed {missed} times in a row"

    async def _answer(self, path: str) -> Response | None:
        """Return what says that the replica can serve, None while it does not."""
        if self.upstream is None or not self.upstream.host:
            return None
        probe = Upstream(self.name, self.upstream.host, self.upstream.port)
        try:
            answer = await probe.request("GET", path, (), b"", CHECK_TIMEOUT_S)
        except (UpstreamBrokenError, AnswerTooLargeError, TimeoutError):
            return None
        finally:
            probe.close()
        return answer if answer.status == 200 else None  # noqa: PLR2004 - what both clouds take for healthy

    async def _end(self, timeout_s: float) -> None:
        if self._running:
            await self._running.end(timeout_s)
        if self.upstream:
            self.upstream.close()

    def _become(self, health: str, detail: str | None = None) -> None:
        if detail is not None:
            self.detail = detail
        self.health = health
        self.changed()
