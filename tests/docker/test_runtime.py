"""Replicas as containers: deployed, healed, limited, switched, and taken down to the last image."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mlscale.providers.local.containers import HOME_LABEL
from tests.conftest import ROOT, Cli
from tests.docker.conftest import Built, write_model
from tests.e2e.deployed import change_spec, exchange, home, load, new_version, observed, status, until

pytestmark = pytest.mark.docker

NAME = "mlscale-runtime"
REQUEST = (ROOT / "templates" / "custom" / "request.json").read_bytes()
OTHERS = """\
import http.server, json, os, socket, sys

vertex = os.environ["STYLE"] == "vertex"
port = int(os.environ["AIP_HTTP_PORT"]) if vertex else 8080
health = os.environ["AIP_HEALTH_ROUTE"] if vertex else "/ping"
predict = os.environ["AIP_PREDICT_ROUTE"] if vertex else "/invocations"


def facts():
    def is_refused(act):
        try:
            act()
        except OSError:
            return True
        return False

    return {
        "words": sys.argv[1:],
        "model": sorted(os.listdir("/opt/ml/model")),
        "writes_root": not is_refused(lambda: open("/etc/written", "w")),
        "writes_tmp": not is_refused(lambda: open("/tmp/written", "w")),
        "reaches_others": not is_refused(lambda: socket.create_connection(("192.0.2.1", 80), 0.2)),
        "capabilities": [line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")],
    }


class Others(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(200 if self.path == health else 404, b"")

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.answer(*((200, json.dumps(facts()).encode()) if self.path == predict else (404, b"")))


http.server.ThreadingHTTPServer(("0.0.0.0", port), Others).serve_forever()
"""
DOCKERFILE = """\
FROM python:3.11-slim-bookworm
ARG STYLE
ENV STYLE=${STYLE}
COPY server.py /server.py
ENTRYPOINT ["python3", "/server.py"]
"""


@pytest.fixture
def project(image: Built, cli: Cli) -> Cli:
    """The command line in a folder with the template `custom`, to run in containers; the layers below are built."""
    assert image.tag
    write_model(cli.folder)
    change_spec(cli, {"name": NAME, "local.runtime": "docker", "endpoint": {"replicas": 1}})
    return cli


@pytest.fixture(params=["sagemaker", "vertex"])
def others(request: pytest.FixtureRequest, engine: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image of a server that others wrote for one of the clouds."""
    folder = tmp_path_factory.mktemp("others")
    (folder / "server.py").write_text(OTHERS)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    tag = f"mlscale-test-others:{request.param}"
    engine.images.build(path=str(folder), tag=tag, buildargs={"STYLE": request.param}, rm=True)
    yield tag
    engine.images.remove(tag)


def containers(engine: Any, cli: Cli) -> Sequence[Any]:
    """Return the containers of what is deployed in the folder, whether they run or not."""
    found: Sequence[Any] = engine.containers.list(all=True, filters={"label": f"{HOME_LABEL}={home(cli, NAME)}"})
    return found


def images(engine: Any) -> set[str]:
    """Return the tags of the images that were built here."""
    return {tag for each in engine.images.list() for tag in each.tags if tag.startswith(f"mlscale/{NAME}:")}


def deploy(cli: Cli, *words: str) -> subprocess.CompletedProcess[str]:
    """Deploy, and return what was said; it must have worked."""
    done = cli.run("deploy", *words)
    assert done.returncode == 0, done.stderr
    return done


def predictions(cli: Cli) -> Any:
    """Return what the gateway answers to the template's request."""
    code, body = exchange(status(cli)["address"], "/invocations", REQUEST)
    assert code == 200, body
    return json.loads(body)


def kill_deploy(cli: Cli, sign: str) -> None:
    """Deploy until a line of the progress has `sign`, and kill it there."""
    process = cli.start("deploy")
    assert process.stderr is not None
    assert process.stdout is not None
    with process.stderr, process.stdout:
        assert any(sign in line for line in process.stderr), f"it never came to {sign}"
        process.send_signal(signal.SIGKILL)
        process.wait()


def destroy_leaves_nothing(engine: Any, cli: Cli) -> None:
    """Destroy, and find no container, network, image or file of it."""
    done = cli.run("destroy", "--yes")
    assert done.returncode == 0, done.stderr
    assert containers(engine, cli) == []
    assert engine.networks.list(filters={"label": f"{HOME_LABEL}={home(cli, NAME)}"}) == []
    assert images(engine) == set()
    assert not home(cli, NAME).exists()


def test_replicas_are_containers_without_rights(engine: Any, project: Cli) -> None:
    """Two containers: read-only, not root, no capability, the limits of the spec, nothing published; and it answers."""
    change_spec(project, {"endpoint.replicas": 2, "local.resources": {"cpus": 0.5, "memory": "256Mi"}})
    deploy(project)

    assert [each["species"] for each in predictions(project)["predictions"]] == ["setosa", "virginica"]
    assert [each["health"] for each in status(project)["revisions"][0]["replicas"]] == ["healthy", "healthy"]
    found = containers(engine, project)
    assert len(found) == 2
    for each in found:
        host, config = each.attrs["HostConfig"], each.attrs["Config"]
        assert (host["ReadonlyRootfs"], host["CapDrop"], host["SecurityOpt"]) == (True, ["ALL"], ["no-new-privileges"])
        assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (5 * 10**8, 2**28, 2**28)
        assert (config["User"], host["Privileged"], host["PortBindings"] or {}) == ("10001:10001", False, {})
        [network] = each.attrs["NetworkSettings"]["Networks"].values()
        assert engine.networks.get(network["NetworkID"]).attrs["Internal"]
    assert "serving on" in project.run("logs").stdout


def test_a_container_that_is_killed_is_started_again(engine: Any, project: Cli) -> None:
    """The end of one is seen, and healed by another in its place."""
    change_spec(project, {"endpoint.replicas": 2})
    deploy(project)

    containers(engine, project)[0].kill()

    def is_healed() -> bool:
        """Both replicas are healthy, and one was started again."""
        found = observed(project, NAME).revisions[0].replicas
        return sum(each.restarts for each in found) == 1 and all(each.health == "healthy" for each in found)

    until(is_healed)
    assert predictions(project)
    assert len(containers(engine, project)) == 2


def test_versions_switch_under_load_without_a_failed_request(engine: Any, project: Cli) -> None:
    """Three times a new image takes over, and at last processes do: every request is answered."""
    deploy(project)

    with load(status(project)["address"], per_second=60) as answers:
        for number in range(3):
            new_version(project, f"setosa{number}")
            deploy(project)
        change_spec(project, {"local.runtime": "process"})
        deploy(project)

    assert answers.failures == []
    assert answers.per_second >= 50
    assert len(answers.revisions) == 5
    until(lambda: containers(engine, project) == [])


def test_an_image_that_crashes_is_told_by_its_last_lines(engine: Any, project: Cli) -> None:
    """The deploy fails with what the container wrote, exit code 4, and the old revision serves on, alone."""
    deploy(project)
    before = status(project)["revisions"][0]["revision"]["id"]
    handler = project.folder / "inference.py"
    handler.write_text(f"raise RuntimeError('the weights are cursed')\n{handler.read_text()}")

    failed = project.run("deploy")

    assert failed.returncode == 4
    assert "RuntimeError: the weights are cursed" in failed.stderr
    assert "ended with exit code" in failed.stderr
    assert f"revision {before} serves, as before" in failed.stderr
    assert predictions(project)
    assert len(containers(engine, project)) == 1


def test_a_memory_limit_is_told_as_the_reason(project: Cli) -> None:
    """A replica that wants more memory than it may have ends, and the limit is said."""
    change_spec(project, {"local.resources": {"memory": "96Mi"}})
    handler = project.folder / "inference.py"
    handler.write_text(f"{handler.read_text()}\nHOARD = bytearray(200 * 2**20)\nHOARD[::4096] = HOARD[::4096]\n")

    failed = project.run("deploy")

    assert failed.returncode == 1
    assert "out of memory, its limit is 96Mi" in failed.stderr


def test_the_image_of_others_serves(engine: Any, cli: Cli, others: str) -> None:
    """A server for SageMaker's or Vertex AI's contract gets its model, and neither rights nor a way out."""
    (cli.folder / "weights").mkdir()
    (cli.folder / "weights" / "w.txt").write_text("1")
    (cli.folder / "spec.yaml").write_text(
        f"version: 1\nname: {NAME}\nprovider: local\nmodel: {{image: '{others}', source: weights}}\n"
    )
    deploy(cli)

    assert predictions(cli) == {
        "words": ["serve"],
        "model": ["w.txt"],
        "writes_root": False,
        "writes_tmp": True,
        "reaches_others": False,
        "capabilities": ["0000000000000000"],
    }
    assert deploy(cli).stdout.startswith("No changes")
    assert cli.run("destroy", "--yes").returncode == 0
    assert containers(engine, cli) == []
    assert engine.images.get(others)


def test_a_killed_supervisor_leaves_no_orphan(engine: Any, project: Cli) -> None:
    """Containers outlive a supervisor that was killed; the next one removes them before it starts its own."""
    deploy(project)
    [before] = containers(engine, project)
    os.kill(observed(project, NAME).pid, signal.SIGKILL)
    until(lambda: status(project)["phase"] == "failed")
    assert [each.id for each in containers(engine, project)] == [before.id]

    deploy(project)

    [after] = containers(engine, project)
    assert after.id != before.id
    assert predictions(project)


@pytest.mark.parametrize("sign", ["Step 5/", "Successfully tagged", "replicas healthy", "✓ shift"])
def test_a_killed_deploy_goes_on(engine: Any, project: Cli, sign: str) -> None:
    """Killed while it builds, waits or has switched, the same command again converges; destroy leaves nothing."""
    deploy(project)
    new_version(project, "other")

    kill_deploy(project, sign)
    deploy(project)

    assert predictions(project)["predictions"][0]["species"] == "other"
    until(lambda: len(containers(engine, project)) == 1)
    assert len(images(engine)) == 2
    assert list((home(project, NAME) / "revisions").glob(".new-*")) == []
    destroy_leaves_nothing(engine, project)


def test_a_build_that_was_given_up_is_taken_down(engine: Any, project: Cli) -> None:
    """An image whose revision never came to be goes with the deployment."""
    kill_deploy(project, "Successfully tagged")

    destroy_leaves_nothing(engine, project)


def test_an_image_goes_with_its_revision(engine: Any, project: Cli) -> None:
    """Beyond the revisions that are kept no image stays; one that several revisions share stays with the last."""
    change_spec(project, {"rollout.keep_revisions": 1})
    deploy(project)
    [first] = images(engine)
    deploy(project, "--set", "model.environment.A=b")
    assert images(engine) == {first}
    new_version(project, "other")

    deploy(project)

    [second] = images(engine)
    assert second != first


def test_an_image_that_was_deleted_is_built_again(engine: Any, project: Cli) -> None:
    """What serves without its image can't be started again: that is told, and deploy mends it."""
    deploy(project)
    [tag] = images(engine)
    engine.images.remove(tag, force=True)

    assert f"the image {tag} of revision" in status(project)["reason"]
    deploy(project)

    assert status(project)["phase"] == "steady"
    assert images(engine) == {tag}


def test_without_an_engine_containers_are_refused(project: Cli, unused_port: int) -> None:
    """What to install is said, and that processes need none; they serve, and doctor finds nothing wrong with that."""
    absent = {"DOCKER_HOST": f"tcp://127.0.0.1:{unused_port}"}

    refused = project.run("plan", env=absent)

    assert refused.returncode == 1
    assert "no Docker engine answers" in refused.stderr
    assert "install Docker" in refused.stderr
    assert "a model that mlscale can serve itself needs none" in refused.stderr
    assert project.run("doctor", env=absent).returncode == 1
    change_spec(project, {"local": {}})
    assert project.run("doctor", env=absent).returncode == 0
    assert project.run("deploy", env=absent).returncode == 0
    assert project.run("destroy", "--yes", env=absent).returncode == 0


def test_gpus_that_the_engine_can_not_give_are_refused(engine: Any, project: Cli) -> None:
    """Without NVIDIA's runtime the plan and doctor say so, and where it is to be had."""
    if "nvidia" in engine.info()["Runtimes"]:
        pytest.skip("THIS ENGINE HAS NVIDIA'S RUNTIME")

    for words in (("plan",), ("doctor",)):
        change_spec(project, {"endpoint.accelerator": {"gpus": "all"}})
        refused = project.run(*words)
        assert refused.returncode == 1
        assert "NVIDIA Container Toolkit" in refused.stderr + refused.stdout


def test_more_than_the_engine_has_is_refused(project: Cli) -> None:
    """Cores and memory that no container can get are refused before anything is made, with what there is."""
    change_spec(project, {"local.resources": {"cpus": 4000, "memory": "60Ti"}})

    refused = project.run("plan")

    assert refused.returncode == 1
    assert "local.resources.cpus: the engine has" in refused.stderr
    assert "local.resources.memory: the engine has" in refused.stderr
    assert not Path(project.folder / ".mlscale" / "local").exists()
