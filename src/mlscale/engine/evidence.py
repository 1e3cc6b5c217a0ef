"""What a rollout is judged by: counts of the provider and of metrics of one's own; and what the judge says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from mlscale.clock import MINUTE, whole_minutes
from mlscale.engine import own_metrics
from mlscale.engine.outside import never
from mlscale.engine.own_metrics import Minute
from mlscale.engine.session import Session
from mlscale.errors import MlscaleError, Unsupported
from mlscale.providers.contract import BadOfAll, Metrics
from mlscale.rollout.judge import ERROR_RATE, LATENCY, Counts, Judge, MetricRule, Outcome, Verdict, Window, worst
from mlscale.spec.rollout import Analysis, Comparison
from mlscale.state.rollouts import Counted, Judged, Rollout

LATER_PART = 0.2
"""What of the false alarms the tests of the shares after the first have."""

NOTHING = Minute()
_PERCENT = 100


@dataclass(frozen=True, slots=True)
class Evidence:
    """The windows so far, what each metric shows, and what the worst of them does."""

    windows: tuple[Counted, ...]
    verdicts: tuple[Judged, ...]
    outcome: str


def first_window(at: datetime) -> datetime:
    """Return the start of the first whole minute after `at`: in the one before, traffic was shared otherwise."""
    return whole_minutes(at, at)[0]


def rules_of(analysis: Analysis) -> Sequence[MetricRule]:
    """Return what is asked of each metric; of latency, how many may be slower than its bound."""
    rules = []
    if rule := analysis.error_rate:
        rules.append(MetricRule(ERROR_RATE, _margin(rule.no_worse_than_baseline), _share(rule.max)))
    if slow := analysis.latency:
        most = 1 - float(slow.quantile.removeprefix("p")) / _PERCENT
        rules.append(MetricRule(LATENCY, _margin(slow.no_worse_than_baseline), round(most, 6)))
    rules += [MetricRule(each.name, _margin(each.no_worse_than_baseline), _share(each.max)) for each in analysis.custom]
    return rules


def judge_of(analysis: Analysis, part: float = 1.0) -> Judge:
    """Return a judge that has seen nothing yet, and may have `part` of the false alarms."""
    false_alarm = part * analysis.false_alarm / _PERCENT
    return Judge(rules_of(analysis), false_alarm=false_alarm, min_requests=analysis.min_requests)


def seen(session: Session, rollout: Rollout, now: datetime, urgent: Callable[[], bool] = never) -> Evidence:
    """Return what is known by `now`. Counts that can't be read are an outcome, not an error.

    All windows are asked for each time: what came late is in them, and any machine can go on.

    Raises:
        Outranked: `urgent` said so, and nobody was waited for any longer.
        Unsupported: the provider counts nothing.
    """
    analysis = session.spec.rollout.analysis
    rules = rules_of(analysis)
    try:
        windows = _windows(session, rollout, now, urgent)
    except MlscaleError as error:
        if isinstance(error, Unsupported):
            raise
        why = error.why or error.what
        failed = tuple(Judged(metric=rule.name, outcome=Outcome.ERROR.value, why=why) for rule in rules)
        return Evidence(rollout.windows, failed, Outcome.ERROR.value)
    by_name = {rule.name: rule for rule in rules}
    verdicts = verdicts_of(rollout, analysis, windows)
    judged = tuple(_judged(each, by_name[each.metric]) for each in verdicts)
    return Evidence(windows, judged, worst(verdicts).outcome.value)


def verdicts_of(rollout: Rollout, analysis: Analysis, windows: Sequence[Counted]) -> Sequence[Verdict]:
    """Return what each metric shows by all windows; or, where it fails by those at the present share alone, that.

    What breaks only at a larger share would else be outweighed for long by what went well before. All shares after the
    first have `LATER_PART` of the false alarms, in equal parts; the chance that any of the tests stops a healthy
    revision is still what was asked for.
    """
    later = len(rollout.shares) - 1
    verdicts = _judge(judge_of(analysis, 1 - LATER_PART if later else 1.0), windows)
    if rollout.step == 0 or rollout.step_at is None:
        return verdicts
    since = first_window(rollout.step_at)
    here = _judge(judge_of(analysis, LATER_PART / later), [each for each in windows if each.start >= since])
    failed = {each.metric: each for each in here if each.outcome is Outcome.FAIL}
    return [failed.get(each.metric, each) for each in verdicts]


def _judge(judge: Judge, windows: Sequence[Counted]) -> Sequence[Verdict]:
    for each in windows:
        judge.look(
            Window(each.start, each.end, _counts(each.baseline), _counts(each.candidate), failed=dict(each.failed))
        )
    return judge.verdicts()


def _windows(session: Session, rollout: Rollout, now: datetime, urgent: Callable[[], bool]) -> tuple[Counted, ...]:
    """Return each minute since the candidate got traffic that is counted to its end."""
    provider, analysis = session.provider, session.spec.rollout.analysis
    if not isinstance(provider, Metrics):
        raise Unsupported("nothing counts what each revision answers", why=session.provider.name, hint="mlscale deploy")
    start = rollout.watched_from
    if start is None or now < start + MINUTE + provider.lag:
        return ()
    bound = analysis.latency.max.total_seconds() * 1000 if analysis.latency else None
    by: dict[datetime, dict[str, BadOfAll]] = {}
    for row in provider.counts(session.identity, start, now, bound):
        by.setdefault(row.start, {})[row.revision] = row
    minutes = list(_minutes(start, now - provider.lag))
    own = {each.name: own_metrics.counted(session, rollout, each, minutes, urgent) for each in analysis.custom}
    found = []
    for at in minutes:
        rows = by.get(at, {})
        baseline, candidate = (_by_metric(rows.get(each.id), analysis) for each in (rollout.stable, rollout.candidate))
        asked = {name: known.get(at, NOTHING) for name, known in own.items()}
        baseline |= {name: each.baseline for name, each in asked.items() if each.baseline is not None}
        candidate |= {name: each.candidate for name, each in asked.items() if each.candidate is not None}
        failed = {name: each.failed for name, each in asked.items() if each.failed}
        # A minute of which nothing is known is one too: what went before it is no pass for now.
        found.append(Counted(start=at, end=at + MINUTE, baseline=baseline, candidate=candidate, failed=failed))
    return tuple(found)


def _minutes(start: datetime, until: datetime) -> Iterator[datetime]:
    while start + MINUTE <= until:
        yield start
        start += MINUTE


def _by_metric(row: BadOfAll | None, analysis: Analysis) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    if row is None:
        return found
    if analysis.error_rate:
        found[ERROR_RATE] = (row.errors, row.requests)
    if analysis.latency and row.slow is not None:
        found[LATENCY] = (row.slow, row.requests)
    return found


def _counts(by_metric: Mapping[str, tuple[int, int]]) -> dict[str, Counts]:
    return {metric: Counts(bad, of) for metric, (bad, of) in by_metric.items()}


def _judged(verdict: Verdict, rule: MetricRule) -> Judged:
    return Judged(
        metric=verdict.metric,
        outcome=verdict.outcome.value,
        candidate=verdict.candidate,
        baseline=verdict.baseline,
        bound=verdict.bound,
        n=verdict.n,
        margin=rule.margin,
        max=rule.max,
        missing=verdict.missing,
        why=verdict.why,
    )


def _margin(compared: bool | Comparison) -> float | None:  # noqa: FBT001 - as the spec has it
    if not compared:
        return None
    return (compared if isinstance(compared, Comparison) else Comparison.model_construct()).margin / _PERCENT


def _share(percent: float | None) -> float | None:
    return None if percent is None else percent / _PERCENT
