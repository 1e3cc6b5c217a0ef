"""What a rollout is judged by: counts of the provider and of commands, by the minute; and what the judge says."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from mlscale.engine.session import Session
from mlscale.errors import MlscaleError, Unsupported
from mlscale.providers.contract import BadOfAll, Metrics
from mlscale.rollout.judge import ERROR_RATE, LATENCY, Counts, Judge, MetricRule, Outcome, Verdict, Window
from mlscale.spec.model import Analysis, Comparison, OwnMetric
from mlscale.state.rollouts import Counted, Judged, Rollout

WINDOW = timedelta(minutes=1)
COMMAND_TIMEOUT_S = 30.0
_PERCENT = 100


@dataclass(frozen=True, slots=True)
class Evidence:
    """The windows so far, what each metric shows, and what the worst of them does."""

    windows: tuple[Counted, ...]
    verdicts: tuple[Judged, ...]
    outcome: str


def first_window(at: datetime) -> datetime:
    """Return the start of the first whole minute after `at`: in the one before, traffic was shared otherwise."""
    whole = at.replace(second=0, microsecond=0)
    return whole if whole == at else whole + WINDOW


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


def judge_of(analysis: Analysis) -> Judge:
    """Return a judge that has seen nothing yet."""
    return Judge(rules_of(analysis), false_alarm=analysis.false_alarm / _PERCENT, min_requests=analysis.min_requests)


def seen(session: Session, rollout: Rollout, now: datetime) -> Evidence:
    """Return what is known by `now`. Counts that can't be read are an outcome, not an error.

    All windows are asked for each time: what came late is in them, and any machine can go on.

    Raises:
        Unsupported: the provider counts nothing.
    """
    analysis = session.spec.rollout.analysis
    rules = rules_of(analysis)
    try:
        windows = _windows(session, rollout, now)
    except MlscaleError as error:
        if isinstance(error, Unsupported):
            raise
        why = error.why or error.what
        failed = tuple(Judged(metric=rule.name, outcome=Outcome.ERROR.value, why=why) for rule in rules)
        return Evidence(rollout.windows, failed, Outcome.ERROR.value)
    judge = judge_of(analysis)
    for each in windows:
        judge.look(
            Window(each.start, each.end, _counts(each.baseline), _counts(each.candidate), failed=dict(each.failed))
        )
    by_name = {rule.name: rule for rule in rules}
    verdicts = tuple(_judged(each, by_name[each.metric]) for each in judge.verdicts())
    return Evidence(windows, verdicts, judge.outcome.value)


def _windows(session: Session, rollout: Rollout, now: datetime) -> tuple[Counted, ...]:
    """Return each minute since the candidate got traffic that is counted to its end."""
    provider, analysis = session.provider, session.spec.rollout.analysis
    if not isinstance(provider, Metrics):
        raise Unsupported("nothing counts what each revision answers", why=session.provider.name, hint="mlscale deploy")
    start = rollout.watched_from
    if start is None or now < start + WINDOW + provider.lag:
        return ()
    bound = analysis.latency.max.total_seconds() * 1000 if analysis.latency else None
    by: dict[datetime, dict[str, BadOfAll]] = {}
    for row in provider.counts(session.identity, start, now, bound):
        by.setdefault(row.start, {})[row.revision] = row
    counted = {(each.start, metric): each for each in rollout.windows for metric in each.baseline}
    found = []
    at = start
    while at + WINDOW + provider.lag <= now:
        rows = by.get(at, {})
        baseline, candidate = (_by_metric(rows.get(each.id), analysis) for each in (rollout.stable, rollout.candidate))
        failed: dict[str, str] = {}
        for own in analysis.custom:
            before = counted.get((at, own.name))
            if before is not None:  # a command is asked once for each minute
                baseline[own.name], candidate[own.name] = before.baseline[own.name], before.candidate[own.name]
                continue
            try:
                baseline[own.name], candidate[own.name] = _asked(session, rollout, own, at)
            except _CommandFailedError as error:
                failed[own.name] = str(error)
        # A minute of which nothing is known is one too: what went before it is no pass for now.
        found.append(Counted(start=at, end=at + WINDOW, baseline=baseline, candidate=candidate, failed=failed))
        at += WINDOW
    return tuple(found)


def _by_metric(row: BadOfAll | None, analysis: Analysis) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    if row is None:
        return found
    if analysis.error_rate:
        found[ERROR_RATE] = (row.errors, row.requests)
    if analysis.latency and row.slow is not None:
        found[LATENCY] = (row.slow, row.requests)
    return found


class _CommandFailedError(Exception):
    """A command of the user's that counts did not do so; its text says why."""


def _asked(session: Session, rollout: Rollout, own: OwnMetric, at: datetime) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return a command's counts of the baseline and of the candidate in the minute from `at`."""
    variables = {
        "MLSCALE_METRIC": own.name,
        "MLSCALE_START": at.isoformat(),
        "MLSCALE_END": (at + WINDOW).isoformat(),
        "MLSCALE_DEPLOYMENT": session.identity.name,
        "MLSCALE_BASELINE": rollout.stable.id,
        "MLSCALE_CANDIDATE": rollout.candidate.id,
    }
    try:
        done = subprocess.run(
            ["bash", "-c", own.command],
            cwd=session.spec_path.resolve().parent,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise _CommandFailedError(f"its command took longer than {COMMAND_TIMEOUT_S:g} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it printed nothing on stderr"])[-1]
        raise _CommandFailedError(f"its command ended with exit code {done.returncode}: {last}")
    try:
        found: Mapping[str, Any] = json.loads(done.stdout)
        counts = [(int(found[each]["bad"]), int(found[each]["of"])) for each in ("baseline", "candidate")]
    except (ValueError, KeyError, TypeError):
        raise _CommandFailedError(f"its command printed {done.stdout.strip()[:100]!r}, and no counts") from None
    if any(not 0 <= bad <= of for bad, of in counts):
        raise _CommandFailedError(f"its command counted more bad ones than there were: {done.stdout.strip()[:100]}")
    return counts[0], counts[1]


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
