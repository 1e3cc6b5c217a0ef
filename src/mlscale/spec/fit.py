"""What of a spec does not fit the provider that it names."""

from __future__ import annotations

from collections.abc import Iterator

from mlscale.spec.model import Spec, followed
from mlscale.spec.section import Misfit

LOCAL_METRICS = frozenset({"invocations_per_replica", "concurrency", "cpu"})


def misfits(spec: Spec) -> Iterator[Misfit]:
    """Yield what the spec's provider can't do, and what it needs and is not there.

    What is for another provider alone is none of it, so that one file may be for all of them.
    """
    if spec.provider != "sagemaker":
        yield from _cloudwatch(spec)
    match spec.provider:
        case "local":
            yield from _spot(spec, "this machine")
            yield from _needs_a_cloud(spec)
            if not spec.in_containers:
                yield from _needs_containers(spec)
        case "sagemaker":
            from mlscale.spec import fit_sagemaker

            yield from _spot(spec, "SageMaker")
            yield from fit_sagemaker.misfits(spec)
        case "vertex":
            from mlscale.spec import fit_vertex

            yield from fit_vertex.misfits(spec)


def _spot(spec: Spec, where: str) -> Iterator[Misfit]:
    if spec.endpoint.capacity == "spot":
        yield ("endpoint", "capacity"), f"{where} has no endpoint on spot capacity; Vertex AI has"


def _cloudwatch(spec: Spec) -> Iterator[Misfit]:
    for number, own in enumerate(spec.rollout.analysis.custom):
        if own.cloudwatch is not None:
            path = ("rollout", "analysis", "custom", number, "cloudwatch")
            yield path, "CloudWatch is asked with provider: sagemaker alone; use promql or command"


def _needs_a_cloud(spec: Spec) -> Iterator[Misfit]:
    """Yield what this machine can't do; that machines and alarms change nothing here is a warning of the plan."""
    if spec.endpoint.kind != "realtime":
        yield ("endpoint", "kind"), f"{spec.endpoint.kind} is not available on this machine; use realtime"
    if spec.model.framework in ("tensorflow", "huggingface"):
        yield ("model", "framework"), f"{spec.model.framework} is not served on this machine; use custom and a handler"
    for path, metric in followed(spec.endpoint.autoscaling):
        if metric not in LOCAL_METRICS:
            why = f"{metric or 'a metric of your own'} is not measured on this machine"
            yield ("endpoint", "autoscaling", *path), why


def _needs_containers(spec: Spec) -> Iterator[Misfit]:
    if spec.model.image is not None:
        yield ("local", "runtime"), "an image runs as a container: write docker, or leave it out"
    if spec.endpoint.accelerator is not None and spec.endpoint.accelerator.gpus is not None:
        yield (
            ("endpoint", "accelerator"),
            "a process sees every GPU of this machine; to give it some, write local: {runtime: docker}",
        )
    for key in ("cpus", "memory"):
        if getattr(spec.local.resources, key) is not None:
            yield (
                ("local", "resources", key),
                "a process has no limits of its own; to give it some, write local: {runtime: docker}",
            )
