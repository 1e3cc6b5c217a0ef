"""The workspace: small objects under a folder or a bucket, with writes that happen only if nothing changed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.util
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import urlsplit

from mlscale.errors import MlscaleError, UsageError, WorkspaceFailed, WrongCredentials

if TYPE_CHECKING:
    from obstore.store import ObjectStore


SCHEMES = ("s3", "gs")
CHECK_PATH = "leases/.check"
NO_BUCKET = "NoSuchBucket"
"""The error code of both services: S3 API reference and Cloud Storage XML API reference, "Error responses"."""
NO_CREDENTIALS = ("credential", "token request", "169.254.169.254")
"""Words of a failure to get credentials; the last is the clouds' metadata server, asked when nothing else has any."""
BUSY = re.compile(r"status code: (429|5(?!01)\d\d)")
"""What obstore says of an answer that it waited and tried again for, in vain; 501 is a request that is not known."""
SAID = re.compile(r"<Code>(?P<code>\w+)</Code>\s*<Message>(?P<message>[^<]*)</Message>")
REFUSED = frozenset(
    {
        "AccessDenied",
        "AllAccessDisabled",
        "AuthenticationRequired",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidSecurity",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
"""What a service says of credentials: as NO_BUCKET, the same pages. obstore has a type for it only where it is 401 or
403, and not for a list."""

REQUEST_TIMEOUT_S = 15
CONNECT_TIMEOUT_S = 5
RETRIES = 3
RETRY_FOR = timedelta(seconds=30)
"""How long a bucket may keep us waiting: well under a lease's life, so that a failed beat is followed by another."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as it was read; `version` changes whenever its content does."""

    data: bytes
    version: str


class Store(Protocol):
    """Small objects by path. Whatever can't be read or written raises WorkspaceFailed."""

    def get(self, path: str) -> Stored | None:
        """Return the object, None if there is none."""

    def put(self, path: str, data: bytes) -> str:
        """Write the object, whatever was there, and return its version."""

    def create(self, path: str, data: bytes) -> str | None:
        """Write the object if there is none and return its version; None if there is one."""

    def replace(self, path: str, data: bytes, version: str) -> str | None:
        """Write the object if it still has `version` and return the new one; None if it has not."""

    def delete(self, path: str) -> None:
        """Delete the object; none there is no error."""

    def list(self, prefix: str) -> Sequence[str]:
        """Return the paths that begin with `prefix`, sorted."""

    def check(self) -> None:
        """Prove that objects can be written here."""


def open_store(url: str) -> Store:
    """Return the workspace at `url`: a folder, `s3://bucket/prefix` or `gs://bucket/prefix`.

    Nothing is read or written yet, and no cloud library is loaded.

    Raises:
        UsageError: the scheme is another one, or no bucket is named.
    """
    parts = urlsplit(url) if "://" in url else None
    if parts is None or parts.scheme == "file":
        return Folder(Path(url.removeprefix("file://")))
    if parts.scheme in SCHEMES and parts.netloc:
        return Bucket(url)
    raise UsageError(
        "the workspace is of no known kind", why=url, hint="use a folder, s3://bucket/prefix or gs://bucket/prefix"
    )


class Folder:
    """A workspace in a folder: files written whole, and a lock of the kernel's for conditional writes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def get(self, path: str) -> Stored | None:
        """Return the file's content."""
        with _folder_errors(self._root):
            try:
                return _stored((self._root / path).read_bytes())
            except FileNotFoundError:
                return None

    def put(self, path: str, data: bytes) -> str:
        """Write the file whole."""
        with _folder_errors(self._root), self._alone():
            return self._write(path, data)

    def create(self, path: str, data: bytes) -> str | None:
        """Write the file if there is none."""
        with _folder_errors(self._root), self._alone():
            return None if (self._root / path).exists() else self._write(path, data)

    def replace(self, path: str, data: bytes, version: str) -> str | None:
        """Write the file if its content is still that of `version`."""
        with _folder_errors(self._root), self._alone():
            before = self.get(path)
            return self._write(path, data) if before and before.version == version else None

    def delete(self, path: str) -> None:
        """Delete the file."""
        with _folder_errors(self._root):
            if (self._root / path).exists():
                with self._alone():
                    (self._root / path).unlink(missing_ok=True)

    def list(self, prefix: str) -> Sequence[str]:
        """Return the files whose path begins with `prefix`; what can't be read raises, it is not left out."""
        with _folder_errors(self._root):
            folder = self._root / prefix.rpartition("/")[0]
            walk = os.walk(folder, onerror=_raise_unless_absent)
            found = (Path(parent, name) for parent, _, names in walk for name in names)
            paths = (each.relative_to(self._root).as_posix() for each in found if not each.name.startswith("."))
            return sorted(path for path in paths if path.startswith(prefix))

    def check(self) -> None:
        """Write and delete a file."""
        self.put(CHECK_PATH, b"")
        self.delete(CHECK_PATH)

    def _write(self, path: str, data: bytes) -> str:
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        # One name is enough under the lock, and a writer that was killed leaves at most this file.
        temporary = target.parent / ".writing"
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        return _stored(data).version

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._root.mkdir(parents=True, exist_ok=True)
        with (self._root / ".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _stored(data: bytes) -> Stored:
    return Stored(data, hashlib.sha256(data).hexdigest())


def _raise_unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


@contextmanager
def _folder_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise folder_failure(root, error) from error


def folder_failure(root: Path, error: OSError) -> WorkspaceFailed:
    """Return the error that a user can act on for what the system said about the folder `root`."""
    why = f"{error.filename or root}: {error.strerror or error}"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return WorkspaceFailed("the disk is full", why=why, hint="free some space, then run the same command again")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return WorkspaceFailed(
                "the workspace can't be read or written",
                why=why,
                hint="correct its permissions, or choose another with --workspace",
            )
        case _:
            return WorkspaceFailed("the workspace can't be used", why=why, hint="choose another with --workspace")


class Bucket:
    """A workspace in a bucket, through obstore; its conditional writes are the service's own.

    A version is what the service's condition wants: S3's entity tag (`If-Match`), Cloud Storage's generation
    (`x-goog-if-generation-match`).
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._version_key: Literal["e_tag", "version"] = "e_tag" if url.startswith("s3://") else "version"
        self._opened: ObjectStore | None = None

    def get(self, path: str) -> Stored | None:
        """Return the object."""
        import obstore

        try:
            with self._errors():
                found = obstore.get(self._store, path)
                return Stored(bytes(found.bytes()), str(found.meta[self._version_key]))
        except FileNotFoundError:
            return None

    def put(self, path: str, data: bytes) -> str:
        """Write the object."""
        return self._put(path, data, "overwrite")

    def create(self, path: str, data: bytes) -> str | None:
        """Write the object if there is none."""
        from obstore.exceptions import AlreadyExistsError

        try:
            return self._put(path, data, "create")
        except AlreadyExistsError:
            return None

    def replace(self, path: str, data: bytes, version: str) -> str | None:
        """Write the object if it still has `version`."""
        from obstore.exceptions import PreconditionError

        try:
            return self._put(path, data, {self._version_key: version})
        except (PreconditionError, FileNotFoundError):
            return None

    def delete(self, path: str) -> None:
        """Delete the object."""
        import obstore

        with suppress(FileNotFoundError), self._errors():
            obstore.delete(self._store, path)

    def list(self, prefix: str) -> Sequence[str]:
        """Return the objects whose path begins with `prefix`."""
        import obstore

        folder = prefix.rpartition("/")[0]
        with self._errors():
            found = [each["path"] for page in obstore.list(self._store, folder or None) for each in page]
        return sorted(path for path in found if path.startswith(prefix))

    def check(self) -> None:
        """Write and delete an object."""
        self.put(CHECK_PATH, b"")
        self.delete(CHECK_PATH)

    @property
    def _store(self) -> ObjectStore:
        if self._opened is None:
            self._opened = _opened(self._url)
        return self._opened

    def _put(self, path: str, data: bytes, mode: Any) -> str:
        import obstore

        with self._errors():
            return str(obstore.put(self._store, path, data, mode=mode)[self._version_key])

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        try:
            yield
        except (AlreadyExistsError, PreconditionError):
            raise
        except FileNotFoundError as error:
            if NO_BUCKET in str(error):
                raise bucket_failure(self._url, error) from error
            raise
        except (BaseError, OSError, ValueError) as error:
            raise bucket_failure(self._url, error) from error


def _opened(url: str) -> ObjectStore:
    from obstore.store import from_url

    options: dict[str, Any] = {
        "client_options": {
            "allow_http": True,
            "timeout": f"{REQUEST_TIMEOUT_S}s",
            "connect_timeout": f"{CONNECT_TIMEOUT_S}s",
        },
        "retry_config": {"max_retries": RETRIES, "retry_timeout": RETRY_FOR},
    }
    return from_url(url, **options, **(_s3_options() if url.startswith("s3://") else _gs_options()))


def _s3_options() -> dict[str, Any]:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    options: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
    if "AWS_ACCESS_KEY_ID" in os.environ or importlib.util.find_spec("boto3") is None:
        return options | {"region": region or "us-east-1"}
    # obstore itself knows neither profiles nor single sign-on; boto3 does, and is there with mlscale[sagemaker].
    from obstore.auth.boto3 import Boto3CredentialProvider

    provider = Boto3CredentialProvider()
    return options | {
        "credential_provider": provider,
        "region": region or provider.config.get("region") or "us-east-1",
    }


def _gs_options() -> dict[str, Any]:
    host = os.environ.get("STORAGE_EMULATOR_HOST")
    if not host:
        return {}
    # A token that is given is used as it is; with skip_signature obstore 0.12 still asks for one before a write.
    return {"base_url": host if "://" in host else f"http://{host}", "bearer_token": "emulator"}


def bucket_failure(url: str, error: Exception) -> MlscaleError:
    """Return the error that a user can act on for what obstore said about the bucket at `url`.

    obstore has no error types for a missing bucket, missing credentials or a host out of reach, so these three are
    told apart by the words that stay the same: the service's error code, where credentials come from, and reqwest's
    own message.
    """
    text = str(error).partition("\n\nDebug source")[0]
    said = SAID.search(text)
    words = f"{said['code']}: {said['message']}" if said else (text.splitlines() or [type(error).__name__])[0]
    why = f"{url}: {words}"
    if NO_BUCKET in text:
        return WorkspaceFailed(
            "the workspace's bucket does not exist", why=url, hint="create it, or choose another with --workspace"
        )
    denied = type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError")
    denied = denied or (said is not None and said["code"] in REFUSED)
    if denied or any(word in text.lower() for word in NO_CREDENTIALS):
        return WrongCredentials("the workspace refuses these credentials", why=why, hint="mlscale doctor")
    if "error sending request" in text:
        return WorkspaceFailed(
            "the workspace can't be reached",
            why=why,
            hint="check the network, then run the same command again",
            retryable=True,
        )
    if BUSY.search(text):
        hint = "run the same command again, a little later"
        return WorkspaceFailed("the workspace can't be used", why=why, hint=hint, retryable=True)
    return WorkspaceFailed("the workspace can't be used", why=why, hint="mlscale doctor")
