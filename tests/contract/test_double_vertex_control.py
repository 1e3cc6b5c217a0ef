"""The Vertex AI double's control: faults, the journal, the kill switch, and what it says of what it does not have."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.api_core import exceptions as gax
from google.cloud import aiplatform_v1 as vx
from obstore.exceptions import GenericError
from obstore.store import GCSStore

from tests.doubles.vertex import Double, serving
from tests.doubles.vertex.arranged import BUCKET, DEPLOYED, ENDPOINT, MODEL, a_model, an_endpoint, serving_reviews
from tests.doubles.vertex.serving import PARENT

CHILD = """
import os, sys
import grpc
from google.cloud import aiplatform_v1 as vx
from obstore.store import GCSStore

channel = grpc.insecure_channel(os.environ["MLSCALE_VERTEX_API_ENDPOINT"].removeprefix("http://"))
models = vx.ModelServiceClient(transport=vx.ModelServiceClient.get_transport_class("grpc")(channel=channel))
options = {"allow_http": True}
url = os.environ["STORAGE_EMULATOR_HOST"]
store = GCSStore("acme-ml", config={"base_url": url, "bearer_token": "x"}, client_options=options)
sys.stdin.readline()
for number in (1, 2, 3):
    store.put(f"mlscale/journal/{number}-before", b"")
    models.get_model(name=sys.argv[1])
    change = {"model": {"name": sys.argv[1], "labels": {f"k{number}": "v"}}, "update_mask": {"paths": ["labels"]}}
    models.update_model(change)
    store.put(f"mlscale/journal/{number}-after", b"")
"""


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


def _store(double: Double) -> GCSStore:
    """Return a store that asks once."""
    config = {"base_url": double.storage, "bearer_token": "x"}
    return GCSStore(BUCKET, config=config, client_options={"allow_http": True}, retry_config={"max_retries": 0})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("point", "label", "notes"),
    [
        ("before", "k1", ["1-after", "1-before", "2-before"]),
        ("committed", "k2", ["1-after", "1-before", "2-before"]),
        ("replied", "k2", ["1-after", "1-before", "2-before"]),
        ("working", "k2", ["1-after", "1-before", "2-after", "2-before", "3-before"]),
    ],
)
def test_a_process_ends_at_the_point_that_was_asked(double: Double, point: str, label: str, notes: list[str]) -> None:
    """The process is gone at the second mutating call, notes not counted, with exactly that much done."""
    a_model(double)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, MODEL], env=os.environ | double.environment, stdin=subprocess.PIPE, text=True
    )
    double.post("kill", pid=child.pid, nth=2, point=point)
    child.communicate("go\n")

    kill = double.get("kill")
    left = double.get(f"resources?bucket={BUCKET}&prefix=mlscale/journal/")
    assert child.returncode == -signal.SIGKILL
    assert kill == {
        "pid": child.pid,
        "nth": 2,
        "point": point,
        "counted": 2,
        "calls": ["ModelService.UpdateModel"] * 2,
        "fired": True,
    }
    assert left["models"]["reviews-1"]["labels"] == {label: "v"}
    assert sorted(key.rpartition("/")[2] for key in left["objects"]) == notes


def test_uploads_count_and_notes_do_not(double: Double) -> None:
    """Objects under uploads/ are mutating calls for the kill switch; leases, journal and revisions are not."""
    double.make_bucket(BUCKET)
    double.post("kill", pid=os.getpid(), nth=0, point="before")
    store = _store(double)
    for folder in ("leases", "journal", "revisions", "uploads"):
        store.put(f"mlscale/{folder}/x", b"")
    store.get("mlscale/uploads/x")

    kill = double.get("kill")
    assert (kill["calls"], kill["fired"]) == (["storage.PutObject"], False)


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ({"kind": "throttle"}, "RESOURCE_EXHAUSTED", "Quota exceeded"),
        ({"kind": "500"}, "INTERNAL", "Internal error"),
        ({"kind": "503"}, "UNAVAILABLE", "currently unavailable"),
        ({"kind": "expired"}, "UNAUTHENTICATED", "invalid authentication credentials"),
        ({"kind": "access_denied"}, "PERMISSION_DENIED", "Permission 'aiplatform.endpoints.list' denied"),
        ({"kind": "custom", "code": "ABORTED", "message": "again"}, "ABORTED", "again"),
        ({"kind": "drop"}, "UNAVAILABLE", "Socket closed"),
        ({"kind": "hang", "seconds": 60}, "DEADLINE_EXCEEDED", "Deadline Exceeded"),
    ],
)
def test_the_second_call_goes_wrong(double: Double, fault: dict[str, Any], code: str, words: str) -> None:
    """A fault hits the call that it is about, once."""
    endpoints = double.client(vx.EndpointServiceClient)
    double.post("faults", rules=[{"operation": r"EndpointService\.List", "nth": 2, **fault}])
    endpoints.list_endpoints(parent=PARENT)
    with pytest.raises(gax.GoogleAPICallError) as failed:
        endpoints.list_endpoints(parent=PARENT, timeout=1)
    endpoints.list_endpoints(parent=PARENT)

    assert failed.value.grpc_status_code == grpc.StatusCode[code]
    assert words in failed.value.message


@pytest.mark.parametrize(("kind", "made"), [("drop", []), ("drop_after_commit", ["reviews"])])
def test_a_dropped_call_had_its_effect_or_not(double: Double, kind: str, made: list[str]) -> None:
    """The caller hears the same, whether or not the operation began."""
    double.post("faults", rules=[{"operation": "CreateEndpoint", "kind": kind}])
    with pytest.raises(gax.ServiceUnavailable, match="Socket closed"):
        double.client(vx.EndpointServiceClient).create_endpoint(
            {"parent": PARENT, "endpoint_id": "reviews", "endpoint": {"display_name": "x"}}
        )
    double.post("advance", seconds=60)

    assert list(double.get("resources")["endpoints"]) == made


def test_storage_has_faults_too(double: Double) -> None:
    """They come with HTTP's status."""
    double.make_bucket(BUCKET)
    double.post("faults", rules=[{"operation": "storage.PutObject", "kind": "503"}])
    with pytest.raises(GenericError, match="503"):
        _store(double).put("x", b"")

    assert double.get(f"resources?bucket={BUCKET}")["objects"] == {}


def test_a_permission_can_be_missing(double: Double) -> None:
    """What a setting takes away is refused, whoever asks; permissions that are asked for say so."""
    double.post("settings", denied=["aiplatform.endpoints.create"])
    endpoints = double.client(vx.EndpointServiceClient)
    with pytest.raises(gax.PermissionDenied, match=r"Permission 'aiplatform\.endpoints\.create' denied"):
        endpoints.create_endpoint(parent=PARENT, endpoint={"display_name": "x"})

    asked = ["aiplatform.endpoints.create", "aiplatform.endpoints.get"]
    granted = endpoints.test_iam_permissions({"resource": f"{PARENT}/endpoints/x", "permissions": asked})
    assert list(granted.permissions) == ["aiplatform.endpoints.get"]


def test_the_journal_has_whole_requests(double: Double) -> None:
    """Each call is there with its request, its permission and its outcome."""
    endpoints = double.client(vx.EndpointServiceClient)
    with pytest.raises(gax.NotFound):
        endpoints.undeploy_model({"endpoint": ENDPOINT, "deployed_model_id": DEPLOYED, "traffic_split": {"1": 100}})

    assert double.get("journal") == [
        {
            "number": 1,
            "service": "EndpointService",
            "operation": "UndeployModel",
            "version": "v1",
            "request": {"endpoint": ENDPOINT, "deployed_model_id": DEPLOYED, "traffic_split": {"1": 100}},
            "mutating": True,
            "workspace": False,
            "permission": "aiplatform.endpoints.undeploy",
            "code": "NOT_FOUND",
            "error": "The Endpoint does not exist.",
        }
    ]
    double.delete("journal")
    assert double.get("journal") == []


def test_what_is_not_imitated_says_so(double: Double) -> None:
    """A method that nobody has is UNIMPLEMENTED and listed, known to the clients or not."""
    with pytest.raises(gax.MethodNotImplemented, match=r"ModelService\.ExportModel"):
        double.client(vx.ModelServiceClient).export_model(name=MODEL, output_config={})
    with pytest.raises(grpc.RpcError) as unknown:
        double.channel.unary_unary("/google.cloud.run.v2.Services/ListServices")(b"")

    assert unknown.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert double.get("unimplemented") == ["ModelService.ExportModel", "Services.ListServices"]


def test_a_saved_world_comes_back(double: Double) -> None:
    """Everything is as it was, objects too; what is under way can't be saved."""
    serving_reviews(double)
    double.post("save")
    before = double.get(f"resources?bucket={BUCKET}")
    double.client(vx.EndpointServiceClient).undeploy_model({"endpoint": ENDPOINT, "deployed_model_id": DEPLOYED})
    with pytest.raises(ValueError, match="still to happen"):
        double.post("save")
    double.post("advance", seconds=60)
    _store(double).put("new", b"")
    double.post("restore")

    assert double.get(f"resources?bucket={BUCKET}") == before


def test_a_stuck_operation_is_released(double: Double) -> None:
    """It goes on whatever the time, until a script or a day ends it."""
    double.post("script", endpoint="reviews", on="create", outcome="stuck")
    an_endpoint(double)
    during = double.get("resources")
    double.post("script", endpoint="reviews", on="now", outcome="release")

    assert during["endpoints"] == {}
    assert list(double.get("resources")["endpoints"]) == ["reviews"]


def test_autoscaling_moves_replicas(double: Double) -> None:
    """What a test says is available is what the endpoint shows."""
    serving_reviews(double)
    double.post("move", endpoint="reviews", deployed_model="reviews-1", count=4)

    found = double.client(vx.EndpointServiceClient).get_endpoint(name=ENDPOINT).deployed_models[0]
    assert found.status.available_replica_count == 4


@pytest.mark.parametrize(
    ("word", "asked", "words"),
    [
        ("nothing", {}, "no such control: POST /double/nothing"),
        ("settings", {"speed": 1}, "speed is no setting"),
        ("script", {"endpoint": "reviews", "on": "noon", "outcome": "done"}, "noon is not one of"),
        ("script", {"endpoint": "reviews", "on": "deploy", "outcome": "odd"}, "odd is not one of"),
        ("faults", {"rules": [{"operation": "x", "kind": "odd"}]}, "odd is not one of"),
        ("kill", {"pid": 1, "nth": 1, "point": "after"}, "after is not one of"),
        ("restore", {}, "nothing was saved"),
    ],
)
def test_a_wrong_control_is_refused(double: Double, word: str, asked: dict[str, Any], words: str) -> None:
    """The answer says what is wrong."""
    with pytest.raises(ValueError, match=words):
        double.post(word, **asked)


def test_it_lives_in_a_session_of_its_own(double: Double) -> None:
    """Ending the group of its client leaves it."""
    assert os.getsid(double.pid) == double.pid
