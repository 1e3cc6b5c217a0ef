"""A model's files as the archive that SageMaker's containers unpack, and what its container is told."""

from __future__ import annotations

import ast
import hashlib
import io
import os
import re
import struct
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

from mlscale.deployment import Content
from mlscale.errors import UsageError
from mlscale.providers import artifact, templates
from mlscale.providers.contract import Progress
from mlscale.providers.sagemaker.images import PACKAGES, Handler, Way, way_of

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

CODE = "code"
HANDLER = f"{CODE}/inference.py"
"""Where SageMaker's containers look for the user's code."""

ENTRY = "mlscale_entry.py"
RUNTIME = f"{CODE}/mlscale_runtime"
REQUIREMENTS = f"{CODE}/requirements.txt"

MODEL_PATH = "/opt/ml/model"
"""Where SageMaker puts a model into its container."""

OUR_VARIABLES = "SAGEMAKER_"
"""How the variables begin that `environment_of` gives; a spec can't set such."""

MADE_AT = 1_000_000_000
"""The time of every file (seconds). Not 0: a container makes a wheel of its code, and zip knows no year before 1980."""

TELL_EVERY = 64 * 2**20

_BESIDE_MODEL = "inference.py"
"""Where our server finds a handler as well, though the containers don't."""

_FIND_CODE = frozenset({"tensorflow", "huggingface"})
"""Frameworks whose containers run code/inference.py where it is, and need none."""

_ARGUMENTS = {"model_fn": 1, "input_fn": 2, "predict_fn": 2, "output_fn": 2}
_TRANSFORM_ARGUMENTS = 4

_BLOCK = 2**16 - 1
"""The most that a stored block of deflate holds (RFC 1951, section 3.2.4)."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where the files of a content are, None for what it does not have."""

    model: Path | None
    handler: Path | None = None
    requirements: Path | None = None


def handler_of(files: Files) -> Handler:
    """Return what the user's code is: the spec's handler, or the one that came with the model; it is not run.

    Raises:
        UsageError: it is no Python, or the model can't be read.
    """
    if files.handler is not None:
        return _handler_in(files.handler.read_bytes(), str(files.handler))
    if files.model is None:
        return Handler.NONE
    if (code := _text_in(files.model, HANDLER)) is not None:
        return _handler_in(code, f"{files.model}/{HANDLER}")
    if (code := _text_in(files.model, _BESIDE_MODEL)) is not None:
        found = _handler_in(code, f"{files.model}/{_BESIDE_MODEL}")
        # What it imports from beside it is there for our server alone.
        return Handler.PARTIAL if found is Handler.COMPLETE else found
    return Handler.NONE


def _text_in(model: Path, name: str) -> bytes | None:
    if artifact.is_archive(model):
        try:
            with tarfile.open(model) as archive:
                members = {os.path.normpath(member.name): member for member in archive if member.isfile()}
                file = archive.extractfile(members[name]) if name in members else None
                return file.read() if file else None
        except (OSError, tarfile.TarError, EOFError, zlib.error) as error:
            raise UsageError("an archive can't be read", why=f"{model}: {error}", hint="make it again") from error
    path = model / name
    return path.read_bytes() if path.is_file() else None


def _handler_in(code: bytes, name: str) -> Handler:
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError) as error:
        raise UsageError("the handler is no Python file", why=f"{name}: {error}", hint="correct it") from error
    found = dict(_defined(tree.body))
    if any(_is_predictor(node) for node in found.values()):
        return Handler.PREDICTOR
    if "model_fn" not in found and ("handler" in found or {"input_handler", "output_handler"} <= found.keys()):
        return Handler.TENSORFLOW
    functions = {name: _takes(found[name], count) for name, count in _ARGUMENTS.items() if name in found}
    if "transform_fn" in found:
        complete = functions == {"model_fn": True} and _takes(found["transform_fn"], _TRANSFORM_ARGUMENTS)
    else:
        complete = functions == dict.fromkeys(_ARGUMENTS, True)
    return Handler.COMPLETE if complete else Handler.PARTIAL


def _defined(body: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
    """Yield the names that a module has, with what they stand for."""
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node
            case ast.Assign(targets=targets):
                yield from ((target.id, node) for target in targets if isinstance(target, ast.Name))
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from ((each.asname or each.name, node) for each in names)
            case ast.If(body=inner, orelse=other) | ast.Try(body=inner, orelse=other):
                yield from _defined([*inner, *other])
            case _:
                pass


def _is_predictor(node: ast.AST) -> bool:
    """Return whether a class is what our server takes for a Predictor: by its name, or by load and predict."""
    if not isinstance(node, ast.ClassDef):
        return False
    methods = {each.name for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    return node.name == "Predictor" or {"load", "predict"} <= methods


def _takes(node: ast.AST, count: int) -> bool:
    """Return whether a function takes so many arguments, as far as can be seen: an imported one is trusted."""
    if isinstance(node, ast.AsyncFunctionDef):
        return False
    if not isinstance(node, ast.FunctionDef):
        return True
    takes = node.args
    return len(takes.posonlyargs + takes.args) == count and not (takes.vararg or takes.kwonlyargs or takes.kwarg)


def key_of(content: Content) -> str | None:
    """Return the digest of what is in `content`'s archive (16 hex digits), known without packing it; None for nothing.

    Its image must be pinned. Of ours only the serving code counts, which a revision keeps: another mlscale may write
    another entry for it, and must not want that uploaded beside what is there.
    """
    way = way_of(content)
    if not content.artifact:
        return None
    facts: list[str] = [way, content.artifact]
    if way is not Way.OWN:
        facts += [content.framework, content.handler or "", content.requirements or ""]
    if way is Way.HOST:
        facts += [content.runtime or "", content.framework_version or ""]
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:16]


def _packages(content: Content) -> str:
    """Return the requirements of a content that has none of its own: the framework, where no image brings it."""
    if content.framework not in PACKAGES:
        return ""
    name, version = PACKAGES[content.framework]
    asked = content.framework_version or version
    return f"{name}=={asked}{'' if asked.count('.') > 1 else '.*'}\n"


def _folder() -> Path:
    return templates.folder() / "sagemaker-container"


def environment_of(content: Content, region: str) -> Mapping[str, str]:
    """Return the variables that the container of `content` needs besides those of the spec."""
    way = way_of(content)
    if way is Way.OWN:
        return {}
    given = {"CONTAINER_LOG_LEVEL": "20", "REGION": region}
    if way is Way.HOST or content.framework not in _FIND_CODE:
        program = ENTRY if way is Way.HOST else Path(HANDLER).name
        given |= {"PROGRAM": program, "SUBMIT_DIRECTORY": f"{MODEL_PATH}/{CODE}"}
    return {f"{OUR_VARIABLES}{name}": value for name, value in given.items()}


_Source: TypeAlias = Path | bytes


def pack(content: Content, files: Files, target: Path, progress: Progress) -> None:
    """Write the archive (.tar.gz) of `content` to `target`, whole or not at all; the same files give the same bytes.

    It is not compressed: weights hardly get smaller, and what zlib makes of them differs between its versions.

    Args:
        content: what is served, its image pinned; its digests must be those of the files.
        files: where the files are.
        target: the archive; its folder must be there, and is used for what an archive is unpacked to.
        progress: told now and then; what it raises ends the work.

    Raises:
        UsageError: the files are not those of `content`, or the requirements name a file.
    """
    _refuse_others(content, files)
    part = target.with_name(f".{target.name}.part")
    with ExitStack() as stack:
        stack.callback(part.unlink, missing_ok=True)
        entries = _entries(content, files, _model_folder(files.model, target.parent, stack, progress))
        with part.open("wb") as file:
            _write(file, entries, progress)
        part.replace(target)


def _refuse_others(content: Content, files: Files) -> None:
    pairs = (
        (files.model, content.artifact),
        (files.handler, content.handler),
        (files.requirements, content.requirements),
    )
    for path, expected in pairs:
        if path is not None:
            artifact.refuse_changed(path, expected)
    if files.requirements is not None and (others := artifact.other_files(files.requirements)):
        raise UsageError(
            "the requirements name a file that the container does not have",
            why="\n".join(others),
            hint="put its lines into the file itself, or the package into an index",
        )
    if content.runtime not in (None, artifact.runtime_digest()):
        raise UsageError(
            "the serving code of this revision is not here",
            why=f"it is served with {content.runtime}, this mlscale has {artifact.runtime_digest()}",
            hint="mlscale deploy --refresh-runtime",
        )


def _model_folder(model: Path | None, beside: Path, stack: ExitStack, progress: Progress) -> Path | None:
    """Return the model, an archive unpacked for as long as the stack lasts."""
    if model is None or not artifact.is_archive(model):
        return model
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".mlscale-", dir=beside)))
    progress(f"unpacking {model.name}")
    artifact.copy(model, folder)
    return folder


def _entries(content: Content, files: Files, model: Path | None) -> Mapping[str, _Source]:
    """Return what is in the archive, by name; a spec's handler and requirements go before those of the model."""
    way, entries = way_of(content), dict(_of_model(model)) if model else {}
    if way is Way.OWN:
        return entries
    if content.framework == "tensorflow" and "saved_model.pb" in entries:  # its server wants a folder a version
        entries = {name if name.startswith(f"{CODE}/") else f"1/{name}": each for name, each in entries.items()}
    if files.handler is not None:
        entries[HANDLER] = files.handler
    elif way is Way.PREBUILT and HANDLER not in entries and _BESIDE_MODEL in entries:
        entries[HANDLER] = entries[_BESIDE_MODEL]
    if files.requirements is not None:
        entries[REQUIREMENTS] = files.requirements
    if way is Way.HOST:
        if REQUIREMENTS not in entries and (packages := _packages(content)):
            entries[REQUIREMENTS] = packages.encode()
        entries |= _of_ours(content.framework)
    return entries


def _of_model(model: Path) -> Iterator[tuple[str, _Source]]:
    if model.is_file():
        yield model.name, model
    else:
        yield from ((file.relative_to(model).as_posix(), file) for file in artifact.files(model))


def _of_ours(framework: str) -> Mapping[str, _Source]:
    """Return our serving code, and what makes SageMaker's containers call it."""
    text = (_folder() / ENTRY).read_text(encoding="utf-8")
    entry = re.sub(r"(?m)^FRAMEWORK = .*$", f"FRAMEWORK = {framework!r}", text)
    package = f"{RUNTIME}/mlscale"
    return {
        f"{CODE}/{ENTRY}": entry.encode(),
        f"{RUNTIME}/fallback/orjson.py": _folder() / "orjson.py",
        f"{package}/__init__.py": b'"""The part of mlscale that runs next to a model."""\n',
        **{f"{package}/{artifact.RUNTIME_PACKAGE}/{file.name}": file for file in artifact.runtime_files()},
    }


def _write(target: IO[bytes], entries: Mapping[str, _Source], progress: Progress) -> None:
    told = _Told(progress, sum(_size(source) for source in entries.values()))
    with (
        closing(_Stored(target)) as stream,
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in sorted(entries):
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = _size(entries[name]), MADE_AT, 0o644
            with _opened(entries[name]) as file:
                archive.addfile(member, _Whole(file, name, member.size, told))


def _size(source: _Source) -> int:
    return len(source) if isinstance(source, bytes) else source.stat().st_size


def _opened(source: _Source) -> IO[bytes]:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


class _Told:
    """Tells of every TELL_EVERY bytes."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def __call__(self, size: int) -> None:
        before, self._done = self._done, self._done + size
        if before // TELL_EVERY != self._done // TELL_EVERY:
            self._progress(f"packing the model ({self._done >> 20} of {self._total >> 20} MiB)")


class _Whole(io.RawIOBase):
    """A file of which exactly `size` bytes are read."""

    def __init__(self, file: IO[bytes], name: str, size: int, told: _Told) -> None:
        self._file = file
        self._name = name
        self._left = size
        self._told = told

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes.

        Raises:
            UsageError: there are fewer than when they were counted.
        """
        data = self._file.read(size)
        self._left -= len(data)
        if size > len(data) and self._left > 0:
            raise UsageError("the files changed while they were packed", why=self._name, hint="mlscale deploy")
        self._told(len(data))
        return data


class _Stored(io.RawIOBase):
    """A gzip file (RFC 1952) whose data is stored, in blocks of one size: the same bytes from every zlib."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._waiting = bytearray()
        self._check = self._size = 0
        # deflate, no name, no time, slowest (which nobody reads), an unknown system
        self._file.write(b"\x1f\x8b\x08" + bytes(5) + b"\x00\xff")

    def write(self, data: ReadableBuffer, /) -> int:
        """Take bytes and return how many."""
        view = memoryview(data)
        self._check = zlib.crc32(view, self._check)
        self._size += view.nbytes
        self._waiting += view
        while len(self._waiting) > _BLOCK:
            self._store(self._waiting[:_BLOCK], is_last=False)
            del self._waiting[:_BLOCK]
        return view.nbytes

    def close(self) -> None:
        """Write what waits, and the check sum; the file itself stays open."""
        if not self.closed:
            self._store(self._waiting, is_last=True)
            self._file.write(struct.pack("<II", self._check, self._size & 0xFFFFFFFF))
        super().close()

    def _store(self, data: bytearray, *, is_last: bool) -> None:
        self._file.write(struct.pack("<BHH", is_last, len(data), len(data) ^ 0xFFFF))
        self._file.write(data)
