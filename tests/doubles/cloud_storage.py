"""Google Cloud Storage's XML API, as much of it as a workspace needs, on a loopback port.

Objects have generations, and `x-goog-if-generation-match` is obeyed (0 means: only if there is none). A list comes in
pages, each but the last with a token for the next; what a token holds is a guess that nothing depends on. Sources:
Cloud Storage documentation, "XML API: PUT Object, GET Object, DELETE Object, List Objects v2", "Request preconditions".
A generation is a number that only grows; that ours are small is a guess that nothing depends on.
"""

from __future__ import annotations

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
"""Objects in a page of a list, unless `max-keys` says fewer."""


@dataclass
class Bucket:
    """One bucket's objects, each with its generation."""

    name: str
    objects: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    last_generation: int = 0


class Server(ThreadingHTTPServer):
    """Serves one bucket; any other is not there."""

    daemon_threads = True

    def __init__(self, bucket: Bucket) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.bucket = bucket
        self.writing = threading.Lock()


class Answers(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # head and body in one packet: two make the client's delayed acknowledgement cost 40 ms
    server: Server

    def do_GET(self) -> None:
        """Answer with an object, or with the list of a prefix."""
        key = self._key()
        if key is None:
            return
        if not key:
            self._list({name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()})
        elif key in self.server.bucket.objects:
            generation, data = self.server.bucket.objects[key]
            self._answer(200, data, generation)
        else:
            self._refuse(404, "NoSuchKey")

    def do_PUT(self) -> None:
        """Write an object, if its generation is the one that is asked for."""
        data = self.rfile.read(int(self.headers["content-length"]))
        key = self._key()
        if key is None:
            return
        wanted = self.headers["x-goog-if-generation-match"]
        bucket = self.server.bucket
        with self.server.writing:
            if wanted is not None and int(wanted) != bucket.objects.get(key, (0, b""))[0]:
                self._refuse(412, "PreconditionFailed")
                return
            bucket.last_generation += 1
            bucket.objects[key] = (bucket.last_generation, data)
        self._answer(200, b"", bucket.last_generation)

    def do_DELETE(self) -> None:
        """Delete an object."""
        key = self._key()
        if key is None:
            return
        if self.server.bucket.objects.pop(key, None) is None:
            self._refuse(404, "NoSuchKey")
        else:
            self._answer(204, b"", 0)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's own name
        """Say nothing."""

    def _key(self) -> str | None:
        bucket, _, key = unquote(urlsplit(self.path).path).removeprefix("/").partition("/")
        if bucket == self.server.bucket.name:
            return key
        self._refuse(404, "NoSuchBucket")
        return None

    def _list(self, query: Mapping[str, str]) -> None:
        prefix, after = query.get("prefix", ""), query.get("continuation-token", "")
        keys = [key for key in sorted(self.server.bucket.objects) if key.startswith(prefix) and key > after]
        page = keys[: int(query.get("max-keys", PAGE))]
        more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if len(page) < len(keys) else ""
        found = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{LISTED_AT}</LastModified>"
            f"<ETag>&quot;{generation}&quot;</ETag><Size>{len(data)}</Size></Contents>"
            for key, (generation, data) in ((key, self.server.bucket.objects[key]) for key in page)
        )
        cut = f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}"
        text = f"<?xml version='1.0'?><ListBucketResult xmlns='{NAMESPACE}'>{cut}{found}</ListBucketResult>"
        self._answer(200, text.encode(), 0)

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, f"<?xml version='1.0'?>\n<Error><Code>{code}</Code></Error>".encode(), 0)

    def _answer(self, status: int, body: bytes, generation: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{generation}"')
        self.send_header("x-goog-generation", str(generation))
        self.send_header("Last-Modified", LAST_MODIFIED)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(bucket: str) -> Iterator[str]:
    """Serve an empty `bucket`; yields the address, as STORAGE_EMULATOR_HOST wants it."""
    server = Server(Bucket(bucket))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
