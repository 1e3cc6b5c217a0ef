"""Spec → the Deployment that it asks for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from mlscale.deployment import (
    TO_BUILD,
    WHOLE,
    Content,
    Deployment,
    Health,
    Identity,
    Kind,
    Metric,
    Role,
    RolloutWish,
    Scaling,
    ScheduledBounds,
    ServedRevision,
    StepPolicy,
    TargetPolicy,
    revision_of,
)
from mlscale.quantities import size_text
from mlscale.spec.model import Endpoint, Spec


@dataclass(frozen=True, slots=True)
class Digests:
    """Digests of the files that the spec names, None where it names none; `runtime` is the serving code's.

    `artifact` is empty for an image that has its model in it.
    """

    artifact: str
    handler: str | None
    requirements: str | None
    runtime: str | None


def identity_of(spec: Spec) -> Identity:
    """Return where the deployment is and what it is called."""
    return Identity(spec.provider, spec.name)


def wish_of(spec: Spec) -> RolloutWish:
    """Return how a new revision shall take over."""
    return RolloutWish(spec.rollout.strategy, spec.rollout.bake_time)


def deployment_of(spec: Spec, digests: Digests, sources: Mapping[str, str]) -> Deployment:
    """Return what `spec` asks for: one stable revision with all traffic.

    Args:
        spec: the checked spec.
        digests: what its files hold.
        sources: where the files with those digests are.
    """
    content = Content(
        artifact=digests.artifact,
        framework=spec.model.framework or "custom",
        framework_version=spec.model.framework_version,
        handler=digests.handler,
        requirements=digests.requirements,
        image=(spec.model.image or TO_BUILD) if spec.in_containers else None,
        runtime=digests.runtime,
        environment=dict(spec.model.environment),
        machine=_machine(spec),
        health=Health(spec.endpoint.health.path, spec.endpoint.health.startup_timeout),
    )
    return Deployment(
        identity=identity_of(spec),
        kind=Kind(spec.endpoint.kind),
        revisions=(ServedRevision(revision_of(content), Role.STABLE, WHOLE),),
        scaling=_scaling(spec.endpoint),
        labels=dict(spec.labels),
        settings={"host": spec.local.host, "port": str(spec.local.port)},
        sources=dict(sources),
        spec_hash=hashlib.sha256(spec.model_dump_json().encode()).hexdigest()[:16],
    )


def _machine(spec: Spec) -> tuple[str, ...]:
    """Return what a replica gets of this machine, a `key=value` each."""
    resources, accelerator = spec.local.resources, spec.endpoint.accelerator
    found = {
        "cpus": None if resources.cpus is None else f"{resources.cpus:g}",
        "memory": None if resources.memory is None else size_text(resources.memory),
        "gpus": None if accelerator is None else str(accelerator.gpus),
    }
    return tuple(f"{key}={value}" for key, value in found.items() if value is not None)


def _scaling(endpoint: Endpoint) -> Scaling:
    policies = endpoint.autoscaling
    return Scaling(
        min=endpoint.replicas.min,
        max=endpoint.replicas.max,
        target=tuple(
            TargetPolicy(Metric(each.metric), each.value, each.scale_in_cooldown, each.scale_out_cooldown)
            for each in policies.target
        ),
        steps=tuple(
            StepPolicy(Metric(each.metric), each.add, each.above, each.below, each.cooldown) for each in policies.steps
        ),
        schedule=tuple(ScheduledBounds(each.cron, each.timezone, each.min, each.max) for each in policies.schedule),
    )
