"""What of a spec does not fit Amazon SageMaker."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import timedelta

from mlscale.quantities import duration_text
from mlscale.spec.fields import AWS_ACCOUNT, AWS_REGION
from mlscale.spec.model import Serverless, Spec
from mlscale.spec.section import Misfit, Path

# The limits of SageMaker's CreateModel, CreateEndpointConfig and UpdateEndpoint, as their reference has them:
# docs.aws.amazon.com/sagemaker/latest/APIReference
MOST_LABELS = 30
"""Of 50 tags; the others are ours."""
MOST_VARIABLES = 80
"""Of 100; the others are ours."""
LONGEST_VARIABLE = 1024
LEAST_STARTUP, LONGEST_STARTUP = timedelta(minutes=1), timedelta(hours=1)
LONGEST_BAKE = timedelta(hours=1)
WHOLE_GI = 2**30
MOST_WORKER_GI = 6
MOST_VOLUME_GI = 512
LONGEST_SILENCE = timedelta(days=1)
"""An alarm looks back no further by the minute."""
NOT_SERVERLESS = ("subnets", "security_groups", "network_isolation", "kms_key", "volume_size", "data_capture")


def misfits(spec: Spec) -> Iterator[Misfit]:
    """Yield what SageMaker can't do of a spec, and what it needs and is not there."""
    yield from _place(spec)
    yield from _machines(spec)
    yield from _workers(spec)
    yield from _network(spec)
    yield from _container(spec)
    yield from _switch(spec)
    yield from _watch(spec)


def _place(spec: Spec) -> Iterator[Misfit]:
    """Yield what is wrong with where the endpoint is to be, and as whom the model runs there."""
    role, account = spec.sagemaker.role, spec.account
    if spec.region is None:
        yield ("region",), "SageMaker needs it, like us-east-1"
    elif not re.fullmatch(AWS_REGION, spec.region):
        yield ("region",), f"{spec.region} is no region of AWS: write it like us-east-1"
    if role is None:
        yield ("sagemaker", "role"), "the model runs as a role: write its ARN, like arn:aws:iam::123456789012:role/ml"
    if account is not None and not re.fullmatch(AWS_ACCOUNT, account):
        yield ("account",), f'{account} is no account of AWS: write it like "123456789012"'
    elif account is not None and role is not None and (owner := role.split(":")[4]) != account:
        yield ("account",), f"it is {account}, and sagemaker.role is in {owner}"
    if len(spec.labels) > MOST_LABELS:
        yield ("labels",), f"there are {len(spec.labels)}, {MOST_LABELS} at most on SageMaker"


def _machines(spec: Spec) -> Iterator[Misfit]:
    endpoint, volume = spec.endpoint, spec.sagemaker.volume_size
    if endpoint.accelerator is not None:
        yield ("endpoint", "accelerator"), "SageMaker's machine types have their GPUs: choose one like ml.g5.xlarge"
    if endpoint.kind != "serverless" and not endpoint.machine:
        yield ("endpoint", "machine"), "SageMaker needs a machine type, like ml.c6i.xlarge"
    for number, machine in enumerate(endpoint.machine):
        if not machine.startswith("ml."):
            why = f"{machine} is no machine type of SageMaker: they begin with ml., like ml.c6i.xlarge"
            yield ("endpoint", "machine", number), why
    yield from _twice(("endpoint", "machine"), endpoint.machine)
    if volume is not None and (volume % WHOLE_GI or volume > MOST_VOLUME_GI * WHOLE_GI):
        yield ("sagemaker", "volume_size"), f"it must be 1Gi to {MOST_VOLUME_GI}Gi, whole Gi"


def _workers(spec: Spec) -> Iterator[Misfit]:
    """Yield what a serverless endpoint can't have."""
    if spec.endpoint.kind != "serverless":
        return
    for key in NOT_SERVERLESS:
        if getattr(spec.sagemaker, key):
            yield ("sagemaker", key), "a serverless endpoint has none"
    workers = spec.endpoint.serverless or Serverless()
    if workers.memory % WHOLE_GI or workers.memory > MOST_WORKER_GI * WHOLE_GI:
        yield ("endpoint", "serverless", "memory"), f"it must be 1Gi to {MOST_WORKER_GI}Gi, whole Gi"
    if workers.provisioned is not None and workers.provisioned > workers.concurrency:
        why = f"provisioned {workers.provisioned} is more than concurrency {workers.concurrency}"
        yield ("endpoint", "serverless", "provisioned"), why


def _network(spec: Spec) -> Iterator[Misfit]:
    settings = spec.sagemaker
    absent = [key for key in ("subnets", "security_groups") if not getattr(settings, key)]
    if len(absent) == 1:
        yield ("sagemaker", *absent), "subnets and security_groups go together"
    yield from _twice(("sagemaker", "subnets"), settings.subnets)
    yield from _twice(("sagemaker", "security_groups"), settings.security_groups)
    if settings.network_isolation and spec.model.requirements is not None:
        why = "a container that may call nothing outside can't install model.requirements: use an image that has them"
        yield ("sagemaker", "network_isolation"), why


def _twice(path: Path, values: Sequence[str]) -> Iterator[Misfit]:
    for number, value in enumerate(values):
        if value in values[:number]:
            yield (*path, number), f"{value} is there twice"


def _container(spec: Spec) -> Iterator[Misfit]:
    model, health = spec.model, spec.endpoint.health
    if len(model.environment) > MOST_VARIABLES:
        yield ("model", "environment"), f"there are {len(model.environment)}, {MOST_VARIABLES} at most on SageMaker"
    for name, value in model.environment.items():
        if len(value) > LONGEST_VARIABLE:
            why = f"it has {len(value):,} characters, {LONGEST_VARIABLE:,} at most on SageMaker"
            yield ("model", "environment", name), why
    if health.path != "/ping":
        yield ("endpoint", "health", "path"), "SageMaker asks at /ping, and nowhere else"
    if not LEAST_STARTUP <= health.startup_timeout <= LONGEST_STARTUP:
        bounds = f"{duration_text(LEAST_STARTUP)} to {duration_text(LONGEST_STARTUP)}"
        yield ("endpoint", "health", "startup_timeout"), f"it must be {bounds} on SageMaker"


def _switch(spec: Spec) -> Iterator[Misfit]:
    """Yield what can't be done of a blue/green switch, where SageMaker would say nothing and switch at once."""
    if spec.rollout.strategy != "blue_green":
        return
    if spec.endpoint.kind == "serverless":
        yield ("rollout", "strategy"), "SageMaker switches a serverless endpoint all at once"
    if any(machine.startswith("ml.inf1.") for machine in spec.endpoint.machine):
        yield ("rollout", "strategy"), "SageMaker switches all at once, without bake time, where a machine is ml.inf1"
    if spec.rollout.bake_time > LONGEST_BAKE:
        yield ("rollout", "bake_time"), f"it must be {duration_text(LONGEST_BAKE)} at most on SageMaker"


def _watch(spec: Spec) -> Iterator[Misfit]:
    capture, silence = spec.sagemaker.data_capture, spec.alarms.no_invocations
    if capture is not None and capture.share % 1:
        yield ("sagemaker", "data_capture", "share"), "it must be a whole percentage"
    if silence is not None and (silence.total_seconds() % 60 or silence > LONGEST_SILENCE):
        yield ("alarms", "no_invocations"), f"it must be whole minutes, {duration_text(LONGEST_SILENCE)} at most"
    for number, topic in enumerate(spec.alarms.notify):
        if not topic.startswith("arn:"):
            why = "SageMaker's alarms tell topics: write it like arn:aws:sns:us-east-1:123456789012:ml"
            yield ("alarms", "notify", number), why
        elif spec.region is not None and (there := topic.split(":")[3]) != spec.region:
            why = f"the topic is in {there}, and an alarm in {spec.region} tells topics of its own region only"
            yield ("alarms", "notify", number), why
    yield from _twice(("alarms", "notify"), spec.alarms.notify)
