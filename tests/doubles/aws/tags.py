"""Tags: SageMaker's own three operations, and the tagging API that sees everything here that has tags."""

from __future__ import annotations

from collections.abc import Iterable

from tests.doubles.aws.refusal import Refusal, invalid
from tests.doubles.aws.world import Json, Region

MOST_TAGS = 50
PAGE = 100


def keep(region: Region, arn: str, tags: Iterable[Json]) -> None:
    """Set tags; a key that was there gets the new value."""
    # rule tags.replace
    merged = region.tags.get(arn, {}) | {each["Key"]: each["Value"] for each in tags}
    if len(merged) > MOST_TAGS:
        raise invalid("tags.limit", f"Number of tags must not exceed {MOST_TAGS}.")
    region.tags[arn] = merged


def as_list(tags: dict[str, str]) -> list[Json]:
    """Return tags as answers hold them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def add_tags(region: Region, asked: Json) -> Json:
    """Set tags of a SageMaker resource."""
    arn = _existing(region, asked["ResourceArn"])
    keep(region, arn, asked["Tags"])
    return {"Tags": as_list(region.tags[arn])}


def list_tags(region: Region, asked: Json) -> Json:
    """Return the tags of a SageMaker resource."""
    return {"Tags": as_list(region.tags.get(_existing(region, asked["ResourceArn"]), {}))}


def delete_tags(region: Region, asked: Json) -> Json:
    """Take tags from a SageMaker resource."""
    arn = _existing(region, asked["ResourceArn"])
    region.tags[arn] = {key: value for key, value in region.tags.get(arn, {}).items() if key not in asked["TagKeys"]}
    return {}


def _existing(region: Region, arn: str) -> str:
    """Return the ARN as it is kept.

    Raises:
        Refusal: nothing has it.
    """
    kept = arn.lower()
    existing = {each.arn for each in region.models.values()} | {each.arn for each in region.configs.values()}
    existing |= {each.arn for each in region.endpoints.values()}
    if kept not in existing:
        raise invalid("tags.missing", f"Could not find resource with ARN: {arn}")
    return kept


def get_resources(region: Region, asked: Json) -> Json:
    """Return a page of what has tags, over all services that are imitated here."""
    found = [
        {"ResourceARN": arn, "Tags": as_list(tags)}
        for arn, tags in sorted(region.tags.items())
        if tags and _wanted(arn, tags, asked)
    ]
    start = _start(asked.get("PaginationToken") or "")
    end = start + int(asked.get("ResourcesPerPage") or PAGE)
    token = str(end) if end < len(found) else ""
    return {"PaginationToken": token, "ResourceTagMappingList": found[start:end]}


def _start(token: str) -> int:
    if token and not token.isdigit():
        words = "The specified PaginationToken is invalid"
        raise Refusal("tagging.token", "InvalidParameterException", words)
    return int(token or 0)


def _wanted(arn: str, tags: dict[str, str], asked: Json) -> bool:
    arns = asked.get("ResourceARNList")
    if arns and arn not in arns:
        return False
    kinds = asked.get("ResourceTypeFilters")
    if kinds and not any(_is_kind(arn, each) for each in kinds):
        return False
    return all(
        each["Key"] in tags and (not each.get("Values") or tags[each["Key"]] in each["Values"])
        for each in asked.get("TagFilters", [])
    )


def _is_kind(arn: str, kind: str) -> bool:
    service, _, resource = kind.partition(":")
    here = arn.split(":", 5)
    return here[2] == service and (not resource or here[5].replace(":", "/").split("/")[0] == resource)


OPERATIONS = {"AddTags": add_tags, "ListTags": list_tags, "DeleteTags": delete_tags}
TAGGING_OPERATIONS = {"GetResources": get_resources}
