"""Service Quotas for SageMaker, and what SageMaker answers when one is used up."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping

from tests.doubles.aws.fleet import used
from tests.doubles.aws.refusal import Refusal
from tests.doubles.aws.validation import service_model
from tests.doubles.aws.world import Json, Region, page

DEFAULT = 1000.0
"""So large that only a test that sets a quota meets one; the service's own defaults differ by account."""
PAGE = 100
ENDPOINTS = "Number of endpoints"


def check(region: Region, needed: Mapping[str, int]) -> None:
    """Return if the account may start these instances.

    Raises:
        Refusal: one type's quota is too small.
    """
    running = running_instances(region)
    for kind, count in needed.items():
        quota = region.quotas.get(kind, DEFAULT)
        if count > 0 and running[kind] + count > quota:
            raise Refusal(
                "quota.exceeded",
                "ResourceLimitExceeded",
                f"The account-level service limit '{_name(kind)}' is {quota:.0f} Instances, with current utilization "
                f"of {running[kind]} Instances and a request delta of {count} Instances. Please use AWS Service Quotas "
                "to request an increase for this quota. If AWS Service Quotas is not available, contact AWS support "
                "to request an increase for this quota.",
            )


def running_instances(region: Region) -> Counter[str]:
    """Return how many instances of each type this account has in endpoints."""
    total: Counter[str] = Counter()
    for endpoint in region.endpoints.values():
        if endpoint.status != "Failed":
            total.update(used(endpoint.variants))
    return total


def check_endpoints(region: Region) -> None:
    """Return if the account may have one more endpoint.

    Raises:
        Refusal: it may not.
    """
    quota = region.quotas.get(ENDPOINTS, DEFAULT)
    if len(region.endpoints) + 1 > quota:
        raise Refusal(
            "quota.endpoints",
            "ResourceLimitExceeded",
            f"The account-level service limit '{ENDPOINTS}' is {quota:.0f}, with current utilization of "
            f"{len(region.endpoints)} and a request delta of 1. Please use AWS Service Quotas to request an increase "
            "for this quota.",
        )


def _name(kind: str) -> str:
    return kind if kind == ENDPOINTS else f"{kind} for endpoint usage"


def _kinds() -> list[str]:
    shape = service_model("sagemaker").shape_for("ProductionVariantInstanceType")
    return [ENDPOINTS, *sorted(shape.enum)]


def _quota(region: Region, kind: str) -> Json:
    # rule quota.codes
    code = f"L-{hashlib.sha256(kind.encode()).hexdigest()[:8].upper()}"
    return {
        "ServiceCode": "sagemaker",
        "ServiceName": "Amazon SageMaker",
        "QuotaArn": region.arn("servicequotas", f"sagemaker/{code}"),
        "QuotaCode": code,
        "QuotaName": _name(kind),
        "Value": region.quotas.get(kind, DEFAULT),
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
    }


def list_service_quotas(region: Region, asked: Json) -> Json:
    """Return a page of quotas."""
    _check_service(asked)
    shown, token = page([_quota(region, kind) for kind in _kinds()], asked, size=PAGE)
    return {"Quotas": shown, **token}


def get_service_quota(region: Region, asked: Json) -> Json:
    """Return one quota."""
    _check_service(asked)
    for kind in _kinds():
        quota = _quota(region, kind)
        if quota["QuotaCode"] == asked["QuotaCode"]:
            return {"Quota": quota}
    words = "The request failed because the specified service quota does not exist."
    raise Refusal("quota.missing", "NoSuchResourceException", words)


def _check_service(asked: Json) -> None:
    if asked["ServiceCode"] != "sagemaker":
        words = "The request failed because the specified service does not exist."
        raise Refusal("quota.missing", "NoSuchResourceException", words)


OPERATIONS = {
    "ListServiceQuotas": list_service_quotas,
    "ListAWSDefaultServiceQuotas": list_service_quotas,
    "GetServiceQuota": get_service_quota,
    "GetAWSDefaultServiceQuota": get_service_quota,
}
