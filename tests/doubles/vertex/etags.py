"""Etags: another with each change."""

from __future__ import annotations

from typing import Any

from tests.doubles.vertex.refusal import Refusal, wrong_field
from tests.doubles.vertex.world import Region, stamp


def touch(region: Region, message: Any) -> None:
    """Give a resource its next etag and its time of change."""
    # rule etag.changes
    message.etag = f"AMEw9y{region.world.new_number(12)}"
    stamp(message.update_time, region.now())


def check(message: Any, asked: str) -> None:
    """Return if the caller has seen the resource as it is, or does not say.

    Raises:
        Refusal: it has changed.
    """
    if asked and asked != message.etag:
        words = f"The etag {asked} does not match the current etag {message.etag} of {message.name}."
        raise Refusal("etag.mismatch", "ABORTED", words)


def masked(kept: Any, asked: Any, paths: list[str], allowed: frozenset[str], rule: str) -> None:
    """Take over the fields that a mask names; `*` is all that can be changed.

    Raises:
        Refusal: another field can't be changed, or there is no mask.
    """
    if not paths:
        raise wrong_field(rule, "update_mask", "must not be empty")
    wanted = sorted(allowed) if paths == ["*"] else paths
    for path in wanted:
        if path.partition(".")[0] not in allowed:
            raise wrong_field(rule, "update_mask", f"{path} can't be updated")
    for path in wanted:
        field, _, key = path.partition(".")
        if key and field == "labels":
            kept.labels[key] = asked.labels[key]
            continue
        kept.ClearField(field)
        _copy(kept, asked, field)


def _copy(kept: Any, asked: Any, field: str) -> None:
    """Take over one field, whatever its kind."""
    whole = type(asked)()
    whole.CopyFrom(asked)
    for descriptor, _ in asked.ListFields():
        if descriptor.name != field:
            whole.ClearField(descriptor.name)
    kept.MergeFrom(whole)
