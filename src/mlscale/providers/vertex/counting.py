"""What each deployed model answered, as Cloud Monitoring counts it: the queries for it, and rows of the answers; pure.

Sources: "Google Cloud metrics: A to B" (aiplatform, prediction/online), Aggregation and Distribution (API reference).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

from mlscale.clock import MINUTE, whole_minutes
from mlscale.deployment import Identity
from mlscale.providers.contract import BadOfAll
from mlscale.providers.vertex.watching import time_series

LAG = timedelta(minutes=5)
"""How long after a minute its values may still come: sampled every 60 s, and a sample is seen 240 s later at most.

So says "Retention and latency of metric data" of many metrics; the list of metrics names no time for these two, and no
real endpoint was asked.
"""

MODEL, CODE = "deployed_model_id", "response_code"


def minutes(start: datetime, end: datetime, now: datetime) -> tuple[datetime, datetime]:
    """Return the first and the last moment of the whole minutes in a time that are counted to their end `now`."""
    return whole_minutes(start, min(end, now - LAG))


def answered(identity: Identity, first: datetime, last: datetime) -> dict[str, Any]:
    """Return the request of ListTimeSeries for the answers of each deployed model, by their codes."""
    return _request(identity, first, last, "response_count", (MODEL, CODE))


def timed(identity: Identity, first: datetime, last: datetime) -> dict[str, Any]:
    """Return the request of ListTimeSeries for the times that each deployed model took, and what is before it."""
    return _request(identity, first, last, "prediction_latencies", (MODEL,), 'metric.labels.latency_type="total"')


def _request(
    identity: Identity, first: datetime, last: datetime, metric: str, labels: Sequence[str], *more: str
) -> dict[str, Any]:
    """Return a request whose points end with the minutes that they are of: an interval has its end, not its start.

    ALIGN_DELTA would make values up for minutes without any, by interpolation.
    """
    return {
        "name": f"projects/{identity.account}",
        "filter": time_series(identity, metric, *more),
        "interval": {"start_time": first.isoformat(), "end_time": last.isoformat()},
        "aggregation": {
            "alignment_period": "60s",
            "per_series_aligner": "ALIGN_SUM",
            "cross_series_reducer": "REDUCE_SUM",
            "group_by_fields": [f"metric.labels.{each}" for each in labels],
        },
        "view": "FULL",
    }


@dataclass(slots=True)
class _Minute:
    requests: int = 0
    errors: int = 0
    slow: float | None = None


def rows(
    answers: Sequence[Mapping[str, Any]],
    times: Sequence[Mapping[str, Any]],
    serving: Mapping[str, str],
    slow_over_ms: float | None,
) -> list[BadOfAll]:
    """Return a row per revision and minute in which something was answered, in time order.

    An error is what the endpoint is to blame for, so no 4xx. Parts of requests count as slow (`slower`), and
    what rounding takes or adds is carried on to the revision's next minute: else one with few requests a minute would
    look slower or faster than one with many.

    Args:
        answers: the series of `answered`; several may be one, as they came page by page.
        times: the series of `timed`; empty where nobody asks for them.
        serving: which revision a deployed model is, by its id; others' have no row.
        slow_over_ms: which times are slow.
    """
    found: dict[tuple[datetime, str], _Minute] = {}
    for revision, labels, end, value in _points(answers, serving):
        minute = found.setdefault((end, revision), _Minute())
        count = int(value.get("int64_value", 0))
        minute.requests += count
        minute.errors += count if labels.get(CODE, "").startswith("5") else 0
    for revision, _, end, value in _points(times, serving):
        slow = slower(value.get("distribution_value", {}), slow_over_ms or 0.0)
        if slow is not None and (end, revision) in found:
            found[end, revision].slow = (found[end, revision].slow or 0.0) + slow
    order = list(serving.values())
    keys = sorted((key for key in found if found[key].requests), key=lambda key: (key[0], order.index(key[1])))
    carried = dict.fromkeys(order, 0.0)
    return [_row(revision, end, found[end, revision], carried) for end, revision in keys]


def _points(
    series: Sequence[Mapping[str, Any]], serving: Mapping[str, str]
) -> Iterator[tuple[str, Mapping[str, str], datetime, Mapping[str, Any]]]:
    """Yield revision, labels, end of the minute and value of each point."""
    for each in series:
        labels = each.get("metric", {}).get("labels", {})
        revision = serving.get(labels.get(MODEL, ""))
        for point in each.get("points", ()) if revision else ():
            end = datetime.fromisoformat(point["interval"]["end_time"]).astimezone(UTC)
            yield revision or "", labels, end, point.get("value", {})


def _row(revision: str, end: datetime, minute: _Minute, carried: dict[str, float]) -> BadOfAll:
    slow = None
    if minute.slow is not None:
        whole = round(carried[revision] + minute.slow)
        carried[revision] += minute.slow - whole
        slow = min(minute.requests, whole)
    return BadOfAll(revision, end - MINUTE, end, minute.requests, minute.errors, slow)


def slower(distribution: Mapping[str, Any], bound: float) -> float | None:
    """Return how many values of a distribution are over `bound`, None where it has no buckets to tell.

    Of the bucket that the bound lies in it is the part above it, as if its values were spread evenly: so Cloud
    Monitoring computes percentiles. In the last bucket, which has no end, all count.
    """
    if not int(distribution.get("count", 0)):
        return 0.0
    edges = _edges(distribution.get("bucket_options", {}))
    if not edges:
        return None
    counts = [int(each) for each in distribution.get("bucket_counts", ())]
    bounds = zip(counts, (0.0, *edges), (*edges, inf), strict=False)
    return sum(count * _part_over(bound, low, high) for count, low, high in bounds)


def _part_over(bound: float, low: float, high: float) -> float:
    if high <= bound:
        return 0.0
    return 1.0 if low >= bound or high == inf else (high - bound) / (high - low)


def _edges(options: Mapping[str, Any]) -> Sequence[float]:
    """Return the ends of all buckets but the last, ascending."""
    if made := options.get("exponential_buckets"):
        return [made["scale"] * made["growth_factor"] ** each for each in range(int(made["num_finite_buckets"]) + 1)]
    if made := options.get("linear_buckets"):
        first, width = made.get("offset", 0.0), made["width"]
        return [first + width * each for each in range(int(made["num_finite_buckets"]) + 1)]
    found: Sequence[float] = options.get("explicit_buckets", {}).get("bounds", ())
    return found
