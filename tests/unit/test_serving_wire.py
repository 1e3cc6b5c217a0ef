"""The clouds' own words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlscale.serving.codec import Reply
from mlscale.serving.wire import Call, Dialect, answered, call_of, refused, unknown_endpoint

REVISION = "00000000000000ff"
PLACE = "projects/acme/locations/us-central1"
SAGEMAKER = Call(Dialect.SAGEMAKER, "reviews")
VERTEX = Call(Dialect.VERTEX, "reviews", PLACE)
RAW = Call(Dialect.VERTEX_RAW, "reviews", PLACE)
PLAIN = Call(Dialect.PLAIN)
JSON = ("content-type", "application/json")


def read(reply: Reply) -> tuple[int, dict[str, str], Any]:
    """Return a reply with its body decoded."""
    return reply.status, dict(reply.headers), json.loads(reply.body)


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("/invocations", PLAIN),
        ("/endpoints/reviews/invocations", SAGEMAKER),
        (f"/v1/{PLACE}/endpoints/reviews:predict", VERTEX),
        (f"/v1beta1/{PLACE}/endpoints/reviews:predict", VERTEX),
        (f"/v1/{PLACE}/endpoints/reviews:rawPredict", RAW),
        ("/", None),
        ("/invocations/", None),
        ("/endpoints//invocations", None),
        ("/endpoints/a/b/invocations", None),
        ("/endpoints/reviews/invocations-response-stream", None),
        (f"/v2/{PLACE}/endpoints/reviews:predict", None),
        (f"/v1/{PLACE}/endpoints/reviews:explain", None),
        ("/v1/projects/acme/endpoints/reviews:predict", None),
    ],
)
def test_a_path_means_a_call(path: str, call: Call | None) -> None:
    """Both clouds' routes and the container's own are known, and nothing near them."""
    assert call_of(path) == call


@pytest.mark.parametrize("call", [PLAIN, RAW])
def test_a_plain_answer_is_passed_on(call: Call) -> None:
    """The model's status, headers and body, and who answered."""
    reply = answered(call, Reply(201, (JSON, ("x-own", "1")), b"[1]"), REVISION, "id-1", "reviews")

    marks = (("x-mlscale-revision", REVISION), ("x-request-id", "id-1"))
    assert reply == Reply(201, (JSON, ("x-own", "1"), *marks), b"[1]")


def test_sagemaker_names_the_variant() -> None:
    """The answer carries what InvokeEndpoint reads from headers."""
    reply = answered(SAGEMAKER, Reply(200, (JSON,), b"[1]"), REVISION, "id-1", "reviews")

    assert reply == Reply(
        200,
        (
            JSON,
            ("x-mlscale-revision", REVISION),
            ("x-request-id", "id-1"),
            ("x-amzn-requestid", "id-1"),
            ("x-amzn-invoked-production-variant", REVISION),
        ),
        b"[1]",
    )


@pytest.mark.parametrize(("status", "code"), [(400, "CLIENT_ERROR_FROM_MODEL"), (500, "INTERNAL_FAILURE_FROM_MODEL")])
def test_a_failing_model_is_a_model_error_on_sagemaker(status: int, code: str) -> None:
    """Status 424, the model's own status and words inside, and where its log is."""
    reply = answered(SAGEMAKER, Reply(status, (JSON,), b'{"error":"no"}'), REVISION, "id-1", "reviews")

    assert read(reply) == (
        424,
        {
            "content-type": "application/json",
            "x-mlscale-revision": REVISION,
            "x-request-id": "id-1",
            "x-amzn-requestid": "id-1",
            "x-amzn-invoked-production-variant": REVISION,
            "x-amzn-errortype": "ModelError",
        },
        {
            "ErrorCode": code,
            "LogStreamArn": "",
            "Message": f'Received error ({status}) from model with message "{{"error":"no"}}". '
            "See: mlscale logs (reviews)",
            "OriginalMessage": '{"error":"no"}',
            "OriginalStatusCode": status,
        },
    )


@pytest.mark.parametrize("body", [b'{"predictions":[1]}', b"[1]"])
def test_vertex_names_the_deployed_model(body: bytes) -> None:
    """Predictions, wrapped by the model or not, with the fields of PredictResponse."""
    reply = answered(VERTEX, Reply(200, (JSON,), body), REVISION, "id-1", "reviews")

    assert read(reply) == (
        200,
        {"content-type": "application/json", "x-mlscale-revision": REVISION, "x-request-id": "id-1"},
        {
            "predictions": [1],
            "deployedModelId": "255",
            "model": f"{PLACE}/models/reviews-{REVISION}",
            "modelDisplayName": f"reviews-{REVISION}",
        },
    )


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (400, "INVALID_ARGUMENT"),
        (404, "NOT_FOUND"),
        (415, "INVALID_ARGUMENT"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL"),
        (502, "INTERNAL"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
    ],
)
def test_a_failing_model_is_a_google_error_on_vertex(status: int, word: str) -> None:
    """Google's error object for both verbs, with the model's status and words: its client reads nothing else."""
    expected = (status, {"error": {"code": status, "message": "no", "status": word}})
    for call in (VERTEX, RAW):
        reply = answered(call, Reply(status, (("content-type", "text/plain"),), b"no"), REVISION, "id-1", "reviews")
        assert (reply.status, json.loads(reply.body)) == expected


def test_predict_needs_json_of_the_model() -> None:
    """A CSV answer can't be a PredictResponse; rawPredict passes it on."""
    reply = answered(VERTEX, Reply(200, (("content-type", "text/csv"),), b"1,2\n"), REVISION, "id-1", "reviews")

    assert (reply.status, json.loads(reply.body)["error"]["message"]) == (
        500,
        "the model's answer is not JSON: use :rawPredict",
    )


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (400, "ValidationError"),
        (405, "ValidationError"),
        (408, "ValidationError"),
        (413, "ValidationError"),
        (503, "ServiceUnavailable"),
        (502, "InternalFailure"),
        (504, "InternalFailure"),
    ],
)
def test_a_refusal_is_in_sagemakers_words(status: int, word: str) -> None:
    """The error's type is in the header that boto3 reads."""
    assert read(refused(SAGEMAKER, status, "no", "id-1")) == (
        status,
        {
            "content-type": "application/json",
            "x-request-id": "id-1",
            "x-amzn-requestid": "id-1",
            "x-amzn-errortype": word,
        },
        {"Message": "no"},
    )


def test_a_refusal_is_in_everybodys_words() -> None:
    """Plain clients get one field, Google's get their error object."""
    headers = {"content-type": "application/json", "x-request-id": "id-1"}
    assert read(refused(PLAIN, 413, "no", "id-1")) == (413, headers, {"error": "no"})
    google = {"error": {"code": 413, "message": "no", "status": "INVALID_ARGUMENT"}}
    assert read(refused(VERTEX, 413, "no", "id-1")) == (413, headers, google)
    assert read(refused(RAW, 413, "no", "id-1")) == (413, headers, google)


def test_an_unknown_endpoint_is_what_each_cloud_says() -> None:
    """SageMaker has 400 ValidationError for it, Google 404 NOT_FOUND."""
    status, headers, body = read(unknown_endpoint(SAGEMAKER._replace(endpoint="other"), "id-1"))
    assert (status, headers["x-amzn-errortype"]) == (400, "ValidationError")
    assert body == {"Message": "Endpoint other of account 000000000000 not found."}

    status, _, body = read(unknown_endpoint(VERTEX._replace(endpoint="other"), "id-1"))
    message = f"Endpoint `{PLACE}/endpoints/other` not found."
    assert (status, body) == (404, {"error": {"code": 404, "message": message, "status": "NOT_FOUND"}})
