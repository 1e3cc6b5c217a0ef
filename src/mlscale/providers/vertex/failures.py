"""Google Cloud's errors in our words, and what they say about whether something is there."""

from __future__ import annotations

import re

from mlscale.errors import MlscaleError, NoCapacity, ProviderFailed, WrongCredentials

# Codes: google.rpc.Code; what each means for a client: AIP-193 and AIP-194.
_AGAIN = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "INTERNAL", "UNKNOWN", "CANCELLED"})
_CAPACITY = re.compile(r"resources are insufficient|stockout|out of capacity", re.IGNORECASE)
_RATE = re.compile(r"per minute|rate limit|too many requests", re.IGNORECASE)
_BUSY = re.compile(
    r"(another|other|concurrent|ongoing) (operation|update|deployment|mutat)|being (updated|deployed)", re.IGNORECASE
)
_SECRETS = re.compile(r"(ya29\.[\w-]+|eyJ[\w-]+\.[\w-]+\.[\w-]+|AIza[\w-]{30,}|(?<=[Bb]earer )\S+)")
_LONGEST = 2000

QUOTAS = "https://console.cloud.google.com/iam-admin/quotas"


def failure_of(error: BaseException, doing: str) -> MlscaleError:
    """Return the error that a user can act on for what Google's clients raised while `doing` something.

    Raises:
        BaseException: `error` itself, where it is a bug of ours.
    """
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth

    if isinstance(error, auth.TransportError):
        return ProviderFailed("Google Cloud does not answer", why=_told(doing, error), hint=_ONLINE, retryable=True)
    if isinstance(error, auth.GoogleAuthError):
        return WrongCredentials(
            "there are no good credentials for Google Cloud",
            why=_told(doing, error),
            hint="gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS",
        )
    if isinstance(error, api.RetryError):
        return ProviderFailed("Google Cloud does not answer", why=_told(doing, error), hint=_ONLINE, retryable=True)
    if isinstance(error, api.GoogleAPICallError):
        return failure_of_status(code_of(error), str(error.message), doing)
    raise error


def failure_of_status(code: str, message: str, doing: str) -> MlscaleError:
    """Return the error for a status of Google's, of a call or of an operation that ended."""
    why = _told(doing, message)
    if _CAPACITY.search(message):
        return NoCapacity(
            "Google Cloud has no such machine free",
            why=why,
            hint="add another to endpoint.machine, or try another region",
        )
    if code == "RESOURCE_EXHAUSTED" and not _RATE.search(message):
        return NoCapacity("a quota of the project is used up", why=why, hint=f"ask for more at {QUOTAS}")
    if code == "UNAUTHENTICATED":
        return WrongCredentials(
            "Google Cloud does not know who we are", why=why, hint="gcloud auth application-default login"
        )
    if code == "PERMISSION_DENIED":
        return WrongCredentials("the credentials may not do this", why=why, hint="mlscale iam policy")
    if code in _AGAIN or code == "RESOURCE_EXHAUSTED" or (code == "FAILED_PRECONDITION" and _BUSY.search(message)):
        return ProviderFailed("Google Cloud could not do it now", why=why, hint=_ONLINE, retryable=True)
    return ProviderFailed("Google Cloud refused", why=why, hint="mlscale doctor")


_ONLINE = "https://status.cloud.google.com, then the same command again"


def code_of(error: BaseException | None) -> str:
    """Return the name of Google's code in an error, like NOT_FOUND; empty where it has none."""
    code = getattr(error, "grpc_status_code", None)
    return str(code.name) if code is not None else ""


def is_absent(error: BaseException | None) -> bool:
    """Return whether an error says that the thing is not there."""
    return code_of(error) == "NOT_FOUND"


def is_there_already(error: BaseException | None) -> bool:
    """Return whether an error says that a thing of that name is there already."""
    return code_of(error) == "ALREADY_EXISTS"


def _told(doing: str, error: object) -> str:
    """Return what was said, without what must not be shown, and not longer than anybody reads."""
    return f"{doing}: {_SECRETS.sub('(hidden)', ' '.join(str(error)[:_LONGEST].split()))}"
