"""What a caller must be allowed to do for one deployment on Google Cloud: roles, and where each is granted; pure.

Everything comes from one table of operations. Sources: "IAM permissions" of Vertex AI, "IAM permissions for XML
requests" of Cloud Storage, "Access control with IAM" of Cloud Monitoring and of Cloud Logging, "Use a custom service
account" of Vertex AI.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from mlscale.deployment import AuxiliaryKind, Deployment

When: TypeAlias = Callable[[Deployment], bool]


class Grant(StrEnum):
    """What a role is granted on: the end of its id."""

    PROJECT = ""
    FILES = "files"
    NAMES = "names"
    SERVICE_ACCOUNT = "runs_as"


TITLES: Mapping[Grant, str] = {
    Grant.PROJECT: "deploy, change and take down",
    Grant.FILES: "model files and records",
    Grant.NAMES: "names of model files and records",
    Grant.SERVICE_ACCOUNT: "run the model as its service account",
}


@dataclass(frozen=True, slots=True)
class Permission:
    """One permission in one role: the operations that need it, as Google names service and method, and when."""

    grant: Grant
    name: str
    operations: tuple[str, ...]
    when: When


def _always(asked: Deployment) -> bool:
    del asked
    return True


def _has_files(asked: Deployment) -> bool:
    return asked.stable is not None and bool(asked.stable.revision.content.artifact)


def _has_account(asked: Deployment) -> bool:
    return "service_account" in asked.settings


def _is_watched(asked: Deployment) -> bool:
    return bool(asked.auxiliaries)


def _has_alarms(asked: Deployment) -> bool:
    return any(each.kind is AuxiliaryKind.ALARM for each in asked.auxiliaries)


def _has_dashboard(asked: Deployment) -> bool:
    return any(each.kind is AuxiliaryKind.DASHBOARD for each in asked.auxiliaries)


def _has_channels(asked: Deployment) -> bool:
    return bool(channels(asked))


def _alike(when: When, resource: str, service: str, **operations: str) -> Iterator[Permission]:
    """Yield a row in the project's role for each verb of a resource, with the operations that need it."""
    for verb, names in operations.items():
        called = tuple(f"{service}.{name}" for name in names.split())
        yield Permission(Grant.PROJECT, f"{resource}.{verb}", called, when)


def _objects(grant: Grant, when: When, **operations: str) -> Iterator[Permission]:
    for verb, names in operations.items():
        yield Permission(grant, f"storage.{verb.replace('_', '.')}", tuple(names.split()), when)


TABLE: tuple[Permission, ...] = (
    *_alike(
        _always,
        "aiplatform.endpoints",
        "EndpointService",
        create="CreateEndpoint",
        get="GetEndpoint",
        list="ListEndpoints",
        update="UpdateEndpoint",
        delete="DeleteEndpoint",
        deploy="DeployModel MutateDeployedModel",
        undeploy="UndeployModel",
    ),
    *_alike(_always, "aiplatform.endpoints", "PredictionService", predict="RawPredict"),
    *_alike(
        _always,
        "aiplatform.models",
        "ModelService",
        upload="UploadModel",
        get="GetModel",
        list="ListModels",
        update="UpdateModel",
        delete="DeleteModel",
    ),
    *_alike(_always, "aiplatform.operations", "Operations", list="ListOperations"),
    *_alike(_always, "logging.logEntries", "LoggingServiceV2", list="ListLogEntries"),
    *_alike(_always, "monitoring.timeSeries", "MetricService", list="ListTimeSeries"),
    *_alike(_is_watched, "monitoring.alertPolicies", "AlertPolicyService", list="ListAlertPolicies"),
    *_alike(
        _has_alarms,
        "monitoring.alertPolicies",
        "AlertPolicyService",
        create="CreateAlertPolicy",
        update="UpdateAlertPolicy",
        delete="DeleteAlertPolicy",
    ),
    *_alike(
        _has_channels,
        "monitoring.notificationChannels",
        "NotificationChannelService",
        get="GetNotificationChannel",
    ),
    *_alike(_is_watched, "monitoring.dashboards", "DashboardsService", list="ListDashboards"),
    *_alike(
        _has_dashboard,
        "monitoring.dashboards",
        "DashboardsService",
        create="CreateDashboard",
        update="UpdateDashboard",
        delete="DeleteDashboard",
    ),
    *_objects(
        Grant.FILES,
        _always,
        objects_create="storage.PutObject storage.CompleteUpload",
        objects_get="storage.HeadObject storage.GetObject",
        # Writing over an object takes it, too.
        objects_delete="storage.DeleteObject storage.PutObject storage.CompleteUpload",
    ),
    *_objects(
        Grant.FILES,
        _has_files,
        multipartUploads_create="storage.StartUpload storage.PutPart",
        multipartUploads_abort="storage.AbortUpload",
    ),
    # Without it Cloud Storage says of an object that is not there that it is forbidden, so no condition narrows it.
    *_objects(Grant.NAMES, _always, objects_list="storage.ListObjects storage.HeadObject storage.GetObject"),
    Permission(Grant.SERVICE_ACCOUNT, "iam.serviceAccounts.actAs", ("EndpointService.DeployModel",), _has_account),
)
"""Who may do what: a permission stands in a role once, with every operation of ours that needs it there.

Operations are not asked for by a permission of their own: to read one takes the `get` of what it is about.
"""

FREE = frozenset({"Operations.GetOperation", "Projects.TestIamPermissions"})
"""Operations that take no permission, or none beside those of what they are about."""


def needed(asked: Deployment, operations: Iterable[str]) -> frozenset[str]:
    """Return the permissions that `asked` needs for operations like `EndpointService.DeployModel`.

    Raises:
        LookupError: none of ours is called that; a bug, so no MlscaleError.
    """
    called = frozenset(operations) - FREE
    if unknown := called - {each for row in TABLE for each in row.operations}:
        raise LookupError(f"no permission is known for {', '.join(sorted(unknown))}")
    return frozenset(row.name for row in TABLE if row.when(asked) and called.intersection(row.operations))


def in_project(asked: Deployment) -> list[str]:
    """Return the permissions that `asked` needs on the whole project."""
    return sorted(row.name for row in TABLE if row.grant is Grant.PROJECT and row.when(asked))


def channels(asked: Deployment) -> list[str]:
    """Return the names of the notification channels that are told of something, each once, in order.

    They are in the deployment's project, whether they were asked for by name or are read back by id alone.
    """
    told = " ".join(each.content.get("notify", "") for each in asked.auxiliaries)
    ids = {each.rpartition("/")[2] for each in told.split()}
    return [f"projects/{asked.identity.account}/notificationChannels/{each}" for each in sorted(ids)]


def policy(asked: Deployment, uploads: str, workspace: str = "") -> dict[str, Any]:
    """Return the least roles with which `asked` can be deployed, changed, looked at and taken down.

    Each of `roles` is a file for `gcloud iam roles create ID --project PROJECT --file FILE`; `bindings` say on which
    resource each is granted, and under which condition. Google grants Vertex AI's permissions on a whole project.

    Args:
        asked: what the spec asks for; of its files only whether there are any matters.
        uploads: where models' files go, like `gs://bucket/folder`.
        workspace: where leases and journals are; another than Cloud Storage needs nothing here.
    """
    bindings = list(_bindings(asked, uploads.rstrip("/"), workspace.rstrip("/")))
    granted = [grant for grant in Grant if any(each["role"] == _id(asked, grant) for each in bindings)]
    return {"roles": {_id(asked, grant): _role(asked, grant) for grant in granted}, "bindings": bindings}


def _role(asked: Deployment, grant: Grant) -> dict[str, Any]:
    names = sorted(row.name for row in TABLE if row.grant is grant and row.when(asked))
    title = f"mlscale {asked.identity.name}: {TITLES[grant]}"
    return {"title": title, "stage": "GA", "includedPermissions": names}


def _id(asked: Deployment, grant: Grant) -> str:
    """Return the id of a role, which has no hyphen."""
    words = ("mlscale", asked.identity.name.replace("-", "_"), grant.value)
    return "_".join(word for word in words if word)


def _bindings(asked: Deployment, uploads: str, workspace: str) -> Iterator[dict[str, Any]]:
    project = f"projects/{asked.identity.account}"
    yield {"role": _id(asked, Grant.PROJECT), "resource": project}
    for bucket, tests in _objects_of(asked, uploads, workspace).items():
        condition = {"title": f"mlscale {asked.identity.name}", "expression": " || ".join(tests)}
        yield {"role": _id(asked, Grant.FILES), "resource": f"gs://{bucket}", "condition": condition}
        yield {"role": _id(asked, Grant.NAMES), "resource": f"gs://{bucket}"}
    if account := asked.settings.get("service_account"):
        resource = f"{project}/serviceAccounts/{account}"
        yield {"role": _id(asked, Grant.SERVICE_ACCOUNT), "resource": resource}


def _objects_of(asked: Deployment, uploads: str, workspace: str) -> Mapping[str, list[str]]:
    """Return for each bucket the conditions by which an object of it is this deployment's."""
    name = asked.identity.name
    places = [
        *([(f"{uploads}/{name}/", "startsWith")] if _has_files(asked) else []),
        *((f"{workspace}/leases/{each}", "==") for each in (f"{name}.json", ".check")),
        *((f"{workspace}/{each}/{name}/", "startsWith") for each in ("journal", "revisions", "rollouts")),
    ]
    found: dict[str, list[str]] = {}
    for place, how in places:
        if place.startswith("gs://"):
            bucket, _, key = place.removeprefix("gs://").partition("/")
            word = json.dumps(f"projects/_/buckets/{bucket}/objects/{key}")
            test = f"resource.name == {word}" if how == "==" else f"resource.name.startsWith({word})"
            found.setdefault(bucket, []).append(test)
    return found
