"""Whether a candidate is shown to be worse than the baseline by no more than a margin.

Each window is a bet that both have the rate of the windows before, against a rate of the candidate's that is worse by
the margin. Where it is worse by that or more, the bets' product ever grows over `1 / WRONG` with a chance of `WRONG` at
most, whatever the rate is and however it moves. The method: docs/concepts/canary.md.
"""

from __future__ import annotations

from math import ceil, log, log1p, sqrt

WRONG = 0.05
"""The chance, at most, that a candidate passes which is worse by the margin or more."""

BOLDNESS = 0.75
"""How much of the bet that would grow fastest is made: less of it wins slower, and more often within some time."""

MEMORY = 0.9
"""What a window counts for the expected rate when the next one has come."""

FIRST_WINDOWS, FIRST_NOISE = 4, 1.2
"""How many windows' worth of a guess at the noise there is before any window, and the guess."""

FEWEST_WINDOWS = 5
"""From fewer windows, noise that each variant has of its own can't be known."""

_ENOUGH = -log(WRONG)
_CLOSE = 0.02
_LARGEST_RATE = 0.999
_MOST_AT_STAKE = 0.5


class Margin:
    """The evidence that a candidate is within the margin, window by window."""

    __slots__ = (
        "_bad", "_baseline_bad", "_baseline_of", "_chance", "_last", "_margin", "_of", "_rates", "_recent_bad",
        "_recent_of", "_scatter", "_windows", "_won",
    )  # fmt: skip

    def __init__(self, margin: float) -> None:
        """Begin without evidence; `margin` is the difference of the two rates, 0.01 for one percentage point."""
        self._margin = margin
        self._won = 0.0
        self._bad = self._of = self._baseline_bad = self._baseline_of = 0
        self._rates = 0.0
        self._last = (0, 0)
        self._recent_bad = self._recent_of = 0.0
        self._windows = 0
        self._scatter = self._chance = 0.0

    @property
    def shown(self) -> bool:
        """Whether the windows so far show the candidate to be within the margin."""
        return self._won >= _ENOUGH and self._windows >= FEWEST_WINDOWS and self._won >= _ENOUGH * self._noise()

    def look(self, candidate_bad: int, candidate_of: int, baseline_bad: int, baseline_of: int) -> None:
        """Take one window's counts; a window that either variant has no requests in tells nothing."""
        if not candidate_of or not baseline_of:
            return
        if self._windows:
            rate = (self._recent_bad + 0.5) / (self._recent_of + 1)
            self._won += growth(candidate_bad, candidate_of, baseline_bad, baseline_of, rate, self._margin)
            self._bad += candidate_bad
            self._of += candidate_of
            self._baseline_bad += baseline_bad
            self._baseline_of += baseline_of
            self._rates += rate
        bad, both = candidate_bad + baseline_bad, candidate_of + baseline_of
        share = candidate_of / both
        self._scatter += (candidate_bad - share * bad) ** 2
        self._chance += bad * share * (1 - share)
        self._recent_bad = self._recent_bad * MEMORY + bad
        self._recent_of = self._recent_of * MEMORY + both
        self._windows += 1
        self._last = (candidate_of, baseline_of)

    def _expected_rate(self) -> float:
        return (self._recent_bad + 0.5) / (self._recent_of + 1)

    def _noise(self) -> float:
        """Return the variance of the splits over what chance alone gives them, 1 or more.

        By so much too fast grows what is bet, to the second order: it goes with the counts' variance.
        """
        if not self._chance:
            return FIRST_NOISE
        guess = self._chance / self._windows * FIRST_WINDOWS
        return max(1.0, (guess * FIRST_NOISE + self._scatter) / (guess + self._chance))

    def bound(self) -> float:
        """Return the most by which the candidate is worse, with a chance of `WRONG` that it is more; 1 if unknown.

        It is at most the margin where that is shown. The further from the margin, the nearer only, rather than exact:
        all windows are taken as one there.
        """
        bets = self._windows - 1
        if bets < 1:
            return 1.0
        everything = (self._bad, self._of, self._baseline_bad, self._baseline_of, self._rates / bets)
        enough = _ENOUGH * self._noise()
        more = self._won - growth(*everything, self._margin)
        short = enough - self._won
        low, high = self._margin, self._margin
        while short > 0 and high < 1:
            low, high = high, min(high * 2, 1.0)
            short = enough - more - growth(*everything, high)
        if low == high:
            low = 0.0
        while high - low > _CLOSE * high:
            middle = (low + high) / 2
            is_out = more + growth(*everything, middle) >= enough
            low, high = (low, middle) if is_out else (middle, high)
        return high

    def missing(self) -> int | None:
        """Return how many more of the candidate's requests a pass takes if it is as good; None if that is unknown."""
        if not self._windows:
            return None
        rate = self._expected_rate()
        ours, others = self._last
        gain = growth(rate * ours, ours, rate * others, others, rate, self._margin)
        windows = max(0.0, _ENOUGH * self._noise() - self._won) / gain
        return ceil(max(windows, FEWEST_WINDOWS - self._windows) * ours)


def growth(
    candidate_bad: float, candidate_of: float, baseline_bad: float, baseline_of: float, rate: float, margin: float
) -> float:
    """Return by how much, as a logarithm, the evidence against a difference of `margin` grows with one window.

    The bet is on `rate` for both, against the pair of rates that differ by the margin and are hardest to tell from it.
    """
    gap = margin - rate
    balance = candidate_of / baseline_of
    anchor = (sqrt(gap * gap + 4 * rate * margin / (1 + balance)) - gap) / 2
    worse = min(anchor + margin, _LARGEST_RATE)
    ours = max(0.0, BOLDNESS * (worse - rate) / (worse * (1 - worse)))
    theirs = ours * balance
    if anchor * theirs > _MOST_AT_STAKE:
        ours, theirs = _MOST_AT_STAKE / anchor / balance, _MOST_AT_STAKE / anchor
    return (
        candidate_bad * log1p(-(1 - worse) * ours)
        + (candidate_of - candidate_bad) * log1p(worse * ours)
        + baseline_bad * log1p((1 - anchor) * theirs)
        + (baseline_of - baseline_bad) * log1p(-anchor * theirs)
    )
