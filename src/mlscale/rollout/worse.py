"""Whether a candidate's bad requests are too many to be chance, however often one looks.

A window's bad requests are split between two variants. Where both are as good, each of them is as likely the
candidate's as any request is; where the candidate has `r` times the baseline's rate, `r` times as likely. What the
window's rate is does not matter to the split: a rate that drifts, or a burst that both variants have, is no evidence.
The method, and what of it is approximate: docs/concepts/canary.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, lgamma, log, log1p
from typing import TypeAlias

RATIOS = (1.25, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 50.0)
"""How many times the baseline's rate the candidate may have; each is bet on."""

STAKES = (0.02, 0.04, 0.09, 0.18, 0.30, 0.22, 0.10, 0.03, 0.02)
"""What is staked on each of `RATIOS`, 1 in all."""


@dataclass(frozen=True, slots=True)
class Noise:
    """How a variant's rate moves by itself from window to window.

    `clumps` is the variance of its count over Poisson's, less 1; `spread` the variance of the logarithm of the two
    rates' ratio. `stake` is what is bet on a worse candidate with this noise; `doubt` is how far a healthy one is
    granted the noise, 1 wholly; `first_doubt` the same before any noise can have been seen.
    """

    clumps: float
    spread: float
    stake: float
    first_doubt: float
    doubt: float


NOISES = (
    Noise(0.0, 0.0, stake=0.94, first_doubt=1.0, doubt=1.0),
    Noise(0.5, 0.0, stake=0.01, first_doubt=0.3, doubt=0.7),
    Noise(1.0, 0.0, stake=0.01, first_doubt=0.2, doubt=0.5),
    Noise(2.0, 0.0, stake=0.01, first_doubt=0.1, doubt=0.25),
    Noise(0.0, 0.06, stake=0.01, first_doubt=0.7, doubt=1.0),
    Noise(0.0, 0.2, stake=0.01, first_doubt=0.6, doubt=0.8),
    Noise(0.0, 0.5, stake=0.01, first_doubt=0.4, doubt=0.4),
)
"""What noise there may be; the first is none."""

FIRST_WINDOWS, FIRST_BAD = 2, 14
"""No noise can have been seen in so many windows, with so many bad requests in all."""

EAGER = (5, 6)
"""Which of `RATIOS` half of all is staked on in the first windows: what breaks at once should end at once."""

_LOG_RATIOS = tuple(map(log, RATIOS))
_EXCESSES = tuple(ratio - 1 for ratio in RATIOS)
_LOG_STAKES = tuple(map(log, STAKES))
_LARGEST_TAIL = 4.5
"""Logarithm of more than a window's tail and the other bets can add to the best bet."""

_NEGLIGIBLE = 1e-4
_CLOSE = 0.01
_HALF = log(0.5)
_DOUBTS = tuple(log(noise.doubt) for noise in NOISES)
_FIRST_DOUBTS = tuple(log(noise.first_doubt) for noise in NOISES)

Split: TypeAlias = tuple[int, int, float, float]
"""Of a window: bad requests of the candidate and of both, the candidate's share of requests, bad ones expected."""


class Worse:
    """The evidence that a candidate is worse at all, window by window."""

    __slots__ = (
        "_bad",
        "_bets",
        "_carried",
        "_done",
        "_found",
        "_healthy",
        "_joint",
        "_limit",
        "_requests",
        "_splits",
        "_windows",
    )

    def __init__(self, false_alarm: float) -> None:
        """Begin without evidence; a healthy candidate is found worse with a chance of `false_alarm` at most."""
        self._limit = -log(false_alarm)
        self._bets = list(_LOG_STAKES)
        self._carried = 0.0
        self._splits: list[Split] = []
        self._bad = self._requests = self._windows = 0
        self._found = False
        self._done = 0
        self._joint = [[log(noise.stake) + stake for stake in _LOG_STAKES] for noise in NOISES]
        self._healthy = [0.0] * len(NOISES)

    @property
    def found(self) -> bool:
        """Whether the candidate was found worse; what comes later does not change it."""
        return self._found

    def look(self, candidate_bad: int, candidate_of: int, baseline_bad: int, baseline_of: int) -> None:
        """Take one window's counts; a window that either variant has no requests in tells nothing."""
        if self._found or not candidate_of or not baseline_of:
            return
        bad = candidate_bad + baseline_bad
        both = candidate_of + baseline_of
        self._windows += 1
        self._requests += both
        if self._windows == FIRST_WINDOWS + 1:
            self._carried = _log_sum([_HALF, _HALF + _eager(self._bets) - _log_sum(self._bets)])
        if not bad:
            return
        self._bad += bad
        share = candidate_of / both
        self._splits.append((candidate_bad, bad, share, self._bad / self._requests * both))
        self._bets = bets = [
            bet + candidate_bad * log_ratio - bad * log1p(share * excess)
            for bet, log_ratio, excess in zip(self._bets, _LOG_RATIOS, _EXCESSES, strict=True)
        ]
        if max(bets) + _LARGEST_TAIL >= self._limit:
            self._found = self._evidence() >= self._limit

    def _evidence(self) -> float:
        """Return the logarithm of the evidence with what noise can explain taken off, the last window by its tail."""
        for split in self._splits[self._done : -1]:
            for number, (worse, healthy) in enumerate(_likelihoods(split, tail=False)):
                self._joint[number] = [bet + more for bet, more in zip(self._joint[number], worse, strict=True)]
                self._healthy[number] += healthy
        self._done = len(self._splits) - 1
        last = list(_likelihoods(self._splits[-1], tail=True))
        ends = [
            [bet + more for bet, more in zip(bets, likely, strict=True)]
            for bets, (likely, _) in zip(self._joint, last, strict=True)
        ]
        all_worse = _log_sum([each for bets in ends for each in bets])
        is_first = self._windows <= FIRST_WINDOWS
        if is_first:
            all_worse = _log_sum([_HALF + all_worse, _HALF + _eager(ends[0]) - log(NOISES[0].stake)])
        doubts = _FIRST_DOUBTS if is_first and self._bad <= FIRST_BAD else _DOUBTS
        healthy = max(doubt + known + more for doubt, known, (_, more) in zip(doubts, self._healthy, last, strict=True))
        return all_worse + self._carried - healthy

    def least_ratio(self) -> float:
        """Return how many times the baseline's rate the candidate's is at least, if there is no noise but chance.

        Every window's share is taken as the mean one, so it is near rather than exact; 1 where nothing is known.
        """
        if not self._splits:
            return 1.0
        bad = sum(split[0] for split in self._splits)
        both = sum(split[1] for split in self._splits)
        share = sum(split[1] * split[2] for split in self._splits) / both
        low, high = 1.0, RATIOS[-1]
        while high - low > _CLOSE:
            middle = (low + high) / 2
            larger = [bet for bet, ratio in zip(self._bets, RATIOS, strict=True) if ratio > middle]
            against = _log_sum(larger) - bad * log(middle) + both * log1p(share * (middle - 1))
            low, high = (middle, high) if against >= self._limit else (low, middle)
        return low


def _eager(bets: Sequence[float]) -> float:
    """Return the logarithm of what all bets would be worth with half of all on each of the eager ones."""
    return _log_sum([_HALF + bets[number] - _LOG_STAKES[number] for number in EAGER])


def _likelihoods(split: Split, *, tail: bool) -> Iterator[tuple[Sequence[float], float]]:
    """Yield for each noise how likely the split is, as logarithms: at each of `RATIOS`, and where both are as good.

    With `tail` it is how likely so many bad requests of the candidate's are, or more.
    """
    bad, both, share, expected = split
    shares = [share * ratio / (1 + share * excess) for ratio, excess in zip(RATIOS, _EXCESSES, strict=True)]
    for noise in NOISES:
        scatter = noise.clumps / expected + share * (1 - share) * noise.spread
        if scatter:
            yield (
                [_scattered(bad, both, each, 1 / scatter, tail=tail) for each in shares],
                _scattered(bad, both, share, 1 / scatter, tail=tail),
            )
        else:
            yield [_even(bad, both, each, tail=tail) for each in shares], _even(bad, both, share, tail=tail)


def _even(bad: int, both: int, share: float, *, tail: bool) -> float:
    """Return the logarithm of a binomial probability, without the coefficient that all of them have."""
    likely = bad * log(share) + (both - bad) * log1p(-share)
    return likely + log(_tail(bad, both, share, 1 - share, 0.0)) if tail else likely


def _scattered(bad: int, both: int, share: float, precision: float, *, tail: bool) -> float:
    """Return the logarithm of a beta-binomial probability, without the coefficient that all of them have."""
    ours, others = share * precision, (1 - share) * precision
    likely = (
        lgamma(ours + bad)
        - lgamma(ours)
        + lgamma(others + both - bad)
        - lgamma(others)
        - lgamma(precision + both)
        + lgamma(precision)
    )
    return likely + log(_tail(bad, both, ours, others, 1.0)) if tail else likely


def _tail(bad: int, both: int, ours: float, others: float, step: float) -> float:
    """Return how many times as likely `bad` or more are as just `bad`.

    Each side has its weight, to which each bad one of its own adds `step`.
    """
    term = whole = 1.0
    while bad < both and term > _NEGLIGIBLE * whole:
        term *= (both - bad) / (bad + 1) * (ours + step * bad) / (others + step * (both - bad - 1))
        whole += term
        bad += 1
    return whole


def _log_sum(logs: Sequence[float]) -> float:
    largest = max(logs)
    return largest + log(sum(exp(each - largest) for each in logs))
