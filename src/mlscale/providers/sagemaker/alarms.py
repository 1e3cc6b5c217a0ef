"""CloudWatch alarms of ours: what they are called, and whether one that is there is as we would put it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mlscale.providers.sagemaker.calls import Call, holds

FIELDS: Mapping[str, Any] = {
    "AlarmDescription": None,
    "ActionsEnabled": True,
    "OKActions": None,
    "AlarmActions": None,
    "InsufficientDataActions": None,
    "MetricName": None,
    "Namespace": None,
    "Statistic": None,
    "ExtendedStatistic": None,
    "Dimensions": None,
    "Period": None,
    "Unit": None,
    "EvaluationPeriods": None,
    "DatapointsToAlarm": None,
    "Threshold": None,
    "ComparisonOperator": None,
    "TreatMissingData": "missing",
    "EvaluateLowSampleCountPercentile": "evaluate",
    "Metrics": None,
    "ThresholdMetricId": None,
}
"""What of an alarm a user can set, and what AWS takes where it is not set. Source: PutMetricAlarm."""


def alarm_name(name: str, key: str) -> str:
    """Return the name in CloudWatch of the alarm that `key` says, of the deployment `name`."""
    return f"mlscale/{name}/{key}"


def alarm_key(name: str, alarm: str) -> str:
    """Return the key of an alarm by its name in CloudWatch; empty if it is none of the deployment `name`."""
    prefix = alarm_name(name, "")
    return alarm.removeprefix(prefix) if alarm.startswith(prefix) else ""


def is_as_asked(alarm: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    """Return whether an alarm, as DescribeAlarms answers, is what a PutMetricAlarm of `request` leaves."""
    return alarm.get("AlarmName") == request["AlarmName"] and holds(alarm, request, FIELDS)


def put(request: Mapping[str, Any]) -> Call:
    """Return the call that makes an alarm, or makes it again as `request` says."""
    return Call("cloudwatch", "put_metric_alarm", request)


def deletes(names: Iterable[str]) -> tuple[Call, ...]:
    """Return the call that deletes alarms which are there; none for none."""
    found = sorted(names)
    return (Call("cloudwatch", "delete_alarms", {"AlarmNames": found}),) if found else ()
