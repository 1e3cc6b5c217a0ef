"""From HTTP to a call and back, in the protocols of the services that are imitated here."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

from tests.doubles.aws.world import Json

TARGETS = {
    "SageMaker": "sagemaker",
    "AnyScaleFrontendService": "application-autoscaling",
    "GraniteServiceVersion20100801": "cloudwatch",
    "Logs_20140328": "logs",
    "ServiceQuotasV20190624": "service-quotas",
    "ResourceGroupsTaggingAPI_20170126": "resourcegroupstaggingapi",
    "AmazonEC2ContainerRegistry_V20150921": "ecr",
}
"""botocore's `targetPrefix` of each service that sends one, and its name."""

READING = (
    "Assume", "Batch", "Describe", "Filter", "Get", "Head", "Invoke", "List", "Lookup", "Search", "Simulate", "Test",
)  # fmt: skip
"""What the names of operations begin with that leave everything as it is."""

WORKSPACE = re.compile(r"(^|/)(leases|journal|revisions|rollouts)/")
RUNTIME = re.compile(r"^/endpoints/([^/]+)/(invocations|async-invocations)$")
DEFAULT_REGION = "us-east-1"


@dataclass
class Call:
    """One request, understood."""

    service: str
    operation: str
    params: Json
    protocol: str
    region: str = DEFAULT_REGION
    access_key: str = ""
    account: str = ""
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return what faults and journals call it."""
        return f"{self.service}.{self.operation}"

    @property
    def mutating(self) -> bool:
        """Return whether it may change what exists."""
        return not self.operation.startswith(READING)

    @property
    def workspace(self) -> bool:
        """Return whether it is about mlscale's own notes in a bucket."""
        return self.service == "s3" and WORKSPACE.search(str(self.params.get("Key", ""))) is not None


@dataclass
class Reply:
    """What goes back."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    error: str | None = None


def understood(environ: Json, body: bytes) -> Call:
    """Return the call that a request is."""
    path = environ["PATH_INFO"]
    headers = {
        key[5:].replace("_", "-").lower(): str(value) for key, value in environ.items() if key.startswith("HTTP_")
    }
    key, region, signed_for = _signature(headers.get("authorization", ""))
    target = headers.get("x-amz-target", "")
    if target:
        prefix, _, operation = target.partition(".")
        call = Call(TARGETS.get(prefix, signed_for or prefix), operation, _parsed(body), "json")
    elif runtime := RUNTIME.match(path):
        operation = "InvokeEndpoint" if runtime[2] == "invocations" else "InvokeEndpointAsync"
        call = Call("sagemaker-runtime", operation, {"EndpointName": unquote(runtime[1])}, "rest-json")
    elif signed_for not in {"", "s3"} and environ.get("CONTENT_TYPE", "").startswith(
        "application/x-www-form-urlencoded"
    ):
        words = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        call = Call(signed_for, words.pop("Action", ""), words, "query")
    elif signed_for in {"", "s3"}:
        call = _s3(environ, path)
        if call.operation == "DeleteObjects" and (named := re.search(rb"<Key>([^<]*)</Key>", body)):
            call.params["Key"] = named[1].decode()
    else:
        call = Call(signed_for, f"{environ['REQUEST_METHOD']} {path}", {}, "rest-json")
    call.region, call.access_key, call.body, call.headers = region, key, body, headers
    return call


def _signature(authorization: str) -> tuple[str, str, str]:
    """Return who signed, for which region and which service."""
    found = re.search(r"Credential=([^/]+)/[^/]+/([^/]+)/([^/]+)/", authorization)
    return (found[1], found[2], found[3].lower()) if found else ("", DEFAULT_REGION, "")


def _parsed(body: bytes) -> Json:
    try:
        parsed = json.loads(body or b"{}")
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _s3(environ: Json, path: str) -> Call:
    """Return the call on a bucket or an object; buckets stand in the path."""
    bucket, _, key = unquote(path).lstrip("/").partition("/")
    words = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    method = environ["REQUEST_METHOD"]
    operation = _s3_object(method, words) if key else _s3_bucket(method, words, bucket)
    params = {"Bucket": bucket, "Key": key, "Method": method}
    if "prefix" in words:
        params["Prefix"] = words["prefix"][0]
    return Call("s3", operation, params, "rest-xml")


def _s3_object(method: str, words: dict[str, list[str]]) -> str:
    match method:
        case "POST":
            return "CreateMultipartUpload" if "uploads" in words else "CompleteMultipartUpload"
        case "PUT":
            return "UploadPart" if "partNumber" in words else "PutObject"
        case "DELETE":
            return "AbortMultipartUpload" if "uploadId" in words else "DeleteObject"
        case _:
            return f"{method.capitalize()}Object"


def _s3_bucket(method: str, words: dict[str, list[str]], bucket: str) -> str:
    if not bucket:
        return "ListBuckets"
    match method:
        case "POST":
            return "DeleteObjects" if "delete" in words else "PostObject"
        case "GET":
            named = {
                "location": "GetBucketLocation",
                "uploads": "ListMultipartUploads",
                "versions": "ListObjectVersions",
            }
            return next((operation for word, operation in named.items() if word in words), "ListObjectsV2")
        case "PUT":
            return "CreateBucket" if not words else "PutBucketSetting"
        case _:
            return f"{method.capitalize()}Bucket"


def result(answer: Json) -> Reply:
    """Return an answer in the JSON protocol."""
    body = json.dumps(answer).encode()
    return Reply(200, _headers("application/x-amz-json-1.1", body), body)


def error(call: Call, code: str, message: str, status: int) -> Reply:
    """Return an error as the call's protocol words it."""
    if call.protocol in {"json", "rest-json"}:
        body = json.dumps({"__type": code, "message": message, "Message": message}).encode()
        headers = [("x-amzn-ErrorType", code), *_headers("application/x-amz-json-1.1", body)]
        return Reply(status, headers, body, code)
    inner = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    if call.protocol == "query":
        sender = "<ErrorResponse><Error><Type>Sender</Type>{}</Error><RequestId>double</RequestId></ErrorResponse>"
        body = sender.format(inner).encode()
    else:
        body = f"<Error>{inner}<RequestId>double</RequestId></Error>".encode()
    return Reply(status, _headers("application/xml", body), body, code)


def error_code(reply_headers: list[tuple[str, str]], body: bytes) -> str:
    """Return the code of an error that moto worded, empty if it can't be found."""
    named = {name.lower(): value for name, value in reply_headers}
    if "x-amzn-errortype" in named:
        return named["x-amzn-errortype"].rpartition("#")[2]
    found = re.search(rb'<Code>([^<]+)</Code>|"__type"\s*:\s*"([^"]+)"', body)
    return (found[1] or found[2]).decode().rpartition("#")[2] if found else ""


def _headers(content_type: str, body: bytes) -> list[tuple[str, str]]:
    return [("Content-Type", content_type), ("Content-Length", str(len(body)))]


def plain(value: Any) -> Reply:
    """Return a value as the control API answers it."""
    body = json.dumps(value, default=str).encode()
    return Reply(200, _headers("application/json", body), body)
