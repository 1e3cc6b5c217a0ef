"""The Docker engine: the only place that calls its SDK, besides the local provider's containers."""

from __future__ import annotations

import re
import socket
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mlscale.deployment import Content
from mlscale.errors import ExtraMissing, MlscaleError, NoCapacity, ProviderFailed, UsageError, WrongCredentials
from mlscale.providers import image
from mlscale.providers.contract import Progress
from mlscale.providers.local.failures import failure_of as machines_failure
from mlscale.providers.registry_auth import Auth, auth_of, repository_hint

TIMEOUT_S = 60
SLOW_TIMEOUT_S = 600
"""For calls that may be silent for long: a layer that is pushed, a large image that is deleted."""

CONFLICT = 409
LAST_LINES = 15
BUILDERS_OWN = ("---> ", "Removing intermediate container ")
"""Lines of a build that are about the engine's own bookkeeping."""

NO_ENGINE = (
    "install Docker (https://docs.docker.com/engine/install/) and start it; a model that mlscale can serve itself "
    "needs none: leave out model.image and --runtime docker"
)


@dataclass(frozen=True, slots=True)
class Layer:
    """A part of an image: what it holds, and its size in bytes."""

    part: str
    size: int


@dataclass(frozen=True, slots=True)
class Image:
    """An image of the engine: `digests` are the references by which registries have it.

    `platform` is the system and processor it runs on, `layers` its parts from the base up, `layer_ids` the engine's own
    names of its layers.
    """

    id: str
    platform: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    labels: Mapping[str, str]
    size: int
    layers: tuple[Layer, ...]
    layer_ids: tuple[str, ...]


def connected(timeout_s: int = TIMEOUT_S) -> Any:
    """Return a client of the engine that `docker` itself would use: DOCKER_HOST, else its current context.

    Raises:
        ExtraMissing: the SDK is not installed.
        ProviderFailed: no engine answers, or it does not let us in.
    """
    try:
        import docker
        from docker.context import ContextAPI
        from docker.utils import kwargs_from_env
    except ImportError as error:
        raise ExtraMissing(
            "an optional package is not installed",
            why="docker talks to the engine",
            hint="pip install 'mlscale[docker]'",
        ) from error
    with errors_of("connecting"):
        settings = kwargs_from_env()
        if "base_url" not in settings and (context := ContextAPI.get_current_context()) and context.Host:
            settings = {"base_url": context.Host, "tls": context.TLSConfig}
        address = settings.get("base_url") or docker.constants.DEFAULT_UNIX_SOCKET
        try:
            _try_socket(address)
            return docker.DockerClient(version="auto", timeout=timeout_s, **settings)
        except (OSError, docker.errors.DockerException) as error:
            raise _no_engine(settings.get("base_url") or "its usual socket", str(error)) from error


def _try_socket(address: str) -> None:
    """Return if somebody listens at the socket of `address`, if it is one: the SDK leaves one open that is refused.

    Raises:
        OSError: nobody does, or we may not ask.
    """
    _, _, path = address.partition("unix://")
    if path:
        with socket.socket(socket.AF_UNIX) as tried:
            tried.connect("/" + path.lstrip("/"))


def _no_engine(address: str, said: str) -> MlscaleError:
    if "Permission denied" in said:
        return ProviderFailed(
            "the Docker engine does not let this user in",
            why=f"{address}: permission denied",
            hint="sudo usermod -aG docker $USER, and log in again; the process runtime needs no engine",
        )
    reasons = {
        "FileNotFoundError": "there is no such socket",
        "No such file": "there is no such socket",
        "Connection refused": "connection refused",
        "timed out": "no answer in time",
    }
    why = next((words for sign, words in reasons.items() if sign in said), said)
    return ProviderFailed("no Docker engine answers", why=f"{address}: {why}", hint=NO_ENGINE)


@contextmanager
def errors_of(doing: str) -> Iterator[None]:
    """Turn the SDK's errors, met while `doing` something, into ours."""
    import docker
    import requests

    try:
        yield
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        raise failure_of(error, doing) from error


def failure_of(error: Exception, doing: str) -> MlscaleError:
    """Return the error that a user can act on for one of the SDK, met while `doing` something."""
    import docker
    import requests

    said = str(getattr(error, "explanation", None) or error)
    if "no space left on device" in said:
        return _disk_full(f"{doing}: {said}")
    if isinstance(error, docker.errors.APIError) and error.is_client_error():
        return ProviderFailed("the Docker engine refused", why=f"{doing}: {said}", hint="docker info")
    if isinstance(error, requests.exceptions.RequestException):
        return ProviderFailed("the Docker engine broke off", why=f"{doing}: {said}", hint="docker info", retryable=True)
    return ProviderFailed("the Docker engine failed", why=f"{doing}: {said}", hint="docker info")


def _disk_full(why: str) -> MlscaleError:
    return NoCapacity("the engine's disk is full", why=why, hint="docker system df shows what uses it")


def ensure(
    name: str, content: Content, files: Mapping[str, str | None], tell: Progress, *, base: str = image.BASE
) -> Image:
    """Return the image that serves `content` on `base`, built if the engine does not have it.

    Args:
        name: the deployment's.
        content: what is served.
        files: as `image.write_context` takes them.
        tell: told each line of a build; what it raises ends it.
        base: the image below.

    Raises:
        UsageError: the files are not those of `content`, or `base` is no image's name.
        ProviderFailed: it can't be built; with the last lines of the build.
        NoCapacity: the disk is full.
    """
    tag = image.tag_of(name, content, base)
    found = inspect(tag)
    if found is None:
        try:
            with tempfile.TemporaryDirectory(prefix="mlscale-image-") as folder:
                image.write_context(Path(folder), content, files, base)
                build(Path(folder), tag, image.labels_of(tag, base), tell)
        except OSError as error:
            raise machines_failure(error, f"writing what {tag} is built from") from error
        found = inspect(tag)
    if found is None:
        raise ProviderFailed("the image is gone", why=f"{tag} was deleted while it was built", hint="build it again")
    return found


def build(context: Path, tag: str, labels: Mapping[str, str], tell: Progress) -> str:
    """Return the id of the image that was built from the folder `context` and tagged `tag`.

    Args:
        context: a folder with a Dockerfile.
        tag: what to call it.
        labels: what to mark it with.
        tell: told each line; what it raises ends the build.

    Raises:
        ProviderFailed: it can't be built; with the last lines of the build.
        NoCapacity: the disk is full.
    """
    with closing(connected()) as client, tempfile.TemporaryFile() as archive, errors_of("building"):
        _pack(context, archive)
        archive.seek(0)
        # The host's network: a build's own often has no name server behind a company's proxy.
        said = client.api.build(
            fileobj=archive,
            custom_context=True,
            tag=tag,
            labels=dict(labels),
            rm=True,
            forcerm=True,
            network_mode="host",
            decode=True,
            timeout=None,
        )
        _follow_build(said, tell)
        return str(client.api.inspect_image(tag)["Id"])


def _pack(folder: Path, archive: IO[bytes]) -> None:
    """Write the folder as a tar file: in a fixed order, and all of it root's."""
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(folder.rglob("*")):
            tar.add(path, path.relative_to(folder).as_posix(), recursive=False, filter=_as_root)


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def _follow_build(said: Iterable[Mapping[str, Any]], tell: Progress) -> None:
    last: list[str] = []
    error = ""
    for each in said:
        error = str(each.get("error", error))
        text = _plain(str(each.get("stream") or each.get("status") or ""))
        for line in filter(None, map(str.strip, text.splitlines())):
            last = [*last[1 - LAST_LINES :], line]
            if not line.startswith(BUILDERS_OWN):
                tell(line)
    if error:
        raise _build_failure(error, last)


def _plain(text: str) -> str:
    """Return `text` less the sequences that color a terminal."""
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)


def _build_failure(error: str, last: Sequence[str]) -> MlscaleError:
    why = "\n".join((*last, error.strip()))
    if "no space left on device" in error:
        return _disk_full(why)
    if any(line.startswith("Step ") and "FROM" in line for line in last[-1:]):
        hint = "see that the base image is there, or can be pulled"
    else:
        hint = "correct the requirements, or see that the package index can be reached"
    return ProviderFailed("the image can't be built", why=why, hint=hint)


def info() -> Mapping[str, Any]:
    """Return what the engine says of itself, as `docker info` shows it."""
    with closing(connected()) as client, errors_of("asking the engine"):
        found: Mapping[str, Any] = client.api.info()
        return found


def inspect(reference: str) -> Image | None:
    """Return the image that the engine has under a tag, a digest or an id; None if it has none."""
    with closing(connected()) as client, errors_of(f"reading {reference}"):
        from docker.errors import ImageNotFound

        try:
            return _image(client, reference)
        except ImageNotFound:
            return None


def named(name: str) -> Sequence[Image]:
    """Return the engine's images of the deployment `name`, the newest first."""
    with closing(connected()) as client, errors_of("listing images"):
        found = client.api.images(filters={"label": f"{image.NAME_LABEL}={name}"})
        newest_first = sorted(found, key=lambda each: each["Created"], reverse=True)
        return [_image(client, each["Id"]) for each in newest_first]


def _image(client: Any, reference: str) -> Image:
    facts = client.api.inspect_image(reference)
    return Image(
        id=facts["Id"],
        platform=f"{facts['Os']}/{facts['Architecture']}",
        tags=tuple(facts["RepoTags"] or ()),
        digests=tuple(facts["RepoDigests"] or ()),
        labels=facts["Config"].get("Labels") or {},
        size=facts["Size"],
        layers=_layers(client.api.history(facts["Id"])),
        layer_ids=tuple(facts["RootFS"].get("Layers") or ()),
    )


def _layers(history: Iterable[Mapping[str, Any]]) -> tuple[Layer, ...]:
    """Return an image's parts from its history, which the engine gives from the top down."""
    rows = [(_instruction(each["CreatedBy"]), int(each["Size"])) for each in reversed(list(history))]
    return tuple(Layer(part, size) for part, size in image.parts_of(rows))


def _instruction(created_by: str) -> str:
    """Return an instruction without the shell that the engine shows before one which needs none."""
    return " ".join(created_by.removeprefix("/bin/sh -c #(nop)").split()) or "imported"


def tag_as(reference: str, new: str) -> None:
    """Give the image `reference` the tag `new` as well."""
    repository, _, tag = new.rpartition(":")
    with closing(connected()) as client, errors_of(f"tagging {reference}"):
        if not client.api.tag(reference, repository, tag):
            raise ProviderFailed("the Docker engine refused", why=f"it does not tag {reference} as {new}")


def push(reference: str, auth: Auth | None, tell: Progress) -> str:
    """Return the digest under which the registry has `reference`, after it was pushed.

    Args:
        reference: a tag of the engine that says which registry.
        auth: who we are; None for what Docker's own settings know.
        tell: told each line; what it raises ends the push.

    Raises:
        WrongCredentials: the registry does not know us.
        ProviderFailed: it does not take the image; again may help where it did not answer.
    """
    repository, _, tag = reference.rpartition(":")
    with closing(connected(SLOW_TIMEOUT_S)) as client, errors_of(f"pushing {reference}"):
        said = client.api.push(repository, tag, stream=True, decode=True, auth_config=_config(auth))
        digest = error = ""
        for each in said:
            error = str(each.get("error", error)).strip()
            digest = (each.get("aux") or {}).get("Digest", digest)
            if line := " ".join(str(each[key]) for key in ("id", "status", "progress") if each.get(key)):
                tell(line)
    if error:
        raise _push_failure(reference, error)
    if not digest:
        raise ProviderFailed("the registry gave no digest", why=reference, hint="push again", retryable=True)
    return digest


def _config(auth: Auth | None) -> dict[str, str] | None:
    return {"username": auth.username, "password": auth.password} if auth else None


def _push_failure(reference: str, said: str) -> MlscaleError:
    lower = said.lower()
    if any(sign in lower for sign in ("no basic auth", "unauthorized", "authentication required", "authorization")):
        return WrongCredentials(
            "the registry does not know you",
            why=f"{reference}: {said}",
            hint=f"docker login {reference.partition('/')[0]}",
        )
    if any(sign in lower for sign in ("denied", "not exist", "name unknown", "not found")):
        return ProviderFailed(
            "the registry does not take the image", why=f"{reference}: {said}", hint=repository_hint(reference)
        )
    return ProviderFailed(
        "the registry does not take the image",
        why=f"{reference}: {said}",
        hint="see that the registry can be reached, and push again",
        retryable=True,
    )


def resolve(reference: str) -> str:
    """Return `reference` pinned: by the digest of its repository, or by its id for an image that only the engine has.

    What the engine has is taken as it is there; for another the registry is asked, and nothing is pulled.

    Raises:
        UsageError: neither has it.
        WrongCredentials: the registry does not know us.
    """
    if "@sha256:" in reference or reference.startswith("sha256:"):
        return reference
    here = inspect(reference)
    repository = _repository(reference)
    if here is not None:
        pinned = [each for each in here.digests if each.partition("@")[0] == repository]
        return pinned[-1] if pinned else here.id
    with closing(connected()) as client, errors_of(f"asking for {reference}"):
        from docker.errors import APIError, NotFound

        try:
            found = client.api.inspect_distribution(reference, auth_config=_config(auth_of(reference)))
        except NotFound as error:
            raise _no_such_image(reference, str(error.explanation)) from error
        except APIError as error:
            if error.status_code in (401, 403) or "denied" in str(error.explanation):
                raise _push_failure(reference, str(error.explanation)) from error
            raise
    return f"{repository}@{found['Descriptor']['digest']}"


def _repository(reference: str) -> str:
    """Return an image's name less its tag; a colon before the last slash is a port's."""
    head, slash, last = reference.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def _no_such_image(reference: str, said: str) -> MlscaleError:
    return UsageError(
        "there is no such image", why=f"{reference}: {said}", hint="correct model.image, or docker pull it"
    )


def pull(reference: str, tell: Progress) -> None:
    """Fetch the image that a registry has under `reference`.

    Raises:
        UsageError: there is none.
        WrongCredentials: the registry does not know us.
        ProviderFailed: it can't be fetched.
    """
    with closing(connected(SLOW_TIMEOUT_S)) as client, errors_of(f"pulling {reference}"):
        from docker.errors import NotFound

        try:
            said = client.api.pull(reference, stream=True, decode=True, auth_config=_config(auth_of(reference)))
            error = _last_error(said, tell)
        except NotFound as missing:
            raise _no_such_image(reference, str(missing.explanation)) from missing
    if error:
        raise ProviderFailed(
            "the image can't be pulled",
            why=f"{reference}: {error}",
            hint=f"see that the registry can be reached, or docker login {reference.partition('/')[0]}",
        )


def _last_error(said: Iterable[Mapping[str, Any]], tell: Progress) -> str:
    error = ""
    for each in said:
        error = str(each.get("error", error)).strip()
        if line := " ".join(str(each[key]) for key in ("id", "status", "progress") if each.get(key)):
            tell(line)
    return error


def release(tag: str) -> None:
    """Take `tag` away as `remove` does, unless a container of somebody else's still uses it."""
    with closing(connected(SLOW_TIMEOUT_S)) as client, errors_of(f"deleting {tag}"):
        from docker.errors import APIError, ImageNotFound

        try:
            client.api.remove_image(tag)
        except ImageNotFound:
            return
        except APIError as error:
            if error.status_code != CONFLICT:
                raise


def remove(tag: str) -> None:
    """Take `tag` away, and its image with what only it needs if no other tag is left; none there is no error.

    Raises:
        ProviderFailed: a container still uses it.
    """
    with closing(connected(SLOW_TIMEOUT_S)) as client, errors_of(f"deleting {tag}"):
        from docker.errors import ImageNotFound

        with suppress(ImageNotFound):
            client.api.remove_image(tag)
