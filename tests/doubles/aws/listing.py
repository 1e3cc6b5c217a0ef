"""SageMaker's lists: filtered, sorted, then cut into pages."""

from __future__ import annotations

from typing import Any

from tests.doubles.aws.world import Json, page

PAGE = 10
"""Documented default of MaxResults; newest first is the documented default order."""


def listed(rows: list[Json], asked: Json, *, key: str, name: str) -> Json:
    """Return the page of summaries that was asked for, under `key`.

    Args:
        rows: all summaries, each with its name under `name`, `CreationTime` and maybe `LastModifiedTime`.
        asked: the request.
        key: the answer's member.
        name: the member of a summary that `NameContains` and `SortBy` Name are about.
    """
    # rule list.filter-before-page
    found = [each for each in rows if _matches(each, asked, name)]
    by = {"Name": name, "Status": "EndpointStatus"}.get(asked.get("SortBy", ""), "CreationTime")
    # rule list.newest-first
    backwards = asked.get("SortOrder", "Descending") == "Descending"
    found.sort(key=lambda each: (each[by], each[name]), reverse=backwards)
    shown, token = page(found, asked, size=PAGE)
    return {key: shown, **token}


def _matches(row: Json, asked: Json, name: str) -> bool:
    if asked.get("NameContains", "").lower() not in row[name].lower():
        return False
    if asked.get("StatusEquals", row.get("EndpointStatus")) != row.get("EndpointStatus"):
        return False
    return all(
        _within(row.get(moment), asked.get(f"{moment}After"), asked.get(f"{moment}Before"))
        for moment in ("CreationTime", "LastModifiedTime")
    )


def _within(moment: Any, after: Any, before: Any) -> bool:
    if moment is None:
        return True
    return (after is None or moment > after) and (before is None or moment < before)
