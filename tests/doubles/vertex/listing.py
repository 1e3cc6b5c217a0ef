"""Lists: filtered, in order, a page at a time."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from tests.doubles.vertex.filters import parsed
from tests.doubles.vertex.refusal import invalid

PAGE = 100


def page(items: list[Any], request: Any, *, most: int = PAGE) -> tuple[list[Any], str]:
    """Return the items of the page that was asked for, and the token of the next one, empty after the last.

    Raises:
        Refusal: the token is none.
    """
    # rule list.pages
    if request.page_token and not request.page_token.isdigit():
        raise invalid("list.token", "Invalid page token.")
    start = int(request.page_token or 0)
    end = start + (min(request.page_size, most) if request.page_size > 0 else most)
    return items[start:end], str(end) if end < len(items) else ""


def chosen(items: Iterable[Any], request: Any, fields: tuple[str, ...]) -> list[Any]:
    """Return what passes the request's filter over these fields and labels, in the order that it asks for.

    Raises:
        Refusal: filter or order can't be read.
    """
    test = parsed(request.filter)

    def value(item: Any, name: str) -> list[str] | None:
        first, _, rest = name.partition(".")
        if first == "labels":
            return ([item.labels[rest]] if rest in item.labels else []) if rest else list(item.labels)
        if name not in fields:
            return None
        return [_shown(item, name)]

    found = [item for item in items if test(functools.partial(value, item))]
    for name in reversed([each.strip() for each in getattr(request, "order_by", "").split(",") if each.strip()]):
        field, _, way = name.partition(" ")
        if field not in {"display_name", "create_time", "update_time"}:
            raise invalid("list.order", f"Invalid order_by: {name}.")
        found.sort(key=lambda item: _shown(item, field), reverse=way.strip() == "desc")
    return found


def _shown(item: Any, name: str) -> str:
    """Return a field as a filter names it: an ID by the kind of the resource, an enumeration by its name."""
    if name in {"endpoint", "model"} and not (name == "model" and hasattr(item, "model")):
        return str(item.name.rpartition("/")[2])
    value = getattr(item, name)
    if name.endswith("_time"):
        return str(value.ToJsonString())
    kind = item.DESCRIPTOR.fields_by_name[name].enum_type
    return str(kind.values_by_number[value].name if kind else value)
