"""Quotas: how many vCPUs and accelerators may be in use in a region."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.doubles.vertex import machines
from tests.doubles.vertex.refusal import Refusal
from tests.doubles.vertex.world import Region

SERVICE = "aiplatform.googleapis.com"
USUAL = 1000.0


def need(resources: Any, count: int, purpose: str = "serving") -> Counter[str]:
    """Return what a number of replicas takes of each quota."""
    # rule quota.metrics
    spec = resources.machine_spec
    kind = "preemptible_" if getattr(resources, "spot", False) else ""
    wanted = Counter({f"custom_model_{purpose}_{kind}cpus": count * machines.vcpus(spec.machine_type)})
    if spec.accelerator_count:
        name = machines.accelerator(spec).lower().replace("tesla_", "")
        wanted[f"custom_model_{purpose}_{kind}{name}_gpus"] = count * spec.accelerator_count
    return wanted


def used(region: Region) -> Counter[str]:
    """Return how much of each quota is in use."""
    total: Counter[str] = Counter()
    for endpoint in region.endpoints.values():
        for deployed in endpoint.deployed_models:
            if deployed.HasField("dedicated_resources"):
                count = max(deployed.status.available_replica_count, deployed.dedicated_resources.min_replica_count)
                total += need(deployed.dedicated_resources, count)
    return total


def limit(region: Region, name: str) -> float:
    """Return how much there is of a quota."""
    return region.quotas.get(name, USUAL)


def check(region: Region, more: Counter[str]) -> None:
    """Return if there is enough of each quota.

    Raises:
        Refusal: there is not.
    """
    now = used(region)
    over = [name for name, count in more.items() if count > 0 and now[name] + count > limit(region, name)]
    if over:
        words = ", ".join(f"{SERVICE}/{name}" for name in sorted(over))
        raise Refusal(
            "quota.exceeded", "RESOURCE_EXHAUSTED", f"The following quota metrics exceed quota limits: {words}"
        )
