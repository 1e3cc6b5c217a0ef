"""Scaling in Application Auto Scaling's words: its requests, what is read back, and what is put right again."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlscale.autoscaling.policy import effective_bounds
from mlscale.deployment import CustomMetric, Kind, Metric, Scaling, ScheduledBounds, StepPolicy, TargetPolicy
from mlscale.providers.contract import Refusal
from mlscale.providers.sagemaker import scaling
from mlscale.providers.sagemaker.calls import Call
from mlscale.providers.sagemaker.scaling import SeenScaling
from tests.unit.test_sagemaker_schedules import crons

NOON = datetime(2026, 6, 3, 12, 0, tzinfo=UTC)  # a Wednesday
ARN = "arn:aws:autoscaling:us-east-1:123456789012:scalingPolicy"
RESOURCE = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "endpoint/reviews/variant/a",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}
BY_VARIANT = [{"Name": "EndpointName", "Value": "reviews"}, {"Name": "VariantName", "Value": "a"}]
BY_ENDPOINT = [{"Name": "EndpointName", "Value": "reviews"}]
SESSION = botocore.session.get_session()
OPERATIONS = {
    service: {
        botocore.xform_name(operation): SESSION.get_service_model(service).operation_model(operation).input_shape
        for operation in SESSION.get_service_model(service).operation_names
    }
    for service in ("application-autoscaling", "cloudwatch")
}


@dataclass
class Cloud:
    """Application Auto Scaling and CloudWatch, as far as one variant's scaling needs them.

    A policy needs its target and goes with it; a request replaces what it names. `forgets_arns` gives a policy that is
    put again another ARN, which AWS does not do and its imitations do.
    """

    forgets_arns: bool = False
    count: int = 2
    target: dict[str, Any] | None = None
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    actions: dict[str, dict[str, Any]] = field(default_factory=dict)
    alarms: dict[str, dict[str, Any]] = field(default_factory=dict)
    bounds: str = ""
    puts: int = 0

    def apply(self, call: Call) -> None:
        """Do what one call asks, which must be one that AWS knows."""
        report = ParamValidator().validate(dict(call.request), OPERATIONS[call.service][call.operation])
        assert not report.has_errors(), report.generate_report()
        getattr(self, call.operation)(copy.deepcopy(dict(call.request)))

    def register_scalable_target(self, request: dict[str, Any]) -> None:
        """Make the target, or change what the request names of it."""
        awake = dict.fromkeys(
            ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended"), False
        )
        self.target = {"SuspendedState": awake, "CreationTime": NOON, **(self.target or {}), **request}
        assert self.target["MinCapacity"] <= self.target["MaxCapacity"]

    def deregister_scalable_target(self, request: dict[str, Any]) -> None:
        """Take the target away with all that hangs on it."""
        assert self.target is not None
        assert request == RESOURCE
        self.target, self.policies, self.actions = None, {}, {}

    def put_scaling_policy(self, request: dict[str, Any]) -> None:
        """Make a policy, or replace the one of that name and type."""
        assert self.target is not None
        name = request["PolicyName"]
        assert self.policies.get(name, request)["PolicyType"] == request["PolicyType"]
        self.puts += 1
        arn = f"{ARN}:{self.puts if self.forgets_arns else 0}:policyName/{name}"
        self.policies[name] = {"PolicyARN": arn, "Alarms": [], "CreationTime": NOON, **request}

    def delete_scaling_policy(self, request: dict[str, Any]) -> None:
        """Delete a policy that is there."""
        del self.policies[request["PolicyName"]]

    def put_scheduled_action(self, request: dict[str, Any]) -> None:
        """Make an action, or replace the one of that name."""
        assert self.target is not None
        self.actions[request["ScheduledActionName"]] = {"CreationTime": NOON, **request}

    def delete_scheduled_action(self, request: dict[str, Any]) -> None:
        """Delete an action that is there."""
        del self.actions[request["ScheduledActionName"]]

    def put_metric_alarm(self, request: dict[str, Any]) -> None:
        """Make an alarm, or replace all that one of that name has."""
        del request["Tags"]
        empty: dict[str, Any] = {"OKActions": [], "InsufficientDataActions": []}
        self.alarms[request["AlarmName"]] = {"StateValue": "OK", "AlarmArn": "arn", **empty, **request}

    def delete_alarms(self, request: dict[str, Any]) -> None:
        """Delete alarms that are there."""
        for name in request["AlarmNames"]:
            del self.alarms[name]

    @property
    def seen(self) -> SeenScaling:
        """What AWS answers; in no order that says anything."""
        return SeenScaling(
            target=self.target,
            policies=list(reversed(self.policies.values())),
            actions=list(reversed(self.actions.values())),
            alarms=list(self.alarms.values()),
            bounds=self.bounds,
            count=self.count,
        )


def converge(cloud: Cloud, kind: Kind, asked: Scaling) -> int:
    """Make `cloud` as asked, as the provider does it: calls and the tag, until none is left; return the rounds."""
    for rounds in range(4):
        found = scaling.calls("reviews", "a", kind, asked, cloud.seen, NOON)
        cloud.bounds = scaling.bounds_text(scaling.canonical(asked))
        if not found:
            if cloud.target is None:
                cloud.count = asked.min
            return rounds
        for call in found:
            cloud.apply(call)
    raise AssertionError(found)


def read(cloud: Cloud, kind: Kind) -> Scaling:
    """Return what the cloud's answers amount to."""
    return scaling.scaling_of(cloud.seen, kind)


seconds = st.integers(0, 100_000).map(lambda each: timedelta(milliseconds=each * 50))
values = st.floats(0.01, 1e6, allow_nan=False) | st.integers(1, 1000).map(float)
customs = st.builds(
    CustomMetric,
    st.sampled_from(("Reviews", "AWS/SageMaker")),
    st.sampled_from(("QueueWait", "CPUUtilization")),
    st.sampled_from(("Average", "Sum")),
    st.dictionaries(st.sampled_from(("Stage", "EndpointName")), st.sampled_from(("production", "reviews"))),
)
MEASURED = {
    Kind.REALTIME: (Metric.INVOCATIONS_PER_REPLICA, Metric.CONCURRENCY, Metric.CPU, Metric.GPU),
    Kind.ASYNC: (Metric.QUEUE_DEPTH, Metric.CPU, Metric.GPU),
}


def _targets(kind: Kind) -> st.SearchStrategy[TargetPolicy]:
    own = st.builds(TargetPolicy, st.just(Metric.CUSTOM), values, seconds, seconds, customs)
    return own | st.builds(TargetPolicy, st.sampled_from(MEASURED[kind]), values, seconds, seconds)


def _steps(kind: Kind) -> st.SearchStrategy[StepPolicy]:
    fixed = (StepPolicy, st.sampled_from(MEASURED[kind]), st.sampled_from((-3, -1, 1, 2)))
    return st.builds(*fixed, above=values, cooldown=seconds) | st.builds(*fixed, below=values, cooldown=seconds)


def _entries(least: int) -> st.SearchStrategy[ScheduledBounds]:
    bounds = st.lists(st.integers(least, 6), min_size=2, max_size=2).map(sorted).map(tuple)
    either = st.integers(least, 6).flatmap(lambda each: st.sampled_from(((each, None), (None, each))))
    zones = st.sampled_from(("UTC", "Europe/Berlin"))
    return st.tuples(crons(), zones, bounds | either).map(lambda each: ScheduledBounds(each[0], each[1], *each[2]))


@st.composite
def scalings(draw: st.DrawFn, kind: Kind) -> Scaling:
    """Scalings that SageMaker can do for `kind`."""
    if kind is Kind.SERVERLESS:
        return Scaling(0, 0)
    least = 0 if kind is Kind.ASYNC else 1
    low, high = sorted((draw(st.integers(least, 6)), draw(st.integers(least, 6))))
    tracked = st.lists(
        _targets(kind), max_size=3, unique_by=lambda each: (each.metric, each.custom and each.custom.name)
    )
    found = Scaling(low, high, tuple(draw(tracked)), tuple(draw(st.lists(_steps(kind), max_size=3))))
    for entry in draw(st.lists(_entries(least), max_size=3)):
        more = replace(found, schedule=(*found.schedule, entry))
        found = found if scaling.refusals(more, kind) else more
    assert scaling.refusals(found, kind) == ()
    return found


@st.composite
def changes(draw: st.DrawFn) -> tuple[Kind, Scaling, Scaling]:
    """Draw a kind of endpoint and two scalings that it can have."""
    kind = draw(st.sampled_from(Kind))
    return kind, draw(scalings(kind)), draw(scalings(kind))


# A scaling has many parts, and each is a draw; how long one takes depends on who else uses the machine.
thorough = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@thorough
@given(changes(), st.builds(Cloud, st.booleans()))
def test_whatever_is_asked_is_what_is_read_back(change: tuple[Kind, Scaling, Scaling], cloud: Cloud) -> None:
    """From nothing to any scaling and on to any other it takes at most three rounds, and each is read back whole."""
    kind, first, second = change

    for asked in (first, second, first):
        assert converge(cloud, kind, asked) <= 3
        assert read(cloud, kind) == scaling.canonical(asked)


@thorough
@given(changes(), st.data())
def test_a_run_that_was_cut_off_is_finished_by_the_next(
    change: tuple[Kind, Scaling, Scaling], data: st.DataObject
) -> None:
    """Wherever a run stops, what is read is not what was asked as long as something is left to do for it."""
    kind, first, second = change
    cloud = Cloud()
    converge(cloud, kind, first)
    for call in scaling.calls("reviews", "a", kind, second, cloud.seen, NOON)[: data.draw(st.integers(0, 5))]:
        cloud.apply(call)

    if scaling.calls("reviews", "a", kind, second, cloud.seen, NOON):
        assert read(cloud, kind) != scaling.canonical(second)
    converge(cloud, kind, second)

    assert read(cloud, kind) == scaling.canonical(second)


@thorough
@given(changes())
def test_release_leaves_nothing(change: tuple[Kind, Scaling, Scaling]) -> None:
    """After it there is no target, policy, action or alarm, and nothing more to release."""
    kind, asked, _ = change
    cloud = Cloud()
    converge(cloud, kind, asked)

    for call in scaling.release_calls("reviews", "a", cloud.seen):
        cloud.apply(call)

    assert (cloud.target, cloud.policies, cloud.actions, cloud.alarms) == (None, {}, {}, {})
    assert scaling.release_calls("reviews", "a", cloud.seen) == ()


IDENTITY = {*RESOURCE, "PolicyName", "ScheduledActionName", "AlarmName", "PolicyARN", "AlarmArn", "CreationTime"} | {
    "StateValue",
    "Alarms",
}
ADDED: Mapping[str, Mapping[str, Any]] = {
    "actions": {"StartTime": NOON, "EndTime": NOON},
    "alarms": {
        "Unit": "Percent",
        "ExtendedStatistic": "p99",
        "EvaluateLowSampleCountPercentile": "ignore",
        "InsufficientDataActions": ["arn:aws:sns:us-east-1:123456789012:other"],
        "OKActions": ["arn:aws:sns:us-east-1:123456789012:other"],
    },
}


def spots(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield each place in an answer that somebody can have changed, and another value for it."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in IDENTITY:
                yield from spots(item, (*path, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from spots(item, (*path, number))
    elif isinstance(value, bool):
        yield path, not value
    elif isinstance(value, str):
        yield path, f"{value}x"
    elif isinstance(value, int | float):
        yield path, value + 1


@dataclass(frozen=True)
class Tampering:
    """One change by hand: of one place in a thing, or the whole thing gone where there is no place."""

    group: str
    name: str
    place: tuple[Any, ...] = ()
    value: Any = None

    def do(self, cloud: Cloud) -> None:
        """Change the cloud."""
        if not self.place:
            del getattr(cloud, self.group)[self.name]
            return
        thing: Any = cloud.target if self.group == "target" else getattr(cloud, self.group)[self.name]
        for key in self.place[:-1]:
            thing = thing[key]
        thing[self.place[-1]] = self.value


def tamperings(cloud: Cloud, asked: Scaling) -> Iterator[Tampering]:
    """Yield each single change by hand of what is there, but for bounds that the schedule can have made."""
    target = cloud.target or {}
    explained = {(asked.min, asked.max), *((each.min, each.max) for each in asked.schedule)}
    for place, value in spots(target):
        changed = {**target, place[0]: value}
        if place[0] == "SuspendedState" or (changed["MinCapacity"], changed["MaxCapacity"]) not in explained:
            yield Tampering("target", "", place, value)
    for group in ("policies", "actions", "alarms"):
        for name, thing in getattr(cloud, group).items():
            yield Tampering(group, name)
            added: list[tuple[tuple[Any, ...], Any]] = [((key,), each) for key, each in ADDED.get(group, {}).items()]
            if "StepScalingPolicyConfiguration" in thing:
                added += [(("StepScalingPolicyConfiguration", "MinAdjustmentMagnitude"), 2)]
            for place, value in (*spots(thing), *added):
                yield Tampering(group, name, place, value)


@settings(parent=thorough, max_examples=12)
@given(changes())
def test_a_change_by_hand_is_seen_and_put_right(change: tuple[Kind, Scaling, Scaling]) -> None:
    """Any one field of a target, policy, action or alarm changed, or one of them gone: it shows, and is mended."""
    kind, asked, _ = change
    asked = scaling.canonical(asked)
    whole = Cloud()
    converge(whole, kind, asked)

    for tampering in tamperings(whole, asked):
        cloud = copy.deepcopy(whole)
        tampering.do(cloud)
        assert read(cloud, kind) != asked, tampering
        assert scaling.calls("reviews", "a", kind, asked, cloud.seen, NOON), tampering
        converge(cloud, kind, asked)
        assert read(cloud, kind) == asked, tampering


FULL = Scaling(
    2,
    10,
    (
        TargetPolicy(Metric.INVOCATIONS_PER_REPLICA, 600),
        TargetPolicy(
            Metric.CUSTOM, 2.5, custom=CustomMetric("Reviews", "QueueWait", "Maximum", {"Stage": "production"})
        ),
    ),
    (StepPolicy(Metric.CPU, 2, above=85, cooldown=timedelta(seconds=90)), StepPolicy(Metric.GPU, -1, below=10)),
    (ScheduledBounds("0 8 * * mon-fri", "Europe/Berlin", min=4),),
)


def requests(found: tuple[Call, ...], operation: str) -> list[Mapping[str, Any]]:
    """Return the requests of one operation."""
    return [call.request for call in found if call.operation == operation]


def test_first_round_registers_and_puts_policies_and_schedule() -> None:
    """The target has the bounds of the entry that fired last; an entry sends both bounds, as one alone would drift."""
    found = scaling.calls("reviews", "a", Kind.REALTIME, FULL, SeenScaling(count=2), NOON)

    assert [call.operation for call in found] == [
        "register_scalable_target",
        *["put_scaling_policy"] * 4,
        "put_scheduled_action",
    ]
    assert found[0].request == {**RESOURCE, "MinCapacity": 4, "MaxCapacity": 10}
    assert requests(found, "put_scheduled_action") == [
        {
            **RESOURCE,
            "ScheduledActionName": "mlscale-schedule-1",
            "Schedule": "cron(0 8 ? * MON-FRI *)",
            "Timezone": "Europe/Berlin",
            "ScalableTargetAction": {"MinCapacity": 4, "MaxCapacity": 10},
        }
    ]
    configurations = [list(each.items())[-1] for each in requests(found, "put_scaling_policy")]
    tracking, stepping = "TargetTrackingScalingPolicyConfiguration", "StepScalingPolicyConfiguration"
    cooldowns = {"ScaleInCooldown": 300, "ScaleOutCooldown": 30, "DisableScaleIn": False}
    own = {
        "Namespace": "Reviews",
        "MetricName": "QueueWait",
        "Statistic": "Maximum",
        "Dimensions": [{"Name": "Stage", "Value": "production"}],
    }
    predefined = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
    change = {"AdjustmentType": "ChangeInCapacity", "MetricAggregationType": "Average"}
    assert configurations == [
        (tracking, {"TargetValue": 2.5, "CustomizedMetricSpecification": own, **cooldowns}),
        (tracking, {"TargetValue": 600.0, "PredefinedMetricSpecification": predefined, **cooldowns}),
        (
            stepping,
            {
                **change,
                "Cooldown": 90,
                "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 2}],
            },
        ),
        (
            stepping,
            {
                **change,
                "Cooldown": 60,
                "StepAdjustments": [{"MetricIntervalUpperBound": 0.0, "ScalingAdjustment": -1}],
            },
        ),
    ]


def test_an_alarm_comes_when_its_policy_has_an_arn() -> None:
    """The second round has the alarms that drive the steps, and the third has nothing."""
    cloud = Cloud()
    for call in scaling.calls("reviews", "a", Kind.REALTIME, FULL, cloud.seen, NOON):
        cloud.apply(call)

    second = scaling.calls("reviews", "a", Kind.REALTIME, FULL, cloud.seen, NOON)
    for call in second:
        cloud.apply(call)

    assert requests(second, "put_metric_alarm") == [
        {
            "AlarmName": "mlscale/reviews/step-1",
            "AlarmDescription": "Replicas of reviews: +2 while cpu is above 85. By mlscale.",
            "ActionsEnabled": True,
            "AlarmActions": [f"{ARN}:0:policyName/mlscale-step-1"],
            "Namespace": "/aws/sagemaker/Endpoints",
            "MetricName": "CPUUtilization",
            "Statistic": "Average",
            "Dimensions": BY_VARIANT,
            "Period": 60,
            "EvaluationPeriods": 1,
            "DatapointsToAlarm": 1,
            "Threshold": 85.0,
            "ComparisonOperator": "GreaterThanThreshold",
            "TreatMissingData": "notBreaching",
            "Tags": [{"Key": "mlscale:name", "Value": "reviews"}],
        },
        {
            "AlarmName": "mlscale/reviews/step-2",
            "AlarmDescription": "Replicas of reviews: -1 while gpu is below 10. By mlscale.",
            "ActionsEnabled": True,
            "AlarmActions": [f"{ARN}:0:policyName/mlscale-step-2"],
            "Namespace": "/aws/sagemaker/Endpoints",
            "MetricName": "GPUUtilization",
            "Statistic": "Average",
            "Dimensions": BY_VARIANT,
            "Period": 60,
            "EvaluationPeriods": 1,
            "DatapointsToAlarm": 1,
            "Threshold": 10.0,
            "ComparisonOperator": "LessThanThreshold",
            "TreatMissingData": "notBreaching",
            "Tags": [{"Key": "mlscale:name", "Value": "reviews"}],
        },
    ]
    assert len(second) == 2
    assert scaling.calls("reviews", "a", Kind.REALTIME, FULL, cloud.seen, NOON) == ()


def test_a_queue_wakes_what_sleeps() -> None:
    """An async endpoint that may have no replica gets the policy and alarm that AWS documents for the first one."""
    cloud = Cloud()
    asleep = Scaling(0, 3, (TargetPolicy(Metric.QUEUE_DEPTH, 5),))

    converge(cloud, Kind.ASYNC, asleep)

    assert sorted(cloud.policies) == ["mlscale-target-queue_depth", "mlscale-wake"]
    assert cloud.policies["mlscale-wake"]["StepScalingPolicyConfiguration"] == {
        "AdjustmentType": "ChangeInCapacity",
        "MetricAggregationType": "Average",
        "Cooldown": 300,
        "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
    }
    alarm = cloud.alarms["mlscale/reviews/wake"]
    assert (alarm["MetricName"], alarm["Dimensions"], alarm["Threshold"], alarm["ComparisonOperator"]) == (
        "HasBacklogWithoutCapacity",
        BY_ENDPOINT,
        1.0,
        "GreaterThanOrEqualToThreshold",
    )
    assert cloud.policies["mlscale-target-queue_depth"]["TargetTrackingScalingPolicyConfiguration"][
        "CustomizedMetricSpecification"
    ] == {
        "Namespace": "AWS/SageMaker",
        "MetricName": "ApproximateBacklogSizePerInstance",
        "Statistic": "Average",
        "Dimensions": BY_ENDPOINT,
    }


def test_what_cannot_wake_is_not_at_zero() -> None:
    """Without its alarm the least is told as one: a difference from the zero that was asked."""
    cloud = Cloud()
    converge(cloud, Kind.ASYNC, Scaling(0, 3))
    cloud.alarms.clear()

    assert read(cloud, Kind.ASYNC) == Scaling(1, 3)


NIGHT_AND_DAY = Scaling(
    2,
    10,
    (TargetPolicy(Metric.CPU, 70.0),),
    schedule=(ScheduledBounds("0 8 * * *", "UTC", 4, 12), ScheduledBounds("0 20 * * *", "UTC", 1, 5)),
)


@pytest.mark.parametrize(("low", "high"), [(4, 12), (1, 5)])
def test_a_schedule_that_has_fired_is_no_difference(low: int, high: int) -> None:
    """The target's bounds are those of an entry: read back are those of the tag, and nothing is to do."""
    cloud = Cloud()
    converge(cloud, Kind.REALTIME, NIGHT_AND_DAY)
    cloud.register_scalable_target({"MinCapacity": low, "MaxCapacity": high})

    assert read(cloud, Kind.REALTIME) == NIGHT_AND_DAY
    assert scaling.calls("reviews", "a", Kind.REALTIME, NIGHT_AND_DAY, cloud.seen, NOON) == ()


def test_bounds_that_no_entry_explains_become_those_of_now() -> None:
    """Somebody set 3 to 12: it shows, and at noon the day's entry holds again."""
    cloud = Cloud()
    converge(cloud, Kind.REALTIME, NIGHT_AND_DAY)
    cloud.register_scalable_target({"MinCapacity": 3, "MaxCapacity": 12})

    assert read(cloud, Kind.REALTIME) == replace(NIGHT_AND_DAY, min=3, max=12)
    assert scaling.calls("reviews", "a", Kind.REALTIME, NIGHT_AND_DAY, cloud.seen, NOON) == (
        Call("application-autoscaling", "register_scalable_target", {**RESOURCE, "MinCapacity": 4, "MaxCapacity": 12}),
    )


def test_a_changed_schedule_holds_from_now() -> None:
    """A new entry whose time was this morning sets the bounds at once, not only tomorrow."""
    cloud = Cloud()
    converge(cloud, Kind.REALTIME, NIGHT_AND_DAY)
    busier = replace(NIGHT_AND_DAY, schedule=(ScheduledBounds("0 9 * * *", "UTC", 6, 12), NIGHT_AND_DAY.schedule[1]))

    found = scaling.calls("reviews", "a", Kind.REALTIME, busier, cloud.seen, NOON)

    assert [call.operation for call in found] == ["register_scalable_target", "put_scheduled_action"]
    assert found[0].request == {**RESOURCE, "MinCapacity": 6, "MaxCapacity": 12}


def test_entries_that_change_places_hold_from_now() -> None:
    """The bounds of day and night are the same two, but at noon it is now the night's entry that holds."""
    cloud = Cloud()
    converge(cloud, Kind.REALTIME, NIGHT_AND_DAY)
    day, night = NIGHT_AND_DAY.schedule
    swapped = replace(NIGHT_AND_DAY, schedule=(replace(day, cron=night.cron), replace(night, cron=day.cron)))

    found = scaling.calls("reviews", "a", Kind.REALTIME, swapped, cloud.seen, NOON)

    assert found[0].request == {**RESOURCE, "MinCapacity": 1, "MaxCapacity": 5}


@thorough
@given(st.sampled_from((Kind.REALTIME, Kind.ASYNC)).flatmap(scalings), st.integers(0, 10**8))
def test_canonical_bounds_are_those_of_the_spec_at_any_time(asked: Scaling, later: int) -> None:
    """Filled in and in another writing, an entry means what the schedule on this machine makes of it."""
    now = NOON + timedelta(seconds=later)

    assert effective_bounds(scaling.canonical(asked), now) == effective_bounds(asked, now)


def test_a_suspended_target_is_resumed() -> None:
    """Scaling that somebody suspended reads as a fixed count, and is registered again, not suspended."""
    cloud = Cloud(count=3)
    tracked = Scaling(2, 10, (TargetPolicy(Metric.CPU, 70.0),))
    converge(cloud, Kind.REALTIME, tracked)
    cloud.register_scalable_target({"SuspendedState": {"DynamicScalingInSuspended": True}})

    awake = {
        "DynamicScalingInSuspended": False,
        "DynamicScalingOutSuspended": False,
        "ScheduledScalingSuspended": False,
    }
    assert read(cloud, Kind.REALTIME) == Scaling(3, 3)
    assert scaling.calls("reviews", "a", Kind.REALTIME, tracked, cloud.seen, NOON) == (
        Call(
            "application-autoscaling",
            "register_scalable_target",
            {**RESOURCE, "MinCapacity": 2, "MaxCapacity": 10, "SuspendedState": awake},
        ),
    )


def test_a_fixed_count_has_no_target() -> None:
    """From two to ten back to three: the alarms go, then the target, and with it all that hangs on it."""
    cloud = Cloud()
    converge(cloud, Kind.REALTIME, FULL)

    assert scaling.calls("reviews", "a", Kind.REALTIME, Scaling(3, 3), cloud.seen, NOON) == (
        Call("cloudwatch", "delete_alarms", {"AlarmNames": ["mlscale/reviews/step-1", "mlscale/reviews/step-2"]}),
        Call("application-autoscaling", "deregister_scalable_target", RESOURCE),
    )


def test_alarms_that_watch_are_let_be() -> None:
    """What is not a step's or the queue's alarm is none of scaling's, nor is what another deployment has."""
    others = [{"AlarmName": each} for each in ("mlscale/reviews/error_rate", "mlscale/reviews-2/step-1", "step-1")]

    assert scaling.release_calls("reviews", "a", SeenScaling(alarms=others)) == ()


ZERO = "only an async endpoint has a queue for when no replica runs"
UNPUBLISHED = "an async endpoint does not publish it, so nothing would ever scale: use queue_depth"


@pytest.mark.parametrize(
    ("kind", "asked", "expected"),
    [
        (
            Kind.SERVERLESS,
            Scaling(1, 2),
            Refusal(
                "endpoint.autoscaling",
                "a serverless endpoint has no replicas: serverless.concurrency bounds it, and AWS does the rest",
                scaling.LINK_TO_SERVERLESS,
            ),
        ),
        (Kind.REALTIME, Scaling(0, 2), Refusal("endpoint.replicas", ZERO, scaling.LINK_TO_SCALING)),
        (
            Kind.ASYNC,
            Scaling(1, 2, (TargetPolicy(Metric.INVOCATIONS_PER_REPLICA, 5.0),)),
            Refusal("endpoint.autoscaling.target[0].metric", UNPUBLISHED, scaling.LINK_TO_ASYNC),
        ),
        (
            Kind.ASYNC,
            Scaling(1, 2, steps=(StepPolicy(Metric.CONCURRENCY, 1, above=5.0),)),
            Refusal("endpoint.autoscaling.steps[0].metric", UNPUBLISHED, scaling.LINK_TO_ASYNC),
        ),
        (
            Kind.REALTIME,
            Scaling(1, 2, (TargetPolicy(Metric.CPU, 5.0), TargetPolicy(Metric.QUEUE_DEPTH, 5.0))),
            Refusal(
                "endpoint.autoscaling.target[1].metric", "only an async endpoint has a queue", scaling.LINK_TO_ASYNC
            ),
        ),
        (
            Kind.REALTIME,
            Scaling(1, 2, (TargetPolicy(Metric.GPU, 5.0),)),
            Refusal(
                "endpoint.autoscaling.target[0].metric",
                "ml.c5.xlarge has no GPU that is measured",
                scaling.LINK_TO_METRICS,
            ),
        ),
        (
            Kind.REALTIME,
            Scaling(1, 2, steps=(StepPolicy(Metric.CUSTOM, 1, above=5.0),)),
            Refusal(
                "endpoint.autoscaling.steps[0].metric",
                "a step has no metric of your own: use a target",
                scaling.LINK_TO_SCALING,
            ),
        ),
        (
            Kind.REALTIME,
            Scaling(1, 2, steps=(StepPolicy(Metric.CPU, 1),)),
            Refusal("endpoint.autoscaling.steps[0]", "an alarm has one bound: above or below", scaling.LINK_TO_SCALING),
        ),
        (
            Kind.REALTIME,
            Scaling(1, 2, (TargetPolicy(Metric.CPU, 5.0), TargetPolicy(Metric.CPU, 6.0))),
            Refusal("endpoint.autoscaling.target[1]", "a metric has one target", scaling.LINK_TO_SCALING),
        ),
        (
            Kind.REALTIME,
            Scaling(1, 2, schedule=(ScheduledBounds("0 8 1 * MON", min=2),)),
            Refusal(
                "endpoint.autoscaling.schedule[0].cron",
                "0 8 1 * MON: it restricts the day of the month and the day of the week, and AWS takes one of the two",
                scaling.LINK_TO_SCHEDULES,
            ),
        ),
        (
            Kind.REALTIME,
            Scaling(1, 2, schedule=(ScheduledBounds("0 8 * * *", min=2), ScheduledBounds("0 8 * * MON", max=1))),
            Refusal(
                "endpoint.autoscaling.schedule[1].cron",
                "0 8 * * MON and 0 8 * * * can come at once, and AWS does not say which of two holds",
                scaling.LINK_TO_SCHEDULES,
            ),
        ),
    ],
)
def test_what_sagemaker_cannot_do_is_refused(kind: Kind, asked: Scaling, expected: Refusal) -> None:
    """One reason for each, with the page where AWS says it."""
    assert scaling.refusals(asked, kind, ("ml.g5.xlarge", "ml.c5.xlarge")) == (expected,)


@pytest.mark.parametrize(
    "asked",
    [
        Scaling(2, 2),
        Scaling(1, 2, (TargetPolicy(Metric.GPU, 5.0),)),
        Scaling(1, 2, schedule=(ScheduledBounds("0 8 * * *", min=2), ScheduledBounds("0 9 * * MON", max=1))),
        Scaling(
            1, 2, schedule=(ScheduledBounds("0 8 * * *", min=2), ScheduledBounds("0 8 * * MON", "Asia/Tokyo", max=1))
        ),
        Scaling(1, 2, schedule=(ScheduledBounds("0 8 * * MON", min=2), ScheduledBounds("0 8 * * TUE-FRI", max=1))),
    ],
)
def test_what_sagemaker_can_do_is_not_refused(asked: Scaling) -> None:
    """Times that never come at once, and a GPU metric where each machine has one, are fine."""
    assert scaling.refusals(asked, Kind.REALTIME, ("ml.g5.xlarge", "ml.p4d.24xlarge")) == ()


def test_two_variants_never_touch_each_others_alarms() -> None:
    """An alarm's name says which variant's policy it triggers, and only that one's is put right or taken away."""
    stepped = Scaling(1, 5, steps=FULL.steps)
    cloud = Cloud()
    converge(cloud, Kind.REALTIME, stepped)
    first = cloud.seen

    released = scaling.release_calls("reviews", "b", first)
    unwanted = scaling.calls("reviews", "b", Kind.REALTIME, Scaling(1, 5), first, NOON)
    second = replace(first, policies=[{**each, "PolicyARN": f"{ARN}:b"} for each in first.policies])
    made = scaling.calls("reviews", "b", Kind.REALTIME, stepped, second, NOON)

    assert [each.operation for each in (*released, *unwanted)].count("delete_alarms") == 0
    names = [each.request["AlarmName"] for each in made if each.operation == "put_metric_alarm"]
    assert names == [f"mlscale/reviews/b-step-{number}" for number in range(1, len(FULL.steps) + 1)]
