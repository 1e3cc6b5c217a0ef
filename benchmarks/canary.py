"""How often a healthy release is stopped and how soon a bad one is, on simulated traffic, against two other ways.

The judge looks each minute for an hour at errors and slow requests, with a false alarm of 1 %. The others see the same
streams: a loop as Flagger has it (99 % of a minute's requests must succeed; ten minutes that fail end it, 25 that pass
promote) and a test as Kayenta has it (Mann-Whitney U over the minutes' rates, confidence 0.98, tolerance 0.25), once
after the hour. Time counts from when a window's counts are there; how late each cloud has them is not in it.

    python benchmarks/canary.py [--rollouts 1000] [--processes 2]

Exits 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product

import numpy as np
import orjson

from mlscale.rollout.judge import FALSE_ALARM, MARGIN, Counts, Judge, Outcome, Window
from mlscale.rollout.replay import Decision, decisions, usual_rules

WINDOWS = 60
START = datetime(2026, 1, 1, tzinfo=UTC)
SEED = 20260101
SLOW = 0.005
RPS = (2, 10, 100)
WEIGHTS = (0.05, 0.10, 0.50)
RATES = (0.001, 0.005, 0.02, 0.10)
"""Of requests that fail while all is well."""

TOLERANCE = 3.0
"""Standard errors by which a simulated rate may be beyond a target that holds exactly."""


@dataclass(frozen=True)
class Traffic:
    """One hour: requests a second, the candidate's share, the rates of failed requests, and how they move.

    `drift` is by how much of itself the rate swings in the hour, and the traffic by half of that; `burst` how many
    times as many requests of both fail in one minute of twenty; `clumps` the variance of each variant's counts over
    Poisson's; `spread` the standard deviation of each variant's own rate, of itself.
    """

    rps: float
    weight: float
    healthy: float
    candidate: float
    slow: float = SLOW
    drift: float = 0.0
    burst: float = 1.0
    clumps: float = 1.0
    spread: float = 0.0


@dataclass(frozen=True)
class Hour:
    """Counts by rollout and minute."""

    baseline: np.ndarray
    candidate: np.ndarray
    baseline_errors: np.ndarray
    candidate_errors: np.ndarray
    baseline_slow: np.ndarray
    candidate_slow: np.ndarray


def hours(traffic: Traffic, rollouts: int, seed: int) -> Hour:
    """Return as many simulated hours."""
    chance = np.random.default_rng(seed)
    shape = (rollouts, WINDOWS)
    phase = chance.uniform(0, 2 * math.pi, (rollouts, 1))
    swing = traffic.drift * np.sin(phase + np.arange(WINDOWS) * 2 * math.pi / WINDOWS)
    arriving = traffic.rps * 60 * (1 + swing / 2)
    candidate = chance.poisson(arriving * traffic.weight, shape)
    baseline = chance.poisson(arriving * (1 - traffic.weight), shape)
    common = (1 + swing) * np.where(chance.random(shape) < 0.05, traffic.burst, 1.0)

    def bad(of: np.ndarray, rate: float) -> np.ndarray:
        expected = of * np.minimum(common * rate, 0.6)
        if traffic.spread:
            expected = expected * chance.gamma(traffic.spread**-2, traffic.spread**2, shape)
        if traffic.clumps > 1:
            more = traffic.clumps - 1
            expected = chance.gamma(np.maximum(expected, 1e-12) / more) * more
            return np.minimum(chance.poisson(expected), of)
        return chance.binomial(of, np.minimum(expected / np.maximum(of, 1), 1))

    return Hour(
        baseline,
        candidate,
        bad(baseline, traffic.healthy),
        bad(candidate, traffic.candidate),
        bad(baseline, traffic.slow),
        bad(candidate, traffic.slow),
    )


def lines(hour: Hour) -> Iterator[bytes]:
    """Yield what `mlscale rollout replay` reads: a line for each rollout and minute, in time order."""
    columns = [
        each.tolist()
        for each in (
            hour.baseline, hour.baseline_errors, hour.baseline_slow,
            hour.candidate, hour.candidate_errors, hour.candidate_slow,
        )
    ]  # fmt: skip
    for minute in range(WINDOWS):
        at = (START + timedelta(minutes=minute + 1)).isoformat()
        for rollout in range(len(columns[0])):
            counts = [column[rollout][minute] for column in columns]
            baseline, candidate = (
                dict(zip(("requests", "errors", "slow"), each, strict=True)) for each in (counts[:3], counts[3:])
            )
            yield orjson.dumps({"rollout": str(rollout), "at": at, "baseline": baseline, "candidate": candidate})


@dataclass(frozen=True)
class Decided:
    """Which share was stopped and which promoted, and the median minute of either; infinite if most never were."""

    stopped: float
    stop_minute: float
    promoted: float
    promote_minute: float


def judged(hour: Hour) -> Decided:
    """Return what the judge decides, as the command does: with promotions, by default settings."""
    found = list(decisions(lines(hour), "simulated", lambda: Judge(usual_rules(MARGIN)), most=WINDOWS))
    return _decided(
        [each.windows if each.decision is Decision.ROLL_BACK else 0 for each in found],
        [each.windows if each.decision is Decision.PROMOTE else 0 for each in found],
    )


def looked_at(hour: Hour) -> Decided:
    """Return what the judge stops when nothing is promoted, so that it looks sixty times."""
    stops = []
    for rollout in range(len(hour.baseline)):
        judge = Judge(usual_rules(MARGIN))
        stop = 0
        for minute in range(WINDOWS):
            at = START + timedelta(minutes=minute)
            here = rollout, minute
            of, candidate_of = int(hour.baseline[here]), int(hour.candidate[here])
            judge.look(
                Window(
                    at,
                    at + timedelta(minutes=1),
                    {
                        "error_rate": Counts(int(hour.baseline_errors[here]), of),
                        "latency": Counts(int(hour.baseline_slow[here]), of),
                    },
                    {
                        "error_rate": Counts(int(hour.candidate_errors[here]), candidate_of),
                        "latency": Counts(int(hour.candidate_slow[here]), candidate_of),
                    },
                )
            )
            if judge.outcome is Outcome.FAIL:
                stop = minute + 1
                break
        stops.append(stop)
    return _decided(stops, [0])


def threshold_loop(hour: Hour) -> Decided:
    """Return what a loop over the candidate's success rate decides: 99 %, ten failures, 25 passes."""
    stops, promotions = [], []
    for of, errors in zip(hour.candidate, hour.candidate_errors, strict=True):
        fails = np.cumsum((of > 0) & (errors > 0.01 * of))
        passes = np.cumsum((of > 0) & (errors <= 0.01 * of))
        stop = int(np.argmax(fails >= 10)) + 1 if fails[-1] >= 10 else 0
        promote = int(np.argmax(passes >= 25)) + 1 if passes[-1] >= 25 else 0
        stops.append(stop if stop and (not promote or stop < promote) else 0)
        promotions.append(promote if promote and not stops[-1] else 0)
    return _decided(stops, promotions)


def fixed_test(hour: Hour) -> Decided:
    """Return what one Mann-Whitney test over the hour's rates calls high: its interval, beyond the tolerance."""
    z = 2.3263
    number = int(WINDOWS * WINDOWS / 2 - z * math.sqrt(WINDOWS * WINDOWS * (2 * WINDOWS + 1) / 12))
    stops = []
    for row in range(len(hour.baseline)):
        ours = hour.candidate_errors[row] / np.maximum(hour.candidate[row], 1)
        others = hour.baseline_errors[row] / np.maximum(hour.baseline[row], 1)
        differences = np.sort((ours[:, None] - others[None, :]).ravel())
        is_high = differences[number] > 0.25 * abs(np.median(differences))
        stops.append(WINDOWS if is_high else 0)
    return _decided(stops, [0])


def _decided(stops: Sequence[int], promotions: Sequence[int]) -> Decided:
    return Decided(
        sum(map(bool, stops)) / len(stops),
        float(np.median([each or math.inf for each in stops])),
        sum(map(bool, promotions)) / len(promotions),
        float(np.median([each or math.inf for each in promotions])),
    )


HEALTHY: dict[str, Traffic] = {
    "steady": Traffic(0, 0, 0, 0),
    "drift: the rate swings by 80 %, the traffic by 40 %": Traffic(0, 0, 0, 0, drift=0.8),
    "bursts: in 1 minute of 20, ten times as many of both fail": Traffic(0, 0, 0, 0, burst=10),
    "own noise: a variance of 1.5 times Poisson's": Traffic(0, 0, 0, 0, clumps=1.5),
    "own noise: a variance of 2 times Poisson's": Traffic(0, 0, 0, 0, clumps=2),
    "own noise: each rate jumps by 20 %": Traffic(0, 0, 0, 0, spread=0.2),
    "own noise: each rate jumps by 30 %": Traffic(0, 0, 0, 0, spread=0.3),
    "drift, bursts and a variance of 1.5 at once": Traffic(0, 0, 0, 0, drift=0.8, burst=10, clumps=1.5),
}
"""How the rates of healthy releases may move."""

RELEASES = (
    Traffic(10, 0.10, 0.005, 0.005),
    Traffic(10, 0.10, 0.01, 0.01),
    Traffic(2, 0.10, 0.005, 0.005),
    Traffic(2, 0.05, 0.005, 0.005),
    Traffic(100, 0.10, 0.005, 0.005),
    Traffic(2, 0.10, 0.005, 0.02),
    Traffic(10, 0.10, 0.005, 0.01),
    Traffic(10, 0.10, 0.005, 0.02),
    Traffic(100, 0.10, 0.005, 0.0075),
    Traffic(2, 0.05, 0.005, 0.05),
    Traffic(10, 0.10, 0.005, 0.05),
    Traffic(10, 0.10, 0.005, 0.50),
)


@dataclass(frozen=True)
class Target:
    """What must hold of a release, and whether it does."""

    words: str
    holds: Callable[[Decided], bool]


TARGETS = {
    RELEASES[0]: (
        Target("at most 1 % of the healthy are stopped", lambda each: each.stopped <= 0.01),
        Target("at least 95 % of the healthy are promoted within the hour", lambda each: each.promoted >= 0.95),
    ),
    RELEASES[9]: (Target("at least 99 % of 0.5 -> 5 % are caught at 2 rps, 5 %", lambda each: each.stopped >= 0.99),),
    RELEASES[10]: (
        Target("0.5 -> 5 % is stopped in 2 minutes, the median, at 10 rps, 10 %", lambda each: each.stop_minute <= 2),
    ),
}


def false_stops(rollouts: int, healthy: Traffic, seed: int) -> float:
    """Return the share that is stopped of healthy releases."""
    return looked_at(hours(healthy, rollouts, seed)).stopped


def compared(rollouts: int, traffic: Traffic, seed: int) -> tuple[Decided, Decided, Decided]:
    """Return what the judge, the loop and the test do with the same hours."""
    hour = hours(traffic, rollouts, seed)
    return judged(hour), threshold_loop(hour), fixed_test(hour)


def main() -> int:
    """Print both tables; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rollouts", type=int, default=1000, help="for each release of the second table")
    parser.add_argument("--processes", type=int, default=2)
    words = parser.parse_args()
    began = time.perf_counter()
    with ProcessPoolExecutor(words.processes) as pool:
        missed = _print_false_stops(pool, max(words.rollouts // 4, 50)) + _print_compared(pool, words.rollouts)
    print(f"\n{time.perf_counter() - began:.0f} s; {'ok' if not missed else f'{missed} targets missed'}")
    return int(missed > 0)


def _print_false_stops(pool: ProcessPoolExecutor, rollouts: int) -> int:
    cells = list(product(RPS, WEIGHTS, RATES))
    print(
        f"Healthy releases stopped in 60 looks, {FALSE_ALARM:.0%} stated, errors and 2 % slow requests judged at once."
    )
    print(f"{rollouts} each at {RPS} rps, weights {WEIGHTS}, rates {RATES}.\n")
    missed = 0
    for number, (name, moving) in enumerate(HEALTHY.items()):
        releases = [
            replace(moving, rps=rps, weight=weight, healthy=rate, candidate=rate, slow=0.02)
            for rps, weight, rate in cells
        ]
        seeds = range(SEED + 1000 * number, SEED + 1000 * number + len(cells))
        stopped = list(pool.map(partial(false_stops, rollouts), releases, seeds))
        mean = sum(stopped) / len(stopped)
        error = math.sqrt(FALSE_ALARM * (1 - FALSE_ALARM) / (rollouts * len(cells)))
        is_met = mean <= FALSE_ALARM + TOLERANCE * error
        missed += not is_met
        worst, (rps, weight, rate) = max(zip(stopped, cells, strict=True))
        print(f"  {name:<58} {mean:6.2%}   worst {worst:6.2%} at {rps} rps, {weight:.0%}, {rate:.1%}   {_word(is_met)}")
    return missed


def _print_compared(pool: ProcessPoolExecutor, rollouts: int) -> int:
    print(
        f"\n{rollouts} releases each: stopped, with the median minute; promoted (this judge), with the median minute.\n"
    )
    titles = f"{'this judge':>16} {'promoted':>16} {'loop at 99 %':>16} {'U test':>8}"
    print(f"{'errors':>14} {'rps':>4} {'weight':>6} {titles}")
    found = list(pool.map(partial(compared, rollouts), RELEASES, range(SEED, SEED + len(RELEASES))))
    missed = []
    for traffic, (ours, loop, test) in zip(RELEASES, found, strict=True):
        change = f"{traffic.healthy:.2%} -> {traffic.candidate:.2%}"
        print(
            f"{change:>14} {traffic.rps:>4} {traffic.weight:>6.0%} {_text(ours.stopped, ours.stop_minute):>16}"
            f" {_text(ours.promoted, ours.promote_minute):>16} {_text(loop.stopped, loop.stop_minute):>16}"
            f" {test.stopped:>8.1%}"
        )
        missed += [(each.words, each.holds(ours)) for each in TARGETS.get(traffic, ())]
    print()
    for target, is_met in missed:
        print(f"  {target}: {_word(is_met)}")
    return sum(not is_met for _, is_met in missed)


def _text(share: float, minute: float) -> str:
    return f"{share:.1%}" + ("" if math.isinf(minute) else f", {minute:.0f} min")


def _word(is_met: bool) -> str:  # noqa: FBT001 - it is what the word says
    return "ok" if is_met else "MISSED"


if __name__ == "__main__":
    sys.exit(main())
