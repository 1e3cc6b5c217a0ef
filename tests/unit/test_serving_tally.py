"""Counts by the minute: in which one a request is, how exact its time is kept, and that they don't grow for ever."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from mlscale.serving.tally import KEPT_MINUTES, Tally, first_over


@dataclass(slots=True)
class Time:
    """A time of day that stands still until it is set."""

    now_s: float = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


def test_requests_are_counted_in_the_minute_in_which_they_were_answered() -> None:
    """The last moment of a minute is in it, the first of the next is not; a clock set back goes on in the old one."""
    time = Time()
    tally = Tally(time)

    for time.now_s in (120.0, 179.999, 180.0, 150.0):
        tally.count("a", 0.01, False)

    assert {key[0]: count for key, count in tally.counts().items()} == {2: 3, 3: 1}


def test_failures_are_told_apart() -> None:
    """By revision, and from answers that took as long."""
    tally = Tally(Time(60.0))
    for revision, failed in (("a", False), ("a", True), ("a", True), ("b", False)):
        tally.count(revision, 0.0, failed)

    assert tally.counts() == {(1, "a", 0, False): 1, (1, "a", 0, True): 2, (1, "b", 0, False): 1}


def test_what_was_taken_is_not_given_again() -> None:
    """And what comes after it is, in the same minute too."""
    tally = Tally(Time(60.0))
    tally.count("a", 0.0, False)
    tally.counts()
    tally.taken()

    tally.count("a", 0.0, False)

    assert tally.counts() == {(1, "a", 0, False): 1}


def test_what_nobody_takes_is_forgotten_in_the_end() -> None:
    """Six hours are kept."""
    time = Time(60.0)
    tally = Tally(time)
    tally.count("a", 0.0, False)
    for minute in (KEPT_MINUTES + 1, KEPT_MINUTES + 2):
        time.now_s = minute * 60.0
        tally.count("b", 0.0, False)

    assert sorted(key[:2] for key in tally.counts()) == [(KEPT_MINUTES + 1, "b"), (KEPT_MINUTES + 2, "b")]


@given(st.floats(0.1, 60_000.0), st.floats(0.0, 60_000.0))
def test_a_time_is_over_a_bound_or_not_but_within_half_a_bucket(bound_ms: float, took_ms: float) -> None:
    """What is more than 0.6 % away from the bound is on its side of it."""
    tally = Tally(Time())
    tally.count("a", took_ms / 1000.0, False)
    [(_, _, bucket, _)] = tally.counts()

    if took_ms > bound_ms * 1.006:
        assert bucket >= first_over(bound_ms)
    if took_ms < bound_ms * 0.994:
        assert bucket < first_over(bound_ms)
