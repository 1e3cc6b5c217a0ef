"""What moto keeps and the rest here must look at: buckets, roles, images, and whose an access key is."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from tests.doubles.aws.world import Region

IMAGE = re.compile(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com/([^:@]+)(?::([^@]+))?(?:@(.+))?")


def _s3(account: str) -> Any:
    from moto.s3.models import s3_backends

    return s3_backends[account]["aws"]


def object_exists(region: Region, uri: str) -> bool:
    """Return whether there is an object, or anything under the prefix if it ends in a slash."""
    parts = urlsplit(uri)
    key = parts.path.lstrip("/")
    found = objects(region, parts.netloc, key)
    return bool(found) if uri.endswith("/") else key in found


def objects(region: Region, bucket: str, prefix: str = "") -> list[str]:
    """Return the keys under a prefix, none if there is no such bucket."""
    held = _s3(region.account).buckets.get(bucket)
    return [] if held is None else [key for key in held.keys if key.startswith(prefix)]


def put_object(region: Region, uri: str, data: bytes) -> None:
    """Write an object as a service does for its user."""
    parts = urlsplit(uri)
    _s3(region.account).put_object(parts.netloc, parts.path.lstrip("/"), value=data)


def role_exists(region: Region, arn: str) -> bool:
    """Return whether there is a role of that ARN which SageMaker may take."""
    from moto.iam.models import iam_backends

    roles = iam_backends[region.account]["aws"].roles.values()
    return any(role.arn == arn and "sagemaker.amazonaws.com" in str(role.assume_role_policy_document) for role in roles)


def image_exists(region: Region, image: str) -> bool:
    """Return whether an image of this account is in its registry; other accounts' images are there."""
    found = IMAGE.fullmatch(image)
    if found is None or found[1] != region.account:
        return True
    from moto.ecr.models import ecr_backends

    repository = ecr_backends[region.account][found[2]].repositories.get(found[3])
    if repository is None:
        return False
    if found[5]:
        return any(each.image_digest == found[5] for each in repository.images)
    return any((found[4] or "latest") in each.image_tags for each in repository.images)


def publish(region: Region, topic: str, message: str) -> None:
    """Send a message to a topic, if there is one."""
    from moto.sns.models import sns_backends

    backend = sns_backends[region.account][region.name]
    if topic in backend.topics:
        backend.publish(message, arn=topic)


def account_of(access_key: str, headers: dict[str, str]) -> str:
    """Return the account whose key it is."""
    from moto.iam.models import get_account_id_from

    account: str = headers.get("x-moto-account-id") or get_account_id_from(access_key)
    return account
