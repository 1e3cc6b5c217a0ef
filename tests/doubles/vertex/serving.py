"""The double as a process of its own, and a hand on its control API."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
PROJECT = "acme-ml"
NUMBER = "123456789012"
REGION = "us-central1"
PARENT = f"projects/{PROJECT}/locations/{REGION}"


class Double:
    """A running double."""

    def __init__(self, addresses: Mapping[str, str], pid: int) -> None:
        self.pid = pid
        self.address = addresses["grpc"]
        self.storage = addresses["storage"]
        self.control = addresses["control"]
        self._channel: Any = None

    @property
    def environment(self) -> Mapping[str, str]:
        """Return what a process needs to reach it, and nothing that leads elsewhere."""
        return {
            "MLSCALE_VERTEX_API_ENDPOINT": self.address,
            "MLSCALE_GOOGLE_API_ENDPOINT": self.address,
            "STORAGE_EMULATOR_HOST": self.storage,
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "NO_GCE_CHECK": "true",
        }

    @property
    def channel(self) -> Any:
        """Return a gRPC channel to it."""
        import grpc

        if self._channel is None:
            self._channel = grpc.insecure_channel(self.address.removeprefix("http://"))
        return self._channel

    def close(self) -> None:
        """End the channel."""
        if self._channel is not None:
            self._channel.close()

    def client(self, kind: Any) -> Any:
        """Return a client of one of Google's classes that asks it."""
        return kind(transport=kind.get_transport_class("grpc")(channel=self.channel))

    def get(self, word: str) -> Any:
        """Return what the control API shows under `word`."""
        return self._ask(f"{self.control}/double/{word}", "GET", None)

    def post(self, word: str, **asked: Any) -> Any:
        """Tell the control API; its answer."""
        return self._ask(f"{self.control}/double/{word}", "POST", asked)

    def delete(self, word: str) -> Any:
        """Let the control API forget; its answer."""
        return self._ask(f"{self.control}/double/{word}", "DELETE", None)

    def _ask(self, address: str, method: str, asked: Mapping[str, Any] | None) -> Any:
        body = None if asked is None else json.dumps(asked).encode()
        request = urllib.request.Request(address, body, method=method)  # noqa: S310 - loopback
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - loopback
                return json.load(answer)
        except urllib.error.HTTPError as refused:
            raise ValueError(json.load(refused)["error"]) from None

    def make_bucket(self, name: str, location: str = REGION) -> str:
        """Make a bucket; its URI."""
        self._ask(f"{self.storage}/storage/v1/b?project={PROJECT}", "POST", {"name": name, "location": location})
        return f"gs://{name}"

    def put_object(self, uri: str, data: bytes = b"") -> None:
        """Write an object without a call that the journal has."""
        self.post("objects", uri=uri, data=data.decode("latin-1"))


@contextmanager
def serving(port: int = 0) -> Iterator[Double]:
    """Serve from a session of its own, so that ending our group leaves it; what it said on stderr comes at the end."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.doubles.vertex", str(port)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            addresses = process.stdout.readline().strip()
            if not addresses:
                errors.seek(0)
                raise RuntimeError(f"the double did not start:\n{errors.read()}")
            double = Double(json.loads(addresses), process.pid)
            yield double
            double.close()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            errors.seek(0)
            sys.stderr.write(errors.read())
