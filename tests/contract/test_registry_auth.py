"""Who we are to a registry, asked of the clouds' own APIs over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mlscale.errors import ProviderFailed, WrongCredentials
from mlscale.providers.registry_auth import Auth, auth_of, host_of, repository_hint
from tests.doubles import moto_s3

ECR = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/models/iris:1"
GOOGLE = "europe-west4-docker.pkg.dev/acme/models/iris:1"


@pytest.mark.parametrize(
    ("reference", "host"),
    [
        ("iris", "docker.io"),
        ("acme/iris:1", "docker.io"),
        ("localhost/iris", "localhost"),
        ("127.0.0.1:5000/iris:1", "127.0.0.1:5000"),
        ("ghcr.io/acme/iris@sha256:0", "ghcr.io"),
    ],
)
def test_the_host_is_the_first_part_if_it_looks_like_one(reference: str, host: str) -> None:
    """As Docker reads an image's name."""
    assert host_of(reference) == host


@pytest.mark.parametrize(
    "reference", ["iris:1", "ghcr.io/acme/iris:1", "127.0.0.1:5000/iris", "evil.gcr.io.acme.com/i"]
)
def test_dockers_own_settings_know_other_registries(reference: str) -> None:
    """No cloud is asked for them."""
    assert auth_of(reference) is None


@pytest.fixture
def amazon(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Serve AWS; yields what sets variables, with credentials in place."""
    with moto_s3.serving("any") as address:
        for name, value in (
            ("AWS_ENDPOINT_URL", address),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ):
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        yield monkeypatch


@pytest.mark.usefixtures("amazon")
def test_amazon_gives_a_token_of_the_registrys_region() -> None:
    """The user is AWS and the password the token, as `aws ecr get-login-password` has it."""
    assert auth_of(ECR) == Auth("AWS", "123456789012-auth-token")


def test_a_password_is_not_shown() -> None:
    """A log or traceback with it has the user alone."""
    assert repr(Auth("AWS", "secret")) == "Auth(username='AWS')"


def test_amazon_without_credentials_says_so(amazon: pytest.MonkeyPatch) -> None:
    """Nothing is sent to the registry with no name on it."""
    amazon.delenv("AWS_ACCESS_KEY_ID")
    amazon.delenv("AWS_SECRET_ACCESS_KEY")

    with pytest.raises(WrongCredentials) as raised:
        auth_of(ECR)

    assert raised.value.what == "Amazon ECR gives no token"
    assert raised.value.why == "Unable to locate credentials"


def test_amazon_that_does_not_answer_is_told_apart(amazon: pytest.MonkeyPatch) -> None:
    """A network that is down is no matter of credentials, and again may help."""
    amazon.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")

    with pytest.raises(ProviderFailed, match="Amazon ECR does not answer") as raised:
        auth_of(ECR)

    assert raised.value.retryable


class Tokens(BaseHTTPRequestHandler):
    """Google's token endpoint, which knows one service account (RFC 7523)."""

    def do_POST(self) -> None:
        """Answer with a token, or refuse a grant that is none."""
        form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        is_grant = form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"] and "assertion" in form
        known = self.path == "/token"
        if is_grant and known:
            self._answer(200, {"access_token": "ya29.token", "expires_in": 3599, "token_type": "Bearer"})
        else:
            self._answer(400, {"error": "invalid_grant", "error_description": "Invalid grant: account not found"})

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's own name
        """Say nothing."""

    def _answer(self, status: int, facts: dict[str, Any]) -> None:
        body = json.dumps(facts).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def google() -> Iterator[str]:
    """Serve Google's token endpoint; yields its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Tokens)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def service_account(folder: Path, token_uri: str) -> str:
    """Return the path of a service account's key, whose tokens come from `token_uri`."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "key.json"
    facts = {
        "type": "service_account",
        "project_id": "acme",
        "private_key_id": "1",
        "private_key": private.decode(),
        "client_email": "ml@acme.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": token_uri,
        "universe_domain": "googleapis.com",
    }
    path.write_text(json.dumps(facts))
    return str(path)


@pytest.mark.parametrize("reference", [GOOGLE, "gcr.io/acme/iris:1", "eu.gcr.io/acme/iris:1"])
def test_google_gives_a_token_for_its_registries(
    reference: str, google: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user is oauth2accesstoken, as Artifact Registry wants it."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", service_account(tmp_path, f"{google}/token"))

    assert auth_of(reference) == Auth("oauth2accesstoken", "ya29.token")


def test_google_that_knows_nobody_says_so(google: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is Google's own, the hint how to log in."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", service_account(tmp_path, f"{google}/gone"))

    with pytest.raises(WrongCredentials, match="account not found") as raised:
        auth_of(GOOGLE)

    assert raised.value.hint == "gcloud auth application-default login"


def test_google_that_does_not_answer_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that is down is no matter of credentials."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", service_account(tmp_path, "http://127.0.0.1:1/token"))

    with pytest.raises(ProviderFailed, match="Google does not answer"):
        auth_of(GOOGLE)


def test_a_missing_repository_has_the_command_that_makes_it() -> None:
    """Amazon's registry makes none of itself when an image is pushed."""
    assert repository_hint(ECR) == "aws ecr create-repository --region eu-central-1 --repository-name models/iris"
