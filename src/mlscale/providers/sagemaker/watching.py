"""What watches an endpoint, as CloudWatch has it, and back: its alarms and its dashboard."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from mlscale.deployment import Auxiliary, AuxiliaryKind, Kind
from mlscale.providers.contract import Refusal
from mlscale.providers.sagemaker import alarms
from mlscale.providers.sagemaker.alarms import alarm_name as alarm_name  # noqa: PLC0414 - a part of what is here
from mlscale.providers.sagemaker.calls import Call
from mlscale.quantities import duration_of, duration_text, latency_of, latency_text, percent_of, percent_text

LINK_TO_ALARMS = "https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html"

SHOWN = {"shows": "requests, latency, machines"}
"""What a dashboard holds, in the words of `spec.resolve`."""

_REQUESTS = "AWS/SageMaker"
_MACHINES = "/aws/sagemaker/Endpoints"
_MOST_TOPICS = 5
_MINUTE = timedelta(minutes=1)
_MICROSECOND = timedelta(microseconds=1)
_LONGEST = timedelta(days=1)
_UTILIZATIONS = ("CPUUtilization", "MemoryUtilization", "GPUUtilization", "GPUMemoryUtilization")
_WIDTH, _HEIGHT = 12, 6
_KEYS = ("p99_latency", "error_rate", "no_invocations")


def dashboard_name(name: str) -> str:
    """Return the name in CloudWatch of the dashboard of the deployment `name`."""
    return f"mlscale-{name}"


def refusals(auxiliaries: Sequence[Auxiliary], kind: Kind) -> tuple[Refusal, ...]:  # noqa: ARG001 - as for scaling
    """Return what of `auxiliaries` CloudWatch can't do for an endpoint of `kind`; each kind has every metric.

    A queue's requests too have ModelLatency, and InvocationsProcessed for Invocations. Source: "Alarms and logs for
    tracking metrics from asynchronous endpoints", "Monitor a serverless endpoint" (Amazon SageMaker AI).
    """
    return tuple(_refused(auxiliaries))


def _refused(auxiliaries: Sequence[Auxiliary]) -> Iterator[Refusal]:
    for each in auxiliaries:
        if each.kind is AuxiliaryKind.BUDGET:
            yield Refusal("budget", "a budget is nothing that CloudWatch holds")
        if each.kind is not AuxiliaryKind.ALARM:
            continue
        if each.key not in _KEYS:
            yield Refusal(f"alarms.{each.key}", "there is no such alarm", LINK_TO_ALARMS)
        elif each.key == "no_invocations" and _is_too_long(duration_of(each.content["for"])):
            why = "an alarm counts whole minutes, and looks back one day at most"
            yield Refusal("alarms.no_invocations", why, LINK_TO_ALARMS)
        if len(_topics(each)) > _MOST_TOPICS:
            yield Refusal("alarms.notify", f"an alarm tells {_MOST_TOPICS} topics at most", LINK_TO_ALARMS)


def _is_too_long(time: timedelta) -> bool:
    return bool(time % _MINUTE) or not _MINUTE <= time <= _LONGEST


def canonical(auxiliaries: Sequence[Auxiliary]) -> tuple[Auxiliary, ...]:
    """Return `auxiliaries` as they are read back: in a fixed order, quantities and lists of topics in one form."""
    found = {each.key: each for each in auxiliaries if each.kind is AuxiliaryKind.ALARM}
    boards = any(each.kind is AuxiliaryKind.DASHBOARD for each in auxiliaries)
    return (*(_one_form(found[key]) for key in _KEYS if key in found), *((_board(),) if boards else ()))


def _one_form(alarm: Auxiliary) -> Auxiliary:
    return _auxiliary(alarm.key, _threshold(alarm), sorted(_topics(alarm)))


def _board() -> Auxiliary:
    return Auxiliary(AuxiliaryKind.DASHBOARD, "endpoint", SHOWN)


def _topics(alarm: Auxiliary) -> list[str]:
    return alarm.content.get("notify", "").split()


def _threshold(alarm: Auxiliary) -> float:
    """Return the number that an alarm compares with: microseconds, percent, or minutes in a row."""
    match alarm.key:
        case "p99_latency":
            return latency_of(alarm.content["above"]) / _MICROSECOND
        case "error_rate":
            return percent_of(alarm.content["above"])
        case "no_invocations":
            return duration_of(alarm.content["for"]) / _MINUTE
    raise ValueError(alarm.key)


def _auxiliary(key: str, threshold: float, topics: Sequence[str]) -> Auxiliary:
    told = {"notify": " ".join(topics)} if topics else {}
    match key:
        case "p99_latency":
            said = {"above": latency_text(threshold * _MICROSECOND)}
        case "error_rate":
            said = {"above": percent_text(threshold)}
        case _:
            said = {"for": duration_text(threshold * _MINUTE)}
    return Auxiliary(AuxiliaryKind.ALARM, key, {**said, **told})


def auxiliaries_of(
    name: str, slot: str, kind: Kind, seen: Sequence[Mapping[str, Any]], dashboard: str | None, region: str
) -> tuple[Auxiliary, ...]:
    """Return what watches the endpoint, in canonical form; what is not as we would put it counts as absent.

    Args:
        name: the deployment's.
        slot: the variant whose metrics count.
        kind: the endpoint's.
        seen: alarms as DescribeAlarms answers them; those that drive a scaling policy are no matter here.
        dashboard: the body of our dashboard, None if there is none.
        region: where the metrics are.
    """
    found = {alarms.alarm_key(name, str(each["AlarmName"])): each for each in seen}
    watched = (_alarm_of(key, found[key], name, slot, kind) for key in _KEYS if key in found)
    boards = (_board(),) if _shows(dashboard, _body(name, slot, kind, region)) else ()
    return (*(each for each in watched if each), *boards)


def _alarm_of(key: str, alarm: Mapping[str, Any], name: str, slot: str, kind: Kind) -> Auxiliary | None:
    threshold = float(alarm.get("EvaluationPeriods" if key == "no_invocations" else "Threshold", 0))
    auxiliary = _auxiliary(key, max(threshold, 0), sorted(map(str, alarm.get("AlarmActions", ()))))
    return auxiliary if alarms.is_as_asked(alarm, _request(auxiliary, name, slot, kind)) else None


def _shows(dashboard: str | None, body: Mapping[str, Any]) -> bool:
    try:
        return dashboard is not None and bool(json.loads(dashboard) == body)
    except ValueError:
        return False


def calls(
    name: str,
    slot: str,
    kind: Kind,
    auxiliaries: Sequence[Auxiliary],
    seen: Sequence[Mapping[str, Any]],
    dashboard: str | None,
    tags: Mapping[str, str],
    region: str,
) -> tuple[Call, ...]:
    """Return what makes `seen` and `dashboard` as `auxiliaries` asks; none if it is so. See `auxiliaries_of`.

    `tags` are for alarms that are made: AWS leaves those of what is there as they are.
    """
    wanted = canonical(auxiliaries)
    asked = {each.key for each in wanted if each.kind is AuxiliaryKind.ALARM}
    keys = [alarms.alarm_key(name, str(each["AlarmName"])) for each in seen]
    requests = [_request(each, name, slot, kind) for each in wanted if each.kind is AuxiliaryKind.ALARM]
    return (
        *alarms.deletes(alarm_name(name, key) for key in keys if key in _KEYS and key not in asked),
        *(
            alarms.put({**each, "Tags": _tags(tags)})
            for each in requests
            if not any(alarms.is_as_asked(alarm, each) for alarm in seen)
        ),
        *_dashboard_calls(name, dashboard, _body(name, slot, kind, region) if _board() in wanted else None),
    )


def release_calls(name: str, seen: Sequence[Mapping[str, Any]], dashboard: str | None) -> tuple[Call, ...]:
    """Return what deletes our alarms and our dashboard; none if there are none."""
    found = (str(each["AlarmName"]) for each in seen if alarms.alarm_key(name, str(each["AlarmName"])) in _KEYS)
    return (*alarms.deletes(found), *_dashboard_calls(name, dashboard, None))


def _tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def _dashboard_calls(name: str, dashboard: str | None, body: Mapping[str, Any] | None) -> Iterator[Call]:
    if body is None and dashboard is not None:
        yield Call("cloudwatch", "delete_dashboards", {"DashboardNames": [dashboard_name(name)]})
    if body is not None and not _shows(dashboard, body):
        request = {"DashboardName": dashboard_name(name), "DashboardBody": json.dumps(body, sort_keys=True)}
        yield Call("cloudwatch", "put_dashboard", request)


def _request(alarm: Auxiliary, name: str, slot: str, kind: Kind) -> dict[str, Any]:
    topics = sorted(_topics(alarm))
    told = {"AlarmActions": topics, "OKActions": topics} if topics else {}
    named = {"AlarmName": alarm_name(name, alarm.key), "ActionsEnabled": True}
    return {**named, **told, **_compared(alarm, name, slot, kind)}


def _compared(alarm: Auxiliary, name: str, slot: str, kind: Kind) -> dict[str, Any]:
    """Return what `alarm` looks at.

    Two minutes of three, so that one slow or failed request of a quiet minute wakes nobody. Failures are what the
    endpoint is to blame for: a 4xx is the caller's.
    """
    threshold = _threshold(alarm)
    two_of_three = {
        "EvaluationPeriods": 3,
        "DatapointsToAlarm": 2,
        "Threshold": threshold,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
    }
    match alarm.key:
        case "p99_latency":
            said = f"One request of a hundred takes {name} more than {alarm.content['above']} in the model. By mlscale."
            measured = _metric("ModelLatency", name, slot) | {"ExtendedStatistic": "p99", "Period": 60}
            return {"AlarmDescription": said} | measured | two_of_three
        case "error_rate":
            said = (
                f"More than {alarm.content['above']} of the requests to {name} fail, not by their caller. By mlscale."
            )
            return {"AlarmDescription": said, "Metrics": _error_rate(name, slot, kind)} | two_of_three
        case "no_invocations":
            said = f"No request came to {name} for {alarm.content['for']}. By mlscale."
            measured = _metric(_requests(kind), name, slot) | {"Statistic": "Sum", "Period": 60}
            quiet = {
                "EvaluationPeriods": round(threshold),
                "DatapointsToAlarm": round(threshold),
                "Threshold": 1.0,
                "ComparisonOperator": "LessThanThreshold",
                "TreatMissingData": "breaching",
            }
            return {"AlarmDescription": said} | measured | quiet
    raise ValueError(alarm.key)


def _requests(kind: Kind) -> str:
    # An async endpoint does not publish Invocations.
    return "InvocationsProcessed" if kind is Kind.ASYNC else "Invocations"


def _failures(kind: Kind) -> str:
    return "InvocationFailures" if kind is Kind.ASYNC else "Invocation5XXErrors"


def _metric(metric: str, name: str, slot: str) -> dict[str, Any]:
    dimensions = [{"Name": "EndpointName", "Value": name}, {"Name": "VariantName", "Value": slot}]
    return {"Namespace": _REQUESTS, "MetricName": metric, "Dimensions": dimensions}


def _error_rate(name: str, slot: str, kind: Kind) -> list[dict[str, Any]]:
    """Return failed requests in a hundred.

    If InvocationsProcessed counts those that failed AWS does not say. Both are added up, which is right when it does
    not, and 1 % too low at a rate of 1 % when it does; without one processed there is no number of them at all.
    """
    of_all = "(failed + FILL(requests, 0))" if kind is Kind.ASYNC else "requests"
    share = {"Id": "share", "Expression": f"100 * failed / {of_all}", "Label": "failed of 100", "ReturnData": True}
    return [
        share,
        _summed("failed", _failures(kind), name, slot),
        _summed("requests", _requests(kind), name, slot),
    ]


def _summed(key: str, metric: str, name: str, slot: str) -> dict[str, Any]:
    return {
        "Id": key,
        "MetricStat": {"Metric": _metric(metric, name, slot), "Period": 60, "Stat": "Sum"},
        "ReturnData": False,
    }


def _body(name: str, slot: str, kind: Kind, region: str) -> dict[str, Any]:
    """Return what the dashboard holds: four graphs, those of machines only where an endpoint has machines."""
    by_variant = ["EndpointName", name, "VariantName", slot]
    requests = [
        [_REQUESTS, _requests(kind), *by_variant, {"stat": "Sum", "label": "requests"}],
        [_REQUESTS, _failures(kind), *by_variant, {"stat": "Sum", "label": "failed"}],
        [_REQUESTS, "Invocation4XXErrors", *by_variant, {"stat": "Sum", "label": "refused (4xx)"}],
    ]
    latency = [
        [_REQUESTS, "ModelLatency", *by_variant, {"stat": quantile, "label": quantile}] for quantile in ("p50", "p99")
    ]
    used = ("MemoryUtilization",) if kind is Kind.SERVERLESS else _UTILIZATIONS
    machines = [[_MACHINES, metric, *by_variant, {"stat": "Average"}] for metric in used]
    graphs = [
        ("Requests a minute", requests),
        ("Latency in the model, microseconds", latency),
        ("Machines, percent (CPU: of one core)", machines),
        *(() if kind is Kind.SERVERLESS else (("Replicas", _replicas(name, slot, kind)),)),
    ]
    return {"widgets": [_graph(place, title, shown, region) for place, (title, shown) in enumerate(graphs)]}


def _replicas(name: str, slot: str, kind: Kind) -> list[list[Any]]:
    """Return the count of replicas: what all have over what each has, for CloudWatch has no metric of it.

    Source: InvocationsPerInstance gets 1/instances with each request ("Amazon SageMaker AI metrics in Amazon
    CloudWatch"); ApproximateBacklogSizePerInstance is the queue by instances, and both are of the whole endpoint.
    """
    if kind is Kind.ASYNC:
        total, each, stat, of = "ApproximateBacklogSize", "ApproximateBacklogSizePerInstance", "Average", []
    else:
        total, each, stat, of = "Invocations", "InvocationsPerInstance", "Sum", ["VariantName", slot]
    hidden = {"stat": stat, "visible": False}
    return [
        [{"expression": "total / each", "id": "replicas", "label": "replicas"}],
        [_REQUESTS, total, "EndpointName", name, *of, {**hidden, "id": "total"}],
        [_REQUESTS, each, "EndpointName", name, *of, {**hidden, "id": "each"}],
    ]


def _graph(place: int, title: str, shown: Sequence[Sequence[Any]], region: str) -> dict[str, Any]:
    down, across = divmod(place, 2)
    return {
        "type": "metric",
        "x": across * _WIDTH,
        "y": down * _HEIGHT,
        "width": _WIDTH,
        "height": _HEIGHT,
        # PutDashboard refuses a graph of metrics without its region.
        "properties": {"title": title, "region": region, "view": "timeSeries", "period": 60, "metrics": list(shown)},
    }
