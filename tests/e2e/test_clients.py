"""The clouds' own clients against a local deployment: only their endpoint's address is changed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from mlscale.errors import MlscaleError
from mlscale.providers import docker_engine
from tests.conftest import Cli

aiplatform = pytest.importorskip("google.cloud.aiplatform_v1", reason="the group e2e is not installed")

FLOWERS = {"instances": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]}
SPECIES = ["setosa", "virginica"]
ENDPOINT = "projects/acme/locations/us-central1/endpoints/centroids"


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.docker)])
def address(custom: Cli, request: pytest.FixtureRequest) -> str:
    """Where the template `custom` is deployed, as processes and as containers."""
    if request.param == "docker":
        try:
            docker_engine.info()
        except MlscaleError as error:
            pytest.skip(f"NO DOCKER ENGINE, CLIENTS ARE NOT TESTED WITH CONTAINERS: {error}")
    deployed = custom.run("deploy", "--runtime", request.param)
    assert deployed.returncode == 0, deployed.stderr
    found: str = json.loads(custom.run("status", "--output", "json").stdout)["address"]
    return found


def species(answer: Any) -> list[str]:
    """Return the species of predictions."""
    return [each["species"] for each in answer["predictions"]]


@pytest.fixture
def sagemaker(address: str) -> Iterator[Any]:
    """SageMaker Runtime's client of boto3."""
    client = boto3.client(
        "sagemaker-runtime",
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"total_max_attempts": 1}),
    )
    yield client
    client.close()


def test_boto3(sagemaker: Any) -> None:
    """InvokeEndpoint answers, says which variant it was, and raises what SageMaker would."""
    answer = sagemaker.invoke_endpoint(
        EndpointName="centroids", ContentType="application/json", Body=json.dumps(FLOWERS), Accept="application/json"
    )
    assert species(json.loads(answer["Body"].read())) == SPECIES
    assert answer["ContentType"] == "application/json"
    variant = answer["InvokedProductionVariant"]

    named = sagemaker.invoke_endpoint(
        EndpointName="centroids", ContentType="application/json", Body=json.dumps(FLOWERS), TargetVariant=variant
    )
    assert named["InvokedProductionVariant"] == variant
    assert species(json.loads(named["Body"].read())) == SPECIES

    with pytest.raises(sagemaker.exceptions.ModelError) as failed:
        sagemaker.invoke_endpoint(EndpointName="centroids", ContentType="text/csv", Body="1,2")
    assert failed.value.response["OriginalStatusCode"] == 500
    assert "text/csv is not served here: send application/json" in failed.value.response["OriginalMessage"]

    with pytest.raises(ClientError) as unknown:
        sagemaker.invoke_endpoint(EndpointName="other", Body="{}")
    assert unknown.value.response["Error"] == {
        "Code": "ValidationError",
        "Message": "Endpoint other of account 000000000000 not found.",
    }

    with pytest.raises(ClientError) as no_variant:
        sagemaker.invoke_endpoint(EndpointName="centroids", Body="{}", TargetVariant="other")
    assert no_variant.value.response["Error"]["Code"] == "ValidationError"


def test_the_aws_command_line(address: str, tmp_path: Path) -> None:
    """`aws sagemaker-runtime invoke-endpoint` writes the prediction."""
    aws = shutil.which("aws", path=str(Path(sys.executable).parent))
    assert aws is not None, "awscli is in the group e2e"
    (tmp_path / "body.json").write_text(json.dumps(FLOWERS))
    answered = subprocess.run(
        [aws, "sagemaker-runtime", "invoke-endpoint", "--endpoint-url", address, "--region", "us-east-1",
         "--endpoint-name", "centroids", "--content-type", "application/json", "--body", "fileb://body.json",
         "answer.json"],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )  # fmt: skip
    assert answered.returncode == 0, answered.stderr

    assert species(json.loads((tmp_path / "answer.json").read_text())) == SPECIES
    assert json.loads(answered.stdout)["ContentType"] == "application/json"


def vertex(address: str) -> Any:
    """Return Vertex's client; a scheme in front of its address is what makes it talk plain HTTP."""
    from google.auth.credentials import AnonymousCredentials

    return aiplatform.PredictionServiceClient(
        transport="rest",
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call,unused-ignore]
        client_options={"api_endpoint": address},
    )


def test_googles_client(address: str) -> None:
    """Predict answers, and raises what Vertex would.

    RawPredict is broken in this transport (2.7.0): it sends its own wrapping as the model's body. Over plain HTTP, as
    Endpoint.raw_predict sends it, it works.
    """
    from google.api import httpbody_pb2
    from google.api_core.exceptions import InternalServerError, NotFound
    from google.protobuf import json_format, struct_pb2

    with vertex(address) as client:
        instances = [json_format.ParseDict(row, struct_pb2.Value()) for row in FLOWERS["instances"]]
        answer = client.predict(endpoint=ENDPOINT, instances=instances)
        assert [each["species"] for each in answer.predictions] == SPECIES
        assert answer.deployed_model_id.isdigit()
        assert answer.model_display_name.startswith("centroids-")

        body = httpbody_pb2.HttpBody(data=json.dumps(FLOWERS).encode(), content_type="application/json")
        with pytest.raises(InternalServerError, match="KeyError: 'instances'"):
            client.raw_predict(endpoint=ENDPOINT, http_body=body)
        with pytest.raises(NotFound, match="centroids2` not found"):
            client.predict(endpoint=ENDPOINT + "2", instances=instances)
        with pytest.raises(InternalServerError):
            client.predict(endpoint=ENDPOINT, instances=[struct_pb2.Value(string_value="no flower")])


def test_plain_http_in_googles_format(address: str) -> None:
    """The same JSON as curl would send, with Vertex's fields in the answer."""
    answer = posted(f"{address}/v1/{ENDPOINT}:predict", FLOWERS)

    assert species(answer) == SPECIES
    assert sorted(answer) == ["deployedModelId", "model", "modelDisplayName", "predictions"]
    assert species(posted(f"{address}/v1/{ENDPOINT}:rawPredict", FLOWERS)) == SPECIES
    with pytest.raises(urllib.error.HTTPError) as failed:
        posted(f"{address}/v1/{ENDPOINT}2:predict", FLOWERS)
    with failed.value as error:
        assert json.loads(error.read())["error"]["status"] == "NOT_FOUND"


def posted(url: str, body: Any) -> Any:
    """Return the decoded answer to a body sent as JSON."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})  # noqa: S310 - our own server
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - our own server
        return json.load(answer)
