"""One request to an endpoint, and its answer; an async endpoint's answer is waited for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from mlscale.clock import Clock
from mlscale.deployment import Deployment, Kind
from mlscale.errors import ProviderFailed
from mlscale.providers.contract import Answer
from mlscale.providers.sagemaker.calls import Call
from mlscale.providers.sagemaker.client import Client

FIRST_LOOK_S, SLOWEST_LOOK_S = 0.2, 5.0
LOOKS_GROW_BY = 1.5
FAILED = 500


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of the model."""

    body: bytes
    content_type: str
    accept: str


def answer(client: Client, seen: Deployment, request: Request, uploads: str, clock: Clock) -> Answer:
    """Return what the endpoint that was `seen` answers.

    Raises:
        ProviderFailed: it can't be asked.
    """
    if seen.kind is Kind.ASYNC:
        return _later(client, seen, request, uploads, clock)
    found = client.invoke(
        {
            "EndpointName": seen.identity.name,
            "Body": request.body,
            "ContentType": request.content_type,
            "Accept": request.accept,
        }
    )
    by = {each.metric_dimension: each.revision.id for each in seen.revisions}
    return Answer(found.status, found.content_type, found.body, by.get(found.variant, ""))


def _later(client: Client, seen: Deployment, request: Request, uploads: str, clock: Clock) -> Answer:
    """Put the request where the endpoint fetches it, and wait until its answer or its failure is there."""
    bucket, _, prefix = uploads.removeprefix("s3://").partition("/")
    digest = hashlib.sha256(request.body).hexdigest()[:16]
    key = f"{prefix}/{seen.identity.name}/requests/{clock.now():%Y%m%dT%H%M%S%f}-{digest}".lstrip("/")
    client.change(
        Call(
            "s3",
            "put_object",
            {"Bucket": bucket, "Key": key, "Body": request.body, "ContentType": request.content_type},
        )
    )
    place = f"s3://{bucket}/{key}"
    try:
        begun = client.change(
            Call(
                "sagemaker-runtime",
                "invoke_endpoint_async",
                {
                    "EndpointName": seen.identity.name,
                    "InputLocation": place,
                    "ContentType": request.content_type,
                    "Accept": request.accept,
                },
            )
        )
        revision = seen.stable.revision.id if seen.stable else ""
        return _awaited(client, begun, revision, clock)
    finally:
        client.delete(place)


def _awaited(client: Client, begun: dict[str, Any], revision: str, clock: Clock) -> Answer:
    output, failure = begun.get("OutputLocation"), begun.get("FailureLocation")
    if output is None:
        raise ProviderFailed("the endpoint took no request", why="SageMaker named no place for the answer")
    pause = FIRST_LOOK_S
    while True:
        for place, status in ((output, 200), (failure, FAILED)):
            if place and (found := _object(client, str(place))):
                return Answer(status, str(found.get("ContentType", "")), found["Body"], revision)
        clock.sleep(pause)
        pause = min(pause * LOOKS_GROW_BY, SLOWEST_LOOK_S)


def _object(client: Client, place: str) -> dict[str, Any] | None:
    bucket, _, key = place.removeprefix("s3://").partition("/")
    return client.find("s3", "get_object", Bucket=bucket, Key=key)
