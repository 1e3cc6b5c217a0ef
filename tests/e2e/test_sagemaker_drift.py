"""What others change in the cloud: what of it a plan shows, in the spec's words, and that a deploy puts it right."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mlscale.engine.session import open_session
from tests.doubles.aws import Double, serving
from tests.e2e.on_sagemaker import BUCKET, FIXED, UPLOADS, OnSageMaker, arranged, in_folder

ENDPOINT = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/reviews"
VARIANT = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "endpoint/reviews/variant/a",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}
TARGET = [f"endpoint.autoscaling.target[{each}]" for each in ("Reviews QueueWait", "invocations_per_replica")]
COOLDOWNS = "(cooldown in 5m, out 30s)"


@pytest.fixture(scope="module")
def running() -> Iterator[Double]:
    """One server for the module."""
    with serving() as double:
        yield double


@pytest.fixture(scope="module")
def saved() -> list[str]:
    """What the server has saved: nothing, or a deployment of the full spec."""
    return []


@pytest.fixture
def aws(
    running: Double,
    saved: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> OnSageMaker:
    """An account in which the full spec is deployed, and its folder."""
    if saved:
        running.post("restore")
        return in_folder(running, tmp_path, capsys, monkeypatch)
    aws = arranged(running, tmp_path, capsys, monkeypatch)
    aws.good("deploy")
    running.post("save")
    saved.append("the full spec")
    return aws


def _scaling(aws: OnSageMaker, operation: str, **request: Any) -> None:
    getattr(aws.double.client("application-autoscaling"), operation)(**VARIANT, **request)


def _delete_policy(aws: OnSageMaker) -> None:
    _scaling(aws, "delete_scaling_policy", PolicyName="mlscale-target-invocations_per_replica")


def _change_policy(aws: OnSageMaker) -> None:
    _scaling(
        aws,
        "put_scaling_policy",
        PolicyName="mlscale-target-invocations_per_replica",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 900.0,
            "ScaleInCooldown": 300,
            "ScaleOutCooldown": 30,
            "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
        },
    )


def _change_step(aws: OnSageMaker) -> None:
    _scaling(
        aws,
        "put_scaling_policy",
        PolicyName="mlscale-step-1",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "Cooldown": 90,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 7}],
        },
    )


def _change_bounds(aws: OnSageMaker) -> None:
    _scaling(aws, "register_scalable_target", MinCapacity=1, MaxCapacity=20)


def _deregister(aws: OnSageMaker) -> None:
    _scaling(aws, "deregister_scalable_target")


def _suspend(aws: OnSageMaker) -> None:
    _scaling(aws, "register_scalable_target", SuspendedState={"DynamicScalingInSuspended": True})


def _delete_schedule(aws: OnSageMaker) -> None:
    _scaling(aws, "delete_scheduled_action", ScheduledActionName="mlscale-schedule-1")


def _change_alarm(key: str, **changed: Any) -> Callable[[OnSageMaker], None]:
    def change(aws: OnSageMaker) -> None:
        watching = aws.double.client("cloudwatch")
        (found,) = watching.describe_alarms(AlarmNames=[f"mlscale/reviews/{key}"])["MetricAlarms"]
        known = watching.meta.service_model.operation_model("PutMetricAlarm").input_shape.members
        watching.put_metric_alarm(**{name: value for name, value in {**found, **changed}.items() if name in known})

    return change


def _delete_alarm(key: str) -> Callable[[OnSageMaker], None]:
    return lambda aws: aws.double.client("cloudwatch").delete_alarms(AlarmNames=[f"mlscale/reviews/{key}"])


def _change_dashboard(aws: OnSageMaker) -> None:
    body = json.dumps({"widgets": []})
    aws.double.client("cloudwatch").put_dashboard(DashboardName="mlscale-reviews", DashboardBody=body)


def _delete_dashboard(aws: OnSageMaker) -> None:
    aws.double.client("cloudwatch").delete_dashboards(DashboardNames=["mlscale-reviews"])


def _tag(key: str, value: str) -> Callable[[OnSageMaker], None]:
    tags = [{"Key": key, "Value": value}]
    return lambda aws: aws.double.client("sagemaker").add_tags(ResourceArn=ENDPOINT, Tags=tags)


def _untag(*keys: str) -> Callable[[OnSageMaker], None]:
    return lambda aws: aws.double.client("sagemaker").delete_tags(ResourceArn=ENDPOINT, TagKeys=list(keys))


def _another_arrangement(aws: OnSageMaker, *, waits: bool = True, **changed: Any) -> None:
    """Update the endpoint to a copy of its arrangement in which the variant has other fields; None takes one away."""
    client = aws.double.client("sagemaker")
    config = client.describe_endpoint_config(
        EndpointConfigName=client.describe_endpoint(EndpointName="reviews")["EndpointConfigName"]
    )
    variant = {**config["ProductionVariants"][0], **changed}
    kept = {key: config[key] for key in ("KmsKeyId", "DataCaptureConfig")}
    variants = [{key: value for key, value in variant.items() if value is not None}]
    client.create_endpoint_config(EndpointConfigName="by-hand", ProductionVariants=variants, **kept)
    client.update_endpoint(EndpointName="reviews", EndpointConfigName="by-hand", RetainAllVariantProperties=True)
    if waits:
        client.get_waiter("endpoint_in_service").wait(EndpointName="reviews", WaiterConfig={"Delay": 0})


def _another_machine(aws: OnSageMaker) -> None:
    _deregister(aws)
    _another_arrangement(aws, InstancePools=None, InstanceType="ml.m5.large")


def _another_volume(aws: OnSageMaker) -> None:
    _another_arrangement(aws, VolumeSizeInGB=100)


def _another_model(aws: OnSageMaker) -> None:
    client = aws.double.client("sagemaker")
    model = client.describe_model(ModelName=_only_model(aws)["ModelName"])
    container = {**model["PrimaryContainer"], "Environment": {"STAGE": "by hand"}}
    kept = {key: model[key] for key in ("ExecutionRoleArn", "VpcConfig")}
    client.create_model(ModelName="by-hand", PrimaryContainer=container, **kept)
    _another_arrangement(aws, ModelName="by-hand")


def _only_model(aws: OnSageMaker) -> Any:
    (model,) = aws.double.client("sagemaker").list_models()["Models"]
    return model


def _untag_model(aws: OnSageMaker) -> None:
    arn = _only_model(aws)["ModelArn"]
    aws.double.client("sagemaker").delete_tags(ResourceArn=arn, TagKeys=["mlscale:handler"])


def _delete_model(aws: OnSageMaker) -> None:
    aws.double.client("sagemaker").delete_model(ModelName=_only_model(aws)["ModelName"])


def _delete_config(aws: OnSageMaker) -> None:
    client = aws.double.client("sagemaker")
    (config,) = client.list_endpoint_configs()["EndpointConfigs"]
    client.delete_endpoint_config(EndpointConfigName=config["EndpointConfigName"])


def _delete_endpoint(aws: OnSageMaker) -> None:
    client = aws.double.client("sagemaker")
    client.delete_endpoint(EndpointName="reviews")
    client.get_waiter("endpoint_deleted").wait(EndpointName="reviews", WaiterConfig={"Delay": 0})


TARGETS = [
    f"{TARGET[0]}: None -> Average of Stage production at 2.5 {COOLDOWNS}",
    f"{TARGET[1]}: None -> 600 {COOLDOWNS}",
]
OUT, IN = "cpu above 85: +2 (cooldown 1m30s)", "cpu below 10: -1 (cooldown 1m)"
DAY, NIGHT = "0 8 * * MON-FRI Europe/Berlin: min 4, max 12", "0 20 * * MON-FRI Europe/Berlin: min 2, max 10"
WHOLE_SCALING = [
    *TARGETS,
    f"endpoint.autoscaling.steps[0]: None -> {OUT}",
    f"endpoint.autoscaling.steps[1]: None -> {IN}",
    f"endpoint.autoscaling.schedule[0]: None -> {DAY}",
    f"endpoint.autoscaling.schedule[1]: None -> {NIGHT}",
]
FIRST_STEP_GONE = [f"endpoint.autoscaling.steps[0]: {IN} -> {OUT}", f"endpoint.autoscaling.steps[1]: None -> {IN}"]
ONCALL = "notify arn:aws:sns:us-east-1:123456789012:ml-oncall"
SHOWN = "dashboards.endpoint: None -> shows requests, latency, machines"

BY_HAND: dict[str, tuple[Callable[[OnSageMaker], None], Sequence[str]]] = {
    "a policy is deleted": (_delete_policy, TARGETS[1:]),
    "a policy is changed": (
        _change_policy,
        [f"{TARGET[1]}: 900 {COOLDOWNS} -> 600 {COOLDOWNS}"],
    ),
    "a step is changed": (_change_step, FIRST_STEP_GONE),
    "the bounds are changed": (_change_bounds, ["endpoint.replicas: 1 to 20 -> 2 to 10"]),
    "the target is deregistered": (_deregister, ["endpoint.replicas: 4 -> 2 to 10", *WHOLE_SCALING]),
    "scaling is suspended": (_suspend, ["endpoint.replicas: 4 -> 2 to 10", *WHOLE_SCALING]),
    "a scheduled action is deleted": (
        _delete_schedule,
        [
            "endpoint.replicas: 4 to 12 -> 2 to 10",
            f"endpoint.autoscaling.schedule[0]: {NIGHT} -> {DAY}",
            f"endpoint.autoscaling.schedule[1]: None -> {NIGHT}",
        ],
    ),
    "an alarm is changed": (
        _change_alarm("p99_latency", Threshold=900_000.0),
        [f"alarms.p99_latency: None -> above 500ms, {ONCALL}"],
    ),
    "an alarm is silenced": (
        _change_alarm("error_rate", ActionsEnabled=False),
        [f"alarms.error_rate: None -> above 1%, {ONCALL}"],
    ),
    "an alarm is deleted": (_delete_alarm("no_invocations"), [f"alarms.no_invocations: None -> for 15m, {ONCALL}"]),
    "a step's alarm is deleted": (_delete_alarm("step-1"), FIRST_STEP_GONE),
    "a step's alarm is changed": (_change_alarm("step-2", Threshold=20.0), FIRST_STEP_GONE[1:]),
    "the dashboard is changed": (_change_dashboard, [SHOWN]),
    "the dashboard is deleted": (_delete_dashboard, [SHOWN]),
    "a label is changed": (_tag("team", "other"), ["labels.team: other -> search"]),
    "a label is taken away": (_untag("team"), ["labels.team: None -> search"]),
    "the list of labels is taken away": (
        _untag("mlscale:labels"),
        ["labels.project: None -> reviews 2", "labels.team: None -> search"],
    ),
    "the bounds' tag is taken away": (_untag("mlscale:bounds"), ["endpoint.replicas: 4 to 12 -> 2 to 10"]),
    "the revision's tag is taken away": (_untag("mlscale:revision"), ["endpoint/configure"]),
    "a model's tag is taken away": (
        _untag_model,
        [
            "revision e35d20e47b: stable 100% -> None",
            "revision 7634b9e160: None -> stable 100%",
            "model.handler: None -> 645bb07236dd6e61",
        ],
    ),
    "the volume is another": (_another_volume, ["sagemaker.volume_size: 100Gi -> 50Gi"]),
}
"""What somebody does, and what a plan then shows."""


@pytest.mark.parametrize("case", BY_HAND)
def test_what_others_change_is_shown_and_put_right(aws: OnSageMaker, case: str) -> None:
    """A plan shows each change in the spec's words; a deploy undoes it, and then a plan has nothing more to do."""
    by_hand, shown = BY_HAND[case]
    assert aws.plan() == []

    by_hand(aws)

    assert aws.plan() == shown
    aws.good("deploy")
    assert aws.plan() == []


@pytest.mark.parametrize(
    ("by_hand", "shown"),
    [
        (_another_machine, "endpoint.machine: ml.m5.large -> ml.c6i.xlarge, ml.c5.xlarge"),
        (_another_model, "model.environment.STAGE: by hand -> test"),
        (_delete_model, "endpoint.machine: None -> ml.c6i.xlarge, ml.c5.xlarge"),
        (_delete_config, "sagemaker.volume_size: None -> 50Gi"),
        (_delete_endpoint, "revision 7634b9e160: None -> stable 100%"),
    ],
    ids=["another machine", "another model", "no model", "no config", "no endpoint"],
)
def test_what_serves_is_put_right(aws: OnSageMaker, by_hand: Callable[[OnSageMaker], None], shown: str) -> None:
    """Another arrangement, or one of which a part is gone, is shown; what was asked serves again, with its scaling."""
    before = aws.resources()
    by_hand(aws)

    assert shown in aws.plan()
    aws.good("deploy")

    after = aws.resources()
    assert aws.plan() == []
    assert after["endpoints"]["reviews"]["tags"] == before["endpoints"]["reviews"]["tags"]
    assert _policies(after) == _policies(before)
    assert _alarms(after) == _alarms(before)


@pytest.mark.parametrize("outcome", ["done", "rollback"])
def test_an_update_that_somebody_began_is_undone(aws: OnSageMaker, outcome: str) -> None:
    """A deploy waits for what goes on, however it ends, and then makes what was asked serve."""
    aws.double.post("settings", delay_s=0.6)
    aws.double.post("script", endpoint="reviews", on="update", outcome=outcome)
    _another_arrangement(aws, waits=False, VolumeSizeInGB=100)

    aws.good("deploy")

    assert aws.plan() == []
    resources = aws.resources()
    config = resources["endpoint_configs"][resources["endpoints"]["reviews"]["config"]]
    assert config["ProductionVariants"][0]["VolumeSizeInGB"] == 50


def _policies(resources: Any) -> Sequence[str]:
    return sorted(each["PolicyName"] for each in resources["scaling_policies"])


def _alarms(resources: Any) -> Sequence[str]:
    """Return our alarms: those of a target policy are AWS's, each with an id of its own."""
    return sorted(name for name in resources["alarms"] if not name.startswith("TargetTracking-"))


@pytest.mark.parametrize(
    "moved",
    [{"count": 9}, {"weight": 0.1}, {"count": 4, "pools": {"ml.c5.xlarge": 4}}],
    ids=["more instances", "a weight that comes back as a float", "a fallback machine"],
)
def test_what_moves_by_itself_is_no_difference(aws: OnSageMaker, moved: Any) -> None:
    """Autoscaling's counts, a weight of 32 bits and the machine that had capacity leave a plan empty."""
    aws.double.post("move", endpoint="reviews", variant="a", **moved)

    assert aws.plan() == []
    assert "No changes" in aws.good("plan").stdout


def test_a_schedule_that_fired_is_no_difference(aws: OnSageMaker) -> None:
    """The bounds that a scheduled action gives the target are what the spec asks for, by day and by night."""
    for low, high in ((2, 10), (4, 12)):
        _scaling(aws, "register_scalable_target", MinCapacity=low, MaxCapacity=high)  # as the action does
        assert aws.plan() == []


def test_another_workspace_sees_the_same(aws: OnSageMaker) -> None:
    """What is there is read from the cloud, whoever asks: a plan with an empty workspace is empty, too."""
    assert aws.plan("--workspace", f"s3://{BUCKET}/another") == []


def test_a_lost_workspace_loses_nothing_else(aws: OnSageMaker) -> None:
    """Without a record of ours a deployment is planned, shown, changed, rolled back, tidied and taken down."""
    first = aws.good("status", "--output", "json").data

    def lose() -> None:
        storage = aws.double.client("s3")
        for each in storage.list_objects_v2(Bucket=BUCKET, Prefix="team/")["Contents"]:
            if not each["Key"].startswith(UPLOADS):
                storage.delete_object(Bucket=BUCKET, Key=each["Key"])

    lose()
    assert aws.plan() == []
    assert aws.good("status", "--output", "json").data["revisions"] == first["revisions"]
    lose()
    aws.new_handler(2)
    aws.good("deploy")
    lose()
    aws.good("rollback")
    assert _serving(aws) == first["revisions"][0]["revision"]["id"]
    lose()
    aws.good("gc")
    assert len(aws.resources()["models"]) == 1
    lose()
    aws.good("destroy", "--yes")
    left = {key for key, value in aws.resources().items() if value}
    assert left <= {"log_groups"}


def test_a_revision_that_is_kept_knows_its_machines(aws: OnSageMaker) -> None:
    """Without a record of ours a rollback finds those that there are, each with its machines, and no other."""
    (first,) = aws.good("status", "--output", "json").data["revisions"]
    aws.good("deploy", "--env", "bigger")
    storage = aws.double.client("s3")
    for each in storage.list_objects_v2(Bucket=BUCKET, Prefix="team/revisions/")["Contents"]:
        storage.delete_object(Bucket=BUCKET, Key=each["Key"])

    unknown = aws.run("rollback", "--to", "0123456789")
    aws.good("rollback")

    (served,) = aws.good("status", "--output", "json").data["revisions"]
    assert served["revision"] == first["revision"]
    assert unknown.stderr.count(", ") == 1  # two are known


def _serving(aws: OnSageMaker) -> str:
    (served,) = aws.good("status", "--output", "json").data["revisions"]
    found: str = served["revision"]["id"]
    return found


def test_what_others_add_is_left_alone(aws: OnSageMaker) -> None:
    """A tag, a policy, a schedule, an alarm, a dashboard, a Model that are not ours outlive deploy, gc and destroy."""
    sagemaker, watching = aws.double.client("sagemaker"), aws.double.client("cloudwatch")
    sagemaker.add_tags(ResourceArn=ENDPOINT, Tags=[{"Key": "cost-center", "Value": "7"}])
    _scaling(
        aws,
        "put_scaling_policy",
        PolicyName="theirs",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
        },
    )
    bounds = {"MinCapacity": 2, "MaxCapacity": 10}
    _scaling(
        aws, "put_scheduled_action", ScheduledActionName="theirs", Schedule="rate(1 day)", ScalableTargetAction=bounds
    )
    (alarm,) = watching.describe_alarms(AlarmNames=["mlscale/reviews/p99_latency"])["MetricAlarms"]
    known = watching.meta.service_model.operation_model("PutMetricAlarm").input_shape.members
    for name in ("theirs", "mlscale/reviews-prod/p99_latency"):
        watching.put_metric_alarm(**{key: value for key, value in {**alarm, "AlarmName": name}.items() if key in known})
    watching.put_dashboard(DashboardName="mlscale-reviews-prod", DashboardBody='{"widgets": []}')
    model = sagemaker.describe_model(ModelName=_only_model(aws)["ModelName"])
    for name in ("reviews-of-theirs", "reviews-prod-0123456789-01234567"):
        sagemaker.create_model(
            ModelName=name, PrimaryContainer=model["PrimaryContainer"], ExecutionRoleArn=model["ExecutionRoleArn"]
        )

    assert aws.plan() == []
    aws.new_handler(2)
    aws.good("deploy")
    aws.good("gc")
    changed = aws.resources()
    aws.good("destroy", "--yes")

    assert changed["endpoints"]["reviews"]["tags"]["cost-center"] == "7"
    assert "theirs" in _policies(changed)
    assert "theirs" in [each["ScheduledActionName"] for each in changed["scheduled_actions"]]
    left = aws.resources()
    assert set(left["alarms"]) == {"theirs", "mlscale/reviews-prod/p99_latency"}
    assert set(left["dashboards"]) == {"mlscale-reviews-prod"}
    assert set(left["models"]) == {"reviews-of-theirs", "reviews-prod-0123456789-01234567"}


def test_an_endpoint_that_somebody_made_is_taken_over(aws: OnSageMaker) -> None:
    """It is not touched before `import`; after that a deploy makes of it what the spec asks for, in its own variant."""
    client = aws.double.client("sagemaker")
    model = client.describe_model(ModelName=_only_model(aws)["ModelName"])
    aws.good("destroy", "--yes")
    role = model["ExecutionRoleArn"]
    container = {"Image": model["PrimaryContainer"]["Image"]}
    client.create_model(ModelName="by-hand", PrimaryContainer=container, ExecutionRoleArn=role)
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": "by-hand",
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 3,
    }
    client.create_endpoint_config(EndpointConfigName="by-hand", ProductionVariants=[variant])
    client.create_endpoint(EndpointName="reviews", EndpointConfigName="by-hand")
    client.get_waiter("endpoint_in_service").wait(EndpointName="reviews", WaiterConfig={"Delay": 0})

    refused = aws.run("plan")
    aws.good("import")
    shown = aws.plan()
    aws.good("deploy")

    assert refused.code == 1
    assert "mlscale import" in refused.stderr
    assert "endpoint.machine: ml.m5.large -> ml.c6i.xlarge, ml.c5.xlarge" in shown
    assert aws.plan() == []
    resources = aws.resources()
    assert list(resources["endpoints"]["reviews"]["variants"]) == ["AllTraffic"]
    assert {each["ResourceId"] for each in resources["scalable_targets"]} == {"endpoint/reviews/variant/AllTraffic"}
    assert resources["endpoints"]["reviews"]["variants"]["AllTraffic"]["count"] == 4
    assert "by-hand" in resources["models"]


def test_a_count_that_nothing_moves_is_put_right(aws: OnSageMaker) -> None:
    """An endpoint of a fixed count has it again after a deploy."""
    aws.good("deploy", *FIXED)
    aws.double.post("move", endpoint="reviews", variant="a", count=3)

    assert aws.plan(*FIXED) == ["endpoint.replicas: 3 -> 6"]
    aws.good("deploy", *FIXED)
    assert aws.plan(*FIXED) == []
    assert aws.resources()["endpoints"]["reviews"]["variants"]["a"]["count"] == 6


def test_many_deployments_are_read_as_one_is(aws: OnSageMaker) -> None:
    """What lists of the whole account tell of each kind, of what is left of one and of none is the same."""
    aws.good("deploy", "--env", "serverless")
    aws.good("deploy", "--env", "async")
    client = aws.double.client("sagemaker")
    client.delete_endpoint(EndpointName="reviews-serverless")
    client.get_waiter("endpoint_deleted").wait(EndpointName="reviews-serverless", WaiterConfig={"Delay": 0})
    sessions = [open_session(aws.world, Path("spec.yaml"), env=env) for env in ("blue", "serverless", "async")]
    sessions.append(open_session(aws.world, Path("spec.yaml"), overrides=["name=nothing"]))
    provider, identities = sessions[0].provider, [each.identity for each in sessions]

    found = provider.read_all(identities)

    assert found == [provider.read(each) for each in identities]
    assert [bool(each and each.revisions) for each in found] == [True, False, True, False]
    assert found[3] is None


@pytest.mark.parametrize("env", ["blue", "bigger"])
def test_no_update_takes_capacity_away(aws: OnSageMaker, env: str) -> None:
    """What autoscaling had come to is there at every moment of an update, and after it."""
    aws.double.post("move", endpoint="reviews", variant="a", count=9)
    aws.new_handler(2)
    counts: list[int] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            variants = aws.double.get("resources")["endpoints"]["reviews"]["variants"]
            counts.append(sum(each["count"] for each in variants.values()))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        aws.good("deploy", "--env", env)
    finally:
        over.set()
        looking.join()

    assert min(counts) >= 9
    assert aws.resources()["endpoints"]["reviews"]["variants"]["a"]["count"] == 9
    assert aws.plan("--env", env) == []
