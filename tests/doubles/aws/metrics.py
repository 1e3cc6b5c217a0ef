"""CloudWatch metrics: single values kept, statistics and percentiles of them; of metric math what a test says."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from tests.doubles.aws.refusal import Refusal, invalid
from tests.doubles.aws.world import Json, Region, page

MOST_DATAPOINTS = 100_800
MOST_STATISTICS = 1440
MOST_METRICS = 500
PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?|100)")
RANK = re.compile(r"PR\(([\d.]*):([\d.]*)\)")


def put(
    region: Region, namespace: str, name: str, dimensions: dict[str, str], values: Sequence[float], at: float
) -> None:
    """Keep values of one metric at one moment."""
    row = {"Namespace": namespace, "MetricName": name, "Dimensions": dimensions, "Values": list(values), "At": at}
    region.metrics.append(row)


def put_metric_data(region: Region, asked: Json) -> Json:
    """Keep what a user measured."""
    for each in asked.get("MetricData", []):
        at = each.get("Timestamp", region.now())
        put(region, asked["Namespace"], each["MetricName"], _dimensions(each), _values(each), at)
    return {}


def _values(datum: Json) -> list[float]:
    if "StatisticValues" in datum:
        words = "StatisticValues are not kept by this double; put Values."
        raise Refusal("metrics.statistic-values", "MlscaleDoubleNotImplemented", words, 501)
    values = datum.get("Values", [])
    counts = datum.get("Counts", [1.0] * len(values))
    many = [value for value, count in zip(values, counts, strict=True) for _ in range(int(count))]
    return [datum["Value"]] if "Value" in datum else many


def _dimensions(asked: Json) -> dict[str, str]:
    return {each["Name"]: each.get("Value", "") for each in asked.get("Dimensions", [])}


def statistic(name: str, values: Sequence[float]) -> float | None:
    """Return a statistic of values, None if there are none; percentiles are by nearest rank.

    Raises:
        Refusal: the statistic is not known here.
    """
    if not values:
        return None
    match name:
        case "SampleCount":
            return float(len(values))
        case "Sum":
            return math.fsum(values)
        case "Average":
            return math.fsum(values) / len(values)
        case "Minimum":
            return min(values)
        case "Maximum":
            return max(values)
    if found := PERCENTILE.fullmatch(name):
        # rule metrics.percentile
        ordered = sorted(values)
        return ordered[max(0, math.ceil(float(found[1]) / 100 * len(ordered)) - 1)]
    if found := RANK.fullmatch(name):
        # rule metrics.percentile-rank
        low, high = float(found[1] or "-inf"), float(found[2] or "inf")
        return 100 * sum(low < value <= high for value in values) / len(values)
    raise invalid("metrics.statistic", f"The value {name} for parameter Stat is not supported.")


def values_of(region: Region, metric: Json, start: float, end: float) -> list[float]:
    """Return a metric's values from `start` to before `end`; what is younger than the lag is not there yet."""
    # rule metrics.namespace
    wanted = _dimensions(metric)
    # rule metrics.late
    end = min(end, region.now() - region.world.settings.metrics_lag_s)
    return [
        value
        for row in region.metrics
        if row["Namespace"] == metric["Namespace"]
        and row["MetricName"] == metric["MetricName"]
        and row["Dimensions"] == wanted
        and start <= row["At"] < end
        for value in row["Values"]
    ]


def _points(region: Region, metric: Json, period: int, span: tuple[float, float]) -> list[tuple[float, list[float]]]:
    """Return each period that has values, oldest first; periods start at whole multiples."""
    # rule metrics.aligned
    start = math.floor(span[0] / period) * period
    count = min(math.ceil((span[1] - start) / period), MOST_DATAPOINTS)
    moments = [start + number * period for number in range(count)]
    found = [(at, values_of(region, metric, at, min(at + period, span[1]))) for at in moments]
    return [(at, values) for at, values in found if values]


def get_metric_data(region: Region, asked: Json) -> Json:
    """Return statistics for each query."""
    if asked["StartTime"] >= asked["EndTime"]:
        raise invalid("metrics.times", "The parameter StartTime must be less than the parameter EndTime.")
    queries = [each for each in asked["MetricDataQueries"] if each.get("ReturnData", True)]
    found = [series for query in queries for series in _queried(region, query, asked)]
    return {**_paged(region, found, asked), "Messages": []}


def _queried(region: Region, query: Json, asked: Json) -> list[Json]:
    if "MetricStat" not in query:
        return _evaluated(region, query, asked)
    stat = query["MetricStat"]
    points = _points(region, stat["Metric"], stat["Period"], (asked["StartTime"], asked["EndTime"]))
    pairs = [(at, statistic(stat["Stat"], values)) for at, values in points]
    if asked.get("ScanBy", "TimestampDescending") == "TimestampDescending":
        pairs.reverse()
    return [{"Id": query["Id"], "Label": query.get("Label", stat["Metric"]["MetricName"]), "Pairs": pairs}]


def _evaluated(region: Region, query: Json, asked: Json) -> list[Json]:
    """Return the series that a test has put for an expression, each under the query's id."""
    if query["Expression"] not in region.expressions:
        words = f"Metric math is not imitated by this double; put the values of {query['Expression']}."
        raise Refusal("metrics.math", "MlscaleDoubleNotImplemented", words, 501)
    # rule metrics.series
    end = min(asked["EndTime"], region.now() - region.world.settings.metrics_lag_s)
    found = [
        [(at, value) for at, value in sorted(series) if asked["StartTime"] <= at < end]
        for series in region.expressions[query["Expression"]]
    ]
    return [{"Id": query["Id"], "Label": f"series {number}", "Pairs": pairs} for number, pairs in enumerate(found)]


def _paged(region: Region, found: list[Json], asked: Json) -> Json:
    """Return a page of datapoints over all queries; a query that goes on after it has a part of its data."""
    # rule metrics.pages
    size = asked.get("MaxDatapoints", region.world.settings.metrics_page)
    start = at = int(asked.get("NextToken") or 0)
    shown: list[Json] = []
    first = 0
    for each in found:
        last = first + len(each["Pairs"])
        pairs = each["Pairs"][max(0, start - first) : max(0, start + size - first)]
        at = max(at, min(last, start + size))
        # One that ended on an earlier page is not shown again; one without data is on the first.
        if pairs or (first == last and not start):
            shown.append(
                {
                    "Id": each["Id"],
                    "Label": each["Label"],
                    "Timestamps": [when for when, _ in pairs],
                    "Values": [value for _, value in pairs],
                    "StatusCode": "Complete" if not pairs or start + size >= last else "PartialData",
                }
            )
        first = last
    return {"MetricDataResults": shown, **({"NextToken": str(at)} if at < first else {})}


def get_metric_statistics(region: Region, asked: Json) -> Json:
    """Return datapoints of one metric, in no order that may be relied on."""
    plain, extended = asked.get("Statistics", []), asked.get("ExtendedStatistics", [])
    if not plain and not extended:
        words = "Must specify either Statistics or ExtendedStatistics"
        raise Refusal("metrics.statistics", "InvalidParameterCombination", words)
    if (asked["EndTime"] - asked["StartTime"]) / asked["Period"] > MOST_STATISTICS:
        words = f"You have requested more than the limit of {MOST_STATISTICS} datapoints."
        raise Refusal("metrics.limit", "InvalidParameterCombination", words)
    points = _points(region, asked, asked["Period"], (asked["StartTime"], asked["EndTime"]))
    shown: list[Json] = []
    for at, values in points:
        point: Json = {"Timestamp": at, "Unit": asked.get("Unit", "None")}
        point |= {name: statistic(name, values) for name in plain}
        if extended:
            point["ExtendedStatistics"] = {name: statistic(name, values) for name in extended}
        shown.append(point)
    return {"Label": asked["MetricName"], "Datapoints": shown}


def list_metrics(region: Region, asked: Json) -> Json:
    """Return a page of metrics, each once."""
    # rule metrics.listed-once
    seen = {
        (row["Namespace"], row["MetricName"], tuple(sorted(row["Dimensions"].items())))
        for row in region.metrics
        if asked.get("Namespace") in {None, row["Namespace"]} and asked.get("MetricName") in {None, row["MetricName"]}
    }
    wanted = asked.get("Dimensions", [])
    rows = [
        {
            "Namespace": namespace,
            "MetricName": name,
            "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions],
        }
        for namespace, name, dimensions in sorted(seen)
        if all(_has(dict(dimensions), each) for each in wanted)
    ]
    shown, token = page(rows, asked, size=MOST_METRICS)
    return {"Metrics": shown, **token}


def _has(dimensions: dict[str, str], wanted: Json) -> bool:
    return wanted["Name"] in dimensions and wanted.get("Value") in {None, dimensions[wanted["Name"]]}


OPERATIONS = {
    "PutMetricData": put_metric_data,
    "GetMetricData": get_metric_data,
    "GetMetricStatistics": get_metric_statistics,
    "ListMetrics": list_metrics,
}
