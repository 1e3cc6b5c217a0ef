"""Models deployed to endpoints: how they start, change their size, and go."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format

from tests.doubles.vertex import endpoints, etags, logs, machines, models, operations, protos, quotas, traffic
from tests.doubles.vertex.call import Call
from tests.doubles.vertex.refusal import Refusal, invalid, missing, precondition, wrong_field
from tests.doubles.vertex.world import Later, Region, Script, World, stamp

ID = re.compile(r"[0-9]{1,10}")
METRICS = frozenset(
    f"aiplatform.googleapis.com/prediction/online/{name}"
    for name in ("cpu/utilization", "accelerator/duty_cycle", "request_count")
) | {
    "prometheus.googleapis.com/vertex_dcgm_fi_dev_gpu_util",
    "prometheus.googleapis.com/vertex_vllm_gpu_cache_usage_perc",
    "prometheus.googleapis.com/vertex_vllm_num_requests_waiting",
    "pubsub.googleapis.com/subscription/num_undelivered_messages",
}
PERCENT = re.compile(r".*(utilization|duty_cycle|gpu_util|usage_perc)")
MUTATED = frozenset({
    "dedicated_resources.min_replica_count", "dedicated_resources.max_replica_count",
    "dedicated_resources.required_replica_count", "dedicated_resources.autoscaling_metric_specs",
    "automatic_resources.min_replica_count", "automatic_resources.max_replica_count", "disable_container_logging",
})  # fmt: skip

SEE_LOGS = "Model server logs can be found at {logs}."
FAILURES = {
    "server": (
        "FAILED_PRECONDITION",
        "Model server exited unexpectedly. " + SEE_LOGS,
    ),
    "terminated": (
        "FAILED_PRECONDITION",
        "Model server terminated: model server container terminated. " + SEE_LOGS,
    ),
    "health": (
        "FAILED_PRECONDITION",
        "Model server never became ready. Please validate that your model file or container configuration are valid. "
        + SEE_LOGS,
    ),
    "image": ("INVALID_ARGUMENT", "Failed to pull the container image. Check that the image exists and may be read."),
    "capacity": (
        "RESOURCE_EXHAUSTED",
        "Resources are insufficient in region: {region}. Please try a different region or machine type.",
    ),
    "internal": ("INTERNAL", "INTERNAL"),
}
"""Codes and words by short name: # rule failure.server, # rule failure.terminated, # rule failure.health,
# rule failure.image, # rule failure.capacity, # rule failure.internal."""

STARTING = ("Starting the model server", "Loading the model", "Listening on port 8080")
FAILING = (
    "Starting the model server",
    "Loading the model",
    "Traceback (most recent call last):",
    "model failed to load",
)


def deploy_model(world: World, request: Any, call: Call) -> Any:
    """Start to deploy a model to an endpoint."""
    region, endpoint = endpoints.found(world, request.endpoint)
    endpoints.free(world, endpoint)
    deployed = protos.message("DeployedModel")()
    deployed.CopyFrom(request.deployed_model)
    if not deployed.model:
        raise wrong_field("deploy.model", "deployed_model.model", "Required field is not set.")
    _, model = models.found(world, deployed.model)
    _check_id(endpoint, deployed)
    _check_resources(deployed, model, call)
    split = dict(request.traffic_split)
    present = {each.id for each in endpoint.deployed_models}
    traffic.check(split, present | {traffic.NEW}, "traffic_split")
    if endpoint.network and present:
        # rule deploy.private
        raise precondition("deploy.private", "A private Endpoint can have only one DeployedModel.")
    quotas.check(region, quotas.need(deployed.dedicated_resources, deployed.dedicated_resources.min_replica_count))
    _complete(region, endpoint, deployed, model)
    script = _scripted(world, region, endpoint, deployed)
    _say(region, endpoint, deployed, script)

    def arrive() -> Any:
        _arrive(region, endpoint, deployed, model, split)
        return protos.message("DeployModelResponse")(deployed_model=deployed)

    started = operations.begun(
        region,
        call,
        endpoint.name,
        arrive if script.outcome != "ineffective" else protos.message("DeployModelResponse"),
        metadata="DeployModelOperationMetadata",
        fails=_failure(region, endpoint, script),
        stuck=script.outcome == "stuck",
    )
    world.operations[started.name].uses = model.name
    return started


def _check_id(endpoint: Any, deployed: Any) -> None:
    if deployed.id and not ID.fullmatch(deployed.id):
        raise wrong_field("deploy.id", "deployed_model.id", "must be 1 to 10 digits")
    if deployed.id in {each.id for each in endpoint.deployed_models}:
        words = f"DeployedModel {deployed.id} already exists in Endpoint {endpoint.name}."
        raise Refusal("deploy.duplicate", "ALREADY_EXISTS", words)


def _check_resources(deployed: Any, model: Any, call: Call) -> None:
    match deployed.WhichOneof("prediction_resources"):
        case "dedicated_resources":
            machines.check(deployed.dedicated_resources.machine_spec, "deployed_model.dedicated_resources.machine_spec")
            _check_size(deployed.dedicated_resources, call)
        case "automatic_resources":
            words = f"'automatic_resources' is not supported for Model {model.name}."
            raise invalid("deploy.automatic", words)
        case "shared_resources":
            words = "DeploymentResourcePools are not imitated by this double"
            raise Refusal("deploy.shared", "UNIMPLEMENTED", words)
        case _:
            raise wrong_field("deploy.resources", "deployed_model.dedicated_resources", "Required field is not set.")


def _check_size(resources: Any, call: Call) -> None:
    """Return if the replicas' bounds and what moves them between these are right; fill in what was left out."""
    field = "deployed_model.dedicated_resources"
    # rule deploy.scale-to-zero
    least = 0 if call.version == "v1beta1" else 1
    if resources.min_replica_count < least:
        raise wrong_field("deploy.min", f"{field}.min_replica_count", f"must be at least {least}")
    # rule deploy.max-default
    resources.max_replica_count = resources.max_replica_count or max(resources.min_replica_count, 1)
    if resources.max_replica_count < resources.min_replica_count:
        raise wrong_field("deploy.max", f"{field}.max_replica_count", "must not be below min_replica_count")
    if not 0 <= resources.required_replica_count <= resources.min_replica_count:
        raise wrong_field("deploy.required", f"{field}.required_replica_count", "must not be above min_replica_count")
    names = [each.metric_name for each in resources.autoscaling_metric_specs]
    if len(names) != len(set(names)):
        raise wrong_field("deploy.metric-twice", f"{field}.autoscaling_metric_specs", "one spec a metric")
    for spec in resources.autoscaling_metric_specs:
        if spec.metric_name not in METRICS:
            words = f"unsupported metric {spec.metric_name}"
            raise wrong_field("deploy.metric", f"{field}.autoscaling_metric_specs.metric_name", words)
        if spec.target < 0 or (PERCENT.fullmatch(spec.metric_name) and spec.target > traffic.ALL):
            words = "must be from 1 to 100"
            raise wrong_field("deploy.target", f"{field}.autoscaling_metric_specs.target", words)
        spec.target = spec.target or 60


def _complete(region: Region, endpoint: Any, deployed: Any, model: Any) -> None:
    """Fill in what the service says of a deployed model."""
    # rule deploy.output
    deployed.id = deployed.id or region.world.new_number(10)
    deployed.model, deployed.model_version_id = model.name, model.version_id
    deployed.display_name = deployed.display_name or model.display_name
    spec = deployed.dedicated_resources.machine_spec
    spec.machine_type = spec.machine_type or machines.DEFAULT
    stamp(deployed.create_time, region.now())
    if endpoint.network:
        deployed.private_endpoints.predict_http_uri = f"http://{deployed.id}.aiplatform.googleapis.com/v1/predict"


def _scripted(world: World, region: Region, endpoint: Any, deployed: Any) -> Script:
    """Return how a deployment ends: as scripted, or without capacity, or well."""
    script = world.script(endpoint.name.rpartition("/")[2], "deploy")
    if script is None and without_capacity(region, deployed.dedicated_resources):
        # rule capacity.insufficient
        return Script("", "deploy", "fail", "capacity")
    return script or Script("", "deploy", "done")


def without_capacity(region: Region, resources: Any) -> bool:
    """Return whether the region has none left of a machine or its accelerator, on spot or not."""
    spec = resources.machine_spec
    settings = region.world.settings
    none_left = settings.no_spot_capacity if getattr(resources, "spot", False) else settings.no_capacity
    return bool({spec.machine_type or machines.DEFAULT, machines.accelerator(spec), "*"} & set(none_left))


def _failure(region: Region, endpoint: Any, script: Script) -> tuple[str, str] | None:
    if script.outcome != "fail":
        return None
    code, words = FAILURES.get(script.reason or "server", ("FAILED_PRECONDITION", script.reason))
    return code, words.replace("{region}", region.name).replace("{logs}", logs.console(region, endpoint))


def _say(region: Region, endpoint: Any, deployed: Any, script: Script) -> None:
    """Write what the container prints."""
    if deployed.disable_container_logging or script.reason in {"capacity", "image"}:
        return
    lines = script.lines or (FAILING if script.outcome == "fail" else STARTING)
    logs.write_container(region, endpoint, deployed, lines, severity="ERROR" if script.outcome == "fail" else "INFO")


def _arrive(region: Region, endpoint: Any, deployed: Any, model: Any, split: Mapping[str, int]) -> None:
    resources = deployed.dedicated_resources
    # rule deploy.partial
    _available(region, deployed, resources.required_replica_count or resources.min_replica_count)
    endpoint.deployed_models.append(deployed)
    if split:
        # rule deploy.new-is-zero
        whole = {deployed.id if key == traffic.NEW else key: share for key, share in split.items()}
        endpoint.traffic_split.clear()
        endpoint.traffic_split.update(whole)
    # rule deploy.no-split
    model.deployed_models.add(endpoint=endpoint.name, deployed_model_id=deployed.id)
    etags.touch(region, endpoint)
    if deployed.status.available_replica_count < resources.min_replica_count:
        _complete_later(region, endpoint, deployed.id)


def _complete_later(region: Region, endpoint: Any, deployed_id: str) -> None:
    """Let the rest of the replicas come."""

    def come() -> None:
        deployed = of(endpoint, deployed_id)
        if deployed is not None:
            _available(region, deployed, deployed.dedicated_resources.min_replica_count)

    region.world.later.append(Later(region.now() + region.world.delay("DeployModel"), come))


def _available(region: Region, deployed: Any, count: int) -> None:
    deployed.status.available_replica_count = count
    stamp(deployed.status.last_update_time, region.now())


def of(endpoint: Any, name: str) -> Any:
    """Return the deployed model of an ID or a display name, None if there is none."""
    return next((each for each in endpoint.deployed_models if name in {each.id, each.display_name}), None)


def _present(endpoint: Any, deployed_id: str) -> Any:
    deployed = next((each for each in endpoint.deployed_models if each.id == deployed_id), None)
    if deployed is None:
        words = f"The DeployedModel {deployed_id} does not exist in Endpoint {endpoint.name}."
        raise missing("undeploy.missing", words)
    return deployed


def undeploy_model(world: World, request: Any, call: Call) -> Any:
    """Start to take a deployed model away."""
    region, endpoint = endpoints.found(world, request.endpoint)
    endpoints.free(world, endpoint)
    deployed = _present(endpoint, request.deployed_model_id)
    split = dict(request.traffic_split)
    traffic.check(split, {each.id for each in endpoint.deployed_models}, "traffic_split")
    last = len(endpoint.deployed_models) == 1
    share = (split or endpoint.traffic_split).get(deployed.id, 0)
    if share and not last:
        words = f"DeployedModel {deployed.id} has {share} percent of the traffic and can't be undeployed."
        raise precondition("undeploy.traffic", f"{words} Set traffic_split so that it has none.")
    if split and not last:
        # rule undeploy.split
        endpoint.traffic_split.clear()
        endpoint.traffic_split.update(split)
        etags.touch(region, endpoint)

    def leave() -> Any:
        _leave(region, endpoint, deployed.id)
        return protos.message("UndeployModelResponse")()

    script = world.script(endpoint.name.rpartition("/")[2], "undeploy") or Script("", "undeploy", "done")
    return operations.begun(
        region,
        call,
        endpoint.name,
        leave if script.outcome != "ineffective" else protos.message("UndeployModelResponse"),
        metadata="UndeployModelOperationMetadata",
        fails=_failure(region, endpoint, script),
        stuck=script.outcome == "stuck",
    )


def _leave(region: Region, endpoint: Any, deployed_id: str) -> None:
    kept = [each for each in endpoint.deployed_models if each.id != deployed_id]
    gone = _present(endpoint, deployed_id)
    model = region.models.get(gone.model.rpartition("/")[2])
    if model is not None:
        places = [
            each
            for each in model.deployed_models
            if (each.endpoint, each.deployed_model_id) != (endpoint.name, deployed_id)
        ]
        del model.deployed_models[:]
        model.deployed_models.extend(places)
    del endpoint.deployed_models[:]
    endpoint.deployed_models.extend(kept)
    # rule undeploy.last
    endpoint.traffic_split.pop(deployed_id, None)
    etags.touch(region, endpoint)


def mutate_deployed_model(world: World, request: Any, call: Call) -> Any:
    """Start to change how many replicas a deployed model may have, and what moves them."""
    region, endpoint = endpoints.found(world, request.endpoint)
    endpoints.free(world, endpoint)
    deployed = _present(endpoint, request.deployed_model.id)
    paths = list(request.update_mask.paths)
    wrong = [each for each in paths if each not in MUTATED]
    if wrong or not paths:
        words = f"{', '.join(wrong)} can't be mutated" if wrong else "must not be empty"
        raise wrong_field("mutate.mask", "update_mask", words)
    wanted = protos.message("DeployedModel")()
    wanted.CopyFrom(deployed)
    for path in paths:
        _take(wanted, request.deployed_model, path)
    _check_size(wanted.dedicated_resources, call)
    more = wanted.dedicated_resources.min_replica_count - deployed.status.available_replica_count
    quotas.check(region, quotas.need(wanted.dedicated_resources, max(more, 0)))
    script = world.script(endpoint.name.rpartition("/")[2], "mutate") or Script("", "mutate", "done")
    if script.outcome == "done" and more > 0 and without_capacity(region, wanted.dedicated_resources):
        script = Script("", "mutate", "fail", "capacity")

    def arrive() -> Any:
        now = of(endpoint, wanted.id)
        for path in paths:
            _take(now, wanted, path)
        resources = now.dedicated_resources
        # rule mutate.replicas
        count = max(resources.min_replica_count, min(now.status.available_replica_count, resources.max_replica_count))
        _available(region, now, count)
        etags.touch(region, endpoint)
        return protos.message("MutateDeployedModelResponse")(deployed_model=now)

    return operations.begun(
        region,
        call,
        endpoint.name,
        arrive if script.outcome != "ineffective" else protos.message("MutateDeployedModelResponse"),
        metadata="MutateDeployedModelOperationMetadata",
        fails=_failure(region, endpoint, script),
        stuck=script.outcome == "stuck",
    )


def _take(kept: Any, asked: Any, path: str) -> None:
    """Take over one field."""
    group, _, field = path.rpartition(".")
    source, target = (getattr(asked, group), getattr(kept, group)) if group else (asked, kept)
    target.ClearField(field)
    if field == "autoscaling_metric_specs":
        target.autoscaling_metric_specs.extend(source.autoscaling_metric_specs)
    else:
        setattr(target, field, getattr(source, field))


def plain(message: Any) -> Any:
    """Return a message as JSON has it, with the names of the protocol."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


OPERATIONS = {
    ("EndpointService", "DeployModel"): deploy_model,
    ("EndpointService", "UndeployModel"): undeploy_model,
    ("EndpointService", "MutateDeployedModel"): mutate_deployed_model,
}
