"""Google Cloud's errors in our words, and what they say about whether something is there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mlscale.errors import MlscaleError, NoCapacity, NotDeployed, ProviderFailed, WrongCredentials
from mlscale.providers.vertex.addresses import STORAGE

# Codes: google/rpc/code.proto, which also says of some that the caller may try again; https://google.aip.dev/194.
# Reasons: google/api/error_reason.proto.
_BROKEN = frozenset({"INTERNAL", "UNKNOWN", "DATA_LOSS", "CANCELLED"})
_EXPIRED = frozenset({"ACCESS_TOKEN_EXPIRED", "CREDENTIALS_MISSING"})
_OFF = frozenset({"SERVICE_DISABLED", "API_DISABLED"})
_BILLING = frozenset({"BILLING_DISABLED"})
_NARROW = frozenset({"ACCESS_TOKEN_SCOPE_INSUFFICIENT"})
_RATES = frozenset({"RATE_LIMIT_EXCEEDED"})

_NO_MACHINE_TEXT = re.compile(r"(?i)resources are insufficient in region|\bstockout\b|out of capacity")
"""openreview/openreview-expertise#401; STOCKOUT: Vertex AI's page on spot VMs."""

_QUOTA_TEXT = re.compile(r"(?i)exceed quota limits?|quotas? (are|is) exceeded|\bquota\b")
"""GoogleCloudPlatform/vertex-ai-samples#700, #264."""

_RATE_TEXT = re.compile(r"(?i)requests|per (second|minute|day)|per_(second|minute|day)|tokens|rate limit")
"""What a quota counts that is free again a moment later: google-cloud-japan/sa-ml-workshop#48, cocoindex#1151."""

_QUOTAS_NAMED = re.compile(r"\b[a-z-]+\.googleapis\.com/[a-z0-9_]+")

_BUSY_TEXT = re.compile(r"(?i)(other|another|concurrent|ongoing) (operations?|updates?|deployments?|mutations?)")
"""An endpoint takes one operation at a time; its words for that are not documented."""

_SERVER_TEXT = re.compile(r"Model server (exited unexpectedly|terminated|never became ready)")
"""googleapis/python-aiplatform#4559, GoogleCloudPlatform/vertex-ai-samples#2254, #3485."""

_IMAGE_TEXT = re.compile(r"(?i)(pull|access|find|download)\w* (the )?(container )?image|image \S+ (was )?not found")

_FILES_TEXT = re.compile(r"There are no files under|is expected to contain exactly one of")
"""Exporting model artifacts, on the names that a prebuilt image looks for."""

_NO_TRAFFIC_TEXT = re.compile(r"doesn't have traffic_split")
"""GoogleCloudPlatform/explainable_ai_sdk#3."""

_ASLEEP_TEXT = re.compile(r"Model is not yet ready for inference")
"""Vertex AI's page on scaling to zero."""

_OFF_TEXT = re.compile(r"has not been used in project|it is disabled|API .*not (been )?enabled")
_SERVICE = re.compile(r"\b[a-z]+\.googleapis\.com")
_NO_QUOTA_PROJECT = re.compile(r"(?i)quota project")

_NO_METADATA = "Getting metadata from plugin failed with error: "
"""What gRPC makes of an error of google-auth, which writes the token into each call: UNAVAILABLE with these words."""

_NO_PROVIDER = "credential provider: "
"""What obstore makes of the same: UnauthenticatedError with these words."""

_NO_NETWORK = re.compile(
    r"(?i)max retries exceeded|connection (refused|aborted|reset)|timed? ?out|name resolution|getaddr"
)
_UNTRUSTED = re.compile(r"(?i)certificate|CERTIFICATE_VERIFY_FAILED")

_NO_TLS = "WRONG_VERSION_NUMBER"
"""OpenSSL's word for an answer that is none of TLS; gRPC speaks of a certificate in the same breath."""

_LONGEST_TEXT = 600
_HIDDEN = (
    (re.compile(r"(?i)(://)[^/@\s]+@"), r"\1[hidden]@"),
    (re.compile(r"(?i)\b(bearer )\S+"), r"\1[hidden]"),
    (re.compile(r"(?i)((?:password|secret\w*|private_?key\w*)['\"]?\s?[=:]\s?['\"]?)[^\s&\"',]+"), r"\1[hidden]"),
    (re.compile(r"(?i)((?:token|signature|credential)(?:=|['\"]\s?:\s?['\"]?))[^\s&\"',]+"), r"\1[hidden]"),
    (re.compile(r"\bya29\.[\w.-]+|\beyJ[\w-]+\.[\w-]+\.[\w-]*|\bAIza[\w-]{20,}|\b1//[\w-]{20,}"), "[token]"),
    (re.compile(r"-----BEGIN [A-Z ]*KEY-----.*?(-----END [A-Z ]*KEY-----|$)", re.DOTALL), "[key]"),
)  # fmt: skip
"""What lets somebody in: access, identity and refresh tokens, API keys, private keys, the parts of a signed address."""

AGAIN = "run the same command again; it goes on from here"
LOGIN = "gcloud auth application-default login, or put a key's path into GOOGLE_APPLICATION_CREDENTIALS"
QUOTAS = "https://console.cloud.google.com/iam-admin/quotas"


def failure_of(error: Exception, doing: str) -> MlscaleError:
    """Return the error that a user can act on for what Google's clients raised while `doing` something.

    `doing` is the method of the API, `EndpointService.DeployModel`.

    Raises:
        Exception: `error` itself, where it is a bug of ours.
    """
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth

    if isinstance(error, auth.GoogleAuthError):
        return _unknown_to_google(
            f"{doing}: {_clean(_first(error))}", is_network=isinstance(error, auth.TransportError)
        )
    if isinstance(error, api.GoogleAPICallError) and error.grpc_status_code is not None:
        told = _Told(error.grpc_status_code.name, str(error.message), doing, error.reason or "", error.metadata or {})
        return _refusal(told)
    if isinstance(error, api.GoogleAPIError):  # of the clients themselves: no channel, a deadline of theirs
        return _silent(f"{doing}: {_clean(str(error))}")
    raise error


def failure_of_status(code: str, message: str, doing: str = "") -> MlscaleError:
    """Return the error for a status, such as an operation's that ended; `code` is its name, NOT_FOUND."""
    return _refusal(_Told(code, message, doing))


def lasting(error: MlscaleError) -> MlscaleError:
    """Return the same error as one that does not pass by itself.

    An operation that has ended stays as it ended, however often it is looked at: what it was to do is to be begun anew.
    """
    return type(error)(error.what, why=error.why, hint=error.hint)


def failure_of_storage(error: Exception, doing: str) -> MlscaleError:
    """Return the error for what obstore raised while `doing` something in Cloud Storage.

    obstore has no types for a bucket that is not there, for credentials that can't be had or for a list that is
    refused: those are told apart by the HTTP status and by the words that stay the same.
    """
    text = str(error).partition("\n\nDebug source")[0]
    why = f"{doing}: {_clean(text)}"
    if "NoSuchBucket" in text:
        return ProviderFailed(
            "the bucket does not exist", why=why, hint="create it, or choose another with --workspace or vertex.uploads"
        )
    if _NO_PROVIDER in text:
        return _unknown_to_google(why, is_network=bool(_NO_NETWORK.search(text)))
    if type(error).__name__ == "UnauthenticatedError" or "401 Unauthorized" in text:
        return WrongCredentials("Google Cloud does not know these credentials", why=why, hint=LOGIN)
    if type(error).__name__ == "PermissionDeniedError" or "403 Forbidden" in text:
        return _denied(why)
    if "error sending request" in text:
        return _silent(why)
    if "status code: 501" in text:
        hint = f"{STORAGE} must name an emulator that has the XML API of Cloud Storage"
        return ProviderFailed("Cloud Storage has no such request there", why=why, hint=hint)
    if "status code: 429" in text:
        return ProviderFailed("Google Cloud asks to slow down", why=why, hint=AGAIN, retryable=True)
    if re.search(r"status code: 5\d\d", text):
        return ProviderFailed("Google Cloud has a problem of its own", why=why, hint=AGAIN, retryable=True)
    return ProviderFailed("Google Cloud refuses the request", why=why, hint="mlscale doctor")


def code_of(error: BaseException | None) -> str:
    """Return the name of the code that a service answered, NOT_FOUND; empty where it answered none."""
    code = getattr(error, "grpc_status_code", None)
    return "" if code is None else str(code.name)


def is_absent(error: BaseException | None) -> bool:
    """Return whether `error` is a service's word that what was named is not there."""
    return code_of(error) == "NOT_FOUND"


def is_there_already(error: BaseException | None) -> bool:
    """Return whether `error` is a service's word that there is one of that name."""
    return code_of(error) == "ALREADY_EXISTS"


@dataclass(frozen=True, slots=True)
class _Told:
    """What a service said: the name of its code, its words, what was being done, the reason and what goes with it."""

    code: str
    message: str
    doing: str
    reason: str = ""
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def why(self) -> str:
        """Return all of it as one line."""
        said = _clean(self.message) or self.code
        return f"{self.doing}: {said}" if self.doing else said


def _refusal(told: _Told) -> MlscaleError:
    message, why = told.message, told.why
    if message.startswith(_NO_METADATA):
        said = message.removeprefix(_NO_METADATA)
        return _unknown_to_google(f"{told.doing}: {_clean(said)}", is_network=bool(_NO_NETWORK.search(said)))
    if _NO_MACHINE_TEXT.search(message):
        return NoCapacity(
            "Google Cloud has no such machine free",
            why=why,
            hint="name other types in endpoint.machine, too, or try again later",
        )
    if _SERVER_TEXT.search(message):
        return ProviderFailed("the model did not become healthy", why=why, hint="mlscale logs")
    match told.code:
        case "RESOURCE_EXHAUSTED":
            return _exhausted(told)
        case "UNAUTHENTICATED":
            what = "the credentials for Google Cloud have expired" if told.reason in _EXPIRED else _STRANGER
            return WrongCredentials(what, why=why, hint=LOGIN)
        case "PERMISSION_DENIED":
            return _forbidden(told)
        case "UNAVAILABLE" if _NO_TLS in message:
            return ProviderFailed(
                "the server speaks no TLS",
                why=why,
                hint="write its address with http://, which is asked in plaintext and without credentials",
            )
        case "UNAVAILABLE" if _UNTRUSTED.search(message):
            return ProviderFailed(
                "the connection to Google Cloud is not trusted",
                why=why,
                hint="put your network's certificate authority into a file, and its path into "
                "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
            )
        case "UNAVAILABLE" | "DEADLINE_EXCEEDED":
            return _silent(why)
        case "ABORTED":
            return _busy(why)
        case "FAILED_PRECONDITION" if _BUSY_TEXT.search(message):
            return _busy(why)
        case code if code in _BROKEN:
            return ProviderFailed("Google Cloud has a problem of its own", why=why, hint=AGAIN, retryable=True)
    if told.doing.startswith("PredictionService."):
        if told.code == "NOT_FOUND" or _NO_TRAFFIC_TEXT.search(message):
            return NotDeployed("nothing is deployed", why=why, hint="mlscale deploy")
        return ProviderFailed("the endpoint refuses the request", why=why, hint="mlscale logs")
    if _IMAGE_TEXT.search(message):
        return ProviderFailed(
            "the image can't be pulled",
            why=why,
            hint="mlscale doctor checks that the image is there and that Vertex AI's service agent may pull it",
        )
    if _FILES_TEXT.search(message):
        return ProviderFailed("the model's files can't be used", why=why, hint="correct model.source in the spec")
    if told.code == "NOT_FOUND":
        return ProviderFailed("Google Cloud has no such resource", why=why, hint="mlscale plan")
    return ProviderFailed("Google Cloud refuses the request", why=why, hint="mlscale doctor")


_STRANGER = "Google Cloud does not know these credentials"


def _exhausted(told: _Told) -> MlscaleError:
    if _ASLEEP_TEXT.search(told.message):
        return ProviderFailed("the model is not loaded yet", why=told.why, hint="try again", retryable=True)
    is_rate = told.reason in _RATES or _RATE_TEXT.search(told.message)
    if _QUOTA_TEXT.search(told.message) and not is_rate:
        names = ", ".join(dict.fromkeys(_QUOTAS_NAMED.findall(told.message)))
        return NoCapacity(
            "a quota of the project is used up",
            why=told.why,
            hint=f"delete what is unused, or ask for more{f' of {names}' if names else ''}: {QUOTAS}",
        )
    return ProviderFailed("Google Cloud asks to slow down", why=told.why, hint=AGAIN, retryable=True)


def _forbidden(told: _Told) -> MlscaleError:
    if told.reason in _OFF or _OFF_TEXT.search(told.message):
        found = _SERVICE.search(told.message)
        service = told.about.get("service") or (found[0] if found else "aiplatform.googleapis.com")
        return WrongCredentials(
            "the project does not use this API", why=told.why, hint=f"gcloud services enable {service}"
        )
    if told.reason in _BILLING:
        return WrongCredentials(
            "the project has no billing account", why=told.why, hint="link one: gcloud billing projects link"
        )
    if told.reason in _NARROW:
        return WrongCredentials(
            "the credentials are too narrow",
            why=told.why,
            hint="give them the scope https://www.googleapis.com/auth/cloud-platform",
        )
    if _NO_QUOTA_PROJECT.search(told.message):
        return WrongCredentials(
            "the credentials name no project to count calls for",
            why=told.why,
            hint="gcloud auth application-default set-quota-project PROJECT",
        )
    return _denied(told.why)


def _denied(why: str) -> WrongCredentials:
    return WrongCredentials("these credentials may not do this", why=why, hint="mlscale iam policy says what is needed")


def _busy(why: str) -> ProviderFailed:
    return ProviderFailed("Google Cloud is busy with an earlier change", why=why, hint=AGAIN, retryable=True)


def _silent(why: str) -> ProviderFailed:
    return ProviderFailed(
        "Google Cloud does not answer", why=why, hint="see that its address can be reached", retryable=True
    )


def _unknown_to_google(why: str, *, is_network: bool) -> MlscaleError:
    """Return the error for credentials that google-auth can't find, read or renew, or can't ask for."""
    if is_network:
        return _silent(why)
    return WrongCredentials("there are no good credentials for Google Cloud", why=why, hint=LOGIN)


def _first(error: Exception) -> str:
    """Return google-auth's words without the answer that it appends to them."""
    return str(error.args[0]) if error.args else type(error).__name__


def _clean(text: str) -> str:
    """Return what was said as one line without secrets; a page of HTML as its title."""
    if re.search(r"(?i)<html|<!doctype", text):
        title = re.search(r"(?is)<title>(.*?)</title>", text)
        text = title[1] if title else "an answer in HTML"
    for pattern, instead in _HIDDEN:
        text = pattern.sub(instead, text)
    whole = " ".join(text.split())
    return whole if len(whole) <= _LONGEST_TEXT else f"{whole[:_LONGEST_TEXT]} …"
