"""What SageMaker is asked to do over a deployment's life: every call that changes something, with its whole request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from botocore.validate import ParamValidator

from tests.conftest import Golden
from tests.doubles.aws import Double, serving
from tests.doubles.aws.validation import check, service_model
from tests.e2e.on_sagemaker import FIXED, OnSageMaker, arranged

BY_PATH = frozenset({"s3"})
"""Services whose calls the double's journal has by their path, and not as the service model words them."""

READS = frozenset({
    "application-autoscaling.DescribeScalableTargets",
    "application-autoscaling.DescribeScalingPolicies",
    "application-autoscaling.DescribeScheduledActions",
    "cloudwatch.DescribeAlarms",
    "cloudwatch.GetDashboard",
    "iam.GetRole",
    "s3.HeadBucket",
    "s3.HeadObject",
    "s3.ListObjectsV2",
    "sagemaker.DescribeEndpoint",
    "sagemaker.DescribeEndpointConfig",
    "sagemaker.DescribeModel",
    "sagemaker.ListEndpointConfigs",
    "sagemaker.ListModels",
    "sagemaker.ListTags",
    "service-quotas.ListServiceQuotas",
    "sts.GetCallerIdentity",
})  # fmt: skip
"""All that deploying, changing and destroying reads."""

_POLICY_ID = re.compile(r"(?<=:scalingPolicy:)[0-9a-f-]{36}")
_SPEC_HASH = re.compile(r'("mlscale:spec-hash",\s+"Value": ")[0-9a-f]{16}')


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


def test_the_full_spec_lives_as_it_was_read_and_found_good(aws: OnSageMaker, golden: Golden) -> None:
    """Deploy, update, change machines, scale, roll back, destroy: these calls, each as botocore models it."""
    read: set[str] = set()

    def calls(name: str, *words: str) -> None:
        aws.good(*words)
        read.update(_operation(each) for each in aws.journal() if not each["mutating"])
        golden.check(f"sagemaker_calls/{name}.json", _text(aws.changed()))

    calls("deploy", "deploy")
    aws.new_handler(2)
    calls("update", "deploy")
    aws.new_handler(3)
    calls("update_blue_green", "deploy", "--env", "blue")
    calls("update_machines", "deploy", "--env", "bigger")
    scaled = ("--env", "bigger", "--set", "endpoint.autoscaling.schedule=[]", "--set", "endpoint.replicas.max=8")
    calls("scale", "deploy", *scaled, "--set", "endpoint.replicas.min=5")
    calls("rollback", "rollback")
    calls("fix_the_count", "deploy", *FIXED)
    calls("destroy", "destroy", "--yes")

    assert read == READS
    assert _left(aws) == {}
    assert aws.double.get("unimplemented") == []


@pytest.mark.parametrize("kind", ["serverless", "async"])
def test_the_other_kinds_live_as_they_were_read_and_found_good(aws: OnSageMaker, golden: Golden, kind: str) -> None:
    """A serverless and an async endpoint are made, updated and taken down by exactly these calls."""
    aws.good("deploy", "--env", kind)
    golden.check(f"sagemaker_calls/{kind}_deploy.json", _text(aws.changed()))
    aws.new_handler(2)
    aws.good("deploy", "--env", kind)
    golden.check(f"sagemaker_calls/{kind}_update.json", _text(aws.changed()))
    aws.good("destroy", "--env", kind, "--yes")
    golden.check(f"sagemaker_calls/{kind}_destroy.json", _text(aws.changed()))

    assert _left(aws) == {}


def _left(aws: OnSageMaker) -> Mapping[str, Any]:
    """Return what is there, but for the log groups: those are SageMaker's, and the last word on what was there."""
    return {key: value for key, value in aws.resources().items() if value and key != "log_groups"}


def _operation(call: Mapping[str, Any]) -> str:
    return f"{call['service']}.{call['operation']}"


def _text(calls: Sequence[Mapping[str, Any]]) -> str:
    """Return calls as they are kept: checked against botocore's models, those that go side by side in a fixed order.

    What a step's alarm starts has an id of AWS's making, and a spec's hash is another with each new key of the spec.
    The records that a workspace deletes at once are named in a body that the journal leaves out.
    """
    kept = sorted((each for each in calls if _operation(each) != "s3.DeleteObjects"), key=_lane)
    for each in kept:
        _check(each)
    shown = [{"call": _operation(each), "request": _readable(each["params"])} for each in kept]
    text = json.dumps(shown, indent=2)
    return _SPEC_HASH.sub(r"\1<of the spec>", _POLICY_ID.sub("<by AWS>", text)) + "\n"


def _lane(call: Mapping[str, Any]) -> tuple[int, str]:
    """Return what orders calls that steps make side by side; those of one step stay in their order."""
    asked = json.dumps(call["params"], sort_keys=True)
    if call["operation"] in ("DeleteModel", "DeleteEndpointConfig", "DeleteObject"):
        return 2, f"{call['operation']} {asked}"
    is_watching = call["service"] == "cloudwatch" and "/reviews/step-" not in asked and "/wake" not in asked
    return (1, "") if is_watching else (0, "")


def _check(call: Mapping[str, Any]) -> None:
    """Return if the request fits botocore's model: types and names by its own validator, patterns and bounds too."""
    if call["service"] in BY_PATH:
        return
    shape = service_model(call["service"]).operation_model(call["operation"]).input_shape
    report = ParamValidator().validate(call["params"], shape)
    assert not report.has_errors(), report.generate_report()
    check(call["service"], call["operation"], call["params"])


def _readable(request: Mapping[str, Any]) -> Mapping[str, Any]:
    body = request.get("DashboardBody")
    return {**request, "DashboardBody": json.loads(body)} if body else request
