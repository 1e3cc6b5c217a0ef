"""A call that changes something at AWS, as a value, and whether what AWS answers is what such a call asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """One call that changes something: `service` and `operation` as boto3 names them, and its whole request."""

    service: str
    operation: str
    request: Mapping[str, Any]


def holds(answer: Mapping[str, Any], request: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
    """Return whether `answer` has what `request` asks for, in each of `fields`, whose values AWS takes if none is sent.

    The order of dimensions and of names says nothing, and an empty list is as none. A field that is not in
    `fields` is not looked at: what AWS adds to its answers one day is no difference.
    """
    return all(_is_same(answer.get(field, default), request.get(field, default)) for field, default in fields.items())


def _is_same(one: Any, other: Any) -> bool:
    return bool(one == other) or _plain(one) == _plain(other)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: plain for key, item in value.items() if (plain := _plain(item)) is not None} or None
    if isinstance(value, list | tuple):
        items = [_plain(item) for item in value]
        return (sorted(items, key=str) if all(_is_unordered(item) for item in items) else items) or None
    return value


def _is_unordered(item: Any) -> bool:
    return isinstance(item, str) or (isinstance(item, dict) and set(item) == {"Name", "Value"})
