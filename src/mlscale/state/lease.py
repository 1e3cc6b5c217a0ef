"""The lease on a deployment: one run changes it at a time, and a run that died is not waited for."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from getpass import getuser
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict

from mlscale.clock import Clock
from mlscale.errors import LeaseHeld, LeaseLost, MlscaleError, WorkspaceFailed
from mlscale.state.store import Store, Stored

EXPIRY_S = 60.0
BEAT_S = 15.0
LOOK_EVERY_S = 1.0

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Owner(BaseModel):
    """Who holds a lease. The process is named so that a later run on the same machine can see that it is gone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str
    user: str
    boot: str
    namespace: str
    pid: int
    pid_started: str
    command: str
    run_id: str
    since: AwareDatetime


class LeaseFile(BaseModel):
    """The lease as it lies in the workspace. `fence` grows with every holder, `beat` with every heartbeat."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    fence: int
    beat: int
    owner: Owner | None


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a lease lives without a heartbeat, and how often that comes, in seconds."""

    expiry_s: float = EXPIRY_S
    beat_s: float = BEAT_S


class Held:
    """A lease that is ours until it is released; a context manager. `fence` is our number."""

    def __init__(
        self, store: Store, path: str, file: LeaseFile, version: str, clock: Clock, timing: Timing, asked_at: float
    ) -> None:
        """Hold what `acquire` took; `asked_at` is the monotonic time before the write."""
        self._store = store
        self._path = path
        self._file = file
        self._version = version
        self._clock = clock
        self._timing = timing
        self._renewed = asked_at
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.lost = False
        self.fence = file.fence
        threading.Thread(target=self._beat_on, name="lease", daemon=True).start()

    def check(self, longest_call_s: float) -> None:
        """Return if a call of at most `longest_call_s` seconds may start.

        Raises:
            LeaseLost: another run holds the lease, or ours would end during the call.
        """
        left = self._timing.expiry_s - (self._clock.monotonic() - self._renewed)
        if not self.lost and left < longest_call_s:
            self.beat()
            left = self._timing.expiry_s - (self._clock.monotonic() - self._renewed)
        if self.lost or left < longest_call_s:
            raise LeaseLost(
                "the lease on the deployment was lost",
                why="another run took it" if self.lost else f"it could not be renewed for {self._timing.expiry_s:g} s",
                hint="run the same command again: it goes on from what is there",
            )

    def beat(self) -> None:
        """Renew the lease; `lost` says if it was not ours any more. A workspace out of reach is tried again later."""
        with self._lock:
            if self.lost or self._ended.is_set():
                return
            asked_at = self._clock.monotonic()
            try:
                self.lost = not self._written({"beat": self._file.beat + 1})
            except MlscaleError:
                return
            if not self.lost:
                self._renewed = asked_at

    def advance(self) -> None:
        """Take the next fence: another run begins under the same lease, and its journal comes after the one before.

        Raises:
            LeaseLost: another run holds the lease.
        """
        with self._lock:
            self.lost = self.lost or not self._written({"fence": self._file.fence + 1})
            self.fence = self._file.fence
        self.check(0.0)

    def release(self) -> None:
        """Let go; doing it twice, or after a loss, is harmless.

        A workspace out of reach is not an error here: it would hide how the run ended, and the lease ends by itself.
        """
        with self._lock:
            if self._ended.is_set():
                return
            self._ended.set()
            if not self.lost:
                with suppress(MlscaleError):
                    self._written({"owner": None})

    def _written(self, update: Mapping[str, object]) -> bool:
        """Return whether the lease is still ours, after its file has the fields of `update`."""
        after = self._file.model_copy(update=dict(update))
        version = self._store.replace(self._path, _bytes(after), self._version)
        if version is None:
            # A write whose answer was lost has changed the version; nobody else writes our fence with our name.
            found = self._store.get(self._path)
            file = _parsed(found, self._path)
            if found is None or file is None or file.owner != self._file.owner:
                return False
            if file.fence not in (self.fence, after.fence):
                return False
            version = self._store.replace(self._path, _bytes(after), found.version)
        if version is None:
            return False
        self._file, self._version = after, version
        return True

    def _beat_on(self) -> None:
        while not self._ended.wait(self._timing.beat_s):
            self.beat()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def acquire(
    store: Store,
    name: str,
    *,
    command: str,
    run_id: str,
    clock: Clock,
    wait_s: float = 0.0,
    timing: Timing = Timing(),
    on_wait: Callable[[Owner], None] | None = None,
) -> Held:
    """Return the lease on the deployment `name`, waiting up to `wait_s` seconds for another run to let go.

    A holder that was a process of this machine and is gone is not waited for. One elsewhere counts as gone when its
    lease has not changed for `timing.expiry_s` seconds of this process's own monotonic clock: no two clocks are
    compared. `run_id` must be this run's alone: a lease with our fence and our name counts as taken by us.

    Raises:
        LeaseHeld: another run holds it, and did all the while.
    """
    path = f"leases/{name}.json"
    limit = clock.monotonic() + wait_s
    me = myself(command, run_id, clock.now())
    watched, since = "", clock.monotonic()
    while True:
        found = store.get(path)
        if found is None or found.version != watched:
            watched, since = found.version if found else "", clock.monotonic()
        file = _parsed(found, path)
        quiet = clock.monotonic() - since >= timing.expiry_s
        if file is None or file.owner is None or quiet or is_gone(file.owner):
            asked_at = clock.monotonic()
            mine = LeaseFile(fence=file.fence + 1 if file else 1, beat=0, owner=me)
            version = _taken(store, path, mine, found)
            if version is not None:
                return Held(store, path, mine, version, clock, timing, asked_at)
            continue
        if clock.monotonic() >= limit:
            raise _held(file.owner, wait_s)
        if on_wait:
            on_wait(file.owner)
        clock.sleep(min(LOOK_EVERY_S, timing.beat_s, limit - clock.monotonic()))


def holder(store: Store, name: str) -> Owner | None:
    """Return who holds the lease on `name`, None when it is free."""
    path = f"leases/{name}.json"
    file = _parsed(store.get(path), path)
    return None if file is None or file.owner is None or is_gone(file.owner) else file.owner


def myself(command: str, run_id: str, now: datetime) -> Owner:
    """Return this process as the owner of a lease."""
    return Owner(
        host=socket.gethostname(),
        user=_user(),
        boot=_boot(),
        namespace=_namespace(),
        pid=os.getpid(),
        pid_started=_started(os.getpid()),
        command=command,
        run_id=run_id,
        since=now,
    )


def is_gone(owner: Owner) -> bool:
    """Return whether `owner` was a process of this machine that does not run any more; False when we can't know."""
    if not (owner.boot and owner.namespace and owner.pid_started):
        return False
    if (owner.boot, owner.namespace, owner.host) != (_boot(), _namespace(), socket.gethostname()):
        return False
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's, and alive; /proc mounted with hidepid does not show it
    started = _started(owner.pid)
    return bool(started) and started != owner.pid_started


def _taken(store: Store, path: str, mine: LeaseFile, found: Stored | None) -> str | None:
    data = _bytes(mine)
    version = store.create(path, data) if found is None else store.replace(path, data, found.version)
    if version is None:
        # Either another run was faster, or the answer to our own write was lost and it was sent again.
        now = store.get(path)
        return now.version if now is not None and now.data == data else None
    return version


def _held(owner: Owner, wait_s: float) -> LeaseHeld:
    waited = f", waited {wait_s:g} s" if wait_s else ""
    return LeaseHeld(
        "another run is changing this deployment",
        why=f"{owner.command} by {owner.user} on {owner.host} (process {owner.pid}), "
        f"run {owner.run_id}, since {owner.since:%Y-%m-%d %H:%M:%S} UTC{waited}",
        hint="wait for it with --lease-timeout 75s: a run that died frees its lease within 60 s",
    )


def _parsed(found: Stored | None, path: str) -> LeaseFile | None:
    if found is None:
        return None
    try:
        return LeaseFile.model_validate_json(found.data)
    except ValueError as error:
        raise WorkspaceFailed(
            "the lease can't be read", why=f"{path} is not of this version", hint="use the mlscale that wrote it"
        ) from error


def _bytes(file: LeaseFile) -> bytes:
    return json.dumps(file.model_dump(mode="json"), indent=1).encode()


def _user() -> str:
    try:
        return getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _boot() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Return the start time of `pid` in clock ticks, an empty text if it can't be read (Linux proc(5), field 22).

    A zombie has ended: it has the start time `ended`, which no process has.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "ended" if fields[0] in "ZX" else fields[19]
