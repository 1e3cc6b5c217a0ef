"""Which container image serves a content on SageMaker, and how our files get into it; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from mlscale.deployment import Content
from mlscale.providers.contract import Refusal
from mlscale.providers.sagemaker.image_table import ARM, X86, Image, Table, is_sagemakers, parts

LINK = "https://docs.aws.amazon.com/sagemaker/latest/dg/pre-built-containers-frameworks-deep-learning.html"

PACKAGES: Mapping[str, tuple[str, str]] = {"onnx": ("onnxruntime", "1.32.0"), "lightgbm": ("lightgbm", "4.7.0")}
"""The package of each framework that SageMaker has no image for, and its version where the spec says none."""

_HOST = "sklearn"
"""Whose image runs what has none of its own: it is the smallest with Python."""

_PYTHON_3_10: Mapping[str, Sequence[str]] = {"sklearn": ("1", "4"), "xgboost": ("3", "0")}
"""The first versions whose images have Python 3.10, which our serving code needs; their tags say only `py3`.

Source: `ARG PYTHON_VERSION` of docker/*/base/Dockerfile.cpu in aws/sagemaker-scikit-learn-container (1.2-1: 3.9, 1.4-2:
3.10) and aws/sagemaker-xgboost-container (1.7-1: 3.8, 3.0-5: 3.10).
"""

_MINOR = 10

_OWN = "name an image of your own in model.image; `mlscale image build` makes one"

_ARM_FAMILY = re.compile(r"[a-z]+\d+g[a-z]*")
"""AWS names its own processors with a g after the generation: c7g, m6gd, x2gd; g4dn and g6e are not among them."""


class Way(StrEnum):
    """How the model gets into a container."""

    PREBUILT = "prebuilt"
    """The framework's own container loads it by itself, or by the user's handler."""
    HOST = "host"
    """A container of SageMaker's runs our serving code, which loads it."""
    OWN = "own"
    """The image that the spec names."""


class Handler(StrEnum):
    """What the user's code is, found out by reading it."""

    NONE = "none"
    COMPLETE = "complete"
    """SageMaker's functions with nothing left to defaults: model_fn, and transform_fn or the other three."""
    PARTIAL = "partial"
    """Some of these functions, or async ones, or with the context as one argument more."""
    PREDICTOR = "predictor"
    """A Predictor class, as Vertex has it."""
    TENSORFLOW = "tensorflow"
    """handler, or input_handler and output_handler: what the TensorFlow container calls."""


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

    def pinned(self, content: Content) -> Content:
        """Return `content` with this image, and with our serving code only where that is in the archive."""
        return replace(content, image=self.uri, runtime=content.runtime if self.way is Way.HOST else None)


def way_of(content: Content) -> Way:
    """Return how a content whose image is pinned gets into its container."""
    if content.runtime is not None:
        return Way.HOST
    return Way.PREBUILT if is_sagemakers(content.image or "") else Way.OWN


def choose(content: Content, handler: Handler, region: str, table: Table) -> Choice | Refusal:
    """Return the image that serves `content` in `region`, the newest that fits; or why there is none.

    Args:
        content: what is served. Without a machine it is served serverless, which is on CPUs.
        handler: what the user's code is.
        region: an AWS region.
        table: the images to choose from.
    """
    if content.image is not None and not is_sagemakers(content.image):
        return Choice(content.image, Way.OWN, content.framework_version or "", "model.image names it", "the spec")
    kind = _kind(content.machine)
    if isinstance(kind, Refusal):
        return kind
    is_own = any(image.framework == content.framework for image in table.images)
    way = _way(content.framework, handler, is_own=is_own)
    if isinstance(way, Refusal):
        return way
    found = _images(content, content.framework if is_own else _HOST, kind, region, table)
    if isinstance(found, Refusal):
        return found
    if way is Way.HOST:
        able = [image for image in found if _runs_ours(image)]
        if not able and handler is Handler.PARTIAL and is_own:
            way = Way.PREBUILT  # its defaults then are the container's
        elif not able:
            return _too_old(content, handler, found[-1])
        else:
            found = able
    image = found[-1]
    uri = table.uri(image, region, kind.processor)
    version = image.version if is_own else _package_version(content)
    return Choice(str(uri), way, version, _why(handler, image, way, is_own=is_own), table.source)


@dataclass(frozen=True, slots=True)
class _Kind:
    """What images must be made for."""

    architecture: str
    processor: str

    def __str__(self) -> str:
        return "Graviton processors" if self.architecture == ARM else f"{self.processor.upper()}s"


def _kind(machines: Sequence[str]) -> _Kind | Refusal:
    """Return the one kind of all machines."""
    kinds = {machine: _kind_of(machine) for machine in machines}
    if refused := next((kind for kind in kinds.values() if isinstance(kind, Refusal)), None):
        return refused
    found = {kind for kind in kinds.values() if isinstance(kind, _Kind)}
    if len(found) > 1:
        list_of = ", ".join(f"{machine}: {kind}" for machine, kind in kinds.items())
        return Refusal("endpoint.machine", f"one image can't run on all of these ({list_of})", LINK)
    return next(iter(found), _Kind(X86, "cpu"))


def _kind_of(machine: str) -> _Kind | Refusal:
    family = re.fullmatch(r"ml\.([a-z0-9-]+)\.[a-z0-9-]+", machine)
    if family is None:
        return Refusal("endpoint.machine", f"{machine} is no instance type of SageMaker", LINK)
    name = family[1]
    is_arm = _ARM_FAMILY.fullmatch(name) is not None
    if name.startswith(("inf", "trn")) or (is_arm and name[0] == "g"):
        return Refusal("endpoint.machine", f"no image of SageMaker's that we know is for {machine}: {_OWN}", LINK)
    if is_arm:
        return _Kind(ARM, "cpu")
    return _Kind(X86, "gpu" if name[0] in "gp" else "cpu")


def _way(framework: str, handler: Handler, *, is_own: bool) -> Way | Refusal:
    if framework == "tensorflow":
        if handler in (Handler.NONE, Handler.TENSORFLOW):
            return Way.PREBUILT
        return Refusal(
            "model.handler",
            "the TensorFlow image calls `handler`, or `input_handler` and `output_handler`, and has no Python of the "
            f"model's to run other code in: {_OWN}",
            "https://github.com/aws/sagemaker-tensorflow-serving-container",
        )
    if framework == "huggingface" and handler in (Handler.NONE, Handler.PARTIAL):
        return Way.PREBUILT
    return Way.PREBUILT if is_own and handler is Handler.COMPLETE else Way.HOST


def _images(content: Content, framework: str, kind: _Kind, region: str, table: Table) -> Sequence[Image] | Refusal:
    """Return the images that run `content`, the oldest first; never none."""
    fit = [
        image
        for image in table.images
        if image.framework == framework
        and image.architecture == kind.architecture
        and image.tag(kind.processor) is not None
    ]
    if not fit:
        return Refusal(
            "endpoint.machine",
            f"SageMaker has no image for {content.framework} on {kind} ({', '.join(content.machine)}): {_OWN}",
            LINK,
        )
    wanted = content.framework_version if framework == content.framework else None
    named = [image for image in fit if wanted is None or _is_of(image, wanted)]
    if not named:
        return Refusal(
            "model.framework_version",
            f"SageMaker has no image of {framework} {wanted} for {kind} ({table.source} has {_versions(fit)}): {_OWN}",
            LINK,
        )
    there = sorted((image for image in named if region in image.registries), key=lambda image: image.newness)
    if not there:
        return Refusal("region", f"{table.source} has {framework} {_versions(named)} nowhere in {region}: {_OWN}", LINK)
    return there


def _is_of(image: Image, version: str) -> bool:
    asked = parts(version)
    return list(parts(image.version)[: len(asked)]) == list(asked)


def _versions(images: Sequence[Image]) -> str:
    return ", ".join(dict.fromkeys(image.version for image in sorted(images, key=lambda image: image.newness)))


def _runs_ours(image: Image) -> bool:
    """Return whether our serving code runs on the image's Python."""
    if image.framework in _PYTHON_3_10:
        return image.newness >= tuple((1, int(part)) for part in _PYTHON_3_10[image.framework])
    return int(image.python.removeprefix("py3") or 0) >= _MINOR


def _too_old(content: Content, handler: Handler, image: Image) -> Refusal:
    what = {
        Handler.NONE: "a model without a handler",
        Handler.PREDICTOR: "a Predictor class",
    }.get(handler, f"a handler for {content.framework}")
    others = "take a newer version, another machine, or a handler with all of SageMaker's functions"
    return Refusal(
        "model.framework_version" if content.framework_version else "endpoint.machine",
        f"{what} needs our serving code, and that Python 3.{_MINOR}; the image of {image.framework} {image.version} "
        f"has an older one: {others}, or {_OWN}",
        LINK,
    )


def _package_version(content: Content) -> str:
    """Return the version of a framework that is installed when the container starts."""
    installed = "" if content.requirements else PACKAGES.get(content.framework, ("", ""))[1]
    return content.framework_version or installed


def _why(handler: Handler, image: Image, way: Way, *, is_own: bool) -> str:
    if way is Way.HOST:
        return f"our serving code in the image of {image.framework} {image.version}" + (
            "" if is_own else ", since SageMaker has none for this framework"
        )
    container = f"the image of {image.framework} {image.version}"
    match handler:
        case Handler.NONE:
            return f"{container} loads the model"
        case Handler.PARTIAL:
            return f"{container} runs the handler, with its own defaults for what is not in it"
        case _:
            return f"{container} runs the handler"
