"""What goes into a serving image and what the image is called, without Docker."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from mlscale.deployment import Content
from mlscale.errors import UsageError
from mlscale.providers import artifact, templates
from mlscale.providers.local.environments import SERVER_PACKAGES

BASE = "python:3.11-slim-bookworm"
"""What an image is made on, if nobody chooses; it has Python 3.11 or later and pip."""

FRAMEWORK_PACKAGES: Mapping[str, Sequence[str]] = {
    "onnx": ("onnxruntime",),
    "sklearn": ("scikit-learn", "joblib"),
    "xgboost": ("xgboost",),
    "lightgbm": ("lightgbm",),
    "pytorch": ("torch",),
}
"""What a framework's models need where the spec names no requirements; its own package first."""

NAME_LABEL, HASH_LABEL, BASE_LABEL = "mlscale.name", "mlscale.hash", "mlscale.base"

OURS = "/opt/mlscale"
"""Where all of ours is in an image."""

PARTS: Sequence[tuple[str, str]] = (
    (f"{OURS}/server.txt", "server packages"),
    (f"{OURS}/requirements.txt", "model packages"),
    (f"{OURS}/runtime", "serving code"),
    (f"{OURS}/model", "model and handler"),
)
"""What a layer holds, by a word of the instruction that made it; in the order of the layers."""

MADE_AT = 1_000_000_000
"""The time of every file in a build context (seconds): a layer is the same whenever its files are written."""

# A reference is [host[:port]/]path[:tag][@digest]: its characters, and none that would end a line of the Dockerfile.
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}")


def tag_of(name: str, content: Content, base: str = BASE) -> str:
    """Return the tag of the image that serves `content` on `base`: the same content has the same tag everywhere.

    Environment variables, health and machine are not in the image, so they are not in its tag.
    """
    facts = (
        content.artifact,
        content.handler or "",
        content.requirements or _framework_requirements(content),
        content.runtime or "",
        content.framework,
        _server_requirements(),
        artifact.digest(_folder()),
        base,
    )
    return f"mlscale/{name}:{hashlib.sha256(chr(0).join(facts).encode()).hexdigest()[:12]}"


def labels_of(tag: str, base: str = BASE) -> Mapping[str, str]:
    """Return the labels by which the image `tag` is found again."""
    repository, _, digest = tag.rpartition(":")
    return {NAME_LABEL: repository.removeprefix("mlscale/"), HASH_LABEL: digest, BASE_LABEL: base}


def parts_of(instructions: Iterable[tuple[str, int]]) -> Sequence[tuple[str, int]]:
    """Return what an image holds and how many bytes each part has, from the base up.

    Args:
        instructions: each with the bytes that it added, in the order in which they were carried out.

    Returns:
        `base` and PARTS where ours is in the image; else its instructions themselves, less those that added nothing.
    """
    sizes: dict[str, int] = {}
    rows = list(instructions)
    first = next((number for number, (words, _) in enumerate(rows) if OURS in words), None)
    if first is None:
        return [(words, size) for words, size in rows if size]
    sizes["base"] = sum(size for _, size in rows[:first])
    waiting = 0  # what is copied for an instruction belongs to its part
    for words, size in rows[first:]:
        waiting += size
        if part := next((part for word, part in PARTS if word in words), None):
            sizes[part] = sizes.get(part, 0) + waiting
            waiting = 0
    return list(sizes.items())


def write_context(folder: Path, content: Content, files: Mapping[str, str | None], base: str = BASE) -> None:
    """Write what an image is built from into the empty folder `folder`; the same content gives the same files.

    Args:
        folder: where to.
        content: what is served.
        files: the paths of its `model`, `handler` and `requirements`, None where it has none; `runtime` is the folder
            of another serving code than this mlscale's.
        base: the image below.

    Raises:
        UsageError: the files are not those of `content`, or `base` is no image's name.
    """
    if not _REFERENCE.fullmatch(base):
        raise UsageError("the base is no image's name", why=repr(base), hint=f"--base {BASE}")
    for name in ("server.txt", "requirements.txt"):
        (folder / name).touch()
    for name in ("runtime", "handler", "model"):
        (folder / name).mkdir()
    _write_dockerfile(folder, content.framework, base)
    shutil.copyfile(_folder() / "install.py", folder / "install.py")
    (folder / "server.txt").write_text(_server_requirements())
    _copy_packages(folder / "requirements.txt", content, files["requirements"])
    _copy_runtime(folder / "runtime", content, files.get("runtime"))
    _copy_model(folder, content, files)
    _make_steady(folder)


def _folder() -> Path:
    return templates.folder() / "docker"


def _write_dockerfile(folder: Path, framework: str, base: str) -> None:
    text = (_folder() / "Dockerfile").read_text(encoding="utf-8")
    for name, value in (("BASE", base), ("FRAMEWORK", framework)):
        text = re.sub(rf"(?m)^ARG {name}=.*$", f"ARG {name}={value}", text)
    (folder / "Dockerfile").write_text(text, encoding="utf-8")


def _server_requirements() -> str:
    """Return what the model server needs beside the model, in the versions that are installed with mlscale."""
    return "".join(f"{name}=={metadata.version(name)}\n" for name in SERVER_PACKAGES)


def _copy_packages(target: Path, content: Content, requirements: str | None) -> None:
    if requirements is None:
        target.write_text(_framework_requirements(content))
        return
    artifact.refuse_changed(Path(requirements), content.requirements)
    if others := artifact.other_files(Path(requirements)):
        raise UsageError(
            "the requirements name a file that the image does not have",
            why="\n".join(others),
            hint="put its lines into the file itself, or the package into an index",
        )
    shutil.copyfile(requirements, target)


def _framework_requirements(content: Content) -> str:
    """Return the requirements of a spec that names none: the framework, as the spec pins it or as it is here."""
    found = [_installed(name) for name in FRAMEWORK_PACKAGES.get(content.framework, ())]
    lines = [f"{name}=={version}" if version else name for name, version in found]
    if found and content.framework_version:
        exact = content.framework_version.count(".") > 1
        lines[0] = f"{found[0][0]}=={content.framework_version}{'' if exact else '.*'}"
    return "".join(f"{line}\n" for line in lines)


def _installed(package: str) -> tuple[str, str | None]:
    """Return the name and version of a package as it is installed here, built for CPUs or GPUs alone perhaps."""
    for name in (package, f"{package}-cpu", f"{package}-gpu"):
        try:
            return name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return package, None


def _copy_runtime(target: Path, content: Content, pinned: str | None) -> None:
    if pinned is not None:
        shutil.copytree(pinned, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        return
    if content.runtime != artifact.runtime_digest():
        raise UsageError(
            "the serving code of this revision is not here",
            why=f"it is served with {content.runtime}, this mlscale has {artifact.runtime_digest()}",
            hint="mlscale deploy --refresh-runtime",
        )
    artifact.copy_runtime(target)


def _copy_model(folder: Path, content: Content, files: Mapping[str, str | None]) -> None:
    model = Path(str(files["model"]))
    artifact.refuse_changed(model, content.artifact)
    artifact.copy(model, folder / "model")
    if files["handler"] is not None:
        artifact.refuse_changed(Path(files["handler"]), content.handler)
        place = folder / "handler" / "code" / "inference.py"
        place.parent.mkdir()
        shutil.copyfile(files["handler"], place)
        # The model's layer lies over the handler's, so a handler that came with the model would win.
        (folder / "model" / "code" / "inference.py").unlink(missing_ok=True)


def _make_steady(folder: Path) -> None:
    """Give every file the same time, and modes by which any user may read it."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(parent, name)
            path.chmod(0o644)
            os.utime(path, (MADE_AT, MADE_AT))
        Path(parent).chmod(0o755)
        os.utime(parent, (MADE_AT, MADE_AT))
