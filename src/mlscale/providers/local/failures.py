"""This machine's errors in our words."""

from __future__ import annotations

import errno

from mlscale.errors import MlscaleError, NoCapacity, ProviderFailed, WorkspaceFailed


def failure_of(error: OSError, doing: str) -> MlscaleError:
    """Return the error that a user can act on for an `OSError` met while `doing` something.

    A full disk is missing capacity; a denied path is the workspace's failure; the rest failed as such, once and for
    all: nothing here gets better by being tried again.
    """
    place = f"{error.filename}: " if error.filename else ""
    why = f"{doing}: {place}{error.strerror or error}"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return NoCapacity("the disk is full", why=why, hint="free some space, then: mlscale deploy")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return WorkspaceFailed("the workspace can't be written", why=why, hint="correct its permissions")
        case errno.EMFILE | errno.ENFILE | errno.EAGAIN | errno.ENOMEM:
            return ProviderFailed("this machine is out of resources", why=why, hint="mlscale status", retryable=True)
        case _:
            return ProviderFailed("this machine refused", why=why, hint="mlscale doctor")


def start_failure(what: str, why: str) -> ProviderFailed:
    """Return the error for a revision whose replicas don't become healthy."""
    return ProviderFailed(what, why=why, hint="mlscale logs")
