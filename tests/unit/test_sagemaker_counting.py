"""What CloudWatch counts of each variant, asked for in one call, and rows of what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from mlscale.deployment import Kind
from mlscale.errors import ProviderFailed
from mlscale.providers.contract import BadOfAll, Point
from mlscale.providers.sagemaker import counting

NOON = datetime(2026, 6, 3, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
WORDS = ("requests", "failed", "unanswered", "refused", "slow", "timed")


def result(key: str, values: Mapping[int, float], state: str = "Complete") -> dict[str, Any]:
    """Return one result: values by the minute after noon."""
    return {
        "Id": key,
        "Timestamps": [NOON + minute * MINUTE for minute in values],
        "Values": list(values.values()),
        "StatusCode": state,
    }


def results(number: int = 0, **words: Mapping[int, float]) -> list[dict[str, Any]]:
    """Return the results of one variant; what is not named has no values."""
    return [result(f"{word}_{number}", words.get(word, {})) for word in WORDS]


def row(revision: str, minute: int, requests: int, errors: int, slow: int | None) -> BadOfAll:
    """Return the row of a minute after noon."""
    start = NOON + minute * MINUTE
    return BadOfAll(revision, start, start + MINUTE, requests, errors, slow)


def test_every_number_of_every_variant_is_asked_at_once() -> None:
    """The queries are ones that CloudWatch takes; slow ones are counted by a percentile rank above the bound."""
    queries = counting.metric_queries("reviews", ["a", "b"], Kind.REALTIME, 250.0)

    model = botocore.session.get_session().get_service_model("cloudwatch").operation_model("GetMetricData")
    asked = {"MetricDataQueries": queries, "StartTime": NOON, "EndTime": NOON + MINUTE}
    assert not ParamValidator().validate(asked, model.input_shape).has_errors()
    assert [(each["Id"], each["MetricStat"]["Metric"]["MetricName"], each["MetricStat"]["Stat"]) for each in queries][
        6:
    ] == [
        ("requests_1", "Invocations", "Sum"),
        ("failed_1", "Invocation5XXErrors", "Sum"),
        ("unanswered_1", "InvocationModelErrors", "Sum"),
        ("refused_1", "Invocation4XXErrors", "Sum"),
        ("slow_1", "ModelLatency", "PR(250000:)"),
        ("timed_1", "ModelLatency", "SampleCount"),
    ]
    assert queries[-1]["MetricStat"]["Metric"]["Dimensions"] == [
        {"Name": "EndpointName", "Value": "reviews"},
        {"Name": "VariantName", "Value": "b"},
    ]


@pytest.mark.parametrize(
    ("bound", "statistic"), [(0.5, "PR(500:)"), (0.0005, "PR(0.5:)"), (1e9, "PR(1000000000000:)")], ids=str
)
def test_a_bound_is_written_in_digits(bound: float, statistic: str) -> None:
    """CloudWatch reads no exponents."""
    queries = counting.metric_queries("reviews", ["a"], Kind.REALTIME, bound)

    assert statistic in [each["MetricStat"]["Stat"] for each in queries]


def test_an_async_endpoint_has_metrics_of_its_own() -> None:
    """It publishes no Invocations; without a bound nothing slow is asked for."""
    queries = counting.metric_queries("reviews", ["a"], Kind.ASYNC, None)

    assert [each["MetricStat"]["Metric"]["MetricName"] for each in queries] == [
        "InvocationsProcessed",
        "InvocationFailures",
    ]


@pytest.mark.parametrize(
    ("start_s", "end_s", "now_s", "first", "last"),
    [
        (0, 600, 3600, 0, 10),
        (1, 599, 3600, 1, 9),
        (0, 600, 600, 0, 8),
        (0, 600, 659, 0, 8),
        (0, 600, 660, 0, 9),
        (0, 60, 60, 0, -1),
    ],
)
def test_only_whole_minutes_that_are_counted_to_their_end(
    start_s: int, end_s: int, now_s: int, first: int, last: int
) -> None:
    """A minute of the clock has a row when it has ended longer ago than the lag."""
    times = [NOON + timedelta(seconds=each) for each in (start_s, end_s, now_s)]

    assert counting.minutes(*times) == (NOON + first * MINUTE, NOON + last * MINUTE)


def test_rows_come_in_time_order_with_the_stable_one_first() -> None:
    """A slow share is of the requests that have a latency."""
    found = [
        *results(0, requests={1: 540, 0: 500}, failed={0: 3, 1: 0}, slow={0: 2.0, 1: 0.0}, timed={0: 500, 1: 540}),
        *results(1, requests={0: 60}, failed={0: 1}, slow={0: 10.0}, timed={0: 59}),
    ]

    assert counting.rows(found, ["stable", "tried"]) == [
        row("stable", 0, 500, 3, 10),
        row("tried", 0, 60, 1, 6),
        row("stable", 1, 540, 0, 0),
    ]


def test_what_is_missing_is_not_nothing() -> None:
    """A minute whose requests or failures are not there has no row, and a latency that is not there no count."""
    found = results(0, requests={0: 10, 1: 10, 3: 0}, failed={0: 0, 2: 1, 3: 0}, slow={1: 50.0}, timed={1: 10})

    assert counting.rows(found, ["stable"]) == [row("stable", 0, 10, 0, None)]


def test_a_container_that_breaks_the_connection_is_at_fault_and_a_wrong_request_is_not() -> None:
    """Of what got no good answer, the 4xx are the callers'."""
    found = results(0, requests={0: 100, 1: 100}, failed={0: 1, 1: 2}, unanswered={0: 30, 1: 5}, refused={0: 10, 1: 5})

    assert counting.rows(found, ["stable"]) == [row("stable", 0, 100, 20, None), row("stable", 1, 100, 2, None)]


def test_pages_of_one_query_are_put_together() -> None:
    """A part that another page completes is whole."""
    found = [
        result("requests_0", {0: 1}, "PartialData"),
        result("failed_0", {0: 0, 1: 1}),
        result("requests_0", {1: 2}),
    ]

    assert counting.rows(found, ["stable"]) == [row("stable", 0, 1, 0, None), row("stable", 1, 2, 1, None)]


@pytest.mark.parametrize("state", ["PartialData", "InternalError", "Forbidden"])
def test_a_part_of_the_values_is_no_evidence(state: str) -> None:
    """What could not be read is an error, never a minute without requests."""
    with pytest.raises(ProviderFailed) as caught:
        counting.rows([result("requests_0", {0: 1}, state), result("failed_0", {0: 0})], ["stable"])

    assert caught.value.retryable
    assert caught.value.why == f"requests_0: {state}"


counts = st.dictionaries(st.integers(0, 9), st.floats(0, 1e6), max_size=10)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(WORDS, counts)))
def test_counts_are_always_counts(words: Mapping[str, Mapping[int, float]]) -> None:
    """Whatever comes, no more are bad than there are, and none is negative."""
    found: Sequence[BadOfAll] = counting.rows(results(0, **words), ["stable"])

    assert all(0 <= each.errors <= each.requests and 0 <= (each.slow or 0) <= each.requests for each in found)
    assert [each.start for each in found] == sorted(each.start for each in found)


OWN = ("SUM($variant)", "SEARCH('$variant $variants $endpoint', 'Sum', 60)")


def test_expressions_are_asked_for_each_variant_with_its_name() -> None:
    """They are queries that CloudWatch takes; what only begins like a name of ours stays."""
    queries = counting.expression_queries("reviews", ["a", "b"], OWN)

    model = botocore.session.get_session().get_service_model("cloudwatch").operation_model("GetMetricData")
    asked = {"MetricDataQueries": queries, "StartTime": NOON, "EndTime": NOON + MINUTE}
    assert not ParamValidator().validate(asked, model.input_shape).has_errors()
    assert [(each["Id"], each["Expression"], each["Period"]) for each in queries] == [
        ("own_0_0", "SUM(a)", 60),
        ("own_0_1", "SEARCH('a $variants reviews', 'Sum', 60)", 60),
        ("own_1_0", "SUM(b)", 60),
        ("own_1_1", "SEARCH('b $variants reviews', 'Sum', 60)", 60),
    ]


def test_values_of_expressions_are_points_of_revisions() -> None:
    """By the query's id; several series are several points."""
    found = counting.points(
        [result("own_0_1", {0: 5.0, 2: 6.0}), result("own_1_0", {0: 1.0}), result("own_1_0", {0: 2.0})],
        ["v1", "v2"],
        OWN,
    )

    assert found == [
        Point("v1", OWN[1], NOON, 5.0),
        Point("v1", OWN[1], NOON + 2 * MINUTE, 6.0),
        Point("v2", OWN[0], NOON, 1.0),
        Point("v2", OWN[0], NOON, 2.0),
    ]


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (result("own_0_0", {}, "InternalError"), "own_0_0: InternalError"),
        (
            {**result("own_0_0", {}), "Messages": [{"Code": "ArithmeticError", "Value": "One was not a number"}]},
            "One was not a number",
        ),
    ],
    ids=["failed", "left out"],
)
def test_an_expression_that_was_not_evaluated_wholly_is_no_value(part: dict[str, Any], why: str) -> None:
    """A part would be taken for all."""
    with pytest.raises(ProviderFailed, match="did not give all values") as caught:
        counting.points([part], ["v1"], OWN)
    assert caught.value.why == why
