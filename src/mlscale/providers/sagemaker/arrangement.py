"""Which variants an endpoint shall have for the revisions that are asked for, and what each of them needs; pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mlscale.autoscaling.policy import candidate_replicas, starting_replicas
from mlscale.deployment import WHOLE, Deployment, Role, Scaling, ServedRevision
from mlscale.providers.sagemaker import requests, scaling

BROKEN = "UpdateRollbackFailed"
"""The state of an endpoint of whose variants nothing can be said."""

COUNT = "InitialInstanceCount"
VARIANTS, SHADOWS = "ProductionVariants", "ShadowProductionVariants"


@dataclass(frozen=True, slots=True)
class Place:
    """A variant that an endpoint shall have: its name, what it serves, and how it is there already, None if it is not.

    `count` is how many instances a new one starts with.
    """

    slot: str
    served: ServedRevision
    kept: Mapping[str, Any] | None
    count: int

    @property
    def is_shadow(self) -> bool:
        """Return whether it gets copies of requests, and answers none."""
        return self.served.role is Role.SHADOW

    @property
    def weight(self) -> float:
        """Return its weight when the arrangement is new: a candidate waits for its traffic until it is healthy."""
        return {Role.CANDIDATE: 0.0, Role.SHADOW: self.served.share / WHOLE}.get(self.served.role, 1.0)


def places(asked: Deployment, seen: Deployment | None) -> tuple[Place, ...]:
    """Return the variants of `asked`, the stable one first.

    A revision that is there stays as it is, under its name. A new stable one takes the name of the one before, a new
    candidate one that no variant has, so that their metrics are told apart.
    """
    return tuple(_places(asked, seen))


def _places(asked: Deployment, seen: Deployment | None) -> Iterator[Place]:
    stable, candidate = asked.stable, asked.candidate
    slots = [] if seen is None else slots_of(seen)
    if stable is None:
        return
    found = found_of(stable, seen)
    slot = found.metric_dimension if found else seen.facts.get("slot", requests.SLOT) if seen else requests.SLOT
    count = starting_replicas(asked.scaling, seen)
    yield Place(slot, stable, _kept(asked, seen, found, count), count)
    if candidate:
        found = found_of(candidate, seen)
        name = found.metric_dimension if found else free_slot({*slots, slot})
        count = candidate_replicas(asked.scaling, seen, candidate.share)
        yield Place(name, candidate, _kept(asked, seen, found, count), count)


def found_of(served: ServedRevision, seen: Deployment | None) -> ServedRevision | None:
    """Return the variant that serves the same revision in the same way: a shadow answers nobody."""
    return next(
        (
            each
            for each in (seen.revisions if seen else ())
            if each.revision.id == served.revision.id and (each.role is Role.SHADOW) == (served.role is Role.SHADOW)
        ),
        None,
    )


def _kept(
    asked: Deployment, seen: Deployment | None, found: ServedRevision | None, count: int
) -> Mapping[str, Any] | None:
    """Return a variant as it is there, None if it must be made.

    One that is gone when a change that goes on has ended comes back with as many instances as it has now, not as it
    began with.
    """
    if seen is None or found is None or seen.facts.get("status") == BROKEN:
        return None
    if seen.kind is not asked.kind or dict(seen.settings) != dict(asked.settings):
        return None
    variant = variants_in(seen).get(found.metric_dimension)
    coming = variants_coming(seen)
    if variant and coming and found.metric_dimension not in coming and COUNT in variant:
        return {**variant, COUNT: max(1, count)}
    return variant


def is_leaving(seen: Deployment) -> bool:
    """Return whether an endpoint that is there is on its way to another arrangement, or back from there."""
    return seen.facts.get("status") != "Creating" and seen.pending not in (None, seen.facts.get("config"))


def variants_coming(seen: Deployment) -> Mapping[str, Mapping[str, Any]]:
    """Return each variant of the arrangement that the endpoint is on its way to; none where it is on none."""
    return _by_name(seen.facts.get("coming", "{}"))


def as_coming(variant: Mapping[str, Any], seen: Deployment | None) -> Mapping[str, Any]:
    """Return a new variant with the count that it is just being made with, so that it is not made twice."""
    coming = variants_coming(seen).get(variant["VariantName"], {}) if seen else {}
    same = {**variant, COUNT: coming.get(COUNT)} == coming
    return coming if same else variant


def free_slot(used: set[str]) -> str:
    """Return a name for a new variant; never the first one beside a variant that somebody else made and named."""
    taken = used if used <= set(requests.SLOTS) else {*used, requests.SLOT}
    return next(each for each in requests.SLOTS if each not in taken)


def text_of(config: Mapping[str, Any]) -> str:
    """Return the variants of an EndpointConfig as text, for `Deployment.facts`; dates and the like are left out."""
    return json.dumps({key: config[key] for key in (VARIANTS, SHADOWS) if config.get(key)}, sort_keys=True, default=str)


def variants_in(seen: Deployment) -> Mapping[str, Mapping[str, Any]]:
    """Return each variant of the arrangement that serves by its name, as it was asked for."""
    return _by_name(seen.facts.get("variants", "{}"))


def _by_name(text: str) -> dict[str, Mapping[str, Any]]:
    found = json.loads(text)
    return {each["VariantName"]: each for key in (VARIANTS, SHADOWS) for each in found.get(key, ())}


def slots_of(seen: Deployment) -> list[str]:
    """Return the names of all variants that are there, also of one whose Model is gone."""
    return list(variants_in(seen)) or [seen.facts.get("slot", requests.SLOT)]


def machines(variant: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the machine types of a variant by preference."""
    pools = sorted(variant.get("InstancePools", ()), key=lambda pool: pool["Priority"])
    return tuple(pool["InstanceType"] for pool in pools) or (str(variant.get("InstanceType", "")),)


def candidates_scaling(asked: Scaling, count: int) -> Scaling:
    """Return the scaling of a candidate that starts with `count` instances.

    The same policies from that count on, without a schedule: that is for the traffic of a day, of which a candidate has
    a part. Where no policy is, nothing moves the count.
    """
    if not (asked.target or asked.steps):
        return Scaling(count, count)
    return replace(scaling.canonical(asked), min=count, max=max(count, asked.max), schedule=())


def scaling_fact(slot: str) -> str:
    """Return under which name `Deployment.facts` has the scaling of a candidate in `slot`."""
    return f"scaling of {slot}"


def scaling_text(found: Scaling) -> str:
    """Return a candidate's scaling as text, its least count first, for `Deployment.facts`."""
    return f"{found.min} {found.max} {found.target!r} {found.steps!r}"


def is_settled(asked: Deployment, seen: Deployment) -> bool:
    """Return whether the candidate, which has its share, has what it needs for it: by the last mark, and its policies.

    Where the mark tells of a smaller share, the share was not given before what it needs; a run was cut off then.
    """
    candidate = asked.candidate
    marked = seen.facts.get("settled", "")
    if marked != requests.candidate_mark(asked) and not (candidate and _has_grown(candidate, marked)):
        return False
    if candidate is None or candidate.role is Role.SHADOW or not (asked.scaling.target or asked.scaling.steps):
        return True
    there = found_of(candidate, seen)
    found = seen.facts.get(scaling_fact(there.metric_dimension), "") if there else ""
    least = found.partition(" ")[0]
    return bool(least) and found == scaling_text(candidates_scaling(asked.scaling, int(least)))


def _has_grown(candidate: ServedRevision, marked: str) -> bool:
    """Return whether the share that a mark tells of the candidate, nothing where it tells of another, is smaller."""
    revision, _, share = marked.partition(" ")
    return candidate.share > (int(share) if revision == candidate.revision.id else 0)
