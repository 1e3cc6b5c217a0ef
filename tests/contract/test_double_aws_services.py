"""The AWS double's services around endpoints: autoscaling, CloudWatch, logs, quotas and the tagging API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.doubles.aws import Double, serving
from tests.doubles.aws.arranged import DELAY_S, a_variant, serving_reviews, target

TRACKING = {
    "PolicyType": "TargetTrackingScaling",
    "TargetTrackingScalingPolicyConfiguration": {
        "TargetValue": 600.0,
        "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
    },
}
STEP = {
    "PolicyType": "StepScaling",
    "StepScalingPolicyConfiguration": {
        "AdjustmentType": "ChangeInCapacity",
        "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 2}],
    },
}
ALARM = {
    "Namespace": "AWS/SageMaker",
    "MetricName": "ModelLatency",
    "ExtendedStatistic": "p99",
    "Period": 60,
    "EvaluationPeriods": 3,
    "Threshold": 500000.0,
    "ComparisonOperator": "GreaterThanThreshold",
}


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
def scaling(double: Double) -> Any:
    """A client of Application Auto Scaling, and an endpoint that it may scale."""
    serving_reviews(double)
    return double.client("application-autoscaling")


@pytest.fixture
def cloudwatch(double: Double) -> Any:
    """A client of CloudWatch."""
    return double.client("cloudwatch")


def code(call: Callable[..., Any], **asked: Any) -> str:
    """Return the code of the error that a call gets."""
    with pytest.raises(ClientError) as refused:
        call(**asked)
    return str(refused.value.response["Error"]["Code"])


def test_a_target_goes_with_all_that_hangs_on_it(double: Double, scaling: Any) -> None:
    """Deregistering takes policies, their own alarms and scheduled actions; a user's alarm stays and acts no more."""
    scaling.register_scalable_target(**target(), MinCapacity=1, MaxCapacity=5)
    scaling.put_scaling_policy(**target(), PolicyName="p", **TRACKING)
    step = scaling.put_scaling_policy(**target(), PolicyName="s", **STEP)["PolicyARN"]
    scaling.put_scheduled_action(
        **target(), ScheduledActionName="n", Schedule="cron(0 8 * * ? *)", ScalableTargetAction={"MinCapacity": 2}
    )
    double.client("cloudwatch").put_metric_alarm(AlarmName="mine", **ALARM, AlarmActions=[step])
    before = double.get("resources")

    scaling.deregister_scalable_target(**target())

    after = double.get("resources")
    kinds = ("scalable_targets", "scaling_policies", "scheduled_actions", "alarms")
    assert [len(before[kind]) for kind in kinds] == [1, 2, 1, 3]
    assert [len(after[kind]) for kind in kinds] == [0, 0, 0, 1]
    assert after["alarms"]["mine"]["AlarmActions"] == []
    assert code(scaling.deregister_scalable_target, **target()) == "ObjectNotFoundException"


def test_deleting_an_endpoint_deregisters_it(double: Double, scaling: Any) -> None:
    """Nothing of autoscaling is left behind by a deleted endpoint."""
    scaling.register_scalable_target(**target(), MinCapacity=1, MaxCapacity=5)
    scaling.put_scaling_policy(**target(), PolicyName="p", **TRACKING)

    double.client("sagemaker").delete_endpoint(EndpointName="reviews")
    double.post("advance", seconds=DELAY_S)

    left = double.get("resources")
    assert (left["endpoints"], left["scalable_targets"], left["scaling_policies"], left["alarms"]) == ({}, [], [], {})


@pytest.mark.parametrize(
    ("asked", "bounds"),
    [
        (target("none"), {"MinCapacity": 1, "MaxCapacity": 2}),
        (target(), {"MinCapacity": 3, "MaxCapacity": 2}),
        (target(), {"MinCapacity": 1}),
        (
            target() | {"ScalableDimension": "sagemaker:variant:DesiredProvisionedConcurrency"},
            {"MinCapacity": 1, "MaxCapacity": 2},
        ),
    ],
    ids=["no variant", "bounds crossed", "no maximum", "not serverless"],
)
def test_a_target_must_make_sense(scaling: Any, asked: dict[str, str], bounds: dict[str, int]) -> None:
    """A target needs a variant of its kind and bounds in order."""
    assert code(scaling.register_scalable_target, **asked, **bounds) == "ValidationException"


def test_a_count_outside_new_bounds_is_brought_inside(double: Double, scaling: Any) -> None:
    """Registering changes a live count to one within the bounds, which keeps the endpoint busy."""
    scaling.register_scalable_target(**target(), MinCapacity=4, MaxCapacity=5)
    busy = double.get("resources")["endpoints"]["reviews"]["status"]
    double.post("advance", seconds=DELAY_S)

    reviews = double.get("resources")["endpoints"]["reviews"]
    assert (busy, reviews["status"], reviews["variants"]["a"]["count"]) == ("Updating", "InService", 4)


def test_a_policy_keeps_its_name_and_gets_two_alarms(scaling: Any, cloudwatch: Any) -> None:
    """Putting a policy again keeps its ARN and makes its alarms anew; PolicyNames filters; step alarms are shown."""
    scaling.register_scalable_target(**target(), MinCapacity=1, MaxCapacity=5)
    first = scaling.put_scaling_policy(**target(), PolicyName="p", **TRACKING)
    second = scaling.put_scaling_policy(**target(), PolicyName="p", **TRACKING)
    step = scaling.put_scaling_policy(**target(), PolicyName="s", **STEP)["PolicyARN"]
    cloudwatch.put_metric_alarm(AlarmName="mlscale/reviews/step-1", **ALARM, AlarmActions=[step])

    alarms = cloudwatch.describe_alarms(AlarmNamePrefix="TargetTracking-endpoint/reviews")["MetricAlarms"]
    named = scaling.describe_scaling_policies(ServiceNamespace="sagemaker", PolicyNames=["s"])["ScalingPolicies"]

    assert first["PolicyARN"] == second["PolicyARN"]
    assert sorted(each["AlarmName"] for each in second["Alarms"]) == [each["AlarmName"] for each in alarms]
    assert [(each["Threshold"], each["EvaluationPeriods"]) for each in alarms] == [(600.0, 3), (540.0, 15)]
    assert [(each["PolicyName"], [alarm["AlarmName"] for alarm in each["Alarms"]]) for each in named] == [
        ("s", ["mlscale/reviews/step-1"])
    ]
    assert code(scaling.put_scaling_policy, **target(), PolicyName="q", **TRACKING) == "ValidationException"
    assert code(scaling.delete_scaling_policy, **target(), PolicyName="none") == "ObjectNotFoundException"


def test_nothing_hangs_on_an_unregistered_variant(scaling: Any) -> None:
    """Policies and scheduled actions need a registered target."""
    action = {"ScheduledActionName": "n", "Schedule": "rate(1 day)", "ScalableTargetAction": {"MinCapacity": 1}}

    assert code(scaling.put_scaling_policy, **target(), PolicyName="p", **TRACKING) == "ObjectNotFoundException"
    assert code(scaling.put_scheduled_action, **target(), **action) == "ObjectNotFoundException"


@pytest.mark.parametrize("schedule", ["cron(nonsense)", "cron(0 8 * * MON-FRI)", "every day", "rate(0.5 day)"])
def test_a_schedule_is_read(scaling: Any, schedule: str) -> None:
    """A schedule that is none is refused: cron has six fields."""
    scaling.register_scalable_target(**target(), MinCapacity=1, MaxCapacity=5)

    asked = {"ScheduledActionName": "n", "Schedule": schedule, "ScalableTargetAction": {"MinCapacity": 1}}
    assert code(scaling.put_scheduled_action, **target(), **asked) == "ValidationException"


def test_targets_come_in_pages(double: Double) -> None:
    """ResourceIds filter, and a paginator finds all targets."""
    names = [f"v{number}" for number in range(5)]
    serving_reviews(double, *(a_variant(VariantName=name) for name in names))
    scaling = double.client("application-autoscaling")
    for name in names:
        scaling.register_scalable_target(**target(name), MinCapacity=1, MaxCapacity=5)

    pages = scaling.get_paginator("describe_scalable_targets").paginate(
        ServiceNamespace="sagemaker", PaginationConfig={"PageSize": 2}
    )
    wanted = [target(name)["ResourceId"] for name in ("v1", "v3")]
    some = scaling.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=wanted)["ScalableTargets"]

    assert [[each["ResourceId"][-2:] for each in page["ScalableTargets"]] for page in pages] == [
        ["v0", "v1"],
        ["v2", "v3"],
        ["v4"],
    ]
    assert [each["ResourceId"] for each in some] == wanted
    assert some[0]["SuspendedState"] == {
        "DynamicScalingInSuspended": False,
        "DynamicScalingOutSuspended": False,
        "ScheduledScalingSuspended": False,
    }


def test_what_scaling_did_is_told(double: Double, scaling: Any) -> None:
    """A variant that was moved has a scaling activity."""
    scaling.register_scalable_target(**target(), MinCapacity=1, MaxCapacity=5)
    double.post("move", endpoint="reviews", variant="a", count=4, cause="alarm high")

    found = scaling.describe_scaling_activities(**target())["ScalingActivities"]
    assert [(each["Description"], each["Cause"]) for each in found] == [
        ("Setting desired instance count to 4.", "alarm high")
    ]


def test_an_alarm_knows_nothing_at_first(cloudwatch: Any) -> None:
    """A new alarm has INSUFFICIENT_DATA and its tags; putting it again leaves its state and its tags alone."""
    tags = [{"Key": "mlscale:name", "Value": "reviews"}]
    cloudwatch.put_metric_alarm(AlarmName="a", **ALARM, Tags=tags)
    first = cloudwatch.describe_alarms(AlarmNames=["a"])["MetricAlarms"][0]
    cloudwatch.set_alarm_state(AlarmName="a", StateValue="ALARM", StateReason="test")
    cloudwatch.put_metric_alarm(AlarmName="a", **{**ALARM, "Threshold": 1.0}, Tags=[{"Key": "x", "Value": "y"}])
    second = cloudwatch.describe_alarms(AlarmNames=["a"])["MetricAlarms"][0]

    assert (first["StateValue"], second["StateValue"], second["Threshold"]) == ("INSUFFICIENT_DATA", "ALARM", 1.0)
    assert cloudwatch.list_tags_for_resource(ResourceARN=first["AlarmArn"])["Tags"] == tags
    cloudwatch.delete_alarms(AlarmNames=["a", "none"])
    assert cloudwatch.describe_alarms()["MetricAlarms"] == []


def test_an_alarm_tells_its_topic(double: Double, cloudwatch: Any) -> None:
    """An alarm that changes its state sends a message to the topics of the new state."""
    sns, sqs = double.client("sns"), double.client("sqs")
    topic = sns.create_topic(Name="oncall")["TopicArn"]
    queue = sqs.create_queue(QueueName="seen")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    cloudwatch.put_metric_alarm(AlarmName="a", **ALARM, AlarmActions=[topic])

    double.post("alarm", name="a", state="ALARM")

    [message] = sqs.receive_message(QueueUrl=queue)["Messages"]
    assert '\\"NewStateValue\\": \\"ALARM\\"' in message["Body"]


def test_alarms_come_in_pages_by_prefix(cloudwatch: Any) -> None:
    """All alarms of a prefix are found over pages, in order of their names."""
    for number in range(7):
        cloudwatch.put_metric_alarm(AlarmName=f"mlscale/reviews/{number}", **ALARM)
    cloudwatch.put_metric_alarm(AlarmName="other", **ALARM)

    pages = cloudwatch.get_paginator("describe_alarms").paginate(
        AlarmNamePrefix="mlscale/reviews/", PaginationConfig={"PageSize": 3}
    )
    assert [[each["AlarmName"][-1] for each in page["MetricAlarms"]] for page in pages] == [
        ["0", "1", "2"],
        ["3", "4", "5"],
        ["6"],
    ]


def test_statistics_are_those_of_one_metric(double: Double, cloudwatch: Any) -> None:
    """Percentiles are by nearest rank, and neither another namespace nor another variant is counted in."""
    double.post("metrics", endpoint="reviews", variant="a", values={"ModelLatency": list(range(1, 101))}, ago_s=30)
    double.post("metrics", endpoint="reviews", variant="b", values={"ModelLatency": [9000]}, ago_s=30)
    double.post(
        "metrics", endpoint="reviews", variant="a", values={"ModelLatency": [9000]}, ago_s=30, namespace="Other"
    )
    dimensions = [{"Name": "EndpointName", "Value": "reviews"}, {"Name": "VariantName", "Value": "a"}]
    metric = {"Namespace": "AWS/SageMaker", "MetricName": "ModelLatency", "Dimensions": dimensions}
    now = datetime.now(UTC)
    stats = ("p50", "p99", "PR(:90)", "Sum", "SampleCount", "Maximum")
    span = {"StartTime": now - timedelta(hours=1), "EndTime": now + timedelta(hours=1)}
    queries = [
        {"Id": f"m{number}", "MetricStat": {"Metric": metric, "Period": 86400, "Stat": stat}}
        for number, stat in enumerate(stats)
    ]

    data = cloudwatch.get_metric_data(MetricDataQueries=queries, **span)["MetricDataResults"]
    [point] = cloudwatch.get_metric_statistics(
        **metric, Period=86400, Statistics=["Average"], ExtendedStatistics=["p99"], **span
    )["Datapoints"]

    assert {stat: each["Values"] for stat, each in zip(stats, data, strict=True)} == {
        "p50": [50.0],
        "p99": [99.0],
        "PR(:90)": [90.0],
        "Sum": [5050.0],
        "SampleCount": [100.0],
        "Maximum": [100.0],
    }
    assert (point["Average"], point["ExtendedStatistics"]) == (50.5, {"p99": 99.0})


def test_values_come_late_and_in_pages(double: Double, cloudwatch: Any) -> None:
    """A page has the values that it has room for, and says of which query there are more."""
    for ago in (90, 150, 210):
        double.post("metrics", endpoint="reviews", variant="a", values={"Invocations": [1], "X": [2]}, ago_s=ago)
    dimensions = [{"Name": "EndpointName", "Value": "reviews"}, {"Name": "VariantName", "Value": "a"}]
    queries = [
        {
            "Id": name.lower(),
            "MetricStat": {
                "Metric": {"Namespace": "AWS/SageMaker", "MetricName": name, "Dimensions": dimensions},
                "Period": 60,
                "Stat": "Sum",
            },
        }
        for name in ("Invocations", "X", "None")
    ]
    now = datetime.now(UTC)
    asked = {"MetricDataQueries": queries, "StartTime": now - timedelta(hours=1), "EndTime": now}

    def pages(size: int) -> list[list[tuple[str, int, str]]]:
        found = cloudwatch.get_paginator("get_metric_data").paginate(**asked, MaxDatapoints=size)
        return [
            [(each["Id"], len(each["Values"]), each["StatusCode"]) for each in page["MetricDataResults"]]
            for page in found
        ]

    whole = ("none", 0, "Complete")
    assert pages(10) == [[("invocations", 3, "Complete"), ("x", 3, "Complete"), whole]]
    assert pages(2) == [
        [("invocations", 2, "PartialData"), whole],
        [("invocations", 1, "Complete"), ("x", 1, "PartialData")],
        [("x", 2, "Complete")],
    ]
    double.post("settings", metrics_lag_s=120)
    assert pages(10) == [[("invocations", 2, "Complete"), ("x", 2, "Complete"), whole]]


def test_an_expression_gives_what_was_put_for_it(double: Double, cloudwatch: Any) -> None:
    """Every series of it, under the query's id, by the minute; one that nobody put values for is refused."""
    double.post("expression", expression="SUM(a)", series=[[[90, 2.0], [3600, 1.0]], [[90, 3.0]]])
    now = datetime.now(UTC)
    asked = {"StartTime": now - timedelta(minutes=30), "EndTime": now}

    found = cloudwatch.get_metric_data(
        MetricDataQueries=[{"Id": "own", "Expression": "SUM(a)", "Period": 60}], **asked
    )["MetricDataResults"]

    assert [(each["Id"], each["Values"]) for each in found] == [("own", [2.0]), ("own", [3.0])]
    assert found[0]["Timestamps"][0].second == 0
    with pytest.raises(ClientError, match="put the values of SUM"):
        cloudwatch.get_metric_data(MetricDataQueries=[{"Id": "own", "Expression": "SUM(b)"}], **asked)


def test_a_dashboard_is_json_with_widgets(cloudwatch: Any) -> None:
    """A dashboard is kept whole and listed, and one without widgets is refused."""
    body = '{"widgets": []}'
    cloudwatch.put_dashboard(DashboardName="mlscale-reviews", DashboardBody=body)

    assert cloudwatch.get_dashboard(DashboardName="mlscale-reviews")["DashboardBody"] == body
    assert code(cloudwatch.put_dashboard, DashboardName="x", DashboardBody="[]") == "InvalidParameterInput"
    cloudwatch.delete_dashboards(DashboardNames=["mlscale-reviews"])
    assert cloudwatch.list_dashboards()["DashboardEntries"] == []


def test_logs_are_read_forward_and_filtered(double: Double) -> None:
    """A stream is read with a token until it stands still; terms with `?` are alternatives."""
    serving_reviews(double)
    logs = double.client("logs")
    group = "/aws/sagemaker/Endpoints/reviews"
    [stream] = logs.describe_log_streams(logGroupName=group)["logStreams"]
    named = {"logGroupName": group, "logStreamName": stream["logStreamName"]}

    first = logs.get_log_events(**named, startFromHead=True, limit=2)
    second = logs.get_log_events(**named, startFromHead=True, nextToken=first["nextForwardToken"])
    third = logs.get_log_events(**named, startFromHead=True, nextToken=second["nextForwardToken"])
    either = logs.filter_log_events(logGroupName=group, filterPattern="?Loading ?Listening")["events"]

    assert [[each["message"] for each in page["events"]] for page in (first, second, third)] == [
        ["Starting the model server", "Loading the model"],
        ["Listening on port 8080"],
        [],
    ]
    assert third["nextForwardToken"] == second["nextForwardToken"]
    assert [each["message"] for each in either] == ["Loading the model", "Listening on port 8080"]
    assert code(logs.get_log_events, logGroupName="none", logStreamName="x") == "ResourceNotFoundException"


def test_quotas_are_known_by_name(double: Double) -> None:
    """Quotas of endpoints are listed by name over pages, and each is found by its code."""
    double.post("quotas", **{"ml.c5.xlarge": 4})
    quotas = double.client("service-quotas")
    pages = quotas.get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker")
    found = {each["QuotaName"]: each for page in pages for each in page["Quotas"]}
    ours = found["ml.c5.xlarge for endpoint usage"]

    again = quotas.get_service_quota(ServiceCode="sagemaker", QuotaCode=ours["QuotaCode"])["Quota"]
    assert (again["Value"], again["QuotaName"]) == (4.0, "ml.c5.xlarge for endpoint usage")
    assert code(quotas.get_service_quota, ServiceCode="sagemaker", QuotaCode="L-0") == "NoSuchResourceException"


def test_everything_with_our_tag_is_found(double: Double, cloudwatch: Any) -> None:
    """The tagging API finds endpoints, configurations and alarms over pages; AddTags replaces a value."""
    tags = [{"Key": "mlscale:name", "Value": "reviews"}]
    serving_reviews(double, Tags=tags)
    sagemaker = double.client("sagemaker")
    arn = sagemaker.describe_endpoint(EndpointName="reviews")["EndpointArn"]
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "mlscale:name", "Value": "other"}])
    sagemaker.add_tags(ResourceArn=arn, Tags=[*tags, {"Key": "team", "Value": "search"}])
    sagemaker.delete_tags(ResourceArn=arn, TagKeys=["team"])
    cloudwatch.put_metric_alarm(AlarmName="mlscale/reviews/step-1", **ALARM, Tags=tags)

    pages = (
        double.client("resourcegroupstaggingapi")
        .get_paginator("get_resources")
        .paginate(TagFilters=[{"Key": "mlscale:name", "Values": ["reviews"]}], ResourcesPerPage=2)
    )
    found = [each["ResourceARN"].split(":", 5)[5] for page in pages for each in page["ResourceTagMappingList"]]
    only = double.client("resourcegroupstaggingapi").get_resources(ResourceTypeFilters=["sagemaker:endpoint"])

    assert found == ["alarm:mlscale/reviews/step-1", "endpoint-config/reviews-c1", "endpoint/reviews"]
    assert [(each["ResourceARN"], each["Tags"]) for each in only["ResourceTagMappingList"]] == [(arn, tags)]
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == tags
