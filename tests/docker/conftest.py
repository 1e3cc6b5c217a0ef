"""What the tests with a Docker engine share; without one each of them is skipped, and says so."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlscale.errors import MlscaleError
from mlscale.providers import docker_engine
from mlscale.serving.listener import free_port
from tests.conftest import ROOT, Cli
from tests.docker.containers import LABEL, await_that

NAME = "mlscale-test"
USER, PASSWORD = "pusher", "pushing"
HTPASSWD = f"{USER}:$2b$04$cOhiuBbWDOKuM0P00SY50eVmI6gEKV.DWRhFQBlqnKvnDsEu7rW8K\n"
"""The password as bcrypt, which is all that the registry takes."""


@pytest.fixture(scope="session")
def engine() -> Iterator[Any]:
    """A client of the engine; at the end nothing is left there that these tests made."""
    try:
        client = docker_engine.connected()
    except MlscaleError as error:
        pytest.skip(f"NO DOCKER ENGINE, NOTHING OF IT IS TESTED: {error}")
    with closing(client):
        yield client
        for each in client.containers.list(all=True, filters={"label": LABEL}):
            each.remove(force=True)
        for image in docker_engine.named(NAME):
            for tag in image.tags:
                docker_engine.remove(tag)


@dataclass(frozen=True, slots=True)
class Built:
    """An image that was built by the command line, and how long that took."""

    tag: str
    facts: dict[str, Any]
    seconds: float


def build(cli: Cli, *words: str) -> Built:
    """Return what `mlscale image build` made of the spec in the folder."""
    begun = time.monotonic()
    done = cli.run("image", "build", "--output", "json", *words)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    return Built(facts["image"]["tag"], facts, time.monotonic() - begun)


def write_model(folder: Path) -> None:
    """Write the template `custom`, under the name of these tests, into `folder`."""
    shutil.copytree(
        ROOT / "templates" / "custom", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".mlscale")
    )
    spec = folder / "spec.yaml"
    spec.write_text(spec.read_text().replace("name: centroids", f"name: {NAME}"))


@pytest.fixture
def project(engine: Any, cli: Cli) -> Cli:
    """The command line in a folder with the template `custom`."""
    assert engine is not None
    write_model(cli.folder)
    return cli


@pytest.fixture(scope="session")
def image(engine: Any, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The image of the template `custom`."""
    assert engine is not None
    folder = tmp_path_factory.mktemp("image")
    write_model(folder)
    return build(Cli(folder))


def nobody(text: str) -> None:
    """Take what a long call tells, for nobody."""
    assert text


@pytest.fixture
def unused_port() -> int:
    """A port that nothing uses."""
    return free_port("127.0.0.1")


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry on loopback that lets USER in; yields its address. It is Debian's package docker-registry."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("NO REGISTRY, PUSHING IS NOT TESTED: apt-get install docker-registry")
    folder = tmp_path_factory.mktemp("registry")
    address = f"127.0.0.1:{free_port('127.0.0.1')}"
    (folder / "htpasswd").write_text(HTPASSWD)
    config = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": address},
        "auth": {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}},
    }
    (folder / "config.yml").write_text(json.dumps(config))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        await_that(lambda: _answers(address), (folder / "log").read_text())
        yield address
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


def _answers(address: str) -> bool:
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status == 401
    except OSError:
        return False
    finally:
        connection.close()
