"""The engine's errors in our words, and what is sent to it; without an engine."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import requests
from docker.errors import APIError, DockerException

from mlscale.errors import NoCapacity, ProviderFailed, WrongCredentials
from mlscale.providers.docker_engine import _no_engine, _pack, _push_failure, _repository, failure_of

WITHOUT = """
import sys
sys.modules[{module!r}] = None
from mlscale.errors import ExtraMissing
from mlscale.providers.{place} import {name}
try:
    {name}({words})
except ExtraMissing as error:
    print(error.what, error.hint, sep="; ")
"""
SOCKET = "http+unix:///var/run/docker.sock"


@pytest.mark.parametrize(
    ("place", "name", "words", "module", "extra"),
    [
        ("docker_engine", "connected", "", "docker", "docker"),
        ("registry_auth", "auth_of", "'1" + "0" * 11 + ".dkr.ecr.us-east-1.amazonaws.com/iris'", "boto3", "sagemaker"),
        ("registry_auth", "auth_of", "'gcr.io/acme/iris'", "google.auth", "vertex"),
    ],
    ids=["docker", "boto3", "google"],
)
def test_a_missing_package_is_named_with_its_install_line(
    place: str, name: str, words: str, module: str, extra: str
) -> None:
    """An optional package that is not there is no traceback."""
    code = WITHOUT.format(place=place, name=name, words=words, module=module)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stderr == ""
    assert done.stdout == f"an optional package is not installed; pip install 'mlscale[{extra}]'\n"


@pytest.mark.parametrize(
    ("said", "what", "why"),
    [
        (
            "Error while fetching server API version: ('Aborted.', PermissionError(13, 'Permission denied'))",
            "the Docker engine does not let this user in",
            f"{SOCKET}: permission denied",
        ),
        (
            "('Connection aborted.', FileNotFoundError(2, 'No such file or directory'))",
            "no Docker engine answers",
            f"{SOCKET}: there is no such socket",
        ),
        (
            "ConnectionRefusedError(111, 'Connection refused')",
            "no Docker engine answers",
            f"{SOCKET}: connection refused",
        ),
        ("Read timed out.", "no Docker engine answers", f"{SOCKET}: no answer in time"),
        ("something else", "no Docker engine answers", f"{SOCKET}: something else"),
    ],
)
def test_an_engine_that_is_not_there_is_told_with_its_address(said: str, what: str, why: str) -> None:
    """What is missing, where it was looked for, and that models need no engine to be served."""
    error = _no_engine(SOCKET, said)

    assert (error.what, error.why) == (what, why)
    assert "needs no" in error.hint or "needs none" in error.hint


def answered(status: int, explanation: str) -> APIError:
    """Return the SDK's error for an answer of the engine."""
    response = requests.Response()
    response.status_code = status
    return APIError("an answer", response, explanation)


@pytest.mark.parametrize(
    ("error", "kind", "what", "retryable"),
    [
        (answered(409, "conflict"), ProviderFailed, "the Docker engine refused", False),
        (answered(500, "server error"), ProviderFailed, "the Docker engine broke off", True),
        (requests.exceptions.ReadTimeout("no answer"), ProviderFailed, "the Docker engine broke off", True),
        (DockerException("odd"), ProviderFailed, "the Docker engine failed", False),
        (answered(500, "write /var/lib: no space left on device"), NoCapacity, "the engine's disk is full", False),
    ],
    ids=["refusal", "server error", "time-out", "other", "full disk"],
)
def test_the_sdks_errors_are_told_apart(error: Exception, kind: type[Exception], what: str, *, retryable: bool) -> None:
    """A refusal stays one; a connection that broke off may hold the next time; a full disk is missing capacity."""
    told = failure_of(error, "building")

    assert type(told) is kind
    assert told.what == what
    assert told.why.startswith("building: ")
    assert getattr(told, "retryable", False) is retryable


@pytest.mark.parametrize(
    ("said", "kind", "hint"),
    [
        ("unauthorized: authentication required", WrongCredentials, "docker login registry.example.com"),
        ("no basic auth credentials", WrongCredentials, "docker login registry.example.com"),
        ("name unknown: The repository does not exist", ProviderFailed, "see that the repository is there, and that "),
        ("denied: requested access to the resource is denied", ProviderFailed, "see that the repository is there, "),
        ("dial tcp: i/o timeout", ProviderFailed, "see that the registry can be reached, and push again"),
    ],
)
def test_a_registrys_refusals_are_told_apart(said: str, kind: type[Exception], hint: str) -> None:
    """Who we are, what is missing there, and a network that is down each have their own hint."""
    told = _push_failure("registry.example.com/iris:1", said)

    assert type(told) is kind
    assert told.hint.startswith(hint)


@pytest.mark.parametrize(
    ("reference", "repository"),
    [
        ("iris", "iris"),
        ("iris:1", "iris"),
        ("127.0.0.1:5000/iris", "127.0.0.1:5000/iris"),
        ("127.0.0.1:5000/ml/iris:1", "127.0.0.1:5000/ml/iris"),
    ],
)
def test_a_ports_colon_is_no_tags(reference: str, repository: str) -> None:
    """Only what comes after the last slash has a tag."""
    assert _repository(reference) == repository


def test_a_context_is_packed_in_order_and_as_roots(tmp_path: Path) -> None:
    """Whoever builds it, the engine gets the same archive."""
    for name in ("b", "a", "folder/c"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    archive = io.BytesIO()

    _pack(tmp_path, archive)

    archive.seek(0)
    with tarfile.open(fileobj=archive) as tar:
        members: list[Any] = [(each.name, each.uid, each.gid, each.uname) for each in tar]
    assert members == [(name, 0, 0, "root") for name in ("a", "b", "folder", "folder/c")]
