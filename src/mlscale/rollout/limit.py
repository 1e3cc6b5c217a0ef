"""Whether a candidate's rate is above a limit of its own, whatever the baseline's is, however often one looks."""

from __future__ import annotations

from math import exp, log, log1p

RATIOS = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""How many times the limit the candidate's rate may be; the same is bet on each."""

HIGHEST = 0.999


class Limit:
    """The evidence that a candidate's rate is above a limit, window by window."""

    __slots__ = ("_bad", "_bets", "_enough", "_found", "_of", "_squares", "_windows")

    def __init__(self, limit: float, false_alarm: float) -> None:
        """Begin without evidence; a rate within the limit is found above it with a chance of `false_alarm` at most."""
        self._enough = -log(false_alarm)
        rates = {min(limit * ratio, HIGHEST) for ratio in RATIOS if limit < HIGHEST}
        self._bets = [(log(rate / limit), log1p(-rate) - log1p(-limit)) for rate in sorted(rates)]
        self._bad = self._of = self._windows = 0
        self._squares = 0.0
        self._found = False

    @property
    def found(self) -> bool:
        """Whether the rate was found above the limit; what comes later does not change it."""
        return self._found

    def look(self, bad: int, of: int) -> None:
        """Take the candidate's counts of one window."""
        if not of or not self._bets:
            return
        self._bad += bad
        self._of += of
        self._windows += 1
        self._squares += bad * bad / of
        noise = self._noise()
        logs = [(self._bad * gain + (self._of - self._bad) * loss) / noise for gain, loss in self._bets]
        if max(logs) >= self._enough:
            largest = max(logs)
            mean = largest + log(sum(exp(each - largest) for each in logs) / len(logs))
            self._found = self._found or mean >= self._enough

    def _noise(self) -> float:
        """Return the variance of the windows' rates over what chance alone gives them; 1 or more."""
        rate = self._bad / self._of
        if not 0 < rate < 1:
            return 1.0
        scatter = (self._squares - self._bad * rate) / (rate * (1 - rate))
        return max(1.0, (1 + scatter) / self._windows)
