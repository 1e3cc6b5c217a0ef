"""The client of Google Cloud, over gRPC against the double."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.cloud import aiplatform_v1 as vx

from mlscale.errors import (
    ExtraMissing,
    MlscaleError,
    NoCapacity,
    NotDeployed,
    ProviderFailed,
    UsageError,
    WrongCredentials,
)
from mlscale.providers.calling import uploaded_text
from mlscale.providers.contract import Progress
from mlscale.providers.vertex.addresses import Address
from mlscale.providers.vertex.calls import Call
from mlscale.providers.vertex.client import PART_SIZE, PARTS, Client, Invoked
from tests.doubles.moved_clock import MovedClock
from tests.doubles.vertex import serving
from tests.doubles.vertex.arranged import (
    BUCKET,
    DEPLOYED,
    ENDPOINT,
    an_endpoint,
    begin_deploy,
    deployment,
    serving_reviews,
)
from tests.doubles.vertex.serving import NUMBER, PARENT, PROJECT, REGION, Double

OURS = f"projects/{NUMBER}/locations/{REGION}/endpoints/reviews"
SETTINGS = ("GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG", "MLSCALE_CALL_TIMEOUT", "GRPC_VERBOSITY")
"""What a user's environment may have."""

BEGINNING, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2120, 1, 1, tzinfo=UTC)
"""Between these the certificate of a test is good."""


@pytest.fixture(scope="module")
def served() -> Iterator[Double]:
    """A running double."""
    with serving() as double:
        yield double


@pytest.fixture
def double(served: Double, monkeypatch: pytest.MonkeyPatch) -> Double:
    """The double with nothing in it, and an environment that leads to it."""
    served.post("reset")
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    return served


@pytest.fixture
def clock() -> MovedClock:
    """A clock that moves when somebody sleeps on it."""
    return MovedClock()


@pytest.fixture
def client(double: Double, clock: MovedClock) -> Client:
    """A client that the environment leads to the double."""
    assert double
    return Client(PROJECT, REGION, clock)


def calls(double: Double) -> list[str]:
    """Return the calls that came, in order."""
    return [f"{each['service']}.{each['operation']}" for each in double.get("journal")]


def fail(double: Double, operation: str, kind: str, **more: Any) -> None:
    """Let calls of `operation` go wrong: every one, unless `times` says how many."""
    double.post("faults", rules=[{"operation": f"{operation}$", "kind": kind, "times": 1000, **more}])


def look(client: Client) -> dict[str, Any] | None:
    """Return an endpoint that nobody made."""
    return client.find("endpoint", "get_endpoint", name=ENDPOINT)


def a_new_endpoint(name: str = "reviews") -> Call:
    """Return the call that begins to make an endpoint."""
    wanted = {"display_name": name, "labels": {"mlscale-name": name}}
    return Call("endpoint", "create_endpoint", {"parent": PARENT, "endpoint_id": name, "endpoint": wanted})


def quiet(text: str) -> None:
    """Tell nobody."""


def telling(lines: list[str]) -> Progress:
    """Return what keeps the lines that it is told."""

    def tell(text: str) -> None:
        lines.append(text)

    return tell


# Reads


@pytest.mark.parametrize("kind", ["throttle", "500", "503", "drop"])
def test_a_read_is_tried_again_with_growing_pauses(
    client: Client, double: Double, clock: MovedClock, kind: str
) -> None:
    """What passes by itself is not seen by whoever reads."""
    fail(double, "GetEndpoint", kind, times=3)

    assert look(client) is None
    assert calls(double) == ["EndpointService.GetEndpoint"] * 4
    assert clock.slept == [0.25, 0.5, 1.0]


def test_a_read_is_given_up_after_five_tries(client: Client, double: Double) -> None:
    """The error says that again may help, and what was asked."""
    fail(double, "GetEndpoint", "503")

    with pytest.raises(ProviderFailed) as raised:
        look(client)

    assert (raised.value.what, raised.value.retryable) == ("Google Cloud does not answer", True)
    assert raised.value.why == "EndpointService.GetEndpoint: The service is currently unavailable."
    assert calls(double) == ["EndpointService.GetEndpoint"] * 5


@pytest.mark.parametrize(
    ("service", "method", "request_"),
    [
        ("alert_policy", "list_alert_policies", {"name": f"projects/{PROJECT}"}),
        ("notification_channel", "list_notification_channels", {"name": f"projects/{PROJECT}"}),
        ("dashboard", "list_dashboards", {"parent": f"projects/{PROJECT}"}),
        ("logging", "list_log_entries", {"resource_names": [f"projects/{PROJECT}"]}),
        ("model", "list_models", {"parent": PARENT}),
    ],
)
def test_no_client_of_googles_tries_again_by_itself(
    client: Client, double: Double, clock: MovedClock, service: str, method: str, request_: dict[str, Any]
) -> None:
    """Those of Monitoring and Logging would, for a minute, and each try would be five."""
    fail(double, "List.*", "503")

    with pytest.raises(ProviderFailed):
        client.pages(service, method, **request_)

    assert len(calls(double)) == 5
    assert clock.slept == [0.25, 0.5, 1.0, 2.0]


def test_no_try_begins_late(double: Double) -> None:
    """Calls that each take their whole time are not made five times over."""

    class Slow(MovedClock):
        """A clock by which every look at it is 8 s later than the last: that long a call takes."""

        def monotonic(self) -> float:
            self.move(8.0)
            return super().monotonic()

    fail(double, "GetEndpoint", "500")

    with pytest.raises(ProviderFailed):
        look(Client(PROJECT, REGION, Slow()))

    assert calls(double) == ["EndpointService.GetEndpoint"] * 3


@pytest.mark.parametrize(
    ("kind", "kindly"),
    [
        ("access_denied", "these credentials may not do this"),
        ("expired", "Google Cloud does not know these credentials"),
    ],
)
def test_what_does_not_pass_by_itself_is_read_once(client: Client, double: Double, kind: str, kindly: str) -> None:
    """Credentials don't get better by being tried."""
    fail(double, "GetEndpoint", kind)

    with pytest.raises(WrongCredentials, match=kindly):
        look(client)

    assert calls(double) == ["EndpointService.GetEndpoint"]


@pytest.mark.parametrize(
    ("service", "method", "name"),
    [
        ("endpoint", "get_endpoint", f"{PARENT}/endpoints/reviews"),
        ("model", "get_model", f"{PARENT}/models/reviews-1"),
        ("alert_policy", "get_alert_policy", f"projects/{PROJECT}/alertPolicies/1"),
        ("notification_channel", "get_notification_channel", f"projects/{PROJECT}/notificationChannels/1"),
        ("dashboard", "get_dashboard", f"projects/{PROJECT}/dashboards/1"),
    ],
)
def test_what_is_not_there_is_none(client: Client, service: str, method: str, name: str) -> None:
    """Whichever service is asked."""
    assert client.find(service, method, name=name) is None


def test_what_may_not_be_looked_at_is_no_none(client: Client, double: Double) -> None:
    """Somebody without the permission does not know whether it is there."""
    double.post("settings", denied=["aiplatform.endpoints.get"])

    with pytest.raises(WrongCredentials):
        look(client)


def test_an_answer_is_plain_and_can_be_sent_again(client: Client, double: Double) -> None:
    """Names in snake case, enums by name, durations as text, and what is not set is left out."""
    condition = {
        "display_name": "errors",
        "condition_threshold": {
            "filter": 'metric.type="aiplatform.googleapis.com/prediction/online/error_count"',
            "comparison": "COMPARISON_GT",
            "threshold_value": 1.5,
            "duration": "300s",
            "aggregations": [{"alignment_period": "60s", "per_series_aligner": "ALIGN_RATE"}],
        },
    }
    policy = {
        "display_name": "reviews",
        "combiner": "OR",
        "conditions": [condition],
        "user_labels": {"mlscale-name": "reviews"},
    }
    request = {"name": f"projects/{PROJECT}", "alert_policy": policy}

    made = client.change(Call("alert_policy", "create_alert_policy", request))
    update = {"alert_policy": made | {"display_name": "others"}, "update_mask": {"paths": ["display_name"]}}
    updated = client.change(Call("alert_policy", "update_alert_policy", update))

    assert {key: made[key] for key in policy} == policy | {"conditions": [condition | {"name": _condition(made)}]}
    assert (updated["display_name"], updated["conditions"]) == ("others", made["conditions"])
    assert json.loads(json.dumps(made)) == made
    assert double.get("unimplemented") == []


def _condition(policy: dict[str, Any]) -> str:
    """Return the name that the service gave the only condition."""
    return str(policy["conditions"][0]["name"])


def test_a_name_that_python_has_too_may_be_sent_without_an_underscore(client: Client) -> None:
    """It comes back with one."""
    tile = {"width": 6, "height": 4, "widget": {"text": {"content": "reviews", "format": "MARKDOWN"}}}
    dashboard = {"display_name": "reviews", "mosaic_layout": {"columns": 12, "tiles": [tile]}}

    made = client.change(
        Call("dashboard", "create_dashboard", {"parent": f"projects/{PROJECT}", "dashboard": dashboard})
    )

    widget = made["mosaic_layout"]["tiles"][0]["widget"]
    assert widget == {"text": {"content": "reviews", "format_": "MARKDOWN"}}


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"endpoint": {"name": ENDPOINT, "lables": {}}}, ValueError),
        ({"deployed_model": {"dedicated_resources": {"machine_spec": {"accelerator_type": "NVIDIA_L5"}}}}, KeyError),
    ],
    ids=["field", "enum"],
)
def test_a_request_that_the_api_does_not_know_is_a_bug(
    client: Client, double: Double, request_: dict[str, Any], error: type[Exception]
) -> None:
    """It keeps its traceback, and nothing is sent."""
    method = "update_endpoint" if "endpoint" in request_ else "deploy_model"

    with pytest.raises(error):
        client.change(Call("endpoint", method, request_))

    assert calls(double) == []


def test_all_pages_of_a_list_come_together(client: Client, double: Double) -> None:
    """In order, and a page that failed is read again by itself."""
    names = [f"reviews-{number:02}" for number in range(25)]
    for name in names:
        client.begin(a_new_endpoint(name))
    double.post("advance", seconds=60)
    double.delete("journal")
    double.post("faults", rules=[{"operation": "ListEndpoints$", "kind": "503", "nth": 2, "times": 1}])

    found = client.pages("endpoint", "list_endpoints", parent=PARENT, page_size=10, order_by="display_name")

    assert [each["display_name"] for each in found] == names
    assert calls(double) == ["EndpointService.ListEndpoints"] * 4


def test_one_page_of_a_list_comes_with_the_token_of_the_next(client: Client, double: Double) -> None:
    """For who wants the newest alone."""
    for name in ("a", "b", "c"):
        client.begin(a_new_endpoint(name))
    double.post("advance", seconds=60)
    double.delete("journal")

    first = client.page("endpoint", "list_endpoints", parent=PARENT, page_size=2, order_by="display_name")
    token = first["next_page_token"]
    second = client.page(
        "endpoint", "list_endpoints", parent=PARENT, page_size=2, order_by="display_name", page_token=token
    )

    assert [each["display_name"] for each in first["endpoints"]] == ["a", "b"]
    assert [each["display_name"] for each in second["endpoints"]] == ["c"]
    assert "next_page_token" not in second
    assert calls(double) == ["EndpointService.ListEndpoints"] * 2


def test_a_list_with_nothing_in_it_is_empty(client: Client) -> None:
    """No page has items, and there is a page."""
    assert client.pages("endpoint", "list_endpoints", parent=PARENT) == []


def test_a_hang_ends_with_the_call_timeout(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is we who end it, five times over: the double would hold the line for longer."""
    monkeypatch.setenv("MLSCALE_CALL_TIMEOUT", "0.3s")
    fail(double, "GetEndpoint", "hang", seconds=30.0)

    with pytest.raises(ProviderFailed, match=r"Google Cloud does not answer: .*Deadline Exceeded") as raised:
        look(Client(PROJECT, REGION, MovedClock()))

    assert raised.value.retryable
    assert calls(double) == ["EndpointService.GetEndpoint"] * 5


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        ("CreateEndpoint", lambda client: client.begin(a_new_endpoint())),
        ("UpdateEndpoint", lambda client: client.change(Call("endpoint", "update_endpoint", {}))),
        ("RawPredict", lambda client: client.raw_predict(ENDPOINT, b"{}", "application/json")),
    ],
)
def test_a_change_that_hangs_ends_with_the_call_timeout(
    double: Double, monkeypatch: pytest.MonkeyPatch, operation: str, call: Callable[[Client], object]
) -> None:
    """At the first try."""
    monkeypatch.setenv("MLSCALE_CALL_TIMEOUT", "0.3s")
    fail(double, operation, "hang", seconds=30.0)

    with pytest.raises(ProviderFailed, match="Deadline Exceeded"):
        call(Client(PROJECT, REGION, MovedClock()))

    assert [name.partition(".")[2] for name in calls(double)] == [operation]


@pytest.mark.parametrize("text", ["soon", "20", "0s"])
def test_a_call_timeout_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is called."""
    monkeypatch.setenv("MLSCALE_CALL_TIMEOUT", text)

    with pytest.raises(UsageError) as raised:
        Client(PROJECT, REGION, MovedClock())

    assert raised.value.what == "MLSCALE_CALL_TIMEOUT is not a duration"
    assert raised.value.hint == "write it like MLSCALE_CALL_TIMEOUT=20s"


def test_threads_that_share_a_client_each_get_their_answer(client: Client, double: Double) -> None:
    """Twenty first uses at a time: one channel, twenty calls."""
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(look, [client] * 20))

    assert found == [None] * 20
    assert calls(double) == ["EndpointService.GetEndpoint"] * 20
    assert len(client._channels) == 1


# Changes and operations


@pytest.mark.parametrize(
    ("kind", "again"), [("throttle", True), ("500", True), ("drop_after_commit", True), ("expired", False)]
)
def test_a_change_is_tried_once(client: Client, double: Double, clock: MovedClock, kind: str, *, again: bool) -> None:
    """Whether it is made again is decided by who holds the lease; the error says if that may help."""
    fail(double, "CreateEndpoint", kind)

    with pytest.raises(MlscaleError) as raised:
        client.begin(a_new_endpoint())

    assert (isinstance(raised.value, ProviderFailed) and raised.value.retryable) is again
    assert calls(double) == ["EndpointService.CreateEndpoint"]
    assert clock.slept == []


def test_a_change_without_an_operation_answers_at_once(client: Client, double: Double) -> None:
    """What it answers is what is there then; a deletion answers nothing."""
    an_endpoint(double)
    endpoint = {"name": ENDPOINT, "labels": {"mlscale-name": "reviews"}}

    changed = client.change(
        Call("endpoint", "update_endpoint", {"endpoint": endpoint, "update_mask": {"paths": ["labels"]}})
    )
    channel = client.change(
        Call(
            "notification_channel",
            "create_notification_channel",
            {"name": f"projects/{PROJECT}", "notification_channel": {"type": "email"}},
        )
    )
    deleted = client.change(Call("notification_channel", "delete_notification_channel", {"name": channel["name"]}))

    assert changed == client.read("endpoint", "get_endpoint", name=ENDPOINT)
    assert changed["labels"] == {"mlscale-name": "reviews"}
    assert deleted == {}


def test_an_operation_is_found_again_by_its_name(client: Client, double: Double) -> None:
    """By another client too: a name is all that a run needs to go on after it was killed."""
    double.post("settings", delay_s=60)
    name = client.begin(a_new_endpoint())
    under_way = client.operation(name)
    listed = client.operations(ENDPOINT)
    double.post("advance", seconds=60)
    over = Client(PROJECT, REGION, MovedClock()).operation(name)

    assert name.startswith(f"{OURS}/operations/")
    assert (under_way.name, under_way.done, under_way.error, under_way.response) == (name, False, None, {})
    assert under_way.metadata["@type"].endswith(".CreateEndpointOperationMetadata")
    assert [each.name for each in listed] == [name]
    assert (over.done, over.error, over.response["name"]) == (True, None, OURS)
    assert client.operations(ENDPOINT) == []


def test_how_far_a_deployment_is_comes_with_its_operation(client: Client, double: Double) -> None:
    """The stage by its name."""
    serving_reviews(double)

    name = begin_deploy(double, deployment("22")).name

    assert client.operation(name).metadata["deployment_stage"] == "PREPARING_MODEL"


@pytest.mark.parametrize(
    ("reason", "kind", "what"),
    [
        ("server", ProviderFailed, "the model did not become healthy"),
        ("terminated", ProviderFailed, "the model did not become healthy"),
        ("health", ProviderFailed, "the model did not become healthy"),
        ("image", ProviderFailed, "the image can't be pulled"),
        ("capacity", NoCapacity, "Google Cloud has no such machine free"),
        ("internal", ProviderFailed, "Google Cloud has a problem of its own"),
    ],
)
def test_an_operation_that_failed_says_why(
    client: Client, double: Double, reason: str, kind: type[MlscaleError], what: str
) -> None:
    """It is no failure to have read it; the error says what began it."""
    serving_reviews(double)
    double.post("script", endpoint="reviews", on="deploy", outcome="fail", reason=reason)
    name = begin_deploy(double, deployment("22")).name
    double.post("advance", seconds=60)

    found = client.operation(name)

    assert found.done
    assert found.error is not None
    assert (type(found.error), found.error.what) == (kind, what)
    assert found.error.why.startswith("DeployModel: ")


def test_an_operation_that_nobody_knows_is_a_failure(client: Client) -> None:
    """Google forgets them; who asks looks at the resource itself then."""
    with pytest.raises(ProviderFailed) as raised:
        client.operation(f"{ENDPOINT}/operations/12")

    assert raised.value.what == "Google Cloud has no such resource"
    assert not raised.value.retryable


def test_looking_at_an_operation_is_a_read(client: Client, double: Double, clock: MovedClock) -> None:
    """It is tried again."""
    double.post("settings", delay_s=60)
    name = client.begin(a_new_endpoint())
    fail(double, "GetOperation", "503", times=2)

    assert not client.operation(name).done
    assert clock.slept == [0.25, 0.5]


@pytest.mark.parametrize("code", ["UNIMPLEMENTED", "NOT_FOUND"])
def test_a_server_without_a_list_of_operations_has_none(client: Client, double: Double, code: str) -> None:
    """Nothing depends on the list: what goes on is in the journal, too."""
    fail(double, "ListOperations", "custom", code=code, message="no")

    assert client.operations(ENDPOINT) == []


def test_a_server_that_filters_no_operations_is_asked_for_all(client: Client, double: Double) -> None:
    """Those that are over are left out here."""
    over = client.begin(a_new_endpoint())
    double.post("advance", seconds=60)
    assert client.operation(over).done
    fail(double, "ListOperations", "custom", code="INVALID_ARGUMENT", message="unknown filter", times=1)

    assert client.operations(OURS) == []
    asked = [each["request"] for each in double.get("journal") if each["operation"] == "ListOperations"]
    assert asked == [{"name": OURS, "filter": "done=false"}, {"name": OURS}]


def test_a_server_that_does_not_know_a_filter_is_asked_for_all(client: Client, double: Double) -> None:
    """A filter saves pages alone."""
    an_endpoint(double)
    fail(double, "ListEndpoints", "custom", code="INVALID_ARGUMENT", message="unknown filter", times=1)

    found = client.matching("endpoint", "list_endpoints", "labels.mlscale-name:*", parent=PARENT)

    assert [each["name"] for each in found] == [OURS]
    asked = [each["request"].get("filter") for each in double.get("journal") if each["operation"] == "ListEndpoints"]
    assert asked == ["labels.mlscale-name:*", None]


def test_a_list_that_may_not_be_seen_is_asked_for_once(client: Client, double: Double) -> None:
    """Without the filter it is refused as well."""
    fail(double, "ListEndpoints", "access_denied")

    with pytest.raises(WrongCredentials):
        client.matching("endpoint", "list_endpoints", "labels.mlscale-name:*", parent=PARENT)

    assert calls(double) == ["EndpointService.ListEndpoints"]


def test_a_list_of_operations_that_fails_is_no_empty_one(client: Client, double: Double) -> None:
    """Or a change would be begun beside another."""
    fail(double, "ListOperations", "access_denied")

    with pytest.raises(WrongCredentials):
        client.operations(ENDPOINT)


def test_what_is_made_or_gone_already_is_no_error(client: Client, double: Double) -> None:
    """Only a change that began has an operation."""
    gone = Call("endpoint", "delete_endpoint", {"name": ENDPOINT})

    made = client.create(a_new_endpoint()), client.create(a_new_endpoint())
    double.post("advance", seconds=60)
    removed = client.remove(gone)
    double.post("advance", seconds=60)

    assert made[0].startswith(f"{OURS}/operations/")
    assert removed.startswith(f"{OURS}/operations/")
    assert (made[1], client.remove(gone)) == ("", "")
    assert double.get("resources")["endpoints"] == {}


def test_a_refusal_is_no_success(client: Client, double: Double) -> None:
    """Only what is there already, or gone already, is."""
    serving_reviews(double)

    with pytest.raises(ProviderFailed, match="Google Cloud refuses the request"):
        client.remove(Call("endpoint", "delete_endpoint", {"name": ENDPOINT}))
    with pytest.raises(ProviderFailed, match="Google Cloud has no such resource"):
        client.create(Call("endpoint", "deploy_model", {"endpoint": f"{PARENT}/endpoints/others"}))


def test_a_quota_that_is_used_up_is_no_capacity(client: Client, double: Double) -> None:
    """With its name."""
    serving_reviews(double)
    double.post("quotas", custom_model_serving_cpus=8)
    request = {"endpoint": ENDPOINT, "deployed_model": deployment("22")}

    with pytest.raises(NoCapacity, match="a quota of the project is used up") as raised:
        client.begin(Call("endpoint", "deploy_model", request))

    assert "aiplatform.googleapis.com/custom_model_serving_cpus" in raised.value.hint


# Predictions


def test_a_models_answer_comes_whole(client: Client, double: Double) -> None:
    """With the DeployedModel that gave it, which Google's own client keeps to itself."""
    serving_reviews(double)
    double.post("answers", endpoint="reviews", body="[2]", content_type="text/csv")

    assert client.raw_predict(ENDPOINT, b"[1]", "application/json") == Invoked(200, "text/csv", b"[2]", DEPLOYED)


def test_a_prediction_is_tried_once(client: Client, double: Double) -> None:
    """It may cost or count."""
    fail(double, "RawPredict", "throttle")

    with pytest.raises(ProviderFailed, match="slow down"):
        client.raw_predict(ENDPOINT, b"[1]", "application/json")

    assert calls(double) == ["PredictionService.RawPredict"]


def test_a_server_without_raw_predict_gets_a_predict(client: Client, double: Double) -> None:
    """With the instances and parameters of the body, and its predictions are the answer."""
    serving_reviews(double)
    double.post("answers", endpoint="reviews", body='{"predictions": [1, [0.5]]}')
    fail(double, "RawPredict", "custom", code="UNIMPLEMENTED", message="Method not found!")
    body = b'{"instances": [[1, 2.5]], "parameters": {"top": 3}, "signature_name": "serving"}'

    answer = client.invoke(ENDPOINT, body, "application/json")

    assert answer == Invoked(200, "application/json", b'{"predictions": [1.0, [0.5]]}', DEPLOYED)
    assert double.get("journal")[-1]["request"] == {
        "endpoint": ENDPOINT,
        "instances": [[1, 2.5]],
        "parameters": {"top": 3},
    }


@pytest.mark.parametrize("body", [b"[1]", b'{"instances": 1}', b"1,2", b""])
def test_what_has_no_instances_needs_raw_predict(client: Client, double: Double, body: bytes) -> None:
    """Predict takes nothing else."""
    fail(double, "RawPredict", "custom", code="UNIMPLEMENTED", message="Method not found!")

    with pytest.raises(ProviderFailed) as raised:
        client.invoke(ENDPOINT, body, "application/json")

    assert raised.value.why == "PredictionService.RawPredict: Method not found!"
    assert calls(double) == ["PredictionService.RawPredict"]


def test_where_there_is_raw_predict_nothing_is_predicted_twice(client: Client, double: Double) -> None:
    """Whatever it says."""
    serving_reviews(double)
    double.post("answers", endpoint="reviews", status=400, body="rows are missing")
    double.delete("journal")

    with pytest.raises(ProviderFailed, match="rows are missing"):
        client.invoke(ENDPOINT, b'{"instances": [[1]]}', "application/json")

    assert calls(double) == ["PredictionService.RawPredict"]


def test_a_models_refusal_is_in_its_own_words(client: Client, double: Double) -> None:
    """Over gRPC its HTTP status is not told, only the code that it was made into."""
    serving_reviews(double)
    double.post("answers", endpoint="reviews", status=400, body="rows are missing")

    with pytest.raises(ProviderFailed) as raised:
        client.raw_predict(ENDPOINT, b"[1]", "application/json")

    assert raised.value.what == "the endpoint refuses the request"
    assert raised.value.why == "PredictionService.RawPredict: rows are missing"


@pytest.mark.parametrize("there", [False, True], ids=["no endpoint", "no traffic"])
def test_where_nothing_serves_nothing_is_deployed(client: Client, double: Double, *, there: bool) -> None:
    """An endpoint without traffic answers nobody either."""
    if there:
        an_endpoint(double)

    with pytest.raises(NotDeployed):
        client.raw_predict(ENDPOINT, b"[1]", "application/json")


# Addresses, credentials, packages


@pytest.mark.parametrize("address", ["{}", "{}/"])
def test_two_addresses_lead_all_services_elsewhere(
    double: Double, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """One for Vertex AI, one for the rest; each has one channel, and no credentials are looked for."""
    google = double.address.replace("127.0.0.1", "localhost")
    monkeypatch.setenv("MLSCALE_VERTEX_API_ENDPOINT", address.format(double.address))
    monkeypatch.setenv("MLSCALE_GOOGLE_API_ENDPOINT", address.format(google))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere")
    client = Client(PROJECT, REGION, MovedClock())

    for service, method in (("endpoint", "list_endpoints"), ("model", "list_models")):
        client.pages(service, method, parent=PARENT)
    client.pages("dashboard", "list_dashboards", parent=f"projects/{PROJECT}")
    client.pages("alert_policy", "list_alert_policies", name=f"projects/{PROJECT}")
    client.read("project", "get_project", name=f"projects/{PROJECT}")

    asked = [each.removeprefix("http://") for each in (double.address, google)]
    assert set(client._channels) == {Address(each, is_plain=True) for each in asked}
    assert len(calls(double)) == 5


def test_an_address_is_asked_directly_whatever_the_proxy(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC would ask a proxy for this machine's own address, too."""  # noqa: D403 - its name
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")

    assert look(Client(PROJECT, REGION, MovedClock())) is None
    assert calls(double) == ["EndpointService.GetEndpoint"]


def test_nobody_at_the_address_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that is down is no matter of credentials."""
    monkeypatch.setenv("MLSCALE_VERTEX_API_ENDPOINT", "http://127.0.0.1:1")

    with pytest.raises(ProviderFailed, match="Google Cloud does not answer") as raised:
        look(Client(PROJECT, REGION, MovedClock()))

    assert raised.value.retryable


def test_without_credentials_it_says_so(double: Double, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before anything is sent."""
    monkeypatch.delenv("MLSCALE_VERTEX_API_ENDPOINT")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))

    with pytest.raises(WrongCredentials, match="there are no good credentials for Google Cloud") as raised:
        look(Client(PROJECT, REGION, MovedClock()))

    assert raised.value.hint == (
        "gcloud auth application-default login, or put a key's path into GOOGLE_APPLICATION_CREDENTIALS"
    )
    assert calls(double) == []


@pytest.mark.usefixtures("double")
def test_without_credentials_no_bucket_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They are the same as for the other services."""
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))

    with pytest.raises(WrongCredentials, match="there are no good credentials for Google Cloud") as raised:
        Client(PROJECT, REGION, MovedClock()).is_there("gs://acme-ml/model")

    assert raised.value.hint.startswith("name a server in STORAGE_EMULATOR_HOST, too")


def test_without_credentials_for_the_rest_the_other_address_is_named(
    double: Double, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who rehearses against a server for Vertex AI needs one for the log, too, and no login."""
    monkeypatch.delenv("MLSCALE_GOOGLE_API_ENDPOINT")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    client = Client(PROJECT, REGION, MovedClock())

    assert look(client) is None
    with pytest.raises(WrongCredentials) as raised:
        client.pages("logging", "list_log_entries", resource_names=[f"projects/{PROJECT}"])

    assert raised.value.hint.startswith("name a server in MLSCALE_GOOGLE_API_ENDPOINT, too")
    assert calls(double) == ["EndpointService.GetEndpoint"]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    ("package", "service", "method"),
    [
        ("google.cloud.aiplatform_v1", "endpoint", "list_endpoints"),
        ("google.cloud.monitoring_v3", "alert_policy", "list_alert_policies"),
        ("google.cloud.logging_v2.services.logging_service_v2", "logging", "list_log_entries"),
    ],
)
def test_without_its_packages_the_install_line_is_named(
    monkeypatch: pytest.MonkeyPatch, package: str, service: str, method: str
) -> None:
    """They are optional."""
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(ExtraMissing) as raised:
        Client(PROJECT, REGION, MovedClock()).pages(service, method)

    assert raised.value.why == f"{package} talks to Google Cloud"
    assert raised.value.hint == "pip install 'mlscale[vertex]'"


LOADED = """
import json, sys
from mlscale.clock import SystemClock
from mlscale.providers.vertex.client import Client
client = Client("acme-ml", "us-central1", SystemClock())
before = set(sys.modules)
client.find("endpoint", "get_endpoint", name="projects/acme-ml/locations/us-central1/endpoints/reviews")
vertex = set(sys.modules) - before
client.pages("alert_policy", "list_alert_policies", name="projects/acme-ml")
client.pages("dashboard", "list_dashboards", parent="projects/acme-ml")
client.pages("logging", "list_log_entries", resource_names=["projects/acme-ml"])
print(json.dumps([sorted(vertex), sorted(set(sys.modules) - before)]))
"""


def test_only_what_is_asked_is_loaded(double: Double) -> None:
    """Of Google's packages the generated clients of v1 alone, each when it is called first."""
    asked = subprocess.run(
        [sys.executable, "-c", LOADED], env={**double.environment}, capture_output=True, text=True, check=True
    )
    vertex, all_services = (set(names) for names in json.loads(asked.stdout))

    assert vertex & CLIENTS == {"google.cloud.aiplatform_v1"}
    assert all_services & CLIENTS == {
        "google.cloud.aiplatform_v1",
        "google.cloud.monitoring_v3",
        "google.cloud.monitoring_dashboard_v1",
        "google.cloud.logging_v2",
    }
    assert not {"obstore", "pandas", "numpy"} & all_services


CLIENTS = {
    *("google.cloud.aiplatform", "google.cloud.aiplatform_v1", "google.cloud.aiplatform_v1beta1", "vertexai"),
    *("google.cloud.bigquery", "google.cloud.storage", "google.genai", "google.cloud.resourcemanager_v3"),
    *("google.cloud.monitoring_v3", "google.cloud.monitoring_dashboard_v1", "google.cloud.logging_v2"),
}
"""What the high-level package of Vertex AI imports, and the clients that are there besides."""


ASKED = """
from mlscale.clock import SystemClock
from mlscale.providers.vertex.client import Client
client = Client("acme-ml", "us-central1", SystemClock())
names = client.read("endpoint", "get_endpoint", name="e")["name"], client.read("model", "get_model", name="m")["name"]
print(*names)
"""


@pytest.mark.parametrize("scheme", ["", "https://"])
def test_another_address_is_asked_with_credentials_over_tls(tmp_path: Path, scheme: str) -> None:
    """As Google's own is; a process of its own, since gRPC reads once whom it trusts."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (tmp_path / "trusted.pem").write_bytes(_certificate(key))
    (tmp_path / "key.json").write_text(json.dumps(_service_account(key)))

    with _answering(key, tmp_path) as (port, came):
        environment = {
            "MLSCALE_VERTEX_API_ENDPOINT": f"{scheme}localhost:{port}",
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(tmp_path / "trusted.pem"),
            "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "key.json"),
        }
        asked = subprocess.run(
            [sys.executable, "-c", ASKED], env=environment, capture_output=True, text=True, check=False
        )

    assert (asked.stdout, asked.stderr) == ("answered answered\n", "")
    assert [each["authorization"].partition(" ")[0] for each in came] == ["Bearer", "Bearer"]


PREDICTED = """
import sys
from mlscale.clock import SystemClock
from mlscale.providers.vertex.client import Client
client = Client("acme-ml", "us-central1", SystemClock())
endpoint = "projects/acme-ml/locations/us-central1/endpoints/reviews"
print(client.invoke(endpoint, b"[1]", "text/csv", host=sys.argv[1]).content_type)
"""


def test_a_dedicated_endpoint_is_asked_under_its_own_name(tmp_path: Path) -> None:
    """With credentials, over TLS, and told its id."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (tmp_path / "trusted.pem").write_bytes(_certificate(key))
    (tmp_path / "key.json").write_text(json.dumps(_service_account(key)))

    with _answering(key, tmp_path) as (port, came):
        environment = {
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(tmp_path / "trusted.pem"),
            "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "key.json"),
        }
        asked = subprocess.run(
            [sys.executable, "-c", PREDICTED, f"localhost:{port}"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    assert (asked.stdout, asked.stderr) == ("answered\n", "")
    assert [(each["authorization"].partition(" ")[0], each["x-vertex-ai-endpoint-id"]) for each in came] == [
        ("Bearer", "reviews")
    ]


@contextmanager
def _answering(key: rsa.RSAPrivateKey, folder: Path) -> Iterator[tuple[int, list[dict[str, str]]]]:
    """Serve over TLS one answer to everything; yields the port, and the metadata of the calls that come."""
    came: list[dict[str, str]] = []

    class Anything(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
        """Takes every method."""

        def service(self, details: Any) -> Any:
            """Return what answers a method."""
            came.append(dict(details.invocation_metadata))
            said = vx.Endpoint.serialize(vx.Endpoint(name="answered"))
            return grpc.unary_unary_rpc_method_handler(lambda _body, _context: said)

    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Anything()])
    credentials = grpc.ssl_server_credentials([(_pem(key), (folder / "trusted.pem").read_bytes())])
    port = server.add_secure_port("localhost:0", credentials)
    server.start()
    try:
        yield port, came
    finally:
        server.stop(None).wait()


def _pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _certificate(key: rsa.RSAPrivateKey) -> bytes:
    """Return a certificate of localhost that `key` itself signed."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    built = x509.CertificateBuilder(name, name, key.public_key(), 1, BEGINNING, END)
    built = built.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    return built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _service_account(key: rsa.RSAPrivateKey) -> dict[str, str]:
    """Return credentials that sign their own tokens, so that nobody is asked for one."""
    return {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": "1",
        "private_key": _pem(key).decode(),
        "client_email": f"mlscale@{PROJECT}.iam.gserviceaccount.com",
        "token_uri": "http://127.0.0.1:1/token",
    }


# Files


KEY = "mlscale/uploads/reviews/0af1/model.tar.gz"
PLACE = f"gs://{BUCKET}/{KEY}"


@pytest.fixture
def bucket(double: Double) -> str:
    """A bucket."""
    return double.make_bucket(BUCKET)


def a_file(folder: Path, size: int) -> Path:
    """Return a file of `size` bytes that are not all the same."""
    path = folder / "model.tar.gz"
    path.write_bytes((bytes(range(256)) * (size // 256 + 1))[:size])
    return path


def sizes(double: Double) -> dict[str, int]:
    """Return the objects in the bucket, and how large they are."""
    found: dict[str, int] = double.get(f"resources?bucket={BUCKET}")["objects"]
    return found


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("size", [0, 1000, PART_SIZE + 1000], ids=["empty", "small", "parts"])
def test_a_file_is_uploaded_whole(client: Client, double: Double, tmp_path: Path, size: int) -> None:
    """In parts where it is large, and who waits is told when it is there."""
    file, lines = a_file(tmp_path, size), list[str]()
    before = client.is_there(PLACE)

    client.upload(file, PLACE, telling(lines))

    assert (before, client.is_there(PLACE)) == (False, True)
    assert sizes(double) == {KEY: size}
    assert _content(double) == file.read_bytes()
    assert lines == [uploaded_text(size, size)]
    assert ("storage.PutPart" in calls(double)) is (size > PART_SIZE)


def _content(double: Double) -> bytes:
    with urllib.request.urlopen(f"{double.storage}/{BUCKET}/{KEY}", timeout=10) as answer:  # noqa: S310 - loopback
        content: bytes = answer.read()
        return content


@pytest.mark.usefixtures("bucket")
def test_a_large_upload_tells_how_far_it_is(client: Client, tmp_path: Path) -> None:
    """Of what was read the parts that may be under way are not yet uploaded."""
    size, lines = (PARTS + 1) * PART_SIZE + 1, list[str]()

    client.upload(a_file(tmp_path, size), PLACE, telling(lines))

    whole = f"{size / 1e6:.1f} MB uploaded"
    assert lines == [f"{PART_SIZE / 1e6:.1f} of {whole}", f"{size / 1e6:.1f} of {whole}"]


@pytest.mark.usefixtures("bucket")
def test_an_upload_that_fails_leaves_nothing(client: Client, double: Double, tmp_path: Path) -> None:
    """Neither the object nor parts, which are billed until somebody throws them away."""
    fail(double, "PutPart", "access_denied")

    with pytest.raises(WrongCredentials, match=f"writing {PLACE}"):
        client.upload(a_file(tmp_path, PART_SIZE + 1000), PLACE, quiet)

    assert sizes(double) == {}
    assert "storage.DeleteObject" in calls(double)  # a part that was under way may come after it
    assert not client.is_there(PLACE)


@pytest.mark.usefixtures("bucket")
def test_what_cloud_storage_fails_at_is_tried_again(client: Client, double: Double, tmp_path: Path) -> None:
    """By obstore: uploads too, since what is uploaded has a name of its own."""
    fail(double, "PutObject", "503", times=1)
    client.upload(a_file(tmp_path, 10), PLACE, quiet)
    fail(double, "HeadObject", "503", times=1)

    assert client.is_there(PLACE)
    assert [name for name in calls(double) if name != "storage.CreateBucket"] == [
        *["storage.PutObject"] * 2,
        *["storage.HeadObject"] * 2,
    ]


@pytest.mark.usefixtures("bucket")
def test_objects_are_listed_by_the_beginning_of_their_names(client: Client, double: Double) -> None:
    """In the middle of a name too, whatever is in it."""
    for key in ("uploads/reviews/1/a b", "uploads/reviews/2#%.bin", "uploads/reviews-2/1", "other/1"):
        double.put_object(f"gs://{BUCKET}/{key}", b"x")

    assert client.listed(f"gs://{BUCKET}/uploads/reviews/") == [
        f"gs://{BUCKET}/uploads/reviews/1/a b",
        f"gs://{BUCKET}/uploads/reviews/2#%.bin",
    ]
    assert client.listed(f"gs://{BUCKET}/uploads/reviews-") == [f"gs://{BUCKET}/uploads/reviews-2/1"]
    assert client.listed(f"gs://{BUCKET}/nothing") == []


@pytest.mark.usefixtures("bucket")
def test_an_object_that_is_gone_may_be_deleted(client: Client, double: Double) -> None:
    """A change done twice is harmless."""
    double.put_object(PLACE, b"x")

    client.delete(PLACE)
    client.delete(PLACE)

    assert sizes(double) == {}


@pytest.mark.parametrize(
    "use",
    [
        lambda client, file: client.upload(file, PLACE, quiet),
        lambda client, _file: client.listed(PLACE),
        lambda client, _file: client.delete(PLACE),
    ],
    ids=["upload", "list", "delete"],
)
def test_a_bucket_that_is_not_there_is_named(
    client: Client, tmp_path: Path, use: Callable[[Client, Path], object]
) -> None:
    """It is no object that is not there."""
    with pytest.raises(ProviderFailed, match="the bucket does not exist") as raised:
        use(client, a_file(tmp_path, 10))

    assert PLACE in raised.value.why


@pytest.mark.usefixtures("bucket")
def test_a_bucket_that_may_not_be_listed_is_no_empty_one(client: Client, double: Double) -> None:
    """Or what others use would be taken for unused."""
    double.post("settings", denied=["storage.objects.list"])

    with pytest.raises(WrongCredentials, match="these credentials may not do this"):
        client.listed(PLACE)


@pytest.mark.parametrize("place", ["s3://bucket/key", "gs://bucket", "gs:///key", "model.tar.gz"])
def test_a_place_elsewhere_is_refused(client: Client, place: str) -> None:
    """Before anything is called."""
    with pytest.raises(UsageError, match="this is no place in a bucket"):
        client.is_there(place)
