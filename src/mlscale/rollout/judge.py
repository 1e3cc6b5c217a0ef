"""What the counts of a candidate and of the baseline beside it show: `Window`s → a `Verdict` for each metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from math import floor, log10

from mlscale.quantities import percent_text
from mlscale.rollout.limit import Limit
from mlscale.rollout.margin import Margin
from mlscale.rollout.worse import Worse

FALSE_ALARM = 0.01
MARGIN = 0.01
MIN_REQUESTS = 200

ERROR_RATE = "error_rate"
LATENCY = "latency"
"""The metric that counts requests slower than a bound."""

ERRORS_SHARE = 2
"""How many times another metric's share of the false alarms the error rate has: its counts are the smallest."""


class Outcome(StrEnum):
    """What a metric shows."""

    PASS = "pass"  # noqa: S105 - no password
    INCONCLUSIVE = "inconclusive"
    NO_DATA = "no_data"
    ERROR = "error"
    FAIL = "fail"


SEVERITY = (Outcome.PASS, Outcome.INCONCLUSIVE, Outcome.NO_DATA, Outcome.ERROR, Outcome.FAIL)
"""What is worse stands later; of several metrics the worst decides, and nothing but a pass moves on."""
_SEVERITY = {outcome: number for number, outcome in enumerate(SEVERITY)}


@dataclass(frozen=True, slots=True)
class Counts:
    """How many were bad, of how many."""

    bad: int
    of: int

    @property
    def rate(self) -> float | None:
        """The share of the bad ones, None where there was nothing."""
        return self.bad / self.of if self.of else None


@dataclass(frozen=True, slots=True)
class Window:
    """Both variants' counts over the same time, by metric; `end` is not in it.

    A metric that a variant lacks was not measured there, which is not the same as 0 of 0. `failed` has the metrics that
    could not be asked for, and why.
    """

    start: datetime
    end: datetime
    baseline: Mapping[str, Counts]
    candidate: Mapping[str, Counts]
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MetricRule:
    """What is asked of a metric.

    `margin` is by how much, at most, the candidate's rate may be above the baseline's to pass, None where they are not
    compared; `max` the most that it may be in any case. With `where_measured` it is asked from the first window that
    has the metric.
    """

    name: str
    margin: float | None = MARGIN
    max: float | None = None
    where_measured: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """One metric's outcome, and what it rests on.

    `bound` bounds the difference of the two rates: for a fail the least by which the candidate is worse, else the most
    by which it may be; where `max` was broken it is that. `n` is the candidate's requests. `missing` is how many more
    of them a pass takes if both variants are as good.
    """

    metric: str
    outcome: Outcome
    candidate: float | None = None
    baseline: float | None = None
    bound: float | None = None
    n: int = 0
    why: str = ""
    missing: int | None = None


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict that decides: the worst, of passes and of the undecided the one nearest to not passing."""
    return max(verdicts, key=lambda each: (_SEVERITY[each.outcome], each.bound or 0.0))


class Judge:
    """Takes windows as they come, late ones too, and tells what they show so far."""

    def __init__(
        self, rules: Sequence[MetricRule], *, false_alarm: float = FALSE_ALARM, min_requests: int = MIN_REQUESTS
    ) -> None:
        """Begin without windows.

        A healthy candidate fails with a chance of `false_alarm` at most, all metrics together; `min_requests` of its
        requests are needed to pass, none to fail.
        """
        if not rules:
            raise ValueError("there is nothing to judge by")
        shares = [ERRORS_SHARE if rule.name == ERROR_RATE else 1 for rule in rules]
        self._metrics = {
            rule.name: _Metric(rule, false_alarm * share / sum(shares), min_requests)
            for rule, share in zip(rules, shares, strict=True)
        }

    def look(self, window: Window) -> None:
        """Take one window."""
        for name, metric in self._metrics.items():
            metric.look(window.candidate.get(name), window.baseline.get(name), window.failed.get(name, ""))

    @property
    def outcome(self) -> Outcome:
        """What the worst metric shows."""
        return SEVERITY[
            max((_SEVERITY[metric.outcome] for metric in self._asked()), default=_SEVERITY[Outcome.NO_DATA])
        ]

    def verdicts(self) -> Sequence[Verdict]:
        """Return each metric's verdict, in the order of the rules."""
        return [metric.verdict() for metric in self._asked() or self._metrics.values()]

    def _asked(self) -> Sequence[_Metric]:
        return [metric for metric in self._metrics.values() if metric.is_asked]

    def verdict(self) -> Verdict:
        """Return the verdict that decides."""
        return worst(self.verdicts())


class _Metric:
    """One metric: its tests, and the sums that a verdict prints."""

    def __init__(self, rule: MetricRule, false_alarm: float, min_requests: int) -> None:
        tests = (rule.margin is not None) + (rule.max is not None)
        self._rule = rule
        self.is_asked = not rule.where_measured
        self._min_requests = min_requests
        self._worse = Worse(false_alarm / tests) if rule.margin is not None else None
        self._margin = Margin(rule.margin) if rule.margin is not None else None
        self._limit = Limit(rule.max, false_alarm / tests) if rule.max is not None else None
        self._bad = self._of = self._baseline_bad = self._baseline_of = 0
        self._failed = ""
        self._silent = "no window yet"

    def look(self, candidate: Counts | None, baseline: Counts | None, failed: str) -> None:
        """Take one window's counts, None where there are none."""
        self._failed = failed
        self.is_asked = self.is_asked or candidate is not None or baseline is not None
        self._silent = _silence(candidate, baseline if self._margin else candidate)
        if candidate is not None:
            self._bad += candidate.bad
            self._of += candidate.of
            if self._limit:
                self._limit.look(candidate.bad, candidate.of)
        if baseline is not None:
            self._baseline_bad += baseline.bad
            self._baseline_of += baseline.of
        if candidate is not None and baseline is not None and self._worse and self._margin:
            self._worse.look(candidate.bad, candidate.of, baseline.bad, baseline.of)
            self._margin.look(candidate.bad, candidate.of, baseline.bad, baseline.of)

    @property
    def outcome(self) -> Outcome:
        """What the windows so far show."""
        if (self._worse is not None and self._worse.found) or (self._limit is not None and self._limit.found):
            return Outcome.FAIL
        if self._failed:
            return Outcome.ERROR
        if self._silent:
            return Outcome.NO_DATA
        return Outcome.INCONCLUSIVE if self._lacking() else Outcome.PASS

    @property
    def _is_worse(self) -> bool:
        return self._worse is not None and self._worse.found

    def _lacking(self) -> bool:
        """Return whether something is still to be shown."""
        return (
            self._of < self._min_requests
            or (self._margin is not None and not self._margin.shown)
            or (self._rule.max is not None and self._bad > self._rule.max * self._of)
        )

    def verdict(self) -> Verdict:
        """Return what the windows so far show, with the numbers."""
        outcome = self.outcome
        bound = self._bound(outcome)
        return Verdict(
            self._rule.name,
            outcome,
            candidate=self._bad / self._of if self._of else None,
            baseline=self._baseline_bad / self._baseline_of if self._baseline_of else None,
            bound=bound,
            n=self._of,
            why=self._why(outcome, bound or 0.0),
            missing=self._missing() if outcome is Outcome.INCONCLUSIVE else None,
        )

    def _bound(self, outcome: Outcome) -> float | None:
        if self._is_worse and self._worse and self._baseline_of:
            return (self._worse.least_ratio() - 1) * self._baseline_bad / self._baseline_of
        if outcome is Outcome.FAIL or self._margin is None:
            return self._rule.max
        return self._margin.bound()

    def _missing(self) -> int | None:
        """Return how many more requests of the candidate's a pass takes, None if it is not a matter of more."""
        if self._rule.max is not None and self._bad > self._rule.max * self._of:
            return None
        shown = self._margin.missing() if self._margin else 0
        return None if shown is None else max(shown, self._min_requests - self._of)

    def _why(self, outcome: Outcome, bound: float) -> str:
        if outcome is Outcome.ERROR:
            return self._failed
        if outcome is Outcome.NO_DATA:
            return self._silent
        words = [_rate_text(self._bad, self._of)]
        if self._margin is not None:
            words.append(f"baseline {_rate_text(self._baseline_bad, self._baseline_of)}")
        return f"{', '.join(words)}: {self._finding(outcome, _percent(bound))}"

    def _finding(self, outcome: Outcome, bound: str) -> str:
        if outcome is Outcome.FAIL:
            return f"worse, by {bound} at least" if self._is_worse else f"above {bound}"
        words = f"worse by {bound} at most" if self._margin else f"not above {bound}"
        if outcome is Outcome.PASS:
            return words
        if self._rule.max is not None and self._bad > self._rule.max * self._of:
            return f"above {_percent(self._rule.max)}, which may be chance"
        missing = self._missing()
        more = "" if missing is None else f"; about {missing:,} more requests are needed"
        margin = f", {_percent(self._rule.margin)} may be" if self._rule.margin is not None else ""
        return words + margin + more


def _silence(candidate: Counts | None, baseline: Counts | None) -> str:
    """Return what is missing of a window, empty when nothing is."""
    for variant, counts in (("candidate", candidate), ("baseline", baseline)):
        if counts is None:
            return f"nothing was measured of the {variant}"
        if not counts.of:
            return f"the {variant} had no requests"
    return ""


def _rate_text(bad: int, of: int) -> str:
    return f"{_percent(bad / of)} of {of:,}" if of else "no requests"


def _percent(share: float) -> str:
    """Return a share as a percentage, with three figures where it is small."""
    percent = share * 100
    return percent_text(round(percent, 2 - floor(log10(percent))) if percent > 0 else 0.0)
