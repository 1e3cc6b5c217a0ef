"""What the lease promises over every workspace that has real conditional writes: a folder, S3 and Cloud Storage."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest

from mlscale.clock import SystemClock
from mlscale.errors import LeaseHeld, LeaseLost, WorkspaceFailed
from mlscale.state.lease import EXPIRY_S, Held, LeaseFile, Owner, Timing, acquire, holder, is_gone, myself
from mlscale.state.store import Store, Stored, open_store
from tests.doubles import cloud_storage, moto_s3
from tests.doubles.moved_clock import MORNING, MovedClock

BUCKET = "mlscale-workspace"
PATH = "leases/reviews.json"
_prefixes = count()

Answer = TypeVar("Answer")


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Serve S3 with a bucket; yields its address."""
    with moto_s3.serving(BUCKET) as address:
        yield address


@pytest.fixture(params=["folder", "s3", "gs"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Return an empty workspace of each kind."""
    match request.param:
        case "s3":
            monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("s3"))
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
            yield open_store(f"s3://{BUCKET}/{next(_prefixes)}")
        case "gs":
            with cloud_storage.serving(BUCKET) as address:
                monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
                yield open_store(f"gs://{BUCKET}/prefix")
        case _:
            yield open_store(str(tmp_path))


def taken(store: Store, clock: MovedClock, run_id: str = "run-1", wait_s: float = 0.0) -> Held:
    """Return the lease on `reviews`, taken by this process for `run_id`."""
    return acquire(store, "reviews", command="mlscale deploy", run_id=run_id, clock=clock, wait_s=wait_s)


def elsewhere(run_id: str = "run-0") -> Owner:
    """Return an owner on another machine."""
    return myself("mlscale deploy", run_id, MORNING).model_copy(update={"host": "other", "boot": "another-boot"})


def held_elsewhere(store: Store, fence: int = 7, beat: int = 0) -> str:
    """Write a lease of another machine, as its heartbeat would; returns the version."""
    file = LeaseFile(fence=fence, beat=beat, owner=elsewhere())
    return store.put(PATH, file.model_dump_json().encode())


def test_a_second_run_is_told_who_holds_the_lease(store: Store) -> None:
    """The error names command, user, host, process, run and time, and the hint says how to wait."""
    clock = MovedClock()
    with taken(store, clock), pytest.raises(LeaseHeld) as caught:
        taken(store, clock, "run-2")

    for part in ("mlscale deploy", f"process {os.getpid()}", "run run-1", "2026-11-24 07:15:00 UTC"):
        assert part in caught.value.why
    assert "--lease-timeout 75s" in caught.value.hint
    assert caught.value.exit_code == 6
    assert clock.slept == []


def test_leases_of_different_deployments_do_not_meet(store: Store) -> None:
    """Two deployments in one workspace are changed at once."""
    with taken(store, MovedClock()):
        acquire(store, "search", command="mlscale deploy", run_id="run-2", clock=MovedClock()).release()


def test_a_released_lease_is_free_at_once_and_the_fence_grows(store: Store) -> None:
    """Every holder has a number above all before it."""
    fences = []
    for run_id in ("run-1", "run-2", "run-3"):
        with taken(store, MovedClock(), run_id) as held:
            fences.append(held.fence)

    assert fences == [1, 2, 3]
    assert holder(store, "reviews") is None


def test_a_holder_is_seen_while_it_holds(store: Store) -> None:
    """`status` can say who is at work."""
    with taken(store, MovedClock()):
        seen = holder(store, "reviews")

    assert seen is not None
    assert (seen.run_id, seen.pid, seen.command) == ("run-1", os.getpid(), "mlscale deploy")


def test_a_waiter_gets_in_when_the_holder_lets_go(store: Store) -> None:
    """Somebody who waits gets the lease after a release, long before it would have expired."""
    clock = MovedClock()
    held = taken(store, clock)
    waited: list[Owner] = []

    def let_go(owner: Owner) -> None:
        waited.append(owner)
        if len(waited) == 3:
            held.release()

    second = acquire(store, "reviews", command="mlscale deploy", run_id="run-2", clock=clock, wait_s=75, on_wait=let_go)

    assert (second.fence, clock.passed_s) == (2, 3.0)
    second.release()


def test_a_silent_holder_elsewhere_is_waited_for_until_its_lease_ends(store: Store) -> None:
    """A machine that we can't look into counts as gone after 60 s without a change, and not before."""
    clock = MovedClock()
    held_elsewhere(store, fence=7)

    held = taken(store, clock, wait_s=75)

    assert held.fence == 8
    assert EXPIRY_S <= clock.passed_s <= EXPIRY_S + 2
    held.release()


def test_a_short_wait_for_a_silent_holder_ends_when_it_said(store: Store) -> None:
    """A wait of 10.5 s ends after 10.5 s, though the lease would end later."""
    clock = MovedClock()
    held_elsewhere(store)

    with pytest.raises(LeaseHeld, match=r"waited 10\.5 s"):
        taken(store, clock, wait_s=10.5)

    assert clock.passed_s == pytest.approx(10.5)


def test_a_holder_elsewhere_that_beats_keeps_its_lease(store: Store) -> None:
    """Each heartbeat starts the 60 s anew: the waiter gives up at its own limit."""
    clock = MovedClock()
    held_elsewhere(store)

    def beat(_: Owner) -> None:
        if len(clock.slept) % 15 == 0:
            held_elsewhere(store, beat=len(clock.slept))

    with pytest.raises(LeaseHeld):
        acquire(store, "reviews", command="mlscale deploy", run_id="run-2", clock=clock, wait_s=200, on_wait=beat)

    assert clock.passed_s == pytest.approx(200)


def test_a_holder_whose_lease_was_taken_finds_out(store: Store) -> None:
    """A run that slept past its lease starts no call, changes nothing in the lease, and can still end quietly."""
    clock = MovedClock()
    paused = taken(store, clock)
    held_elsewhere(store, fence=2)
    clock.move(EXPIRY_S + 1)

    with pytest.raises(LeaseLost, match="another run took it"):
        paused.check(20)
    paused.release()

    seen = holder(store, "reviews")
    assert paused.lost
    assert seen == elsewhere()


def test_a_beat_keeps_the_lease(store: Store) -> None:
    """A holder that beats may start calls for ever, under one fence."""
    clock = MovedClock()
    with taken(store, clock) as held:
        for _ in range(20):
            clock.move(15)
            held.beat()
            held.check(20)

        assert (held.fence, held.lost) == (1, False)


def test_a_call_that_the_lease_would_not_outlive_renews_it_first(store: Store) -> None:
    """A check late in the lease's life renews it, so that the call is covered."""
    clock = MovedClock()
    with taken(store, clock) as held:
        before = store.get(PATH)
        clock.move(EXPIRY_S - 10)
        held.check(20)
        after = store.get(PATH)

    assert before is not None
    assert after is not None
    assert before.version != after.version


def test_the_thread_beats_by_itself(store: Store) -> None:
    """Without anybody calling, the lease in the workspace changes."""
    held = acquire(
        store,
        "reviews",
        command="mlscale deploy",
        run_id="run-1",
        clock=SystemClock(),
        timing=Timing(expiry_s=60, beat_s=0.01),
    )
    clock, first = SystemClock(), store.get(PATH)
    limit = clock.monotonic() + 10
    while store.get(PATH) == first and clock.monotonic() < limit:
        clock.sleep(0.01)

    held.release()
    now = store.get(PATH)
    assert first is not None
    assert now is not None
    assert LeaseFile.model_validate_json(now.data).beat > LeaseFile.model_validate_json(first.data).beat


def test_a_lease_of_another_version_is_not_taken(store: Store) -> None:
    """A file that this mlscale does not understand is an error, never free."""
    store.put(PATH, b'{"version": 2}')

    with pytest.raises(WorkspaceFailed, match="can't be read"):
        taken(store, MovedClock())


HOLD = """
import os, sys, time
from mlscale.clock import SystemClock
from mlscale.state.lease import acquire
from mlscale.state.store import open_store
held = acquire(open_store(sys.argv[1]), "reviews", command="mlscale deploy", run_id="run-1", clock=SystemClock())
print("held", flush=True)
time.sleep(60)
"""


def test_a_killed_holder_on_this_machine_is_not_waited_for(tmp_path: Path) -> None:
    """While the other process lives the lease is held; after its SIGKILL the next run has it without waiting."""
    store, clock = open_store(str(tmp_path)), MovedClock()
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        try:
            said = other.stdout.readline()
            with pytest.raises(LeaseHeld, match=f"process {other.pid}"):
                taken(store, clock, "run-2")
        finally:
            other.send_signal(signal.SIGKILL)
        other.wait()

        held = taken(store, clock, "run-2")

    assert said == "held\n"
    assert (held.fence, clock.slept) == (2, [])
    held.release()


def test_of_processes_at_once_one_gets_in(tmp_path: Path) -> None:
    """Eight processes ask at the same moment; one holds, seven are told that it does."""
    code = HOLD.replace('print("held", flush=True)', "sys.stdin.read()").replace("time.sleep(60)", "print(held.fence)")
    code = code.replace("held = ", "print('ready', flush=True); sys.stdin.readline()\nheld = ")
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, tmp_path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    for each in running:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in running:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    while sum(each.poll() is not None for each in running) < 7:
        SystemClock().sleep(0.01)
    winner = next(each for each in running if each.poll() is None)
    said = winner.communicate(timeout=60)[0]
    complaints = [each.communicate()[1] for each in running if each is not winner]

    assert said == "1\n"
    assert all("LeaseHeld" in each for each in complaints)


class Unreliable:
    """A workspace whose writes arrive, but whose next answer gets lost: the second try meets the first one's work."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self.lose_next = False
        self.out_of_reach = False

    def get(self, path: str) -> Stored | None:
        """Read."""
        return self._call(lambda: self._inner.get(path))

    def put(self, path: str, data: bytes) -> str:
        """Write."""
        return self._call(lambda: self._inner.put(path, data))

    def create(self, path: str, data: bytes) -> str | None:
        """Create; again when the answer is lost."""
        return self._again(lambda: self._inner.create(path, data))

    def replace(self, path: str, data: bytes, version: str) -> str | None:
        """Replace; again when the answer is lost."""
        return self._again(lambda: self._inner.replace(path, data, version))

    def delete(self, path: str) -> None:
        """Delete."""
        self._call(lambda: self._inner.delete(path))

    def list(self, prefix: str) -> list[str]:
        """List."""
        return list(self._call(lambda: self._inner.list(prefix)))

    def check(self) -> None:
        """Check."""
        self._call(self._inner.check)

    def _again(self, write: Callable[[], str | None]) -> str | None:
        answer = self._call(write)
        if self.lose_next:
            self.lose_next = False
            return write()
        return answer

    def _call(self, call: Callable[[], Answer]) -> Answer:
        if self.out_of_reach:
            raise WorkspaceFailed("the workspace can't be reached")
        return call()


def test_a_lost_answer_does_not_lose_the_lease(tmp_path: Path) -> None:
    """A take and a beat that arrived, but whose answer was lost and that were sent again, are still ours."""
    store, clock = Unreliable(open_store(str(tmp_path))), MovedClock()

    store.lose_next = True
    held = taken(store, clock)
    store.lose_next = True
    held.beat()
    clock.move(15)
    held.beat()

    held.check(20)
    assert (held.fence, held.lost) == (1, False)
    held.release()
    assert holder(store, "reviews") is None


def test_a_workspace_out_of_reach_ends_the_lease_in_time(tmp_path: Path) -> None:
    """Beats that fail are tried again; when the lease can't be renewed any more no call starts."""
    store, clock = Unreliable(open_store(str(tmp_path))), MovedClock()
    held = taken(store, clock)
    store.out_of_reach = True
    clock.move(15)
    held.beat()
    held.check(20)
    clock.move(EXPIRY_S - 15 - 19)

    with pytest.raises(LeaseLost, match="could not be renewed"):
        held.check(20)


def test_a_run_s_own_error_is_not_hidden_by_a_release_that_fails(tmp_path: Path) -> None:
    """When the workspace is gone too, the user still sees what went wrong first."""
    store = Unreliable(open_store(str(tmp_path)))

    def run() -> None:
        with taken(store, MovedClock()):
            store.out_of_reach = True
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()


class SlowStore(Unreliable):
    """A workspace whose writes take 10 s of the clock."""

    def __init__(self, inner: Store, clock: MovedClock) -> None:
        super().__init__(inner)
        self._clock = clock

    def _again(self, write: Callable[[], str | None]) -> str | None:
        answer = super()._again(write)
        self._clock.move(10)
        return answer


def test_a_lease_counts_from_before_its_write(tmp_path: Path) -> None:
    """Whoever waits may have seen the write 10 s before its answer came; the holder counts those too."""
    clock = MovedClock()
    store = SlowStore(open_store(str(tmp_path)), clock)
    held = taken(store, clock)
    store.out_of_reach = True
    clock.move(EXPIRY_S - 10 - 20 + 1)

    with pytest.raises(LeaseLost):
        held.check(20)


@pytest.mark.parametrize(
    ("update", "gone"),
    [
        ({}, False),
        ({"pid_started": "1"}, True),
        ({"pid": 2**22 + 1}, True),
        ({"pid_started": "1", "boot": "another"}, False),
        ({"pid_started": "1", "namespace": "pid:[1]"}, False),
        ({"pid_started": "1", "host": "another"}, False),
        ({"pid_started": ""}, False),
        ({"pid_started": "1", "boot": ""}, False),
    ],
)
def test_only_a_process_that_can_be_looked_at_counts_as_gone(update: dict[str, str | int], gone: bool) -> None:  # noqa: FBT001 - a column of the table
    """Gone: here, and absent or another process with its number. Anything that can't be known is not gone."""
    assert is_gone(myself("", "", MORNING).model_copy(update=update)) is gone


def test_a_zombie_is_gone() -> None:
    """A killed process that its parent has not waited for yet holds nothing."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        stat = Path(f"/proc/{child.pid}/stat")
        owner = myself("", "", MORNING).model_copy(
            update={"pid": child.pid, "pid_started": stat.read_text().rpartition(")")[2].split()[19]}
        )
        alive = is_gone(owner)
        child.kill()
        while stat.read_text().rpartition(")")[2].split()[0] != "Z":
            SystemClock().sleep(0.01)

        assert (alive, is_gone(owner)) == (False, True)
