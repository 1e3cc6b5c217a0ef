"""CloudWatch alarms and dashboards."""

from __future__ import annotations

import json

from tests.doubles.aws.refusal import Refusal, invalid
from tests.doubles.aws.surroundings import publish
from tests.doubles.aws.tags import as_list, keep
from tests.doubles.aws.world import Json, Region, page

MOST_ALARMS = 100
PERIODS = frozenset({10, 20, 30})
HOUR_S = 3600
DAY_S = 86400
LISTS = ("OKActions", "AlarmActions", "InsufficientDataActions")
ACTIONS = {"OK": "OKActions", "ALARM": "AlarmActions", "INSUFFICIENT_DATA": "InsufficientDataActions"}


def put_metric_alarm(region: Region, asked: Json) -> Json:
    """Keep an alarm; one that was there keeps its state and its tags."""
    _check_alarm(asked)
    name = asked["AlarmName"]
    arn = region.arn("cloudwatch", f"alarm:{name}")
    now = region.now()
    old = region.alarms.get(name)
    # rule alarm.first-state
    state = {
        "StateValue": "INSUFFICIENT_DATA",
        "StateReason": "Unchecked: Initial alarm creation",
        "StateUpdatedTimestamp": now,
    }
    if old is not None:
        # rule alarm.update
        state = {member: old[member] for member in old if member.startswith("State")}
    kept = {member: value for member, value in asked.items() if member != "Tags"}
    region.alarms[name] = {
        "ActionsEnabled": True,
        **{member: [] for member in LISTS},
        **({} if "Metrics" in asked else {"Dimensions": []}),
        **kept,
        **state,
        "AlarmArn": arn,
        "AlarmConfigurationUpdatedTimestamp": now,
    }
    if old is None:
        # rule alarm.tags
        keep(region, arn, asked.get("Tags", []))
    return {}


def _check_alarm(asked: Json) -> None:
    periods = asked.get("EvaluationPeriods", 0)
    if periods < 1:
        raise invalid("alarm.periods", "EvaluationPeriods must be specified.")
    if ("MetricName" in asked) == ("Metrics" in asked):
        raise invalid("alarm.metric", "Exactly one of MetricName and Metrics must be specified.")
    if "MetricName" in asked:
        if ("Statistic" in asked) == ("ExtendedStatistic" in asked):
            raise invalid("alarm.statistic", "Exactly one of Statistic and ExtendedStatistic must be specified.")
        period = asked.get("Period", 0)
        if period not in PERIODS and (period < 1 or period % 60):
            raise invalid("alarm.period", "Period must be 10, 20, 30 or a multiple of 60.")
        most = DAY_S if period < HOUR_S else 7 * DAY_S
        if periods * period > most:
            raise invalid("alarm.span", f"EvaluationPeriods times Period must not be more than {most} seconds.")
    if "Threshold" not in asked and "ThresholdMetricId" not in asked:
        raise invalid("alarm.threshold", "Threshold or ThresholdMetricId must be specified.")
    if asked.get("DatapointsToAlarm", 1) > periods:
        raise invalid("alarm.datapoints", "DatapointsToAlarm must not be more than EvaluationPeriods.")


def describe_alarms(region: Region, asked: Json) -> Json:
    """Return a page of alarms by name."""
    names, prefix = asked.get("AlarmNames"), asked.get("AlarmNamePrefix", "")
    state, action = asked.get("StateValue"), asked.get("ActionPrefix", "")
    rows = [
        each
        for name, each in sorted(region.alarms.items())
        if (not names or name in names)
        and name.startswith(prefix)
        and state in {None, each["StateValue"]}
        and (not action or any(act.startswith(action) for act in each["AlarmActions"]))
    ]
    # rule alarm.types
    if "MetricAlarm" not in asked.get("AlarmTypes", ["MetricAlarm"]):
        rows = []
    shown, token = page(rows, asked, size=50, limit="MaxRecords")
    return {"MetricAlarms": shown, "CompositeAlarms": [], **token}


def describe_alarms_for_metric(region: Region, asked: Json) -> Json:
    """Return the alarms on one metric."""
    wanted = _dimensions(asked)
    rows = [
        each
        for _, each in sorted(region.alarms.items())
        if each.get("MetricName") == asked["MetricName"]
        and each.get("Namespace") == asked["Namespace"]
        and (not wanted or _dimensions(each) == wanted)
    ]
    return {"MetricAlarms": rows}


def _dimensions(asked: Json) -> dict[str, str]:
    return {each["Name"]: each["Value"] for each in asked.get("Dimensions", [])}


def delete_alarms(region: Region, asked: Json) -> Json:
    """Forget the alarms that are there."""
    # rule alarm.delete-missing
    for name in asked["AlarmNames"]:
        alarm = region.alarms.pop(name, None)
        if alarm is not None:
            region.tags.pop(alarm["AlarmArn"], None)
    return {}


def set_alarm_state(region: Region, asked: Json) -> Json:
    """Move an alarm by hand; its actions are taken."""
    alarm = _alarm(region, asked["AlarmName"])
    set_state(region, alarm, asked["StateValue"], asked["StateReason"])
    return {}


def _alarm(region: Region, name: str) -> Json:
    if name not in region.alarms:
        raise Refusal("alarm.missing", "ResourceNotFound", "Unknown", 404)
    return region.alarms[name]


def set_state(region: Region, alarm: Json, state: str, reason: str) -> None:
    """Change an alarm's state, note it, and tell its topics."""
    before = alarm["StateValue"]
    alarm |= {"StateValue": state, "StateReason": reason, "StateUpdatedTimestamp": region.now()}
    if before == state:
        return
    region.alarm_history.append(
        {
            "AlarmName": alarm["AlarmName"],
            "AlarmType": "MetricAlarm",
            "Timestamp": region.now(),
            "HistoryItemType": "StateUpdate",
            "HistorySummary": f"Alarm updated from {before} to {state}",
        }
    )
    # rule alarm.actions
    for action in alarm[ACTIONS[state]] if alarm["ActionsEnabled"] else []:
        if ":sns:" in action:
            publish(region, action, json.dumps({"AlarmName": alarm["AlarmName"], "NewStateValue": state}))


def describe_alarm_history(region: Region, asked: Json) -> Json:
    """Return a page of what alarms did, newest first."""
    rows = [
        each
        for each in reversed(region.alarm_history)
        if asked.get("AlarmName") in {None, each["AlarmName"]}
        and asked.get("HistoryItemType") in {None, each["HistoryItemType"]}
    ]
    shown, token = page(rows, asked, size=MOST_ALARMS, limit="MaxRecords")
    return {"AlarmHistoryItems": shown, **token}


def enable_alarm_actions(region: Region, asked: Json) -> Json:
    """Let alarms act."""
    return _set_enabled(region, asked, enabled=True)


def disable_alarm_actions(region: Region, asked: Json) -> Json:
    """Keep alarms from acting."""
    return _set_enabled(region, asked, enabled=False)


def _set_enabled(region: Region, asked: Json, *, enabled: bool) -> Json:
    for name in asked["AlarmNames"]:
        _alarm(region, name)["ActionsEnabled"] = enabled
    return {}


def tag_resource(region: Region, asked: Json) -> Json:
    """Set tags of an alarm."""
    keep(region, _tagged(region, asked), asked["Tags"])
    return {}


def untag_resource(region: Region, asked: Json) -> Json:
    """Take tags from an alarm."""
    arn = _tagged(region, asked)
    region.tags[arn] = {key: value for key, value in region.tags.get(arn, {}).items() if key not in asked["TagKeys"]}
    return {}


def list_tags_for_resource(region: Region, asked: Json) -> Json:
    """Return the tags of an alarm."""
    return {"Tags": as_list(region.tags.get(_tagged(region, asked), {}))}


def _tagged(region: Region, asked: Json) -> str:
    arn: str = asked["ResourceARN"]
    if arn not in {each["AlarmArn"] for each in region.alarms.values()}:
        raise Refusal("alarm.tags-missing", "ResourceNotFoundException", f"{arn} does not exist", 404)
    return arn


def put_dashboard(region: Region, asked: Json) -> Json:
    """Keep a dashboard."""
    name, body = asked["DashboardName"], asked["DashboardBody"]
    try:
        widgets = json.loads(body)["widgets"]
    except (ValueError, KeyError, TypeError):
        widgets = None
    if not isinstance(widgets, list):
        words = "The field DashboardBody must be a valid JSON object with widgets"
        raise Refusal("dashboard.body", "InvalidParameterInput", words)
    region.dashboards[name] = {
        "DashboardName": name,
        "DashboardArn": f"arn:aws:cloudwatch::{region.account}:dashboard/{name}",
        "DashboardBody": body,
        "LastModified": region.now(),
        "Size": len(body),
    }
    return {"DashboardValidationMessages": []}


def get_dashboard(region: Region, asked: Json) -> Json:
    """Return a dashboard."""
    found = region.dashboards.get(asked["DashboardName"])
    if found is None:
        words = f"Dashboard {asked['DashboardName']} does not exist"
        raise Refusal("dashboard.missing", "ResourceNotFound", words, 404)
    return {member: found[member] for member in ("DashboardArn", "DashboardBody", "DashboardName")}


def list_dashboards(region: Region, asked: Json) -> Json:
    """Return a page of dashboards."""
    prefix = asked.get("DashboardNamePrefix", "")
    rows = [
        {member: value for member, value in each.items() if member != "DashboardBody"}
        for name, each in sorted(region.dashboards.items())
        if name.startswith(prefix)
    ]
    shown, token = page(rows, asked, size=1000)
    return {"DashboardEntries": shown, **token}


def delete_dashboards(region: Region, asked: Json) -> Json:
    """Forget the dashboards that are there; it is an error if one is not."""
    # rule dashboard.delete
    missing = [name for name in asked["DashboardNames"] if region.dashboards.pop(name, None) is None]
    if missing:
        words = f"The specified dashboard does not exist. [{', '.join(missing)}]"
        raise Refusal("dashboard.missing", "ResourceNotFound", words, 404)
    return {}


OPERATIONS = {
    "PutMetricAlarm": put_metric_alarm,
    "DescribeAlarms": describe_alarms,
    "DescribeAlarmsForMetric": describe_alarms_for_metric,
    "DescribeAlarmHistory": describe_alarm_history,
    "DeleteAlarms": delete_alarms,
    "SetAlarmState": set_alarm_state,
    "EnableAlarmActions": enable_alarm_actions,
    "DisableAlarmActions": disable_alarm_actions,
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
    "ListTagsForResource": list_tags_for_resource,
    "PutDashboard": put_dashboard,
    "GetDashboard": get_dashboard,
    "ListDashboards": list_dashboards,
    "DeleteDashboards": delete_dashboards,
}
