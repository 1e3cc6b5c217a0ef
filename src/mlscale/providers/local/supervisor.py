"""The background process of one deployment: makes what is desired true, and writes down what it sees."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from mlscale.autoscaling.policy import Memory, Window, desired_replicas, effective_bounds
from mlscale.deployment import Scaling
from mlscale.providers.local import client, records
from mlscale.providers.local.client import Home
from mlscale.providers.local.records import (
    Desired,
    DesiredRevision,
    Observed,
    ObservedRevision,
    RevisionFile,
)
from mlscale.providers.local.replicas import Replica
from mlscale.serving.gateway import Gateway, Route
from mlscale.serving.listener import Listener, free_port

LOOK_EVERY_S = 0.05
BEAT_EVERY_S = 1.0
SCALE_EVERY_S = 2.0
WINDOW_S = 60.0
"""Requests are counted over this window, as CloudWatch's one-minute metrics are."""

CONCURRENCY_WINDOW_S = 10.0
"""Open requests are averaged over this window (SageMaker's high-resolution metric comes every 10 s)."""


class Fleet:
    """One revision's replicas, and the count that is wanted now."""

    def __init__(self, home: Home, desired: DesiredRevision, supervisor: Supervisor) -> None:
        folder = home.revisions / desired.id
        self.id = desired.id
        self.share = desired.share
        self.wanted = desired.start_with
        self.replicas: list[Replica] = []
        self._folder = folder
        self._logs = home.logs
        self._supervisor = supervisor
        self._launch = RevisionFile.model_validate_json((folder / "revision.json").read_bytes())
        self._number = 0
        self._memory = Memory()
        self._requests: list[tuple[float, int]] = []
        self._open: list[tuple[float, int]] = []
        self._cpu: tuple[float, float] | None = None

    def resize(self) -> None:
        """Start or drain replicas until there are as many as wanted; the newest go first."""
        while len(self.replicas) < self.wanted:
            self._number += 1
            name = f"{self.id}-{self._number}"
            replica = Replica(name, self._folder, self._logs / f"{name}.log", self._launch, self._supervisor.changed)
            self.replicas.append(replica)
            replica.start()
        while len(self.replicas) > self.wanted:
            self._supervisor.drain(self.replicas.pop())

    def scale(self, scaling: Scaling, counted: int, open_now: int, now_s: float) -> None:
        """Decide how many replicas are wanted: the policy's word, or the bounds' alone when there is none."""
        now = datetime.now(UTC)
        if not (scaling.target or scaling.steps):
            low, high = effective_bounds(scaling, now)
            self.wanted = max(low, min(high, self.wanted))
            return
        window = Window(
            replicas=self.wanted,
            requests_per_minute=self._rate(counted, now_s),
            open_requests=self._mean_open(open_now, now_s),
            cpu_percent=self._cpu_percent(now_s),
        )
        wanted, self._memory, reason = desired_replicas(scaling, window, self._memory, now)
        if wanted != self.wanted:
            _log(f"revision {self.id}: {self.wanted} -> {wanted} replicas ({reason})")
            self.wanted = wanted

    def sample(self, open_now: int, now_s: float) -> None:
        """Remember how many requests are open now."""
        self._open = [each for each in self._open if now_s - each[0] <= CONCURRENCY_WINDOW_S]
        self._open.append((now_s, open_now))

    def _rate(self, counted: int, now_s: float) -> float:
        self._requests = [each for each in self._requests if now_s - each[0] <= WINDOW_S]
        self._requests.append((now_s, counted))
        return (counted - self._requests[0][1]) * 60.0 / WINDOW_S

    def _mean_open(self, open_now: int, now_s: float) -> float:
        self.sample(open_now, now_s)
        return sum(count for _, count in self._open) / len(self._open)

    def _cpu_percent(self, now_s: float) -> float | None:
        """Return the mean percent of one core that a replica used since the last look (proc(5), fields 14, 15)."""
        used = 0.0
        for replica in self.replicas:
            try:
                fields = Path(f"/proc/{replica.observed().pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            used += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        before, self._cpu = self._cpu, (now_s, used)
        if before is None or now_s <= before[0] or used < before[1] or not self.replicas:
            return None
        return 100.0 * (used - before[1]) / (now_s - before[0]) / len(self.replicas)

    def observed(self) -> ObservedRevision:
        """Return it as it is now."""
        return ObservedRevision(
            id=self.id,
            share=self.share,
            wanted=self.wanted,
            failures=max((each.failures for each in self.replicas), default=0),
            replicas=tuple(each.observed() for each in self.replicas),
        )

    def route(self) -> Route:
        """Return its way in: the healthy replicas."""
        ready = tuple(each.upstream for each in self.replicas if each.health == "healthy" and each.upstream)
        return Route(self.id, self.share, ready)


class Supervisor:
    """The loop. One `changed` from anywhere makes it look again at once."""

    def __init__(self, home: Home, desired: Desired) -> None:
        self._home = home
        self._desired = desired
        self._gateway = Gateway(desired.name)
        self._fleets: dict[str, Fleet] = {}
        self._listener: Listener | None = None
        self._address = ("", -1)
        self._failed = ""
        self._draining: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._stopping = False
        before = records.read_observed(home.path)
        self._last_port = before.port if before else 0
        self._seen: object = None
        self._started = client.process_started(os.getpid())

    def changed(self) -> None:
        """Look again soon."""
        self._wake.set()

    def drain(self, replica: Replica) -> None:
        """Drain a replica beside everything else."""
        task = asyncio.ensure_future(replica.drain())
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    def stop(self) -> None:
        """End everything, in order."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Make true what is desired until it is gone, or a signal comes."""
        loop = asyncio.get_running_loop()
        next_beat = next_scale = 0.0
        while not self._stopping and self._reload():
            now_s = loop.time()
            await self._bind()
            self._sync()
            if now_s >= next_scale:
                next_scale = now_s + SCALE_EVERY_S
                self._scale(now_s)
            self._publish()
            if self._wake.is_set() or now_s >= next_beat:
                self._wake.clear()
                next_beat = now_s + BEAT_EVERY_S
                self._observe()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), LOOK_EVERY_S)
        await self._shut_down()

    def _reload(self) -> bool:
        """Read what is desired if it changed; False when it is gone."""
        try:
            stat = (self._home.path / records.DESIRED).stat()
        except FileNotFoundError:
            return False
        seen = (stat.st_mtime_ns, stat.st_ino)
        if seen != self._seen:
            desired = records.read_desired(self._home.path)
            if desired is None:
                return False
            self._desired, self._seen = desired, seen
            self._wake.set()
        return True

    async def _bind(self) -> None:
        """Listen where it is desired; a taken port is told, and tried again."""
        wanted = (self._desired.host, self._desired.port)
        if wanted == self._address and self._listener:
            return
        port = self._desired.port
        candidates = [port] if port else [*filter(None, [self._last_port]), free_port(self._desired.host)]
        for candidate in candidates:
            try:
                listener = Listener(self._gateway, self._desired.host, candidate)
            except OSError as error:
                failed = f"{self._desired.host}:{candidate} can't be used: {error.strerror}"
                continue
            if self._listener:
                await self._listener.stop()
            self._listener, self._address, self._failed = listener, wanted, ""
            self._last_port = candidate
            _log(f"listening on http://{listener.host}:{listener.port}")
            self._wake.set()
            return
        if failed != self._failed:
            _log(failed)
            self._failed = failed
            self._wake.set()

    def _sync(self) -> None:
        """Have a fleet for each desired revision, and no other."""
        wanted = {each.id: each for each in self._desired.revisions}
        for revision in [each for each in self._fleets if each not in wanted]:
            fleet = self._fleets.pop(revision)
            fleet.wanted = 0
            self._publish()
            fleet.resize()
        for revision, desired in wanted.items():
            fleet_or_none = self._fleets.get(revision)
            if fleet_or_none is None:
                fleet_or_none = self._fleets[revision] = Fleet(self._home, desired, self)
                _log(f"revision {revision}: {desired.start_with} replicas")
            fleet_or_none.share = desired.share
            fleet_or_none.resize()

    def _scale(self, now_s: float) -> None:
        for fleet in self._fleets.values():
            counters = self._gateway.counters.get(fleet.id)
            counted, open_now = (counters.requests, counters.in_flight) if counters else (0, 0)
            if fleet.share:
                fleet.scale(self._desired.scaling, counted, open_now, now_s)
                self._publish()
                fleet.resize()

    def _publish(self) -> None:
        """Give the gateway the routes, unless they are as they were: its turns would begin anew."""
        routes = [fleet.route() for fleet in self._fleets.values()]
        facts = [(route.revision, route.share, route.upstreams) for route in routes]
        if facts != getattr(self, "_published", None):
            self._published = facts
            self._gateway.set_routes(routes)
            self._wake.set()

    def _observe(self) -> None:
        revisions = tuple(fleet.observed() for fleet in self._fleets.values())
        self._gateway.gauges = _gauges(revisions)
        observed = Observed(
            pid=os.getpid(),
            pid_started=self._started,
            at=datetime.now(UTC),
            generation=self._desired.generation,
            host=self._desired.host,
            port=self._listener.port if self._listener else 0,
            revisions=revisions,
            failed=self._failed,
        )
        try:
            records.write(self._home.path / records.OBSERVED, observed)
        except OSError as error:
            _log(f"what is observed can't be written: {error}")

    async def _shut_down(self) -> None:
        self._gateway.set_routes(())
        if self._listener:
            await self._listener.stop(5.0)
        for fleet in self._fleets.values():
            fleet.wanted = 0
            fleet.resize()
        if self._draining:
            await asyncio.wait(self._draining)
        _log("ended")


def _gauges(revisions: tuple[ObservedRevision, ...]) -> Mapping[str, Mapping[str, float]]:
    wanted = {f'revision="{each.id}"': float(each.wanted) for each in revisions}
    running: dict[str, float] = {}
    for each in revisions:
        for replica in each.replicas:
            key = f'revision="{each.id}",health="{replica.health}"'
            running[key] = running.get(key, 0.0) + 1.0
    return {"mlscale_replicas_wanted": wanted, "mlscale_replicas": running}


async def _run(home: Home, desired: Desired) -> None:
    supervisor = Supervisor(home, desired)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stop)
    await supervisor.run()


def _log(text: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}\n")


def main(path: str) -> int:
    """Supervise the deployment in the folder `path`; return at once if another process does."""
    home = Home(Path(path).resolve())
    with (home.path / records.LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log("another supervisor runs")
            return 0
        desired = records.read_desired(home.path)
        if desired is None:
            _log("nothing is desired")
            return 0
        os.chdir(home.path)
        client.end_replicas(records.read_observed(home.path), home)
        asyncio.run(_run(home, desired))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
