"""Model servers of others behind the gateway: Google's for Vertex AI's contract, MLflow's for SageMaker's.

MLflow gets an environment of its own from the package index: it needs other versions of packages than we do.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from mlscale.errors import ProviderFailed
from mlscale.providers.local.environments import environment
from mlscale.serving.gateway import Gateway, Route
from mlscale.serving.listener import Listener, free_port
from mlscale.serving.upstream import Upstream, UpstreamBrokenError

pytest.importorskip("google.cloud.aiplatform_v1", reason="the group e2e is not installed")

ENDPOINT = "/v1/projects/acme/locations/us-central1/endpoints/sums"
ROWS = {"instances": [[1, 2], [3, 4.5]]}
WRONG = {"instances": [["no", "number"]]}
SLOW = {"instances": [[60, 0]]}
SUMS = [3.0, 7.5]
GIVES_UP_S = 1.0
"""How long the gateway waits for another replica."""

PREDICTION = "google.cloud.aiplatform.prediction"
GOOGLES_MODEL = """
import time
from google.cloud.aiplatform.prediction.predictor import Predictor

class Sums(Predictor):
    def load(self, artifacts_uri):
        pass

    def predict(self, request):
        time.sleep(60 if request["instances"][0][0] == 60 else 0)
        return {"predictions": [sum(row) for row in request["instances"]]}
"""

MLFLOWS_MODEL = """
import time
import mlflow.models
import mlflow.pyfunc

class Sums(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        time.sleep(60 if model_input[0][0] == 60 else 0)
        return [float(row[0]) + float(row[1]) for row in model_input]

mlflow.models.set_model(Sums())
"""
MLFLOWS_SAVE = "import mlflow.pyfunc as p; p.save_model('model', python_model='sums.py', pip_requirements=[])"


@dataclass(frozen=True, slots=True)
class Server:
    """A server of others: how it is started, where it answers, and what it says when its model raises."""

    python: str
    application: Sequence[str]
    variables: Mapping[str, str]
    health_path: str
    predict_path: str
    status: int
    words: str


def googles(folder: Path) -> Server:
    """Return the server of Google's containers for custom prediction routines."""
    (folder / "sums.py").write_text(GOOGLES_MODEL)
    variables = {
        "AIP_HTTP_PORT": "0",  # it must be there; the port is uvicorn's matter
        "AIP_HEALTH_ROUTE": "/v1/health",
        "AIP_PREDICT_ROUTE": "/v1/models/sums:predict",
        "AIP_STORAGE_URI": str(folder),
        "HANDLER_MODULE": f"{PREDICTION}.handler",
        "HANDLER_CLASS": "PredictionHandler",
        "PREDICTOR_MODULE": "sums",
        "PREDICTOR_CLASS": "Sums",
        "PYTHONPATH": str(folder),
    }
    return Server(
        python=sys.executable,
        application=["--factory", f"{PREDICTION}.model_server:CprModelServer"],
        variables=variables,
        health_path=variables["AIP_HEALTH_ROUTE"],
        predict_path=variables["AIP_PREDICT_ROUTE"],
        status=500,
        words="unsupported operand type(s) for +: 'int' and 'str'",
    )


def mlflows(folder: Path, python: str) -> Server:
    """Return MLflow's scoring server, which its containers for SageMaker run."""
    (folder / "sums.py").write_text(MLFLOWS_MODEL)
    subprocess.run([python, "-c", MLFLOWS_SAVE], cwd=folder, check=True, capture_output=True, timeout=120)
    return Server(
        python=python,
        application=["mlflow.pyfunc.scoring_server.app:app"],
        variables={"__pyfunc_model_path__": "model"},
        health_path="/ping",
        predict_path="/invocations",
        status=400,
        words="could not convert string to float",
    )


@pytest.fixture(scope="module")
def mlflows_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python of an environment with MLflow, made as a model's is."""
    home = tmp_path_factory.mktemp("mlflow")
    requirements = home / "requirements.txt"
    requirements.write_text("mlflow-skinny>=3.17,<4\npandas>=2.2\nfastapi\nuvicorn\n")
    try:
        return environment(home, requirements, lambda _: None)
    except ProviderFailed as error:
        if any(words in error.why for words in ("error sending request", "NewConnectionError")):
            pytest.skip(f"THE PACKAGE INDEX CAN'T BE REACHED: nothing is shown of MLflow. {error.why}")
        raise


@pytest.fixture(params=["google", "mlflow"])
def third_party(request: pytest.FixtureRequest, tmp_path: Path) -> Server:
    """A server of each contract."""
    if request.param == "google":
        return googles(tmp_path)
    return mlflows(tmp_path, request.getfixturevalue("mlflows_python"))


@dataclass(frozen=True, slots=True)
class Deployed:
    """A server of others that runs behind a gateway, which listens on `port`."""

    port: int
    upstream: Upstream
    process: asyncio.subprocess.Process

    def asked(self, method: str, path: str, body: Any = None) -> tuple[int, Mapping[str, str], bytes]:
        """Return the status, headers and body of the gateway's answer to a body sent as JSON."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


@asynccontextmanager
async def deployed(server: Server, folder: Path) -> AsyncIterator[Deployed]:
    """Run a server of others until its health route answers, and the gateway; kill what is left of it after."""
    upstream = Upstream("replica", "127.0.0.1", free_port("127.0.0.1"), server.predict_path)
    options = ["--host", "127.0.0.1", "--port", str(upstream.port), "--log-level", "warning"]
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            server.python, "-m", "uvicorn", *options, *server.application,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), **server.variables},
            stdout=log,
            stderr=log,
        )  # fmt: skip
    gateway = Gateway("sums", wait_for_replica_s=GIVES_UP_S)
    gateway.set_routes([Route("a1", 10_000, (upstream,))])
    listener = Listener(gateway, "127.0.0.1", 0)
    try:
        async with asyncio.timeout(60):
            while not await is_healthy(upstream, server.health_path):
                assert process.returncode is None, (folder / "log").read_text()
                await asyncio.sleep(0.1)
        yield Deployed(listener.port, upstream, process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await listener.stop(1.0)
        upstream.close()


async def is_healthy(upstream: Upstream, path: str) -> bool:
    """Whether a server's health route answers 200, as the supervisor asks it."""
    try:
        return (await upstream.request("GET", path, (), b"", 5.0)).status == 200
    except UpstreamBrokenError:
        return False


def behind(server: Server, folder: Path, shown: Callable[[Deployed], None]) -> None:
    """Call `shown` in a thread while the server and the gateway run."""

    async def run() -> None:
        async with deployed(server, folder) as running:
            await asyncio.to_thread(shown, running)

    asyncio.run(run())


def sagemaker(port: int) -> Any:
    """Return SageMaker Runtime's client of boto3, which asks once."""
    return boto3.client(
        "sagemaker-runtime",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"total_max_attempts": 1}),
    )


def test_predictions_in_everybodys_words(third_party: Server, tmp_path: Path) -> None:
    """By plain POST, as SageMaker's client and as Vertex's: each reaches the route that the server's contract names."""

    def shown(running: Deployed) -> None:
        assert running.asked("GET", "/ping")[0] == 200

        status, headers, body = running.asked("POST", "/invocations", ROWS)
        assert (status, headers["x-mlscale-revision"], json.loads(body)) == (200, "a1", {"predictions": SUMS})

        with closing(sagemaker(running.port)) as client:
            answer = client.invoke_endpoint(
                EndpointName="sums", ContentType="application/json", Accept="application/json", Body=json.dumps(ROWS)
            )
            assert json.loads(answer["Body"].read()) == {"predictions": SUMS}
            assert (answer["ContentType"], answer["InvokedProductionVariant"]) == ("application/json", "a1")

        status, headers, body = running.asked("POST", f"{ENDPOINT}:predict", ROWS)
        assert (status, headers["content-type"], json.loads(body)) == (
            200,
            "application/json",
            {
                "predictions": SUMS,
                "deployedModelId": "161",
                "model": "projects/acme/locations/us-central1/models/sums-a1",
                "modelDisplayName": "sums-a1",
            },
        )
        status, _, body = running.asked("POST", f"{ENDPOINT}:rawPredict", ROWS)
        assert (status, json.loads(body)) == (200, {"predictions": SUMS})

    behind(third_party, tmp_path, shown)


def test_a_models_error_in_everybodys_words(third_party: Server, tmp_path: Path) -> None:
    """Plain as it came, as SageMaker's ModelError with the original inside, and as Google's error."""

    def shown(running: Deployed) -> None:
        status, _, original = running.asked("POST", "/invocations", WRONG)
        assert status == third_party.status
        assert third_party.words in original.decode()

        with closing(sagemaker(running.port)) as client:
            with pytest.raises(client.exceptions.ModelError) as failed:
                client.invoke_endpoint(EndpointName="sums", ContentType="application/json", Body=json.dumps(WRONG))
            assert failed.value.response["OriginalStatusCode"] == third_party.status
            assert third_party.words in failed.value.response["OriginalMessage"]

        status, _, body = running.asked("POST", f"{ENDPOINT}:predict", WRONG)
        error = json.loads(body)["error"]
        word = "INTERNAL" if third_party.status == 500 else "INVALID_ARGUMENT"
        assert (status, error["code"], error["status"]) == (third_party.status, third_party.status, word)
        assert third_party.words in error["message"]

    behind(third_party, tmp_path, shown)


def test_many_at_once_get_their_own_answers(third_party: Server, tmp_path: Path) -> None:
    """200 requests over eight connections at a time, which the gateway keeps open to the server."""

    async def run() -> Sequence[tuple[int, Any]]:
        room = asyncio.Semaphore(8)

        async def asked(number: int) -> tuple[int, Any]:
            async with room:
                rows = {"instances": [[number, 0.5]]}
                status, _, body = await asyncio.to_thread(running.asked, "POST", "/invocations", rows)
                return status, json.loads(body)

        async with deployed(third_party, tmp_path) as running:
            return await asyncio.gather(*(asked(number) for number in range(100, 300)))

    assert asyncio.run(run()) == [(200, {"predictions": [number + 0.5]}) for number in range(100, 300)]


def test_a_server_that_is_killed_is_503_in_time(third_party: Server, tmp_path: Path) -> None:
    """Under a request and before one: everybody hears that nobody is there, soon after the gateway gave up."""

    async def run() -> None:
        async with deployed(third_party, tmp_path) as running:
            under = asyncio.ensure_future(asyncio.to_thread(running.asked, "POST", "/invocations", SLOW))
            async with asyncio.timeout(10):
                while not running.upstream.in_flight:
                    await asyncio.sleep(0.01)
            running.process.kill()
            begun = time.monotonic()
            status, headers, body = await under
            assert (status, headers["retry-after"]) == (503, "5")
            assert json.loads(body) == {"error": "no replica is healthy: mlscale status"}

            await asyncio.to_thread(refused, running)
            assert time.monotonic() - begun < 3 * GIVES_UP_S + 3.0

    def refused(running: Deployed) -> None:
        with closing(sagemaker(running.port)) as client, pytest.raises(ClientError) as failed:
            client.invoke_endpoint(EndpointName="sums", ContentType="application/json", Body=json.dumps(ROWS))
        assert failed.value.response["Error"]["Code"] == "ServiceUnavailable"
        status, _, body = running.asked("POST", f"{ENDPOINT}:predict", ROWS)
        assert (status, json.loads(body)["error"]["status"]) == (503, "UNAVAILABLE")

    asyncio.run(run())
