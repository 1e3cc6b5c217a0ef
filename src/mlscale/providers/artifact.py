"""The files of a model: their digests, what is suspicious about them, and whole copies of them."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from mlscale.errors import UsageError

PICKLES = frozenset({".pkl", ".pickle", ".joblib", ".pt", ".pth", ".bin"})
"""File name endings that load by running code which the file brings (pickle's documented risk)."""

ARCHIVES = (".tar.gz", ".tgz", ".tar")

RUNTIME_PACKAGE = "serving"

GATEWAY_ONLY = frozenset({"gateway.py", "mirror.py", "tally.py", "upstream.py", "wire.py"})
"""Modules of the serving package that no replica runs: a change of them is no new revision."""

_CHUNK = 1 << 20


def digest(path: Path) -> str:
    """Return the SHA-256 (first 16 hex digits) of a file, or of a folder's names and contents in a fixed order.

    An archive counts by its bytes. Modes and times do not count: a checkout on another machine is the same model.

    Raises:
        UsageError: there is nothing at `path`, it can't be read, or an archive would write outside its folder.
    """
    try:
        if is_archive(path):
            _check_archive(path)
        if path.is_dir():
            return _folder_digest(path)
        return _file_digest(path).hexdigest()[:16]
    except FileNotFoundError as error:
        missing = error.filename or path
        raise UsageError("a file that the spec names is missing", why=str(missing), hint="correct its path") from error
    except OSError as error:
        raise UsageError(
            "a file that the spec names can't be read",
            why=f"{error.filename or path}: {error.strerror}",
            hint="correct its permissions",
        ) from error


def refuse_changed(path: Path, expected: str | None) -> None:
    """Return if the files at `path` are those with the digest `expected`.

    Raises:
        UsageError: they are others.
    """
    found = digest(path)
    if found != expected:
        raise UsageError(
            "the files changed after the plan was made", why=f"{path} was {expected}, is {found}", hint="mlscale plan"
        )


def is_archive(path: Path) -> bool:
    """Return whether `path` is an archive by its name, to be unpacked where it is served."""
    return path.name.endswith(ARCHIVES)


def pickles(path: Path) -> tuple[str, ...]:
    """Return the names of files at `path` that run code when they are loaded."""
    names = [path.name] if path.is_file() else [each.name for each in files(path)]
    if is_archive(path):
        with tarfile.open(path) as archive:
            names = archive.getnames()
    return tuple(sorted(name for name in names if Path(name).suffix in PICKLES))


def copy(source: Path, target: Path) -> None:
    """Put the files of `source` into the folder `target`, an archive unpacked, a single file under its own name."""
    target.mkdir(parents=True, exist_ok=True)
    if is_archive(source):
        _check_archive(source)
        with tarfile.open(source) as archive:
            archive.extractall(target, filter="data")
    elif source.is_dir():
        for file in files(source):
            place = target / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
    else:
        shutil.copyfile(source, target / source.name)


def other_files(requirements: Path) -> tuple[str, ...]:
    """Return the lines of a requirements file that name files beside it: neither its digest nor a cloud sees those."""
    return tuple(line for line in _requirement_lines(requirements) if _NAMES_A_FILE.match(line))


_NAMES_A_FILE = re.compile(
    r"-[rce]|--(requirement|constraint|editable)\b|(--find-links|-f)[= ]+(?!https?:)|[./~]|(\S+\s*@\s*)?file:"
    r"|[^\s@;#]+\.(whl|zip|tar\.gz)\b"
)
"""Options and places of pip's requirements file format that stand for something on this machine."""


def _requirement_lines(requirements: Path) -> Iterator[str]:
    text = requirements.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ")
    yield from (line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#"))


def runtime_files() -> tuple[Path, ...]:
    """Return the files of the serving code that is pinned in a revision."""
    folder = Path(__file__).resolve().parent.parent / RUNTIME_PACKAGE
    return tuple(sorted(each for each in folder.glob("*.py") if each.name not in GATEWAY_ONLY))


def runtime_digest() -> str:
    """Return the digest of the serving code of this mlscale."""
    whole = hashlib.sha256()
    for file in runtime_files():
        whole.update(file.name.encode() + b"\0" + _file_digest(file).digest())
    return whole.hexdigest()[:16]


def copy_runtime(target: Path) -> None:
    """Put the serving code into `target`, as a package that needs nothing else of mlscale."""
    package = target / "mlscale" / RUNTIME_PACKAGE
    package.mkdir(parents=True, exist_ok=True)
    (target / "mlscale" / "__init__.py").write_text('"""The part of mlscale that runs next to a model."""\n')
    for file in runtime_files():
        shutil.copyfile(file, package / file.name)


def _folder_digest(folder: Path) -> str:
    whole = hashlib.sha256()
    for file in files(folder):
        name = file.relative_to(folder).as_posix()
        whole.update(os.fsencode(name) + b"\0" + _file_digest(file).digest())
    return whole.hexdigest()[:16]


def files(folder: Path) -> Iterator[Path]:
    """Yield the folder's files in a fixed order, without what tools leave behind.

    Raises:
        UsageError: something in it would be left out, or could not be read to its end.
        OSError: a folder can't be read.
    """
    for parent, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if name not in {"__pycache__", ".git", ".mlscale"})
        if links := [name for name in folders if Path(parent, name).is_symlink()]:
            raise UsageError(
                "a folder of the model is a link",
                why=str(Path(parent, links[0])),
                hint="put the files there themselves",
            )
        for path in (Path(parent, name) for name in sorted(names)):
            if path.exists() and not path.is_file():
                raise UsageError("a model holds more than files", why=f"{path} is no file", hint="remove it")
            yield path


def _raise(error: OSError) -> None:
    raise error


def _file_digest(path: Path) -> hashlib._Hash:
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            whole.update(chunk)
    return whole


def _check_archive(path: Path) -> None:
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                tarfile.data_filter(member, "/model")
    except tarfile.FilterError as error:
        raise UsageError(
            "an archive would write outside its folder", why=f"{path}: {error}", hint="make it again from inside"
        ) from error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise UsageError("an archive can't be read", why=f"{path}: {error}", hint="make it again") from error
