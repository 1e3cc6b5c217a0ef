"""Whether the policy that mlscale prints allows what mlscale calls, and nothing that it never calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from mlscale.engine.plans import asked_for
from mlscale.engine.session import open_session
from mlscale.providers.sagemaker.permissions import policy
from tests.doubles.aws import Double, serving
from tests.doubles.aws.serving import ACCOUNT, REGION
from tests.e2e.on_sagemaker import BUCKET, UPLOADS, OnSageMaker, arranged

PREFIXES = {"sagemaker-runtime": "sagemaker", "service-quotas": "servicequotas", "resourcegroupstaggingapi": "tag"}
S3_ACTIONS = {
    "HeadObject": "GetObject",
    "HeadBucket": "ListBucket",
    "ListObjectsV2": "ListBucket",
}
"""Operations of S3 that an action of another name allows (Service Authorization Reference, Amazon S3)."""

UNSEEN = {
    "application-autoscaling:DeleteScalingPolicy": "a spec gives up one policy of several",
    "application-autoscaling:DeleteScheduledAction": "a spec gives up its schedule",
    "cloudwatch:GetMetricData": "a candidate is compared with the stable revision",
    "cloudwatch:ListDashboards": "many deployments are planned at once",
    "cloudwatch:TagResource": "CloudWatch asks for it when PutMetricAlarm has tags",
    "iam:CreateServiceLinkedRole": "IAM asks for it at the first RegisterScalableTarget of an account",
    "iam:PassRole": "IAM asks for it when CreateModel names a role",
    "kms:CreateGrant": "KMS asks for it when CreateEndpoint names a key",
    "logs:FilterLogEvents": "logs are followed",
    "s3:AbortMultipartUpload": "an archive went up in parts, and not to its end",
    "s3:ListBucketMultipartUploads": "an archive goes up in parts",
    "sagemaker:DeleteTags": "a spec gives up a label",
    "sagemaker:UpdateEndpointWeightsAndCapacities": "a spec moves a count that is fixed, or a rollout its shares",
}
"""What this life of a deployment has no use for, and when it is needed."""


@pytest.fixture(scope="module")
def running() -> Iterator[Double]:
    """One server for the module."""
    with serving() as double:
        yield double


@pytest.fixture
def aws(
    running: Double, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> OnSageMaker:
    """An account, and a folder with the full spec."""
    return arranged(running, tmp_path, capsys, monkeypatch)


@pytest.mark.parametrize("env", ["blue", "serverless", "async"])
def test_the_policy_allows_all_that_is_called_and_nothing_else(aws: OnSageMaker, env: str) -> None:
    """Each call of a deployment's life is allowed for what it is about; each action is called, or stands in a list."""
    session = open_session(aws.world, Path("spec.yaml"), env=env)
    made = policy(asked_for(session, None), f"s3://{BUCKET}/{UPLOADS}".rstrip("/"), session.workspace)
    (aws.folder / "request.json").write_text("{}")
    calls: list[Mapping[str, Any]] = []

    def run(*words: str) -> None:
        aws.good(*words, "--env", env)
        calls.extend(aws.double.get("journal"))

    for words in (
        ["doctor"],
        ["deploy"],
        ["plan"],
        ["status"],
        ["list"],
        ["invoke", "--file", "request.json"],
        ["logs"],
    ):
        run(*words)
    aws.new_handler(2)
    for words in (["deploy"], ["rollback"], ["gc"], ["destroy", "--yes"]):
        run(*words)

    needs = {need for each in calls for need in _needs(each)}
    allowed = {action for each in made["Statement"] for action in each["Action"]}
    assert {need for need in needs if not _is_allowed(made["Statement"], *need)} == set()
    assert allowed - {action for action, _ in needs} <= set(UNSEEN)


def _needs(call: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the action that a call needs, with each resource that it is about; `*` where the action knows none."""
    if call["operation"] == "DeleteObjects":  # what it is about is in its body, which the journal leaves out
        return
    service, operation, asked = call["service"], call["operation"], call["params"]
    action = (
        f"{PREFIXES.get(service, service)}:{S3_ACTIONS.get(operation, operation) if service == 's3' else operation}"
    )
    about = list(_resources(service, operation, asked))
    yield from ((action, each) for each in about or ["*"])


def _resources(service: str, operation: str, asked: Mapping[str, Any]) -> Iterator[str]:
    here = f"{REGION}:{ACCOUNT}"
    match service:
        case "s3":
            yield f"arn:aws:s3:::{asked['Bucket']}" + (f"/{asked['Key']}" if asked.get("Key") else "")
        case "sagemaker" | "sagemaker-runtime" if not operation.startswith("List") or operation == "ListTags":
            named = {"EndpointName": "endpoint", "EndpointConfigName": "endpoint-config", "ModelName": "model"}
            yield from (f"arn:aws:sagemaker:{here}:{kind}/{asked[key]}" for key, kind in named.items() if key in asked)
            yield from (asked[key] for key in ("ResourceArn",) if key in asked)
        case "cloudwatch":
            for name in (*asked.get("AlarmNames", ()), *(asked[key] for key in ("AlarmName",) if key in asked)):
                yield f"arn:aws:cloudwatch:{here}:alarm:{name}"
            for name in (*asked.get("DashboardNames", ()), *(asked[key] for key in ("DashboardName",) if key in asked)):
                yield f"arn:aws:cloudwatch::{ACCOUNT}:dashboard/{name}"
        case "application-autoscaling" if not operation.startswith("Describe"):
            yield f"arn:aws:application-autoscaling:{here}:scalable-target/0a1b"
        case "logs":
            yield f"arn:aws:logs:{here}:log-group:{asked['logGroupName']}:log-stream:{asked.get('logStreamName', '')}"
        case "iam":
            yield f"arn:aws:iam::{ACCOUNT}:role/{asked['RoleName']}"
        case "sns":
            yield asked["TopicArn"]
        case _:
            return


def _is_allowed(statements: Sequence[Mapping[str, Any]], action: str, resource: str) -> bool:
    return any(
        action in each["Action"] and any(fnmatchcase(resource, pattern) for pattern in each["Resource"])
        for each in statements
    )
