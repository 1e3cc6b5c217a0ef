"""Where the model is: in a folder that was mounted, in the image itself, or in a bucket that Vertex names."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mlscale.serving.frameworks import LoadError

SAGEMAKER_FOLDER = "/opt/ml/model"

STORAGE = "https://storage.googleapis.com"
METADATA_HOST = "metadata.google.internal"
TOKEN = "/computeMetadata/v1/instance/service-accounts/default/token"  # noqa: S105 - a path
TIMEOUT_S = 60.0


def folder_of(environment: Mapping[str, str]) -> Path:
    """Return the folder that `environment` says: ours first, then Vertex's where that is a path, then SageMaker's."""
    storage = environment.get("AIP_STORAGE_URI", "")
    return Path(environment.get("MLSCALE_MODEL_DIR") or (storage if storage.startswith("/") else SAGEMAKER_FOLDER))


def model_folder(folder: Path, environment: Mapping[str, str]) -> Path:
    """Return the folder with the model's files: `folder`, or a new one with what is in the bucket that Vertex names.

    What is mounted goes before what an image brings: SageMaker puts a model's artifact into a folder of its own, which
    is empty or not there where a model has none.

    Raises:
        LoadError: a bucket can't be read, or has no such files.
    """
    storage = environment.get("AIP_STORAGE_URI", "")
    if storage.startswith("gs://") and not environment.get("MLSCALE_MODEL_DIR"):
        return _fetched(storage, environment)
    image = environment.get("MLSCALE_IMAGE_MODEL")
    if image and folder == Path(SAGEMAKER_FOLDER) and not (folder.is_dir() and any(folder.iterdir())):
        return Path(image)
    return folder


def _fetched(place: str, environment: Mapping[str, str]) -> Path:
    """Return a new folder with the files that a bucket has under `place`.

    Google's own client is not in the image: listing and reading are two requests of Cloud Storage's XML API
    (https://cloud.google.com/storage/docs/xml-api/overview), as the service account of the machine.
    """
    from http.client import HTTPException  # these take a replica's start longer, and most have a folder
    from urllib.parse import quote
    from xml.etree.ElementTree import ParseError

    bucket, _, path = place.removeprefix("gs://").partition("/")
    prefix = f"{path.rstrip('/')}/" if path else ""
    emulator = environment.get("STORAGE_EMULATOR_HOST")
    address = f"{emulator or STORAGE}/{quote(bucket)}"
    try:
        headers = {} if emulator else _authorization(environment.get("GCE_METADATA_HOST") or METADATA_HOST)
        folder = Path(tempfile.mkdtemp(prefix="model-"))
        found = [key for key in _keys(address, prefix, headers) if not key.endswith("/")]
        for key in found:
            target = _inside(folder, key.removeprefix(prefix))
            with _opened(f"{address}/{quote(key)}", headers) as answer, target.open("wb") as file:
                shutil.copyfileobj(answer, file)
    except (OSError, HTTPException, ValueError, ParseError) as error:
        raise LoadError(f"{place} can't be fetched: {error}") from error
    if not found:
        raise LoadError(f"there are no files under {place}")
    return folder


def _authorization(metadata_host: str) -> dict[str, str]:
    """Return the header that says who we are (https://cloud.google.com/compute/docs/access/authenticate-workloads)."""
    with _opened(f"http://{metadata_host}{TOKEN}", {"Metadata-Flavor": "Google"}) as answer:
        token = json.loads(answer.read())["access_token"]
    return {"Authorization": f"Bearer {token}"}


def _keys(address: str, prefix: str, headers: Mapping[str, str]) -> Iterator[str]:
    from urllib.parse import urlencode
    from xml.etree.ElementTree import fromstring

    following = ""
    while True:
        query = {"list-type": "2", "prefix": prefix} | ({"continuation-token": following} if following else {})
        with _opened(f"{address}?{urlencode(query)}", headers) as answer:
            page = fromstring(answer.read())  # noqa: S314 - Google's own answer
        yield from (key.text or "" for key in page.iterfind("{*}Contents/{*}Key"))
        following = page.findtext("{*}NextContinuationToken") or ""
        if not following:
            return


def _opened(address: str, headers: Mapping[str, str]) -> Any:
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    try:
        return urlopen(Request(address, headers=dict(headers)), timeout=TIMEOUT_S)  # noqa: S310 - http and https, made here
    except HTTPError as error:
        error.close()  # it is an open answer as well
        raise


def _inside(folder: Path, name: str) -> Path:
    """Return the file's place, its folders made; an object's name may hold anything."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise LoadError(f"an object's name leads out of the model's folder: {name}")
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    return target
