"""What a judge says: outcomes, what is worse, and what a verdict prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mlscale.rollout.judge import (
    ERROR_RATE,
    LATENCY,
    SEVERITY,
    Counts,
    Judge,
    MetricRule,
    Outcome,
    Verdict,
    Window,
    worst,
)

NOON = datetime(2026, 6, 3, 12, 0, tzinfo=UTC)
ERRORS = (MetricRule(ERROR_RATE),)
BOTH = (MetricRule(ERROR_RATE), MetricRule(LATENCY))


def a_window(
    candidate: tuple[int, int] | None = (0, 60),
    baseline: tuple[int, int] | None = (3, 540),
    failed: Mapping[str, str] | None = None,
    slow: tuple[int, int] | None = None,
) -> Window:
    """Return a minute at 10 rps, a tenth of them for the candidate, with what the test names."""

    def counts(errors: tuple[int, int] | None) -> dict[str, Counts]:
        found = {} if errors is None else {ERROR_RATE: Counts(*errors)}
        return {**found, **({LATENCY: Counts(*slow)} if slow else {})}

    return Window(NOON, NOON + timedelta(minutes=1), counts(baseline), counts(candidate), failed or {})


def judged(windows: Sequence[Window], rules: Sequence[MetricRule] = ERRORS, **settings: float) -> Judge:
    """Return a judge that has looked at all of `windows`."""
    judge = Judge(rules, false_alarm=settings.get("false_alarm", 0.01), min_requests=int(settings.get("fewest", 200)))
    for each in windows:
        judge.look(each)
    return judge


def test_what_is_worse_is_one_ordered_table() -> None:
    """Every outcome is in it, and nothing but a pass is as good as a pass."""
    assert SEVERITY == (Outcome.PASS, Outcome.INCONCLUSIVE, Outcome.NO_DATA, Outcome.ERROR, Outcome.FAIL)
    assert set(SEVERITY) == set(Outcome)


@pytest.mark.parametrize(("number", "outcome"), list(enumerate(SEVERITY)))
def test_the_worst_decides(number: int, outcome: Outcome) -> None:
    """Of a verdict and all that are better, it is the verdict's."""
    verdicts = [Verdict(each.value, each) for each in SEVERITY[: number + 1]]

    assert worst(verdicts) == worst(verdicts[::-1]) == Verdict(outcome.value, outcome)


def test_a_good_candidate_passes() -> None:
    """After half an hour at 0.5 %, with the numbers that it rests on."""
    verdict = judged([a_window(), a_window((1, 60))] * 15).verdict()

    assert verdict.bound is not None
    assert 0.009 < verdict.bound <= 0.01
    assert verdict == Verdict(
        ERROR_RATE,
        Outcome.PASS,
        candidate=15 / 1800,
        baseline=90 / 16_200,
        bound=verdict.bound,
        n=1800,
        why=f"0.833% of 1,800, baseline 0.556% of 16,200: worse by {verdict.bound * 100:.3g}% at most",
        missing=None,
    )


def test_a_failing_candidate_fails() -> None:
    """In the second minute at 5 %, with the least by which it is worse."""
    verdict = judged([a_window((4, 60))] * 2).verdict()

    assert verdict.bound is not None
    assert 0.003 < verdict.bound < 0.01
    assert verdict == Verdict(
        ERROR_RATE,
        Outcome.FAIL,
        candidate=8 / 120,
        baseline=6 / 1080,
        bound=verdict.bound,
        n=120,
        why=f"6.67% of 120, baseline 0.556% of 1,080: worse, by {verdict.bound * 100:.3g}% at least",
        missing=None,
    )


def test_a_fail_stays() -> None:
    """Good minutes, silence and failed queries afterwards change nothing."""
    bad = [a_window((4, 60))] * 2

    assert judged([*bad, *[a_window()] * 60]).outcome is Outcome.FAIL
    assert judged([*bad, a_window((0, 0)), a_window(failed={ERROR_RATE: "denied"})]).outcome is Outcome.FAIL


def test_too_little_is_inconclusive_and_says_what_is_missing() -> None:
    """Five minutes in, so many more requests are needed."""
    verdict = judged([a_window()] * 5).verdict()

    assert (verdict.outcome, verdict.candidate, verdict.n) == (Outcome.INCONCLUSIVE, 0.0, 300)
    assert verdict.missing == 308
    assert verdict.why == (
        "0% of 300, baseline 0.556% of 2,700: worse by 1.66% at most, 1% may be; about 308 more requests are needed"
    )


@pytest.mark.parametrize(
    ("candidate", "baseline", "why"),
    [
        ((0, 0), (3, 540), "the candidate had no requests"),
        (None, (3, 540), "nothing was measured of the candidate"),
        ((0, 60), (0, 0), "the baseline had no requests"),
        ((0, 60), None, "nothing was measured of the baseline"),
    ],
)
def test_silence_is_never_a_pass(candidate: tuple[int, int] | None, baseline: tuple[int, int] | None, why: str) -> None:
    """When requests or counts stop coming, what passed before passes no more, until they are there again."""
    good = [a_window()] * 30
    silent = a_window(candidate, baseline)

    assert judged(good).outcome is Outcome.PASS
    verdict = judged([*good, silent]).verdict()
    assert (verdict.outcome, verdict.why) == (Outcome.NO_DATA, why)
    assert judged([*good, silent, a_window()]).outcome is Outcome.PASS


def test_nothing_at_all_is_no_data() -> None:
    """Before the first window, and after hours of windows without anything in them."""
    assert judged([]).verdict() == Verdict(ERROR_RATE, Outcome.NO_DATA, bound=1.0, why="no window yet")
    assert judged([a_window(None, None)] * 600).outcome is Outcome.NO_DATA


def test_a_failed_query_is_an_error_with_its_reason() -> None:
    """It is neither silence nor a pass."""
    verdict = judged([*[a_window()] * 30, a_window(None, None, {ERROR_RATE: "access denied"})]).verdict()

    assert (verdict.outcome, verdict.why) == (Outcome.ERROR, "access denied")


def test_a_window_that_was_not_measured_is_not_a_window_of_zeros() -> None:
    """Half of the windows without latency: what there is of it is judged, and the rest is not taken for fast."""
    measured, unmeasured = a_window(slow=(1, 60)), a_window()
    judge = judged([measured, unmeasured] * 20, BOTH)

    latency = judge.verdicts()[1]
    assert (latency.metric, latency.n, latency.outcome) == (LATENCY, 20 * 60, Outcome.NO_DATA)


def test_late_windows_count_when_they_come() -> None:
    """The order of windows with the same traffic does not matter to what is shown in the end."""
    windows = [a_window((bad, 60), (other, 540)) for bad, other in [(0, 3), (1, 2), (0, 5), (0, 4), (1, 0)] * 6]
    late = [*windows[::2], *windows[1::2]]

    assert judged(windows).outcome is judged(late).outcome is Outcome.PASS


def test_min_requests_holds_a_pass_only() -> None:
    """Half an hour is no pass where more requests are wanted, and two bad minutes are a fail all the same."""
    held = judged([a_window()] * 30, fewest=5000).verdict()

    assert (held.outcome, held.missing) == (Outcome.INCONCLUSIVE, 5000 - 1800)
    assert judged([a_window((4, 60))] * 2, fewest=5000).outcome is Outcome.FAIL


def test_every_metric_has_to_pass() -> None:
    """Good error rates with slow answers fail, and with unknown ones are held."""
    slow = [
        Window(NOON, NOON, {ERROR_RATE: Counts(3, 540), LATENCY: Counts(5, 540)}, each)
        for each in ({ERROR_RATE: Counts(0, 60), LATENCY: Counts(9, 60)},)
    ]

    assert judged(slow * 30, BOTH).verdict().metric == LATENCY
    assert judged(slow * 30, BOTH).outcome is Outcome.FAIL
    assert judged([a_window()] * 30, BOTH).outcome is Outcome.NO_DATA


def test_a_metric_may_be_asked_only_where_it_is_measured() -> None:
    """Latency that is never there does not hold a pass, and does once it was there."""
    rules = (MetricRule(ERROR_RATE), MetricRule(LATENCY, where_measured=True))

    assert judged([a_window()] * 30, rules).outcome is Outcome.PASS
    assert len(judged([a_window()] * 30, rules).verdicts()) == 1
    assert judged([a_window(slow=(0, 60)), *[a_window()] * 30], rules).outcome is Outcome.NO_DATA


def test_the_false_alarm_is_shared() -> None:
    """What fails alone may not with another metric beside it, which might have been the false alarm."""
    bad = [a_window((5, 60), (3, 540))]

    assert judged(bad, ERRORS, false_alarm=0.02).outcome is Outcome.FAIL
    assert (
        judged(bad, [*ERRORS, *(MetricRule(f"own{n}") for n in range(20))], false_alarm=0.02).verdicts()[0].outcome
        is not Outcome.FAIL
    )


def test_a_small_harm_stops_though_it_is_within_the_margin() -> None:
    """The margin counts for a pass only: twice the baseline's rate is stopped, by enough requests."""
    window = Window(NOON, NOON, {ERROR_RATE: Counts(20, 20_000)}, {ERROR_RATE: Counts(40, 20_000)})

    assert judged([window] * 3).outcome is not Outcome.FAIL
    assert judged([window] * 10, [replace(ERRORS[0], margin=0.5)], fewest=10**9).outcome is Outcome.FAIL


def test_a_limit_holds_whatever_the_baseline_does() -> None:
    """Both at 3 % with a limit of 1 %: the candidate fails, though it is no worse."""
    verdict = judged([a_window((2, 60), (16, 540))] * 20, [MetricRule(ERROR_RATE, max=0.01)]).verdict()

    assert verdict == Verdict(
        ERROR_RATE,
        Outcome.FAIL,
        candidate=40 / 1200,
        baseline=320 / 10_800,
        bound=0.01,
        n=1200,
        why="3.33% of 1,200, baseline 2.96% of 10,800: above 1%",
        missing=None,
    )


def test_a_rate_above_a_limit_that_may_be_chance_is_held() -> None:
    """It neither fails nor passes, and no number of requests is named that would change it."""
    verdict = judged([a_window((1, 60), (9, 540))] * 30, [MetricRule(ERROR_RATE, max=0.015)]).verdict()

    assert (verdict.outcome, verdict.missing) == (Outcome.INCONCLUSIVE, None)
    assert verdict.why.endswith("above 1.5%, which may be chance")


def test_a_limit_alone_needs_no_baseline() -> None:
    """Where the two are not compared, the candidate's counts are enough."""
    rule = MetricRule(ERROR_RATE, margin=None, max=0.01)

    passed = judged([a_window(baseline=None)] * 30, [rule]).verdict()
    assert (passed.outcome, passed.bound, passed.why) == (Outcome.PASS, 0.01, "0% of 1,800: not above 1%")
    assert judged([a_window((3, 60), None)] * 10, [rule]).outcome is Outcome.FAIL
    assert judged([a_window((0, 0), None)], [rule]).outcome is Outcome.NO_DATA


def test_a_limit_is_seldom_broken_by_chance() -> None:
    """A rate that jumps about its limit from window to window is no evidence that it is above."""
    rule = MetricRule(ERROR_RATE, margin=None, max=0.02)

    assert judged([a_window((0, 100), None), a_window((4, 100), None)] * 50, [rule]).outcome is not Outcome.FAIL


def test_there_must_be_something_to_judge_by() -> None:
    """No rule would pass everything."""
    with pytest.raises(ValueError, match="nothing to judge by"):
        Judge(())
