"""How an image of others is started: with `serve` where it has that, else as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cli
from tests.e2e.deployed import exchange, status

pytestmark = pytest.mark.docker

SERVER = """\
import http.server, os, sys


class Others(http.server.BaseHTTPRequestHandler):
    def answer(self):
        self.rfile.read(int(self.headers["content-length"] or 0))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(sys.argv[1:]).encode())

    do_GET = do_POST = answer


http.server.HTTPServer(("", int(os.environ["AIP_HTTP_PORT"])), Others).serve_forever()
"""
SPEC = """\
version: 1
name: mlscale-command
provider: local
model: {image: "IMAGE"}
endpoint: {health: {path: /healthz, startup_timeout: 20s}}
"""
COMMAND = 'CMD ["python3", "/server.py", "its own"]'
ON_PATH = 'RUN ["ln", "-s", "/server.py", "/usr/bin/serve"]'


@pytest.fixture(params=[(COMMAND, "['its own']"), (ON_PATH, "[]")], ids=["as it is", "serve"])
def others(request: pytest.FixtureRequest, engine: Any, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """An image without an entry point, by its tag, and with which words its server must have been started."""
    instruction, words = request.param
    (tmp_path / "server.py").write_text(f"#!/usr/bin/env python3\n{SERVER}")
    dockerfile = ("FROM python:3.11-slim-bookworm", "COPY server.py /server.py", instruction)
    (tmp_path / "Dockerfile").write_text("\n".join(dockerfile))
    (tmp_path / "server.py").chmod(0o755)
    tag = "mlscale-test-command:1"
    engine.images.build(path=str(tmp_path), tag=tag, rm=True)
    yield tag, words
    engine.images.remove(tag)


def test_an_image_is_started_as_its_cloud_does(others: tuple[str, str], cli: Cli) -> None:
    """SageMaker starts an image with `serve`; one for Vertex AI has no such command, and is started as it is."""
    image, words = others
    spec = cli.folder / "spec.yaml"
    spec.write_text(SPEC.replace("IMAGE", image))
    done = cli.run("deploy")
    assert done.returncode == 0, done.stderr

    code, body = exchange(status(cli)["address"], "/invocations", json.dumps([1]).encode())

    assert (code, body.decode()) == (200, words)
    assert cli.run("destroy", "--yes").returncode == 0
