"""The background process of one deployment: makes what is desired true, and writes down what it sees."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sqlite3
import sys
import time
from collections import deque
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlscale.autoscaling.policy import Memory, Window, desired_replicas, effective_bounds
from mlscale.deployment import Metric, Role, Scaling
from mlscale.errors import MlscaleError, WorkspaceFailed
from mlscale.providers.local import client, containers, logs, records
from mlscale.providers.local.client import Home
from mlscale.providers.local.containers import Containers
from mlscale.providers.local.metrics import Keeper
from mlscale.providers.local.processes import process_started
from mlscale.providers.local.records import Desired, DesiredRevision, Observed, ObservedRevision, RevisionFile
from mlscale.providers.local.replicas import DRAIN_S, Replica
from mlscale.providers.local.running import Processes, Runtime
from mlscale.serving.gateway import Gateway, Route
from mlscale.serving.listener import Listener, free_port, run
from mlscale.serving.upstream import Upstream

LOOK_EVERY_S = 0.05
BEAT_EVERY_S = 1.0
SCALE_EVERY_S = 2.0
LOCK_WITHIN_S = 0.3
"""Whoever looks whether the lock is held holds it for a moment: one failed try does not mean another supervisor."""

WINDOW_S = 60.0
"""Requests are counted over this window, as CloudWatch's one-minute metrics are."""

CONCURRENCY_WINDOW_S = 10.0
"""Open requests are averaged over this window (SageMaker's high-resolution metric comes every 10 s)."""


class Fleet:
    """One revision's replicas, and the count that is wanted now."""

    def __init__(self, home: Home, desired: DesiredRevision, wanted: int, supervisor: Supervisor) -> None:
        self.id = desired.id
        self.wanted = wanted
        self._desired = desired
        self.replicas: list[Replica] = []
        self._folder = home.revisions / desired.id
        self._logs = home.logs
        self._supervisor = supervisor
        self._number = 0
        self._memory = Memory()
        self._measured_since: float | None = None
        self._requests: deque[tuple[float, int]] = deque()
        self._open: deque[tuple[float, int]] = deque()
        self._cpu: tuple[float, Mapping[int, float]] = (0.0, {})

    @property
    def share(self) -> int:
        """Its part of the traffic, or of the copies, in basis points."""
        return self._desired.share

    def follow(self, desired: DesiredRevision) -> None:
        """Be what is desired now: its role and share; and its count, where another one was set than before."""
        before, self._desired = self._desired.start_with, desired
        if desired.start_with != before:
            self.wanted = max(self.wanted, desired.start_with) if desired.start_with > before else desired.start_with

    def resize(self) -> None:
        """Start or drain replicas until there are as many as wanted: first those that do not serve, then the newest."""
        while len(self.replicas) < self.wanted:
            self._number += 1
            name = f"{self.id}-{self._number}"
            log = self._logs / f"{name}.log"
            replica = Replica(name, self._folder, log, self._supervisor.runtime, self._supervisor.changed)
            self.replicas.append(replica)
            replica.start()
        while len(self.replicas) > self.wanted:
            idle = [number for number, each in enumerate(self.replicas) if each.health != "healthy"]
            self._supervisor.drain(self.replicas.pop(idle[-1] if idle else -1))

    def stop(self) -> None:
        """Drain all replicas; `wanted` stays as it is, for whoever takes over."""
        while self.replicas:
            self._supervisor.drain(self.replicas.pop())

    def measure(self, counted: int, open_now: int, now_s: float) -> None:
        """Remember how many requests were answered so far, and how many are open now."""
        if self._measured_since is None:
            self._measured_since = now_s
            # Taking over is a change as any other: cooldowns hold before the count that was found is touched.
            self._memory = Memory(last_in=datetime.now(UTC))
        for kept, value, window_s in (
            (self._requests, counted, WINDOW_S),
            (self._open, open_now, CONCURRENCY_WINDOW_S),
        ):
            kept.append((now_s, value))
            while now_s - kept[0][0] > window_s:
                kept.popleft()

    def rest(self) -> None:
        """Forget what was measured: without traffic there is nothing to go by, and later it begins anew."""
        self._measured_since = None
        self._requests.clear()
        self._open.clear()

    def scale(self, scaling: Scaling, now_s: float) -> None:
        """Decide how many replicas are wanted: the policy's word, or the bounds' alone when there is none.

        What is tried keeps at least those that its share needs, whatever the schedule says: that is the stable one's.
        """
        now = datetime.now(UTC)
        if self._desired.is_tried:
            least = self._desired.start_with
            most = max(scaling.max, least) if scaling.target or scaling.steps else least
            scaling = replace(scaling, min=least, max=most, schedule=())
        if not (scaling.target or scaling.steps):
            low, high = effective_bounds(scaling, now)
            self.wanted = max(low, min(high, self.wanted))
            return
        window = Window(
            replicas=self.wanted,
            requests_per_minute=(self._requests[-1][1] - self._requests[0][1]) * 60.0 / WINDOW_S,
            open_requests=sum(count for _, count in self._open) / len(self._open),
            cpu_percent=self._cpu_percent(now_s),
            is_whole=now_s - (self._measured_since or now_s) >= _longest_window(scaling),
        )
        wanted, self._memory, reason = desired_replicas(scaling, window, self._memory, now)
        if wanted != self.wanted:
            _log(f"revision {self.id}: {self.wanted} -> {wanted} replicas ({reason})")
            self.wanted = wanted

    def _cpu_percent(self, now_s: float) -> float | None:
        """Return the mean percent of one core that a healthy replica used since the last look; None if not known.

        One that came since is left out: what it used to load its model is no load.
        """
        used = {pid: seconds for each in self.replicas if (pid := each.healthy_pid) and (seconds := _cpu_seconds(pid))}
        (before_s, before), self._cpu = self._cpu, (now_s, used)
        known = used.keys() & before.keys()
        if not known:
            return None
        return 100.0 * sum(used[pid] - before[pid] for pid in known) / (now_s - before_s) / len(known)

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
        if self._desired.role is Role.SHADOW:
            return Route(self.id, 0, ready, copies=self.share)
        return Route(self.id, self.share, ready)


def _longest_window(scaling: Scaling) -> float:
    metrics = [*(each.metric for each in scaling.target), *(each.metric for each in scaling.steps)]
    return WINDOW_S if Metric.INVOCATIONS_PER_REPLICA in metrics else CONCURRENCY_WINDOW_S


def _cpu_seconds(pid: int) -> float | None:
    """Return the processor time of `pid` so far, None where the system does not say (proc(5), fields 14 and 15)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Supervisor:
    """The loop. One `changed` from anywhere makes it look again at once."""

    def __init__(self, home: Home, desired: Desired) -> None:
        self._home = home
        self._desired = desired
        self._gateway = Gateway(desired.name)
        self._fleets: dict[str, Fleet] = {}
        self._listener: Listener | None = None
        self._address = ("", -1)
        self._unbound = ""
        self._unread = ""
        self._published: list[tuple[str, int, int, tuple[Upstream, ...]]] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._stopping = False
        before = records.read_observed(home.path)
        self._last_port = before.port if before else 0
        self._last_wanted = {each.id: each.wanted for each in before.revisions} if before else {}
        self._seen: object = None
        self._next_scale = 0.0
        self._started = process_started(os.getpid())
        self._processes = Processes()
        self._containers = Containers(home.path, desired.name)
        self._keeper = Keeper(home.path)
        self._unkept = ""

    def changed(self) -> None:
        """Look again soon."""
        self._wake.set()

    def runtime(self, how: RevisionFile) -> Runtime:
        """Return what starts replicas of a revision."""
        return self._containers if how.image else self._processes

    def drain(self, replica: Replica) -> None:
        """Drain a replica beside everything else."""
        self._beside(replica.drain())

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def stop(self) -> None:
        """End everything, in order."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Make true what is desired until it is gone, or a signal comes."""
        loop = asyncio.get_running_loop()
        next_beat = 0.0
        while not self._stopping and self._reload():
            now_s = loop.time()
            await self._bind()
            self._sync()
            self._measure(now_s)
            if now_s >= self._next_scale:
                self._next_scale = now_s + SCALE_EVERY_S
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
        if seen == self._seen:
            return True
        self._seen, self._unread = seen, ""
        self._wake.set()
        try:
            desired = records.read_desired(self._home.path)
        except WorkspaceFailed as error:
            # What serves goes on as it was last desired.
            self._unread = error.why
            _log(str(error))
            return True
        self._desired = desired or self._desired
        self._next_scale = 0.0
        return desired is not None

    async def _bind(self) -> None:
        """Listen where it is desired; a taken port is told, and tried again while the old one goes on."""
        host, port = wanted = (self._desired.host, self._desired.port)
        if self._listener and (
            wanted == self._address or (host == self._listener.host and port in (0, self._last_port))
        ):
            self._address, self._unbound = wanted, ""
            return
        failed = ""
        for candidate in (port,) if port else (self._last_port, 0):
            try:
                await self._give_way(host, candidate)
                listener = Listener(self._gateway, host, candidate or free_port(host))
            except OSError as error:
                failed = f"{host}:{candidate} can't be used: {error.strerror}"
                continue
            if self._listener:
                self._beside(self._listener.stop(DRAIN_S))
            self._listener, self._address, self._unbound = listener, wanted, ""
            self._last_port = listener.port
            _log(f"listening on http://{listener.host}:{listener.port}")
            self._wake.set()
            return
        if failed != self._unbound:
            _log(failed)
            self._unbound = failed
            self._wake.set()

    async def _give_way(self, host: str, port: int) -> None:
        """Stop listening on `port` if another host wants it of us: one address may stand for the other.

        Raises:
            OSError: the host is not this machine's; we go on as we are.
        """
        if self._listener and port == self._listener.port:
            free_port(host)
            self._beside(self._listener.stop(DRAIN_S))
            self._listener = None
            await asyncio.sleep(0.05)

    def _sync(self) -> None:
        """Have a fleet for each desired revision, and no other."""
        wanted = {each.id: each for each in self._desired.revisions}
        for revision in [each for each in self._fleets if each not in wanted]:
            fleet = self._fleets.pop(revision)
            self._publish()
            fleet.stop()
        for revision, desired in wanted.items():
            if revision not in self._fleets:
                # A supervisor that takes another's place keeps the counts that autoscaling had set.
                count = self._last_wanted.get(revision, desired.start_with)
                if desired.is_tried:
                    count = max(count, desired.start_with)
                self._fleets[revision] = Fleet(self._home, desired, count, self)
                _log(f"revision {revision}: starts with {count}")
            self._fleets[revision].follow(desired)
            self._fleets[revision].resize()
        self._last_wanted = {}

    def _measure(self, now_s: float) -> None:
        for fleet in self._fleets.values():
            if fleet.share:
                counters = self._gateway.counters.get(fleet.id)
                counted, open_now = (counters.requests, counters.in_flight) if counters else (0, 0)
                fleet.measure(counted, open_now, now_s)
            else:
                fleet.rest()

    def _scale(self, now_s: float) -> None:
        for fleet in self._fleets.values():
            if fleet.share:
                fleet.scale(self._desired.scaling, now_s)
                self._publish()
                fleet.resize()

    def _publish(self) -> None:
        """Give the gateway the routes, unless they are as they were."""
        routes = [fleet.route() for fleet in self._fleets.values()]
        facts = [(route.revision, route.share, route.copies, route.upstreams) for route in routes]
        if facts != self._published:
            self._published = facts
            self._gateway.set_routes(routes)
            self._wake.set()

    def _observe(self) -> None:
        revisions = tuple(fleet.observed() for fleet in self._fleets.values())
        self._gateway.gauges = _gauges(revisions)
        self._keep_counts()
        for log in (self._home.path / records.SUPERVISOR_LOG, *self._home.logs.glob("*.log")):
            logs.bound_log(log)
        observed = Observed(
            pid=os.getpid(),
            pid_started=self._started,
            at=datetime.now(UTC),
            generation=self._desired.generation,
            host=self._desired.host,
            port=self._listener.port if self._listener else 0,
            revisions=revisions,
            failed=self._unbound or self._unread,
        )
        try:
            records.write(self._home.path / records.OBSERVED, observed)
        except OSError as error:
            _log(f"what is observed can't be written: {error}")

    def _keep_counts(self) -> None:
        """Write down what was counted; what can't be written now is kept for the next time."""
        failed = ""
        tally = self._gateway.tally
        try:
            self._keeper.add(tally.counts(), datetime.now(UTC))
            tally.taken()
        except sqlite3.Error as error:
            failed = f"what was counted can't be written: {error}"
        if failed != self._unkept:
            self._unkept = failed
            _log(failed or "what was counted is written again")

    async def _shut_down(self) -> None:
        """Take no more requests, let those that are open end, then end the replicas; beat all the while."""
        if self._listener:
            self._beside(self._listener.stop(DRAIN_S))
        await self._ended()
        self._gateway.set_routes(())
        for fleet in self._fleets.values():
            fleet.stop()
        await self._ended()
        self._keep_counts()
        self._keeper.close()
        _log("ended")

    async def _ended(self) -> None:
        while self._ending:
            await asyncio.wait(self._ending, timeout=BEAT_EVERY_S)
            self._observe()


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
    # Never closed: the lock goes with the last of this process, so that whoever waits for it finds nothing left.
    lock = os.open(home.path / records.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not _is_ours(lock):
        _log("another supervisor runs")
        return 0
    desired = records.read_desired(home.path)
    if desired is None:
        _log("nothing is desired")
        return 0
    os.chdir(home.path)
    client.end_replicas(records.read_observed(home.path), home)
    _end_containers(home)
    run(_run(home, desired))
    return 0


def _end_containers(home: Home) -> None:
    """End the containers whose supervisor died before it could; without an engine none runs."""
    if client.uses_containers(home):
        try:
            containers.remove_all(home.path)
        except MlscaleError as error:
            _log(str(error))


def _is_ours(lock: int) -> bool:
    limit = time.monotonic() + LOCK_WITHIN_S
    while time.monotonic() < limit:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.01)
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
