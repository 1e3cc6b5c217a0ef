"""This machine's errors in our words."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from mlscale.errors import MlscaleError, NoCapacity, ProviderFailed, WorkspaceFailed

_MISSING_PACKAGE = re.compile(r"No module named '([\w.]+)'")

PACKAGES = {
    "sklearn": "scikit-learn",
    "cv2": "opencv-python",
    "PIL": "pillow",
    "yaml": "pyyaml",
    "skimage": "scikit-image",
}
"""Packages whose name at the index is not the one that is imported."""


def failure_of(error: OSError, doing: str) -> MlscaleError:
    """Return the error that a user can act on for an `OSError` met while `doing` something.

    A full disk is missing capacity; a denied path is the workspace's failure; the rest failed as such, once and for
    all: nothing here gets better by being tried again.
    """
    place = f"{error.filename}: " if error.filename else ""
    why = f"{doing}: {place}{error.strerror or error}"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return disk_full(why)
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return WorkspaceFailed("the workspace can't be written", why=why, hint="correct its permissions")
        case errno.EMFILE | errno.ENFILE | errno.EAGAIN | errno.ENOMEM:
            return ProviderFailed("this machine is out of resources", why=why, hint="mlscale status", retryable=True)
        case _:
            return ProviderFailed("this machine refused", why=why, hint="mlscale doctor")


def disk_full(why: str) -> NoCapacity:
    """Return the error for a disk without room."""
    return NoCapacity("the disk is full", why=why, hint="free some space, then: mlscale deploy")


def start_failure(what: str, why: str) -> ProviderFailed:
    """Return the error for a revision whose replicas don't become healthy; a missing package has its own hint."""
    missing = _MISSING_PACKAGE.search(why)
    if missing is None:
        return ProviderFailed(what, why=why, hint="mlscale logs")
    module = missing[1].partition(".")[0]
    package = PACKAGES.get(module, module)
    return ProviderFailed(
        what,
        why=why,
        hint=f"add {package} to requirements.txt, and in the spec model: {{requirements: requirements.txt}}",
    )


def install_failure(said: str, requirements: Path) -> MlscaleError:
    """Return the error for an environment that can't be made; `said` is the end of what the installer wrote."""
    if os.strerror(errno.ENOSPC) in said:
        return disk_full(said)
    return ProviderFailed(
        "the model's environment can't be made",
        why=said,
        hint=f"correct {requirements}, or see that the package index can be reached",
    )
