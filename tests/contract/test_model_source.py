"""A model in a bucket, fetched by the server itself: what Vertex gives its containers is a gs:// place."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from mlscale.serving.frameworks import LoadError
from mlscale.serving.source import _authorization, _keys, model_folder
from tests.doubles import cloud_storage

BUCKET = "models"


@pytest.fixture
def storage() -> Iterator[str]:
    """Serve the Cloud Storage double with a bucket; yields its address."""
    with cloud_storage.serving(BUCKET) as address:
        yield address


def put(address: str, key: str, data: bytes) -> None:
    """Write an object."""
    with urlopen(Request(f"{address}/{BUCKET}/{key}", data, method="PUT")) as answer:  # noqa: S310 - loopback
        assert answer.status == 200


def test_a_model_in_a_bucket_is_fetched_whole(storage: str) -> None:
    """Every object below the place becomes a file; a neighbor whose name begins alike does not, nor a folder's mark."""
    for key, data in {
        "churn/7/model.onnx": b"onnx",
        "churn/7/code/inference.py": b"pass",
        "churn/7/code/": b"",
        "churn/70/model.onnx": b"another",
    }.items():
        put(storage, key, data)

    environment = {"AIP_STORAGE_URI": f"gs://{BUCKET}/churn/7", "STORAGE_EMULATOR_HOST": storage}
    folder = model_folder(Path("/opt/ml/model"), environment)

    files = {each.relative_to(folder).as_posix(): each.read_bytes() for each in folder.rglob("*") if each.is_file()}
    assert files == {"model.onnx": b"onnx", "code/inference.py": b"pass"}


def test_a_list_is_read_to_its_last_page(storage: str) -> None:
    """A list of more objects than a page has is followed."""
    keys = [f"m/{number:04}" for number in range(cloud_storage.PAGE + 1)]
    for key in keys:
        put(storage, key, b"")

    assert list(_keys(f"{storage}/{BUCKET}", "m/", {})) == keys


@pytest.mark.parametrize(
    ("place", "why"),
    [
        (f"gs://{BUCKET}/nothing/here", "there are no files under gs://models/nothing/here"),
        ("gs://another/model", "gs://another/model can't be fetched: HTTP Error 404: Not Found"),
    ],
)
def test_a_place_without_a_model_says_so(storage: str, place: str, why: str) -> None:
    """The server ends with the place and the reason, which Vertex shows in its log."""
    with pytest.raises(LoadError) as raised:
        model_folder(Path("/opt/ml/model"), {"AIP_STORAGE_URI": place, "STORAGE_EMULATOR_HOST": storage})

    assert str(raised.value) == why


class Metadata(BaseHTTPRequestHandler):
    """Google's metadata server, which answers nobody who does not say that he means it."""

    def do_GET(self) -> None:
        """Answer with a token."""
        asked = self.path == "/computeMetadata/v1/instance/service-accounts/default/token"
        meant = self.headers["Metadata-Flavor"] == "Google"
        body = b'{"access_token": "ya29.token", "expires_in": 3599, "token_type": "Bearer"}'
        self.send_response(200 if asked and meant else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's own name
        """Say nothing."""


def test_the_machines_service_account_reads_the_bucket() -> None:
    """The token comes from the metadata server, as on every machine of Google's."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        headers = _authorization(f"127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

    assert headers == {"Authorization": "Bearer ya29.token"}
