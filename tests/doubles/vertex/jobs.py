"""Jobs: batch predictions and custom jobs, which are no operations: their state says how far they are."""

from __future__ import annotations

import json
import re
from typing import Any

from google.protobuf import empty_pb2
from google.rpc import code_pb2

from tests.doubles.vertex import deployments, labels, listing, machines, models, operations, protos, quotas
from tests.doubles.vertex.call import Call
from tests.doubles.vertex.refusal import missing, precondition, wrong_field
from tests.doubles.vertex.world import Later, Region, Script, World, stamp

INPUTS = frozenset({"jsonl", "csv", "tf-record", "tf-record-gzip", "file-list", "bigquery"})
OUTPUTS = frozenset({"jsonl", "csv", "bigquery"})
DONE = ("JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED")
FIELDS = ("display_name", "model", "state", "create_time", "update_time")


def _state(name: str) -> int:
    return int(protos.enum("JobState")[name])


def _is_done(job: Any) -> bool:
    return job.state in {_state(name) for name in DONE}


def _held(world: World, name: str) -> tuple[Region, dict[str, Any]]:
    region, rest = world.located(name)
    kinds = {"batchPredictionJobs": region.batch_jobs, "customJobs": region.custom_jobs}
    return region, kinds.get(rest.partition("/")[0], {})


def _found(world: World, name: str) -> tuple[Region, dict[str, Any], Any]:
    region, held = _held(world, name)
    job = held.get(name.rpartition("/")[2])
    if job is None:
        raise missing("job.missing", "The job does not exist.")
    return region, held, job


def create_batch_prediction_job(world: World, request: Any, _call: Call) -> Any:
    """Start a batch prediction; the job is the answer."""
    region, _ = world.located(request.parent)
    asked = request.batch_prediction_job
    _check_batch(world, asked)
    job = type(asked)()
    job.CopyFrom(asked)
    if job.model:
        model = models.found(world, job.model)[1]
        job.model, job.model_version_id = model.name, model.version_id
    resources = job.dedicated_resources
    resources.starting_replica_count = resources.starting_replica_count or 1
    quotas.check(region, quotas.need(resources, resources.starting_replica_count, "serving"))
    return _started(region, region.batch_jobs, "batchPredictionJobs", job, "batch")


def _check_batch(world: World, asked: Any) -> None:
    _check_name(asked, "batch_prediction_job")
    if bool(asked.model) == asked.HasField("unmanaged_container_model"):
        words = "exactly one of model and unmanaged_container_model must be set"
        raise wrong_field("batch.model", "batch_prediction_job.model", words)
    if asked.input_config.instances_format not in INPUTS:
        field = "batch_prediction_job.input_config.instances_format"
        raise wrong_field("batch.input", field, f"must be one of {', '.join(sorted(INPUTS))}")
    if asked.output_config.predictions_format not in OUTPUTS:
        field = "batch_prediction_job.output_config.predictions_format"
        raise wrong_field("batch.output", field, f"must be one of {', '.join(sorted(OUTPUTS))}")
    spec = asked.dedicated_resources.machine_spec
    if not spec.machine_type:
        field = "batch_prediction_job.dedicated_resources.machine_spec.machine_type"
        raise wrong_field("batch.machine", field, "Required field is not set.")
    machines.check(spec, "batch_prediction_job.dedicated_resources.machine_spec")
    sources = [uri for uri in asked.input_config.gcs_source.uris if not _objects(world, uri)]
    if sources:
        raise precondition("batch.no-input", f"There are no files under {', '.join(sources)}.")


def _check_name(asked: Any, field: str) -> None:
    if not asked.display_name:
        raise wrong_field("job.display-name", f"{field}.display_name", "Required field is not set.")
    labels.check(asked.labels, f"{field}.labels")


def _objects(world: World, uri: str) -> list[bytes]:
    """Return what the objects hold that a URI names; a star is any end."""
    bucket, _, key = uri.removeprefix("gs://").partition("/")
    held = world.buckets.by_name.get(bucket)
    pattern = ".*".join(re.escape(part) for part in key.split("*"))
    return [] if held is None else [data for name, (_, data) in held.objects.items() if re.fullmatch(pattern, name)]


def create_custom_job(world: World, request: Any, _call: Call) -> Any:
    """Start a custom job; the job is the answer."""
    region, _ = world.located(request.parent)
    asked = request.custom_job
    _check_name(asked, "custom_job")
    if not asked.job_spec.worker_pool_specs:
        raise wrong_field("custom.pools", "custom_job.job_spec.worker_pool_specs", "Required field is not set.")
    for number, pool in enumerate(asked.job_spec.worker_pool_specs):
        field = f"custom_job.job_spec.worker_pool_specs[{number}]"
        if not pool.machine_spec.machine_type:
            raise wrong_field("custom.machine", f"{field}.machine_spec.machine_type", "Required field is not set.")
        machines.check(pool.machine_spec, f"{field}.machine_spec")
        quotas.check(region, quotas.need(pool, pool.replica_count or 1, "training"))
    job = type(asked)()
    job.CopyFrom(asked)
    return _started(region, region.custom_jobs, "customJobs", job, "custom")


def _started(region: Region, held: dict[str, Any], kind: str, job: Any, on: str) -> Any:
    """Keep a job in its first state, and let the others come."""
    world = region.world
    job.name = f"{region.place}/{kind}/{world.new_number()}"
    job.state = _state("JOB_STATE_PENDING")
    for field in (job.create_time, job.update_time):
        stamp(field, region.now())
    held[job.name.rpartition("/")[2]] = job
    script = world.script(job.display_name, on) or Script("", on, "done")
    if script.outcome == "done" and _without_capacity(region, job):
        script = Script("", on, "fail", "capacity")
    delay = world.delay("batch" if on == "batch" else "custom")
    # rule job.states
    world.later.append(Later(region.now() + delay / 2, lambda: _run(region, job)))
    if script.outcome != "stuck":
        world.later.append(Later(region.now() + delay, lambda: _end(region, job, script)))
    return job


def _without_capacity(region: Region, job: Any) -> bool:
    if job.DESCRIPTOR.name == "BatchPredictionJob":
        return deployments.without_capacity(region, job.dedicated_resources)
    return any(deployments.without_capacity(region, pool) for pool in job.job_spec.worker_pool_specs)


def _run(region: Region, job: Any) -> None:
    if job.state == _state("JOB_STATE_PENDING"):
        job.state = _state("JOB_STATE_RUNNING")
        for field in (job.start_time, job.update_time):
            stamp(field, region.now())


def _end(region: Region, job: Any, script: Script) -> None:
    if _is_done(job):
        return
    if job.state == _state("JOB_STATE_CANCELLING"):
        _finish(region, job, "JOB_STATE_CANCELLED")
    elif script.outcome == "fail":
        code, words = deployments.FAILURES.get(script.reason or "internal", ("INTERNAL", script.reason))
        job.error.code = code_pb2.Code.Value(code)
        job.error.message = words.replace("{region}", region.name)
        _finish(region, job, "JOB_STATE_FAILED")
    else:
        if job.DESCRIPTOR.name == "BatchPredictionJob":
            _write_predictions(region, job)
        _finish(region, job, "JOB_STATE_SUCCEEDED")


def _finish(region: Region, job: Any, state: str) -> None:
    job.state = _state(state)
    for field in (job.end_time, job.update_time):
        stamp(field, region.now())


def _write_predictions(region: Region, job: Any) -> None:
    """Write one prediction an instance, where the instances are lines of JSON."""
    # rule batch.results
    world = region.world
    lines = [
        line
        for uri in job.input_config.gcs_source.uris
        for data in _objects(world, uri)
        for line in data.decode(errors="replace").splitlines()
        if line.strip()
    ]
    job.completion_stats.successful_count = len(lines)
    prefix = job.output_config.gcs_destination.output_uri_prefix
    bucket, _, folder = prefix.removeprefix("gs://").rstrip("/").partition("/")
    if not prefix or bucket not in world.buckets.by_name:
        return
    name = f"prediction-{job.display_name}-{int(region.now())}"
    job.output_info.gcs_output_directory = f"gs://{bucket}/{folder}/{name}" if folder else f"gs://{bucket}/{name}"
    rows = [json.dumps({"instance": _instance(line), "prediction": {"model": job.model}}) for line in lines]
    key = "/".join(part for part in (folder, name, "prediction.results-00000-of-00001") if part)
    world.buckets.by_name[bucket].put(key, "".join(f"{row}\n" for row in rows).encode())


def _instance(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return line


def get_job(world: World, request: Any, _call: Call) -> Any:
    """Return a job."""
    return _found(world, request.name)[2]


def list_batch_prediction_jobs(world: World, request: Any, _call: Call) -> Any:
    """Return the batch predictions that a filter leaves."""
    region, _ = world.located(request.parent)
    page, token = listing.page(listing.chosen(region.batch_jobs.values(), request, FIELDS), request)
    return protos.message("ListBatchPredictionJobsResponse")(batch_prediction_jobs=page, next_page_token=token)


def list_custom_jobs(world: World, request: Any, _call: Call) -> Any:
    """Return the custom jobs that a filter leaves."""
    region, _ = world.located(request.parent)
    page, token = listing.page(listing.chosen(region.custom_jobs.values(), request, FIELDS), request)
    return protos.message("ListCustomJobsResponse")(custom_jobs=page, next_page_token=token)


def cancel_job(world: World, request: Any, _call: Call) -> Any:
    """Start to cancel a job."""
    region, _, job = _found(world, request.name)
    if _is_done(job):
        # rule job.cancel-done
        raise precondition("job.cancel-done", f"The job {job.name} is in a terminal state and can't be cancelled.")
    job.state = _state("JOB_STATE_CANCELLING")
    world.later.append(Later(region.now() + world.settings.delay_s, lambda: _end(region, job, Script("", "", "done"))))
    return empty_pb2.Empty()


def delete_job(world: World, request: Any, call: Call) -> Any:
    """Start to delete a job that has ended."""
    region, held, job = _found(world, request.name)
    if not _is_done(job):
        raise precondition("job.delete-running", f"The job {job.name} is not in a terminal state and can't be deleted.")

    def leave() -> Any:
        held.pop(job.name.rpartition("/")[2], None)
        return empty_pb2.Empty()

    return operations.begun(region, call, job.name, leave, metadata="DeleteOperationMetadata")


OPERATIONS = {
    ("JobService", "CreateBatchPredictionJob"): create_batch_prediction_job,
    ("JobService", "GetBatchPredictionJob"): get_job,
    ("JobService", "ListBatchPredictionJobs"): list_batch_prediction_jobs,
    ("JobService", "CancelBatchPredictionJob"): cancel_job,
    ("JobService", "DeleteBatchPredictionJob"): delete_job,
    ("JobService", "CreateCustomJob"): create_custom_job,
    ("JobService", "GetCustomJob"): get_job,
    ("JobService", "ListCustomJobs"): list_custom_jobs,
    ("JobService", "CancelCustomJob"): cancel_job,
    ("JobService", "DeleteCustomJob"): delete_job,
}
