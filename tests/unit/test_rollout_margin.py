"""Whether a candidate is shown to be within the margin: what a pass takes, and how seldom it is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import comb, exp

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlscale.rollout.margin import FEWEST_WINDOWS, Margin, growth

Counted = tuple[int, int, int, int]
GOOD = (0, 60, 3, 540)
"""A minute at 10 rps, a tenth of them for the candidate."""


def after(windows: Sequence[Counted], margin: float = 0.01) -> Margin:
    """Return the evidence after all of `windows`."""
    made = Margin(margin)
    for each in windows:
        made.look(*each)
    return made


def binomial(bad: int, of: int, rate: float) -> float:
    """Return how likely `bad` of `of` are."""
    return comb(of, bad) * rate**bad * (1 - rate) ** (of - bad)


shares = st.floats(0.0005, 0.95)


@settings(deadline=None, max_examples=200)
@given(
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    baseline=st.floats(0.0, 1.0),
    excess=st.floats(0.0, 1.0),
    expected=shares,
    margin=shares,
)
def test_no_bet_grows_where_the_candidate_is_worse_by_the_margin(
    sizes: tuple[int, int], baseline: float, excess: float, expected: float, margin: float
) -> None:
    """Whatever rate was expected, and whatever the rates are: the mean over all counts is 1 at most."""
    of, baseline_of = sizes
    rate = baseline * (1 - margin)
    worse = min(1.0, rate + margin + excess * (1 - rate - margin))

    mean = sum(
        binomial(bad, of, worse)
        * binomial(other, baseline_of, rate)
        * exp(growth(bad, of, other, baseline_of, expected, margin))
        for bad, other in product(range(of + 1), range(baseline_of + 1))
    )

    assert mean <= 1 + 1e-9


def test_as_good_is_shown_within_half_an_hour() -> None:
    """At 0.5 % and 10 rps, a tenth of them for the candidate, within one percentage point."""
    windows = [(0, 60, 3, 540), (1, 60, 2, 540), (0, 60, 3, 540)] * 20

    assert next(number for number in range(60) if after(windows[:number]).shown) == 16


def test_silence_shows_nothing() -> None:
    """Windows in which either variant had no requests neither show anything nor count as windows."""
    assert not after([(0, 0, 3, 540), (0, 60, 0, 0)] * 100).shown


def test_few_windows_show_nothing() -> None:
    """However many requests there are: noise of each variant's own can't have been seen."""
    huge = (500, 100_000, 500, 100_000)

    assert not after([huge] * (FEWEST_WINDOWS - 1)).shown
    assert after([huge] * FEWEST_WINDOWS).shown


@pytest.mark.parametrize("worse", [(15, 1000, 45, 9000), (20, 1000, 45, 9000), (50, 1000, 45, 9000)])
def test_worse_by_the_margin_is_never_shown_to_be_within(worse: Counted) -> None:
    """1.5 % and more against 0.5 %, for hours."""
    assert not after([worse] * 500).shown


def test_a_drift_of_both_does_not_hide_that_they_are_the_same() -> None:
    """Both go from 1 % to 3 % over the hour."""
    rates = [0.01 + 0.02 * number / 60 for number in range(60)]

    assert after([(round(600 * rate), 600, round(600 * rate), 600) for rate in rates]).shown


def test_noise_takes_more_windows() -> None:
    """The same counts in all, even or jumping about: what jumps takes longer to show."""

    def needed(windows: Sequence[Counted]) -> int:
        return next(number for number in range(300) if after(windows[:number]).shown)

    even = [(10, 600, 10, 600)] * 300
    jumping = [(4, 600, 16, 600), (16, 600, 4, 600)] * 150

    assert needed(jumping) > 2 * needed(even)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from([GOOD, (1, 60, 2, 540), (2, 60, 5, 540)]), min_size=2, max_size=60))
def test_the_bound_is_within_the_margin_when_that_is_shown(windows: list[Counted]) -> None:
    """And outside of it when not, windows enough being there."""
    made = after(windows)

    if len(windows) >= FEWEST_WINDOWS:
        assert (made.bound() <= 0.01) == made.shown


def test_what_is_missing_is_about_what_it_takes() -> None:
    """After five minutes, the requests that are still needed are those of the minutes until it is shown."""
    window = (1, 60, 9, 540)
    missing = after([window] * 5, margin=0.02).missing()
    needed = next(number for number in range(200) if after([window] * number, margin=0.02).shown)

    assert missing is not None
    assert abs(missing / 60 - (needed - 5)) <= 3


def test_nothing_is_known_without_windows() -> None:
    """Neither a bound nor what is missing."""
    assert (after([]).bound(), after([]).missing()) == (1.0, None)
