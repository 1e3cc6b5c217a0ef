"""What is kept of the gateway's counts: which minutes are given, what is slow, and what happens to a damaged file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from mlscale.clock import SystemClock
from mlscale.errors import ProviderFailed
from mlscale.providers.contract import BadOfAll, Metrics, Traffic
from mlscale.providers.local.metrics import COUNTS, LAG, Keeper, counts
from mlscale.providers.local.provider import Local
from mlscale.serving.tally import KEPT_MINUTES, Key, Tally
from tests.builders import NOON

MINUTE = timedelta(minutes=1)
LATER = NOON + timedelta(hours=1)


def counted(*answers: tuple[datetime, str, float, bool]) -> dict[Key, int]:
    """Return the counts of answers: when, by which revision, in how many milliseconds, and whether one failed."""
    times = iter([at.timestamp() for at, *_ in answers])
    tally = Tally(lambda: next(times))
    for _, revision, took_ms, failed in answers:
        tally.count(revision, took_ms / 1000.0, failed)
    return dict(tally.counts())


def kept(home: Path, start: datetime, end: datetime, slow_over_ms: float | None = 100.0) -> Sequence[BadOfAll]:
    """Return what is kept between two times, an hour later."""
    return counts(home, start, end, slow_over_ms, now=LATER)


def row(start: datetime, revision: str, requests: int, errors: int = 0, slow: int | None = 0) -> BadOfAll:
    """Return the counts of one minute."""
    return BadOfAll(revision, start, start + MINUTE, requests, errors, slow)


def test_a_row_per_revision_and_minute_in_time_order(tmp_path: Path) -> None:
    """A minute without requests has none; errors count as requests, and as slow if they took long."""
    answers = [
        (NOON, "b", 99.0, False),
        (NOON, "a", 101.0, False),
        (NOON + timedelta(seconds=59), "a", 5000.0, True),
        (NOON + 2 * MINUTE, "a", 1.0, False),
    ]
    Keeper(tmp_path).add(counted(*answers), LATER)

    assert kept(tmp_path, NOON, NOON + 3 * MINUTE) == (
        row(NOON, "a", 2, errors=1, slow=2),
        row(NOON, "b", 1),
        row(NOON + 2 * MINUTE, "a", 1),
    )


@pytest.mark.parametrize(("bound_ms", "slow"), [(None, None), (50.0, 1), (100.0, 0), (0.0, 1)])
def test_any_bound_can_be_asked_for(tmp_path: Path, bound_ms: float | None, slow: int | None) -> None:
    """The times are kept, not what was over a bound."""
    Keeper(tmp_path).add(counted((NOON, "a", 70.0, False)), LATER)

    assert kept(tmp_path, NOON, NOON + MINUTE, bound_ms) == (row(NOON, "a", 1, slow=slow),)


@pytest.mark.parametrize(
    ("start", "end", "minutes"),
    [
        (NOON, NOON + 2 * MINUTE, [0, 1]),
        (NOON + timedelta(seconds=1), NOON + 2 * MINUTE, [1]),
        (NOON, NOON + 2 * MINUTE - timedelta(seconds=1), [0]),
        (NOON + MINUTE, NOON + MINUTE, []),
        (NOON - MINUTE, LATER, [0, 1]),
    ],
)
def test_only_whole_minutes_are_given(tmp_path: Path, start: datetime, end: datetime, minutes: list[int]) -> None:
    """One that `start` or `end` cuts is not."""
    Keeper(tmp_path).add(counted((NOON, "a", 1.0, False), (NOON + MINUTE, "a", 1.0, False)), LATER)

    assert [each.start for each in kept(tmp_path, start, end)] == [NOON + number * MINUTE for number in minutes]


def test_a_minute_is_given_when_it_is_counted_to_its_end(tmp_path: Path) -> None:
    """Neither within the lag, nor before the supervisor has written past its end, however long that takes."""
    keeper, end = Keeper(tmp_path), NOON + MINUTE
    keeper.add(counted((NOON, "a", 1.0, False)), end - timedelta(milliseconds=1))
    assert kept(tmp_path, NOON, end) == ()

    keeper.add(counted((end - timedelta(milliseconds=1), "a", 1.0, False)), end)

    assert kept(tmp_path, NOON, end) == (row(NOON, "a", 2),)
    assert counts(tmp_path, NOON, end, 100.0, now=end + LAG - timedelta(milliseconds=1)) == ()
    assert counts(tmp_path, NOON, end, 100.0, now=end + LAG) == (row(NOON, "a", 2),)


def test_the_next_supervisor_goes_on_with_the_minute_of_the_last(tmp_path: Path) -> None:
    """What was written is there, and what the next one counts is added to it."""
    first = Keeper(tmp_path)
    first.add(counted((NOON, "a", 1.0, False)), NOON)
    second = Keeper(tmp_path)

    second.add(counted((NOON, "a", 1.0, True)), LATER)

    assert kept(tmp_path, NOON, NOON + MINUTE) == (row(NOON, "a", 2, errors=1),)


def test_six_hours_are_kept(tmp_path: Path) -> None:
    """The file does not grow for ever."""
    keeper = Keeper(tmp_path)
    keeper.add(counted((NOON, "a", 1.0, False)), LATER)

    keeper.add({}, NOON + KEPT_MINUTES * MINUTE)
    assert len(kept(tmp_path, NOON, NOON + MINUTE)) == 1
    keeper.add({}, NOON + (KEPT_MINUTES + 1) * MINUTE)
    assert kept(tmp_path, NOON, NOON + MINUTE) == ()


def test_nothing_counted_is_no_row(tmp_path: Path) -> None:
    """Nor where nothing was ever deployed, and asking makes no file."""
    assert kept(tmp_path, NOON, LATER) == ()
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_told_and_made_anew_once_it_is_gone(tmp_path: Path) -> None:
    """It is never read as silence; who counts says so, keeps what was counted, and begins anew when it is deleted."""
    keeper, path = Keeper(tmp_path), tmp_path / COUNTS
    path.write_bytes(b"what is this? " * 100)
    answers = counted((NOON, "a", 1.0, False))

    with pytest.raises(sqlite3.DatabaseError):
        keeper.add(answers, LATER)
    with pytest.raises(ProviderFailed) as told:
        kept(tmp_path, NOON, LATER)
    path.unlink()
    keeper.add(answers, LATER)

    assert (told.value.hint, told.value.retryable) == (f"delete {path}: counting begins anew", False)
    assert kept(tmp_path, NOON, NOON + MINUTE) == (row(NOON, "a", 1),)


def test_this_machine_counts_and_splits(tmp_path: Path) -> None:
    """What asks for evidence finds it here; every share in basis points holds as it is."""
    local = Local(tmp_path, SystemClock())

    assert isinstance(local, Metrics)
    assert isinstance(local, Traffic)
    assert local.shares_that_hold({"a": 9_999, "b": 1}) == {"a": 9_999, "b": 1}
