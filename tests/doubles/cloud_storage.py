"""Google Cloud Storage, as much of it as we need, on a loopback port: the XML API, and of the JSON API a little.

Objects have generations, and the conditions `x-goog-if-generation-match` and `ifGenerationMatch` are obeyed (0 means:
only if there is none). A list comes in pages, each but the last with a token for the next; what a token holds is a
guess that nothing depends on. Sources: Cloud Storage documentation, "XML API: PUT Object, GET Object, DELETE Object,
List Objects v2, multipart uploads", "JSON API: Buckets, Objects", "Request preconditions". A generation is a number
that only grows; that ours are small is a guess that nothing depends on.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

LAST_MODIFIED = "Tue, 24 Nov 2026 07:15:00 GMT"
LISTED_AT = "2026-11-24T07:15:00.000Z"
NAMESPACE = "http://doc.s3.amazonaws.com/2006-03-01"
PAGE = 1000
"""Objects in a page of a list, unless the request says fewer."""

Query = Mapping[str, str]


@dataclass
class Bucket:
    """One bucket's objects, each with its generation, and the parts of uploads that are under way."""

    name: str
    location: str = "US-CENTRAL1"
    objects: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    last_generation: int = 0
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)

    def generation(self, key: str) -> int:
        """Return the generation of an object, 0 if there is none."""
        return self.objects.get(key, (0, b""))[0]

    def put(self, key: str, data: bytes) -> int:
        """Write an object; its new generation."""
        self.last_generation += 1
        self.objects[key] = (self.last_generation, data)
        return self.last_generation


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked: `bucket` is empty for a list of buckets, `key` for what is about a bucket as a whole."""

    method: str
    path: str
    query: Query
    headers: Mapping[str, str]
    body: bytes
    bucket: str
    key: str
    json: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


def understood(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Request:
    """Return the request; `headers` have lowercase names."""
    split = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(split.query, keep_blank_values=True).items()}
    if found := re.fullmatch(r"/(?:upload/|download/)?storage/v1/b(?:/([^/]+))?(?:/o(?:/(.*))?)?", split.path):
        bucket, key = unquote(found[1] or ""), unquote(found[2] or "")
        return Request(method, split.path, query, headers, body, bucket, key, json=True)
    bucket, _, key = unquote(split.path).removeprefix("/").partition("/")
    return Request(method, split.path, query, headers, body, bucket, key, json=False)


class Buckets:
    """All buckets; the caller sees to it that one request is answered at a time."""

    def __init__(self, *names: str) -> None:
        self.by_name = {name: Bucket(name) for name in names}

    def answer(self, request: Request) -> Answer:
        """Return the answer to a request."""
        if request.json and not request.bucket:
            return self._made(request)
        bucket = self.by_name.get(request.bucket)
        if bucket is None:
            return _refused(request, 404, "NoSuchBucket")
        if request.json:
            return _json_answer(bucket, request)
        if not request.key:
            return _listed(bucket, request.query)
        match request.method:
            case "GET" | "HEAD":
                return _read(bucket, request)
            case "PUT" if "partNumber" in request.query:
                return _part(bucket, request)
            case "PUT":
                return self._written(bucket, request)
            case "POST":
                return _multipart(bucket, request)
            case "DELETE" if "uploadId" in request.query:
                bucket.uploads.pop(request.query["uploadId"], None)
                return Answer(204)
            case "DELETE":
                return _deleted(bucket, request)
            case _:
                return _refused(request, 405, "MethodNotAllowed")

    def _made(self, request: Request) -> Answer:
        """Make a bucket."""
        asked = json.loads(request.body or b"{}")
        if request.method != "POST":
            return _json({"kind": "storage#buckets", "items": [_bucket(each) for each in self.by_name.values()]})
        if asked["name"] in self.by_name:
            return _refused(request, 409, "Your previous request to create the named bucket succeeded")
        self.by_name[asked["name"]] = Bucket(asked["name"], asked.get("location", "US").upper())
        return _json(_bucket(self.by_name[asked["name"]]))

    def _written(self, bucket: Bucket, request: Request) -> Answer:
        """Write an object, or copy another, if its generation is the one that is asked for."""
        data = request.body
        if source := request.headers.get("x-goog-copy-source"):
            name, _, key = unquote(source).removeprefix("/").partition("/")
            found = self.by_name.get(name, Bucket(name)).objects.get(key)
            if found is None:
                return _refused(request, 404, "NoSuchKey")
            data = found[1]
        if not _matches(bucket, request.key, request.headers.get("x-goog-if-generation-match")):
            return _refused(request, 412, "PreconditionFailed")
        return Answer(200, headers=_marks(bucket.put(request.key, data)))


def _matches(bucket: Bucket, key: str, wanted: str | None) -> bool:
    return wanted is None or int(wanted) == bucket.generation(key)


def _marks(generation: int) -> tuple[tuple[str, str], ...]:
    return (
        ("ETag", f'"{generation}"'),
        ("x-goog-generation", str(generation)),
        ("Last-Modified", LAST_MODIFIED),
    )


def _read(bucket: Bucket, request: Request) -> Answer:
    if request.key not in bucket.objects:
        return _refused(request, 404, "NoSuchKey")
    generation, data = bucket.objects[request.key]
    return _content(request, data, _marks(generation))


def _content(request: Request, data: bytes, marks: tuple[tuple[str, str], ...]) -> Answer:
    """Return the bytes that are wanted, all or a range of them."""
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    if asked is None:
        return Answer(200, data, marks)
    size = len(data)
    first = int(asked[1]) if asked[1] else max(0, size - int(asked[2] or 0))
    last = min(size - 1, int(asked[2])) if asked[1] and asked[2] else size - 1
    if first >= size:
        return _refused(request, 416, "InvalidRange")
    return Answer(206, data[first : last + 1], (*marks, ("Content-Range", f"bytes {first}-{last}/{size}")))


def _part(bucket: Bucket, request: Request) -> Answer:
    parts = bucket.uploads.get(request.query["uploadId"])
    if parts is None:
        return _refused(request, 404, "NoSuchUpload")
    parts[int(request.query["partNumber"])] = request.body
    # An MD5 is what the service gives; the client hands it back unread.
    return Answer(200, headers=(("ETag", f'"{hashlib.md5(request.body, usedforsecurity=False).hexdigest()}"'),))


def _multipart(bucket: Bucket, request: Request) -> Answer:
    """Begin an upload in parts, or end one."""
    if "uploads" in request.query:
        name = f"upload-{len(bucket.uploads)}-{bucket.last_generation}"
        bucket.uploads[name] = {}
        return _xml(
            f"<InitiateMultipartUploadResult><Bucket>{bucket.name}</Bucket><Key>{escape(request.key)}</Key>"
            f"<UploadId>{name}</UploadId></InitiateMultipartUploadResult>"
        )
    parts = bucket.uploads.get(request.query.get("uploadId", ""))
    if parts is None:
        return _refused(request, 404, "NoSuchUpload")
    if not _matches(bucket, request.key, request.headers.get("x-goog-if-generation-match")):
        return _refused(request, 412, "PreconditionFailed")
    del bucket.uploads[request.query["uploadId"]]
    generation = bucket.put(request.key, b"".join(data for _, data in sorted(parts.items())))
    made = _xml(
        f"<CompleteMultipartUploadResult><Bucket>{bucket.name}</Bucket><Key>{escape(request.key)}</Key>"
        f"<ETag>&quot;{generation}&quot;</ETag></CompleteMultipartUploadResult>"
    )
    return Answer(200, made.body, _marks(generation))


def _deleted(bucket: Bucket, request: Request) -> Answer:
    if not _matches(bucket, request.key, request.headers.get("x-goog-if-generation-match")):
        return _refused(request, 412, "PreconditionFailed")
    return Answer(204) if bucket.objects.pop(request.key, None) is not None else _refused(request, 404, "NoSuchKey")


def _page(bucket: Bucket, query: Query, token: str, most: str, *, start: str = "") -> tuple[list[str], list[str], str]:
    """Return the keys of a page, the folders that a delimiter makes of others, and the token of the next page."""
    prefix, delimiter, after = query.get("prefix", ""), query.get("delimiter", ""), query.get(token) or query.get(start)
    found: dict[str, bool] = {}
    for key in sorted(bucket.objects):
        if key.startswith(prefix):
            folder, mark, _ = key.removeprefix(prefix).partition(delimiter) if delimiter else (key, "", "")
            found.setdefault(prefix + folder + mark if mark else key, bool(mark))
    names = [name for name in found if not after or name > after]
    page = names[: int(query.get(most, PAGE))]
    following = page[-1] if len(page) < len(names) else ""
    return [each for each in page if not found[each]], [each for each in page if found[each]], following


def _listed(bucket: Bucket, query: Query) -> Answer:
    keys, folders, following = _page(bucket, query, "continuation-token", "max-keys", start="start-after")
    found = "".join(
        f"<Contents><Key>{escape(key)}</Key><LastModified>{LISTED_AT}</LastModified>"
        f"<ETag>&quot;{generation}&quot;</ETag><Size>{len(data)}</Size></Contents>"
        for key, (generation, data) in ((key, bucket.objects[key]) for key in keys)
    )
    found += "".join(f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>" for each in folders)
    more = f"<NextContinuationToken>{escape(following)}</NextContinuationToken>" if following else ""
    cut = f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}"
    return _xml(f"<ListBucketResult xmlns='{NAMESPACE}'>{cut}{found}</ListBucketResult>")


def _json_answer(bucket: Bucket, request: Request) -> Answer:
    """Return the answer to a request of the JSON API about a bucket or an object of it."""
    wanted = request.query.get("ifGenerationMatch")
    match request.method:
        case "POST" if request.path.startswith("/upload/"):
            key, data = _uploaded(request)
            if not _matches(bucket, key, wanted):
                return _refused(request, 412, "conditionNotMet")
            bucket.put(key, data)
            return _json(_object(bucket, key))
        case "GET" if not request.key and not request.path.endswith("/o"):
            return _json(_bucket(bucket))
        case "GET" if not request.key:
            keys, folders, following = _page(bucket, request.query, "pageToken", "maxResults")
            listed: dict[str, Any] = {"kind": "storage#objects", "items": [_object(bucket, key) for key in keys]}
            return _json(listed | {"prefixes": folders} | ({"nextPageToken": following} if following else {}))
        case "GET" | "DELETE" if request.key not in bucket.objects:
            return _refused(request, 404, "notFound")
        case "GET" if request.query.get("alt") == "media":
            generation, data = bucket.objects[request.key]
            return _content(request, data, _marks(generation))
        case "GET":
            return _json(_object(bucket, request.key))
        case "DELETE":
            if not _matches(bucket, request.key, wanted):
                return _refused(request, 412, "conditionNotMet")
            del bucket.objects[request.key]
            return Answer(204)
        case _:
            return _refused(request, 501, "notImplemented")


def _uploaded(request: Request) -> tuple[str, bytes]:
    """Return the name and the content of an upload in one request."""
    if request.query.get("uploadType") == "media":
        return request.query["name"], request.body
    found = re.search(r'boundary="?([^";]+)', request.headers["content-type"])
    assert found is not None
    _, described, content, *_ = request.body.split(b"--" + found[1].encode())
    told = json.loads(described.partition(b"\r\n\r\n")[2])
    return request.query.get("name") or told["name"], content.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")


def _bucket(bucket: Bucket) -> dict[str, Any]:
    return {
        "kind": "storage#bucket",
        "id": bucket.name,
        "name": bucket.name,
        "location": bucket.location,
        "locationType": "region" if "-" in bucket.location else "multi-region",
    }


def _object(bucket: Bucket, key: str) -> dict[str, Any]:
    generation, data = bucket.objects[key]
    return {
        "kind": "storage#object",
        "bucket": bucket.name,
        "name": key,
        "generation": str(generation),
        "size": str(len(data)),
        "updated": LISTED_AT,
        "etag": str(generation),
    }


def _json(value: Any) -> Answer:
    return Answer(200, json.dumps(value).encode(), (("Content-Type", "application/json"),))


def _xml(text: str) -> Answer:
    return Answer(200, f"<?xml version='1.0'?>\n{text}".encode(), (("Content-Type", "application/xml"),))


def _refused(request: Request, status: int, code: str) -> Answer:
    return refused(status, code, json_api=request.json)


def refused(status: int, code: str, message: str = "", *, json_api: bool) -> Answer:
    """Return an error as the API that was asked words it."""
    if json_api:
        said = {"error": {"code": status, "message": message or code, "errors": [{"reason": code}]}}
        return Answer(status, json.dumps(said).encode(), (("Content-Type", "application/json"),))
    more = f"<Message>{escape(message)}</Message>" if message else ""
    return Answer(status, f"<?xml version='1.0'?>\n<Error><Code>{code}</Code>{more}</Error>".encode())


class Handler(BaseHTTPRequestHandler):
    """One connection: requests come in, `answer` says what goes back."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # head and body in one packet: two make the client's delayed acknowledgement cost 40 ms

    def answer(self, method: str, headers: Mapping[str, str], body: bytes) -> Answer | None:
        """Return what goes back, None for a connection that ends; to be said by a class that has a server."""
        raise NotImplementedError

    def written(self) -> None:
        """Hear that an answer went out."""

    def _serve(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.answer(self.command, headers, self._body(headers))
        if answer is None:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        self.wfile.flush()
        self.written()

    def _body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(headers.get("content-length") or 0))
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - the standard library calls these

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's own name
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Serves buckets; any other is not there."""

    daemon_threads = True

    def __init__(self, buckets: Buckets) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.buckets = buckets
        self.answering = threading.Lock()


class Answers(Handler):
    """One connection of such a server."""

    server: Server

    def answer(self, method: str, headers: Mapping[str, str], body: bytes) -> Answer | None:
        """Return what the buckets answer."""
        with self.server.answering:
            return self.server.buckets.answer(understood(method, self.path, headers, body))


@contextmanager
def serving(bucket: str) -> Iterator[str]:
    """Serve an empty `bucket`; yields the address, as STORAGE_EMULATOR_HOST wants it."""
    server = Server(Buckets(bucket))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
