"""What tests start from: a model, an endpoint, a deployed model, made through the API itself."""

from __future__ import annotations

from typing import Any

from google.cloud import aiplatform_v1 as vx

from tests.doubles.vertex.serving import PARENT, Double

BUCKET = "acme-ml"
IMAGE = "us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-5:latest"
ARTIFACT = f"gs://{BUCKET}/mlscale/uploads/reviews/0123456789abcdef"
MODEL = f"{PARENT}/models/reviews-1"
ENDPOINT = f"{PARENT}/endpoints/reviews"
DEPLOYED = "1234567890"
DELAY_S = 60.0


def a_model(double: Double, name: str = "reviews-1", **asked: Any) -> str:
    """Upload a model with all that it needs; its ID."""
    if BUCKET not in double.get("resources")["buckets"]:
        double.make_bucket(BUCKET)
        double.put_object(f"{ARTIFACT}/model.joblib", b"model")
    plain = {"display_name": name, "artifact_uri": ARTIFACT, "container_spec": {"image_uri": IMAGE}}
    request = {"parent": PARENT, "model_id": name, "model": plain | asked}
    double.client(vx.ModelServiceClient).upload_model(request)
    double.post("advance", seconds=DELAY_S)
    return name


def an_endpoint(double: Double, name: str = "reviews", **asked: Any) -> str:
    """Make an endpoint; its ID. From then on a change takes a minute of the double's clock."""
    double.post("settings", delay_s=DELAY_S)
    request = {"parent": PARENT, "endpoint_id": name, "endpoint": {"display_name": name} | asked}
    double.client(vx.EndpointServiceClient).create_endpoint(request)
    double.post("advance", seconds=DELAY_S)
    return name


def deployment(deployed: str = DEPLOYED, model: str = "reviews-1", **resources: Any) -> dict[str, Any]:
    """Return a deployed model as it is asked for: two to five replicas of n1-standard-4."""
    plain = {"machine_spec": {"machine_type": "n1-standard-4"}, "min_replica_count": 2, "max_replica_count": 5}
    return {
        "id": deployed,
        "model": f"{PARENT}/models/{model}",
        "display_name": model,
        "dedicated_resources": plain | resources,
    }


def begin_deploy(
    double: Double, deployed: dict[str, Any] | None = None, split: dict[str, int] | None = None, **asked: Any
) -> Any:
    """Begin to deploy to the endpoint; the operation."""
    request = {"endpoint": ENDPOINT, "deployed_model": deployed or deployment(), "traffic_split": split or {}}
    return double.client(vx.EndpointServiceClient).deploy_model(request | asked).operation


def deploy(double: Double, deployed: dict[str, Any] | None = None, split: dict[str, int] | None = None) -> Any:
    """Deploy to the endpoint and let its time pass; the operation as it is then."""
    begun = begin_deploy(double, deployed, split)
    double.post("advance", seconds=DELAY_S)
    return double.client(vx.EndpointServiceClient).get_operation({"name": begun.name})


def serving_reviews(double: Double) -> str:
    """Make the model and the endpoint, and deploy the one to the other with all traffic; the endpoint's ID."""
    a_model(double)
    an_endpoint(double)
    deploy(double, split={"0": 100})
    return "reviews"
