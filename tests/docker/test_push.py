"""Images in a registry: a real one on loopback, with a password."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlscale.errors import UsageError, WrongCredentials
from mlscale.providers import docker_engine
from mlscale.providers.registry_auth import Auth
from tests.conftest import Cli
from tests.docker.conftest import PASSWORD, USER, Built, nobody

pytestmark = pytest.mark.docker


@pytest.fixture
def repository(engine: Any, registry: str) -> Iterator[str]:
    """A repository of the registry; its tags are gone from the engine at the end."""
    name = f"{registry}/ml/iris"
    yield name
    for each in engine.images.list(name=name):
        for tag in each.tags:
            if tag.startswith(name):
                docker_engine.remove(tag)


@pytest.fixture
def logged_in(registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What `docker login` leaves behind, for us and for a command: the folder of Docker's own settings."""
    folder = tmp_path / "docker"
    folder.mkdir()
    word = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {registry: {"auth": word}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return {"DOCKER_CONFIG": str(folder)}


def test_what_is_pushed_is_named_by_its_digest(
    project: Cli, image: Built, repository: str, logged_in: dict[str, str]
) -> None:
    """The digest is the registry's, and what the spec has to say is printed; it resolves from here and from there."""
    done = project.run("image", "push", "spec.yaml", repository, env=logged_in)
    assert done.returncode == 0, done.stderr
    again = json.loads(project.run("image", "push", repository, "--output", "json", env=logged_in).stdout)
    facts = json.loads(project.run("image", "inspect", "--output", "json", env=logged_in).stdout)["image"]

    pinned, tag = again["reference"], f"{repository}:{image.tag.rpartition(':')[2]}"
    assert pinned.startswith(f"{repository}@sha256:")
    assert done.stdout == (
        f"Pushed {image.tag}\n{pinned}\n\nTo serve it, in the spec:\n\n  model:\n    image: {pinned}\n"
    )
    assert facts["digests"] == [pinned]
    assert docker_engine.resolve(tag) == pinned
    docker_engine.remove(tag)
    assert docker_engine.inspect(tag) is None
    assert docker_engine.resolve(tag) == pinned
    assert docker_engine.inspect(tag) is None
    assert docker_engine.resolve(pinned) == pinned


def test_a_build_can_be_pushed_at_once(project: Cli, image: Built, repository: str, logged_in: dict[str, str]) -> None:
    """`build --push` ends with the digest."""
    done = project.run("image", "build", "--push", repository, "--output", "json", env=logged_in)

    facts = json.loads(done.stdout)
    assert facts["reference"].startswith(f"{repository}@sha256:")
    assert facts["image"]["tag"] == image.tag


def test_an_image_that_only_the_engine_has_is_pinned_by_its_id(image: Built) -> None:
    """It was pushed nowhere, so no repository has a digest for it."""
    assert docker_engine.resolve(image.tag) == image.facts["image"]["id"]


@pytest.mark.usefixtures("logged_in")
def test_a_reference_that_nobody_has_is_refused(repository: str) -> None:
    """Neither the engine nor the registry knows it."""
    with pytest.raises(UsageError, match="there is no such image"):
        docker_engine.resolve(f"{repository}:none")


def test_a_token_is_given_to_the_registry(image: Built, repository: str) -> None:
    """User and password that a cloud gave are used where Docker's own settings have none."""
    reference = f"{repository}:token"
    docker_engine.tag_as(image.tag, reference)
    said: list[str] = []

    def tell(text: str) -> None:
        said.append(text)

    digest = docker_engine.push(reference, Auth(USER, PASSWORD), tell)

    assert digest.startswith("sha256:")
    assert any(line.startswith("token: digest: sha256:") for line in said)


def test_a_wrong_password_is_no_failure_of_the_registry(image: Built, repository: str) -> None:
    """It is exit code 9, and the hint is how to log in."""
    reference = f"{repository}:wrong"
    docker_engine.tag_as(image.tag, reference)

    with pytest.raises(WrongCredentials, match="the registry does not know you") as raised:
        docker_engine.push(reference, Auth(USER, "wrong"), nobody)

    assert raised.value.hint == f"docker login {repository.partition('/')[0]}"


def test_what_is_not_built_is_not_pushed(project: Cli, repository: str) -> None:
    """The image that the spec asks for now has to be there."""
    (project.folder / "model" / "note.txt").write_text("changed since")

    done = project.run("image", "push", repository)

    assert done.returncode == 1
    assert "error: the image is not built" in done.stderr
    assert "hint: mlscale image build spec.yaml" in done.stderr
