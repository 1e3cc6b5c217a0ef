"""What a caller must be allowed to do for one deployment: an IAM policy, from one table of operations; pure.

Sources: Service Authorization Reference of each service; "Auto scaling prerequisites" and "API permissions reference"
of the SageMaker developer guide; "Identity-based policy examples" of the Application Auto Scaling user guide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from mlscale.deployment import AuxiliaryKind, Content, Deployment, Kind

ECR = re.compile(
    r"(?P<account>\d{12})\.dkr[.-]ecr(-fips)?\.(?P<region>[a-z0-9-]+)\.(amazonaws\.com(\.cn)?|on\.aws)"
    r"/(?P<repository>[^:@]+)(:(?P<tag>[^@]+))?(@(?P<digest>.+))?"
)
"""An image in Amazon ECR."""

SERVICE = "sagemaker.amazonaws.com"
AUTO_SCALING = "sagemaker.application-autoscaling.amazonaws.com"
_LINKED_ROLE = f"aws-service-role/{AUTO_SCALING}/AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
CHECK = ".check"
"""What a workspace is tried with (state.store)."""

_REVISION, _DIGEST = "?" * 10, "?" * 8
"""As many characters as a revision's id and a model's digest have: `reviews` is not given what `reviews-prod` has."""

When: TypeAlias = Callable[[Deployment], bool]


class Sid(StrEnum):
    """The statements of the policy, by what they are about."""

    LOOK = "Look"
    ENDPOINT = "Endpoint"
    ROLE = "Role"
    PASS_ROLE = "PassRole"  # noqa: S105 - no password
    IMAGE = "Image"
    KEY = "Key"
    SCALING = "Scaling"
    SCALING_ROLE = "ScalingRole"
    SCALING_ALARMS = "ScalingAlarms"
    ALARMS = "Alarms"
    DASHBOARD = "Dashboard"
    TOPICS = "Topics"
    LOGS = "Logs"
    UPLOADS = "Uploads"
    WORKSPACE = "Workspace"
    ANSWERS = "Answers"
    BUCKETS = "Bucket"


@dataclass(frozen=True, slots=True)
class Permission:
    """One action in one statement: the operations of boto3's services that need it, and for which deployments.

    An operation of another service's, which AWS makes in the caller's name, is not among `operations`: those that make
    AWS do it are.
    """

    sid: Sid
    action: str
    operations: tuple[str, ...]
    when: When


def _always(asked: Deployment) -> bool:
    del asked
    return True


def _can_be_tried(asked: Deployment) -> bool:
    """Return whether a candidate can be beside the stable revision, so that the two are compared."""
    return asked.kind is Kind.REALTIME


def _has_machines(asked: Deployment) -> bool:
    return asked.kind is not Kind.SERVERLESS


def _is_async(asked: Deployment) -> bool:
    return asked.kind is Kind.ASYNC


def _is_answered_at_once(asked: Deployment) -> bool:
    return asked.kind is not Kind.ASYNC


def _has_files(asked: Deployment) -> bool:
    return bool(_content(asked).artifact) or _is_async(asked)


def _has_own_image(asked: Deployment) -> bool:
    return _own_repository(asked) is not None


def _has_key(asked: Deployment) -> bool:
    return "kms_key" in asked.settings


def _scales(asked: Deployment) -> bool:
    scaling = asked.scaling
    return scaling.min != scaling.max or _has_policies(asked) or _has_schedule(asked)


def _has_policies(asked: Deployment) -> bool:
    return bool(asked.scaling.target or asked.scaling.steps) or _wakes(asked)


def _wakes(asked: Deployment) -> bool:
    """Return whether there are no machines while nobody asks, so that the first request must start one."""
    least = [asked.scaling.min, *(each.min for each in asked.scaling.schedule)]
    return _is_async(asked) and 0 in least and asked.scaling.max > 0


def _tracks(asked: Deployment) -> bool:
    return bool(asked.scaling.target)


def _has_schedule(asked: Deployment) -> bool:
    return bool(asked.scaling.schedule)


def _has_alarms(asked: Deployment) -> bool:
    watched = any(each.kind is AuxiliaryKind.ALARM for each in asked.auxiliaries)
    return watched or bool(asked.scaling.steps) or _wakes(asked)


def _has_dashboard(asked: Deployment) -> bool:
    return any(each.kind is AuxiliaryKind.DASHBOARD for each in asked.auxiliaries)


def _has_topics(asked: Deployment) -> bool:
    return bool(topics(asked))


_PREFIXES = {"sagemaker-runtime": "sagemaker", "service-quotas": "servicequotas", "resourcegroupstaggingapi": "tag"}
"""Services whose actions have another prefix than boto3's name."""


def _alike(sid: Sid, when: When, service: str, *names: str) -> Iterator[Permission]:
    """Yield a row for each operation that one action of the same name allows."""
    for name in names:
        yield Permission(sid, f"{_PREFIXES.get(service, service)}:{name}", (f"{service}:{name}",), when)


TABLE: tuple[Permission, ...] = (
    *_alike(Sid.LOOK, _always, "sts", "GetCallerIdentity"),
    *_alike(Sid.LOOK, _always, "sagemaker", "ListEndpoints", "ListEndpointConfigs", "ListModels"),
    *_alike(Sid.LOOK, _always, "resourcegroupstaggingapi", "GetResources"),
    *_alike(Sid.LOOK, _always, "cloudwatch", "DescribeAlarms", "ListDashboards"),
    *_alike(  # also of what has no machines: a name may have had some before
        Sid.LOOK,
        _always,
        "application-autoscaling",
        "DescribeScalableTargets",
        "DescribeScalingPolicies",
        "DescribeScheduledActions",
    ),
    *_alike(Sid.LOOK, _can_be_tried, "cloudwatch", "GetMetricData"),
    *_alike(Sid.LOOK, _has_machines, "service-quotas", "ListServiceQuotas"),
    *_alike(Sid.ENDPOINT, _always, "sagemaker", "CreateModel", "DescribeModel", "DeleteModel"),
    *_alike(
        Sid.ENDPOINT, _always, "sagemaker", "CreateEndpointConfig", "DescribeEndpointConfig", "DeleteEndpointConfig"
    ),
    *_alike(
        Sid.ENDPOINT, _always, "sagemaker", "CreateEndpoint", "DescribeEndpoint", "UpdateEndpoint", "DeleteEndpoint"
    ),
    *_alike(Sid.ENDPOINT, _has_machines, "sagemaker", "UpdateEndpointWeightsAndCapacities"),
    *_alike(Sid.ENDPOINT, _always, "sagemaker", "ListTags", "DeleteTags"),
    Permission(
        Sid.ENDPOINT,
        "sagemaker:AddTags",
        ("sagemaker:AddTags", "sagemaker:CreateModel", "sagemaker:CreateEndpointConfig", "sagemaker:CreateEndpoint"),
        _always,
    ),
    *_alike(Sid.ENDPOINT, _is_answered_at_once, "sagemaker-runtime", "InvokeEndpoint"),
    *_alike(Sid.ENDPOINT, _is_async, "sagemaker-runtime", "InvokeEndpointAsync"),
    *_alike(Sid.ROLE, _always, "iam", "GetRole"),
    Permission(Sid.PASS_ROLE, "iam:PassRole", ("sagemaker:CreateModel",), _always),
    *_alike(Sid.IMAGE, _has_own_image, "ecr", "DescribeImages"),
    Permission(Sid.KEY, "kms:CreateGrant", ("sagemaker:CreateEndpoint", "sagemaker:UpdateEndpoint"), _has_key),
    *_alike(Sid.SCALING, _scales, "application-autoscaling", "RegisterScalableTarget"),
    Permission(
        Sid.SCALING,
        "application-autoscaling:DeregisterScalableTarget",
        # SageMaker does it in the caller's name when it deletes an endpoint that has one.
        ("application-autoscaling:DeregisterScalableTarget", "sagemaker:DeleteEndpoint"),
        _scales,
    ),
    *_alike(Sid.SCALING, _has_policies, "application-autoscaling", "PutScalingPolicy", "DeleteScalingPolicy"),
    *_alike(Sid.SCALING, _has_schedule, "application-autoscaling", "PutScheduledAction", "DeleteScheduledAction"),
    Permission(
        Sid.SCALING_ROLE, "iam:CreateServiceLinkedRole", ("application-autoscaling:RegisterScalableTarget",), _scales
    ),
    # Application Auto Scaling keeps the alarms of a target in the caller's name.
    Permission(Sid.SCALING_ALARMS, "cloudwatch:PutMetricAlarm", ("application-autoscaling:PutScalingPolicy",), _tracks),
    Permission(
        Sid.SCALING_ALARMS,
        "cloudwatch:DeleteAlarms",
        ("application-autoscaling:DeleteScalingPolicy", "application-autoscaling:DeregisterScalableTarget"),
        _tracks,
    ),
    *_alike(Sid.ALARMS, _has_alarms, "cloudwatch", "PutMetricAlarm", "DeleteAlarms"),
    Permission(Sid.ALARMS, "cloudwatch:TagResource", ("cloudwatch:PutMetricAlarm",), _has_alarms),
    *_alike(Sid.DASHBOARD, _always, "cloudwatch", "GetDashboard"),
    *_alike(Sid.DASHBOARD, _has_dashboard, "cloudwatch", "PutDashboard", "DeleteDashboards"),
    *_alike(Sid.TOPICS, _has_topics, "sns", "GetTopicAttributes"),
    *_alike(Sid.LOGS, _always, "logs", "DescribeLogStreams", "GetLogEvents", "FilterLogEvents"),
    Permission(
        Sid.UPLOADS,
        "s3:PutObject",
        ("s3:PutObject", "s3:CreateMultipartUpload", "s3:UploadPart", "s3:CompleteMultipartUpload"),
        _has_files,
    ),
    Permission(Sid.UPLOADS, "s3:GetObject", ("s3:HeadObject",), _has_files),
    *_alike(Sid.UPLOADS, _has_files, "s3", "DeleteObject", "AbortMultipartUpload"),
    Permission(Sid.WORKSPACE, "s3:GetObject", ("s3:GetObject", "s3:HeadObject"), _always),
    *_alike(Sid.WORKSPACE, _always, "s3", "PutObject"),
    Permission(Sid.WORKSPACE, "s3:DeleteObject", ("s3:DeleteObject", "s3:DeleteObjects"), _always),
    Permission(Sid.ANSWERS, "s3:GetObject", ("s3:GetObject", "s3:HeadObject"), _is_async),
    # Without the right to list, S3 says of an object that is not there that it is forbidden.
    Permission(
        Sid.BUCKETS,
        "s3:ListBucket",
        ("s3:ListObjectsV2", "s3:HeadBucket", "s3:HeadObject", "s3:GetObject"),
        _always,
    ),
    Permission(Sid.BUCKETS, "s3:ListBucketMultipartUploads", ("s3:ListMultipartUploads",), _has_files),
)
"""Who may do what: an action stands in a statement once, with every operation of ours that needs it there."""


def needed(asked: Deployment, operations: Iterable[str]) -> frozenset[str]:
    """Return the actions that `asked` needs for operations like `sagemaker:CreateModel`, as boto3 names the service.

    Raises:
        LookupError: none of ours is called that; a bug, so no MlscaleError.
    """
    called = frozenset(operations)
    if unknown := called - {each for row in TABLE for each in row.operations}:
        raise LookupError(f"no action is known for {', '.join(sorted(unknown))}")
    return frozenset(row.action for row in TABLE if row.when(asked) and called.intersection(row.operations))


def policy(asked: Deployment, uploads: str, workspace: str = "") -> dict[str, Any]:
    """Return the least policy with which `asked` can be deployed, changed, looked at and taken down.

    Args:
        asked: what the spec asks for; of its files only whether there are any matters.
        uploads: where model archives go, like `s3://bucket/folder`.
        workspace: where leases and journals are; another than S3 needs nothing here.
    """
    names = _Names(asked, uploads.rstrip("/"), workspace.rstrip("/"))
    statements: list[dict[str, Any]] = []
    for sid in Sid:
        actions = [each.action for each in TABLE if each.sid is sid and each.when(asked)]
        if sid is Sid.BUCKETS:
            statements += names.lists(actions)
        elif actions and (resources := names.resources(sid)):
            statements.append(_statement(sid.value, actions, resources, names.condition(sid)))
    return {"Version": "2012-10-17", "Statement": statements}


def _statement(
    sid: str, actions: Sequence[str], resources: Sequence[str], condition: Mapping[str, Any]
) -> dict[str, Any]:
    allowed = {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": list(resources)}
    return {**allowed, "Condition": condition} if condition else allowed


def topics(asked: Deployment) -> Sequence[str]:
    """Return the SNS topics that are told of something, each once, in order."""
    words = [each.content.get("notify", "") for each in asked.auxiliaries]
    words += [asked.settings.get(f"async_inference.notify_{what}", "") for what in ("success", "error")]
    return sorted({topic for word in words for topic in word.split()})


def _content(asked: Deployment) -> Content:
    if asked.stable is None:
        raise AssertionError("a spec asks for one revision")
    return asked.stable.revision.content


def _own_repository(asked: Deployment) -> re.Match[str] | None:
    """Return the image's place in ECR, None if it is another account's, which only that account can describe."""
    found = ECR.fullmatch(_content(asked).image or "")
    return found if found and found["account"] == asked.identity.account else None


@dataclass(frozen=True, slots=True)
class _Names:
    """What the cloud calls the things of one deployment."""

    asked: Deployment
    uploads: str
    workspace: str

    def resources(self, sid: Sid) -> Sequence[str]:
        """Return what a statement is about; nothing where the deployment has no such thing."""
        name, settings = self.asked.identity.name, self.asked.settings
        match sid:
            case Sid.LOOK:
                return ("*",)
            case Sid.ENDPOINT:
                own = (f"endpoint/{name}", f"endpoint-config/{name}-{_REVISION}", f"model/{name}-{_REVISION}-{_DIGEST}")
                return tuple(self._arn("sagemaker", each) for each in own)
            case Sid.ROLE | Sid.PASS_ROLE:
                return (settings["role"],)
            case Sid.IMAGE:
                found = _own_repository(self.asked)
                where = f"{found['region']}:{found['account']}" if found else ""
                return (f"arn:{self._partition}:ecr:{where}:repository/{found['repository']}",) if found else ()
            case Sid.KEY:
                return self._keys()
            case Sid.SCALING:
                return (self._arn("application-autoscaling", "scalable-target/*"),)
            case Sid.SCALING_ROLE:
                return (f"arn:{self._partition}:iam::{self.asked.identity.account}:role/{_LINKED_ROLE}",)
            case Sid.SCALING_ALARMS:
                return (self._arn("cloudwatch", f"alarm:TargetTracking-endpoint/{name}/variant/*"),)
            case Sid.ALARMS:
                return (self._arn("cloudwatch", f"alarm:mlscale/{name}/*"),)
            case Sid.DASHBOARD:
                return (f"arn:{self._partition}:cloudwatch::{self.asked.identity.account}:dashboard/mlscale-{name}",)
            case Sid.TOPICS:
                return topics(self.asked)
            case Sid.LOGS:
                return (self._arn("logs", f"log-group:/aws/sagemaker/Endpoints/{name}:*"),)
            case Sid.UPLOADS:
                return self._objects(self._uploads)
            case Sid.WORKSPACE:
                leases = (f"{self.workspace}/leases/{each}" for each in (f"{name}.json", CHECK))
                return (*self._objects(*leases), *self._objects(*self._records))
            case Sid.ANSWERS:
                return self._objects(*self._answers)
            case Sid.BUCKETS:
                return ()

    def condition(self, sid: Sid) -> Mapping[str, Any]:
        """Return what must hold besides, empty if nothing must."""
        match sid:
            case Sid.PASS_ROLE:
                return {"StringEquals": {"iam:PassedToService": SERVICE}}
            case Sid.SCALING:
                # A scalable target's ARN has an id that nobody knows before it is there.
                return {"StringEquals": {"application-autoscaling:service-namespace": "sagemaker"}}
            case Sid.SCALING_ROLE:
                return {"StringEquals": {"iam:AWSServiceName": AUTO_SCALING}}
            case Sid.KEY:
                alias = self.asked.settings.get("kms_key", "").rpartition(":")[2]
                named = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": alias}} if "alias/" in alias else {}
                return {"Bool": {"kms:GrantIsForAWSResource": "true"}, **named}
            case _:
                return {}

    def lists(self, actions: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield a statement a bucket, since what may be listed differs: what is below the places that are used."""
        found: dict[str, list[str]] = {}
        for place in (*self._records, self._uploads if _has_files(self.asked) else "", *self._answers):
            if place.startswith("s3://"):
                bucket, _, prefix = place.removeprefix("s3://").partition("/")
                found.setdefault(bucket, []).append(prefix or "*")
        for number, (bucket, prefixes) in enumerate(found.items(), start=1):
            # IfExists: a request for one object has no prefix, and is answered by whether the bucket may be listed.
            below = {"StringLikeIfExists": {"s3:prefix": prefixes}}
            yield _statement(f"{Sid.BUCKETS.value}{number}", actions, [f"arn:{self._partition}:s3:::{bucket}"], below)

    @property
    def _uploads(self) -> str:
        return f"{self.uploads}/{self.asked.identity.name}/*" if self.uploads else ""

    @property
    def _records(self) -> Sequence[str]:
        return tuple(
            f"{self.workspace}/{each}/{self.asked.identity.name}/*" for each in ("journal", "revisions", "rollouts")
        )

    @property
    def _answers(self) -> Sequence[str]:
        words = (self.asked.settings.get(f"async_inference.{what}") for what in ("output", "failures"))
        return tuple(f"{each}/*" for each in words if each)

    def _objects(self, *places: str) -> Sequence[str]:
        return tuple(
            f"arn:{self._partition}:s3:::{place.removeprefix('s3://')}" for place in places if place.startswith("s3://")
        )

    def _keys(self) -> Sequence[str]:
        """Return the key's ARN; any key's where its alias is given, which the condition then asks for."""
        key = self.asked.settings.get("kms_key", "")
        if not key:
            return ()
        if "alias/" in key:
            return (self._arn("kms", "key/*"),)
        return (key if key.startswith("arn:") else self._arn("kms", f"key/{key}"),)

    def _arn(self, service: str, what: str) -> str:
        identity = self.asked.identity
        return f"arn:{self._partition}:{service}:{identity.region}:{identity.account}:{what}"

    @property
    def _partition(self) -> str:
        return self.asked.settings["role"].split(":")[1]
