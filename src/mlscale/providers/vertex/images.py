"""Which container serves a content on Vertex AI, and which file that container reads; pure.

Google's own containers load a model and run nobody's code: what needs code is served by an image of the user's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from mlscale.deployment import Content
from mlscale.providers.contract import Refusal
from mlscale.providers.vertex.machines import parse

LINK = "https://docs.cloud.google.com/vertex-ai/docs/predictions/pre-built-containers"
LINK_TO_FILES = "https://docs.cloud.google.com/vertex-ai/docs/training/exporting-model-artifacts"

FILE = Path(__file__).with_name("prebuilt.json")

PORT = 8080
"""Where a container of the user's listens; Vertex AI tells it as AIP_HTTP_PORT (ModelContainerSpec)."""

PREDICT_ROUTE = "/invocations"
"""Where such a container answers: what our images and SageMaker's have; Vertex AI tells it as AIP_PREDICT_ROUTE.

What comes there is the body of a RawPredict as it is, or `{"instances": ...}` of a Predict.
"""

FILES: Mapping[str, Sequence[str]] = {
    "sklearn": ("model.joblib", "model.pkl"),
    "xgboost": ("model.bst", "model.joblib", "model.pkl"),
    "tensorflow": ("saved_model.pb",),
    "pytorch": ("model.mar",),
}
"""The names, one of which a container of Google's looks for in the folder of a model. Source: LINK_TO_FILES."""

_PREBUILT = re.compile(r"(us|europe|asia)-docker\.pkg\.dev/vertex-ai(-restricted)?/prediction/[^:@]+([:@].+)?")

_HOSTS: Mapping[str, str] = {
    "us": "us",
    "northamerica": "us",
    "southamerica": "us",
    "europe": "europe",
    "africa": "europe",
    "me": "europe",
    "asia": "asia",
    "australia": "asia",
}
"""The registry that is near, by the first word of a region: each has the same images (LINK)."""

_OWN = "name an image of your own in model.image; `mlscale image build --push` makes one"


class Way(StrEnum):
    """How the model gets into a container."""

    PREBUILT = "prebuilt"
    """The framework's own container loads it by itself."""
    OWN = "own"
    """The image that the spec names."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The image, and why this one.

    `framework_version` is that of the framework in it, empty where nobody knows. `source` says where the list of
    images is from.
    """

    uri: str
    way: Way
    framework_version: str
    why: str
    source: str


@dataclass(frozen=True, slots=True)
class Image:
    """One of Google's containers: `processor` is cpu or gpu, `hosts` are the registries that have it."""

    framework: str
    version: str
    processor: str
    name: str
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """The containers that are known, and where that is from."""

    source: str
    images: tuple[Image, ...]


@cache
def packaged() -> Table:
    """Return the table of the package."""
    stored: Mapping[str, Any] = json.loads(FILE.read_text())
    images = tuple(Image(**{**each, "hosts": tuple(each["hosts"])}) for each in stored["images"])
    return Table(f"{stored['source']}, {stored['date']}", images)


def is_prebuilt(uri: str) -> bool:
    """Return whether `uri` is one of Google's own containers, of any version: it has ports and routes of its own."""
    return _PREBUILT.fullmatch(uri) is not None


def choose(content: Content, region: str) -> Choice | Refusal:
    """Return the image that serves `content` in `region`, the newest that fits; or why there is none."""
    if content.image is not None:
        way = Way.PREBUILT if is_prebuilt(content.image) else Way.OWN
        return Choice(content.image, way, content.framework_version or "", "model.image names it", "the spec")
    for path, has in (("model.handler", content.handler), ("model.requirements", content.requirements)):
        if has:
            return Refusal(path, f"Vertex AI's own containers run no code of yours: {_OWN}", LINK)
    return _prebuilt(content, region, packaged())


def _prebuilt(content: Content, region: str, table: Table) -> Choice | Refusal:
    host = _HOSTS.get(region.partition("-")[0], "")
    framework, wanted = content.framework, content.framework_version
    known = [image for image in table.images if image.framework == framework and host in image.hosts]
    if not known:
        return Refusal("model.framework", f"Vertex AI has no container for {framework} in {region}: {_OWN}", LINK)
    processors = {"gpu" if parse(each).accelerator else "cpu" for each in content.machine} or {"cpu"}
    if len(processors) > 1:
        listed = ", ".join(content.machine)
        return Refusal("endpoint.machine", f"one image can't run with and without GPUs ({listed})", LINK)
    (processor,) = processors
    fit = [image for image in known if image.processor == processor]
    if not fit:
        return Refusal("endpoint.machine", f"Vertex AI has no container for {framework} on GPUs: {_OWN}", LINK)
    named = [image for image in fit if wanted is None or _is_of(image.version, wanted)]
    if not named:
        has = ", ".join(image.version for image in fit)
        why = f"Vertex AI has no container for {framework} {wanted} ({table.source}: {has}): {_OWN}"
        return Refusal("model.framework_version", why, LINK)
    image = max(named, key=lambda image: _parts(image.version))
    uri = f"{host}-docker.pkg.dev/vertex-ai/prediction/{image.name}:latest"
    why = f"the container of {framework} {image.version} loads the model"
    return Choice(uri, Way.PREBUILT, image.version, why, table.source)


def _is_of(version: str, wanted: str) -> bool:
    """Return whether a container of a version like 1.5 is one for `wanted`, which may also say 1 or 1.5.2."""
    return all(one == other for one, other in zip(version.split("."), wanted.split("."), strict=False))


def _parts(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def missing_file(framework: str, names: Sequence[str]) -> str | None:
    """Return what is missing for the container of `framework` among a model's files, in words; None if it is there.

    Args:
        framework: whose container serves the model.
        names: the files' paths in the folder of the model.
    """
    wanted = FILES.get(framework, ())
    if not wanted or set(wanted) & set(names):
        return None
    there = ", ".join(sorted(names)) or "nothing"
    reads = f"Vertex AI's container for {framework} reads {' or '.join(wanted)}"
    return f"{reads}, and there is {there}: name it so, or {_OWN}"
