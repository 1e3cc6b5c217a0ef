"""The Vertex AI double: models, endpoints, deployments and predictions, asked through Google's own clients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from google.api_core import exceptions as gax
from google.cloud import aiplatform_v1 as vx
from google.longrunning import operations_pb2
from google.protobuf import json_format, struct_pb2

from tests.doubles.vertex import Double, serving
from tests.doubles.vertex.arranged import (
    ARTIFACT,
    BUCKET,
    DELAY_S,
    DEPLOYED,
    ENDPOINT,
    IMAGE,
    MODEL,
    a_model,
    an_endpoint,
    begin_deploy,
    deploy,
    deployment,
    serving_reviews,
)
from tests.doubles.vertex.serving import NUMBER, PARENT

PLACE = f"projects/{NUMBER}/locations/us-central1"
OTHER = "2222222222"
CPU = "aiplatform.googleapis.com/prediction/online/cpu/utilization"


@pytest.fixture(scope="module")
def running() -> Iterator[Double]:
    """One server for the module."""
    with serving() as double:
        yield double


@pytest.fixture
def double(running: Double) -> Double:
    """The server, empty."""
    running.post("reset")
    return running


@pytest.fixture
def endpoints(double: Double) -> Any:
    """A client."""
    return double.client(vx.EndpointServiceClient)


@pytest.fixture
def models(double: Double) -> Any:
    """A client."""
    return double.client(vx.ModelServiceClient)


def _seen(double: Double) -> Mapping[str, Any]:
    seen: Mapping[str, Any] = double.get("resources")["endpoints"]["reviews"]
    return seen


def test_an_upload_is_an_operation_and_names_have_the_number(double: Double, models: Any) -> None:
    """The operation is under the model, which is there once it is done, with what the service adds."""
    double.post("settings", delay_s=DELAY_S)
    double.make_bucket(BUCKET)
    double.put_object(f"{ARTIFACT}/model.joblib")
    model = {"display_name": "reviews", "artifact_uri": ARTIFACT, "container_spec": {"image_uri": IMAGE}}
    begun = models.upload_model({"parent": PARENT, "model_id": "reviews-1", "model": model}).operation
    with pytest.raises(gax.NotFound):
        models.get_model(name=MODEL)
    with pytest.raises(gax.AlreadyExists):
        models.upload_model({"parent": PARENT, "model_id": "reviews-1", "model": model})
    double.post("advance", seconds=DELAY_S)

    ended = models.get_operation({"name": begun.name})
    response = vx.UploadModelResponse.pb()()
    ended.response.Unpack(response)
    found = models.get_model(name=MODEL)
    assert begun.name.startswith(f"{PLACE}/models/reviews-1/operations/")
    assert (begun.done, ended.done) == (False, True)
    assert (response.model, response.model_version_id) == (f"{PLACE}/models/reviews-1", "1")
    assert (found.name, found.version_id, list(found.version_aliases)) == (response.model, "1", ["default"])
    assert found.artifact_uri == ARTIFACT


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"model_id": "9lives"}, "1.Field: model_id"),
        ({"model": {"display_name": ""}}, "1.Field: model.display_name"),
        ({"model": {"container_spec": {}}}, "1.Field: model.container_spec.image_uri"),
        ({"model": {"labels": {"Upper": "x"}}}, "1.Field: model.labels"),
        ({"model": {"labels": {"k": "x" * 64}}}, "1.Field: model.labels"),
        ({"model": {"artifact_uri": "gs://acme-ml/none"}}, 'There are no files under "gs://acme-ml/none" to copy.'),
        ({"model": {"artifact_uri": "gs://acme-ml/odd"}}, "is expected to contain exactly one of"),
    ],
)
def test_a_wrong_model_is_refused(double: Double, models: Any, asked: dict[str, Any], words: str) -> None:
    """Field errors name the field; a prebuilt image wants one file that it can read."""
    double.make_bucket(BUCKET)
    double.put_object("gs://acme-ml/odd/weights.bin")
    plain = {"display_name": "reviews", "container_spec": {"image_uri": IMAGE}}
    request = {"parent": PARENT, "model_id": "m"} | asked | {"model": plain | asked.get("model", {})}

    with pytest.raises((gax.InvalidArgument, gax.FailedPrecondition)) as refused:
        models.upload_model(request)

    assert words in refused.value.message
    assert double.get("resources")["models"] == {}


def test_a_wrong_field_comes_as_a_detail_too(endpoints: Any) -> None:
    """The error has a BadRequest with the field, as the service's errors do."""
    with pytest.raises(gax.InvalidArgument) as refused:
        endpoints.create_endpoint({"parent": PARENT, "endpoint": {"display_name": ""}})

    violation = refused.value.details[0].field_violations[0]
    assert (violation.field, violation.description) == ("endpoint.display_name", "must have 1 to 128 characters")


@pytest.mark.parametrize("name", ["Reviews", "reviews-", "0123", "1234567890", "a" * 64])
def test_an_endpoint_id_has_its_form(endpoints: Any, name: str) -> None:
    """Letters begin a longer ID, digits a short one."""
    with pytest.raises(gax.InvalidArgument, match="Field: endpoint_id"):
        endpoints.create_endpoint({"parent": PARENT, "endpoint_id": name, "endpoint": {"display_name": "x"}})


def test_an_endpoint_is_made_once(double: Double, endpoints: Any) -> None:
    """A second of the same ID is ALREADY_EXISTS; the first is found by ID and by label."""
    an_endpoint(double, labels={"mlscale-name": "reviews"})
    an_endpoint(double, "other")
    with pytest.raises(gax.AlreadyExists):
        endpoints.create_endpoint({"parent": PARENT, "endpoint_id": "reviews", "endpoint": {"display_name": "x"}})

    found = endpoints.list_endpoints({"parent": PARENT, "filter": "labels.mlscale-name=reviews"})
    owned = endpoints.list_endpoints({"parent": PARENT, "filter": "labels.mlscale-name:*"})
    others = endpoints.list_endpoints({"parent": PARENT, "filter": 'NOT endpoint="reviews"', "order_by": "create_time"})
    assert [each.name for each in found] == [f"{PLACE}/endpoints/reviews"]
    assert [each.name for each in owned] == [f"{PLACE}/endpoints/reviews"]
    assert [each.name for each in others] == [f"{PLACE}/endpoints/other"]


def test_a_list_comes_in_pages(double: Double, endpoints: Any) -> None:
    """Each page but the last has a token for the next."""
    for name in ("a", "b", "c"):
        an_endpoint(double, name)

    pages = list(endpoints.list_endpoints({"parent": PARENT, "page_size": 2}).pages)

    assert [[each.display_name for each in page.endpoints] for page in pages] == [["a", "b"], ["c"]]


def test_the_first_deployment_gets_traffic_only_if_asked(double: Double) -> None:
    """Without a split nothing serves, and a prediction is FAILED_PRECONDITION."""
    a_model(double)
    an_endpoint(double)
    ended = deploy(double)
    predictions = double.client(vx.PredictionServiceClient)

    assert ended.WhichOneof("result") == "response"
    assert _seen(double)["traffic_split"] == {}
    with pytest.raises(gax.FailedPrecondition, match="doesn't have traffic_split"):
        predictions.predict(endpoint=ENDPOINT, instances=[struct_pb2.Value(number_value=1)])


def test_a_deployment_arrives_with_its_replicas(double: Double, endpoints: Any) -> None:
    """While it goes on the endpoint shows nothing of it; then it is there with what was left out filled in."""
    a_model(double)
    an_endpoint(double)
    begun = begin_deploy(double, split={"0": 100})
    during = endpoints.get_endpoint(name=ENDPOINT)
    metadata = vx.DeployModelOperationMetadata.pb()()
    begun.metadata.Unpack(metadata)
    double.post("advance", seconds=DELAY_S)

    found = endpoints.get_endpoint(name=ENDPOINT)
    model = double.client(vx.ModelServiceClient).get_model(name=MODEL)
    assert list(during.deployed_models) == []
    assert vx.DeploymentStage(metadata.deployment_stage).name == "PREPARING_MODEL"
    assert [
        (each.id, each.model, each.model_version_id, each.status.available_replica_count)
        for each in found.deployed_models
    ] == [(DEPLOYED, f"{PLACE}/models/reviews-1", "1", 2)]
    assert dict(found.traffic_split) == {DEPLOYED: 100}
    assert found.etag != during.etag
    assert [(each.endpoint, each.deployed_model_id) for each in model.deployed_models] == [
        (f"{PLACE}/endpoints/reviews", DEPLOYED)
    ]


def test_replicas_above_the_required_come_later(double: Double) -> None:
    """A deployment with required_replica_count ends with so many, and the others come after it."""
    a_model(double)
    an_endpoint(double)
    deploy(double, deployment(required_replica_count=1), {"0": 100})
    first = _seen(double)["deployed_models"][DEPLOYED]["available"]
    double.post("advance", seconds=DELAY_S)

    assert (first, _seen(double)["deployed_models"][DEPLOYED]["available"]) == (1, 2)


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"min_replica_count": 0}, "min_replica_count; Message: must be at least 1"),
        ({"max_replica_count": 1}, "max_replica_count"),
        ({"required_replica_count": 3}, "required_replica_count"),
        ({"autoscaling_metric_specs": [{"metric_name": "cpu", "target": 60}]}, "unsupported metric cpu"),
        ({"autoscaling_metric_specs": [{"metric_name": CPU, "target": 101}]}, "from 1 to 100"),
        ({"autoscaling_metric_specs": [{"metric_name": CPU}, {"metric_name": CPU}]}, "one spec a metric"),
        ({"machine_spec": {"machine_type": "z9-huge-4"}}, 'Machine type "z9-huge-4" is not supported.'),
        (
            {
                "machine_spec": {
                    "machine_type": "n1-standard-4",
                    "accelerator_type": "NVIDIA_TESLA_K80",
                    "accelerator_count": 1,
                }
            },
            'Accelerator "NVIDIA_TESLA_K80" is not supported for machine type "n1-standard-4"',
        ),
        (
            {
                "machine_spec": {
                    "machine_type": "n1-standard-32",
                    "accelerator_type": "NVIDIA_TESLA_T4",
                    "accelerator_count": 1,
                }
            },
            "Accelerator count 1",
        ),
        (
            {
                "machine_spec": {
                    "machine_type": "g2-standard-12",
                    "accelerator_type": "NVIDIA_L4",
                    "accelerator_count": 2,
                }
            },
            "Accelerator count 2",
        ),
        ({"machine_spec": {"machine_type": "n1-standard-4", "accelerator_count": 1}}, "go together"),
    ],
)
def test_wrong_resources_are_refused(double: Double, resources: dict[str, Any], words: str) -> None:
    """Bounds, metrics, machines and accelerators are looked at before anything begins."""
    a_model(double)
    an_endpoint(double)

    with pytest.raises(gax.InvalidArgument) as refused:
        begin_deploy(double, deployment(**resources))

    assert words in refused.value.message


@pytest.mark.parametrize(
    ("machine", "accelerator", "count"),
    [
        ("n1-standard-4", "NVIDIA_TESLA_T4", 1),
        ("n1-standard-32", "NVIDIA_TESLA_V100", 4),
        ("g2-standard-12", "NVIDIA_L4", 1),
        ("g2-standard-96", "NVIDIA_L4", 8),
        ("a2-highgpu-2g", "NVIDIA_TESLA_A100", 1),
        ("a3-highgpu-8g", "NVIDIA_H100_80GB", 8),
    ],
)
def test_a_machine_takes_its_accelerators(double: Double, machine: str, accelerator: str, count: int) -> None:
    """N1 takes what is attached, the others what is built in, down to one."""
    a_model(double)
    an_endpoint(double)
    spec = {"machine_type": machine, "accelerator_type": accelerator, "accelerator_count": count}

    assert deploy(double, deployment(machine_spec=spec)).WhichOneof("result") == "response"


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ({"0": 90}, "must add up to 100"),
        ({"0": 110, DEPLOYED: -10}, "from 0 to 100"),
        ({"0": 50, "77": 50}, r"The following DeployedModel ID\(s\) \[77\] do not exist."),
    ],
)
def test_a_split_is_whole_and_of_what_is_there(double: Double, split: dict[str, int], words: str) -> None:
    """Shares add up to 100 and name deployed models, or the new one by 0."""
    serving_reviews(double)
    a_model(double, "reviews-2")

    with pytest.raises(gax.InvalidArgument, match=words):
        begin_deploy(double, deployment(OTHER, "reviews-2"), split)


def _two(double: Double) -> None:
    """Have two models deployed, the second without traffic."""
    serving_reviews(double)
    a_model(double, "reviews-2")
    deploy(double, deployment(OTHER, "reviews-2"), {DEPLOYED: 100, "0": 0})


def test_traffic_moves_at_once_for_who_has_seen_the_endpoint(double: Double, endpoints: Any) -> None:
    """An update with the etag is done when it answers; with an old one it is ABORTED and changes nothing."""
    _two(double)
    seen = endpoints.get_endpoint(name=ENDPOINT)
    change = {"endpoint": {"name": ENDPOINT, "etag": seen.etag, "traffic_split": {OTHER: 100}}}
    mask = {"update_mask": {"paths": ["traffic_split"]}}
    answer = endpoints.update_endpoint(change | mask)
    with pytest.raises(gax.Aborted):
        endpoints.update_endpoint(change | mask)

    assert dict(answer.traffic_split) == {OTHER: 100}
    assert _seen(double)["traffic_split"] == {OTHER: 100}


def test_labels_change_by_their_mask(double: Double, endpoints: Any) -> None:
    """A mask of labels replaces all of them and nothing else; what can't be changed is refused."""
    an_endpoint(double, labels={"a": "1", "b": "2"})
    change = {"endpoint": {"name": ENDPOINT, "labels": {"c": "3"}, "display_name": "other"}}
    endpoints.update_endpoint(change | {"update_mask": {"paths": ["labels"]}})
    with pytest.raises(gax.InvalidArgument, match="network can't be updated"):
        endpoints.update_endpoint(change | {"update_mask": {"paths": ["network"]}})

    assert (_seen(double)["labels"], _seen(double)["display_name"]) == ({"c": "3"}, "reviews")


def test_what_has_traffic_stays(double: Double, endpoints: Any) -> None:
    """A model with traffic can't go unless its share is given to others in the call; the last may always go."""
    _two(double)
    with pytest.raises(gax.FailedPrecondition, match="has 100 percent of the traffic"):
        endpoints.undeploy_model({"endpoint": ENDPOINT, "deployed_model_id": DEPLOYED})
    endpoints.undeploy_model({"endpoint": ENDPOINT, "deployed_model_id": DEPLOYED, "traffic_split": {OTHER: 100}})
    double.post("advance", seconds=DELAY_S)
    left = _seen(double)
    endpoints.undeploy_model({"endpoint": ENDPOINT, "deployed_model_id": OTHER})
    double.post("advance", seconds=DELAY_S)

    assert (list(left["deployed_models"]), left["traffic_split"]) == ([OTHER], {OTHER: 100})
    assert (_seen(double)["deployed_models"], _seen(double)["traffic_split"]) == ({}, {})
    with pytest.raises(gax.NotFound):
        endpoints.undeploy_model({"endpoint": ENDPOINT, "deployed_model_id": OTHER})


def test_nothing_is_deleted_from_under_another(double: Double, endpoints: Any, models: Any) -> None:
    """An endpoint with models and a model on an endpoint stay, while it is being deployed, too."""
    a_model(double)
    an_endpoint(double)
    begin_deploy(double, split={"0": 100})
    for _ in range(2):
        with pytest.raises(gax.FailedPrecondition, match="has deployed or being-deployed"):
            endpoints.delete_endpoint(name=ENDPOINT)
        with pytest.raises(gax.FailedPrecondition, match="is deployed or being deployed"):
            models.delete_model(name=MODEL)
        double.post("advance", seconds=DELAY_S)
    endpoints.undeploy_model({"endpoint": ENDPOINT, "deployed_model_id": DEPLOYED})
    double.post("advance", seconds=DELAY_S)
    endpoints.delete_endpoint(name=ENDPOINT)
    models.delete_model(name=MODEL)
    double.post("advance", seconds=DELAY_S)

    left = double.get("resources")
    assert (left["endpoints"], left["models"]) == ({}, {})


def test_one_thing_at_a_time(double: Double, endpoints: Any) -> None:
    """While an operation goes on at an endpoint, no other begins, and it can't be updated."""
    a_model(double)
    an_endpoint(double)
    begun = begin_deploy(double)
    change = {"endpoint": {"name": ENDPOINT, "labels": {}}, "update_mask": {"paths": ["labels"]}}

    with pytest.raises(gax.FailedPrecondition) as busy:
        begin_deploy(double, deployment(OTHER))
    with pytest.raises(gax.FailedPrecondition, match="other operations running"):
        endpoints.update_endpoint(change)
    assert begun.name in busy.value.message


def test_bounds_and_targets_can_be_mutated_and_machines_not(double: Double, endpoints: Any) -> None:
    """Only what the mask names changes; replicas move to the nearer bound."""
    serving_reviews(double)
    spec = [{"metric_name": CPU, "target": 70}]
    wanted = {"min_replica_count": 3, "max_replica_count": 9, "autoscaling_metric_specs": spec}
    paths = ["dedicated_resources.min_replica_count", "dedicated_resources.autoscaling_metric_specs"]
    request = {"endpoint": ENDPOINT, "deployed_model": {"id": DEPLOYED, "dedicated_resources": wanted}}
    endpoints.mutate_deployed_model(request | {"update_mask": {"paths": paths}})
    double.post("advance", seconds=DELAY_S)
    with pytest.raises(gax.InvalidArgument, match="machine_spec can't be mutated"):
        endpoints.mutate_deployed_model(request | {"update_mask": {"paths": ["dedicated_resources.machine_spec"]}})

    found = endpoints.get_endpoint(name=ENDPOINT).deployed_models[0]
    assert json_format.MessageToDict(vx.DeployedModel.pb(found).dedicated_resources) == {
        "machineSpec": {"machineType": "n1-standard-4"},
        "minReplicaCount": 3,
        "maxReplicaCount": 5,
        "autoscalingMetricSpecs": [{"metricName": CPU, "target": 70}],
    }
    assert found.status.available_replica_count == 3


@pytest.mark.parametrize(
    ("reason", "code", "words"),
    [
        ("server", 9, "Model server exited unexpectedly. Model server logs can be found at https://console."),
        ("health", 9, "Model server never became ready."),
        ("capacity", 8, "Resources are insufficient in region: us-central1."),
        ("the moon is full", 9, "the moon is full"),
    ],
)
def test_a_deployment_fails_as_scripted(double: Double, reason: str, code: int, words: str) -> None:
    """The operation ends with the error, and the endpoint is as it was; it happens once."""
    a_model(double)
    an_endpoint(double)
    double.post("script", endpoint="reviews", on="deploy", outcome="fail", reason=reason)
    failed = deploy(double)

    assert (failed.error.code, failed.error.message.startswith(words)) == (code, True)
    assert _seen(double)["deployed_models"] == {}
    assert deploy(double).WhichOneof("result") == "response"


def test_without_capacity_the_next_machine_may_work(double: Double) -> None:
    """What a setting names is out, on demand or on spot; another machine is not."""
    a_model(double)
    an_endpoint(double)
    double.post("settings", no_capacity=["n1-standard-4"], no_spot_capacity=["*"])
    out = deploy(double)
    spot = deploy(double, deployment(machine_spec={"machine_type": "n1-standard-8"}, spot=True))
    found = deploy(double, deployment(machine_spec={"machine_type": "n1-standard-8"}))

    assert [each.error.code for each in (out, spot, found)] == [8, 8, 0]


def test_a_quota_is_kept(double: Double) -> None:
    """Processors and accelerators are counted by machine, spot's of their own; the error names what is exceeded."""
    serving_reviews(double)
    a_model(double, "reviews-2")
    double.post("quotas", custom_model_serving_cpus=15, custom_model_serving_preemptible_nvidia_t4_gpus=1)
    spec = {"machine_type": "n1-standard-4", "accelerator_type": "NVIDIA_TESLA_T4", "accelerator_count": 1}
    with pytest.raises(gax.ResourceExhausted) as cpus:
        begin_deploy(double, deployment(OTHER, "reviews-2"))
    with pytest.raises(gax.ResourceExhausted) as spot:
        begin_deploy(double, deployment(OTHER, "reviews-2", machine_spec=spec, spot=True))

    words = "The following quota metrics exceed quota limits: aiplatform.googleapis.com/"
    assert cpus.value.message == f"{words}custom_model_serving_cpus"
    assert spot.value.message == f"{words}custom_model_serving_preemptible_nvidia_t4_gpus"


def test_predictions_are_split_and_say_who_answered(double: Double, endpoints: Any) -> None:
    """Each model answers its share; RawPredict says who in front of the answer."""
    _two(double)
    change = {"endpoint": {"name": ENDPOINT, "traffic_split": {DEPLOYED: 75, OTHER: 25}}}
    endpoints.update_endpoint(change | {"update_mask": {"paths": ["traffic_split"]}})
    client = double.client(vx.PredictionServiceClient)
    value = struct_pb2.Value(number_value=1)
    answers = [client.predict(endpoint=ENDPOINT, instances=[value]).deployed_model_id for _ in range(8)]
    raw = vx.RawPredictRequest(endpoint=ENDPOINT, http_body={"data": b"{}"})
    stub = double.channel.unary_unary(
        "/google.cloud.aiplatform.v1.PredictionService/RawPredict",
        request_serializer=vx.RawPredictRequest.serialize,
        response_deserializer=None,
    )
    _, call = stub.with_call(raw)

    assert sorted(answers) == [DEPLOYED] * 6 + [OTHER] * 2
    assert dict(call.initial_metadata())["x-vertex-ai-deployed-model-id"] in {DEPLOYED, OTHER}


def test_a_models_answer_is_scripted(double: Double) -> None:
    """A body goes out as it is; a status from 400 is the error that it stands for."""
    serving_reviews(double)
    client = double.client(vx.PredictionServiceClient)
    double.post("answers", endpoint="reviews", body='{"a": 1}', content_type="application/x-json")
    answer = client.raw_predict(endpoint=ENDPOINT, http_body={"data": b"x"})
    double.post("answers", endpoint="reviews", deployed_model=DEPLOYED, status=503, body="busy")
    with pytest.raises(gax.ServiceUnavailable, match="busy"):
        client.raw_predict(endpoint=ENDPOINT, http_body={"data": b"x"})

    assert (answer.data, answer.content_type) == (b'{"a": 1}', "application/x-json")


def test_an_operation_is_found_listed_cancelled_and_forgotten(double: Double, endpoints: Any) -> None:
    """By its name, with the project's ID as well; a cancelled one had no effect."""
    a_model(double)
    an_endpoint(double)
    begun = begin_deploy(double)
    by_id = begun.name.replace(NUMBER, "acme-ml")
    listed = endpoints.list_operations({"name": ENDPOINT, "filter": "done=false"})
    endpoints.cancel_operation({"name": by_id})
    ended = endpoints.get_operation({"name": by_id})
    endpoints.delete_operation({"name": by_id})

    assert [each.name for each in listed.operations] == [begun.name]
    assert (ended.done, ended.error.code) == (True, 1)
    assert _seen(double)["deployed_models"] == {}
    with pytest.raises(gax.NotFound):
        endpoints.get_operation({"name": by_id})


def test_waiting_returns_when_it_is_done(double: Double, endpoints: Any) -> None:
    """WaitOperation answers the operation once it has ended."""
    a_model(double)
    an_endpoint(double)
    double.post("settings", delays={"DeployModel": 0.3})
    begun = begin_deploy(double)

    waited = endpoints.wait_operation(operations_pb2.WaitOperationRequest(name=begun.name))

    assert operations_pb2.Operation.FromString(waited).done


def test_the_beta_is_the_same_service(double: Double) -> None:
    """v1beta1's path takes what only it has, and its operations hold its messages."""
    a_model(double)
    an_endpoint(double)
    asked = vx.DeployModelRequest(endpoint=ENDPOINT, deployed_model=deployment(min_replica_count=0))
    stub = double.channel.unary_unary(
        "/google.cloud.aiplatform.v1beta1.EndpointService/DeployModel",
        request_serializer=vx.DeployModelRequest.serialize,
        response_deserializer=operations_pb2.Operation.FromString,
    )

    begun = stub(asked)

    kind = "type.googleapis.com/google.cloud.aiplatform.v1beta1.DeployModelOperationMetadata"
    assert begun.metadata.type_url == kind
