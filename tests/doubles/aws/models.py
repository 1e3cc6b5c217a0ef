"""SageMaker models."""

from __future__ import annotations

from tests.doubles.aws import surroundings
from tests.doubles.aws.listing import listed
from tests.doubles.aws.refusal import invalid
from tests.doubles.aws.tags import keep
from tests.doubles.aws.world import Json, Record, Region


def create_model(region: Region, asked: Json) -> Json:
    """Keep a model."""
    name = asked["ModelName"]
    arn = region.arn("sagemaker", f"model/{name.lower()}")
    if name.lower() in region.models:
        raise invalid("model.duplicate", f'Cannot create already existing model "{arn}".')
    containers = asked.get("Containers") or ([asked["PrimaryContainer"]] if "PrimaryContainer" in asked else [])
    if not containers:
        raise invalid("model.container", "At least one container must be specified.")
    if "Containers" in asked and "PrimaryContainer" in asked:
        raise invalid("model.container", "Cannot specify both PrimaryContainer and Containers in one request.")
    role = asked.get("ExecutionRoleArn")
    if role is None:
        raise invalid("model.role", "ExecutionRoleArn is required.")
    for container in containers:
        _check_container(region, container, role)
    region.models[name.lower()] = Record(name, arn, asked, region.now())
    keep(region, arn, asked.get("Tags", []))
    return {"ModelArn": arn}


def _check_container(region: Region, container: Json, role: str) -> None:
    if "Image" not in container and "ModelPackageName" not in container:
        raise invalid("model.container", "Container must have an Image or a ModelPackageName.")
    image = container.get("Image", "")
    if not surroundings.image_exists(region, image):
        raise invalid("model.image", f"Requested image {image} not found.")
    uri = container.get("ModelDataUrl") or container.get("ModelDataSource", {}).get("S3DataSource", {}).get("S3Uri")
    if uri is None:
        return
    if not surroundings.role_exists(region, role):
        trust = (
            'its trust relationship policy allows the action "sts:AssumeRole" for the service principal '
            '"sagemaker.amazonaws.com"'
        )
        raise invalid(
            "model.role",
            f'Could not access model data at {uri}. Please ensure that the role "{role}" exists and that {trust}. '
            'Also ensure that the role has "s3:GetObject" permissions and that the object is located in '
            f"{region.name}.",
        )
    if not surroundings.object_exists(region, uri):
        raise invalid("model.data", f"Could not find model data at {uri}.")


def describe_model(region: Region, asked: Json) -> Json:
    """Return a model as it was asked."""
    model = found_model(region, asked["ModelName"])
    kept = {name: value for name, value in model.asked.items() if name != "Tags"}
    # rule model.all-fields
    return {"EnableNetworkIsolation": False, **kept, "ModelArn": model.arn, "CreationTime": model.created}


def found_model(region: Region, name: str) -> Record:
    """Return the model of that name.

    Raises:
        Refusal: there is none.
    """
    model = region.models.get(name.lower())
    if model is None:
        raise invalid("model.missing", f'Could not find model "{region.arn("sagemaker", f"model/{name.lower()}")}".')
    return model


def delete_model(region: Region, asked: Json) -> Json:
    """Forget a model, used or not."""
    model = found_model(region, asked["ModelName"])
    # rule model.delete-in-use
    del region.models[model.name.lower()]
    region.tags.pop(model.arn, None)
    return {}


def list_models(region: Region, asked: Json) -> Json:
    """Return a page of models."""
    rows = [
        {"ModelName": each.name, "ModelArn": each.arn, "CreationTime": each.created} for each in region.models.values()
    ]
    return listed(rows, asked, key="Models", name="ModelName")


OPERATIONS = {
    "CreateModel": create_model,
    "DescribeModel": describe_model,
    "DeleteModel": delete_model,
    "ListModels": list_models,
}
