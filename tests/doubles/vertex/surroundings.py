"""What stands around the services: locations, projects, permissions, and Cloud Storage's calls by name."""

from __future__ import annotations

from typing import Any

from google.cloud.location import locations_pb2
from google.iam.v1 import iam_policy_pb2

from tests.doubles import cloud_storage
from tests.doubles.vertex import listing, protos
from tests.doubles.vertex.call import STORAGE, Call
from tests.doubles.vertex.refusal import missing
from tests.doubles.vertex.world import World

MANAGER = "google.cloud.resourcemanager_v3"
LOCATIONS = (
    "asia-east1", "asia-northeast1", "asia-south1", "asia-southeast1", "australia-southeast1", "europe-west1",
    "europe-west2", "europe-west3", "europe-west4", "europe-west9", "northamerica-northeast1", "southamerica-east1",
    "us-central1", "us-east1", "us-east4", "us-west1", "us-west4",
)  # fmt: skip


def get_location(world: World, request: Any, _call: Call) -> Any:
    """Return a location where there is one."""
    owner, name = world.owner(request.name), request.name.rpartition("/")[2]
    if name not in LOCATIONS:
        raise missing("location.missing", f"Location {name} not found.")
    return locations_pb2.Location(name=f"projects/{owner.number}/locations/{name}", location_id=name)


def list_locations(world: World, request: Any, _call: Call) -> Any:
    """Return all locations."""
    owner = world.owner(request.name)
    held = [
        locations_pb2.Location(name=f"projects/{owner.number}/locations/{each}", location_id=each) for each in LOCATIONS
    ]
    page, token = listing.page(held, request)
    return locations_pb2.ListLocationsResponse(locations=page, next_page_token=token)


def get_project(world: World, request: Any, _call: Call) -> Any:
    """Return a project."""
    owner = world.owner(request.name)
    return protos.message("Project", MANAGER)(
        name=f"projects/{owner.number}", project_id=owner.id, display_name=owner.id, state=1
    )


def granted_permissions(world: World, request: Any, _call: Call) -> Any:
    """Return which permissions nobody took away."""
    # rule iam.test
    kept = [each for each in request.permissions if each not in world.settings.denied]
    return iam_policy_pb2.TestIamPermissionsResponse(permissions=kept)


def storage_call(request: cloud_storage.Request) -> Call:
    """Return a request of Cloud Storage as a call with a name."""
    noun = "Object" if request.key or request.path.startswith("/upload/") else "Bucket"
    match request.method:
        case "GET" if noun == "Bucket" and (not request.json or request.path.endswith("/o")):
            operation = "ListObjects"
        case "POST" if "uploads" in request.query:
            operation = "StartUpload"
        case "POST" if "uploadId" in request.query:
            operation = "CompleteUpload"
        case "PUT" if "partNumber" in request.query:
            operation = "PutPart"
        case "POST" if noun == "Bucket":
            operation = "CreateBucket"
        case "POST":
            operation = "PutObject"
        case verb:
            operation = f"{verb.capitalize()}{noun}"
    params = {"bucket": request.bucket, "object": request.key or request.query.get("name", "")}
    if "prefix" in request.query:
        params["prefix"] = request.query["prefix"]
    return Call(STORAGE, operation, params, "http")


OPERATIONS = {
    ("Locations", "GetLocation"): get_location,
    ("Locations", "ListLocations"): list_locations,
    ("Projects", "GetProject"): get_project,
    ("Projects", "TestIamPermissions"): granted_permissions,
    ("IAMPolicy", "TestIamPermissions"): granted_permissions,
}
