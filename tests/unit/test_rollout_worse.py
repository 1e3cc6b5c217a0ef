"""Whether a candidate is worse at all: how often a healthy one is stopped, and what a stop takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import comb, prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlscale.rollout.worse import Worse

Counted = tuple[int, int, int, int]
"""A window: the candidate's bad requests, its requests, the same of the baseline."""


def found(windows: Sequence[Counted], false_alarm: float = 0.01) -> bool:
    """Return whether the candidate was found worse by the last window."""
    worse = Worse(false_alarm)
    for each in windows:
        worse.look(*each)
    return worse.found


def binomial(bad: int, of: int, rate: float) -> float:
    """Return how likely `bad` of `of` are."""
    return comb(of, bad) * rate**bad * (1 - rate) ** (of - bad)


def hours(of: int, baseline_of: int, windows: int) -> Iterator[Sequence[Counted]]:
    """Yield everything that so many windows can count."""
    one = [(bad, of, other, baseline_of) for bad, other in product(range(of + 1), range(baseline_of + 1))]
    yield from product(one, repeat=windows)


@pytest.mark.parametrize("rates", [(0.1, 0.1), (0.5, 0.5), (0.1, 0.6), (0.8, 0.3)])
@pytest.mark.parametrize(("of", "baseline_of"), [(2, 6), (4, 4), (6, 2)])
@pytest.mark.parametrize("false_alarm", [0.3, 0.05])
def test_healthy_candidates_are_stopped_no_more_often_than_stated(
    rates: Sequence[float], of: int, baseline_of: int, false_alarm: float
) -> None:
    """Over all that two windows can count, whatever the rate is and however it moves: by enumeration."""
    stopped = sum(
        prod(
            binomial(bad, of, rate) * binomial(other, baseline_of, rate)
            for (bad, _, other, _), rate in zip(windows, rates, strict=True)
        )
        for windows in hours(of, baseline_of, len(rates))
        if found(windows, false_alarm)
    )

    assert stopped <= false_alarm


def test_a_better_candidate_is_stopped_less_often_still() -> None:
    """With half the baseline's rate, fewer are stopped than with the same."""

    def stopped(rate: float) -> float:
        return sum(
            prod(binomial(bad, 6, rate) * binomial(other, 6, 0.4) for bad, _, other, _ in windows)
            for windows in hours(6, 6, 2)
            if found(windows, 0.3)
        )

    assert stopped(0.2) < stopped(0.4) <= 0.3


def test_a_tenfold_rate_is_found_in_the_second_minute() -> None:
    """At 10 rps and a tenth of the traffic: 5 % against 0.5 %."""
    assert not found([(3, 60, 3, 540)])
    assert found([(3, 60, 3, 540)] * 2)


def test_a_shared_burst_is_no_evidence() -> None:
    """A minute in which a fifth of the requests of both fail stops nothing."""
    calm, burst = (0, 60, 3, 540), (12, 60, 108, 540)

    assert not found([calm, burst] * 30)


def test_a_drift_of_both_is_no_evidence() -> None:
    """Both go from 0.5 % to 10 % over the hour."""
    assert not found(
        [(round(60 * rate), 60, round(540 * rate), 540) for rate in (0.005 + 0.0016 * n for n in range(60))]
    )


def test_a_small_difference_is_found_in_time() -> None:
    """1 % instead of 0.5 % at 100 rps and half the traffic: after some minutes, not at once."""
    window = (30, 3000, 15, 3000)

    assert next(number for number in range(1, 60) if found([window] * number)) == 6


def test_a_variant_that_jumps_about_needs_more_evidence() -> None:
    """Twice the rate is found in six minutes if each has it, not in forty if it is none and four times in turn."""
    assert found([(12, 600, 54, 5400)] * 6)
    assert not found([(0, 600, 54, 5400), (24, 600, 54, 5400)] * 20)


def test_what_is_found_stays_found() -> None:
    """Good minutes later do not undo it."""
    assert found([(30, 60, 3, 540), *[(0, 60, 3, 540)] * 50])


def test_a_window_without_requests_tells_nothing() -> None:
    """Silence of either variant neither adds evidence nor takes it away."""
    windows = [(3, 60, 3, 540)]

    assert found([*windows, (0, 0, 300, 540), (60, 60, 0, 0), *windows])


counted = st.tuples(st.integers(0, 30), st.integers(31, 200), st.integers(0, 60), st.integers(60, 900))


@settings(deadline=None)
@given(st.lists(counted, min_size=1, max_size=8))
def test_one_more_bad_request_of_the_candidate_never_saves_it(windows: list[Counted]) -> None:
    """What is found with some bad requests in the last window is found with one more."""
    *before, (bad, of, other, baseline_of) = windows

    assert found([*before, (bad + 1, of, other, baseline_of)]) >= found(windows)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9)), min_size=1, max_size=30))
def test_a_candidate_that_is_exactly_as_good_is_never_found_worse(windows: list[tuple[int, int]]) -> None:
    """Where the candidate's rate is the baseline's in each window, whatever its share is."""
    assert not found([(bad, 20, bad * times, 20 * times) for bad, times in windows])


@settings(deadline=None)
@given(st.lists(counted, min_size=1, max_size=8))
def test_what_is_stated_lower_is_found_less(windows: list[Counted]) -> None:
    """What is found with a false alarm of 1 % is found with one of 5 %."""
    assert found(windows, 0.05) >= found(windows, 0.01)


@pytest.mark.parametrize("scale", [1, 10**3, 10**6, 10**9])
def test_any_number_of_requests_can_be_judged(scale: int) -> None:
    """From one request to a thousand million a minute, in whatever shares, and with all of them bad."""
    assert not found([(0, scale, 0, 1), (scale, scale, 1, 1), (1, 1, scale, scale), (0, 1, scale, scale)] * 20)
    assert found([(scale, scale, 0, scale)] * 60)
    assert not found([(0, scale, scale, scale)] * 60)
