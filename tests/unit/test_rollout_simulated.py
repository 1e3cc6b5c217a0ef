"""The judge on simulated hours, briefly; benchmarks/canary.py does the same at length and beside two other ways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median

import numpy as np
import pytest

from mlscale.rollout.judge import ERROR_RATE, LATENCY, Counts, Judge, MetricRule, Outcome, Window

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = 60
RULES = (MetricRule(ERROR_RATE), MetricRule(LATENCY))
RELEASES = 200
STATED = 0.01


@dataclass(frozen=True)
class Traffic:
    """Requests a second, the candidate's share, what fails of each variant, and how that moves."""

    rps: float
    weight: float
    baseline: float
    candidate: float
    drift: float = 0.0
    burst: float = 1.0
    clumps: float = 1.0


def hours(traffic: Traffic, seed: int) -> Iterator[Iterator[Window]]:
    """Yield hours of windows, each as random as the others."""
    chance = np.random.default_rng(seed)

    def bad(of: int, rate: float) -> Counts:
        rate = min(rate, 0.5)
        if traffic.clumps > 1 and of:
            rate = chance.gamma(of * rate / (traffic.clumps - 1)) * (traffic.clumps - 1) / of
        return Counts(int(chance.binomial(of, min(rate, 1))), of)

    def windows() -> Iterator[Window]:
        phase = chance.uniform(0, 6.28)
        for minute in range(HOUR):
            common = 1 + traffic.drift * np.sin(phase + minute / 10)
            common *= traffic.burst if chance.random() < 0.05 else 1
            requests = [int(chance.poisson(traffic.rps * 60 * each)) for each in (1 - traffic.weight, traffic.weight)]
            baseline, candidate = [
                {ERROR_RATE: bad(of, common * rate), LATENCY: bad(of, common * 0.005)}
                for of, rate in zip(requests, (traffic.baseline, traffic.candidate), strict=True)
            ]
            at = START + timedelta(minutes=minute)
            yield Window(at, at + timedelta(minutes=1), baseline, candidate)

    for _ in range(RELEASES):
        yield windows()


def ends(traffic: Traffic, seed: int, *, promoted: bool) -> list[tuple[Outcome, int]]:
    """Return how each hour ended, and in which minute; with `promoted` a pass ends it too."""
    found = []
    for windows in hours(traffic, seed):
        judge = Judge(RULES)
        end = (Outcome.INCONCLUSIVE, HOUR)
        for minute, window in enumerate(windows, 1):
            judge.look(window)
            if judge.outcome is Outcome.FAIL or (promoted and judge.outcome is Outcome.PASS):
                end = (judge.outcome, minute)
                break
        found.append(end)
    return found


@pytest.mark.parametrize(
    "healthy",
    [
        Traffic(10, 0.1, 0.005, 0.005),
        Traffic(2, 0.5, 0.02, 0.02, drift=0.8),
        Traffic(10, 0.05, 0.005, 0.005, burst=20),
        Traffic(10, 0.1, 0.005, 0.005, clumps=1.5),
        Traffic(100, 0.1, 0.1, 0.1, drift=0.5, burst=4, clumps=2),
    ],
    ids=["steady", "drift", "bursts", "own noise", "all at once"],
)
def test_healthy_releases_are_stopped_no_more_often_than_stated(healthy: Traffic) -> None:
    """In sixty looks, nothing being promoted meanwhile; three standard errors are granted to chance."""
    stopped = sum(outcome is Outcome.FAIL for outcome, _ in ends(healthy, 1, promoted=False))

    assert stopped <= RELEASES * STATED + 3 * (RELEASES * STATED * (1 - STATED)) ** 0.5


def test_ten_times_the_errors_are_stopped_in_two_minutes() -> None:
    """0.5 to 5 % at 10 rps and a tenth of the traffic: all of them, half by the second minute."""
    found = ends(Traffic(10, 0.1, 0.005, 0.05), 2, promoted=True)

    assert {outcome for outcome, _ in found} == {Outcome.FAIL}
    assert median(minute for _, minute in found) <= 2


def test_few_requests_are_enough_for_ten_times_the_errors() -> None:
    """0.5 to 5 % at 2 rps and a twentieth of the traffic, six requests a minute: nearly all within the hour."""
    found = ends(Traffic(2, 0.05, 0.005, 0.05), 3, promoted=True)

    assert sum(outcome is Outcome.FAIL for outcome, _ in found) >= 0.98 * RELEASES


def test_healthy_releases_are_promoted_within_the_hour() -> None:
    """At 10 rps and a tenth of the traffic; with few requests some are undecided, and none is guessed."""
    found = ends(Traffic(10, 0.1, 0.005, 0.005), 4, promoted=True)
    thin = ends(Traffic(2, 0.05, 0.005, 0.005), 5, promoted=True)

    assert sum(outcome is Outcome.PASS for outcome, _ in found) >= 0.95 * RELEASES
    assert sum(outcome is Outcome.FAIL for outcome, _ in thin) <= 0.03 * RELEASES


def test_a_candidate_that_is_worse_by_the_margin_is_seldom_promoted() -> None:
    """1.5 % against 0.5 %, within one percentage point being asked: one in twenty at most."""
    found = ends(Traffic(10, 0.1, 0.005, 0.015), 6, promoted=True)

    assert sum(outcome is Outcome.PASS for outcome, _ in found) <= 0.05 * RELEASES + 3 * (RELEASES * 0.0475) ** 0.5
