"""Alert policies, notification channels and dashboards: kept as they are asked for."""

from __future__ import annotations

from typing import Any

from google.protobuf import empty_pb2

from tests.doubles.vertex import etags, listing, protos
from tests.doubles.vertex.call import Call
from tests.doubles.vertex.filters import parsed
from tests.doubles.vertex.metrics import MONITORING
from tests.doubles.vertex.refusal import Refusal, missing, wrong_field
from tests.doubles.vertex.world import Project, World, stamp

DASHBOARDS = "google.cloud.monitoring_dashboard_v1"
UPDATED = frozenset({
    "display_name", "documentation", "user_labels", "conditions", "combiner", "enabled", "notification_channels",
    "alert_strategy", "severity",
})  # fmt: skip
CHANNEL_UPDATED = frozenset({"display_name", "description", "labels", "user_labels", "enabled"})


def _lookup(message: Any, name: str) -> list[str] | None:
    """Return what a policy or a channel has under a field of a filter."""
    first, _, key = name.partition(".")
    if first in {"user_labels", "labels"}:
        held = getattr(message, first, {})
        return ([held[key]] if key in held else []) if key else list(held)
    if first == "enabled":
        return [str(message.enabled.value).lower()]
    name = "type_" if name == "type" else name
    return [str(getattr(message, name))] if name in message.DESCRIPTOR.fields_by_name else None


def _found(held: dict[str, Any], name: str, project: Project) -> Any:
    short = name.rpartition("/")[2]
    if short not in held:
        raise missing("watch.missing", f"Cannot find {name.split('/')[-2]} {short} in project {project.id}.")
    return held[short]


def _page(held: dict[str, Any], request: Any) -> tuple[list[Any], str]:
    test = parsed(request.filter)
    kept = [each for each in held.values() if test(lambda name, each=each: _lookup(each, name))]  # type: ignore[misc]
    return listing.page(kept, request)


def _check_policy(asked: Any) -> None:
    if not asked.display_name:
        raise wrong_field("alert.display-name", "alert_policy.display_name", "is required")
    if not asked.conditions:
        raise wrong_field("alert.conditions", "alert_policy.conditions", "at least one condition is required")
    if len(asked.conditions) > 1 and not asked.combiner:
        raise wrong_field("alert.combiner", "alert_policy.combiner", "is required with several conditions")


def create_alert_policy(world: World, request: Any, _call: Call) -> Any:
    """Make an alert policy; two may have one name."""
    project = world.owner(request.name)
    _check_policy(request.alert_policy)
    _check_channels(project, request.alert_policy)
    policy = protos.message("AlertPolicy", MONITORING)()
    policy.CopyFrom(request.alert_policy)
    number = world.new_number()
    # rule alert.name
    policy.name = f"projects/{project.id}/alertPolicies/{number}"
    for index, condition in enumerate(policy.conditions):
        condition.name = f"{policy.name}/conditions/{int(number) + index}"
    if not policy.HasField("enabled"):
        policy.enabled.value = True
    _mark(world, policy, "creation_record")
    project.policies[number] = policy
    return policy


def _check_channels(project: Project, policy: Any) -> None:
    absent = [each for each in policy.notification_channels if each.rpartition("/")[2] not in project.channels]
    if absent:
        words = f"Notification channel {absent[0]} does not exist."
        raise Refusal("alert.channel", "NOT_FOUND", words)


def _mark(world: World, policy: Any, record: str) -> None:
    for name in {record, "mutation_record"}:
        stamp(getattr(policy, name).mutate_time, world.clock.now())


def get_alert_policy(world: World, request: Any, _call: Call) -> Any:
    """Return an alert policy."""
    project = world.owner(request.name)
    return _found(project.policies, request.name, project)


def list_alert_policies(world: World, request: Any, _call: Call) -> Any:
    """Return the alert policies that a filter leaves."""
    page, token = _page(world.owner(request.name).policies, request)
    return protos.message("ListAlertPoliciesResponse", MONITORING)(
        alert_policies=page, next_page_token=token, total_size=len(page)
    )


def update_alert_policy(world: World, request: Any, _call: Call) -> Any:
    """Change an alert policy: what a mask names, or all of it."""
    asked = request.alert_policy
    project = world.owner(asked.name)
    policy = _found(project.policies, asked.name, project)
    paths = list(request.update_mask.paths) or sorted(UPDATED)
    _check_channels(project, asked)
    # rule alert.mask
    etags.masked(policy, asked, paths, UPDATED, "alert.mask")
    _check_policy(policy)
    for index, condition in enumerate(policy.conditions):
        condition.name = condition.name or f"{policy.name}/conditions/{int(world.new_number()) + index}"
    _mark(world, policy, "mutation_record")
    return policy


def delete_alert_policy(world: World, request: Any, _call: Call) -> Any:
    """Delete an alert policy."""
    project = world.owner(request.name)
    _found(project.policies, request.name, project)
    del project.policies[request.name.rpartition("/")[2]]
    return empty_pb2.Empty()


def create_notification_channel(world: World, request: Any, _call: Call) -> Any:
    """Make a notification channel."""
    project = world.owner(request.name)
    channel = protos.message("NotificationChannel", MONITORING)()
    channel.CopyFrom(request.notification_channel)
    if not channel.type_:  # proto-plus names it so
        raise wrong_field("channel.type", "notification_channel.type", "is required")
    number = world.new_number()
    channel.name = f"projects/{project.id}/notificationChannels/{number}"
    project.channels[number] = channel
    return channel


def get_notification_channel(world: World, request: Any, _call: Call) -> Any:
    """Return a notification channel."""
    project = world.owner(request.name)
    return _found(project.channels, request.name, project)


def list_notification_channels(world: World, request: Any, _call: Call) -> Any:
    """Return the notification channels that a filter leaves."""
    page, token = _page(world.owner(request.name).channels, request)
    return protos.message("ListNotificationChannelsResponse", MONITORING)(
        notification_channels=page, next_page_token=token, total_size=len(page)
    )


def update_notification_channel(world: World, request: Any, _call: Call) -> Any:
    """Change a notification channel."""
    asked = request.notification_channel
    project = world.owner(asked.name)
    channel = _found(project.channels, asked.name, project)
    # rule channel.mask
    etags.masked(
        channel, asked, list(request.update_mask.paths) or sorted(CHANNEL_UPDATED), CHANNEL_UPDATED, "channel.mask"
    )
    return channel


def delete_notification_channel(world: World, request: Any, _call: Call) -> Any:
    """Delete a notification channel that no policy names, or any with `force`."""
    project = world.owner(request.name)
    channel = _found(project.channels, request.name, project)
    users = [each for each in project.policies.values() if channel.name in each.notification_channels]
    if users and not request.force:
        words = f"Notification channel {channel.name} is used by {users[0].name}."
        raise Refusal("channel.used", "FAILED_PRECONDITION", words)
    for policy in users:
        policy.notification_channels.remove(channel.name)
    del project.channels[request.name.rpartition("/")[2]]
    return empty_pb2.Empty()


def create_dashboard(world: World, request: Any, _call: Call) -> Any:
    """Make a dashboard, under the name that it asks for if it does."""
    project = world.owner(request.parent)
    asked = request.dashboard
    if not asked.display_name:
        raise wrong_field("dashboard.display-name", "dashboard.display_name", "is required")
    short = asked.name.rpartition("/")[2] or world.new_number()
    if short in project.dashboards:
        raise Refusal("dashboard.duplicate", "ALREADY_EXISTS", f"Dashboard {short} already exists.")
    kept = type(asked)()
    kept.CopyFrom(asked)
    return _kept(world, project, short, kept)


def _kept(world: World, project: Project, short: str, dashboard: Any) -> Any:
    # rule dashboard.name
    dashboard.name = f"projects/{project.number}/dashboards/{short}"
    dashboard.etag = world.new_number(12)
    project.dashboards[short] = dashboard
    return dashboard


def get_dashboard(world: World, request: Any, _call: Call) -> Any:
    """Return a dashboard."""
    project = world.owner(request.name)
    return _found(project.dashboards, request.name, project)


def list_dashboards(world: World, request: Any, _call: Call) -> Any:
    """Return all dashboards."""
    page, token = listing.page(list(world.owner(request.parent).dashboards.values()), request)
    return protos.message("ListDashboardsResponse", DASHBOARDS)(dashboards=page, next_page_token=token)


def update_dashboard(world: World, request: Any, _call: Call) -> Any:
    """Replace a dashboard that is as the caller has seen it."""
    asked = request.dashboard
    project = world.owner(asked.name)
    now = _found(project.dashboards, asked.name, project)
    if asked.etag and asked.etag != now.etag:
        raise Refusal("dashboard.etag", "ABORTED", f"The etag of dashboard {now.name} does not match.")
    kept = type(asked)()
    kept.CopyFrom(asked)
    return _kept(world, project, asked.name.rpartition("/")[2], kept)


def delete_dashboard(world: World, request: Any, _call: Call) -> Any:
    """Delete a dashboard."""
    project = world.owner(request.name)
    _found(project.dashboards, request.name, project)
    del project.dashboards[request.name.rpartition("/")[2]]
    return empty_pb2.Empty()


OPERATIONS = {
    ("AlertPolicyService", "CreateAlertPolicy"): create_alert_policy,
    ("AlertPolicyService", "GetAlertPolicy"): get_alert_policy,
    ("AlertPolicyService", "ListAlertPolicies"): list_alert_policies,
    ("AlertPolicyService", "UpdateAlertPolicy"): update_alert_policy,
    ("AlertPolicyService", "DeleteAlertPolicy"): delete_alert_policy,
    ("NotificationChannelService", "CreateNotificationChannel"): create_notification_channel,
    ("NotificationChannelService", "GetNotificationChannel"): get_notification_channel,
    ("NotificationChannelService", "ListNotificationChannels"): list_notification_channels,
    ("NotificationChannelService", "UpdateNotificationChannel"): update_notification_channel,
    ("NotificationChannelService", "DeleteNotificationChannel"): delete_notification_channel,
    ("DashboardsService", "CreateDashboard"): create_dashboard,
    ("DashboardsService", "GetDashboard"): get_dashboard,
    ("DashboardsService", "ListDashboards"): list_dashboards,
    ("DashboardsService", "UpdateDashboard"): update_dashboard,
    ("DashboardsService", "DeleteDashboard"): delete_dashboard,
}
