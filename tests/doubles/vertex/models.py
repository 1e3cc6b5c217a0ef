"""Models: uploaded from a bucket and an image, one version each."""

from __future__ import annotations

import re
from typing import Any

from google.protobuf import empty_pb2

from tests.doubles.vertex import etags, labels, listing, operations, protos
from tests.doubles.vertex.call import Call
from tests.doubles.vertex.refusal import Refusal, missing, precondition, wrong_field
from tests.doubles.vertex.world import Region, World, stamp

ID = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
PREBUILT = re.compile(
    r"(?:[a-z]+-docker\.pkg\.dev/vertex-ai(?:-restricted)?/prediction|gcr\.io/cloud-aiplatform/prediction)/"
)
FILES = {
    "sklearn": ("model.pkl", "model.joblib"),
    "xgboost": ("model.pkl", "model.joblib", "model.bst"),
    "tf": ("saved_model.pb",),
}
"""What a prebuilt image wants to find, one of each."""

LONGEST_NAME = 128
UPDATED = frozenset({"display_name", "description", "labels", "version_aliases", "version_description", "metadata"})
VERSION = "1"


def found(world: World, name: str) -> tuple[Region, Any]:
    """Return a model and its region; a version or an alias behind the name may be its only one.

    Raises:
        Refusal: there is none.
    """
    region, rest = world.located(name)
    model_id, _, version = rest.removeprefix("models/").partition("@")
    model = region.models.get(model_id)
    if model is None or not rest.startswith("models/") or version not in {"", VERSION, "default"}:
        raise missing("model.missing", "The Model does not exist.")
    return region, model


def upload_model(world: World, request: Any, call: Call) -> Any:
    """Start to take in a model."""
    region, _ = world.located(request.parent)
    asked = request.model
    if request.parent_model:
        raise Refusal("model.versions", "UNIMPLEMENTED", "UploadModel with parent_model is not imitated by this double")
    model_id = request.model_id or region.world.new_number()
    if request.model_id and not ID.fullmatch(request.model_id):
        words = "up to 63 characters of [a-z0-9_-], the first of which is no number and no hyphen"
        raise wrong_field("model.id", "model_id", words)
    name = f"{region.place}/models/{model_id}"
    if model_id in region.models or any(world.under_way(name)):
        raise Refusal("model.duplicate", "ALREADY_EXISTS", f"Model {name} already exists.")
    _check(world, asked)
    script = world.script(model_id, "upload")
    fails = ("INTERNAL", script.reason or "Internal error occurred.") if script and script.outcome == "fail" else None
    kept = protos.message("Model")()
    kept.CopyFrom(asked)

    def arrive() -> Any:
        _complete(region, kept, name)
        region.models[model_id] = kept
        return protos.message("UploadModelResponse")(model=name, model_version_id=VERSION)

    # rule model.in-flight
    stuck = script is not None and script.outcome == "stuck"
    return operations.begun(
        region, call, name, arrive, metadata="UploadModelOperationMetadata", fails=fails, stuck=stuck
    )


def _check(world: World, asked: Any) -> None:
    if not asked.display_name or len(asked.display_name) > LONGEST_NAME:
        raise wrong_field("model.display-name", "model.display_name", f"must have 1 to {LONGEST_NAME} characters")
    labels.check(asked.labels, "model.labels")
    if not asked.container_spec.image_uri:
        raise wrong_field("model.image", "model.container_spec.image_uri", "Required field is not set.")
    if asked.artifact_uri:
        _check_files(world, asked)


def _check_files(world: World, asked: Any) -> None:
    """Return if the bucket has what the image wants."""
    place = asked.artifact_uri.rstrip("/")
    if not place.startswith("gs://"):
        raise wrong_field("model.artifact-uri", "model.artifact_uri", "must be a Cloud Storage URI")
    bucket, _, path = place.removeprefix("gs://").partition("/")
    held = world.buckets.by_name.get(bucket)
    below = f"{path}/" if path else ""
    files = [] if held is None else [key.removeprefix(below) for key in held.objects if key.startswith(below)]
    if not files:
        raise precondition("model.no-files", f'There are no files under "{place}" to copy.')
    if PREBUILT.match(asked.container_spec.image_uri):
        framework = asked.container_spec.image_uri.rpartition("/")[2].partition("-")[0].rstrip("2")
        wanted = FILES.get(framework, ())
        if wanted and sum(file in wanted for file in files) != 1:
            words = f"Model directory {place} is expected to contain exactly one of: [{', '.join(wanted)}]."
            raise precondition("model.files", words)


def _complete(region: Region, model: Any, name: str) -> None:
    """Fill in what the service says of a model."""
    # rule model.output
    model.name, model.version_id = name, VERSION
    del model.deployed_models[:]
    model.version_aliases[:] = ["default"]
    kinds = protos.enum("Model").DeploymentResourcesType
    model.supported_deployment_resources_types[:] = [kinds.DEDICATED_RESOURCES]
    model.supported_input_storage_formats[:] = ["jsonl", "bigquery", "csv", "tf-record", "tf-record-gzip", "file-list"]
    model.supported_output_storage_formats[:] = ["jsonl", "bigquery"]
    for field in (model.create_time, model.version_create_time, model.version_update_time):
        stamp(field, region.now())
    etags.touch(region, model)


def get_model(world: World, request: Any, _call: Call) -> Any:
    """Return a model."""
    return found(world, request.name)[1]


def list_models(world: World, request: Any, _call: Call) -> Any:
    """Return the models that a filter leaves."""
    region, _ = world.located(request.parent)
    held = listing.chosen(region.models.values(), request, ("model", "display_name", "create_time", "update_time"))
    page, token = listing.page(held, request)
    return protos.message("ListModelsResponse")(models=page, next_page_token=token)


def update_model(world: World, request: Any, _call: Call) -> Any:
    """Change what may be changed of a model."""
    region, model = found(world, request.model.name)
    etags.check(model, request.model.etag)
    labels.check(request.model.labels, "model.labels")
    # rule model.mask
    etags.masked(model, request.model, list(request.update_mask.paths), UPDATED, "model.mask")
    etags.touch(region, model)
    return model


def delete_model(world: World, request: Any, call: Call) -> Any:
    """Start to delete a model that is deployed nowhere."""
    region, model = found(world, request.name)
    deploying = [each.target for each in world.operations.values() if not each.done and each.uses == model.name]
    where = [each.endpoint for each in model.deployed_models] + deploying
    if where:
        words = f"The Model is deployed or being deployed at the following Endpoint(s): {', '.join(where)}."
        raise precondition("model.deployed", f"{words} Please undeploy the model before retry.")

    def leave() -> Any:
        region.models.pop(model.name.rpartition("/")[2], None)
        return empty_pb2.Empty()

    return operations.begun(region, call, model.name, leave, metadata="DeleteOperationMetadata")


OPERATIONS = {
    ("ModelService", "UploadModel"): upload_model,
    ("ModelService", "GetModel"): get_model,
    ("ModelService", "ListModels"): list_models,
    ("ModelService", "UpdateModel"): update_model,
    ("ModelService", "DeleteModel"): delete_model,
}
