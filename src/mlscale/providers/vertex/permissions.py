"""What a caller must be allowed to do for one deployment on Google Cloud: a custom role, from one table; pure.

Source: "Vertex AI access control with IAM", and the permissions references of Cloud Storage, Cloud Monitoring, Cloud
Logging and IAM.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from mlscale.deployment import AuxiliaryKind, Deployment

When: TypeAlias = Callable[[Deployment], bool]


def _always(asked: Deployment) -> bool:
    del asked
    return True


def _has(kind: AuxiliaryKind) -> When:
    return lambda asked: any(each.kind is kind for each in asked.auxiliaries)


def _has_files(asked: Deployment) -> bool:
    return asked.stable is not None and bool(asked.stable.revision.content.artifact)


TABLE: Sequence[tuple[When, Sequence[str]]] = (
    (
        _always,
        (
            "aiplatform.endpoints.create",
            "aiplatform.endpoints.delete",
            "aiplatform.endpoints.deploy",
            "aiplatform.endpoints.get",
            "aiplatform.endpoints.list",
            "aiplatform.endpoints.predict",
            "aiplatform.endpoints.undeploy",
            "aiplatform.endpoints.update",
            "aiplatform.locations.get",
            "aiplatform.models.delete",
            "aiplatform.models.get",
            "aiplatform.models.list",
            "aiplatform.models.update",
            "aiplatform.models.upload",
            "aiplatform.operations.list",
            "logging.logEntries.list",
        ),
    ),
    (
        _has(AuxiliaryKind.ALARM),
        (
            "monitoring.alertPolicies.create",
            "monitoring.alertPolicies.delete",
            "monitoring.alertPolicies.get",
            "monitoring.alertPolicies.list",
            "monitoring.alertPolicies.update",
            "monitoring.notificationChannels.get",
        ),
    ),
    (
        _has(AuxiliaryKind.DASHBOARD),
        (
            "monitoring.dashboards.create",
            "monitoring.dashboards.delete",
            "monitoring.dashboards.get",
            "monitoring.dashboards.list",
            "monitoring.dashboards.update",
        ),
    ),
)
OBJECTS = ("storage.objects.create", "storage.objects.delete", "storage.objects.get", "storage.objects.list")


def policy(asked: Deployment, uploads: str, workspace: str) -> Mapping[str, Any]:
    """Return a role for the project, as `gcloud iam roles create --file` reads it, and what else must be granted where.

    Args:
        asked: the deployment.
        uploads: the place of its files.
        workspace: where lease and journal are.
    """
    name = asked.identity.name
    role = {
        "title": f"mlscale {name}",
        "description": f"Deploy, change and take down {name} with mlscale",
        "stage": "GA",
        "includedPermissions": sorted(each for when, listed in TABLE if when(asked) for each in listed),
    }
    places = [*([uploads] if _has_files(asked) else []), workspace]
    buckets = sorted({place.removeprefix("gs://").partition("/")[0] for place in places if place.startswith("gs://")})
    account = asked.settings.get("service_account")
    return {
        "role": role,
        "buckets": {f"gs://{each}": list(OBJECTS) for each in buckets},
        "service_accounts": {account: ["iam.serviceAccounts.actAs"]} if account else {},
    }
