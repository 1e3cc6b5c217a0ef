"""The serving image, built, started as each cloud starts it, and rebuilt."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from mlscale.errors import ProviderFailed
from mlscale.providers import docker_engine
from mlscale.providers.image import PARTS
from tests.conftest import ROOT, Cli
from tests.docker.conftest import NAME, Built, build, nobody
from tests.docker.containers import await_that, running
from tests.doubles import cloud_storage

pytestmark = pytest.mark.docker

REQUEST = json.loads((ROOT / "templates" / "custom" / "request.json").read_text())
SPECIES = ["setosa", "virginica"]
OTHER_MODEL = """\
def model_fn(model_dir):
    return "other"


def predict_fn(rows, model):
    return [model for _ in rows]
"""
HEALTH = ["python3", "-P", "-m", "mlscale.serving.health"]


def species(answer: Any) -> list[str]:
    """Return the predictions of the template's model."""
    return [each["species"] for each in answer["predictions"]]


def other_model(folder: Path) -> str:
    """Return the path of a folder with another model, readable for every user."""
    code = folder / "code"
    code.mkdir(parents=True)
    (code / "inference.py").write_text(OTHER_MODEL)
    for each in (folder, *folder.parents):
        if each.stat().st_mode & 0o005 != 0o005:
            each.chmod(each.stat().st_mode | 0o055)
    return str(folder)


def test_a_changed_model_rebuilds_only_the_last_layer(project: Cli, image: Built) -> None:
    """Everything below is taken as it is, and the build takes less than ten seconds."""
    (project.folder / "model" / "note.txt").write_text("another")

    changed = build(project)

    before, after = image.facts["image"], changed.facts["image"]
    assert changed.facts["built"]
    assert changed.tag != image.tag
    assert after["layer_ids"][:-1] == before["layer_ids"][:-1]
    assert after["layer_ids"][-1] != before["layer_ids"][-1]
    assert changed.seconds < 10


def test_a_build_of_what_is_there_does_nothing(project: Cli, image: Built) -> None:
    """The same content in another folder is the same image."""
    again = build(project)

    assert (again.tag, again.facts["built"]) == (image.tag, False)
    assert again.facts["image"] == image.facts["image"]


def test_inspect_shows_what_each_part_holds(project: Cli, image: Built) -> None:
    """Size, parts, labels and digest, and whether the spec asks for it, as text and as JSON."""
    (project.folder / "model" / "note.txt").write_text("not built yet")
    changed = json.loads(project.run("image", "inspect", "--output", "json").stdout)
    (project.folder / "model" / "note.txt").unlink()
    facts = json.loads(project.run("image", "inspect", "--output", "json").stdout)
    by_name = json.loads(project.run("image", "inspect", image.tag, "--output", "json").stdout)
    text = project.run("image", "inspect").stdout

    assert (facts["up_to_date"], changed["up_to_date"]) == (True, False)
    assert facts["image"] == by_name["image"] == image.facts["image"]
    layers = {each["part"]: each["size"] for each in facts["image"]["layers"]}
    assert list(layers) == ["base", *(part for _, part in PARTS)]
    assert sum(layers.values()) == facts["image"]["size"]
    assert facts["image"]["labels"]["mlscale.name"] == NAME
    assert image.tag.endswith(facts["image"]["labels"]["mlscale.hash"])
    assert facts["image"]["platform"].startswith("linux/")
    assert "what the spec asks for" in text
    assert "none: it was not pushed" in text


def test_it_answers_as_sagemaker_starts_it(engine: Any, image: Built) -> None:
    """`docker run IMAGE serve`, port 8080, on a read-only root, as no root user."""
    with running(engine, image.tag, command=["serve"]) as container:
        container.await_ready()
        answer = container.post("/invocations", REQUEST)
        code, who = container.handle.exec_run(["python3", "-c", "import os; print(os.getuid(), os.getgid())"])

    assert species(answer) == SPECIES
    assert (code, who) == (0, b"10001 10001\n")


def test_sagemakers_model_goes_before_the_images(engine: Any, image: Built, tmp_path: Path) -> None:
    """What is in /opt/ml/model is served; an empty folder there, which SageMaker makes as well, is not."""
    empty = tmp_path / "empty"
    empty.mkdir()
    model = other_model(tmp_path / "model")
    with running(engine, image.tag, command=["serve"], volumes=[f"{model}:/opt/ml/model:ro"]) as container:
        container.await_ready()
        other = container.post("/invocations", REQUEST)
    with running(engine, image.tag, command=["serve"], volumes=[f"{empty}:/opt/ml/model:ro"]) as container:
        container.await_ready()
        own = container.post("/invocations", REQUEST)

    assert other == {"predictions": ["other", "other"]}
    assert species(own) == SPECIES


def test_it_answers_as_vertex_starts_it(engine: Any, image: Built) -> None:
    """Port and routes are those of the AIP variables; without an artifact AIP_STORAGE_URI is empty."""
    vertex = {
        "AIP_HTTP_PORT": "9090",
        "AIP_HEALTH_ROUTE": "/v1/endpoints/7/health",
        "AIP_PREDICT_ROUTE": "/v1/endpoints/7:predict",
        "AIP_STORAGE_URI": "",
    }
    with running(engine, image.tag, environment=vertex, port=9090) as container:
        container.await_ready("/v1/endpoints/7/health")
        answer = container.post("/v1/endpoints/7:predict", REQUEST)
        code, said = container.handle.exec_run(HEALTH)

    assert species(answer) == SPECIES
    assert (code, said) == (0, b"")


def test_a_mounted_bucket_is_served(engine: Any, image: Built, tmp_path: Path) -> None:
    """AIP_STORAGE_URI as a path goes before the model in the image."""
    model = other_model(tmp_path / "model")
    vertex = {"AIP_STORAGE_URI": "/gcs/models/iris"}
    with running(engine, image.tag, environment=vertex, volumes=[f"{model}:/gcs/models/iris:ro"]) as container:
        container.await_ready()
        answer = container.post("/invocations", REQUEST)

    assert answer == {"predictions": ["other", "other"]}


def test_a_model_in_a_bucket_is_fetched(engine: Any, image: Built, unused_port: int) -> None:
    """AIP_STORAGE_URI as Vertex gives it: a gs:// place, with only /tmp to write to."""
    with cloud_storage.serving("models") as storage:
        place = f"{storage}/models/iris/7/code/inference.py"
        with urlopen(Request(place, OTHER_MODEL.encode(), method="PUT")):  # noqa: S310 - loopback
            pass
        vertex = {"AIP_STORAGE_URI": "gs://models/iris/7", "STORAGE_EMULATOR_HOST": storage}
        how: dict[str, Any] = {"network_mode": "host", "tmpfs": {"/tmp": ""}}  # noqa: S108 - the container's
        environment = {**vertex, "AIP_HTTP_PORT": str(unused_port)}
        with running(engine, image.tag, environment=environment, port=unused_port, **how) as container:
            container.await_ready()
            answer = container.post("/invocations", REQUEST)

    assert answer == {"predictions": ["other", "other"]}


def test_it_needs_no_shell_and_turns_healthy(engine: Any, image: Built) -> None:
    """With every shell taken away it serves, and its health check runs."""
    shells = [f"/dev/null:{path}:ro" for path in ("/bin/sh", "/bin/bash", "/bin/dash")]
    with running(engine, image.tag, command=["serve"], volumes=shells) as container:
        container.await_ready()
        code, _ = container.handle.exec_run(["/bin/sh", "-c", "true"])
        await_that(lambda: container.health() == "healthy", "it does not turn healthy")
        answer = container.post("/invocations", REQUEST)

    assert code != 0
    assert species(answer) == SPECIES


def test_the_health_check_says_what_is_wrong(engine: Any, image: Built) -> None:
    """Where nothing answers on the port it fails, with the port and the reason."""
    with running(engine, image.tag) as container:
        container.await_ready()
        code, said = container.handle.exec_run(HEALTH, environment={"MLSCALE_PORT": "9"})

    assert (code, said) == (1, b"port 9: [Errno 111] Connection refused\n")


def test_it_ends_when_it_is_asked_to(engine: Any, image: Built) -> None:
    """SIGTERM reaches the server itself, which ends well before it would be killed."""
    with running(engine, image.tag) as container:
        container.await_ready()
        begun = time.monotonic()
        container.handle.stop(timeout=30)
        took = time.monotonic() - begun
        ended = container.handle.wait()["StatusCode"]

    assert ended == 0
    assert took < 10


def test_a_failed_build_says_why_and_leaves_no_tag(project: Cli) -> None:
    """The installer's last lines are in the error, and what to do."""
    (project.folder / "requirements.txt").write_text("mlscale-has-no-such-package==0.0.1\n")
    done = project.run("image", "build", "--set", "model.requirements=requirements.txt")

    assert done.returncode == 1
    assert "error: the image can't be built" in done.stderr
    assert "No matching distribution found for mlscale-has-no-such-package==0.0.1" in done.stderr
    assert "hint: correct the requirements, or see that the package index can be reached" in done.stderr
    asked = project.run("image", "inspect", "--output", "json", "--set", "model.requirements=requirements.txt")
    assert not json.loads(asked.stdout)["up_to_date"]


def test_a_file_that_cant_be_read_is_no_traceback(project: Cli) -> None:
    """This machine's errors while the context is written are told as errors, with the path."""
    done = project.run("image", "build", "--set", "model.requirements=model")

    assert done.returncode == 1
    assert "error: this machine refused\n  writing what mlscale/mlscale-test:" in done.stderr
    assert f"{project.folder}/model: Is a directory" in done.stderr


def test_a_base_that_is_not_there_is_told_apart(project: Cli) -> None:
    """The hint is about the base, not about packages."""
    done = project.run("image", "build", "--base", "127.0.0.1:9/none:1")

    assert done.returncode == 1
    assert "error: the image can't be built" in done.stderr
    assert "127.0.0.1:9" in done.stderr
    assert "hint: see that the base image is there, or can be pulled" in done.stderr


def test_a_base_without_pip_is_refused(engine: Any, project: Cli, image: Built, tmp_path: Path) -> None:
    """The build says what the base lacks."""
    (tmp_path / "base").mkdir()
    remove = "import pip, shutil; shutil.rmtree(pip.__path__[0])"
    lacking = f'FROM {image.tag}\nUSER root\nRUN ["python3", "-c", "{remove}"]\n'
    (tmp_path / "base" / "Dockerfile").write_text(lacking)
    base = "mlscale-test-base:no-pip"
    docker_engine.build(tmp_path / "base", base, {}, nobody)
    try:
        done = project.run("image", "build", "--base", base)
    finally:
        docker_engine.remove(base)

    assert done.returncode == 1
    assert "the base image has no pip" in done.stderr
    assert engine.images.list(name=base) == []


def test_the_users_time_ends_a_build(project: Cli) -> None:
    """--timeout is exit code 8, and says how to go on."""
    done = project.run("image", "build", "--timeout", "0s")

    assert done.returncode == 8
    assert "error: the time is over\n  0s ended while the image was made\n" in done.stderr
    assert "hint: mlscale image build --timeout 0s" in done.stderr


def test_ctrl_c_ends_a_build(project: Cli) -> None:
    """The engine ends the build with the command, and nothing has the tag."""
    (project.folder / "requirements.txt").write_text("--index-url http://10.255.255.1/simple\nnumpy\n")
    words = ("--set", "model.requirements=requirements.txt")
    process = project.start("image", "build", *words)
    assert process.stderr is not None
    for line in process.stderr:
        if "requirements.txt" in line and "RUN" in line:
            break
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)

    assert process.returncode == 130
    assert "error: stopped" in said
    asked = project.run("image", "push", "127.0.0.1:9/none", *words)
    assert "error: the image is not built" in asked.stderr


def test_a_tag_that_is_used_by_a_container_is_not_taken_away(engine: Any, image: Built) -> None:
    """The engine's refusal is an error; a tag that is not there is none."""
    with running(engine, image.tag), pytest.raises(ProviderFailed, match="the Docker engine refused"):
        docker_engine.remove(image.facts["image"]["id"])

    docker_engine.remove("mlscale/nothing:here")
