"""The whole imitated cloud at one moment, so that a test can begin there again in no time."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from tests.doubles.aws.world import World

Objects = dict[str, dict[str, dict[str, bytes]]]


@dataclass(frozen=True, slots=True)
class Saved:
    """What was there: everything of ours, and by account and bucket what moto has in S3."""

    world: World
    objects: Objects


def saved(world: World) -> Saved:
    """Return what is there now.

    Raises:
        ValueError: an answer is still to be written, and would be in only one of the two worlds.
    """
    if world.later:
        raise ValueError("something is still to happen: advance the clock first")
    return Saved(deepcopy(world), _objects())


def restored(kept: Saved) -> World:
    """Return the world as it was; the buckets hold again what they held, and nothing of an upload that was cut off."""
    for account, backend in _backends():
        for name, bucket in backend.buckets.items():
            bucket.multiparts.clear()
            before, now = kept.objects.get(account, {}).get(name, {}), _content(bucket)
            for key in now.keys() - before.keys():
                backend.delete_object(name, key)
            for key, data in before.items():
                if now.get(key) != data:
                    backend.put_object(name, key, value=data)
    return deepcopy(kept.world)


def _backends() -> list[tuple[str, Any]]:
    from moto.s3.models import s3_backends

    return [(account, backends["aws"]) for account, backends in s3_backends.items() if "aws" in backends]


def _objects() -> Objects:
    return {
        account: {name: _content(bucket) for name, bucket in backend.buckets.items()}
        for account, backend in _backends()
    }


def _content(bucket: Any) -> dict[str, bytes]:
    return {key: bucket.keys[key].value for key in bucket.keys}
