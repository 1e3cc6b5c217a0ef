"""Cloud Monitoring's time series: single values kept, aligned and reduced when they are asked for."""

from __future__ import annotations

import itertools
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import empty_pb2
from google.rpc import code_pb2

from tests.doubles.vertex import listing, protos, quotas
from tests.doubles.vertex.call import Call
from tests.doubles.vertex.filters import parsed
from tests.doubles.vertex.refusal import invalid
from tests.doubles.vertex.world import Project, Region, World, stamp

MONITORING = "google.cloud.monitoring_v3"
ONLINE = "aiplatform.googleapis.com/prediction/online/"
RESOURCE = "aiplatform.googleapis.com/Endpoint"
PERCENTILE = re.compile(r"(?:ALIGN|REDUCE)_PERCENTILE_(\d+)")
DISTRIBUTION = "DISTRIBUTION"
SHORTEST_PERIOD_S = 60.0
OF_CHANGES, OF_MOMENTS = frozenset({"DELTA", "RATE"}), frozenset({"NEXT_OLDER", "INTERPOLATE"})
OF_NUMBERS = frozenset({"RATE", "INTERPOLATE", "MIN", "MAX", "MEAN", "COUNT"})
"""Aligners for metrics that count what comes, for those that show what is, and for those without distributions."""

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Series:
    """What tells one time series from another."""

    metric: str
    labels: Labels
    resource: str
    resource_labels: Labels
    kind: str = "GAUGE"
    type: str = "DOUBLE"


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured at one moment; a distribution has several values."""

    series: Series
    at: float
    values: tuple[float, ...]


Aligned = dict[float, tuple[float, ...]]
"""Values by the end of their period."""


def put(
    project: Project,
    metric: str,
    values: Sequence[float],
    at: float,
    *,
    labels: dict[str, str],
    resource: str,
    resource_labels: dict[str, str],
    kind: str = "DELTA",
    type: str = "INT64",  # noqa: A002 - what the service calls it
) -> None:
    """Keep values of one metric at one moment."""
    series = Series(metric, tuple(sorted(labels.items())), resource, tuple(sorted(resource_labels.items())), kind, type)
    project.points.append(Point(series, at, tuple(values)))


def put_online(
    region: Region,
    endpoint_id: str,
    deployed_id: str,
    name: str,
    values: Sequence[float],
    at: float,
    *,
    more: dict[str, str] | None = None,
) -> None:
    """Keep values of a metric of online prediction, whose kind and type its name says."""
    gauges = ("replicas", "target_replicas", "cpu/utilization", "memory/bytes_used", "accelerator/duty_cycle")
    distribution = name.endswith("latencies")
    # rule metrics.resource
    put(
        region.project,
        name if "/" in name and "." in name.partition("/")[0] else f"{ONLINE}{name}",
        values,
        at,
        labels={"deployed_model_id": deployed_id, **(more or {})},
        resource=RESOURCE,
        resource_labels={
            "resource_container": region.project.number,
            "location": region.name,
            "endpoint_id": endpoint_id,
        },
        kind="GAUGE" if name in gauges else "DELTA",
        type=DISTRIBUTION if distribution else "DOUBLE" if name in gauges[2:] else "INT64",
    )


def put_prediction(region: Region, endpoint: Any, deployed: Any, *, status: int, latency_ms: float) -> None:
    """Keep what one request is in the metrics."""
    # rule metrics.online
    endpoint_id, now = endpoint.name.rpartition("/")[2], region.now()
    code = {"response_code": f"{status}"}
    rows: tuple[tuple[str, float, dict[str, str]], ...] = (
        ("prediction_count", 1.0, {}),
        ("response_count", 1.0, code),
        ("prediction_latencies", latency_ms, {"latency_type": "total"}),
        ("prediction_latencies", latency_ms, {"latency_type": "model"}),
        ("prediction_latencies", 0.0, {"latency_type": "overhead"}),
    )
    if status >= 400:
        rows = (*rows, ("error_count", 1.0, {}))
    for name, value, more in rows:
        put_online(region, endpoint_id, deployed.id, name, [value], now, more=more)


def _fields(series: Series) -> Callable[[str], list[str] | None]:
    """Return what looks up a field of a filter."""

    def lookup(name: str) -> list[str] | None:
        first, _, rest = name.partition(".")
        kind, _, key = rest.partition(".")
        if first == "project":
            return []
        if first not in {"metric", "resource"}:
            return None
        held = dict(series.labels if first == "metric" else series.resource_labels)
        if rest == "type":
            return [series.metric if first == "metric" else series.resource]
        if kind not in {"label", "labels"}:
            return None
        key = key.strip('"')
        return [held[key]] if key in held else []

    return lookup


def list_time_series(world: World, request: Any, _call: Call) -> Any:
    """Return time series, aligned and reduced as asked."""
    project = world.owner(request.name)
    if len(re.findall(r"metric\.type\s*=", request.filter)) != 1:
        raise invalid(
            "metrics.type", "The supplied filter does not specify a valid combination of metric and resource."
        )
    start, end = _seconds(request.interval.start_time), _seconds(request.interval.end_time)
    if not request.interval.HasField("start_time") or start >= end:
        raise invalid("metrics.interval", "The interval must have a startTime, and an endTime that is after it.")
    test = parsed(request.filter)
    held: dict[Series, list[Point]] = {}
    # rule metrics.late
    seen = [point for point in project.points if point.at <= world.clock.now() - world.settings.metrics_lag_s]
    for point in [*seen, *_quota_points(world, project, end), *_replica_points(world, project, end)]:
        # rule metrics.half-open
        if (start < point.at <= end) and (point.series in held or test(_fields(point.series))):
            held.setdefault(point.series, []).append(point)
    period = _seconds(request.aggregation.alignment_period)
    names = _aggregation_names(request.aggregation)
    shown = [_message(series, values, names, period) for series, values in _aggregated(held, request, end)]
    page, token = _page(shown, request, world.settings.metrics_page)
    response = protos.message("ListTimeSeriesResponse", MONITORING)(time_series=page, next_page_token=token)
    # rule metrics.errors
    for words in world.settings.metrics_errors:
        response.execution_errors.add(code=code_pb2.DEADLINE_EXCEEDED, message=words)
    return response


def _page(shown: list[Any], request: Any, most: int) -> tuple[list[Any], str]:
    """Return the series of a page, and the token of the next; a series whose points are on two pages is on both."""
    # rule metrics.pages
    if request.view == protos.enum("ListTimeSeriesRequest", MONITORING).TimeSeriesView.HEADERS:
        for series in shown:
            del series.points[:]
        return listing.page(shown, request, most=most)
    points = [(number, point) for number, series in enumerate(shown) for point in series.points]
    page, token = listing.page(points, request, most=most)
    parts = []
    for number, group in itertools.groupby(page, key=operator.itemgetter(0)):
        part = type(shown[number])()
        part.CopyFrom(shown[number])
        del part.points[:]
        part.points.extend(point for _, point in group)
        parts.append(part)
    return parts, token


def _seconds(moment: Any) -> float:
    return float(moment.seconds) + float(moment.nanos) / 1e9


def _quota_points(world: World, project: Project, at: float) -> Iterator[Point]:
    """Return what quotas there are and how much of them is used, as it is now."""
    # rule metrics.quotas
    for (number, _), region in world.regions.items():
        if number == project.number:
            used = quotas.used(region)
            for name in sorted(set(used) | set(region.quotas)):
                labels = {"quota_metric": f"{quotas.SERVICE}/{name}"}
                resource = {"project_id": project.id, "service": quotas.SERVICE, "location": region.name}
                for metric, value in (("limit", quotas.limit(region, name)), ("allocation/usage", float(used[name]))):
                    more = {"limit_name": name} if metric == "limit" else {}
                    series = Series(
                        f"serviceruntime.googleapis.com/quota/{metric}",
                        tuple(sorted((labels | more).items())),
                        "consumer_quota",
                        tuple(sorted(resource.items())),
                        type="INT64",
                    )
                    yield Point(series, at, (value,))


def _replica_points(world: World, project: Project, at: float) -> Iterator[Point]:
    """Return how many replicas there are and should be, as it is now."""
    # rule metrics.replicas
    for (number, name), region in world.regions.items():
        for endpoint in region.endpoints.values() if number == project.number else ():
            for deployed in endpoint.deployed_models:
                resource = {
                    "resource_container": number,
                    "location": name,
                    "endpoint_id": endpoint.name.rpartition("/")[2],
                }
                count = float(deployed.status.available_replica_count)
                wanted = max(count, float(deployed.dedicated_resources.min_replica_count))
                for metric, value in (("replicas", count), ("target_replicas", wanted)):
                    labels = (("deployed_model_id", deployed.id),)
                    series = Series(
                        f"{ONLINE}{metric}", labels, RESOURCE, tuple(sorted(resource.items())), type="INT64"
                    )
                    yield Point(series, at, (value,))


def _aggregation_names(aggregation: Any) -> tuple[str, str]:
    enum = protos.enum("Aggregation", MONITORING)
    return enum.Aligner(aggregation.per_series_aligner).name, enum.Reducer(aggregation.cross_series_reducer).name


def _aggregated(held: dict[Series, list[Point]], request: Any, end: float) -> Iterator[tuple[Series, Aligned]]:
    """Return each series with its values by time, after both aggregations."""
    found = {series: {point.at: point.values for point in points} for series, points in held.items()}
    for number, aggregation in enumerate((request.aggregation, request.secondary_aggregation)):
        aligner, reducer = _aggregation_names(aggregation)
        period = _seconds(aggregation.alignment_period)
        if aligner == "ALIGN_NONE" and reducer != "REDUCE_NONE":
            raise invalid("metrics.reducer", "A cross_series_reducer needs a per_series_aligner.")
        if aligner != "ALIGN_NONE":
            if period < SHORTEST_PERIOD_S:
                raise invalid("metrics.period", "alignment_period must be at least 60 seconds with an aligner.")
            if number == 0:
                _check_aligner(aligner, held)
            source = (
                {series: [(point.at, point.values) for point in points] for series, points in held.items()}
                if number == 0
                else {series: list(values.items()) for series, values in found.items()}
            )
            found = {series: _aligned(series, points, aligner, period, end) for series, points in source.items()}
        if reducer != "REDUCE_NONE":
            found = _reduced(found, reducer, tuple(aggregation.group_by_fields))
    yield from found.items()


def _check_aligner(aligner: str, found: Iterable[Series]) -> None:
    """Return if an aligner is one for all of the series."""
    name = aligner.removeprefix("ALIGN_")
    for series in found:
        is_spread = series.type == DISTRIBUTION
        is_other = (name in OF_CHANGES and series.kind == "GAUGE") or (name in OF_MOMENTS and series.kind == "DELTA")
        if is_other or (name in OF_NUMBERS and is_spread) or (name.startswith("PERCENTILE") and not is_spread):
            words = f"The aligner {aligner} can't be applied to {series.metric}: {series.kind}, {series.type}."
            raise invalid("metrics.aligner", words)


def _aligned(
    series: Series, points: list[tuple[float, tuple[float, ...]]], aligner: str, period: float, end: float
) -> Aligned:
    # rule metrics.periods
    spans: dict[float, list[float]] = {}
    for at, values in points:
        spans.setdefault(end - math.floor((end - at) / period) * period, []).extend(values)
    keeps = series.type == DISTRIBUTION and aligner in {"ALIGN_DELTA", "ALIGN_SUM", "ALIGN_NEXT_OLDER"}
    return {at: tuple(values) if keeps else (_one(aligner, values, period),) for at, values in sorted(spans.items())}


def _one(name: str, values: Sequence[float], period: float = 1.0) -> float:
    """Return what an aligner or a reducer makes of values; percentiles are by nearest rank."""
    if found := PERCENTILE.fullmatch(name):
        # rule metrics.percentile
        ordered = sorted(values)
        return ordered[max(0, math.ceil(float(found[1]) / 100 * len(ordered)) - 1)]
    match name.partition("_")[2]:
        case "RATE":
            return math.fsum(values) / period
        case "SUM" | "DELTA":
            return math.fsum(values)
        case "MEAN":
            return math.fsum(values) / len(values)
        case "MIN":
            return min(values)
        case "MAX":
            return max(values)
        case "COUNT":
            return float(len(values))
        case "NEXT_OLDER" | "INTERPOLATE":
            return values[-1]
        case _:
            raise invalid("metrics.aggregation", f"{name} is not supported here.")


def _reduced(found: dict[Series, Aligned], reducer: str, fields: tuple[str, ...]) -> dict[Series, Aligned]:
    """Return one series for each group."""
    groups: dict[Series, dict[float, list[tuple[float, ...]]]] = {}
    for series, values in found.items():
        group = _group(series, fields)
        for at, value in values.items():
            groups.setdefault(group, {}).setdefault(at, []).append(value)
    merges = reducer == "REDUCE_SUM"
    return {
        group: {
            at: (
                tuple(value for each in values for value in each)
                if merges and group.type == DISTRIBUTION
                else (_one(reducer, [value for each in values for value in each]),)
            )
            for at, values in sorted(times.items())
        }
        for group, times in groups.items()
    }


def _group(series: Series, fields: tuple[str, ...]) -> Series:
    keys = [re.fullmatch(r'(metric|resource)\.labels?\."?([^"]+)"?', field) for field in fields]
    wanted = {(key[1], key[2]) for key in keys if key is not None}
    return Series(
        series.metric,
        tuple(each for each in series.labels if ("metric", each[0]) in wanted),
        series.resource,
        tuple(each for each in series.resource_labels if ("resource", each[0]) in wanted),
        series.kind,
        series.type,
    )


def _message(series: Series, values: Aligned, names: tuple[str, str], period: float) -> Any:
    """Return a series as the service sends it, its newest point first; what was counted is of the period before."""
    made = protos.message("TimeSeries", MONITORING)()
    made.metric.type, made.resource.type = series.metric, series.resource
    made.metric.labels.update(dict(series.labels))
    made.resource.labels.update(dict(series.resource_labels))
    enum = protos.enum("TimeSeries", MONITORING).pb().DESCRIPTOR.fields_by_name
    counts = names[0] in {"ALIGN_NONE", "ALIGN_DELTA", "ALIGN_SUM", "ALIGN_NEXT_OLDER"}
    spread = series.type == DISTRIBUTION and counts and names[1] in {"REDUCE_NONE", "REDUCE_SUM"}
    type_name = DISTRIBUTION if spread else "INT64" if series.type == "INT64" and counts else "DOUBLE"
    made.metric_kind = enum["metric_kind"].enum_type.values_by_name[series.kind].number
    made.value_type = enum["value_type"].enum_type.values_by_name[type_name].number
    lasts = period if series.kind == "DELTA" and names[0] in {"ALIGN_DELTA", "ALIGN_SUM"} else 0.0
    for at, held in sorted(values.items(), reverse=True):
        point = made.points.add()
        stamp(point.interval.start_time, at - lasts)
        stamp(point.interval.end_time, at)
        if type_name == DISTRIBUTION:
            _distribute(point.value.distribution_value, held)
        elif type_name == "INT64":
            point.value.int64_value = int(held[-1])
        else:
            point.value.double_value = held[-1]
    return made


def _distribute(distribution: Any, values: Sequence[float]) -> None:
    """Fill a distribution in, with a bucket for each power of two."""
    # rule metrics.buckets
    mean = math.fsum(values) / len(values)
    distribution.count, distribution.mean = len(values), mean
    distribution.sum_of_squared_deviation = math.fsum((value - mean) ** 2 for value in values)
    buckets = distribution.bucket_options.exponential_buckets
    buckets.num_finite_buckets, buckets.growth_factor, buckets.scale = 30, 2.0, 1.0
    counts = [0] * 32
    for value in values:
        counts[0 if value < 1 else min(31, int(math.log2(value)) + 1)] += 1
    distribution.bucket_counts.extend(counts)


def create_time_series(world: World, request: Any, _call: Call) -> Any:
    """Keep what a caller measured."""
    project = world.owner(request.name)
    for asked in request.time_series:
        point = asked.points[0]
        value = getattr(point.value, point.value.WhichOneof("value"))
        put(
            project,
            asked.metric.type,
            [float(value)],
            _seconds(point.interval.end_time),
            labels=dict(asked.metric.labels),
            resource=asked.resource.type or "global",
            resource_labels=dict(asked.resource.labels),
            kind="GAUGE",
            type="DOUBLE",
        )
    return empty_pb2.Empty()


OPERATIONS = {
    ("MetricService", "ListTimeSeries"): list_time_series,
    ("MetricService", "CreateTimeSeries"): create_time_series,
}
