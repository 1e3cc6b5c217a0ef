"""What watches an endpoint, as Cloud Monitoring has it, and back: its alert policies and its dashboard; pure.

Metrics are those of "Google Cloud metrics: A to B", aiplatform: prediction/online/...
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from mlscale.deployment import Auxiliary, AuxiliaryKind, Identity
from mlscale.providers.contract import Refusal
from mlscale.providers.vertex.calls import Call
from mlscale.quantities import duration_of, duration_text, latency_of, latency_text, percent_of, percent_text

LINK_TO_POLICIES = "https://docs.cloud.google.com/monitoring/api/ref_v3/rest/v3/projects.alertPolicies"
LINK_TO_LIMITS = "https://docs.cloud.google.com/monitoring/alerts/concepts-indepth"

NAME, KEY = "mlscale-name", "mlscale-key"
"""The labels by which a policy is found again: the deployment, and which of its alarms."""

SHOWN = {"shows": "requests, latency, machines"}
"""What a dashboard holds, in the words of `spec.resolve`."""

_ONLINE = "aiplatform.googleapis.com/prediction/online"
_ENDPOINT = "aiplatform.googleapis.com/Endpoint"
_KEYS = ("p99_latency", "error_rate", "no_invocations")
_CHANNEL = re.compile(r"projects/[^/]+/notificationChannels/([^/]+)")
_MOST_CHANNELS = 16
_MINUTE = timedelta(minutes=1)
_MILLISECOND = timedelta(milliseconds=1)
_LONGEST = timedelta(hours=23, minutes=30)
_COLUMNS, _WIDTH, _HEIGHT = 12, 6, 4

# What of a policy and its condition a user can set, and what Cloud Monitoring takes where it is not set; names, records
# and labels are left out. Source: AlertPolicy in the API reference.
_POLICY_FIELDS: Mapping[str, Any] = {
    "display_name": None,
    "documentation": None,
    "combiner": None,
    "enabled": True,
    "alert_strategy": None,
    "severity": None,
}
_CONDITION_FIELDS: Mapping[str, Any] = {
    "display_name": None,
    "condition_threshold": None,
    "condition_absent": None,
    "condition_matched_log": None,
    "condition_monitoring_query_language": None,
    "condition_prometheus_query_language": None,
    "condition_sql": None,
}


def dashboard_name(name: str) -> str:
    """Return the display name of the dashboard of the deployment `name`."""
    return f"mlscale-{name}"


def dashboards_of(identity: Identity, dashboards: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return those dashboards that have the name of ours."""
    return [each for each in dashboards if each.get("display_name") == dashboard_name(identity.name)]


def refusals(auxiliaries: Sequence[Auxiliary]) -> tuple[Refusal, ...]:
    """Return what of `auxiliaries` Cloud Monitoring can't do, each with its reason."""
    return tuple(_refused(auxiliaries))


def _refused(auxiliaries: Sequence[Auxiliary]) -> Iterator[Refusal]:
    for each in auxiliaries:
        if each.kind is AuxiliaryKind.BUDGET:
            yield Refusal("budget", "a budget is nothing that Cloud Monitoring holds")
        if each.kind is not AuxiliaryKind.ALARM:
            continue
        if each.key not in _KEYS:
            yield Refusal(f"alarms.{each.key}", "there is no such alarm", LINK_TO_POLICIES)
        elif each.key == "no_invocations" and _is_too_long(duration_of(each.content["for"])):
            why = f"a policy counts whole minutes, and looks back {duration_text(_LONGEST)} at most"
            yield Refusal("alarms.no_invocations", why, LINK_TO_LIMITS)
        told = each.content.get("notify", "").split()
        if other := next((channel for channel in told if not _is_channel(channel)), None):
            why = f"{other} is no channel: write it like projects/acme-ml/notificationChannels/123"
            yield Refusal("alarms.notify", why, LINK_TO_POLICIES)
        if len(told) > _MOST_CHANNELS:
            yield Refusal("alarms.notify", f"a policy tells {_MOST_CHANNELS} channels at most", LINK_TO_LIMITS)


def _is_too_long(time: timedelta) -> bool:
    return bool(time % _MINUTE) or not _MINUTE <= time <= _LONGEST


def _is_channel(text: str) -> bool:
    return text.isdigit() or _CHANNEL.fullmatch(text) is not None


def canonical(auxiliaries: Sequence[Auxiliary]) -> tuple[Auxiliary, ...]:
    """Return `auxiliaries` as they are read back: in a fixed order, quantities in one form, channels by id alone.

    A channel is in the project of the policy that tells it, which is named by its number as well as by its id.
    """
    found = {each.key: each for each in auxiliaries if each.kind is AuxiliaryKind.ALARM}
    boards = any(each.kind is AuxiliaryKind.DASHBOARD for each in auxiliaries)
    return (*(_one_form(found[key]) for key in _KEYS if key in found), *((_board(),) if boards else ()))


def _one_form(alarm: Auxiliary) -> Auxiliary:
    return _auxiliary(alarm.key, _threshold(alarm), alarm.content.get("notify", "").split())


def _board() -> Auxiliary:
    return Auxiliary(AuxiliaryKind.DASHBOARD, "endpoint", SHOWN)


def _threshold(alarm: Auxiliary) -> float:
    """Return the number that an alarm compares with: milliseconds, a share, or minutes in a row."""
    match alarm.key:
        case "p99_latency":
            return latency_of(alarm.content["above"]) / _MILLISECOND
        case "error_rate":
            return percent_of(alarm.content["above"]) / 100
        case "no_invocations":
            return duration_of(alarm.content["for"]) / _MINUTE
    raise ValueError(alarm.key)


def _auxiliary(key: str, threshold: float, channels: Sequence[str]) -> Auxiliary:
    ids = sorted({_last(each) for each in channels})
    told = {"notify": " ".join(ids)} if ids else {}
    match key:
        case "p99_latency":
            said = {"above": latency_text(threshold * _MILLISECOND)}
        case "error_rate":
            said = {"above": percent_text(threshold * 100)}
        case _:
            said = {"for": duration_text(threshold * _MINUTE)}
    return Auxiliary(AuxiliaryKind.ALARM, key, {**said, **told})


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def auxiliaries_of(
    identity: Identity, policies: Sequence[Mapping[str, Any]], dashboard: Mapping[str, Any] | None
) -> tuple[Auxiliary, ...]:
    """Return what watches the endpoint, in canonical form; what is not as we would put it counts as absent.

    Args:
        identity: the deployment's.
        policies: alert policies as they are listed; others than ours are no matter here. An alarm with two of them
            counts as absent, too: one is to go.
        dashboard: our dashboard, None if there is none.
    """
    watched = (_alarm_of(key, _of_key(identity, policies, key), identity) for key in _KEYS)
    boards = (_board(),) if dashboard is not None and _holds(dashboard, _body(identity)) else ()
    return (*(each for each in watched if each), *boards)


def _of_key(identity: Identity, policies: Sequence[Mapping[str, Any]], key: str) -> list[Mapping[str, Any]]:
    """Return the policies of one alarm, the oldest first."""
    ours = {NAME: identity.name, KEY: key}
    found = [each for each in policies if ours.items() <= dict(each.get("user_labels", {})).items()]
    return sorted(found, key=lambda each: (str(each.get("creation_record", {}).get("mutate_time", "")), each["name"]))


def _alarm_of(key: str, found: Sequence[Mapping[str, Any]], identity: Identity) -> Auxiliary | None:
    if len(found) != 1:
        return None
    (policy,) = found
    try:
        auxiliary = _auxiliary(key, _threshold_of(key, policy), policy.get("notification_channels", ()))
        return auxiliary if _is_as_asked(policy, _policy(auxiliary, identity)) else None
    except (ValueError, OverflowError):  # a number that no spec can ask for
        return None


def _threshold_of(key: str, policy: Mapping[str, Any]) -> float:
    """Return the number that a policy compares with, 0 where it is none of a form that we make."""
    for condition in policy.get("conditions", ()):
        compared = condition.get("condition_threshold", {})
        if key != "no_invocations":
            return max(float(compared.get("threshold_value", 0)), 0)
        return float(str(compared.get("duration", "0s")).removesuffix("s")) / 60
    return 0


def _is_as_asked(policy: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Return whether a policy is what `asked` makes, whatever the names that Cloud Monitoring gives to its parts."""
    conditions = policy.get("conditions", ())
    return (
        _same(policy, asked, _POLICY_FIELDS)
        and sorted(map(_last, policy.get("notification_channels", ())))
        == sorted(map(_last, asked["notification_channels"]))
        and len(conditions) == 1
        and _same(conditions[0], asked["conditions"][0], _CONDITION_FIELDS)
    )


def _same(seen: Mapping[str, Any], asked: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
    return all(_plain(seen.get(name, usual)) == _plain(asked.get(name, usual)) for name, usual in fields.items())


def _plain(value: Any) -> Any:
    """Return a value less what is empty in it: a message in which nothing is set is as none."""
    if isinstance(value, Mapping):
        return {key: plain for key, item in value.items() if (plain := _plain(item)) is not None} or None
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value] or None
    return None if value in ("", None) else value


def _holds(seen: Any, asked: Any) -> bool:
    """Return whether `seen` has all that is asked; what a server fills in besides is no difference."""
    if isinstance(asked, Mapping):
        return isinstance(seen, Mapping) and all(_holds(seen.get(key), item) for key, item in asked.items())
    if isinstance(asked, list):
        return (
            isinstance(seen, list | tuple)
            and len(seen) == len(asked)
            and all(_holds(one, other) for one, other in zip(seen, asked, strict=True))
        )
    return bool(seen == asked)


def labels_of(
    identity: Identity, policies: Sequence[Mapping[str, Any]], dashboard: Mapping[str, Any] | None
) -> dict[str, str]:
    """Return the labels that all of what watches the endpoint has; see `auxiliaries_of` for what that is."""
    found = [each.get("user_labels", {}) for key in _KEYS for each in _of_key(identity, policies, key)]
    found += [dashboard.get("labels", {})] if dashboard is not None else []
    return dict(set.intersection(*(set(each.items()) for each in found))) if found else {}


def calls(
    identity: Identity,
    auxiliaries: Sequence[Auxiliary],
    policies: Sequence[Mapping[str, Any]],
    dashboards: Sequence[Mapping[str, Any]],
    labels: Mapping[str, str],
) -> tuple[Call, ...]:
    """Return what makes `policies` and `dashboards` as `auxiliaries` asks; none if it is so. See `auxiliaries_of`.

    Of several policies of one alarm the oldest stays, and is changed in place: its incidents stay its own.

    Args:
        identity: the deployment's.
        auxiliaries: what shall watch the endpoint.
        policies: all that may be ours.
        dashboards: all with the name of ours.
        labels: what each of them shall be labelled with.
    """
    wanted = canonical(auxiliaries)
    asked = {each.key: each for each in wanted if each.kind is AuxiliaryKind.ALARM}
    found = {key: _of_key(identity, policies, key) for key in _KEYS}
    return (
        *(
            Call("alert_policy", "delete_alert_policy", {"name": each["name"]})
            for key in _KEYS
            for each in found[key][1 if key in asked else 0 :]
        ),
        *(call for key, alarm in asked.items() for call in _put(identity, alarm, found[key], labels)),
        *_dashboard_calls(identity, dashboards, labels, is_asked=_board() in wanted),
    )


def _put(
    identity: Identity, alarm: Auxiliary, found: Sequence[Mapping[str, Any]], labels: Mapping[str, str]
) -> Iterator[Call]:
    policy = _policy(alarm, identity)
    ours = {**labels, NAME: identity.name, KEY: alarm.key}
    if not found:
        request = {"name": f"projects/{identity.account}", "alert_policy": {**policy, "user_labels": ours}}
        yield Call("alert_policy", "create_alert_policy", request)
        return
    seen = found[0]
    have = dict(seen.get("user_labels", {}))
    if not _is_as_asked(seen, policy) or not ours.items() <= have.items():
        changed = {**policy, "name": seen["name"], "user_labels": {**have, **ours}}
        paths = sorted({*_POLICY_FIELDS, "conditions", "notification_channels", "user_labels"})
        request = {"alert_policy": changed, "update_mask": {"paths": paths}}
        yield Call("alert_policy", "update_alert_policy", request)


def _dashboard_calls(
    identity: Identity, dashboards: Sequence[Mapping[str, Any]], labels: Mapping[str, str], *, is_asked: bool
) -> Iterator[Call]:
    """Yield what leaves one dashboard, or none; one that is changed meanwhile is not replaced, by its etag."""
    found = sorted(dashboards, key=lambda each: str(each["name"]))
    for each in found[1 if is_asked else 0 :]:
        yield Call("dashboard", "delete_dashboard", {"name": each["name"]})
    if not is_asked:
        return
    body = {**_body(identity), "labels": {**labels, NAME: identity.name}}
    if not found:
        yield Call("dashboard", "create_dashboard", {"parent": f"projects/{identity.account}", "dashboard": body})
    elif not _holds(found[0], body):
        replaced = {**body, "name": found[0]["name"], "etag": found[0].get("etag", "")}
        yield Call("dashboard", "update_dashboard", {"dashboard": replaced})


def _policy(alarm: Auxiliary, identity: Identity) -> dict[str, Any]:
    """Return the alert policy of an alarm in canonical form, less its labels."""
    said, condition = _condition(alarm, identity)
    channels = [f"projects/{identity.account}/notificationChannels/{each}" for each in _channels(alarm)]
    return {
        "display_name": f"mlscale/{identity.name}/{alarm.key}",
        "documentation": {"content": f"{said} By mlscale.", "mime_type": "text/markdown"},
        "combiner": "OR",
        "enabled": True,
        "notification_channels": channels,
        "conditions": [{"display_name": alarm.key, "condition_threshold": condition}],
    }


def _channels(alarm: Auxiliary) -> list[str]:
    return alarm.content.get("notify", "").split()


def _condition(alarm: Auxiliary, identity: Identity) -> tuple[str, dict[str, Any]]:
    """Return what an alarm tells, and what it looks at.

    Two minutes in a row, so that one slow or failed request of a quiet minute wakes nobody. Failures are what the
    endpoint is to blame for: a 4xx is the caller's. Requests and failures are counted by response_count alike:
    prediction_count counts the rows of a request ("Performance metrics" in Google's page on monitoring endpoints).
    """
    name, threshold = identity.name, _threshold(alarm)
    over = {
        "comparison": "COMPARISON_GT",
        "threshold_value": threshold,
        "duration": "120s",
        "trigger": {"count": 1},
        "evaluation_missing_data": "EVALUATION_MISSING_DATA_INACTIVE",
    }
    match alarm.key:
        case "p99_latency":
            measured = {
                "filter": time_series(identity, "prediction_latencies", 'metric.labels.latency_type="total"'),
                "aggregations": [_summed("REDUCE_PERCENTILE_99")],
            }
            return f"One request of a hundred takes {name} more than {alarm.content['above']}.", measured | over
        case "error_rate":
            measured = {
                "filter": time_series(identity, "response_count", _code("5")),
                "aggregations": [_summed()],
                "denominator_filter": time_series(identity, "response_count"),
                "denominator_aggregations": [_summed()],
            }
            said = f"More than {alarm.content['above']} of the requests to {name} fail, not by their caller."
            return said, measured | over
        case "no_invocations":
            quiet = {
                "filter": time_series(identity, "response_count"),
                "aggregations": [_summed()],
                "comparison": "COMPARISON_LT",
                "threshold_value": 1.0,
                "duration": f"{threshold * 60:.0f}s",
                "trigger": {"count": 1},
                "evaluation_missing_data": "EVALUATION_MISSING_DATA_ACTIVE",
            }
            return f"No request came to {name} for {alarm.content['for']}.", quiet
    raise ValueError(alarm.key)


def _code(first: str) -> str:
    # The label's values are written 5xx in the list of metrics, and so may be whole codes.
    return f'metric.labels.response_code=starts_with("{first}")'


def time_series(identity: Identity, metric: str, *more: str) -> str:
    """Return which time series are looked at: an endpoint's id is its own in its region only."""
    terms = (
        f'metric.type="{_ONLINE}/{metric}"',
        f'resource.type="{_ENDPOINT}"',
        f'resource.labels.endpoint_id="{identity.name}"',
        f'resource.labels.location="{identity.region}"',
        *more,
    )
    return " AND ".join(terms)


def _summed(reducer: str = "REDUCE_SUM") -> dict[str, Any]:
    """Return how what all models of the endpoint count in a minute becomes one number."""
    return {"alignment_period": "60s", "per_series_aligner": "ALIGN_DELTA", "cross_series_reducer": reducer}


def _averaged(reducer: str) -> dict[str, Any]:
    return {"alignment_period": "60s", "per_series_aligner": "ALIGN_MEAN", "cross_series_reducer": reducer}


def _body(identity: Identity) -> dict[str, Any]:
    """Return the dashboard, less its labels: four graphs."""
    total = 'metric.labels.latency_type="total"'

    def shown(label: str, metric: str, aggregation: Mapping[str, Any], *more: str) -> dict[str, Any]:
        query = {"filter": time_series(identity, metric, *more), "aggregation": aggregation}
        return {
            "time_series_query": {"time_series_filter": query},
            "plot_type": "LINE",
            "legend_template": label,
            "min_alignment_period": "60s",
        }

    graphs = {
        "Requests a minute": [
            shown("requests", "response_count", _summed()),
            shown("failed", "response_count", _summed(), _code("5")),
            shown("refused (4xx)", "response_count", _summed(), _code("4")),
        ],
        "Latency, milliseconds": [
            shown("p50", "prediction_latencies", _summed("REDUCE_PERCENTILE_50"), total),
            shown("p99", "prediction_latencies", _summed("REDUCE_PERCENTILE_99"), total),
        ],
        "Machines, used": [
            shown("CPU", "cpu/utilization", _averaged("REDUCE_MEAN")),
            shown("GPU", "accelerator/duty_cycle", _averaged("REDUCE_MEAN")),
        ],
        "Replicas": [
            shown("replicas", "replicas", _averaged("REDUCE_SUM")),
            shown("wanted", "target_replicas", _averaged("REDUCE_SUM")),
        ],
    }
    tiles = [_tile(place, title, sets) for place, (title, sets) in enumerate(graphs.items())]
    return {"display_name": dashboard_name(identity.name), "mosaic_layout": {"columns": _COLUMNS, "tiles": tiles}}


def _tile(place: int, title: str, sets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one graph at its place, two in a row; a place of 0 is left out, as it is in what is read."""
    down, across = divmod(place, 2)
    at = {"x_pos": across * _WIDTH, "y_pos": down * _HEIGHT}
    widget = {"title": title, "xy_chart": {"data_sets": list(sets)}}
    return {**{key: value for key, value in at.items() if value}, "width": _WIDTH, "height": _HEIGHT, "widget": widget}
