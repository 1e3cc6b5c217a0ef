"""What watches an endpoint in Cloud Monitoring: its policies and dashboard, what is read back, and what is mended."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.cloud import monitoring_dashboard_v1, monitoring_v3
from hypothesis import given, settings
from hypothesis import strategies as st

from mlscale.deployment import Auxiliary, AuxiliaryKind, Identity
from mlscale.providers.contract import Refusal
from mlscale.providers.vertex import watching
from mlscale.providers.vertex.calls import Call
from mlscale.quantities import duration_text, latency_text, percent_text

REVIEWS = Identity("vertex", "reviews", "acme-ml", "us-central1")
LABELS = {"mlscale-name": "reviews", "team": "search"}
NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
ONCALL, OTHER = "1234", "5678"
DASHBOARD = Auxiliary(AuxiliaryKind.DASHBOARD, "endpoint", {"shows": "requests, latency, machines"})
ENDPOINT = (
    'resource.type="aiplatform.googleapis.com/Endpoint"'
    ' AND resource.labels.endpoint_id="reviews" AND resource.labels.location="us-central1"'
)
RESPONSES = f'metric.type="aiplatform.googleapis.com/prediction/online/response_count" AND {ENDPOINT}'
LATENCIES = f'metric.type="aiplatform.googleapis.com/prediction/online/prediction_latencies" AND {ENDPOINT}'


def read(message: Any) -> dict[str, Any]:
    """Return a message as the client answers it: its JSON, with what is empty left out."""
    found: dict[str, Any] = type(message).to_dict(
        message,
        preserving_proto_field_name=True,
        use_integers_for_enums=False,
        always_print_fields_with_no_presence=False,
    )
    return found


@dataclass
class Cloud:
    """Cloud Monitoring, as far as policies and dashboards go; it names channels by the project's number."""

    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    dashboards: dict[str, dict[str, Any]] = field(default_factory=dict)
    made: int = 0

    def apply(self, call: Call) -> None:
        """Do what one call asks, which must be one that Google's clients can send."""
        getattr(self, call.method)(copy.deepcopy(dict(call.request)))

    def number(self) -> int:
        """Return a number that no other thing has."""
        self.made += 1
        return self.made

    def create_alert_policy(self, request: dict[str, Any]) -> None:
        """Make a policy, whose parts get names."""
        sent = read(monitoring_v3.CreateAlertPolicyRequest(request))
        assert sent["name"] == "projects/acme-ml"
        name = f"projects/acme-ml/alertPolicies/{self.number()}"
        record = {"mutate_time": (NOON + timedelta(seconds=self.made)).isoformat()}
        self.policies[name] = self._named(sent["alert_policy"]) | {"name": name, "creation_record": record}

    def update_alert_policy(self, request: dict[str, Any]) -> None:
        """Change the fields that the mask names."""
        sent = read(monitoring_v3.UpdateAlertPolicyRequest(request))
        policy, now = self._named(sent["alert_policy"]), self.policies[request["alert_policy"]["name"]]
        for path in request["update_mask"]["paths"]:
            now.pop(path, None)
            if path in policy:
                now[path] = policy[path]

    def _named(self, policy: dict[str, Any]) -> dict[str, Any]:
        for condition in policy["conditions"]:
            condition["name"] = f"conditions/{self.number()}"
        if "notification_channels" in policy:
            channels = reversed(policy["notification_channels"])
            policy["notification_channels"] = [each.replace("acme-ml", "123456") for each in channels]
        return policy

    def delete_alert_policy(self, request: dict[str, Any]) -> None:
        """Delete a policy that is there."""
        del self.policies[monitoring_v3.DeleteAlertPolicyRequest(request).name]

    def create_dashboard(self, request: dict[str, Any]) -> None:
        """Make a dashboard."""
        sent = read(monitoring_dashboard_v1.CreateDashboardRequest(request))
        assert sent["parent"] == "projects/acme-ml"
        self._put(f"projects/123456/dashboards/{self.number()}", sent["dashboard"])

    def update_dashboard(self, request: dict[str, Any]) -> None:
        """Replace a dashboard that nobody changed meanwhile."""
        sent = read(monitoring_dashboard_v1.UpdateDashboardRequest(request))["dashboard"]
        assert sent["etag"] == self.dashboards[sent["name"]]["etag"]
        self._put(sent["name"], sent)

    def _put(self, name: str, dashboard: dict[str, Any]) -> None:
        for tile in dashboard["mosaic_layout"]["tiles"]:
            for each in tile["widget"]["xy_chart"]["data_sets"]:
                each["target_axis"] = "Y1"
        self.dashboards[name] = dashboard | {"name": name, "etag": f"{self.number():08x}"}

    def delete_dashboard(self, request: dict[str, Any]) -> None:
        """Delete a dashboard that is there."""
        del self.dashboards[monitoring_dashboard_v1.DeleteDashboardRequest(request).name]

    @property
    def watching(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """What there is, without what the cloud alone says of it."""
        told = ("name", "etag", "creation_record", "conditions")
        policies = sorted(self.policies.values(), key=lambda each: str(each["display_name"]))
        bare = [
            {key: value for key, value in each.items() if key not in told}
            | {"conditions": [{**one, "name": ""} for one in each["conditions"]]}
            for each in policies
        ]
        boards = {key: value for each in self.dashboards.values() for key, value in each.items() if key not in told}
        return bare, boards


def calls(cloud: Cloud, asked: tuple[Auxiliary, ...], labels: Mapping[str, str] = LABELS) -> tuple[Call, ...]:
    """Return what is left to do."""
    return watching.calls(REVIEWS, asked, list(cloud.policies.values()), list(cloud.dashboards.values()), labels)


def seen(cloud: Cloud) -> tuple[Auxiliary, ...]:
    """Return what the cloud's answers amount to."""
    board = next(iter(cloud.dashboards.values()), None)
    return watching.auxiliaries_of(REVIEWS, list(reversed(cloud.policies.values())), board)


def converge(cloud: Cloud, asked: tuple[Auxiliary, ...], labels: Mapping[str, str] = LABELS) -> None:
    """Make what is left to do, once: nothing may be left after it."""
    for call in calls(cloud, asked, labels):
        cloud.apply(call)
    assert calls(cloud, asked, labels) == ()


def an_alarm(key: str, notify: str = "", **content: str) -> Auxiliary:
    """Return an alarm as it is read back."""
    return Auxiliary(AuxiliaryKind.ALARM, key, {**content, **({"notify": notify} if notify else {})})


channels = st.sets(st.sampled_from((ONCALL, OTHER)), max_size=2).map(lambda each: " ".join(sorted(each)))
latencies = st.integers(1, 10**9).map(lambda each: latency_text(timedelta(microseconds=each)))
shares = st.integers(1, 10**8).map(lambda each: percent_text(each / 10**6))
silences = st.integers(1, 1410).map(lambda each: duration_text(timedelta(minutes=each)))


@st.composite
def wishes(draw: st.DrawFn) -> tuple[Auxiliary, ...]:
    """Draw what a spec can ask for."""
    told = draw(channels)
    wanted = (
        an_alarm("p99_latency", told, above=draw(latencies)),
        an_alarm("error_rate", told, above=draw(shares)),
        an_alarm("no_invocations", told, **{"for": draw(silences)}),
        DASHBOARD,
    )
    return tuple(each for each in wanted if draw(st.booleans()))


@settings(deadline=None)
@given(wishes(), wishes())
def test_whatever_is_asked_is_what_is_read_back(first: tuple[Auxiliary, ...], second: tuple[Auxiliary, ...]) -> None:
    """From nothing to any alarms and dashboard, on to any others and to none: each is made in one go and read back."""
    cloud = Cloud()

    for asked in (first, second, first, ()):
        converge(cloud, asked)
        assert seen(cloud) == watching.canonical(asked) == asked
        assert watching.refusals(asked) == ()

    assert (cloud.policies, cloud.dashboards) == ({}, {})


EVERYTHING = (
    an_alarm("p99_latency", f"{ONCALL} {OTHER}", above="500ms"),
    an_alarm("error_rate", ONCALL, above="1%"),
    an_alarm("no_invocations", **{"for": "15m"}),
    DASHBOARD,
)
OURS = {"name", "creation_record", "user_labels"}
ADDED: Mapping[tuple[Any, ...], Any] = {
    ("severity",): "WARNING",
    ("alert_strategy",): {"auto_close": "1800s"},
    ("documentation", "subject"): "changed",
    ("conditions", 0, "condition_threshold", "forecast_options"): {"forecast_horizon": "3600s"},
}


def spots(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield each place in an answer that somebody can have changed, and another value for it."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in OURS:
                yield from spots(item, (*path, key))
    elif isinstance(value, list):
        if value:
            yield path, value[1:]
            yield path, [*value, value[0]]
        for number, item in enumerate(value):
            yield from spots(item, (*path, number))
    elif isinstance(value, bool):
        yield path, not value
    elif isinstance(value, str):
        yield path, f"{value}1"
    elif isinstance(value, int | float):
        yield path, value + 1
        yield path, 1e300


def _changed(thing: dict[str, Any], place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    thing = inner = copy.deepcopy(thing)
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return thing


def test_a_change_of_a_policy_by_hand_is_seen_and_put_right() -> None:
    """Any one field of any policy changed, or one gone: it shows, and is mended in place."""
    whole = Cloud()
    converge(whole, EVERYTHING)
    tried = 0

    for name, policy in whole.policies.items():
        for place, value in (*spots(policy), *ADDED.items()):
            cloud = copy.deepcopy(whole)
            cloud.policies[name] = _changed(policy, place, value)
            assert seen(cloud) != EVERYTHING, place
            assert [call.method for call in calls(cloud, EVERYTHING)] == ["update_alert_policy"], place
            converge(cloud, EVERYTHING)
            assert (seen(cloud), cloud.watching) == (EVERYTHING, whole.watching), place
            tried += 1
        gone = copy.deepcopy(whole)
        del gone.policies[name]
        assert len(seen(gone)) == len(EVERYTHING) - 1

    assert tried > 60


def test_a_change_of_the_dashboard_by_hand_is_seen_and_put_right() -> None:
    """Any one value that we gave it changed: it shows, and it is replaced as it was seen."""
    whole = Cloud()
    converge(whole, (DASHBOARD,))
    ((name, board),) = whole.dashboards.items()
    tried = 0

    for place, value in spots(board):
        if place[-1] in ("etag", "target_axis") or "labels" in place:
            continue
        cloud = copy.deepcopy(whole)
        cloud.dashboards[name] = _changed(board, place, value)
        assert seen(cloud) == (), place
        assert [call.method for call in calls(cloud, (DASHBOARD,))] == ["update_dashboard"], place
        converge(cloud, (DASHBOARD,))
        assert (seen(cloud), cloud.watching) == ((DASHBOARD,), whole.watching), place
        tried += 1

    assert tried > 60


def request_of(auxiliary: Auxiliary) -> Mapping[str, Any]:
    """Return the request that makes one alarm or the dashboard."""
    (call,) = calls(Cloud(), (auxiliary,))
    return call.request


def a_policy(key: str, said: str, condition: Mapping[str, Any], told: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the request that makes a policy with one condition."""
    return {
        "name": "projects/acme-ml",
        "alert_policy": {
            "display_name": f"mlscale/reviews/{key}",
            "documentation": {"content": said, "mime_type": "text/markdown"},
            "combiner": "OR",
            "enabled": True,
            "notification_channels": [f"projects/acme-ml/notificationChannels/{each}" for each in told],
            "conditions": [{"display_name": key, "condition_threshold": condition}],
            "user_labels": {"mlscale-name": "reviews", "mlscale-key": key, "team": "search"},
        },
    }


def summed(reducer: str = "REDUCE_SUM") -> list[dict[str, str]]:
    """Return what makes one number of a minute of all models."""
    return [{"alignment_period": "60s", "per_series_aligner": "ALIGN_DELTA", "cross_series_reducer": reducer}]


def test_latency_is_the_whole_time_in_milliseconds() -> None:
    """The 99th percentile of all models together; two minutes in a row over the bound tell the channels."""
    assert request_of(an_alarm("p99_latency", f"{ONCALL} {OTHER}", above="500ms")) == a_policy(
        "p99_latency",
        "One request of a hundred takes reviews more than 500ms. By mlscale.",
        {
            "filter": f'{LATENCIES} AND metric.labels.latency_type="total"',
            "aggregations": summed("REDUCE_PERCENTILE_99"),
            "comparison": "COMPARISON_GT",
            "threshold_value": 500.0,
            "duration": "120s",
            "trigger": {"count": 1},
            "evaluation_missing_data": "EVALUATION_MISSING_DATA_INACTIVE",
        },
        (ONCALL, OTHER),
    )


def test_error_rate_is_what_the_endpoint_is_to_blame_for() -> None:
    """A 4xx is the caller's; answers are counted as answers, whatever their number of rows."""
    assert request_of(an_alarm("error_rate", above="0.5%")) == a_policy(
        "error_rate",
        "More than 0.5% of the requests to reviews fail, not by their caller. By mlscale.",
        {
            "filter": f'{RESPONSES} AND metric.labels.response_code=starts_with("5")',
            "aggregations": summed(),
            "denominator_filter": RESPONSES,
            "denominator_aggregations": summed(),
            "comparison": "COMPARISON_GT",
            "threshold_value": 0.005,
            "duration": "120s",
            "trigger": {"count": 1},
            "evaluation_missing_data": "EVALUATION_MISSING_DATA_INACTIVE",
        },
    )


def test_silence_is_no_answer_for_the_whole_time() -> None:
    """Fifteen minutes without one: no data counts as none, and one request ends it."""
    assert request_of(an_alarm("no_invocations", **{"for": "15m"})) == a_policy(
        "no_invocations",
        "No request came to reviews for 15m. By mlscale.",
        {
            "filter": RESPONSES,
            "aggregations": summed(),
            "comparison": "COMPARISON_LT",
            "threshold_value": 1.0,
            "duration": "900s",
            "trigger": {"count": 1},
            "evaluation_missing_data": "EVALUATION_MISSING_DATA_ACTIVE",
        },
    )


def test_dashboard_shows_requests_latency_machines_and_replicas() -> None:
    """Two graphs in a row, each series by a metric of the endpoint's own."""
    request = request_of(DASHBOARD)
    board = request["dashboard"]
    tiles = board["mosaic_layout"]["tiles"]

    assert (request["parent"], board["display_name"], board["labels"]) == (
        "projects/acme-ml",
        "mlscale-reviews",
        LABELS,
    )
    assert [(each.get("x_pos", 0), each.get("y_pos", 0)) for each in tiles] == [(0, 0), (6, 0), (0, 4), (6, 4)]
    assert {
        each["widget"]["title"]: [
            (
                one["legend_template"],
                one["time_series_query"]["time_series_filter"]["filter"].split('"')[1].split("/", 1)[1],
            )
            for one in each["widget"]["xy_chart"]["data_sets"]
        ]
        for each in tiles
    } == {
        "Requests a minute": [
            ("requests", "prediction/online/response_count"),
            ("failed", "prediction/online/response_count"),
            ("refused (4xx)", "prediction/online/response_count"),
        ],
        "Latency, milliseconds": [
            ("p50", "prediction/online/prediction_latencies"),
            ("p99", "prediction/online/prediction_latencies"),
        ],
        "Machines, used": [
            ("CPU", "prediction/online/cpu/utilization"),
            ("GPU", "prediction/online/accelerator/duty_cycle"),
        ],
        "Replicas": [
            ("replicas", "prediction/online/replicas"),
            ("wanted", "prediction/online/target_replicas"),
        ],
    }


def test_canonical_is_one_form_of_what_means_the_same() -> None:
    """Order, units and channels written otherwise are no difference."""
    written = (
        DASHBOARD,
        an_alarm("no_invocations", **{"for": "60m"}),
        an_alarm("p99_latency", f"projects/acme-ml/notificationChannels/{OTHER} {ONCALL}", above="0.5s"),
    )

    assert watching.canonical(written) == (
        an_alarm("p99_latency", f"{ONCALL} {OTHER}", above="500ms"),
        an_alarm("no_invocations", **{"for": "1h"}),
        DASHBOARD,
    )


def test_of_two_policies_of_one_alarm_the_oldest_stays() -> None:
    """A second one, made by a run that did not see the first, shows, and goes."""
    cloud = Cloud()
    converge(cloud, EVERYTHING)
    before = copy.deepcopy(cloud)
    second = Cloud(made=900)
    converge(second, EVERYTHING)
    cloud.policies = second.policies | cloud.policies
    cloud.dashboards |= second.dashboards

    assert seen(cloud) == (DASHBOARD,)
    converge(cloud, EVERYTHING)
    assert (seen(cloud), cloud) == (EVERYTHING, before)


def test_labels_of_others_stay_and_ours_come_back() -> None:
    """A policy that lost one of our labels gets it again, and keeps what an account put on it."""
    cloud = Cloud()
    converge(cloud, EVERYTHING)
    name = next(iter(cloud.policies))
    cloud.policies[name]["user_labels"] = {"mlscale-name": "reviews", "mlscale-key": "p99_latency", "own": "1"}

    converge(cloud, EVERYTHING)

    assert cloud.policies[name]["user_labels"] == {**LABELS, "mlscale-key": "p99_latency", "own": "1"}


def test_only_what_is_ours_is_taken_away() -> None:
    """Another deployment's policies and a stranger's stay."""
    ours, others = Cloud(), Cloud(made=100)
    converge(ours, EVERYTHING)
    identity = Identity("vertex", "reviews-2", "acme-ml", "us-central1")
    for call in watching.calls(identity, EVERYTHING, [], [], {}):
        others.apply(call)
    stranger = {"name": "projects/acme-ml/alertPolicies/999", "display_name": "mlscale/reviews/p99_latency"}
    policies = [*ours.policies.values(), *others.policies.values(), stranger]

    found = watching.calls(REVIEWS, (), policies, list(ours.dashboards.values()), {})

    assert found == (
        *(Call("alert_policy", "delete_alert_policy", {"name": name}) for name in ours.policies),
        *(Call("dashboard", "delete_dashboard", {"name": name}) for name in ours.dashboards),
    )
    assert watching.calls(REVIEWS, (), [*others.policies.values(), stranger], [], {}) == ()


MANY = " ".join(str(number) for number in range(17))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (
            an_alarm("no_invocations", **{"for": "90s"}),
            Refusal(
                "alarms.no_invocations",
                "a policy counts whole minutes, and looks back 23h30m at most",
                watching.LINK_TO_LIMITS,
            ),
        ),
        (
            an_alarm("no_invocations", **{"for": "23h31m"}),
            Refusal(
                "alarms.no_invocations",
                "a policy counts whole minutes, and looks back 23h30m at most",
                watching.LINK_TO_LIMITS,
            ),
        ),
        (
            an_alarm("error_rate", MANY, above="1%"),
            Refusal("alarms.notify", "a policy tells 16 channels at most", watching.LINK_TO_LIMITS),
        ),
        (
            an_alarm("error_rate", "arn:aws:sns:us-east-1:123456789012:oncall", above="1%"),
            Refusal(
                "alarms.notify",
                "arn:aws:sns:us-east-1:123456789012:oncall is no channel: "
                "write it like projects/acme-ml/notificationChannels/123",
                watching.LINK_TO_POLICIES,
            ),
        ),
        (
            an_alarm("cold_starts", above="1%"),
            Refusal("alarms.cold_starts", "there is no such alarm", watching.LINK_TO_POLICIES),
        ),
        (
            Auxiliary(AuxiliaryKind.BUDGET, "monthly", {"amount": "500 USD"}),
            Refusal("budget", "a budget is nothing that Cloud Monitoring holds"),
        ),
    ],
)
def test_what_cloud_monitoring_cannot_do_is_refused(asked: Auxiliary, expected: Refusal) -> None:
    """One reason for each, with the page where Google says it."""
    assert watching.refusals((asked,)) == (expected,)
