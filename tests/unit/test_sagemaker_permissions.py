"""The IAM policy of a deployment: what it needs, of what is its own, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from mlscale.deployment import Content, Deployment, Role, ServedRevision, revision_of
from mlscale.providers.sagemaker.permissions import TABLE, needed, policy
from mlscale.spec.parse import parse
from mlscale.spec.resolve import Digests, deployment_of
from tests.conftest import GOLDEN, Golden

UPLOADS = "s3://mlscale-workspace/team/uploads"
WORKSPACE = "s3://mlscale-workspace/team"
LARGEST = 6144
"""Characters of a managed policy, spaces not counted (IAM user guide, "IAM and AWS STS quotas")."""

SMALL = """\
version: 1
name: small
provider: sagemaker
region: us-east-1
workspace: s3://mlscale-workspace/team
model: {source: ./model, framework: sklearn}
endpoint: {machine: ml.m5.large}
sagemaker: {role: "arn:aws:iam::123456789012:role/serving"}
"""


def asked(text: str | bytes = SMALL, env: str | None = None) -> Deployment:
    """Return what a spec asks for; it has a model."""
    spec = parse(text if isinstance(text, bytes) else text.encode(), "spec.yaml", variables={}, env=env)
    return deployment_of(spec, Digests("0" * 64, None, None, None), {})


def whole(env: str | None = None) -> Deployment:
    """Return what the spec with every key asks for."""
    return asked((GOLDEN / "sagemaker.yaml").read_bytes(), env)


def with_content(deployment: Deployment, **fields: Any) -> Deployment:
    """Return `deployment` with another content."""
    content = Content(**{"artifact": "", "framework": "custom", "machine": ("ml.m5.large",), **fields})
    return replace(deployment, revisions=(ServedRevision(revision_of(content), Role.STABLE, 10_000),))


def statements(made: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the statements by their Sid."""
    found = {each["Sid"]: each for each in made["Statement"]}
    assert len(found) == len(made["Statement"])
    return found


def actions(made: dict[str, Any]) -> set[str]:
    """Return all actions that are allowed."""
    return {action for each in made["Statement"] for action in each["Action"]}


@pytest.mark.parametrize("env", [None, "async", "serverless"], ids=["realtime", "async", "serverless"])
def test_the_policy_of_a_whole_spec(golden: Golden, env: str | None) -> None:
    """Every statement names this deployment's own resources, and the policy is no larger than IAM takes."""
    made = policy(whole(env), UPLOADS, WORKSPACE)

    golden.check(f"sagemaker/policy_{env or 'realtime'}.json", json.dumps(made, indent=2) + "\n")
    assert len(json.dumps(made, separators=(",", ":"))) < LARGEST


def test_what_a_spec_has_not_is_not_in_its_policy() -> None:
    """One fixed count, no alarm, no key, no topic: nothing of these services may be changed."""
    made = policy(asked(), UPLOADS, WORKSPACE)

    assert set(statements(made)) == {
        "Look", "Endpoint", "Role", "PassRole", "Dashboard", "Logs", "Uploads", "Workspace", "Bucket1",
    }  # fmt: skip
    assert {each for each in actions(made) if each.startswith(("application-autoscaling", "cloudwatch"))} == {
        "application-autoscaling:DescribeScalableTargets",
        "application-autoscaling:DescribeScalingPolicies",
        "application-autoscaling:DescribeScheduledActions",
        "cloudwatch:DescribeAlarms",
        "cloudwatch:ListDashboards",
        "cloudwatch:GetDashboard",
        "cloudwatch:GetMetricData",
    }


def test_another_environments_resources_are_not_allowed() -> None:
    """`reviews-prod` begins like `reviews`, and yet a policy for the one gives nothing of the other."""
    from fnmatch import fnmatchcase

    ours = statements(policy(whole(), UPLOADS))["Endpoint"]["Resource"]
    names = ("endpoint/reviews{}", "endpoint-config/reviews{}-0123456789", "model/reviews{}-0123456789-01234567")
    root = "arn:aws:sagemaker:us-east-1:123456789012:"

    def allowed(env: str) -> list[bool]:
        return [any(fnmatchcase(f"{root}{name.format(env)}", each) for each in ours) for name in names]

    assert (allowed(""), allowed("-prod"), allowed("2")) == ([True] * 3, [False] * 3, [False] * 3)


def test_a_model_inside_its_image_needs_no_bucket() -> None:
    """Without files and with a workspace on this machine nothing in S3 is asked for; the own image may be looked up."""
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ml/iris:1.2"

    made = statements(policy(with_content(asked(), image=image), "", "/here/.mlscale"))

    assert {"Uploads", "Workspace", "Bucket1"} & set(made) == set()
    assert made["Image"]["Resource"] == ["arn:aws:ecr:us-east-1:123456789012:repository/ml/iris"]


def test_an_image_of_another_account_is_not_looked_up() -> None:
    """Only the account that has it may say who looks."""
    image = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2"

    assert "Image" not in statements(policy(with_content(asked(), image=image), UPLOADS))


def test_uploads_elsewhere_are_a_bucket_of_their_own() -> None:
    """Each bucket may be listed below what is used of it, and nowhere else."""
    made = statements(policy(asked(), "s3://models/", WORKSPACE))

    assert made["Uploads"]["Resource"] == ["arn:aws:s3:::models/small/*"]
    assert [(made[each]["Resource"], made[each]["Condition"]) for each in ("Bucket1", "Bucket2")] == [
        (
            ["arn:aws:s3:::mlscale-workspace"],
            {
                "StringLikeIfExists": {
                    "s3:prefix": ["team/journal/small/*", "team/revisions/small/*", "team/rollouts/small/*"]
                }
            },
        ),
        (["arn:aws:s3:::models"], {"StringLikeIfExists": {"s3:prefix": ["small/*"]}}),
    ]


@pytest.mark.parametrize(
    ("key", "resource", "condition"),
    [
        ("alias/models", "arn:aws:kms:us-east-1:123456789012:key/*", ["alias/models"]),
        (
            "arn:aws:kms:us-east-1:123456789012:alias/models",
            "arn:aws:kms:us-east-1:123456789012:key/*",
            ["alias/models"],
        ),
        ("0a1b2c3d", "arn:aws:kms:us-east-1:123456789012:key/0a1b2c3d", []),
    ],
)
def test_a_key_is_named_by_its_arn_or_asked_for_by_its_alias(key: str, resource: str, condition: list[str]) -> None:
    """IAM knows keys by ARN alone; an alias is a condition on whichever key has it."""
    deployment = asked(SMALL.replace('serving"}', f'serving", kms_key: "{key}"}}'))

    found = statements(policy(deployment, UPLOADS))["Key"]

    named = found["Condition"].get("ForAnyValue:StringEquals", {}).get("kms:ResourceAliases")
    assert (found["Resource"], [named] if named else []) == ([resource], condition)


def test_other_partitions_have_their_own_arns() -> None:
    """The role says which partition it is."""
    deployment = asked(SMALL.replace("us-east-1", "cn-north-1").replace("arn:aws:", "arn:aws-cn:"))

    found = [each for row in policy(deployment, UPLOADS, WORKSPACE)["Statement"] for each in row["Resource"]]

    assert [each for each in found if each != "*" and not each.startswith("arn:aws-cn:")] == []


def test_what_operations_need_is_what_the_policy_allows() -> None:
    """Every operation of the table together needs exactly the policy's actions: neither is made by hand."""
    operations = {each for row in TABLE for each in row.operations}

    for deployment in (asked(), whole(), whole("async"), whole("serverless")):
        assert needed(deployment, operations) == actions(policy(deployment, UPLOADS, WORKSPACE))


def test_an_operation_that_nobody_allowed_for_is_found() -> None:
    """A call that the table does not have is no call that needs nothing."""
    assert needed(asked(), ["sagemaker:CreateModel"]) == {"sagemaker:CreateModel", "sagemaker:AddTags", "iam:PassRole"}
    with pytest.raises(LookupError, match="sagemaker:CreateTransformJob"):
        needed(asked(), ["sagemaker:CreateTransformJob"])


def test_no_row_is_there_twice() -> None:
    """An action stands in a statement once."""
    rows = [(row.sid, row.action) for row in TABLE]

    assert sorted(set(rows)) == sorted(rows)
