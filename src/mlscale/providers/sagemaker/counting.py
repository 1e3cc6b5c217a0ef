"""What each variant answered, as CloudWatch counts it, and what expressions give: queries, and rows of answers; pure.

Sources: "Amazon SageMaker AI metrics in Amazon CloudWatch" (one value a request, latencies in microseconds), and
"CloudWatch statistics definitions" (percentile rank), GetMetricData (API reference).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from mlscale.clock import MINUTE, whole_minutes
from mlscale.deployment import Kind
from mlscale.errors import ProviderFailed
from mlscale.providers.contract import BadOfAll, Point

LAG = timedelta(minutes=2)
"""How long after a minute its values may still come. AWS names no time, and no real endpoint was asked."""

NAMESPACE = "AWS/SageMaker"
MICROSECONDS = 1000


@dataclass(frozen=True, slots=True)
class Query:
    """One number a minute of a variant: a metric by a statistic, and the word for it here."""

    word: str
    metric: str
    statistic: str


def minutes(start: datetime, end: datetime, now: datetime) -> tuple[datetime, datetime]:
    """Return the first and the last moment of the whole minutes in a time that are counted to their end `now`."""
    return whole_minutes(start, min(end, now - LAG))


def metric_queries(name: str, slots: Sequence[str], kind: Kind, slow_over_ms: float | None) -> list[dict[str, Any]]:
    """Return what GetMetricData is asked: every number of every variant at once."""
    return [
        {
            "Id": f"{query.word}_{number}",
            "MetricStat": {
                "Metric": {
                    "Namespace": NAMESPACE,
                    "MetricName": query.metric,
                    "Dimensions": [{"Name": "EndpointName", "Value": name}, {"Name": "VariantName", "Value": slot}],
                },
                "Period": 60,
                "Stat": query.statistic,
            },
        }
        for number, slot in enumerate(slots)
        for query in _queries(kind, slow_over_ms)
    ]


def _queries(kind: Kind, slow_over_ms: float | None) -> Iterator[Query]:
    is_async = kind is Kind.ASYNC  # it publishes no Invocations
    yield Query("requests", "InvocationsProcessed" if is_async else "Invocations", "Sum")
    yield Query("failed", "InvocationFailures" if is_async else "Invocation5XXErrors", "Sum")
    if not is_async:
        yield Query("unanswered", "InvocationModelErrors", "Sum")
        yield Query("refused", "Invocation4XXErrors", "Sum")
    if slow_over_ms is not None:
        yield Query("slow", "ModelLatency", f"PR({_microseconds(slow_over_ms)}:)")
        yield Query("timed", "ModelLatency", "SampleCount")


def _microseconds(milliseconds: float) -> str:
    """Return a bound as CloudWatch reads it, in digits alone."""
    text = f"{milliseconds * MICROSECONDS:.3f}"
    return text.rstrip("0").rstrip(".")


def rows(results: Sequence[Mapping[str, Any]], revisions: Sequence[str]) -> list[BadOfAll]:
    """Return a row per revision and minute, in time order; `revisions` are those of the queries' variants, in order.

    A minute in which the requests or the failed ones have no value has no row: nothing was counted, or not yet. Of the
    results several may be of one query, as they came page by page.

    Raises:
        ProviderFailed: CloudWatch has not given all that it has.
    """
    _refuse_parts(results)
    values: dict[str, dict[datetime, float]] = {}
    for each in results:
        at = (moment.astimezone(UTC) for moment in each["Timestamps"])
        values.setdefault(str(each["Id"]), {}).update(zip(at, each["Values"], strict=True))
    found = (
        _row(revision, at, {key: moments.get(at) for key, moments in _of(values, number).items()})
        for number, revision in enumerate(revisions)
        for at in values.get(f"requests_{number}", ())
    )
    return sorted((each for each in found if each), key=lambda each: (each.start, revisions.index(each.revision)))


def _refuse_parts(results: Sequence[Mapping[str, Any]]) -> None:
    states = {str(each["Id"]): str(each.get("StatusCode", "Complete")) for each in results}  # the last page's stands
    if wrong := sorted(f"{key}: {state}" for key, state in states.items() if state != "Complete"):
        raise ProviderFailed(
            "CloudWatch did not give all values", why=", ".join(wrong), hint="the same command again", retryable=True
        )


def _of(values: Mapping[str, dict[datetime, float]], number: int) -> dict[str, dict[datetime, float]]:
    words = ("requests", "failed", "unanswered", "refused", "slow", "timed")
    return {word: values.get(f"{word}_{number}", {}) for word in words}


def _row(revision: str, at: datetime, found: Mapping[str, float | None]) -> BadOfAll | None:
    """Return the row of a minute, None where it is not counted.

    A request whose container broke the connection or took too long is among those unanswered, beside every 4xx and 5xx.
    A percentile rank is a percent: what it is of is counted too, since a request that failed before has no latency.
    """
    requests, failed = found["requests"], found["failed"]
    if not requests or failed is None:
        return None
    unanswered, refused = found["unanswered"], found["refused"]
    broken = unanswered - refused if unanswered is not None and refused is not None else 0.0
    slow, timed = found["slow"], found["timed"]
    most = round(requests)
    return BadOfAll(
        revision=revision,
        start=at,
        end=at + MINUTE,
        requests=most,
        errors=min(most, round(max(failed, broken))),
        slow=None if slow is None or timed is None else min(most, round(slow / 100 * timed)),
    )


def expression_queries(name: str, slots: Sequence[str], expressions: Sequence[str]) -> list[dict[str, Any]]:
    """Return what GetMetricData is asked: every expression for every variant at once."""
    return [
        {"Id": f"own_{number}_{which}", "Expression": _filled(expression, name, slot), "Period": 60}
        for number, slot in enumerate(slots)
        for which, expression in enumerate(expressions)
    ]


def _filled(expression: str, name: str, slot: str) -> str:
    words = {"endpoint": name, "variant": slot}
    return re.sub(r"\$(endpoint|variant)\b", lambda found: words[found[1]], expression)


def points(results: Sequence[Mapping[str, Any]], revisions: Sequence[str], expressions: Sequence[str]) -> list[Point]:
    """Return what the expressions gave for each variant's revision, in the order of the results.

    Raises:
        ProviderFailed: CloudWatch has not given all that it has, or says what it left out.
    """
    _refuse_parts(results)
    if words := sorted(
        {str(each.get("Value") or each.get("Code")) for row in results for each in row.get("Messages", ())}
    ):
        raise ProviderFailed("CloudWatch did not give all values", why=", ".join(words), hint="mlscale rollout status")
    found = []
    for each in results:
        _, number, which = str(each["Id"]).split("_")
        revision, expression = revisions[int(number)], expressions[int(which)]
        moments = (moment.astimezone(UTC) for moment in each["Timestamps"])
        found += [Point(revision, expression, at, value) for at, value in zip(moments, each["Values"], strict=True)]
    return found
