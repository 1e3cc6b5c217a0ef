"""Who we are to a registry: a short-lived token from the cloud that has it, or what Docker itself knows."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import Any

from mlscale.errors import ExtraMissing, MlscaleError, ProviderFailed, WrongCredentials

# Hosts of private registries: Amazon ECR user guide, "Private registry authentication", and Artifact Registry's
# "Configure authentication to Artifact Registry for Docker".
_ECR = re.compile(r"(?P<account>\d{12})\.dkr[.-]ecr(-fips)?\.(?P<region>[a-z0-9-]+)\.(amazonaws\.com(\.cn)?|on\.aws)")
_GOOGLE = re.compile(r"[a-z0-9-]+-docker\.pkg\.dev|([a-z]+\.)?gcr\.io")

GOOGLE_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class Auth:
    """A user and a password for one registry."""

    username: str
    password: str = field(repr=False)


def host_of(reference: str) -> str:
    """Return the registry's host in an image's name: its first part if that looks like one, else Docker Hub."""
    first, slash, _ = reference.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else "docker.io"


def auth_of(reference: str) -> Auth | None:
    """Return who we are to the registry of `reference`; None where Docker's own settings know it (`docker login`).

    Raises:
        ExtraMissing: the cloud's package is not installed.
        WrongCredentials: the cloud does not know who we are, or gives us no token.
        ProviderFailed: the cloud does not answer.
    """
    host = host_of(reference)
    if found := _ECR.fullmatch(host):
        return _amazon(found["region"])
    if _GOOGLE.fullmatch(host):
        return _google()
    return None


def repository_hint(reference: str) -> str:
    """Return the command that makes the repository of `reference`, where its registry has none of itself."""
    repository = reference.partition("/")[2].partition("@")[0].partition(":")[0]
    if found := _ECR.fullmatch(host_of(reference)):
        return f"aws ecr create-repository --region {found['region']} --repository-name {repository}"
    if _GOOGLE.fullmatch(host_of(reference)):
        return "gcloud artifacts repositories create NAME --repository-format docker --location LOCATION"
    return "see that the repository is there, and that you may write to it"


def _amazon(region: str) -> Auth:
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, HTTPClientError
    except ImportError as error:
        raise _extra_missing("boto3", "sagemaker") from error
    config = Config(connect_timeout=TIMEOUT_S, read_timeout=TIMEOUT_S, retries={"total_max_attempts": 3})
    try:
        # A session of its own: the shared one keeps the credentials that it found first.
        client = boto3.session.Session().client("ecr", region_name=region, config=config)
        try:
            answer = client.get_authorization_token()
        finally:
            client.close()
    except (EndpointConnectionError, HTTPClientError) as error:
        raise _no_answer("Amazon ECR", error) from error
    except (BotoCoreError, ClientError) as error:
        raise WrongCredentials(
            "Amazon ECR gives no token", why=str(error), hint="aws sts get-caller-identity says who you are"
        ) from error
    token = base64.b64decode(answer["authorizationData"][0]["authorizationToken"]).decode()
    username, _, password = token.partition(":")
    return Auth(username, password)


def _google() -> Auth:
    try:
        import google.auth
        from google.auth.exceptions import GoogleAuthError, TransportError
        from google.auth.transport.requests import Request
    except ImportError as error:
        raise _extra_missing("google-auth", "vertex") from error
    credentials: Any
    try:
        credentials, _ = google.auth.default(scopes=[GOOGLE_SCOPE])
        credentials.refresh(Request())
    except TransportError as error:
        raise _no_answer("Google", error) from error
    except GoogleAuthError as error:
        raise WrongCredentials(
            "Google gives no token", why=str(error), hint="gcloud auth application-default login"
        ) from error
    return Auth("oauth2accesstoken", str(credentials.token))


def _extra_missing(package: str, extra: str) -> ExtraMissing:
    return ExtraMissing(
        "an optional package is not installed",
        why=f"{package} gets the token for this registry",
        hint=f"pip install 'mlscale[{extra}]'",
    )


def _no_answer(who: str, error: Exception) -> MlscaleError:
    return ProviderFailed(
        f"{who} does not answer", why=str(error), hint="see that its address can be reached", retryable=True
    )
