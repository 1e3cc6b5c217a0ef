"""The client of AWS, over HTTP against the double."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mlscale import __version__
from mlscale.errors import ExtraMissing, MlscaleError, NoCapacity, ProviderFailed, UsageError, WrongCredentials
from mlscale.providers.calling import uploaded_text
from mlscale.providers.sagemaker.calls import Call
from mlscale.providers.sagemaker.client import PART_SIZE, Client, Invoked
from tests.doubles.aws import serving
from tests.doubles.aws.serving import ACCOUNT, REGION, Double
from tests.doubles.moved_clock import MovedClock

OTHERS = "999999999999"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/mlscale-serving"
IMAGE = f"683313688378.dkr.ecr.{REGION}.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3"
SETTINGS = (
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_SESSION_TOKEN",
    "AWS_MAX_ATTEMPTS",
    "AWS_RETRY_MODE",
    "MLSCALE_CALL_TIMEOUT",
)
"""What a user's environment may have."""


@pytest.fixture(scope="module")
def served() -> Iterator[Double]:
    """A running double."""
    with serving() as double:
        yield double


@pytest.fixture
def double(served: Double, monkeypatch: pytest.MonkeyPatch) -> Double:
    """The double with nothing in it, and an environment that leads to it."""
    served.post("reset")
    served.post("faults", rules=[])
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    served.delete("journal")
    return served


@pytest.fixture
def clock() -> MovedClock:
    """A clock that moves when somebody sleeps on it."""
    return MovedClock()


@pytest.fixture
def client(double: Double, clock: MovedClock) -> Client:
    """A client that expects the account that the credentials are for; the double is there."""
    assert double
    return Client(ACCOUNT, REGION, clock)


def quiet(text: str) -> None:
    """Tell nobody."""


def calls(double: Double) -> list[str]:
    """Return the calls that came, less the question who we are."""
    return [name for name in all_calls(double) if name != "sts.GetCallerIdentity"]


def all_calls(double: Double) -> list[str]:
    """Return the calls that came, in order."""
    return [f"{each['service']}.{each['operation']}" for each in double.get("journal")]


def fail(double: Double, operation: str, kind: str, **more: Any) -> None:
    """Let calls of `operation` go wrong: every one, unless `times` says how many."""
    double.post("faults", rules=[{"operation": f"{operation}$", "kind": kind, "times": 1000, **more}])


def describe(client: Client) -> dict[str, Any] | None:
    """Return an endpoint that nobody made."""
    return client.find("sagemaker", "describe_endpoint", EndpointName="reviews")


def a_model(name: str = "reviews-1") -> Call:
    """Return the call that makes a model."""
    container = {"Image": IMAGE}
    request = {"ModelName": name, "ExecutionRoleArn": ROLE, "PrimaryContainer": container}
    return Call("sagemaker", "create_model", request)


# Who we are


def test_nothing_is_asked_of_another_account(double: Double) -> None:
    """Credentials for another account than the spec's end the run before any other call."""
    client = Client(OTHERS, REGION, MovedClock())

    with pytest.raises(WrongCredentials) as raised:
        client.change(a_model())

    assert raised.value.what == "the credentials are for another account"
    assert raised.value.why == f"the spec says {OTHERS}, they are for {ACCOUNT}"
    assert all_calls(double) == ["sts.GetCallerIdentity"]


def test_every_way_in_asks_who_we_are(double: Double, tmp_path: Path) -> None:
    """No method reaches another account."""
    file = tmp_path / "model.tar.gz"
    file.write_bytes(b"model")
    ways: list[Callable[[Client], object]] = [
        lambda client: client.account(),
        lambda client: client.read("sagemaker", "list_models"),
        lambda client: client.find("sagemaker", "describe_model", ModelName="reviews"),
        lambda client: client.pages("sagemaker", "list_models", "Models"),
        lambda client: client.create(a_model()),
        lambda client: client.remove(Call("sagemaker", "delete_model", {"ModelName": "reviews"})),
        lambda client: client.invoke({"EndpointName": "reviews", "Body": b""}),
        lambda client: client.upload(file, "s3://acme-ml/model.tar.gz", quiet),
        lambda client: client.is_there("s3://acme-ml/model.tar.gz"),
        lambda client: client.delete("s3://acme-ml/model.tar.gz"),
    ]
    for way in ways:
        with pytest.raises(WrongCredentials, match="another account"):
            way(Client(OTHERS, REGION, MovedClock()))

    assert set(all_calls(double)) == {"sts.GetCallerIdentity"}


def test_threads_that_share_a_client_ask_once_who_we_are(client: Client, double: Double) -> None:
    """Twenty first uses at a time are one question, and twenty answers."""
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(describe, [client] * 20))

    assert found == [None] * 20
    assert sorted(all_calls(double)) == ["sagemaker.DescribeEndpoint"] * 20 + ["sts.GetCallerIdentity"]


def test_a_question_that_failed_is_asked_again(client: Client, double: Double) -> None:
    """A throttled moment does not shut out the client for good."""
    fail(double, "GetCallerIdentity", "throttle")
    with pytest.raises(ProviderFailed, match="slow down"):
        client.account()
    fail(double, "nothing", "throttle")

    assert client.account() == ACCOUNT


def test_where_no_account_is_expected_none_is_asked_for(double: Double) -> None:
    """The question costs a call only where the answer matters."""
    assert describe(Client(None, REGION, MovedClock())) is None
    assert all_calls(double) == ["sagemaker.DescribeEndpoint"]


def test_without_credentials_it_says_so(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent without a name on it."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    with pytest.raises(WrongCredentials, match="there are no AWS credentials"):
        Client(ACCOUNT, REGION, MovedClock()).account()

    assert all_calls(double) == []


def test_a_profile_that_is_not_there_is_named(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error in AWS_PROFILE is found by its name."""
    monkeypatch.setenv("AWS_PROFILE", "prod")

    with pytest.raises(WrongCredentials, match="the AWS credentials can't be read") as raised:
        client.account()

    assert "(prod)" in raised.value.why


@pytest.mark.usefixtures("double")
def test_without_a_region_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """No call can be signed without one."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")

    with pytest.raises(UsageError, match="AWS has no such region"):
        describe(Client(None, "", MovedClock()))


@pytest.mark.usefixtures("double")
def test_without_boto3_the_install_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an optional package."""
    monkeypatch.setitem(sys.modules, "boto3", None)

    with pytest.raises(ExtraMissing) as raised:
        describe(Client(None, REGION, MovedClock()))

    assert raised.value.hint == "pip install 'mlscale[sagemaker]'"


# Reads


@pytest.mark.parametrize("kind", ["throttle", "500", "503", "drop"])
def test_a_read_is_tried_again_with_growing_pauses(
    client: Client, double: Double, clock: MovedClock, kind: str
) -> None:
    """What passes by itself is not seen by whoever reads."""
    fail(double, "DescribeEndpoint", kind, times=3)

    assert describe(client) is None
    assert calls(double) == ["sagemaker.DescribeEndpoint"] * 4
    assert clock.slept == [0.25, 0.5, 1.0]


def test_a_read_is_given_up_after_five_tries(client: Client, double: Double) -> None:
    """The error says that again may help, and what was asked."""
    fail(double, "DescribeEndpoint", "throttle")

    with pytest.raises(ProviderFailed) as raised:
        describe(client)

    assert (raised.value.what, raised.value.retryable) == ("AWS asks to slow down", True)
    assert raised.value.why == "sagemaker:DescribeEndpoint: Rate exceeded"
    assert calls(double) == ["sagemaker.DescribeEndpoint"] * 5


def test_no_try_begins_late(double: Double) -> None:
    """Calls that each take their whole time are not made five times over."""

    class Slow(MovedClock):
        """A clock by which every look at it is 8 s later than the last: that long a call takes."""

        def monotonic(self) -> float:
            self.move(8.0)
            return super().monotonic()

    fail(double, "DescribeEndpoint", "500")

    with pytest.raises(ProviderFailed):
        describe(Client(None, REGION, Slow()))

    assert calls(double) == ["sagemaker.DescribeEndpoint"] * 3


@pytest.mark.parametrize(
    ("kind", "kindly"),
    [("access_denied", "these credentials may not do this"), ("expired", "the AWS credentials have expired")],
)
def test_what_does_not_pass_by_itself_is_read_once(client: Client, double: Double, kind: str, kindly: str) -> None:
    """Credentials don't get better by being tried."""
    fail(double, "DescribeEndpoint", kind)

    with pytest.raises(WrongCredentials, match=kindly):
        describe(client)

    assert calls(double) == ["sagemaker.DescribeEndpoint"]


@pytest.mark.parametrize(
    ("service", "operation", "request_"),
    [
        ("sagemaker", "describe_endpoint", {"EndpointName": "reviews"}),
        ("sagemaker", "describe_endpoint_config", {"EndpointConfigName": "reviews"}),
        ("sagemaker", "describe_model", {"ModelName": "reviews"}),
        ("cloudwatch", "get_dashboard", {"DashboardName": "mlscale-reviews"}),
        ("logs", "describe_log_streams", {"logGroupName": "/aws/sagemaker/Endpoints/reviews"}),
        ("iam", "get_role", {"RoleName": "mlscale-serving"}),
        ("ecr", "describe_images", {"repositoryName": "reviews"}),
        ("s3", "head_bucket", {"Bucket": "acme-ml"}),
        ("s3", "list_objects_v2", {"Bucket": "acme-ml"}),
        ("service-quotas", "get_service_quota", {"ServiceCode": "sagemaker", "QuotaCode": "L-00000000"}),
    ],
)
def test_what_is_not_there_is_none(client: Client, service: str, operation: str, request_: dict[str, Any]) -> None:
    """Whatever a service calls it."""
    assert client.find(service, operation, **request_) is None


def test_an_answer_is_what_the_service_says_and_no_more(client: Client) -> None:
    """It can be compared whole: nothing of the transport is in it."""
    assert client.read("application-autoscaling", "describe_scalable_targets", ServiceNamespace="sagemaker") == {
        "ScalableTargets": []
    }


def test_all_pages_of_a_list_come_together(client: Client, double: Double) -> None:
    """In order, and a page that failed is read again by itself."""
    names = [f"reviews-{number:02}" for number in range(25)]
    for name in names:
        client.change(a_model(name))
    double.delete("journal")
    double.post("faults", rules=[{"operation": "ListModels$", "kind": "throttle", "nth": 2, "times": 1}])

    found = client.pages("sagemaker", "list_models", "Models", MaxResults=10, SortBy="Name", SortOrder="Ascending")

    assert [each["ModelName"] for each in found] == names
    assert calls(double) == ["sagemaker.ListModels"] * 4


def test_a_hang_ends_with_the_call_timeout(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is we who end it, five times over: the double would hold the line for longer."""
    monkeypatch.setenv("MLSCALE_CALL_TIMEOUT", "0.4s")
    fail(double, "DescribeEndpoint", "hang", seconds=5.0)

    with pytest.raises(ProviderFailed, match="AWS does not answer: sagemaker:DescribeEndpoint: Read timeout") as raised:
        describe(Client(None, REGION, MovedClock()))

    assert raised.value.retryable
    assert calls(double) == ["sagemaker.DescribeEndpoint"] * 5


@pytest.mark.parametrize("text", ["soon", "20", "0s"])
def test_a_call_timeout_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is called."""
    monkeypatch.setenv("MLSCALE_CALL_TIMEOUT", text)

    with pytest.raises(UsageError) as raised:
        Client(ACCOUNT, REGION, MovedClock())

    assert raised.value.what == "MLSCALE_CALL_TIMEOUT is not a duration"
    assert raised.value.hint == "write it like MLSCALE_CALL_TIMEOUT=20s"


def test_nobody_at_the_address_is_no_answer(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that is down is no matter of credentials."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")

    with pytest.raises(ProviderFailed, match="AWS does not answer") as raised:
        describe(client)

    assert raised.value.retryable


# Changes


@pytest.mark.parametrize(("kind", "again"), [("throttle", True), ("500", True), ("drop", True), ("expired", False)])
def test_a_change_is_tried_once(client: Client, double: Double, clock: MovedClock, kind: str, *, again: bool) -> None:
    """Whether it is made again is decided by who holds the lease; the error says if that may help."""
    fail(double, "CreateModel", kind)

    with pytest.raises(MlscaleError) as raised:
        client.change(a_model())

    assert (isinstance(raised.value, ProviderFailed) and raised.value.retryable) is again
    assert calls(double) == ["sagemaker.CreateModel"]
    assert clock.slept == []


def test_a_quota_that_is_used_up_is_no_capacity(client: Client, double: Double) -> None:
    """With the command that asks for more of it."""
    double.post("quotas", **{"ml.c5.xlarge": 0})
    client.change(a_model())
    variant = {"VariantName": "a", "ModelName": "reviews-1", "InstanceType": "ml.c5.xlarge", "InitialInstanceCount": 1}
    config = {"EndpointConfigName": "reviews-1", "ProductionVariants": [variant]}
    client.change(Call("sagemaker", "create_endpoint_config", config))

    with pytest.raises(NoCapacity, match="an AWS quota is used up") as raised:
        client.change(
            Call("sagemaker", "create_endpoint", {"EndpointName": "reviews", "EndpointConfigName": "reviews-1"})
        )

    assert "QuotaName=='ml.c5.xlarge for endpoint usage'" in raised.value.hint
    assert f"--region {REGION} --desired-value 1 " in raised.value.hint


def test_what_is_made_or_gone_already_is_no_error(client: Client, double: Double) -> None:
    """A change done twice is harmless where the name says what is in it."""
    gone = Call("sagemaker", "delete_model", {"ModelName": "reviews-1"})

    client.create(a_model())
    client.create(a_model())
    made = list(double.get("resources")["models"])
    client.remove(gone)
    client.remove(gone)

    assert made == ["reviews-1"]
    assert double.get("resources")["models"] == {}


def test_a_refusal_is_no_success(client: Client) -> None:
    """Only what is there already, or gone already, is."""
    unheard_of = Call("sagemaker", "create_endpoint", {"EndpointName": "reviews", "EndpointConfigName": "reviews-1"})
    with pytest.raises(ProviderFailed, match="AWS has no such resource"):
        client.create(unheard_of)

    client.create(a_model())
    with pytest.raises(ProviderFailed, match="already existing"):
        client.remove(a_model())


# Invocations


@pytest.fixture
def endpoint(client: Client, double: Double) -> None:
    """An endpoint `reviews` with one variant."""
    client.change(a_model())
    variant = {"VariantName": "a", "ModelName": "reviews-1", "InstanceType": "ml.c5.xlarge", "InitialInstanceCount": 1}
    config = {"EndpointConfigName": "reviews-1", "ProductionVariants": [variant]}
    client.change(Call("sagemaker", "create_endpoint_config", config))
    client.change(Call("sagemaker", "create_endpoint", {"EndpointName": "reviews", "EndpointConfigName": "reviews-1"}))
    double.post("advance", seconds=3600)


REQUEST = {"EndpointName": "reviews", "Body": b"[1]", "ContentType": "application/json"}


@pytest.mark.usefixtures("endpoint")
def test_a_models_answer_comes_whole(client: Client, double: Double) -> None:
    """With the variant that gave it."""
    double.post("answers", endpoint="reviews", body="[2]", content_type="application/json")

    assert client.invoke(REQUEST) == Invoked(200, "application/json", b"[2]", "a")


@pytest.mark.usefixtures("endpoint")
def test_a_models_refusal_is_an_answer(client: Client, double: Double) -> None:
    """Its status and words, as if it had been asked itself."""
    double.post("answers", endpoint="reviews", status=400, body="rows are missing")

    assert client.invoke(REQUEST) == Invoked(400, "", b"rows are missing")


def test_an_invocation_that_does_not_reach_a_model_is_a_failure(client: Client, double: Double) -> None:
    """It is tried once: a prediction may cost or count."""
    fail(double, "InvokeEndpoint", "throttle")

    with pytest.raises(ProviderFailed, match="slow down"):
        client.invoke(REQUEST)

    assert calls(double) == ["sagemaker-runtime.InvokeEndpoint"]


# Files


BUCKET, KEY = "acme-ml", "mlscale/uploads/reviews/0af1.tar.gz"
PLACE = f"s3://{BUCKET}/{KEY}"


@pytest.fixture
def bucket(double: Double) -> Any:
    """A bucket; boto3's client of it."""
    double.make_bucket(BUCKET)
    double.delete("journal")
    return double.client("s3")


def uploaded(bucket: Any) -> bytes:
    """Return the object's content."""
    content: bytes = bucket.get_object(Bucket=BUCKET, Key=KEY)["Body"].read()
    return content


def a_file(folder: Path, size: int) -> Path:
    """Return a file of `size` bytes that are not all the same."""
    path = folder / "model.tar.gz"
    path.write_bytes((bytes(range(256)) * (size // 256 + 1))[:size])
    return path


@pytest.mark.parametrize("size", [0, 1000, PART_SIZE + 1000], ids=["empty", "small", "parts"])
def test_a_file_is_uploaded_whole(client: Client, bucket: Any, tmp_path: Path, size: int) -> None:
    """In parts where it is large, and who waits is told how far it is."""
    file, lines = a_file(tmp_path, size), list[str]()
    before = client.is_there(PLACE)

    def tell(text: str) -> None:
        lines.append(text)

    client.upload(file, PLACE, tell)

    assert (before, client.is_there(PLACE)) == (False, True)
    assert uploaded(bucket) == file.read_bytes()
    assert lines[-1:] == ([uploaded_text(size, size)] if size else [])


def test_an_upload_that_fails_leaves_nothing(client: Client, double: Double, bucket: Any, tmp_path: Path) -> None:
    """Neither the object nor parts, which are billed until somebody throws them away."""
    fail(double, "UploadPart", "access_denied")

    with pytest.raises(WrongCredentials, match="s3:PutObject"):
        client.upload(a_file(tmp_path, PART_SIZE + 1000), PLACE, quiet)

    assert not client.is_there(PLACE)
    assert "Uploads" not in bucket.list_multipart_uploads(Bucket=BUCKET)


def test_parts_that_a_killed_upload_left_are_thrown_away(client: Client, bucket: Any, tmp_path: Path) -> None:
    """Those of this object; another's may still be on their way."""
    others = bucket.create_multipart_upload(Bucket=BUCKET, Key=f"{KEY}.other")["UploadId"]
    bucket.create_multipart_upload(Bucket=BUCKET, Key=KEY)

    client.upload(a_file(tmp_path, PART_SIZE + 1000), PLACE, quiet)

    assert [each["UploadId"] for each in bucket.list_multipart_uploads(Bucket=BUCKET)["Uploads"]] == [others]


def test_who_may_not_see_parts_uploads_all_the_same(
    client: Client, double: Double, bucket: Any, tmp_path: Path
) -> None:
    """Throwing away is a kindness, not a need."""
    file = a_file(tmp_path, PART_SIZE + 1000)
    fail(double, "ListMultipartUploads", "access_denied")

    client.upload(file, PLACE, quiet)

    assert uploaded(bucket) == file.read_bytes()


def test_a_bucket_that_is_not_there_is_said(client: Client, tmp_path: Path) -> None:
    """Once and for all: no try makes it."""
    with pytest.raises(ProviderFailed, match="AWS has no such resource: s3:PutObject") as raised:
        client.upload(a_file(tmp_path, 10), "s3://not-there/model.tar.gz", quiet)

    assert not raised.value.retryable


def test_an_object_is_deleted_as_often_as_one_likes(client: Client, bucket: Any) -> None:
    """None there is no error."""
    bucket.put_object(Bucket=BUCKET, Key=KEY, Body=b"model")

    client.delete(PLACE)
    client.delete(PLACE)

    assert not client.is_there(PLACE)


@pytest.mark.parametrize("place", ["gs://acme-ml/model", "s3://acme-ml", "s3:///model", "model.tar.gz"])
def test_a_place_outside_s3_is_refused(client: Client, place: str) -> None:
    """A whole place has a bucket and a key."""
    with pytest.raises(UsageError, match="this is no place in a bucket"):
        client.is_there(place)


# What goes over the wire


class Page(BaseHTTPRequestHandler):
    """A server that has one page of HTML for everybody."""

    agents: list[str]

    def do_POST(self) -> None:
        """Answer with the page."""
        self.rfile.read(int(self.headers["content-length"]))
        self.agents.append(self.headers["user-agent"])
        body = b"<!doctype html><title>502 Bad Gateway</title><h1>nginx</h1>"
        self.send_response(502)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's own name
        """Say nothing."""


@pytest.fixture
def agents(double: Double, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Who asked a server that has one page of HTML; the environment leads there."""
    assert double
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Recording", (Page,), {"agents": asked}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    try:
        yield asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    "call",
    [
        a_model(),
        Call("cloudwatch", "delete_dashboards", {"DashboardNames": ["reviews"]}),
        Call("sts", "get_caller_identity", {}),
        Call("iam", "delete_role", {"RoleName": "serving"}),
        Call("s3", "delete_objects", {"Bucket": "acme-ml", "Delete": {"Objects": [{"Key": "model"}]}}),
    ],
    ids=lambda call: call.service,
)
def test_a_page_of_html_is_a_failure_that_may_pass(agents: list[str], call: Call) -> None:
    """Each protocol reads it in its own way: as an error, or not at all."""
    with pytest.raises(ProviderFailed) as raised:
        Client(None, REGION, MovedClock()).change(call)

    assert raised.value.what in ("AWS has a problem of its own", "AWS's answer can't be read")
    assert raised.value.retryable
    assert "<" not in raised.value.why
    assert len(agents) == 1


def test_a_call_says_who_makes_it(agents: list[str]) -> None:
    """AWS's support and the owner's CloudTrail see which program it was."""
    with pytest.raises(ProviderFailed):
        Client(None, REGION, MovedClock()).change(a_model())

    assert [agent.split()[-1] for agent in agents] == [f"mlscale/{__version__}"]
