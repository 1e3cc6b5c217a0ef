"""The AWS double's rules are named where they are applied, and its answers have what the service models require."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tests.doubles.aws
from tests.doubles.aws import Double, serving
from tests.doubles.aws.application import OWNED
from tests.doubles.aws.arranged import BUCKET, a_config, a_model, an_endpoint, target
from tests.doubles.aws.rules import RULES
from tests.doubles.aws.validation import service_model

FOLDER = Path(tests.doubles.aws.__file__).parent
NAMED = re.compile(r'# rule ([a-z0-9.-]*[a-z0-9])|(?:invalid|Refusal|_not_found)\(\s*"([a-z-]+\.[a-z0-9-]+)"')


def test_each_rule_is_named_where_it_is_applied() -> None:
    """The table and the code name the same rules, each once in the table."""
    code = "".join(file.read_text() for file in sorted(FOLDER.glob("*.py")) if file.name != "rules.py")
    named = {comment or argument for comment, argument in NAMED.findall(code)}

    assert named == {rule.id for rule in RULES}
    assert len(named) == len(RULES)


def test_what_is_no_guess_has_a_source() -> None:
    """Documented and observed rules have a public address; a guess has none."""
    assert [rule.id for rule in RULES if rule.source.startswith("https://") == (rule.mark == "guessed")] == []


def _missing(shape: Any, value: Any, path: str) -> Iterator[str]:
    """Return the required members that an answer lacks, and the members that the model does not know."""
    if shape is None or value is None:
        return
    if shape.type_name == "structure":
        yield from (f"{path}.{name} is missing" for name in shape.required_members if value.get(name) is None)
        yield from (f"{path}.{name} is unknown" for name in value if name not in shape.members)
        for name, member in shape.members.items():
            if name in value:
                yield from _missing(member, value[name], f"{path}.{name}")
    elif shape.type_name == "list":
        for number, item in enumerate(value):
            yield from _missing(shape.member, item, f"{path}[{number}]")


class Checked:
    """A client of one service whose answers are held against the model; `called` are its operations."""

    def __init__(self, double: Double, service: str) -> None:
        self._client = double.client(service)
        self._service = service
        self.called: set[str] = set()
        self.problems: list[str] = []
        self._client.meta.events.register("after-call", self._check)

    def __getattr__(self, name: str) -> Any:
        """Return the client's own method."""
        return getattr(self._client, name)

    def _check(self, model: Any, parsed: dict[str, Any], **_: Any) -> None:
        self.called.add(model.name)
        answer = {name: value for name, value in parsed.items() if name != "ResponseMetadata"}
        self.problems += _missing(model.output_shape, answer, model.name)


@pytest.fixture(scope="module")
def double() -> Iterator[Double]:
    """One server."""
    with serving() as double:
        yield double


def test_answers_have_what_the_models_require(double: Double) -> None:
    """Over every operation that the double owns no answer lacks a required member or has an unknown one."""
    services = {service: Checked(double, service) for service in OWNED}
    _sagemaker(double, services["sagemaker"])
    _scaling(double, services["application-autoscaling"])
    _cloudwatch(services["cloudwatch"])
    _logs(services["logs"])
    quota = services["service-quotas"].list_service_quotas(ServiceCode="sagemaker")["Quotas"][0]["QuotaCode"]
    services["service-quotas"].list_aws_default_service_quotas(ServiceCode="sagemaker")
    services["service-quotas"].get_service_quota(ServiceCode="sagemaker", QuotaCode=quota)
    services["service-quotas"].get_aws_default_service_quota(ServiceCode="sagemaker", QuotaCode=quota)
    services["resourcegroupstaggingapi"].get_resources()
    _end(services)

    assert {service: checked.problems for service, checked in services.items() if checked.problems} == {}
    assert {service: checked.called for service, checked in services.items()} == {
        service: set(operations) for service, operations in OWNED.items()
    }


def _sagemaker(double: Double, client: Checked) -> None:
    a_model(double)
    capture = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 10,
        "DestinationS3Uri": f"s3://{BUCKET}/seen",
        "CaptureOptions": [{"CaptureMode": "Input"}],
    }
    a_config(double, "c1", DataCaptureConfig=capture)
    an_endpoint(double, "c1")
    made = {
        "PrimaryContainer": {"Image": "public/image:1"},
        "ExecutionRoleArn": "arn:aws:iam::123456789012:role/serving",
    }
    client.create_model(ModelName="m", **made)
    variant = {"VariantName": "a", "ModelName": "m", "InitialInstanceCount": 1, "InstanceType": "ml.c5.xlarge"}
    client.create_endpoint_config(EndpointConfigName="c2", ProductionVariants=[variant])
    client.create_endpoint(EndpointName="other", EndpointConfigName="c2")
    client.describe_endpoint(EndpointName="other")
    client.update_endpoint(EndpointName="reviews", EndpointConfigName="c2")
    client.describe_endpoint(EndpointName="reviews")
    double.post("advance", seconds=60)
    wish = {"VariantName": "a", "DesiredWeight": 0.5}
    client.update_endpoint_weights_and_capacities(EndpointName="other", DesiredWeightsAndCapacities=[wish])
    double.post("advance", seconds=60)
    client.describe_endpoint(EndpointName="reviews")
    client.describe_endpoint_config(EndpointConfigName="c1")
    client.describe_model(ModelName="m")
    client.list_endpoints()
    client.list_endpoint_configs()
    client.list_models()
    arn = client.describe_endpoint(EndpointName="other")["EndpointArn"]
    client.add_tags(ResourceArn=arn, Tags=[{"Key": "mlscale:name", "Value": "x"}])
    client.list_tags(ResourceArn=arn)
    client.delete_tags(ResourceArn=arn, TagKeys=["none"])


def _scaling(double: Double, client: Checked) -> None:
    client.register_scalable_target(**target(), MinCapacity=1, MaxCapacity=5)
    step = {"AdjustmentType": "ChangeInCapacity", "StepAdjustments": [{"ScalingAdjustment": 1}]}
    client.put_scaling_policy(**target(), PolicyName="s", PolicyType="StepScaling", StepScalingPolicyConfiguration=step)
    client.put_scheduled_action(
        **target(), ScheduledActionName="n", Schedule="rate(1 day)", ScalableTargetAction={"MinCapacity": 1}
    )
    double.post("move", endpoint="reviews", variant="a", count=3)
    found = client.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    client.describe_scaling_policies(ServiceNamespace="sagemaker")
    client.describe_scheduled_actions(ServiceNamespace="sagemaker")
    client.describe_scaling_activities(ServiceNamespace="sagemaker")
    arn = found[0]["ScalableTargetARN"]
    client.tag_resource(ResourceARN=arn, Tags={"a": "b"})
    client.list_tags_for_resource(ResourceARN=arn)
    client.untag_resource(ResourceARN=arn, TagKeys=["a"])
    client.delete_scaling_policy(**target(), PolicyName="s")
    client.delete_scheduled_action(**target(), ScheduledActionName="n")
    client.deregister_scalable_target(**target())


def _cloudwatch(client: Checked) -> None:
    metric = {"Namespace": "N", "MetricName": "M"}
    client.put_metric_data(Namespace="N", MetricData=[{"MetricName": "M", "Value": 1.0}])
    client.put_metric_alarm(
        AlarmName="a",
        **metric,
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1.0,
        ComparisonOperator="GreaterThanThreshold",
    )
    client.set_alarm_state(AlarmName="a", StateValue="OK", StateReason="test")
    arn = client.describe_alarms()["MetricAlarms"][0]["AlarmArn"]
    client.describe_alarms_for_metric(**metric)
    client.describe_alarm_history()
    client.disable_alarm_actions(AlarmNames=["a"])
    client.enable_alarm_actions(AlarmNames=["a"])
    client.tag_resource(ResourceARN=arn, Tags=[{"Key": "a", "Value": "b"}])
    client.list_tags_for_resource(ResourceARN=arn)
    client.untag_resource(ResourceARN=arn, TagKeys=["a"])
    client.delete_alarms(AlarmNames=["a"])
    client.put_dashboard(DashboardName="d", DashboardBody='{"widgets": []}')
    client.get_dashboard(DashboardName="d")
    client.list_dashboards()
    client.delete_dashboards(DashboardNames=["d"])
    client.list_metrics()
    span = {"StartTime": 0, "EndTime": 3600}
    query = {"Id": "m", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "p99"}}
    client.get_metric_data(MetricDataQueries=[query], **span)
    client.get_metric_statistics(**metric, Period=60, Statistics=["Sum"], **span)


def _logs(client: Checked) -> None:
    named = {"logGroupName": "g", "logStreamName": "s"}
    client.create_log_group(logGroupName="g")
    client.create_log_stream(**named)
    client.put_log_events(**named, logEvents=[{"timestamp": 1, "message": "x"}])
    client.put_retention_policy(logGroupName="g", retentionInDays=7)
    client.describe_log_groups()
    client.describe_log_streams(logGroupName="g")
    client.get_log_events(**named)
    client.filter_log_events(logGroupName="g")
    client.delete_log_group(logGroupName="g")


def _end(services: dict[str, Checked]) -> None:
    sagemaker = services["sagemaker"]
    sagemaker.delete_endpoint(EndpointName="other")
    sagemaker.delete_endpoint_config(EndpointConfigName="c1")
    sagemaker.delete_model(ModelName="m")


def test_every_operation_is_one_of_the_service() -> None:
    """Each operation that the double owns exists in botocore's model of its service."""
    assert [
        (service, operation)
        for service, operations in OWNED.items()
        for operation in operations
        if operation not in service_model(service).operation_names
    ] == []
