"""What Cloud Monitoring is asked about each deployed model, and rows of what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.api import distribution_pb2
from google.cloud import monitoring_v3
from google.protobuf.json_format import MessageToDict, ParseDict
from hypothesis import given
from hypothesis import strategies as st

from mlscale.deployment import Identity
from mlscale.providers.contract import BadOfAll
from mlscale.providers.vertex import counting

NOON = datetime(2026, 6, 3, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
REVIEWS = Identity("vertex", "reviews", "acme-ml", "us-central1")
SERVING = {"1": "stable", "2": "new"}
POWERS = {"exponential_buckets": {"num_finite_buckets": 10, "growth_factor": 2.0, "scale": 1.0}}


def series(deployed: str, values: Mapping[int, Mapping[str, Any]], **labels: str) -> dict[str, Any]:
    """Return a time series as the client gives it, its newest point first: values by the minute after noon."""
    points = [
        {
            "interval": {
                "start_time": (NOON + minute * MINUTE).isoformat(),
                "end_time": (NOON + (minute + 1) * MINUTE).isoformat().replace("+00:00", "Z"),
            },
            "value": value,
        }
        for minute, value in sorted(values.items(), reverse=True)
    ]
    return {"metric": {"type": "...", "labels": {"deployed_model_id": deployed, **labels}}, "points": points}


def answers(deployed: str, code: str, values: Mapping[int, int]) -> dict[str, Any]:
    """Return how often a deployed model answered with a code, by the minute after noon."""
    made = {minute: {"int64_value": str(count)} for minute, count in values.items()}
    return series(deployed, made, response_code=code)


def times(deployed: str, values: Mapping[int, Sequence[float]]) -> dict[str, Any]:
    """Return the milliseconds that a deployed model took, by the minute after noon, in buckets of powers of two."""
    return series(deployed, {minute: {"distribution_value": spread(each)} for minute, each in values.items()})


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return a distribution as the client gives it."""
    counts = [0] * 12
    for each in values:
        counts[sum(each >= 2**power for power in range(11))] += 1
    return read({"count": len(values), "bucket_options": POWERS, "bucket_counts": counts})


def read(distribution: Mapping[str, Any]) -> dict[str, Any]:
    """Return a distribution as the client gives it: what is 0 is left out, whole numbers are text."""
    message = ParseDict(dict(distribution), distribution_pb2.Distribution())
    found: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return found


def row(revision: str, minute: int, requests: int, errors: int, slow: int | None = None) -> BadOfAll:
    """Return the row of a minute after noon."""
    start = NOON + minute * MINUTE
    return BadOfAll(revision, start, start + MINUTE, requests, errors, slow)


def test_answers_are_asked_for_by_deployed_model_code_and_minute() -> None:
    """The request is one that the API's messages allow, and its minutes are those of the clock."""
    request = counting.answered(REVIEWS, NOON, NOON + 3 * MINUTE)

    asked = monitoring_v3.ListTimeSeriesRequest(request)
    assert asked.name == "projects/acme-ml"
    assert asked.filter == (
        'metric.type="aiplatform.googleapis.com/prediction/online/response_count"'
        ' AND resource.type="aiplatform.googleapis.com/Endpoint"'
        ' AND resource.labels.endpoint_id="reviews" AND resource.labels.location="us-central1"'
    )
    assert (asked.interval.start_time, asked.interval.end_time) == (NOON, NOON + 3 * MINUTE)
    assert asked.aggregation == monitoring_v3.Aggregation(
        alignment_period=MINUTE,
        per_series_aligner=monitoring_v3.Aggregation.Aligner.ALIGN_SUM,
        cross_series_reducer=monitoring_v3.Aggregation.Reducer.REDUCE_SUM,
        group_by_fields=["metric.labels.deployed_model_id", "metric.labels.response_code"],
    )


def test_times_are_asked_for_as_a_whole() -> None:
    """What Vertex AI adds is in them; a time is counted once, not for each part of it too."""
    asked = monitoring_v3.ListTimeSeriesRequest(counting.timed(REVIEWS, NOON, NOON + MINUTE))

    assert asked.filter.endswith(' AND metric.labels.latency_type="total"')
    assert asked.aggregation.group_by_fields == ["metric.labels.deployed_model_id"]


@pytest.mark.parametrize(
    ("start", "end", "now", "found"),
    [
        (0, 180, 3600, (0, 3)),
        (1, 180, 3600, (1, 3)),
        (0, 239, 3600, (0, 3)),
        (0, 3600, 600, (0, 5)),
        (0, 3600, 599.9, (0, 4)),
    ],
)
def test_minutes_are_whole_and_counted_to_their_end(
    start: float, end: float, now: float, found: tuple[int, int]
) -> None:
    """Parts of minutes are left out, and those whose values may still come."""
    moments = (NOON + timedelta(seconds=each) for each in (start, end, now))

    assert counting.minutes(*moments) == (NOON + found[0] * MINUTE, NOON + found[1] * MINUTE)


def test_each_revision_has_a_row_for_each_minute_in_which_it_answered() -> None:
    """All codes are requests, and a 5xx is an error, however the code is written; somebody else's model has no row."""
    found = counting.rows(
        [
            answers("1", "200", {0: 90, 1: 0, 2: 70}),
            answers("1", "500", {0: 3}),
            answers("1", "5xx", {0: 1}),
            answers("1", "404", {0: 6}),
            answers("2", "200", {2: 9}),
            answers("2", "503", {2: 1, 4: 1}),
            answers("3", "200", {0: 50}),
        ],
        [],
        SERVING,
        None,
    )

    assert found == [
        row("stable", 0, 100, 4),
        row("stable", 2, 70, 0),
        row("new", 2, 10, 1),
        row("new", 4, 1, 1),
    ]


def test_a_series_may_come_in_parts() -> None:
    """Pages break where they like."""
    parts = [answers("1", "200", {1: 5}), answers("1", "200", {0: 7})]

    assert counting.rows(parts, [], SERVING, None) == [row("stable", 0, 7, 0), row("stable", 1, 5, 0)]


def test_a_revision_that_is_deployed_twice_is_one() -> None:
    """So it is while its service account is changed."""
    counted = [answers("1", "200", {0: 5}), answers("2", "200", {0: 7})]

    found = counting.rows(
        counted, [times("1", {0: [9.0] * 5}), times("2", {0: [99.0] * 7})], dict.fromkeys("12", "it"), 64
    )

    assert found == [row("it", 0, 12, 0, 7)]


def test_slow_ones_are_counted_beside_the_requests() -> None:
    """A minute without times tells nothing about them, and times without an answer are of no minute."""
    found = counting.rows(
        [answers("1", "200", {0: 10, 1: 10}), answers("2", "200", {0: 4})],
        [times("1", {0: [10.0] * 7 + [700.0] * 3}), times("2", {0: [700.0] * 9, 5: [1.0]})],
        SERVING,
        512.0,
    )

    assert found == [row("stable", 0, 10, 0, 3), row("new", 0, 4, 0, 4), row("stable", 1, 10, 0, None)]


@pytest.mark.parametrize("each", [1, 9])
def test_a_part_of_a_request_is_not_lost(each: int) -> None:
    """Over time the same part of the requests is slow, with one request a minute as with many."""
    minutes = range(100)
    found = counting.rows(
        [answers("1", "200", dict.fromkeys(minutes, each))],
        [times("1", dict.fromkeys(minutes, [300.0] * each))],
        SERVING,
        448.0,  # a quarter of the bucket from 256 to 512 is above it
    )

    assert sum(one.slow or 0 for one in found) == 25 * each


LINEAR = {"linear_buckets": {"num_finite_buckets": 3, "width": 100.0, "offset": 50.0}}
EXPLICIT = {"explicit_buckets": {"bounds": [0.0, 100.0, 300.0]}}


@pytest.mark.parametrize(
    ("options", "counts", "bound", "over"),
    [
        (POWERS, [0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 4], 512.0, 4.0),
        (POWERS, [0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 4], 256.0, 12.0),
        (POWERS, [0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 4], 384.0, 8.0),
        (POWERS, [2, 1], 0.5, 2.0),
        (POWERS, [0] * 11 + [5], 5000.0, 5.0),
        (LINEAR, [10, 20, 30, 40, 50], 150.0, 120.0),
        (LINEAR, [10, 20, 30, 40, 50], 100.0, 130.0),
        (LINEAR, [10], 25.0, 5.0),
        (EXPLICIT, [1, 2, 4, 8], 200.0, 10.0),
        (EXPLICIT, [1, 2, 4, 8], 300.0, 8.0),
        (EXPLICIT, [7], 1.0, 0.0),
    ],
)
def test_what_is_over_a_bound_is_read_from_buckets(
    options: Mapping[str, Any], counts: Sequence[int], bound: float, over: float
) -> None:
    """Whole buckets, and of the one with the bound the part above it; buckets that are left out are empty."""
    distribution = read({"count": sum(counts), "bucket_options": options, "bucket_counts": counts})

    assert counting.slower(distribution, bound) == pytest.approx(over)


def test_without_buckets_nobody_knows() -> None:
    """A count and a mean alone tell nothing about the slow ones; of nothing, none is slow."""
    assert counting.slower(read({"count": 3, "mean": 10.0}), 5.0) is None
    assert counting.slower(read({"bucket_options": POWERS}), 5.0) == 0.0


@given(st.lists(st.floats(0, 5000), min_size=1, max_size=50), st.floats(1, 1023))
def test_what_is_counted_is_off_by_the_bounds_own_bucket_at_most(values: Sequence[float], bound: float) -> None:
    """However the values lie, all in other buckets are counted right."""
    edges = [2.0**power for power in range(11)]
    low, high = max(each for each in edges if each <= bound), min(each for each in edges if each > bound)

    found = counting.slower(spread(values), bound)

    assert found is not None
    assert sum(each >= high for each in values) - 1e-9 <= found <= sum(each >= low for each in values) + 1e-9


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30)), max_size=20), st.floats(1, 2000))
def test_counts_are_never_more_than_the_requests(minutes: Sequence[tuple[int, int, int]], bound: float) -> None:
    """Whatever Cloud Monitoring counted of times and codes."""
    good, bad, slow = ({minute: each[at] for minute, each in enumerate(minutes)} for at in (0, 1, 2))
    spread_out = times("1", {minute: [700.0] * count for minute, count in slow.items() if count})

    found = counting.rows([answers("1", "200", good), answers("1", "500", bad)], [spread_out], SERVING, bound)

    assert all(0 <= each.errors <= each.requests and 0 <= (each.slow or 0) <= each.requests for each in found)
    assert sum(each.requests for each in found) == sum(good.values()) + sum(bad.values())
