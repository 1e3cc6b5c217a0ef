"""PredictionService: who answers a request, with what, and what it leaves in the metrics and logs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from google.api import httpbody_pb2
from google.protobuf import json_format

from tests.doubles.vertex import deployments, endpoints, logs, metrics, models, protos
from tests.doubles.vertex.call import Call
from tests.doubles.vertex.refusal import Refusal, missing, precondition
from tests.doubles.vertex.world import Answer, Region, World

BAD = 400
LARGEST = 1_572_864
"""Bytes of a request to a public endpoint."""

CODES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "ABORTED",
    413: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 501: "UNIMPLEMENTED", 503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with what goes before it, and how long it takes apart from all else."""

    message: Any
    metadata: tuple[tuple[str, str], ...] = ()
    takes_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Turn:
    """Whose turn it is, and what it answers."""

    region: Region
    endpoint: Any
    deployed: Any
    model: Any
    answer: Answer


def predict(world: World, request: Any, call: Call) -> Reply:
    """Return what a deployed model predicts."""
    turn = _turn(world, request.endpoint, call)
    if turn.answer.body is None:
        rows = [json_format.ParseDict(_who(turn), type(request.parameters)()) for _ in request.instances]
        said = protos.message("PredictResponse")(predictions=rows)
    else:
        said = json_format.Parse(turn.answer.body, protos.message("PredictResponse")(), ignore_unknown_fields=True)
    # rule predict.who
    said.deployed_model_id, said.model = turn.deployed.id, turn.deployed.model
    said.model_version_id, said.model_display_name = turn.deployed.model_version_id, turn.model.display_name
    return Reply(said, _marks(turn), turn.answer.latency_s)


def raw_predict(world: World, request: Any, call: Call) -> Reply:
    """Return the bytes that a deployed model answers."""
    turn = _turn(world, request.endpoint, call)
    body = json.dumps(_who(turn)) if turn.answer.body is None else turn.answer.body
    said = httpbody_pb2.HttpBody(content_type=turn.answer.content_type, data=body.encode())
    return Reply(said, _marks(turn), turn.answer.latency_s)


def _who(turn: Turn) -> dict[str, str]:
    """Return the plain answer: a line that says who answered."""
    return {
        "endpoint": turn.endpoint.name.rpartition("/")[2],
        "deployed_model": turn.deployed.id,
        "model": turn.deployed.model.rpartition("/")[2],
    }


def _marks(turn: Turn) -> tuple[tuple[str, str], ...]:
    # rule predict.header
    return (
        ("x-vertex-ai-endpoint-id", turn.endpoint.name.rpartition("/")[2]),
        ("x-vertex-ai-deployed-model-id", turn.deployed.id),
    )


def _turn(world: World, name: str, call: Call) -> Turn:
    region, endpoint = endpoints.found(world, name)
    if len(call.body) > LARGEST:
        words = f"The request size ({len(call.body)} bytes) exceeds {LARGEST / 1e6:.3f}MB limit."
        raise precondition("predict.large", words)
    if not any(endpoint.traffic_split.values()):
        raise precondition("predict.no-split", f"Endpoint {endpoint.name} doesn't have traffic_split.")
    deployed = _chosen(world, endpoint)
    answer = answer_of(world, endpoint, deployed)
    if not deployed.status.available_replica_count:
        # rule predict.asleep
        words = "Model is not yet ready for inference. Please wait and then try your request again."
        answer = Answer(status=429, body=words)
    _measure(region, endpoint, deployed, answer, call)
    if answer.status >= BAD:
        # rule predict.model-error
        raise Refusal("predict.model-error", CODES.get(answer.status, "INTERNAL"), answer.body or "")
    try:
        model = models.found(world, deployed.model)[1]
    except Refusal:
        raise missing("model.missing", "The Model does not exist.") from None
    return Turn(region, endpoint, deployed, model, answer)


def _chosen(world: World, endpoint: Any) -> Any:
    """Return the deployed model that its share owes most to."""
    # rule predict.shares
    for key, share in endpoint.traffic_split.items():
        world.owed[endpoint.name, key] = world.owed.get((endpoint.name, key), 0.0) + share
    owed = {key: world.owed[endpoint.name, key] for key, share in endpoint.traffic_split.items() if share}
    best = max(owed, key=lambda key: owed[key])
    world.owed[endpoint.name, best] -= 100.0
    return deployments.of(endpoint, best)


def answer_of(world: World, endpoint: Any, deployed: Any) -> Answer:
    """Return what was scripted for the deployed model, for its endpoint, or the plain answer."""
    name = endpoint.name.rpartition("/")[2]
    keys = ((name, deployed.id), (name, deployed.display_name), (name, ""))
    return next((world.answers[key] for key in keys if key in world.answers), Answer())


def _measure(region: Region, endpoint: Any, deployed: Any, answer: Answer, call: Call) -> None:
    """Keep what one request is in the metrics, and in the access log if that is on."""
    metrics.put_prediction(region, endpoint, deployed, status=answer.status, latency_ms=answer.latency_s * 1e3)
    if deployed.enable_access_logging:
        logs.write_access(region, endpoint, deployed, status=answer.status, latency_s=answer.latency_s, call=call)


OPERATIONS = {
    ("PredictionService", "Predict"): predict,
    ("PredictionService", "RawPredict"): raw_predict,
}
