"""Which container images SageMaker has for serving: a dated table in the package, or what the SageMaker SDK ships."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "prebuilt.json"

X86, ARM = "x86", "arm"
ANY = ""
"""The processor of an image that runs on CPUs and GPUs alike."""

SDK = "sagemaker-core"
"""The distribution that has the SDK's list of images; `sagemaker` needs it."""

SDK_FOLDER = "sagemaker/core/image_uri_config"
FRAMEWORKS = ("sklearn", "xgboost", "pytorch", "tensorflow", "huggingface")

_SCOPES = {"inference": X86, "inference_graviton": ARM}
_OLD_PYTHONS = frozenset({"py2", "py27", "py3", "py36", "py37"})
"""Of the deep learning images; `py3` is there a name for 3.6."""


@dataclass(frozen=True, slots=True)
class Image:
    """One image: `tags` by processor (cpu, gpu or ANY), the accounts that have it by region.

    `python` is SageMaker's word for its Python, `py312`, or `py3` or nothing where it doesn't say which.
    """

    framework: str
    version: str
    architecture: str
    repository: str
    python: str
    tags: Mapping[str, str]
    registries: Mapping[str, str]

    @property
    def newness(self) -> tuple[tuple[int, int | str], ...]:
        """What orders images of one framework by age: numbers as numbers, and a number after no number."""
        return tuple((1, int(part)) if part.isdigit() else (0, part) for part in parts(self.version))

    def tag(self, processor: str) -> str | None:
        """Return the tag for a processor, None if the image does not run on it."""
        return self.tags.get(processor, self.tags.get(ANY))


@dataclass(frozen=True, slots=True)
class Table:
    """The images that are known, and where that is from. `domains` is by partition, where it is not amazonaws.com."""

    source: str
    images: tuple[Image, ...]
    domains: Mapping[str, str]

    def uri(self, image: Image, region: str, processor: str) -> str | None:
        """Return the image's name in a region, None if it is not there or not for that processor."""
        account, tag = image.registries.get(region), image.tag(processor)
        if account is None or tag is None:
            return None
        domain = self.domains.get(partition(region), "amazonaws.com")
        return f"{account}.dkr.ecr.{region}.{domain}/{image.repository}:{tag}"


def parts(version: str) -> Sequence[str]:
    """Return what a version consists of: `1.4-2` is 1, 4 and 2."""
    return version.replace("-", ".").split(".")


def partition(region: str) -> str:
    """Return the part of a region's name that says which partition it is in: `cn` of `cn-north-1`."""
    return region.rsplit("-", 2)[0]


def newest_table(path: Sequence[str] | None = None) -> Table:
    """Return the SDK's images if the SDK is installed, else those of the package; the SDK itself is not imported.

    Args:
        path: where to look for installed distributions; None is where Python does.
    """
    found = metadata.distributions(name=SDK) if path is None else metadata.distributions(name=SDK, path=list(path))
    for sdk in found:
        folder = Path(str(sdk.locate_file(SDK_FOLDER)))
        if folder.is_dir():
            return Table(f"{SDK} {sdk.version}", sdk_images(folder), packaged().domains)
    return packaged()


def is_sagemakers(uri: str) -> bool:
    """Return whether `uri` is one of SageMaker's own images, of any version."""
    found = re.fullmatch(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.[a-z.]+/([a-z0-9-]+)[:@].+", uri)
    if found is None:
        return False
    account, region, repository = found.groups()
    return any(
        image.repository == repository and image.registries.get(region) == account
        for table in (packaged(), newest_table())
        for image in table.images
    )


@cache
def packaged() -> Table:
    """Return the table of the package."""
    stored: Mapping[str, Any] = json.loads(FILE.read_text())
    images = tuple(
        Image(**{**each, "registries": stored["registries"][each["registries"]]}) for each in stored["images"]
    )
    return Table(f"table of {stored['date']}", images, stored["domains"])


def stored(images: Sequence[Image], domains: Mapping[str, str], source: str, date: str) -> str:
    """Return the text of the package's table: an image a line, and each set of accounts once."""
    registries: list[Mapping[str, str]] = []
    rows = []
    for image in images:
        if image.registries not in registries:
            registries.append(image.registries)
        row = {name: getattr(image, name) for name in Image.__slots__}
        rows.append(json.dumps({**row, "registries": registries.index(image.registries)}))
    head = {"source": source, "date": date, "domains": domains}
    lines = [json.dumps(each) for each in registries]
    return (
        json.dumps(head, indent=1).removesuffix("\n}")
        + f',\n "registries": [\n{_joined(lines)}\n ],\n "images": [\n{_joined(rows)}\n ]\n}}\n'
    )


def _joined(lines: Sequence[str]) -> str:
    return ",\n".join(f"  {line}" for line in lines)


def sdk_images(folder: Path) -> tuple[Image, ...]:
    """Return the serving images that the SDK's files in `folder` list, named by the SDK's own rules.

    Left out are versions that have no Python from 3.8 on, and TensorFlow 1.

    Source: `retrieve` in sagemaker-core's `image_uris.py`.
    """
    return tuple(
        image
        for framework in FRAMEWORKS
        for scope, config in json.loads((folder / f"{framework}.json").read_text()).items()
        if scope in _SCOPES
        for image in _images(framework, _SCOPES[scope], config)
    )


def _images(framework: str, architecture: str, config: Mapping[str, Any]) -> Iterator[Image]:
    for version, facts in config["versions"].items():
        if framework == "huggingface":
            for base in (name for name in facts if name.startswith("pytorch")):
                prefix = f"{base.removeprefix('pytorch')}-transformers{version}"
                yield from _image(framework, version, architecture, prefix, config, facts[base])
        else:
            yield from _image(framework, version, architecture, version, config, facts)


def _image(
    framework: str, version: str, architecture: str, prefix: str, config: Mapping[str, Any], facts: Mapping[str, Any]
) -> Iterator[Image]:
    is_script_image = facts["repository"].startswith("sagemaker-")
    python = facts.get("py_versions", [""])[-1]
    if framework in {"sklearn", "xgboost"}:
        if not is_script_image:  # xgboost 1 is an algorithm, and runs nobody's code
            return
    elif is_script_image or python in _OLD_PYTHONS or (framework == "tensorflow" and parts(version)[0] == "1"):
        return
    processors = config.get("processors") or facts.get("processors") or [ANY]
    tags = {each: _tag(framework, architecture, prefix, each, python, facts) for each in sorted(processors)}
    yield Image(framework, version, architecture, facts["repository"], python, tags, facts["registries"])


def _tag(framework: str, architecture: str, prefix: str, processor: str, python: str, facts: Mapping[str, Any]) -> str:
    if architecture == ARM and framework == "xgboost":
        return f"{prefix}-arm64"
    if architecture == ARM and framework == "sklearn":
        return f"{prefix}-arm64-{processor}-{python}"
    container = facts.get("container_version", {}).get(processor, "")
    if architecture == ARM:
        container = f"{container}-sagemaker"
    return "-".join(each for each in (prefix, processor, python, container) if each)
