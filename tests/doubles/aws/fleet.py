"""Variants from a configuration: how many instances of what, with which weight, and how they are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from tests.doubles.aws.world import Json, Region, Variant, float32

RETAINED = frozenset({"DesiredInstanceCount", "DesiredWeight"})
SHOWN_AS_ASKED = ("RoutingConfig", "ManagedInstanceScaling")


def variants_of(region: Region, config: Json) -> list[Variant]:
    """Return the variants as a configuration starts them, shadows last."""
    started = [_started(each) for each in config["ProductionVariants"]]
    shadows = [replace(_started(each), is_shadow=True) for each in config.get("ShadowProductionVariants", [])]
    return [placed(region, each) for each in (*started, *shadows)]


def _started(asked: Json) -> Variant:
    # rule config.weight-default
    weight = float32(asked.get("InitialVariantWeight", 1.0))
    return Variant(asked, weight, asked.get("InitialInstanceCount", 0), dict(asked.get("ServerlessConfig", {})))


def placed(region: Region, variant: Variant) -> Variant:
    """Return the variant with its instances in the first pool that has room."""
    # rule capacity.pools
    kinds = kinds_of(variant.asked)
    free = [kind for kind in kinds if kind not in region.world.settings.no_capacity] or kinds[:1]
    return replace(variant, pools={free[0]: variant.count} if free else {})


def kinds_of(asked: Json) -> list[str]:
    """Return the instance types of a variant, best first."""
    pools = sorted(asked.get("InstancePools", []), key=lambda each: int(each["Priority"]))
    return [each["InstanceType"] for each in pools] or ([asked["InstanceType"]] if "InstanceType" in asked else [])


def without_capacity(region: Region, variants: Sequence[Variant]) -> bool:
    """Return whether instances are wanted of which there are none left in the whole region."""
    missing = region.world.settings.no_capacity
    return any(kind in missing and count for variant in variants for kind, count in variant.pools.items())


def retained(region: Region, new: list[Variant], live: Sequence[Variant], kept: frozenset[str]) -> list[Variant]:
    """Return new variants with what is kept of the live ones of the same name."""
    before = {each.name: each for each in live}
    return [each if each.name not in before else _kept(region, each, before[each.name], kept) for each in new]


def _kept(region: Region, new: Variant, old: Variant, kept: frozenset[str]) -> Variant:
    weight = old.weight if "DesiredWeight" in kept else new.weight
    on_instances = kinds_of(new.asked) and kinds_of(old.asked)
    count = old.count if on_instances and "DesiredInstanceCount" in kept else new.count
    return placed(region, replace(new, weight=weight, count=count))


def used(variants: Sequence[Variant]) -> Counter[str]:
    """Return how many instances of each type run."""
    total: Counter[str] = Counter()
    for variant in variants:
        total.update(variant.pools)
    return total


def summary(region: Region, variant: Variant, wanted: Variant, status: str | None = None) -> Json:
    """Return a variant as DescribeEndpoint shows it: what runs, and what is wanted."""
    asked = variant.asked
    shown: Json = {
        "VariantName": variant.name,
        "CurrentWeight": variant.weight,
        "DesiredWeight": wanted.weight,
        "DeployedImages": _images(region, asked),
        **{name: asked[name] for name in SHOWN_AS_ASKED if name in asked},
    }
    if variant.serverless:
        shown |= {"CurrentServerlessConfig": variant.serverless, "DesiredServerlessConfig": wanted.serverless}
    else:
        shown |= {"CurrentInstanceCount": variant.count, "DesiredInstanceCount": wanted.count}
    if "InstancePools" in asked:
        # rule endpoint.pools-summary
        shown["InstancePools"] = [
            {"InstanceType": kind, "CurrentInstanceCount": variant.pools.get(kind, 0)} for kind in kinds_of(asked)
        ]
    if status is not None:
        shown["VariantStatus"] = [{"Status": status}]
    return shown


def pending(region: Region, variant: Variant, status: str) -> Json:
    """Return a variant as the pending deployment of DescribeEndpoint shows it."""
    shown = summary(region, variant, variant, status)
    if "InstanceType" in variant.asked:
        shown["InstanceType"] = variant.asked["InstanceType"]
    if "CurrentInstanceCount" in shown:
        shown["CurrentInstanceCount"] = 0
    return shown


def _images(region: Region, asked: Json) -> list[Json]:
    model = region.models.get(asked.get("ModelName", "").lower())
    if model is None:
        return []
    containers = model.asked.get("Containers") or [model.asked.get("PrimaryContainer", {})]
    return [
        {"SpecifiedImage": each["Image"], "ResolvedImage": each["Image"], "ResolutionTime": model.created}
        for each in containers
        if "Image" in each
    ]
