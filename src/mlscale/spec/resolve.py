"""Spec → the Deployment that it asks for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from mlscale.deployment import (
    AT_ONCE,
    TO_BUILD,
    WHOLE,
    Auxiliary,
    AuxiliaryKind,
    Content,
    CustomMetric,
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
from mlscale.quantities import duration_text, latency_text, percent_text, size_text
from mlscale.spec.model import Endpoint, Serverless, Spec, Target, VertexSettings


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
    if spec.provider == "local":
        return Identity(spec.provider, spec.name)
    account, role = spec.account, spec.sagemaker.role
    if spec.provider == "sagemaker" and account is None and role:
        account = role.split(":")[4]  # a role serves in its own account only
    return Identity(spec.provider, spec.name, account, spec.region)


def wish_of(spec: Spec) -> RolloutWish:
    """Return how a new revision shall take over by what the provider does; at once where mlscale goes the steps."""
    rollout = spec.rollout
    match rollout.strategy:
        case "all_at_once" | "blue_green":
            return RolloutWish(rollout.strategy, rollout.bake_time)
        case "rolling":
            return RolloutWish("rolling", steps=(_basis_points(rollout.step),), interval=rollout.interval)
        case "canary" | "linear" if rollout.driver == "native":
            return RolloutWish(rollout.strategy, steps=shares_of(spec), interval=rollout.interval)
        case _:
            return AT_ONCE


def is_driven(spec: Spec) -> bool:
    """Return whether mlscale goes the steps of a rollout itself."""
    return bool(shares_of(spec)) and wish_of(spec) == AT_ONCE


def shares_of(spec: Spec) -> tuple[int, ...]:
    """Return the shares, in basis points, that a new revision gets before all; none where it takes over at once.

    Of a shadow it is the share of the requests that it gets copies of.
    """
    rollout = spec.rollout
    match rollout.strategy:
        case "canary":
            return tuple(_basis_points(each) for each in rollout.steps)
        case "linear":
            step = _basis_points(rollout.step)
            return tuple(range(step, WHOLE, step))
        case "shadow":
            return (_basis_points(rollout.mirror),)
        case _:
            return ()


def _basis_points(percent: float) -> int:
    """Return a percentage in basis points, one at least."""
    return max(1, round(percent * 100))


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
        image=_image(spec),
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
        settings=_settings(spec),
        sources=dict(sources),
        auxiliaries=_auxiliaries(spec),
        spec_hash=hashlib.sha256(spec.model_dump_json().encode()).hexdigest()[:16],
    )


def ignored_by(spec: Spec) -> tuple[str, ...]:
    """Return a line for each thing that the spec says, and its provider has no use for."""
    if spec.provider != "local":
        return ()
    alarms = any(getattr(spec.alarms, key) is not None for key in ("p99_latency", "error_rate", "no_invocations"))
    typed = spec.endpoint.accelerator is not None and spec.endpoint.accelerator.type is not None
    return (
        *(("endpoint.machine is for a cloud: it changes nothing here",) if spec.endpoint.machine else ()),
        *(("endpoint.accelerator.type is for a cloud: here gpus says what a replica sees",) if typed else ()),
        *(("alarms are for a cloud: nothing watches a deployment on this machine",) if alarms else ()),
    )


def _image(spec: Spec) -> str | None:
    """Return the image that the spec names; on this machine also the one to build, where replicas are containers."""
    if spec.provider == "local" and not spec.in_containers:
        return None
    return spec.model.image or (TO_BUILD if spec.provider == "local" else None)


def _settings(spec: Spec) -> dict[str, str]:
    match spec.provider:
        case "local":
            return {"host": spec.local.host, "port": str(spec.local.port)}
        case "sagemaker":
            found = _sagemaker_settings(spec)
        case "vertex":
            found = _vertex_settings(spec.vertex)
        case _:
            assert_never(spec.provider)
    return {key: value for key, value in found.items() if value}


def _sagemaker_settings(spec: Spec) -> dict[str, str | None]:
    own, serverless, answers = spec.sagemaker, spec.endpoint.serverless, spec.endpoint.async_inference
    capture = own.data_capture
    if spec.endpoint.kind == "serverless" and serverless is None:
        serverless = Serverless()
    return {
        "role": own.role,
        "subnets": " ".join(sorted(own.subnets)),
        "security_groups": " ".join(sorted(own.security_groups)),
        "network_isolation": "true" if own.network_isolation else None,
        "kms_key": own.kms_key,
        "volume_size": size_text(own.volume_size) if own.volume_size else None,
        "data_capture": f"{percent_text(capture.share)} to {capture.destination}" if capture else None,
        "serverless.memory": size_text(serverless.memory) if serverless else None,
        "serverless.concurrency": str(serverless.concurrency) if serverless else None,
        "serverless.provisioned": str(serverless.provisioned) if serverless and serverless.provisioned else None,
        "async_inference.output": answers.output if answers else None,
        "async_inference.failures": answers.failures if answers else None,
        "async_inference.concurrency": str(answers.concurrency) if answers and answers.concurrency else None,
        "async_inference.notify_success": answers.notify_success if answers else None,
        "async_inference.notify_error": answers.notify_error if answers else None,
    }


def _vertex_settings(own: VertexSettings) -> dict[str, str | None]:
    logging = own.request_logging
    return {
        "service_account": own.service_account,
        "network": own.network,
        "encryption_key": own.encryption_key,
        "dedicated_endpoint": "true" if own.dedicated_endpoint else None,
        "request_logging": f"{percent_text(logging.share)} to {logging.destination}" if logging else None,
    }


def _auxiliaries(spec: Spec) -> tuple[Auxiliary, ...]:
    if spec.provider == "local":
        return ()
    alarms = spec.alarms
    wanted = {
        "p99_latency": ("above", latency_text(alarms.p99_latency) if alarms.p99_latency else None),
        "error_rate": ("above", percent_text(alarms.error_rate) if alarms.error_rate else None),
        "no_invocations": ("for", duration_text(alarms.no_invocations) if alarms.no_invocations else None),
    }
    told = {"notify": " ".join(sorted(alarms.notify))} if alarms.notify else {}
    found = [
        Auxiliary(AuxiliaryKind.ALARM, key, {word: value, **told}) for key, (word, value) in wanted.items() if value
    ]
    if spec.sagemaker.dashboard if spec.provider == "sagemaker" else spec.vertex.dashboard:
        found.append(Auxiliary(AuxiliaryKind.DASHBOARD, "endpoint", {"shows": "requests, latency, machines"}))
    return tuple(found)


def _machine(spec: Spec) -> tuple[str, ...]:
    """Return the cloud's machine types by preference; here what a replica gets of this machine, a `key=value` each.

    A type on Vertex AI says what it has besides, as `providers.vertex.machines` reads it.
    """
    resources, accelerator = spec.local.resources, spec.endpoint.accelerator
    if spec.provider == "vertex":
        gpus = f"+{accelerator.count}x{accelerator.type}" if accelerator else ""
        spot = "+spot" if spec.endpoint.capacity == "spot" else ""
        return tuple(f"{machine}{gpus}{spot}" for machine in spec.endpoint.machine)
    if spec.provider == "sagemaker":
        return spec.endpoint.machine
    found = {
        "cpus": None if resources.cpus is None else f"{resources.cpus:g}",
        "memory": None if resources.memory is None else size_text(resources.memory),
        "gpus": None if accelerator is None or accelerator.gpus is None else str(accelerator.gpus),
    }
    return tuple(f"{key}={value}" for key, value in found.items() if value is not None)


def _scaling(endpoint: Endpoint) -> Scaling:
    policies = endpoint.autoscaling
    if endpoint.kind == "serverless":
        return Scaling(min=0, max=0)
    return Scaling(
        min=endpoint.replicas.min,
        max=endpoint.replicas.max,
        target=tuple(
            TargetPolicy(
                Metric(each.metric or "custom"),
                each.value,
                each.scale_in_cooldown,
                each.scale_out_cooldown,
                _custom(each),
            )
            for each in policies.target
        ),
        steps=tuple(
            StepPolicy(Metric(each.metric), each.add, each.above, each.below, each.cooldown) for each in policies.steps
        ),
        schedule=tuple(ScheduledBounds(each.cron, each.timezone, each.min, each.max) for each in policies.schedule),
    )


def _custom(target: Target) -> CustomMetric | None:
    own = target.custom
    return CustomMetric(own.namespace, own.name, own.statistic, dict(own.dimensions)) if own else None
