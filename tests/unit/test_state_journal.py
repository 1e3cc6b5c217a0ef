"""The write-ahead journal, over a folder."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlscale.errors import LeaseLost, WorkspaceFailed
from mlscale.plan.steps import StepKind
from mlscale.state.journal import (
    Event,
    Journal,
    RunFinished,
    RunStarted,
    StepDone,
    StepFailed,
    StepIntended,
    events,
    new_run_id,
    runs,
    unfinished,
)
from mlscale.state.store import Store, Stored, open_store
from tests.doubles.moved_clock import MORNING, MovedClock


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return an empty workspace."""
    return open_store(str(tmp_path))


def a_journal(store: Store, run_id: str = "20261124T071500-0001aa", fence: int = 3) -> Journal:
    """Return the journal of a run on `reviews` in the morning."""
    return Journal(store, "reviews", run_id, fence, MovedClock())


def test_a_run_is_read_back_as_it_was_written(store: Store) -> None:
    """Every kind of event comes back whole, in order, with its time, run, fence and number."""
    run_id = new_run_id(MORNING, "seed")
    journal = a_journal(store, run_id)
    journal.started("mlscale deploy", "digest", ["revision/a", "promote/a"])
    journal.intended("revision/a", StepKind.CREATE, "revision a")
    journal.done("revision/a", "2 replicas")
    journal.intended("promote/a", StepKind.SHIFT, "traffic")
    journal.failed("promote/a", "port taken", retryable=False)
    journal.finished("failed", "port taken")

    read = list(events(store, "reviews", run_id))

    def at(seq: int) -> dict[str, object]:
        return {"at": MORNING, "run_id": run_id, "fence": 3, "seq": seq}

    expected: list[Event] = [
        RunStarted.model_validate(
            {**at(0), "command": "mlscale deploy", "made_against": "digest", "steps": ("revision/a", "promote/a")}
        ),
        StepIntended.model_validate({**at(1), "key": "revision/a", "kind": StepKind.CREATE, "subject": "revision a"}),
        StepDone.model_validate({**at(2), "key": "revision/a", "detail": "2 replicas"}),
        StepIntended.model_validate({**at(3), "key": "promote/a", "kind": StepKind.SHIFT, "subject": "traffic"}),
        StepFailed.model_validate({**at(4), "key": "promote/a", "why": "port taken", "retryable": False}),
        RunFinished.model_validate({**at(5), "outcome": "failed", "why": "port taken"}),
    ]
    assert read == expected


def test_an_event_is_in_the_workspace_when_the_call_returns(store: Store) -> None:
    """Write-ahead: after `intended` returns, another process reads the intent."""
    journal = a_journal(store)
    journal.started("mlscale deploy", "digest", ["revision/a"])
    journal.intended("revision/a", StepKind.CREATE, "revision a")

    assert list(store.list("journal/")) == [
        "journal/reviews/00000003-20261124T071500-0001aa/000000.json",
        "journal/reviews/00000003-20261124T071500-0001aa/000001.json",
    ]


def test_a_second_writer_of_the_same_run_is_stopped(store: Store) -> None:
    """Two writers can't both believe that they are the run: the later one loses."""
    a_journal(store).started("mlscale deploy", "digest", [])

    with pytest.raises(LeaseLost, match="another writer"):
        a_journal(store).started("mlscale destroy", "digest", [])


class LostAnswer:
    """A workspace that writes, and is asked again because the first answer was lost."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner

    def get(self, path: str) -> Stored | None:
        """Read."""
        return self._inner.get(path)

    def put(self, path: str, data: bytes) -> str:
        """Write."""
        return self._inner.put(path, data)

    def create(self, path: str, data: bytes) -> str | None:
        """Create twice; the second answer is the one that is seen."""
        self._inner.create(path, data)
        return self._inner.create(path, data)

    def replace(self, path: str, data: bytes, version: str) -> str | None:
        """Replace."""
        return self._inner.replace(path, data, version)

    def delete(self, path: str) -> None:
        """Delete."""
        self._inner.delete(path)

    def list(self, prefix: str) -> list[str]:
        """List."""
        return list(self._inner.list(prefix))

    def check(self) -> None:
        """Check."""
        self._inner.check()


def test_an_event_that_was_sent_twice_is_ours(store: Store) -> None:
    """A create that arrived, whose answer was lost and that was sent again, is not another writer's."""
    a_journal(LostAnswer(store)).started("mlscale deploy", "digest", [])

    assert len(list(events(store, "reviews", "20261124T071500-0001aa"))) == 1


class FullOnce(LostAnswer):
    """A workspace that stores the first create and then says that it failed."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self._failed = False

    def create(self, path: str, data: bytes) -> str | None:
        """Create; the first time, tell a failure all the same."""
        version = self._inner.create(path, data)
        if not self._failed:
            self._failed = True
            raise WorkspaceFailed("the workspace can't be reached")
        return version


def test_a_failed_write_does_not_keep_the_run_from_saying_how_it_ended(store: Store) -> None:
    """After a write that failed although it arrived, the next event has its own place."""
    journal = a_journal(FullOnce(store))
    with pytest.raises(WorkspaceFailed):
        journal.started("mlscale deploy", "digest", [])

    journal.finished("workspace_failed")

    kinds = [each.event for each in events(store, "reviews", "20261124T071500-0001aa")]
    assert kinds == ["run_started", "run_finished"]


def test_runs_are_listed_oldest_first_and_by_deployment(store: Store) -> None:
    """The fence tells which run came first, not a clock; a deployment whose name begins with another's is another."""
    early, late = new_run_id(MORNING.replace(hour=9), "a"), new_run_id(MORNING, "b")
    for fence, run_id in ((10, late), (9, early)):
        a_journal(store, run_id, fence).finished("done")
    Journal(store, "reviews-prod", "20261124T080000-0001aa", 1, MovedClock()).finished("done")

    assert list(runs(store, "reviews")) == [early, late]
    assert list(runs(store, "nobody")) == []


def test_only_the_newest_run_can_be_unfinished(store: Store) -> None:
    """A run that was cut off is named until a later one has ended."""
    assert unfinished(store, "reviews") is None

    a_journal(store, "20261124T071500-0001aa").started("mlscale deploy", "digest", [])
    assert unfinished(store, "reviews") == "20261124T071500-0001aa"

    again = a_journal(store, "20261124T071500-0002aa", fence=4)
    again.started("mlscale deploy", "digest", [])
    again.finished("done")
    assert unfinished(store, "reviews") is None


def test_run_ids_sort_by_time_within_a_second_too() -> None:
    """A command that is run again at once has the later id, whatever the seeds are."""
    moments = [datetime(2026, 11, 24, 7, 15, second, micro, UTC) for second in (0, 1) for micro in (0, 400, 999_999)]

    ids = [new_run_id(moment, f"seed {number}") for number, moment in enumerate(moments)]

    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert ids[0].startswith("20261124T071500-000")
    assert [len(each) for each in ids] == [22] * 6


GOOD = (
    '{"version": 1, "event": "run_finished", "at": "2026-11-24T07:15:00Z", "run_id": "r", "fence": 1, "seq": 0, '
    '"outcome": "done", "why": ""}'
)


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        ("}", ""),
        ("run_finished", "run_paused"),
        ('"version": 1', '"version": 2'),
        ('"seq": 0', '"seq": 0, "new": 1'),
        ("07:15:00Z", "07:15:00"),
    ],
)
def test_an_event_that_is_not_of_this_version_is_refused(store: Store, part: str, instead: str) -> None:
    """Broken JSON, an unknown event, version or key, and a time without zone are an error that names the file."""
    store.put("journal/reviews/00000001-good/000000.json", GOOD.encode())
    store.put("journal/reviews/00000002-bad/000000.json", GOOD.replace(part, instead).encode())

    assert [each.event for each in events(store, "reviews", "good")] == ["run_finished"]
    with pytest.raises(WorkspaceFailed, match=r"journal/reviews/00000002-bad/000000\.json"):
        list(events(store, "reviews", "bad"))
