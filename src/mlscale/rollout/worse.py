"""Whether a candidate's bad requests are too many to be chance, however often one looks.

A window's bad requests are split between two variants. Where both are as good, each of them is as likely the
candidate's as any request is; where the candidate has `r` times the baseline's rate, `r` times as likely. What the
window's rate is does not matter to the split: a rate that drifts, or a burst that both variants have, is no evidence.
The method, and what of it is approximate: docs/concepts/canary.md.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, lgamma, log, log1p
from operator import mul

RATIOS = (1.25, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 50.0)
"""How many times the baseline's rate the candidate may have; each is bet on."""

STAKES = (0.01, 0.03, 0.07, 0.19, 0.36, 0.22, 0.08, 0.02, 0.02)
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
    Noise(0.5, 0.0, stake=0.01, first_doubt=0.3, doubt=1.0),
    Noise(1.0, 0.0, stake=0.01, first_doubt=0.2, doubt=0.7),
    Noise(2.0, 0.0, stake=0.01, first_doubt=0.1, doubt=0.3),
    Noise(0.0, 0.06, stake=0.01, first_doubt=0.7, doubt=1.0),
    Noise(0.0, 0.2, stake=0.01, first_doubt=0.6, doubt=1.0),
    Noise(0.0, 0.5, stake=0.01, first_doubt=0.4, doubt=0.4),
)
"""What noise there may be; the first is none."""

FIRST_WINDOWS, FIRST_BAD = 2, 4
"""No noise can have been seen in so many windows, with so many bad requests of the baseline's in each."""

EAGER = (5, 6)
"""Which of `RATIOS` half of all is staked on in the first windows: what breaks at once should end at once."""

_LOG_RATIOS = tuple(map(log, RATIOS))
_MOST_MORE = log(0.5 / min(STAKES[number] for number in EAGER)) + log(len(RATIOS))
"""By how much, as a logarithm, all bets may be worth more than the best, eager or carried ones too."""
_EXCESSES = tuple(ratio - 1 for ratio in RATIOS)
_LOG_STAKES = tuple(map(log, STAKES))
_TAIL = 1.5
"""By how much, as a logarithm, the bets must be short for the noise and the last window's tail to need no look."""

_MOST_TAILED = 300
"""Of more bad requests in a window one more or less makes no difference, and their tail is long."""

_NEGLIGIBLE, _LARGEST = 1e-4, 1e200
_ALMOST_ALL = 1 - 1e-12
_CLOSE = 0.01
_HALF = log(0.5)
_DOUBTS = tuple(log(noise.doubt) for noise in NOISES)
_FIRST_DOUBTS = tuple(log(noise.first_doubt) for noise in NOISES)


class Worse:
    """The evidence that a candidate is worse at all, window by window."""

    __slots__ = (
        "_bad",
        "_baseline_bad",
        "_bets",
        "_carried",
        "_found",
        "_limit",
        "_requests",
        "_scattered",
        "_splits",
        "_windows",
    )

    def __init__(self, false_alarm: float) -> None:
        """Begin without evidence; a healthy candidate is found worse with a chance of `false_alarm` at most."""
        self._limit = -log(false_alarm)
        self._bets: Sequence[float] = _LOG_STAKES
        self._carried = 0.0
        self._splits = array("d")
        self._scattered: _Scattered | None = None
        self._bad = self._baseline_bad = self._requests = self._windows = 0
        self._found = False

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
        self._baseline_bad += baseline_bad
        share = candidate_of / both
        self._splits.extend((candidate_bad, bad, share, self._bad / self._requests * both))
        if not candidate_bad:
            self._bets = [bet - bad * cost for bet, cost in zip(self._bets, _costs(share), strict=True)]
            return
        self._bets = bets = [
            bet + candidate_bad * log_ratio - bad * cost
            for bet, log_ratio, cost in zip(self._bets, _LOG_RATIOS, _costs(share), strict=True)
        ]
        if max(bets) + _MOST_MORE + _TAIL >= self._limit and self._bet(bets) + _TAIL >= self._limit:
            self._found = self._evidence() >= self._limit

    def _bet(self, bets: Sequence[float]) -> float:
        """Return the logarithm of what all bets are worth, of which half are eager in the first windows."""
        if self._windows > FIRST_WINDOWS:
            return _log_sum(bets) + self._carried
        return _log_sum([_HALF + _log_sum(bets), _HALF + _eager(bets)])

    def _evidence(self) -> float:
        """Return the logarithm of the evidence with what noise can explain taken off, the last window by its tail."""
        if self._scattered is None:
            self._scattered = _Scattered()
        ends, healthy = self._scattered.ends(self._splits)
        worse = _log_sum([each for bets in ends for each in bets])
        is_first = self._windows <= FIRST_WINDOWS
        if is_first:
            worse = _log_sum([_HALF + worse, _HALF + _eager(ends[0]) - log(NOISES[0].stake)])
        doubts = _FIRST_DOUBTS if is_first and self._baseline_bad <= FIRST_BAD * self._windows else _DOUBTS
        return worse + self._carried - max(doubt + each for doubt, each in zip(doubts, healthy, strict=True))

    def least_ratio(self) -> float:
        """Return how many times the baseline's rate the candidate's is at least, if there is no noise but chance.

        Every window's share is taken as the mean one, so it is near rather than exact; 1 where nothing is known.
        """
        if not self._splits:
            return 1.0
        bad, both = sum(self._splits[0::4]), sum(self._splits[1::4])
        share = sum(map(mul, self._splits[1::4], self._splits[2::4])) / both
        low, high = 1.0, RATIOS[-1]
        while high - low > _CLOSE:
            middle = (low + high) / 2
            larger = [bet for bet, ratio in zip(self._bets, RATIOS, strict=True) if ratio > middle]
            against = _log_sum(larger) - bad * log(middle) + both * log1p(share * (middle - 1))
            low, high = (middle, high) if against >= self._limit else (low, middle)
        return low


@lru_cache(maxsize=32768)
def _costs(share: float) -> Sequence[float]:
    """Return what each bet loses for a bad request of either variant, where the candidate has `share` of requests."""
    return [log1p(share * excess) for excess in _EXCESSES]


def _eager(bets: Sequence[float]) -> float:
    """Return the logarithm of what all bets would be worth with half of all on each of the eager ones."""
    return _log_sum([_HALF + bets[number] - _LOG_STAKES[number] for number in EAGER])


class _Scattered:
    """How likely the windows are with each noise, as logarithms; the windows that were looked at are kept summed."""

    __slots__ = ("_done", "_healthy", "_worse")

    def __init__(self) -> None:
        self._done = 0
        self._worse = [[log(noise.stake) + stake for stake in _LOG_STAKES] for noise in NOISES]
        self._healthy = [0.0] * len(NOISES)

    def ends(self, splits: array[float]) -> tuple[list[list[float]], list[float]]:
        """Return for each noise how likely so much or more is: at each of `RATIOS` as staked, and for a healthy one."""
        last = len(splits) - 4
        while self._done < last:
            self._worse, self._healthy = self._with(splits[self._done : self._done + 4], tail=False)
            self._done += 4
        return self._with(splits[last:], tail=splits[last + 1] <= _MOST_TAILED)

    def _with(self, split: array[float], *, tail: bool) -> tuple[list[list[float]], list[float]]:
        likely = list(_likelihoods(int(split[0]), int(split[1]), split[2], split[3], tail=tail))
        worse = [
            [bet + more for bet, more in zip(bets, each, strict=True)]
            for bets, (each, _) in zip(self._worse, likely, strict=True)
        ]
        return worse, [known + more for known, (_, more) in zip(self._healthy, likely, strict=True)]


def _likelihoods(
    bad: int, both: int, share: float, expected: float, *, tail: bool
) -> Iterator[tuple[Sequence[float], float]]:
    """Yield for each noise how likely a window is, as logarithms: at each of `RATIOS`, and where both are as good.

    `bad` are the candidate's bad requests of `both` variants', `share` its share of the requests, and `expected` what
    both have by the rate so far. With `tail` it is how likely so many bad requests of the candidate's are, or more.
    """
    shares = [
        min(share * ratio / (1 + share * excess), _ALMOST_ALL) for ratio, excess in zip(RATIOS, _EXCESSES, strict=True)
    ]
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
    while bad < both and _NEGLIGIBLE * whole < term < _LARGEST:
        term *= (both - bad) / (bad + 1) * (ours + step * bad) / (others + step * (both - bad - 1))
        whole += term
        bad += 1
    return whole


def _log_sum(logs: Sequence[float]) -> float:
    largest = max(logs)
    return largest + log(sum(exp(each - largest) for each in logs))
