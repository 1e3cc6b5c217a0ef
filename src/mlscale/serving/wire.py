"""The clouds' own wire formats: which request a path means, and how each cloud words an answer or an error; pure."""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from mlscale.serving.codec import Reply

_SAGEMAKER = re.compile(r"/endpoints/(?P<name>[^/]+)/invocations")
_VERTEX = re.compile(
    r"/v1(?:beta1)?/projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/endpoints/(?P<name>[^/:]+)"
    r":(?P<verb>predict|rawPredict)"
)

_FAILED = 400
_SERVERS_FAULT = 500

_GOOGLE_STATUS = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""Those that are not INVALID_ARGUMENT or INTERNAL (google.rpc.Code)."""


class Dialect(StrEnum):
    """Whose client is talking."""

    PLAIN = "plain"
    SAGEMAKER = "sagemaker"
    VERTEX = "vertex"
    VERTEX_RAW = "vertex_raw"


class Call(NamedTuple):
    """A prediction request: in whose words, and for which endpoint (empty: the one that is here)."""

    dialect: Dialect
    endpoint: str = ""
    resource: str = ""


@lru_cache(256)
def call_of(path: str) -> Call | None:
    """Return what a POST to `path` asks for, None if nothing that is known."""
    if path == "/invocations":
        return Call(Dialect.PLAIN)
    if found := _SAGEMAKER.fullmatch(path):
        return Call(Dialect.SAGEMAKER, found["name"])
    if found := _VERTEX.fullmatch(path):
        dialect = Dialect.VERTEX if found["verb"] == "predict" else Dialect.VERTEX_RAW
        place = f"projects/{found['project']}/locations/{found['location']}"
        return Call(dialect, found["name"], place)
    return None


def answered(call: Call, reply: Reply, revision: str, request_id: str, name: str) -> Reply:
    """Return the model's answer in the words of the cloud whose client asks.

    Args:
        call: what was asked.
        reply: the model server's answer.
        revision: the id of the revision that answered.
        request_id: the request's id.
        name: the deployment's name.
    """
    marks: tuple[tuple[str, str], ...] = (("x-mlscale-revision", revision), ("x-request-id", request_id))
    match call.dialect:
        case Dialect.PLAIN:
            return Reply(reply.status, (*reply.headers, *marks), reply.body)
        case Dialect.SAGEMAKER:
            marks = (*marks, ("x-amzn-requestid", request_id), ("x-amzn-invoked-production-variant", revision))
            if reply.status < _FAILED:
                return Reply(reply.status, (*reply.headers, *marks), reply.body)
            return _sagemaker_model_error(reply, marks, name)
        case Dialect.VERTEX | Dialect.VERTEX_RAW if reply.status >= _FAILED:
            body = _google_error(reply.status, reply.body.decode(errors="replace"))
            return Reply(reply.status, (("content-type", "application/json"), *marks), body)
        case Dialect.VERTEX_RAW:
            return Reply(reply.status, (*reply.headers, *marks), reply.body)
        case Dialect.VERTEX:
            return _vertex_answer(call, reply, marks, revision, name)


def refused(call: Call, status: int, message: str, request_id: str) -> Reply:
    """Return the gateway's own refusal in the words of the cloud whose client asks."""
    kind = (("content-type", "application/json"), ("x-request-id", request_id))
    match call.dialect:
        case Dialect.PLAIN:
            return Reply(status, kind, orjson.dumps({"error": message}))
        case Dialect.SAGEMAKER:
            fault = "ValidationError" if status < _SERVERS_FAULT else "InternalFailure"
            error = "ServiceUnavailable" if status == 503 else fault  # noqa: PLR2004 - HTTP's number
            marks = (*kind, ("x-amzn-requestid", request_id), ("x-amzn-errortype", error))
            return Reply(status, marks, orjson.dumps({"Message": message}))
        case Dialect.VERTEX | Dialect.VERTEX_RAW:
            return Reply(status, kind, _google_error(status, message))


def unknown_endpoint(call: Call, request_id: str) -> Reply:
    """Return what each cloud says to a name that it does not have.

    Source: SageMaker Runtime answers `ValidationError` with "Endpoint X of account Y not found."
    (aws/amazon-sagemaker-examples#293); Google APIs answer 404 NOT_FOUND.
    """
    if call.dialect is Dialect.SAGEMAKER:
        return refused(call, 400, f"Endpoint {call.endpoint} of account 000000000000 not found.", request_id)
    return refused(call, 404, f"Endpoint `{call.resource}/endpoints/{call.endpoint}` not found.", request_id)


def _sagemaker_model_error(reply: Reply, marks: tuple[tuple[str, str], ...], name: str) -> Reply:
    """Return a ModelError: status 424, the model's own answer inside (SageMaker Runtime API, InvokeEndpoint)."""
    original = reply.body.decode(errors="replace")
    body = {
        "ErrorCode": "CLIENT_ERROR_FROM_MODEL" if reply.status < _SERVERS_FAULT else "INTERNAL_FAILURE_FROM_MODEL",
        "LogStreamArn": "",
        "Message": f'Received error ({reply.status}) from model with message "{original}". See: mlscale logs ({name})',
        "OriginalMessage": original,
        "OriginalStatusCode": reply.status,
    }
    headers = (("content-type", "application/json"), *marks, ("x-amzn-errortype", "ModelError"))
    return Reply(424, headers, orjson.dumps(body))


def _vertex_answer(call: Call, reply: Reply, marks: tuple[tuple[str, str], ...], revision: str, name: str) -> Reply:
    headers = (("content-type", "application/json"), *marks)
    try:
        answer: Any = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        return Reply(500, headers, _google_error(500, "the model's answer is not JSON: use :rawPredict"))
    body = answer if isinstance(answer, dict) else {"predictions": answer}
    body |= {
        "deployedModelId": str(int(revision, 16) % 10**10) if revision else "0",
        "model": f"{call.resource}/models/{name}-{revision}",
        "modelDisplayName": f"{name}-{revision}",
    }
    return Reply(reply.status, headers, orjson.dumps(body))


def _google_error(status: int, message: str) -> bytes:
    word = _GOOGLE_STATUS.get(status, "INVALID_ARGUMENT" if status < _SERVERS_FAULT else "INTERNAL")
    return orjson.dumps({"error": {"code": status, "message": message, "status": word}})
