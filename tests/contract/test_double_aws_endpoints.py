"""The AWS double's endpoints: what is refused, how changes go on in time, and how they end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.doubles.aws import Double, serving
from tests.doubles.aws.arranged import (
    BUCKET,
    DELAY_S,
    IMAGE,
    a_config,
    a_model,
    a_variant,
    an_endpoint,
    serving_reviews,
    target,
)

ARN = "arn:aws:sagemaker:us-east-1:123456789012"


@pytest.fixture(scope="module")
def running() -> Iterator[Double]:
    """One server for the module."""
    with serving() as double:
        yield double


@pytest.fixture
def double(running: Double) -> Double:
    """The server, empty."""
    running.post("reset")
    return running


@pytest.fixture
def sagemaker(double: Double) -> Any:
    """A client that calls once."""
    return double.client("sagemaker")


def refusal(call: Callable[..., Any], **asked: Any) -> tuple[str, str]:
    """Return code and message of the error that a call gets."""
    with pytest.raises(ClientError) as refused:
        call(**asked)
    error = refused.value.response["Error"]
    return error["Code"], error["Message"]


def test_a_name_is_taken_once(double: Double, sagemaker: Any) -> None:
    """A second model, configuration or endpoint of a name, in any case of letters, is refused."""
    serving_reviews(double)
    kept = sagemaker.describe_model(ModelName="reviews-1")

    again = [
        refusal(a_model, double=double, name="Reviews-1"),
        refusal(a_config, double=double, name="reviews-c1"),
        refusal(sagemaker.create_endpoint, EndpointName="Reviews", EndpointConfigName="reviews-c1"),
    ]

    words = "Cannot create already existing"
    assert again == [
        ("ValidationException", f'{words} model "{ARN}:model/reviews-1".'),
        ("ValidationException", f'{words} endpoint configuration "{ARN}:endpoint-config/reviews-c1".'),
        ("ValidationException", f'{words} endpoint "{ARN}:endpoint/reviews".'),
    ]
    assert sagemaker.describe_model(ModelName="reviews-1")["ModelArn"] == kept["ModelArn"]


def test_what_is_not_there_is_said_with_its_arn(sagemaker: Any) -> None:
    """Describing and deleting what is not there names it as AWS does."""
    assert [
        refusal(sagemaker.describe_model, ModelName="x")[1],
        refusal(sagemaker.delete_model, ModelName="x")[1],
        refusal(sagemaker.describe_endpoint_config, EndpointConfigName="x")[1],
        refusal(sagemaker.describe_endpoint, EndpointName="x")[1],
        refusal(sagemaker.update_endpoint, EndpointName="x", EndpointConfigName="y")[1],
        refusal(sagemaker.delete_endpoint, EndpointName="x")[1],
    ] == [
        f'Could not find model "{ARN}:model/x".',
        f'Could not find model "{ARN}:model/x".',
        f'Could not find endpoint configuration "{ARN}:endpoint-config/x".',
        f'Could not find endpoint "{ARN}:endpoint/x".',
        f'Could not find endpoint "{ARN}:endpoint/x".',
        f'Could not find endpoint "{ARN}:endpoint/x".',
    ]


def test_a_request_is_held_against_the_service_model(double: Double, sagemaker: Any) -> None:
    """Patterns, lengths and words are checked by the server, whatever the client lets through."""
    assert refusal(sagemaker.describe_model, ModelName="m_5")[1].startswith(
        "1 validation error detected: Value 'm_5' at 'modelName' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern"
    )
    assert "Member must have length less than or equal to 63" in refusal(a_config, double=double, name="c" * 64)[1]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/none"}}, "Could not find model data at"),
        ({"ExecutionRoleArn": "arn:aws:iam::123456789012:role/nobody"}, "Could not access model data at"),
        ({"PrimaryContainer": {"Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/x:1"}}, "Requested image"),
    ],
    ids=["no data", "no role", "no image"],
)
def test_a_model_needs_what_it_names(double: Double, asked: dict[str, Any], words: str) -> None:
    """Data, role and image of a model must be there."""
    assert refusal(a_model, double=double, **asked)[1].startswith(words)


def test_all_fields_come_back(double: Double, sagemaker: Any) -> None:
    """What was asked of a model and a configuration is described whole."""
    vpc = {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}
    a_model(double, VpcConfig=vpc, EnableNetworkIsolation=True)
    variant = a_variant(
        InstanceType=None,
        InstancePools=[
            {"InstanceType": "ml.c6i.xlarge", "Priority": 1},
            {"InstanceType": "ml.c5.xlarge", "Priority": 2},
        ],
        ContainerStartupHealthCheckTimeoutInSeconds=600,
        RoutingConfig={"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
        InitialVariantWeight=1.0,
    )
    capture = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 10,
        "DestinationS3Uri": f"s3://{BUCKET}/seen",
        "CaptureOptions": [{"CaptureMode": "Input"}],
    }
    output = {"OutputConfig": {"S3OutputPath": f"s3://{BUCKET}/out"}}
    a_config(double, "c", variant, DataCaptureConfig=capture, AsyncInferenceConfig=output, KmsKeyId="alias/x")

    model = sagemaker.describe_model(ModelName="reviews-1")
    config = sagemaker.describe_endpoint_config(EndpointConfigName="c")

    assert (model["VpcConfig"], model["EnableNetworkIsolation"]) == (vpc, True)
    assert config["ProductionVariants"] == [variant]
    assert (config["DataCaptureConfig"], config["AsyncInferenceConfig"]) == (capture, output)
    assert config["KmsKeyId"] == "alias/x"


def test_an_endpoint_is_busy_until_its_time_has_come(double: Double, sagemaker: Any) -> None:
    """Creating, Updating and Deleting last, and nothing else may be asked meanwhile."""
    a_model(double)
    a_config(double)
    double.post("settings", delay_s=DELAY_S)
    seen = []

    def look() -> None:
        seen.append(sagemaker.describe_endpoint(EndpointName="reviews")["EndpointStatus"])
        assert refusal(sagemaker.update_endpoint, EndpointName="reviews", EndpointConfigName="reviews-c1")[1] == (
            f'Cannot update in-progress endpoint "{ARN}:endpoint/reviews".'
        )
        assert refusal(sagemaker.delete_endpoint, EndpointName="reviews")[1].startswith("Cannot update in-progress")

    sagemaker.create_endpoint(EndpointName="reviews", EndpointConfigName="reviews-c1")
    look()
    double.post("advance", seconds=DELAY_S)
    sagemaker.update_endpoint(EndpointName="reviews", EndpointConfigName="reviews-c1")
    look()
    double.post("advance", seconds=DELAY_S)
    sagemaker.delete_endpoint(EndpointName="reviews")
    look()
    double.post("advance", seconds=DELAY_S)

    assert seen == ["Creating", "Updating", "Deleting"]
    assert sagemaker.list_endpoints()["Endpoints"] == []


def test_an_update_shows_what_is_pending_and_keeps_live_counts(double: Double, sagemaker: Any) -> None:
    """With RetainAllVariantProperties live counts and weights stay; without it they are the configuration's."""
    serving_reviews(double)
    a_config(double, "c2", a_variant(InitialInstanceCount=1, InitialVariantWeight=0.3))
    double.post("move", endpoint="reviews", variant="a", count=7, weight=0.1)

    sagemaker.update_endpoint(EndpointName="reviews", EndpointConfigName="c2", RetainAllVariantProperties=True)
    during = sagemaker.describe_endpoint(EndpointName="reviews")
    double.post("advance", seconds=DELAY_S)
    kept = sagemaker.describe_endpoint(EndpointName="reviews")
    sagemaker.update_endpoint(EndpointName="reviews", EndpointConfigName="c2")
    double.post("advance", seconds=DELAY_S)
    reset = sagemaker.describe_endpoint(EndpointName="reviews")

    assert during["EndpointConfigName"] == "reviews-c1"
    assert during["PendingDeploymentSummary"]["EndpointConfigName"] == "c2"
    assert [_count_and_weight(each) for each in (kept, reset)] == [(7, 0.10000000149011612), (1, 0.30000001192092896)]
    assert kept["EndpointConfigName"] == "c2"
    assert "PendingDeploymentSummary" not in kept


def _count_and_weight(endpoint: dict[str, Any]) -> tuple[int, float]:
    variant = endpoint["ProductionVariants"][0]
    return variant["CurrentInstanceCount"], variant["CurrentWeight"]


@pytest.mark.parametrize(
    ("outcome", "statuses"),
    [
        ("rollback", ["Updating", "RollingBack", "InService"]),
        ("fail", ["Updating", "InService", "InService"]),
        ("rollback_failed", ["Updating", "RollingBack", "UpdateRollbackFailed"]),
        ("stuck", ["Updating", "Updating", "Updating"]),
    ],
)
def test_an_update_can_end_badly(double: Double, sagemaker: Any, outcome: str, statuses: list[str]) -> None:
    """A scripted outcome happens once; the old configuration goes on serving, and FailureReason says why."""
    serving_reviews(double)
    a_config(double, "c2")
    double.post("script", endpoint="reviews", on="update", outcome=outcome, reason="capacity")
    sagemaker.update_endpoint(EndpointName="reviews", EndpointConfigName="c2")
    seen = []
    for _ in range(3):
        after = sagemaker.describe_endpoint(EndpointName="reviews")
        seen.append(after["EndpointStatus"])
        double.post("advance", seconds=DELAY_S)

    assert seen == statuses
    assert after["EndpointConfigName"] == "reviews-c1"
    assert ("InsufficientInstanceCapacity" in after.get("FailureReason", "")) is (outcome != "stuck")


def test_a_stuck_update_ends_when_it_is_released(double: Double, sagemaker: Any) -> None:
    """`release` lets a stuck change end as if nothing had been scripted."""
    serving_reviews(double)
    a_config(double, "c2")
    double.post("script", endpoint="reviews", on="update", outcome="stuck")
    sagemaker.update_endpoint(EndpointName="reviews", EndpointConfigName="c2")
    double.post("script", endpoint="reviews", on="now", outcome="release")

    after = sagemaker.describe_endpoint(EndpointName="reviews")
    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", "c2")


def test_a_container_that_fails_fails_the_endpoint_and_leaves_its_lines(double: Double, sagemaker: Any) -> None:
    """A failed create says that the ping check failed, its lines are in the log, and it can only be deleted."""
    a_model(double)
    a_config(double)
    double.post("script", endpoint="reviews", on="create", outcome="fail", lines=["loading", "ImportError: no numpy"])
    an_endpoint(double)

    after = sagemaker.describe_endpoint(EndpointName="reviews")
    lines = double.client("logs").filter_log_events(logGroupName="/aws/sagemaker/Endpoints/reviews")["events"]

    assert after["EndpointStatus"] == "Failed"
    assert after["FailureReason"] == (
        "The primary container for production variant a did not pass the ping health check. "
        "Please check CloudWatch logs for this endpoint."
    )
    assert [each["message"] for each in lines] == ["loading", "ImportError: no numpy"]
    assert lines[0]["logStreamName"].startswith("a/i-")
    assert refusal(sagemaker.update_endpoint, EndpointName="reviews", EndpointConfigName="reviews-c1")[1] == (
        f'Cannot update failed endpoint "{ARN}:endpoint/reviews".'
    )
    sagemaker.delete_endpoint(EndpointName="reviews")


def test_machines_run_out(double: Double, sagemaker: Any) -> None:
    """Without capacity an endpoint fails, unless a pool further down has some."""
    double.post("settings", no_capacity=["ml.c6i.xlarge"])
    pools = [{"InstanceType": kind, "Priority": n} for n, kind in enumerate(("ml.c6i.xlarge", "ml.c5.xlarge"), start=1)]
    a_model(double)
    a_config(double, "pools", a_variant(InstanceType=None, InstancePools=pools))
    a_config(double, "one", a_variant(InstanceType="ml.c6i.xlarge"))
    an_endpoint(double, "pools", "with-pools")
    an_endpoint(double, "one", "without")
    double.post("settings", no_capacity=[])

    described = sagemaker.describe_endpoint(EndpointName="with-pools")["ProductionVariants"][0]["InstancePools"]
    failed = sagemaker.describe_endpoint(EndpointName="without")

    assert described == [
        {"InstanceType": "ml.c6i.xlarge", "CurrentInstanceCount": 0},
        {"InstanceType": "ml.c5.xlarge", "CurrentInstanceCount": 2},
    ]
    assert (failed["EndpointStatus"], "InsufficientInstanceCapacity" in failed["FailureReason"]) == ("Failed", True)


def test_a_quota_is_kept_over_all_endpoints(double: Double, sagemaker: Any) -> None:
    """The third instance of a type is refused where two are allowed, with the words of the service."""
    double.post("quotas", **{"ml.c5.xlarge": 2})
    serving_reviews(double)

    code, words = refusal(sagemaker.create_endpoint, EndpointName="other", EndpointConfigName="reviews-c1")

    assert code == "ResourceLimitExceeded"
    assert words.partition(" Please")[0] == (
        "The account-level service limit 'ml.c5.xlarge for endpoint usage' is 2 Instances, with current utilization "
        "of 2 Instances and a request delta of 2 Instances."
    )


def test_a_configuration_in_use_can_be_deleted_and_the_update_then_fails(double: Double, sagemaker: Any) -> None:
    """AWS lets the configuration in use go, and refuses the next update by its name."""
    serving_reviews(double)
    a_config(double, "c2")
    sagemaker.delete_endpoint_config(EndpointConfigName="reviews-c1")

    assert refusal(sagemaker.update_endpoint, EndpointName="reviews", EndpointConfigName="c2")[1] == (
        f'Could not find endpoint configuration "{ARN}:endpoint-config/reviews-c1".'
    )


@pytest.mark.parametrize("change", [{"InstanceType": "ml.c6i.xlarge"}, {"VariantName": "b"}], ids=["type", "variant"])
def test_a_scalable_target_holds_its_machine(double: Double, sagemaker: Any, change: dict[str, Any]) -> None:
    """Another machine or no variant for a scalable target is refused; another model is not."""
    serving_reviews(double)
    double.client("application-autoscaling").register_scalable_target(**target(), MinCapacity=1, MaxCapacity=9)
    a_config(double, "changed", a_variant(**change))
    a_model(double, "reviews-2")
    a_config(double, "other-model", a_variant(ModelName="reviews-2"))

    assert refusal(sagemaker.update_endpoint, EndpointName="reviews", EndpointConfigName="changed")[1] == (
        'The variant(s) "[a]" must be deregistered as a scalable target with AWS Auto Scaling before they can be '
        "removed or have their instance type updated."
    )
    sagemaker.update_endpoint(EndpointName="reviews", EndpointConfigName="other-model")


def _blue_green(**routing: Any) -> dict[str, Any]:
    plain = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 60}
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": plain | routing}}


@pytest.mark.parametrize(
    ("config", "deployment"),
    [
        ("same", _blue_green(Type="CANARY")),
        ("same", _blue_green(CanarySize={"Type": "CAPACITY_PERCENT", "Value": 10})),
        ("same", _blue_green(Type="CANARY", CanarySize={"Type": "CAPACITY_PERCENT", "Value": 60})),
        ("same", _blue_green() | {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "none"}]}}),
        ("renamed", _blue_green()),
        ("serverless", _blue_green()),
    ],
    ids=["canary without size", "size without canary", "too large", "no such alarm", "other variant", "serverless"],
)
def test_a_way_of_deploying_is_checked(double: Double, sagemaker: Any, config: str, deployment: Any) -> None:
    """A DeploymentConfig that does not fit itself, the account or the endpoint is refused."""
    serving_reviews(double)
    serverless = a_variant(
        InstanceType=None, InitialInstanceCount=None, ServerlessConfig={"MemorySizeInMB": 2048, "MaxConcurrency": 5}
    )
    a_config(double, "same")
    a_config(double, "renamed", a_variant(VariantName="b"))
    a_config(double, "serverless", serverless)

    code, _ = refusal(
        sagemaker.update_endpoint, EndpointName="reviews", EndpointConfigName=config, DeploymentConfig=deployment
    )

    assert code == "ValidationException"


def test_an_alarm_during_the_bake_rolls_back(double: Double, sagemaker: Any) -> None:
    """A blue/green update whose alarm fires ends on the old configuration."""
    serving_reviews(double)
    a_config(double, "c2")
    double.client("cloudwatch").put_metric_alarm(
        AlarmName="errors",
        Namespace="AWS/SageMaker",
        MetricName="Invocation5XXErrors",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )
    deployment = _blue_green() | {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]}}
    sagemaker.update_endpoint(EndpointName="reviews", EndpointConfigName="c2", DeploymentConfig=deployment)
    double.post("alarm", name="errors", state="ALARM")
    double.post("advance", seconds=2 * DELAY_S)

    after = sagemaker.describe_endpoint(EndpointName="reviews")
    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", "reviews-c1")
    assert "errors" in after["FailureReason"]


def test_a_weight_alone_leaves_the_count(double: Double, sagemaker: Any) -> None:
    """Weights and counts change apart, take their time, and weights come back as 32-bit floats."""
    serving_reviews(double, a_variant(), a_variant(VariantName="b"))
    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName="reviews", DesiredWeightsAndCapacities=[{"VariantName": "b", "DesiredWeight": 0.1}]
    )
    during = sagemaker.describe_endpoint(EndpointName="reviews")
    double.post("advance", seconds=DELAY_S)
    after = sagemaker.describe_endpoint(EndpointName="reviews")

    assert during["EndpointStatus"] == "Updating"
    assert [(each["CurrentWeight"], each["DesiredWeight"]) for each in during["ProductionVariants"]] == [
        (1.0, 1.0),
        (1.0, 0.10000000149011612),
    ]
    assert [(each["CurrentWeight"], each["CurrentInstanceCount"]) for each in after["ProductionVariants"]] == [
        (1.0, 2),
        (0.10000000149011612, 2),
    ]


def test_a_list_filters_before_it_pages(double: Double, sagemaker: Any) -> None:
    """Names that fit come newest first, ten a page, over all pages."""
    a_model(double)
    names = [a_config(double, f"{'even' if number % 2 == 0 else 'odd'}-{number:02}") for number in range(25)]

    pages = list(sagemaker.get_paginator("list_endpoint_configs").paginate(NameContains="even"))

    found = [each["EndpointConfigName"] for page in pages for each in page["EndpointConfigs"]]
    assert [len(page["EndpointConfigs"]) for page in pages] == [10, 3]
    assert found == [name for name in reversed(names) if name.startswith("even")]


def test_traffic_goes_by_weight(double: Double) -> None:
    """Invocations are shared as the weights say, and each variant answers for itself."""
    serving_reviews(double, a_variant(InitialVariantWeight=3.0), a_variant(VariantName="b", InitialVariantWeight=1.0))
    double.post("answers", endpoint="reviews", variant="b", status=500, body="boom")
    runtime = double.client("sagemaker-runtime")
    answered = []
    for _ in range(8):
        try:
            answered.append(runtime.invoke_endpoint(EndpointName="reviews", Body=b"1")["InvokedProductionVariant"])
        except runtime.exceptions.ModelError as failed:
            answered.append((failed.response["OriginalStatusCode"], failed.response["OriginalMessage"]))

    assert sorted(map(str, answered)) == ["(500, 'boom')"] * 2 + ["a"] * 6
    assert refusal(runtime.invoke_endpoint, EndpointName="Reviews", Body=b"1") == (
        "ValidationError",
        "Endpoint Reviews of account 123456789012 not found.",
    )


def test_a_shadow_gets_copies_and_answers_nobody(double: Double, sagemaker: Any) -> None:
    """It is shown apart, its weight over the production's is the share of requests that it gets."""
    shadow = a_variant(VariantName="s", InitialVariantWeight=0.5)
    serving_reviews(double, a_variant(InitialVariantWeight=1.0), ShadowProductionVariants=[shadow])
    runtime, cloudwatch = double.client("sagemaker-runtime"), double.client("cloudwatch")

    answered = [runtime.invoke_endpoint(EndpointName="reviews", Body=b"1") for _ in range(8)]

    shown = sagemaker.describe_endpoint(EndpointName="reviews")
    assert [each["VariantName"] for each in shown["ProductionVariants"]] == ["a"]
    assert [(each["VariantName"], each["CurrentWeight"]) for each in shown["ShadowProductionVariants"]] == [("s", 0.5)]
    assert {each["InvokedProductionVariant"] for each in answered} == {"a"}
    dimensions = [{"Name": "EndpointName", "Value": "reviews"}, {"Name": "VariantName", "Value": "s"}]
    metric = {"Namespace": "AWS/SageMaker", "MetricName": "Invocations", "Dimensions": dimensions}
    span = {"StartTime": 0, "EndTime": 4e9}
    (point,) = cloudwatch.get_metric_statistics(**metric, Period=86400 * 50, Statistics=["Sum"], **span)["Datapoints"]
    assert point["Sum"] == 4


SERVERLESS = {"MemorySizeInMB": 2048, "MaxConcurrency": 5}
TOGETHER: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "two beside a shadow": ([{}, {"VariantName": "b"}], {"ShadowProductionVariants": [a_variant(VariantName="s")]}),
    "a shadow of a queue": (
        [{}],
        {
            "ShadowProductionVariants": [a_variant(VariantName="s")],
            "AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://acme-ml/out"}},
        },
    ),
    "two of a queue": (
        [{}, {"VariantName": "b"}],
        {"AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://acme-ml/out"}}},
    ),
    "two without machines": (
        [
            {"InstanceType": None, "InitialInstanceCount": None, "ServerlessConfig": SERVERLESS, "VariantName": each}
            for each in "ab"
        ],
        {},
    ),
}


@pytest.mark.parametrize("case", TOGETHER)
def test_variants_that_can_not_be_on_one_endpoint(double: Double, case: str) -> None:
    """SageMaker takes one shadow of one variant, and several variants only where there are machines and no queue."""
    variants, more = TOGETHER[case]
    a_model(double)

    code, _ = refusal(
        double.client("sagemaker").create_endpoint_config,
        EndpointConfigName="c",
        ProductionVariants=[a_variant(**each) for each in variants],
        **more,
    )

    assert code == "ValidationException"


def test_one_count_changes_at_a_time(double: Double, sagemaker: Any) -> None:
    """Weights of several variants may, and the capacity of one."""
    serving_reviews(double, a_variant(), a_variant(VariantName="b"))
    counts = [{"VariantName": each, "DesiredInstanceCount": 3} for each in "ab"]
    weights = [{"VariantName": each, "DesiredWeight": 0.5} for each in "ab"]
    change = sagemaker.update_endpoint_weights_and_capacities

    assert refusal(change, EndpointName="reviews", DesiredWeightsAndCapacities=counts)[0] == "ValidationException"
    change(EndpointName="reviews", DesiredWeightsAndCapacities=weights)


def test_an_asynchronous_answer_is_an_object(double: Double) -> None:
    """The answer or the failure appears under its path after its time, and waits while there are no instances."""
    output = {"S3OutputPath": f"s3://{BUCKET}/out", "S3FailurePath": f"s3://{BUCKET}/failed"}
    serving_reviews(double, AsyncInferenceConfig={"OutputConfig": output})
    s3, runtime = double.client("s3"), double.client("sagemaker-runtime")
    s3.put_object(Bucket=BUCKET, Key="in/1.json", Body=b"1")

    def objects(prefix: str) -> list[str]:
        found: list[str] = double.get(f"resources?bucket={BUCKET}&prefix={prefix}")["objects"]
        return [f"s3://{BUCKET}/{key}" for key in found]

    double.post("move", endpoint="reviews", variant="a", count=0)
    good = runtime.invoke_endpoint_async(EndpointName="reviews", InputLocation=f"s3://{BUCKET}/in/1.json")
    double.post("advance", seconds=DELAY_S)
    waiting = objects("out/")
    double.post("move", endpoint="reviews", variant="a", count=1)
    bad = runtime.invoke_endpoint_async(EndpointName="reviews", InputLocation=f"s3://{BUCKET}/in/none.json")
    double.post("advance", seconds=DELAY_S)

    assert waiting == []
    assert objects("out/") == [good["OutputLocation"]]
    assert objects("failed/") == [bad["FailureLocation"]]
