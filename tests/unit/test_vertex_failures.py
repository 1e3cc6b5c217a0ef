"""Google Cloud's errors in our words."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.rpc import error_details_pb2
from obstore import exceptions as obstore

from mlscale.errors import MlscaleError, NoCapacity, NotDeployed, ProviderFailed, WrongCredentials
from mlscale.providers.vertex.failures import (
    AGAIN,
    code_of,
    failure_of,
    failure_of_status,
    failure_of_storage,
    is_absent,
    is_there_already,
    lasting,
)

DOING = "EndpointService.DeployModel"
PREDICTING = "PredictionService.RawPredict"
QUOTA = (
    "The following quota metrics exceed quota limits: aiplatform.googleapis.com/custom_model_serving_cpus, "
    "aiplatform.googleapis.com/custom_model_serving_nvidia_l4_gpus"
)
RATE = (
    "Quota exceeded for quota metric 'Online prediction requests' and limit 'Online prediction requests per minute per "
    "region' of service 'aiplatform.googleapis.com' for consumer 'project_number:123456789012'."
)
NO_MACHINE = "Resources are insufficient in region: us-central1. Please try a different region or machine type."
NO_API = (
    "Vertex AI API has not been used in project acme-ml before or it is disabled. Enable it by visiting "
    "https://console.developers.google.com/apis/api/aiplatform.googleapis.com/overview?project=acme-ml then retry."
)
NO_QUOTA_PROJECT = (
    "Your application is authenticating by using local Application Default Credentials. The "
    "cloudresourcemanager.googleapis.com API requires a quota project, which is not set by default."
)
PLUGIN = "Getting metadata from plugin failed with error: "
PROVIDER = "External GCP credential provider: "
OFFLINE = "HTTPSConnectionPool(host='oauth2.googleapis.com', port=443): Max retries exceeded with url: /token"
PLAINTEXT = (
    "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:8085: Ssl handshake failed "
    "(TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:100000f7:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER: "
    "Invalid certificate verification context: OK"
)
HANDSHAKE = "failed to connect to all addresses; last error: Ssl handshake failed: CERTIFICATE_VERIFY_FAILED"


def told(error: MlscaleError) -> tuple[type[MlscaleError], str, bool]:
    """Return the kind of an error, what it says happened, and whether again may help."""
    return type(error), error.what, isinstance(error, ProviderFailed) and error.retryable


def because(kind: type[api.GoogleAPICallError], reason: str, message: str = "no", **about: str) -> Exception:
    """Return an error with its reason, as a service sends it along."""
    info = error_details_pb2.ErrorInfo(reason=reason, domain="googleapis.com", metadata=about)
    return kind(message, details=[info], error_info=info)


STRANGER = (WrongCredentials, "Google Cloud does not know these credentials", False)
EXPIRED = (WrongCredentials, "the credentials for Google Cloud have expired", False)
DENIED = (WrongCredentials, "these credentials may not do this", False)
NO_GOOD = (WrongCredentials, "there are no good credentials for Google Cloud", False)
API_OFF = (WrongCredentials, "the project does not use this API", False)
NO_BILLING = (WrongCredentials, "the project has no billing account", False)
NARROW = (WrongCredentials, "the credentials are too narrow", False)
COUNTED_FOR = (WrongCredentials, "the credentials name no project to count calls for", False)
SLOW_DOWN = (ProviderFailed, "Google Cloud asks to slow down", True)
BUSY = (ProviderFailed, "Google Cloud is busy with an earlier change", True)
BROKEN = (ProviderFailed, "Google Cloud has a problem of its own", True)
SILENT = (ProviderFailed, "Google Cloud does not answer", True)
ASLEEP = (ProviderFailed, "the model is not loaded yet", True)
UNTRUSTED = (ProviderFailed, "the connection to Google Cloud is not trusted", False)
NO_TLS = (ProviderFailed, "the server speaks no TLS", False)
NO_XML = (ProviderFailed, "Cloud Storage has no such request there", False)
UNHEALTHY = (ProviderFailed, "the model did not become healthy", False)
NO_IMAGE = (ProviderFailed, "the image can't be pulled", False)
NO_FILES = (ProviderFailed, "the model's files can't be used", False)
ABSENT = (ProviderFailed, "Google Cloud has no such resource", False)
REFUSED = (ProviderFailed, "Google Cloud refuses the request", False)
NO_BUCKET = (ProviderFailed, "the bucket does not exist", False)
USED_UP = (NoCapacity, "a quota of the project is used up", False)
NONE_FREE = (NoCapacity, "Google Cloud has no such machine free", False)
NOTHING = (NotDeployed, "nothing is deployed", False)


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        ("CANCELLED", "The operation was cancelled.", BROKEN),
        ("UNKNOWN", "", BROKEN),
        ("INVALID_ARGUMENT", "List of found errors:\t1.Field: x; Message: y", REFUSED),
        ("INVALID_ARGUMENT", 'Accelerator "X" is not supported for machine type "Y"', REFUSED),
        ("INVALID_ARGUMENT", "Failed to pull the container image.", NO_IMAGE),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", SILENT),
        ("NOT_FOUND", "The Endpoint does not exist.", ABSENT),
        ("ALREADY_EXISTS", "Endpoint reviews already exists.", REFUSED),
        ("PERMISSION_DENIED", "Permission 'aiplatform.endpoints.deploy' denied on resource", DENIED),
        ("PERMISSION_DENIED", NO_API, API_OFF),
        ("PERMISSION_DENIED", NO_QUOTA_PROJECT, COUNTED_FOR),
        ("RESOURCE_EXHAUSTED", QUOTA, USED_UP),
        ("RESOURCE_EXHAUSTED", "The following quotas are exceeded: CustomModelServingCPUs", USED_UP),
        ("RESOURCE_EXHAUSTED", NO_MACHINE, NONE_FREE),
        ("INTERNAL", "STOCKOUT", NONE_FREE),
        ("RESOURCE_EXHAUSTED", RATE, SLOW_DOWN),
        ("RESOURCE_EXHAUSTED", "", SLOW_DOWN),
        ("RESOURCE_EXHAUSTED", "Model is not yet ready for inference. Please wait.", ASLEEP),
        ("FAILED_PRECONDITION", "Model server exited unexpectedly. Model server logs can be found at", UNHEALTHY),
        ("FAILED_PRECONDITION", "Model server terminated: model server container terminated", UNHEALTHY),
        ("FAILED_PRECONDITION", "Model server never became ready. Please validate", UNHEALTHY),
        ("FAILED_PRECONDITION", "There are other operations running on the Endpoint", BUSY),
        ("FAILED_PRECONDITION", 'There are no files under "gs://acme-ml/m" to copy.', NO_FILES),
        ("FAILED_PRECONDITION", "DeployedModel 12 has 10 percent of the traffic", REFUSED),
        ("ABORTED", "The etag does not match", BUSY),
        ("OUT_OF_RANGE", "", REFUSED),
        ("UNIMPLEMENTED", "", REFUSED),
        ("INTERNAL", "Internal error encountered.", BROKEN),
        ("UNAVAILABLE", "The service is currently unavailable.", SILENT),
        ("UNAVAILABLE", HANDSHAKE, UNTRUSTED),
        ("UNAVAILABLE", PLAINTEXT, NO_TLS),
        ("UNAVAILABLE", f"{PLUGIN}('invalid_grant: Token has been expired or revoked.', {{}})", NO_GOOD),
        ("UNAVAILABLE", f"{PLUGIN}{OFFLINE}", SILENT),
        ("DATA_LOSS", "", BROKEN),
        ("UNAUTHENTICATED", "Request had invalid authentication credentials.", STRANGER),
    ],
)
def test_a_status_says_what_to_do(code: str, message: str, expected: tuple[type, str, bool]) -> None:
    """Every code, and of those that mean several things the words that tell them apart."""
    error = failure_of_status(code, message, DOING)

    assert told(error) == expected
    assert error.why.startswith(f"{DOING}: ")
    assert error.hint


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        ("NOT_FOUND", "The Endpoint does not exist.", NOTHING),
        ("FAILED_PRECONDITION", "Endpoint reviews doesn't have traffic_split.", NOTHING),
        ("INVALID_ARGUMENT", "rows are missing", (ProviderFailed, "the endpoint refuses the request", False)),
        ("PERMISSION_DENIED", "Permission 'aiplatform.endpoints.predict' denied", DENIED),
        ("RESOURCE_EXHAUSTED", RATE, SLOW_DOWN),
        ("INTERNAL", "the model failed", BROKEN),
    ],
)
def test_what_a_prediction_is_refused_for(code: str, message: str, expected: tuple[type, str, bool]) -> None:
    """An endpoint that is not there is nothing deployed."""
    assert told(failure_of_status(code, message, PREDICTING)) == expected


CALL_ERRORS = [each for each in vars(api).values() if isinstance(each, type) and issubclass(each, api.GoogleAPIError)]


@pytest.mark.parametrize("kind", CALL_ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_of_googles_clients_is_one_of_ours(kind: Any) -> None:
    """A class without a gRPC code, too: those are of REST, of a channel or of a deadline of the client's."""
    error = kind("no", *[None] * (kind.__name__ == "RetryError"))  # it wants a cause

    assert isinstance(failure_of(error, DOING), MlscaleError)


@pytest.mark.parametrize("code", [each for each in grpc.StatusCode if each is not grpc.StatusCode.OK])
def test_a_code_comes_out_the_same_from_a_call_as_from_an_operation(code: grpc.StatusCode) -> None:
    """One table for both."""
    raised = api.from_grpc_status(code, QUOTA)

    assert told(failure_of(raised, DOING)) == told(failure_of_status(code.name, QUOTA, DOING))
    assert code_of(raised) == code.name


def test_what_an_operation_ended_with_does_not_pass() -> None:
    """The same words with exit code 1: looking again finds the same end."""
    found = failure_of_status("INTERNAL", "INTERNAL", DOING)

    ended = lasting(found)

    assert (ended.what, ended.why, ended.hint) == (found.what, found.why, found.hint)
    assert (found.exit_code, ended.exit_code, ended.retryable) == (8, 1, False)


@pytest.mark.parametrize(
    ("error", "expected", "hint"),
    [
        (
            because(api.PermissionDenied, "SERVICE_DISABLED", service="monitoring.googleapis.com"),
            API_OFF,
            "gcloud services enable monitoring.googleapis.com",
        ),
        (because(api.PermissionDenied, "BILLING_DISABLED"), NO_BILLING, "link one: gcloud billing projects link"),
        (
            because(api.PermissionDenied, "ACCESS_TOKEN_SCOPE_INSUFFICIENT"),
            NARROW,
            "give them the scope https://www.googleapis.com/auth/cloud-platform",
        ),
        (
            because(api.Unauthenticated, "ACCESS_TOKEN_EXPIRED"),
            EXPIRED,
            "gcloud auth application-default login, or put a key's path into GOOGLE_APPLICATION_CREDENTIALS",
        ),
        (because(api.ResourceExhausted, "RATE_LIMIT_EXCEEDED", "Quota exceeded"), SLOW_DOWN, AGAIN),
    ],
)
def test_a_reason_says_more_than_its_code(error: Exception, expected: tuple[type, str, bool], hint: str) -> None:
    """Where a service sends one along."""
    found = failure_of(error, DOING)

    assert (told(found), found.hint) == (expected, hint)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (auth.DefaultCredentialsError("Your default credentials were not found."), NO_GOOD),
        (auth.RefreshError("invalid_grant: Token has been expired or revoked.", {"error": "invalid_grant"}), NO_GOOD),
        (auth.ReauthFailError("Reauthentication is needed."), NO_GOOD),
        (auth.MalformedError("missing fields client_email"), NO_GOOD),
        (auth.TransportError("connection refused"), SILENT),
    ],
)
def test_credentials_that_can_not_be_had(error: Exception, expected: tuple[type, str, bool]) -> None:
    """What google-auth says of them; a network that is down is no matter of credentials."""
    assert told(failure_of(error, "reading the credentials")) == expected


def test_a_bug_of_ours_keeps_its_own_error() -> None:
    """A field that the message does not have is nothing that a user can act on."""
    bug = ValueError("Unknown field for Endpoint: lables")

    with pytest.raises(ValueError, match="lables"):
        failure_of(bug, DOING)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FileNotFoundError("404 Not Found: <Error><Code>NoSuchBucket</Code></Error>"), NO_BUCKET),
        (obstore.GenericError("404 Not Found: <Error><Code>NoSuchBucket</Code></Error>"), NO_BUCKET),
        (obstore.PermissionDeniedError("403 Forbidden"), DENIED),
        (obstore.GenericError("Error performing list request: 403 Forbidden"), DENIED),
        (obstore.UnauthenticatedError("401 Unauthorized"), STRANGER),
        (obstore.UnauthenticatedError(f"{PROVIDER}RefreshError: ('invalid_grant: Token has been expired.',)"), NO_GOOD),
        (obstore.UnauthenticatedError(f"{PROVIDER}TransportError: {OFFLINE}"), SILENT),
        (obstore.GenericError("HTTP error: error sending request"), SILENT),
        (obstore.GenericError("Server returned non-2xx status code: 503 Service Unavailable"), BROKEN),
        (obstore.GenericError("Server returned non-2xx status code: 429 Too Many Requests"), SLOW_DOWN),
        (obstore.GenericError("Server returned non-2xx status code: 400 Bad Request"), REFUSED),
        (obstore.GenericError("Server returned non-2xx status code: 501 Not Implemented"), NO_XML),
    ],
)
def test_what_cloud_storage_refuses(error: Exception, expected: tuple[type, str, bool]) -> None:
    """By type where there is one, else by words that stay the same."""
    found = failure_of_storage(error, "writing gs://acme-ml/m")

    assert told(found) == expected
    assert found.why == f"writing gs://acme-ml/m: {error}"


def test_what_obstore_says_for_debugging_is_left_out() -> None:
    """It is as long as a page, and has the whole answer."""
    error = obstore.PermissionDeniedError("403 Forbidden\n\nDebug source:\nRetryError { secret }")

    assert failure_of_storage(error, "listing gs://acme-ml/").why == "listing gs://acme-ml/: 403 Forbidden"


def test_a_quota_that_is_used_up_is_named() -> None:
    """With the page where more can be asked for."""
    assert failure_of_status("RESOURCE_EXHAUSTED", QUOTA, DOING).hint == (
        "delete what is unused, or ask for more of aiplatform.googleapis.com/custom_model_serving_cpus, "
        "aiplatform.googleapis.com/custom_model_serving_nvidia_l4_gpus: "
        "https://console.cloud.google.com/iam-admin/quotas"
    )


def test_an_api_that_is_off_is_named() -> None:
    """As the command that puts it on wants it."""
    found = failure_of_status("PERMISSION_DENIED", "Cloud Monitoring: monitoring.googleapis.com: it is disabled.")

    assert found.hint == "gcloud services enable monitoring.googleapis.com"


@pytest.mark.parametrize(
    ("error", "absent", "there"),
    [
        (api.NotFound("The Endpoint does not exist."), True, False),
        (api.AlreadyExists("Endpoint reviews already exists."), False, True),
        (api.Aborted("etag"), False, False),
        (api.PermissionDenied("denied on resource (or it may not exist)"), False, False),
        (ValueError("NOT_FOUND"), False, False),
        (None, False, False),
    ],
)
def test_what_is_not_there_and_what_is_already(error: BaseException | None, *, absent: bool, there: bool) -> None:
    """It goes by the code; somebody who may not look does not know."""
    assert (is_absent(error), is_there_already(error)) == (absent, there)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("token ya29.a0AfH6SMBx-yz_1 is bad", "token [token] is bad"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer [hidden]"),
        ("eyJhbGciOi.eyJpc3MiOi.c2lnbmF0dXJl is no JWT", "[token] is no JWT"),
        ("{'refresh_token': '1//0abcdefghijklmnopqrst', 'a': 1}", "{'refresh_token': '[hidden]', 'a': 1}"),
        ("1//0abcdefghijklmnopqrstuvw", "[token]"),
        ("key AIzaSyD-0123456789abcdefghij", "key [token]"),
        ("https://x?X-Goog-Signature=01&X-Goog-Credential=me&a=b",
         "https://x?X-Goog-Signature=[hidden]&X-Goog-Credential=[hidden]&a=b"),
        ("http://user:secret@proxy:80", "http://[hidden]@proxy:80"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nis no key", "[key] is no key"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE", "[key]"),
        ("<html><head><title>502 Bad\nGateway</title></head><body>...</body></html>", "502 Bad Gateway"),
        ("two\nlines\tand a tab", "two lines and a tab"),
        ("x" * 700, "x" * 600 + " …"),
        ("x" * 590 + " ya29.a0AfH6SMBx-yz_1", "x" * 590 + " [token]"),
        ("the token is expired, and its quota", "the token is expired, and its quota"),
    ],
)  # fmt: skip
def test_no_secret_is_shown(message: str, shown: str) -> None:
    """Not in part either, and on one line that a person may read."""
    assert failure_of_status("INVALID_ARGUMENT", message, DOING).why == f"{DOING}: {shown}"
