"""What watches an endpoint in CloudWatch: its alarms and dashboard, what is read back, and what is put right again."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from hypothesis import given, settings
from hypothesis import strategies as st

from mlscale.deployment import Auxiliary, AuxiliaryKind, Kind
from mlscale.providers.contract import Refusal
from mlscale.providers.sagemaker import alarms, watching
from mlscale.providers.sagemaker.calls import Call
from mlscale.quantities import duration_text, latency_text, percent_text

TAGS = {"mlscale:name": "reviews", "team": "search"}
ONCALL = "arn:aws:sns:us-east-1:123456789012:ml-oncall"
OTHER = "arn:aws:sns:us-east-1:123456789012:other"
BY_VARIANT = [{"Name": "EndpointName", "Value": "reviews"}, {"Name": "VariantName", "Value": "a"}]
MODEL = botocore.session.get_session().get_service_model("cloudwatch")
OPERATIONS = {botocore.xform_name(each): MODEL.operation_model(each).input_shape for each in MODEL.operation_names}
DASHBOARD = Auxiliary(AuxiliaryKind.DASHBOARD, "endpoint", {"shows": "requests, latency, machines"})


@dataclass
class Cloud:
    """CloudWatch, as far as alarms and dashboards go."""

    alarms: dict[str, dict[str, Any]] = field(default_factory=dict)
    dashboards: dict[str, str] = field(default_factory=dict)

    def apply(self, call: Call) -> None:
        """Do what one call asks, which must be one that AWS knows."""
        report = ParamValidator().validate(dict(call.request), OPERATIONS[call.operation])
        assert (call.service, report.has_errors()) == ("cloudwatch", False), report.generate_report()
        getattr(self, call.operation)(copy.deepcopy(dict(call.request)))

    def put_metric_alarm(self, request: dict[str, Any]) -> None:
        """Make an alarm, or replace all that one of that name has; the order of its lists is the cloud's."""
        del request["Tags"]
        for key in {"Dimensions", "AlarmActions", "OKActions"} & set(request):
            request[key].reverse()
        actions: dict[str, Any] = {"AlarmActions": [], "OKActions": [], "InsufficientDataActions": []}
        if "ExtendedStatistic" in request:
            actions["EvaluateLowSampleCountPercentile"] = "evaluate"
        self.alarms[request["AlarmName"]] = {"StateValue": "OK", "AlarmArn": "arn", **actions, **request}

    def delete_alarms(self, request: dict[str, Any]) -> None:
        """Delete alarms that are there."""
        for name in request["AlarmNames"]:
            del self.alarms[name]

    def put_dashboard(self, request: dict[str, Any]) -> None:
        """Make or replace a dashboard, whose graphs must each have a region."""
        body = json.loads(request["DashboardBody"])
        assert all(each["properties"]["region"] for each in body["widgets"])
        self.dashboards[request["DashboardName"]] = json.dumps(body, indent=2)

    def delete_dashboards(self, request: dict[str, Any]) -> None:
        """Delete dashboards that are there."""
        for name in request["DashboardNames"]:
            del self.dashboards[name]


def calls(cloud: Cloud, kind: Kind, asked: tuple[Auxiliary, ...]) -> tuple[Call, ...]:
    """Return what is left to do."""
    seen, dashboard = list(cloud.alarms.values()), cloud.dashboards.get("mlscale-reviews")
    return watching.calls("reviews", "a", kind, asked, seen, dashboard, TAGS, "us-east-1")


def read(cloud: Cloud, kind: Kind) -> tuple[Auxiliary, ...]:
    """Return what the cloud's answers amount to."""
    seen, dashboard = list(reversed(cloud.alarms.values())), cloud.dashboards.get("mlscale-reviews")
    return watching.auxiliaries_of("reviews", "a", kind, seen, dashboard, "us-east-1")


def converge(cloud: Cloud, kind: Kind, asked: tuple[Auxiliary, ...]) -> None:
    """Make what is left to do, once: nothing may be left after it."""
    for call in calls(cloud, kind, asked):
        cloud.apply(call)
    assert calls(cloud, kind, asked) == ()


def an_alarm(key: str, notify: str = "", **content: str) -> Auxiliary:
    """Return an alarm as the spec resolves it."""
    return Auxiliary(AuxiliaryKind.ALARM, key, {**content, **({"notify": notify} if notify else {})})


kinds = st.sampled_from(Kind)
topics = st.sets(st.sampled_from((ONCALL, OTHER)), max_size=2).map(lambda each: " ".join(sorted(each)))
latencies = st.integers(1, 10**9).map(lambda each: latency_text(timedelta(microseconds=each)))
shares = st.integers(1, 10**8).map(lambda each: percent_text(each / 10**6))
silences = st.integers(1, 1440).map(lambda each: duration_text(timedelta(minutes=each)))


@st.composite
def wishes(draw: st.DrawFn) -> tuple[Auxiliary, ...]:
    """Draw what a spec can ask for."""
    told = draw(topics)
    wanted = (
        an_alarm("p99_latency", told, above=draw(latencies)),
        an_alarm("error_rate", told, above=draw(shares)),
        an_alarm("no_invocations", told, **{"for": draw(silences)}),
        DASHBOARD,
    )
    return tuple(each for each in wanted if draw(st.booleans()))


@settings(deadline=None)
@given(kinds, wishes(), wishes())
def test_whatever_is_asked_is_what_is_read_back(
    kind: Kind, first: tuple[Auxiliary, ...], second: tuple[Auxiliary, ...]
) -> None:
    """From nothing to any alarms and dashboard, on to any others and to none: each is made in one go and read back."""
    cloud = Cloud()

    for asked in (first, second, first, ()):
        converge(cloud, kind, asked)
        assert read(cloud, kind) == watching.canonical(asked) == asked
        assert watching.refusals(asked, kind) == ()

    assert (cloud.alarms, cloud.dashboards) == ({}, {})


IDENTITY = {"AlarmName", "AlarmArn", "StateValue"}
ADDED: Mapping[str, Any] = {
    "Unit": "Percent",
    "ThresholdMetricId": "share",
    "InsufficientDataActions": [OTHER],
    "EvaluateLowSampleCountPercentile": "ignore",
}
EVERYTHING = (
    an_alarm("p99_latency", f"{ONCALL} {OTHER}", above="500ms"),
    an_alarm("error_rate", ONCALL, above="1%"),
    an_alarm("no_invocations", **{"for": "15m"}),
    DASHBOARD,
)


def spots(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield each place in an answer that somebody can have changed, and another value for it."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in IDENTITY:
                yield from spots(item, (*path, key))
    elif isinstance(value, list):
        if value:
            yield path, value[1:]
        for number, item in enumerate(value):
            yield from spots(item, (*path, number))
    elif isinstance(value, bool):
        yield path, not value
    elif isinstance(value, str):
        yield path, f"{value}x"
    elif isinstance(value, int | float):
        yield path, value + 1


def _changed(thing: dict[str, Any], place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    thing = inner = copy.deepcopy(thing)
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return thing


@pytest.mark.parametrize("kind", Kind)
def test_a_change_of_an_alarm_by_hand_is_seen_and_put_right(kind: Kind) -> None:
    """Any one field of any alarm changed, or one gone: it shows, and is mended."""
    whole = Cloud()
    converge(whole, kind, EVERYTHING)
    tried = 0

    for name, alarm in whole.alarms.items():
        added = [((key,), value) for key, value in ADDED.items()]
        for place, value in (*spots(alarm), *added):
            cloud = copy.deepcopy(whole)
            cloud.alarms[name] = _changed(alarm, place, value)
            assert read(cloud, kind) != EVERYTHING, place
            assert calls(cloud, kind, EVERYTHING), place
            converge(cloud, kind, EVERYTHING)
            assert (read(cloud, kind), cloud) == (EVERYTHING, whole), place
            tried += 1
        gone = copy.deepcopy(whole)
        del gone.alarms[name]
        assert len(read(gone, kind)) == len(EVERYTHING) - 1

    assert tried > 60


@pytest.mark.parametrize("kind", Kind)
def test_a_change_of_the_dashboard_by_hand_is_seen_and_put_right(kind: Kind) -> None:
    """Any one value of its body changed, or no JSON any more: it shows, and the body is put again."""
    whole = Cloud()
    converge(whole, kind, (DASHBOARD,))
    body = json.loads(whole.dashboards["mlscale-reviews"])

    for text in ("{", "null", *(json.dumps(_changed(body, *spot)) for spot in spots(body))):
        cloud = Cloud(dashboards={"mlscale-reviews": text})
        assert read(cloud, kind) == ()
        converge(cloud, kind, (DASHBOARD,))
        assert cloud == whole


def request_of(kind: Kind, auxiliary: Auxiliary) -> Mapping[str, Any]:
    """Return the request that makes one alarm."""
    (call,) = calls(Cloud(), kind, (auxiliary,))
    return call.request


@pytest.mark.parametrize("kind", Kind)
def test_latency_is_that_of_the_model_in_microseconds(kind: Kind) -> None:
    """Each kind of endpoint publishes ModelLatency; two minutes of three over the bound tell the topics."""
    assert request_of(kind, an_alarm("p99_latency", f"{ONCALL} {OTHER}", above="500ms")) == {
        "AlarmName": "mlscale/reviews/p99_latency",
        "AlarmDescription": "One request of a hundred takes reviews more than 500ms in the model. By mlscale.",
        "ActionsEnabled": True,
        "AlarmActions": [ONCALL, OTHER],
        "OKActions": [ONCALL, OTHER],
        "Namespace": "AWS/SageMaker",
        "MetricName": "ModelLatency",
        "Dimensions": BY_VARIANT,
        "ExtendedStatistic": "p99",
        "Period": 60,
        "EvaluationPeriods": 3,
        "DatapointsToAlarm": 2,
        "Threshold": 500_000.0,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
        "Tags": [{"Key": "mlscale:name", "Value": "reviews"}, {"Key": "team", "Value": "search"}],
    }


@pytest.mark.parametrize(
    ("kind", "failed", "requests", "expression"),
    [
        (Kind.REALTIME, "Invocation5XXErrors", "Invocations", "100 * failed / requests"),
        (Kind.SERVERLESS, "Invocation5XXErrors", "Invocations", "100 * failed / requests"),
        (Kind.ASYNC, "InvocationFailures", "InvocationsProcessed", "100 * failed / (failed + FILL(requests, 0))"),
    ],
)
def test_error_rate_is_what_the_endpoint_is_to_blame_for(
    kind: Kind, failed: str, requests: str, expression: str
) -> None:
    """A 4xx is the caller's. A queue whose every request fails may have none processed: that is no silence."""

    def summed(key: str, metric: str) -> dict[str, Any]:
        found = {"Namespace": "AWS/SageMaker", "MetricName": metric, "Dimensions": BY_VARIANT}
        return {"Id": key, "MetricStat": {"Metric": found, "Period": 60, "Stat": "Sum"}, "ReturnData": False}

    assert request_of(kind, an_alarm("error_rate", above="0.5%")) == {
        "AlarmName": "mlscale/reviews/error_rate",
        "AlarmDescription": "More than 0.5% of the requests to reviews fail, not by their caller. By mlscale.",
        "ActionsEnabled": True,
        "Metrics": [
            {"Id": "share", "Expression": expression, "Label": "failed of 100", "ReturnData": True},
            summed("failed", failed),
            summed("requests", requests),
        ],
        "EvaluationPeriods": 3,
        "DatapointsToAlarm": 2,
        "Threshold": 0.5,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
        "Tags": [{"Key": "mlscale:name", "Value": "reviews"}, {"Key": "team", "Value": "search"}],
    }


@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        (Kind.REALTIME, "Invocations"),
        (Kind.SERVERLESS, "Invocations"),
        (Kind.ASYNC, "InvocationsProcessed"),
    ],
)
def test_silence_is_no_data_for_the_whole_time(kind: Kind, metric: str) -> None:
    """Fifteen minutes without a request: no data counts as none, and one request ends it."""
    assert request_of(kind, an_alarm("no_invocations", **{"for": "15m"})) == {
        "AlarmName": "mlscale/reviews/no_invocations",
        "AlarmDescription": "No request came to reviews for 15m. By mlscale.",
        "ActionsEnabled": True,
        "Namespace": "AWS/SageMaker",
        "MetricName": metric,
        "Dimensions": BY_VARIANT,
        "Statistic": "Sum",
        "Period": 60,
        "EvaluationPeriods": 15,
        "DatapointsToAlarm": 15,
        "Threshold": 1.0,
        "ComparisonOperator": "LessThanThreshold",
        "TreatMissingData": "breaching",
        "Tags": [{"Key": "mlscale:name", "Value": "reviews"}, {"Key": "team", "Value": "search"}],
    }


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        (
            Kind.REALTIME,
            {
                "Requests a minute": ["Invocations", "Invocation5XXErrors", "Invocation4XXErrors"],
                "Latency in the model, microseconds": ["ModelLatency", "ModelLatency"],
                "Machines, percent (CPU: of one core)": [
                    "CPUUtilization",
                    "MemoryUtilization",
                    "GPUUtilization",
                    "GPUMemoryUtilization",
                ],
                "Replicas": ["total / each", "Invocations", "InvocationsPerInstance"],
            },
        ),
        (
            Kind.ASYNC,
            {
                "Requests a minute": ["InvocationsProcessed", "InvocationFailures", "Invocation4XXErrors"],
                "Latency in the model, microseconds": ["ModelLatency", "ModelLatency"],
                "Machines, percent (CPU: of one core)": [
                    "CPUUtilization",
                    "MemoryUtilization",
                    "GPUUtilization",
                    "GPUMemoryUtilization",
                ],
                "Replicas": ["total / each", "ApproximateBacklogSize", "ApproximateBacklogSizePerInstance"],
            },
        ),
        (
            Kind.SERVERLESS,
            {
                "Requests a minute": ["Invocations", "Invocation5XXErrors", "Invocation4XXErrors"],
                "Latency in the model, microseconds": ["ModelLatency", "ModelLatency"],
                "Machines, percent (CPU: of one core)": ["MemoryUtilization"],
            },
        ),
    ],
)
def test_dashboard_shows_what_the_kind_publishes(kind: Kind, shown: dict[str, list[str]]) -> None:
    """A serverless endpoint has no machines of its own, a queue no Invocations."""
    body = json.loads(request_of(kind, DASHBOARD)["DashboardBody"])

    assert {
        each["properties"]["title"]: [
            metric[0]["expression"] if isinstance(metric[0], dict) else metric[1]
            for metric in each["properties"]["metrics"]
        ]
        for each in body["widgets"]
    } == shown
    assert [(each["x"], each["y"]) for each in body["widgets"]] == [(0, 0), (12, 0), (0, 6), (12, 6)][: len(shown)]


def test_dashboard_is_the_same_text_each_time() -> None:
    """What is asked twice is one text, so a plan of it can be compared."""
    assert request_of(Kind.REALTIME, DASHBOARD) == request_of(Kind.REALTIME, DASHBOARD)


def test_canonical_is_one_form_of_what_means_the_same() -> None:
    """Order, units and topics written otherwise are no difference."""
    written = (
        DASHBOARD,
        an_alarm("no_invocations", **{"for": "60m"}),
        an_alarm("p99_latency", f"{OTHER} {ONCALL}", above="0.5s"),
    )

    assert watching.canonical(written) == (
        an_alarm("p99_latency", f"{ONCALL} {OTHER}", above="500ms"),
        an_alarm("no_invocations", **{"for": "1h"}),
        DASHBOARD,
    )


def test_only_what_watches_is_taken_away() -> None:
    """Alarms that drive a scaling policy, another deployment's, and a stranger's stay."""
    cloud = Cloud()
    converge(cloud, Kind.REALTIME, EVERYTHING)
    others = [{"AlarmName": f"mlscale/{each}"} for each in ("reviews/step-1", "reviews-2/error_rate", "reviews/own")]
    seen = [*cloud.alarms.values(), *others]

    assert watching.release_calls("reviews", seen, "{}") == (
        Call(
            "cloudwatch",
            "delete_alarms",
            {
                "AlarmNames": [
                    "mlscale/reviews/error_rate",
                    "mlscale/reviews/no_invocations",
                    "mlscale/reviews/p99_latency",
                ]
            },
        ),
        Call("cloudwatch", "delete_dashboards", {"DashboardNames": ["mlscale-reviews"]}),
    )
    assert watching.release_calls("reviews", others, None) == ()


MANY = " ".join(f"{ONCALL}-{number}" for number in range(6))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (
            an_alarm("no_invocations", **{"for": "90s"}),
            Refusal(
                "alarms.no_invocations",
                "an alarm counts whole minutes, and looks back one day at most",
                watching.LINK_TO_ALARMS,
            ),
        ),
        (
            an_alarm("no_invocations", **{"for": "1d1m"}),
            Refusal(
                "alarms.no_invocations",
                "an alarm counts whole minutes, and looks back one day at most",
                watching.LINK_TO_ALARMS,
            ),
        ),
        (
            an_alarm("error_rate", MANY, above="1%"),
            Refusal("alarms.notify", "an alarm tells 5 topics at most", watching.LINK_TO_ALARMS),
        ),
        (
            an_alarm("cold_starts", above="1%"),
            Refusal("alarms.cold_starts", "there is no such alarm", watching.LINK_TO_ALARMS),
        ),
        (
            Auxiliary(AuxiliaryKind.BUDGET, "monthly", {"amount": "500 USD"}),
            Refusal("budget", "a budget is nothing that CloudWatch holds"),
        ),
    ],
)
def test_what_cloudwatch_cannot_do_is_refused(asked: Auxiliary, expected: Refusal) -> None:
    """One reason for each, with the page where AWS says it."""
    assert watching.refusals((asked,), Kind.REALTIME) == (expected,)


# What AWS has for other alarms than ours: those of a PromQL query, of a day's hours, of a time to warm up.
OTHERS = {"EvaluationWindow", "WarmUpConfiguration", "EvaluationCriteria", "EvaluationInterval", "ActionConfiguration"}


def test_all_that_can_be_set_of_such_an_alarm_is_compared() -> None:
    """PutMetricAlarm has no member that nobody thought of, so none can be changed by hand without a difference."""
    assert set(OPERATIONS["put_metric_alarm"].members) - OTHERS == {*alarms.FIELDS, "AlarmName", "Tags"}
