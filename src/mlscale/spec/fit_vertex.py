"""What of a spec does not fit Vertex AI."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

from mlscale.quantities import duration_text
from mlscale.spec.fields import GOOGLE_REGION, PROJECT
from mlscale.spec.model import Spec, Target
from mlscale.spec.section import Misfit, Path

MACHINE = r"[a-z][a-z0-9]*-[a-z0-9]+-[0-9]+[a-z]*(-lssd)?"
# The limits of EndpointService and ModelService, as their reference has them:
# docs.cloud.google.com/vertex-ai/docs/reference/rest/v1
MOST_LABELS = 58
"""Of 64; the others are ours."""
LABEL_VALUE = r"[a-z0-9_-]*"
OUR_LABELS = "mlscale-"
LONGEST_STARTUP = timedelta(hours=2)
LONGEST_SILENCE = timedelta(hours=23, minutes=30)
"""docs.cloud.google.com/monitoring/alerts/metric-absence"""
METRICS = frozenset({"cpu", "gpu", "invocations_per_replica"})
"""docs.cloud.google.com/vertex-ai/docs/predictions/autoscaling"""
WHOLE_PERCENT = 100


def misfits(spec: Spec) -> Iterator[Misfit]:
    """Yield what Vertex AI can't do of a spec, and what it needs and is not there."""
    yield from _place(spec)
    yield from _labels(spec)
    yield from _machines(spec)
    yield from _scaling(spec)
    yield from _container(spec)
    yield from _settings(spec)
    yield from _rollout(spec)
    yield from _watch(spec)


def _place(spec: Spec) -> Iterator[Misfit]:
    if spec.region is None:
        yield ("region",), "Vertex AI needs it, like us-central1"
    elif not re.fullmatch(GOOGLE_REGION, spec.region):
        yield ("region",), f"{spec.region} is no region of Google Cloud: write it like us-central1"
    if spec.account is None:
        yield ("account",), "Vertex AI needs it: the id of the project, like acme-ml"
    elif not re.fullmatch(PROJECT, spec.account):
        yield ("account",), f"{spec.account} is no id of a project: write it like acme-ml, not its number"


def _labels(spec: Spec) -> Iterator[Misfit]:
    if len(spec.labels) > MOST_LABELS:
        yield ("labels",), f"there are {len(spec.labels)}, {MOST_LABELS} at most on Vertex AI"
    for key, value in spec.labels.items():
        if key.startswith(OUR_LABELS):
            yield ("labels", key), f"a label that begins with {OUR_LABELS} is set by mlscale; choose another name"
        if not re.fullmatch(LABEL_VALUE, value):
            yield ("labels", key), "lower-case letters, digits, _ and - only, on Vertex AI"


def _machines(spec: Spec) -> Iterator[Misfit]:
    endpoint = spec.endpoint
    if endpoint.kind != "realtime":
        yield ("endpoint", "kind"), f"{endpoint.kind} is not available on Vertex AI; use realtime"
        return
    if not endpoint.machine:
        yield ("endpoint", "machine"), "Vertex AI needs a machine type, like n1-standard-4"
    for number, machine in enumerate(endpoint.machine):
        if not re.fullmatch(MACHINE, machine):
            why = f"{machine} is no machine type of Google's: they are written like n1-standard-4 or g2-standard-8"
            yield ("endpoint", "machine", number), why
        if machine in endpoint.machine[:number]:
            yield ("endpoint", "machine", number), f"{machine} is there twice"
    if endpoint.accelerator is not None and endpoint.accelerator.type is None:
        yield ("endpoint", "accelerator", "type"), "Vertex AI needs to know which: write it like nvidia-l4"


def _scaling(spec: Spec) -> Iterator[Misfit]:
    """Yield what only others scale by: Vertex AI looks every 15 s, and takes the highest target of five minutes."""
    endpoint, policies = spec.endpoint, ("endpoint", "autoscaling")
    if endpoint.kind != "realtime":
        return
    for number, target in enumerate(endpoint.autoscaling.target):
        path = (*policies, "target", number)
        if target.metric not in METRICS:
            why = (
                f"Vertex AI follows cpu, gpu and invocations_per_replica, not {target.metric or 'a metric of your own'}"
            )
            yield (*path, "custom" if target.custom else "metric"), why
        else:
            yield from _target(spec, path, target)
    if endpoint.autoscaling.steps:
        yield (*policies, "steps"), "Vertex AI has no steps: write a target"
    if endpoint.autoscaling.schedule:
        yield (*policies, "schedule"), "Vertex AI has no schedule: change replicas with a deploy at those times"


def _target(spec: Spec, path: Path, target: Target) -> Iterator[Misfit]:
    if target.value < 1 or target.value % 1:
        yield (*path, "value"), "Vertex AI takes whole numbers, 1 at least"
    elif target.metric != "invocations_per_replica" and target.value > WHOLE_PERCENT:
        yield (*path, "value"), f"{target.metric} is 1% to 100% on Vertex AI: of all that a replica has"
    if target.metric == "gpu" and spec.endpoint.accelerator is None:
        yield (*path, "metric"), "there is no GPU: write endpoint.accelerator, like {type: nvidia-l4, count: 1}"
    for key in ("scale_in_cooldown", "scale_out_cooldown"):
        if getattr(target, key) != (usual := Target.model_fields[key].default):
            why = f"Vertex AI chooses its own: leave it out, or write {duration_text(usual)} for other providers"
            yield (*path, key), why


def _container(spec: Spec) -> Iterator[Misfit]:
    health = spec.endpoint.health
    if health.path != "/ping" and spec.model.image is None:
        why = "Vertex AI's own containers have a route of theirs: leave it out; it is for model.image"
        yield ("endpoint", "health", "path"), why
    if health.startup_timeout > LONGEST_STARTUP:
        yield (
            ("endpoint", "health", "startup_timeout"),
            f"it must be {duration_text(LONGEST_STARTUP)} at most on Vertex AI",
        )


def _settings(spec: Spec) -> Iterator[Misfit]:
    settings = spec.vertex
    if settings.encryption_key and spec.region and (there := settings.encryption_key.split("/")[3]) != spec.region:
        yield ("vertex", "encryption_key"), f"the key is in {there}, and it must be in {spec.region}, as the endpoint"
    if settings.network is None:
        return
    if settings.dedicated_endpoint:
        why = "an endpoint in a network has no public name: leave out this, or vertex.network"
        yield ("vertex", "dedicated_endpoint"), why


def _rollout(spec: Spec) -> Iterator[Misfit]:
    rollout = spec.rollout
    if spec.vertex.network is not None:
        if rollout.strategy != "all_at_once":
            why = "an endpoint in a network holds one model, which Vertex AI switches all at once"
            yield ("rollout", "strategy"), why
        return
    if rollout.strategy == "shadow":
        yield ("rollout", "strategy"), "Vertex AI splits requests, and gives nobody copies of them: use canary"
    if rollout.strategy == "rolling":
        why = "Vertex AI replaces replicas between versions of one Model alone, and a revision is a Model of its own"
        yield ("rollout", "strategy"), why
    if rollout.driver == "native":
        why = f"Vertex AI has no {rollout.strategy} rollout of its own, with alarms that guard it: use weights"
        yield ("rollout", "driver"), why
    shares: dict[Path, float] = {("step",): rollout.step} if rollout.strategy == "linear" else {}
    if rollout.strategy == "canary":
        shares = {("steps", number): share for number, share in enumerate(rollout.steps)}
    for path, share in shares.items():
        if share % 1:
            yield ("rollout", *path), "Vertex AI splits traffic in whole percents"


def _watch(spec: Spec) -> Iterator[Misfit]:
    silence, notify = spec.alarms.no_invocations, spec.alarms.notify
    if silence is not None and (silence.total_seconds() % 60 or silence > LONGEST_SILENCE):
        yield ("alarms", "no_invocations"), f"it must be whole minutes, {duration_text(LONGEST_SILENCE)} at most"
    for number, told in enumerate(notify):
        if told.startswith("arn:"):
            why = "Vertex AI's alarms tell channels: write it like projects/acme-ml/notificationChannels/123"
            yield ("alarms", "notify", number), why
        if told in notify[:number]:
            yield ("alarms", "notify", number), f"{told} is there twice"
