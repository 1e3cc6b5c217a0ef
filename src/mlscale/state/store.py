"""The workspace: small objects under a folder or a bucket, with writes that happen only if nothing changed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from mlscale.errors import MlscaleError, NoCapacity, UsageError, WorkspaceFailed, WrongCredentials

if TYPE_CHECKING:
    from obstore.store import ObjectStore


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

    Raises:
        UsageError: the scheme is another one.
    """
    scheme = urlsplit(url).scheme if "://" in url else ""
    match scheme:
        case "" | "file":
            return Folder(Path(url.removeprefix("file://")))
        case "s3" | "gs":
            return Bucket(url)
        case _:
            raise UsageError(
                "the workspace is of no known kind", why=f"{url} begins with {scheme}://", hint="use a folder or s3://"
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
            (self._root / path).unlink(missing_ok=True)

    def list(self, prefix: str) -> Sequence[str]:
        """Return the files whose path begins with `prefix`."""
        with _folder_errors(self._root):
            folder = self._root / prefix
            folder = folder if prefix.endswith("/") else folder.parent
            if not folder.is_dir():
                return ()
            found = (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
            paths = (each.relative_to(self._root).as_posix() for each in found if not each.name.startswith("."))
            return sorted(path for path in paths if path.startswith(prefix))

    def check(self) -> None:
        """Write and delete a file."""
        self.put("leases/.check", b"")
        self.delete("leases/.check")

    def _write(self, path: str, data: bytes) -> str:
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".writing-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
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


@contextmanager
def _folder_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = f"{error.filename or root}: {error.strerror or error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoCapacity("the disk is full", why=why, hint="free some space, then run the same again") from error
        raise WorkspaceFailed(
            "the workspace can't be used", why=why, hint="correct its permissions, or choose another with --workspace"
        ) from error


class Bucket:
    """A workspace in a bucket, through obstore; its conditional writes are the service's own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opened: ObjectStore | None = None

    def get(self, path: str) -> Stored | None:
        """Return the object."""
        import obstore

        with self._errors():
            try:
                found = obstore.get(self._store, path)
            except FileNotFoundError:
                return None
            return Stored(bytes(found.bytes()), str(found.meta["e_tag"]))

    def put(self, path: str, data: bytes) -> str:
        """Write the object."""
        return self._put(path, data, "overwrite")

    def create(self, path: str, data: bytes) -> str | None:
        """Write the object if there is none (`If-None-Match: *`)."""
        from obstore.exceptions import AlreadyExistsError

        try:
            return self._put(path, data, "create")
        except AlreadyExistsError:
            return None

    def replace(self, path: str, data: bytes, version: str) -> str | None:
        """Write the object if its entity tag is still `version` (`If-Match`)."""
        from obstore.exceptions import PreconditionError

        try:
            return self._put(path, data, {"e_tag": version})
        except (PreconditionError, FileNotFoundError):
            return None

    def delete(self, path: str) -> None:
        """Delete the object."""
        import obstore

        with self._errors():
            try:
                obstore.delete(self._store, path)
            except FileNotFoundError:
                return

    def list(self, prefix: str) -> Sequence[str]:
        """Return the objects whose path begins with `prefix`."""
        import obstore

        folder = prefix.rpartition("/")[0]
        with self._errors():
            found = [each["path"] for page in obstore.list(self._store, folder or None) for each in page]
        return sorted(path for path in found if path.startswith(prefix))

    def check(self) -> None:
        """Write and delete an object."""
        self.put("leases/.check", b"")
        self.delete("leases/.check")

    @property
    def _store(self) -> ObjectStore:
        if self._opened is None:
            self._opened = _opened(self._url)
        return self._opened

    def _put(self, path: str, data: bytes, mode: Any) -> str:
        import obstore

        with self._errors():
            return str(obstore.put(self._store, path, data, mode=mode)["e_tag"])

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        try:
            yield
        except (AlreadyExistsError, PreconditionError, FileNotFoundError):
            raise
        except (BaseError, OSError, ValueError) as error:
            raise _bucket_failure(self._url, error) from error


def _opened(url: str) -> ObjectStore:
    from obstore.store import from_url

    retry = {"max_retries": 3}
    plain = {"allow_http": True, "timeout": "15s", "connect_timeout": "5s"}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    options: dict[str, Any] = {"client_options": plain, "retry_config": retry}
    if url.startswith("s3://") and endpoint:
        options |= {"endpoint": endpoint}
    if url.startswith("s3://"):
        options |= {"region": os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"}
    return from_url(url, **options)


def _bucket_failure(url: str, error: Exception) -> MlscaleError:
    why = f"{url}: {str(error).splitlines()[0]}"
    kind = type(error).__name__
    if kind in ("PermissionDeniedError", "UnauthenticatedError") or "redential" in str(error):
        return WrongCredentials("the workspace refuses these credentials", why=why, hint="mlscale doctor")
    return WorkspaceFailed("the workspace can't be used", why=why, hint="mlscale doctor")
