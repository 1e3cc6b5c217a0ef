"""Endpoints: where models are deployed to, and how traffic is split between them."""

from __future__ import annotations

import re
from typing import Any

from google.protobuf import empty_pb2

from tests.doubles.vertex import etags, labels, listing, operations, protos, traffic
from tests.doubles.vertex.call import Call
from tests.doubles.vertex.refusal import Refusal, missing, precondition, wrong_field
from tests.doubles.vertex.world import Region, World, stamp

ID = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?|[1-9][0-9]{0,8}")
LONGEST_NAME = 128
UPDATED = frozenset({
    "display_name", "description", "labels", "traffic_split", "predict_request_response_logging_config",
})  # fmt: skip
UPDATED_LATER = UPDATED | {"client_connection_config", "private_service_connect_config"}


def found(world: World, name: str) -> tuple[Region, Any]:
    """Return an endpoint and its region.

    Raises:
        Refusal: there is none.
    """
    region, rest = world.located(name)
    endpoint = region.endpoints.get(rest.removeprefix("endpoints/"))
    if endpoint is None or not rest.startswith("endpoints/"):
        raise missing("endpoint.missing", "The Endpoint does not exist.")
    return region, endpoint


def free(world: World, endpoint: Any) -> None:
    """Return if nothing is under way at an endpoint.

    Raises:
        Refusal: something is.
    """
    busy = [each.name for each in world.under_way(endpoint.name)]
    if busy:
        words = f"There are other operations running on the Endpoint {endpoint.name}: {', '.join(busy)}."
        raise precondition("endpoint.busy", words)


def create_endpoint(world: World, request: Any, call: Call) -> Any:
    """Start to make an endpoint."""
    region, _ = world.located(request.parent)
    endpoint_id = request.endpoint_id or world.new_number()
    if request.endpoint_id and not ID.fullmatch(request.endpoint_id):
        words = "[a-z][a-z0-9-]* of up to 63 characters with a letter or a digit at its end, or up to 9 digits"
        raise wrong_field("endpoint.id", "endpoint_id", words)
    name = f"{region.place}/endpoints/{endpoint_id}"
    if endpoint_id in region.endpoints or any(world.under_way(name)):
        raise Refusal("endpoint.duplicate", "ALREADY_EXISTS", f"Endpoint {name} already exists.")
    _check(request.endpoint)
    script = world.script(endpoint_id, "create")
    fails = ("INTERNAL", script.reason or "Internal error occurred.") if script and script.outcome == "fail" else None
    kept = protos.message("Endpoint")()
    kept.CopyFrom(request.endpoint)
    kept.name = name
    del kept.deployed_models[:]
    if kept.dedicated_endpoint_enabled:
        # rule endpoint.dedicated
        owner = region.project.number
        kept.dedicated_endpoint_dns = f"{endpoint_id}.{region.name}-{owner}.prediction.vertexai.goog"

    def arrive() -> Any:
        stamp(kept.create_time, region.now())
        etags.touch(region, kept)
        region.endpoints[endpoint_id] = kept
        return kept

    # rule endpoint.in-flight
    stuck = script is not None and script.outcome == "stuck"
    return operations.begun(
        region, call, name, arrive, metadata="CreateEndpointOperationMetadata", fails=fails, stuck=stuck
    )


def _check(asked: Any) -> None:
    if not asked.display_name or len(asked.display_name) > LONGEST_NAME:
        raise wrong_field("endpoint.display-name", "endpoint.display_name", f"must have 1 to {LONGEST_NAME} characters")
    labels.check(asked.labels, "endpoint.labels")
    traffic.check(asked.traffic_split, (), "endpoint.traffic_split")
    if asked.network and asked.HasField("private_service_connect_config"):
        words = "only one of network and private_service_connect_config can be set"
        raise wrong_field("endpoint.network", "endpoint.network", words)
    _check_logging(asked)


def _check_logging(asked: Any) -> None:
    logging = asked.predict_request_response_logging_config
    if logging.enabled and not 0 < logging.sampling_rate <= 1:
        field = "endpoint.predict_request_response_logging_config.sampling_rate"
        raise wrong_field("endpoint.sampling", field, "must be above 0 and at most 1")


def get_endpoint(world: World, request: Any, _call: Call) -> Any:
    """Return an endpoint."""
    return found(world, request.name)[1]


def list_endpoints(world: World, request: Any, _call: Call) -> Any:
    """Return the endpoints that a filter leaves."""
    region, _ = world.located(request.parent)
    fields = ("endpoint", "display_name", "create_time", "update_time")
    page, token = listing.page(listing.chosen(region.endpoints.values(), request, fields), request)
    return protos.message("ListEndpointsResponse")(endpoints=page, next_page_token=token)


def update_endpoint(world: World, request: Any, _call: Call) -> Any:
    """Change what may be changed of an endpoint, its traffic first of all; it is done at once."""
    return _updated(world, request, list(request.update_mask.paths), UPDATED)


def _updated(world: World, request: Any, paths: list[str], allowed: frozenset[str]) -> Any:
    asked = request.endpoint
    region, endpoint = found(world, asked.name)
    etags.check(endpoint, asked.etag)
    # rule endpoint.update-busy
    free(world, endpoint)
    labels.check(asked.labels, "endpoint.labels")
    _check_logging(asked)
    wanted = set(paths)
    if wanted & {"traffic_split", "*"}:
        traffic.check(asked.traffic_split, [each.id for each in endpoint.deployed_models], "endpoint.traffic_split")
    # rule endpoint.mask
    etags.masked(endpoint, asked, paths, allowed, "endpoint.mask")
    etags.touch(region, endpoint)
    return endpoint


def update_endpoint_long_running(world: World, request: Any, call: Call) -> Any:
    """Start to change what takes longer; the service takes no mask here, so all that is set is changed."""
    region, endpoint = found(world, request.endpoint.name)
    free(world, endpoint)
    paths = [each.name for each, _ in request.endpoint.ListFields() if each.name in UPDATED_LATER]
    kept = type(request)()
    kept.CopyFrom(request)

    def arrive() -> Any:
        etags.masked(endpoint, kept.endpoint, paths, frozenset(UPDATED_LATER), "endpoint.mask")
        etags.touch(region, endpoint)
        return endpoint

    return operations.begun(region, call, endpoint.name, arrive, metadata="UpdateEndpointOperationMetadata")


def delete_endpoint(world: World, request: Any, call: Call) -> Any:
    """Start to delete an endpoint to which nothing is deployed."""
    region, endpoint = found(world, request.name)
    deploying = [each for each in world.under_way(endpoint.name) if each.method == "DeployModel"]
    if endpoint.deployed_models or deploying:
        words = f"Endpoint {endpoint.name} has deployed or being-deployed DeployedModel(s)"
        ids = ", ".join(each.id for each in endpoint.deployed_models)
        raise precondition("endpoint.not-empty", f"{words}: {ids}." if ids else f"{words}.")
    free(world, endpoint)

    def leave() -> Any:
        region.endpoints.pop(endpoint.name.rpartition("/")[2], None)
        return empty_pb2.Empty()

    return operations.begun(region, call, endpoint.name, leave, metadata="DeleteOperationMetadata")


OPERATIONS = {
    ("EndpointService", "CreateEndpoint"): create_endpoint,
    ("EndpointService", "GetEndpoint"): get_endpoint,
    ("EndpointService", "ListEndpoints"): list_endpoints,
    ("EndpointService", "UpdateEndpoint"): update_endpoint,
    ("EndpointService", "UpdateEndpointLongRunning"): update_endpoint_long_running,
    ("EndpointService", "DeleteEndpoint"): delete_endpoint,
}
