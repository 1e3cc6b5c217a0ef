"""The AWS double's control: faults, the journal, the kill switch, and what it says of what it does not have."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, HTTPClientError

from tests.doubles.aws import Double, serving
from tests.doubles.aws.arranged import BUCKET, a_config, a_model, serving_reviews

MODEL = "arn:aws:sagemaker:us-east-1:123456789012:model/reviews-1"
CHILD = """
import sys
import boto3
from botocore.config import Config

def client(service):
    config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    return boto3.client(service, config=config)

sagemaker, s3 = client("sagemaker"), client("s3")
sys.stdin.readline()
for number in (1, 2, 3):
    s3.put_object(Bucket="acme-ml", Key=f"mlscale/journal/{number}-before", Body=b"")
    sagemaker.describe_endpoint_config(EndpointConfigName="reviews-c1")
    sagemaker.add_tags(ResourceArn=sys.argv[1], Tags=[{"Key": f"k{number}", "Value": "v"}])
    s3.put_object(Bucket="acme-ml", Key=f"mlscale/journal/{number}-after", Body=b"")
"""


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


@pytest.mark.parametrize(
    ("point", "tags", "notes"),
    [
        ("before", ["k1"], ["1-after", "1-before", "2-before"]),
        ("committed", ["k1", "k2"], ["1-after", "1-before", "2-before"]),
        ("replied", ["k1", "k2"], ["1-after", "1-before", "2-before"]),
        ("working", ["k1", "k2"], ["1-after", "1-before", "2-after", "2-before", "3-before"]),
    ],
)
def test_a_process_ends_at_the_point_that_was_asked(
    double: Double, point: str, tags: list[str], notes: list[str]
) -> None:
    """The process is gone at the second mutating call, notes not counted, with exactly that much done."""
    a_model(double)
    a_config(double)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, MODEL], env=os.environ | double.environment, stdin=subprocess.PIPE, text=True
    )
    double.post("kill", pid=child.pid, nth=2, point=point)
    child.communicate("go\n")

    kill = double.get("kill")
    model = double.client("sagemaker").list_tags(ResourceArn=MODEL)
    written = double.get(f"resources?bucket={BUCKET}&prefix=mlscale/journal/")["objects"]
    assert child.returncode == -signal.SIGKILL
    assert kill == {
        "pid": child.pid,
        "nth": 2,
        "point": point,
        "counted": 2,
        "calls": ["sagemaker.AddTags"] * 2,
        "fired": True,
    }
    assert [each["Key"] for each in model["Tags"]] == tags
    assert sorted(key.rpartition("/")[2] for key in written) == notes


def test_uploads_count_and_notes_do_not(double: Double) -> None:
    """Objects under uploads/ are mutating calls for the kill switch; leases, journal and revisions are not."""
    double.make_bucket(BUCKET)
    s3 = double.client("s3")
    double.post("kill", pid=os.getpid(), nth=0, point="before")
    for folder in ("leases", "journal", "revisions", "uploads"):
        s3.put_object(Bucket=BUCKET, Key=f"mlscale/{folder}/x", Body=b"")
    s3.get_object(Bucket=BUCKET, Key="mlscale/uploads/x")

    kill = double.get("kill")
    assert (kill["calls"], kill["fired"]) == (["s3.PutObject"], False)


def _failure(double: Double, **fault: Any) -> tuple[str, int]:
    """Return code and status of the second of three calls, which has the fault; the others work."""
    sagemaker = double.client("sagemaker")
    double.post("faults", rules=[{"operation": r"sagemaker\.List", "nth": 2, **fault}])
    sagemaker.list_models()
    with pytest.raises(ClientError) as failed:
        sagemaker.list_models()
    sagemaker.list_models()
    response = failed.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("throttle", ("ThrottlingException", 400)),
        ("500", ("InternalFailure", 500)),
        ("503", ("ServiceUnavailable", 503)),
        ("expired", ("ExpiredTokenException", 400)),
        ("access_denied", ("AccessDeniedException", 400)),
    ],
)
def test_one_call_of_many_goes_wrong(double: Double, kind: str, answer: tuple[str, int]) -> None:
    """A fault hits the nth matching call, as often as it says."""
    assert _failure(double, kind=kind) == answer


def test_a_fault_may_say_anything(double: Double) -> None:
    """A custom fault has its own code and status."""
    assert _failure(double, kind="custom", code="ResourceInUse", message="no", status=409) == ("ResourceInUse", 409)


@pytest.mark.parametrize(
    ("service", "call", "code"),
    [
        ("s3", lambda client: client.list_objects_v2(Bucket=BUCKET), "SlowDown"),
        ("sts", lambda client: client.get_caller_identity(), "Throttling"),
        ("sagemaker-runtime", lambda client: client.invoke_endpoint(EndpointName="x", Body=b""), "ThrottlingException"),
    ],
)
def test_a_throttle_is_worded_in_each_protocol(double: Double, service: str, call: Any, code: str) -> None:
    """Faults are understood by clients of the XML, query and REST protocols too."""
    double.post("faults", rules=[{"operation": ".", "kind": "throttle"}])

    with pytest.raises(ClientError) as failed:
        call(double.client(service))

    assert failed.value.response["Error"]["Code"] == code


@pytest.mark.parametrize(("kind", "left"), [("drop", []), ("drop_after_commit", ["reviews-1"])])
def test_a_connection_ends_before_or_after_the_effect(double: Double, kind: str, left: list[str]) -> None:
    """A dropped connection tells the client nothing; whether the call had its effect is what differs."""
    double.post("faults", rules=[{"operation": "CreateModel", "kind": kind}])

    with pytest.raises((ConnectionClosedError, HTTPClientError)):
        a_model(double)

    assert list(double.get("resources")["models"]) == left


def test_a_call_may_hang_without_holding_up_others(double: Double) -> None:
    """A hanging call is given up by its client, while other calls are answered."""
    double.post("faults", rules=[{"operation": "ListModels", "kind": "hang", "seconds": 30}])
    hanging = double.client("sagemaker", read_timeout=0.2)

    with pytest.raises(HTTPClientError):
        hanging.list_models()

    assert double.client("sagemaker").list_endpoints()["Endpoints"] == []


def test_the_journal_has_each_call_whole(double: Double) -> None:
    """Each call is kept with what was asked, what came of it, and whether it can change something."""
    double.make_bucket(BUCKET)
    double.delete("journal")
    double.client("s3").put_object(Bucket=BUCKET, Key="mlscale/leases/x", Body=b"")
    with pytest.raises(ClientError):
        double.client("sagemaker").describe_model(ModelName="none")

    plain = {"region": "us-east-1", "account": "123456789012"}
    assert double.get("journal") == [
        {
            "number": 1,
            "service": "s3",
            "operation": "PutObject",
            "params": {"Bucket": BUCKET, "Key": "mlscale/leases/x", "Method": "PUT"},
            "mutating": True,
            "workspace": True,
            "status": 200,
            "error": None,
            **plain,
        },
        {
            "number": 2,
            "service": "sagemaker",
            "operation": "DescribeModel",
            "params": {"ModelName": "none"},
            "mutating": False,
            "workspace": False,
            "status": 400,
            "error": "ValidationException",
            **plain,
        },
    ]


def test_what_nobody_imitates_says_so(double: Double) -> None:
    """An operation without an imitation answers 501 with its name, whoever would have to have it."""
    calls: list[Callable[[], Any]] = [
        lambda: double.client("sagemaker").list_inference_components(),
        lambda: double.client("cloudwatch").list_metric_streams(),
        lambda: double.client("pricing").get_products(ServiceCode="AmazonSageMaker"),
    ]
    for call in calls:
        with pytest.raises(ClientError) as failed:
            call()
        assert failed.value.response["Error"]["Code"] == "MlscaleDoubleNotImplemented"
        assert failed.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501

    assert double.get("unimplemented") == [
        "cloudwatch.ListMetricStreams",
        "pricing.GetProducts",
        "sagemaker.ListInferenceComponents",
    ]


def test_a_wrong_control_request_is_refused(double: Double) -> None:
    """A word or a value that the control API does not know is an error, never ignored."""
    for word, asked in (
        ("script", {"endpoint": "x", "on": "update", "outcome": "explode"}),
        ("faults", {"rules": [{"operation": ".", "kind": "sulk"}]}),
        ("settings", {"delays": 3}),
        ("nothing", {}),
    ):
        with pytest.raises(ValueError, match=r"no such control|not one of|no setting"):
            double.post(word, **asked)


def test_a_reset_forgets_everything(double: Double) -> None:
    """After a reset nothing exists, in moto's part neither."""
    serving_reviews(double)
    double.post("reset")

    left = double.get(f"resources?bucket={BUCKET}")
    assert {kind for kind, held in left.items() if held} == set()
    assert double.client("s3").list_buckets()["Buckets"] == []


def test_a_test_begins_again_where_it_was_saved(double: Double) -> None:
    """Everything is as it was, S3 too; a fault, the journal, and what came after it are gone."""
    serving_reviews(double)
    double.post("save")
    before = double.get(f"resources?bucket={BUCKET}")
    s3 = double.client("s3")
    s3.put_object(Bucket=BUCKET, Key="another", Body=b"1")
    s3.delete_object(Bucket=BUCKET, Key=before["objects"][0])
    double.client("sagemaker").delete_endpoint(EndpointName="reviews")
    double.post("faults", rules=[{"operation": "DescribeModel", "kind": "500"}])

    double.post("restore")

    assert double.get(f"resources?bucket={BUCKET}") == before
    assert (double.get("journal"), double.get("faults")) == ([], [])
    double.client("sagemaker").describe_model(ModelName="reviews-1")


def test_nothing_saved_can_not_be_gone_back_to(double: Double) -> None:
    """It is an error of the test."""
    with pytest.raises(ValueError, match="nothing was saved"):
        double.post("restore")
