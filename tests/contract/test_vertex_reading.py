"""What is read of deployments, over gRPC and HTTP against the double: how many calls it takes, and what is ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from mlscale.deployment import AT_ONCE, Deployment, Identity, Phase
from mlscale.errors import NotOurs
from mlscale.providers.vertex import reading, requests
from mlscale.providers.vertex.calls import Call
from mlscale.providers.vertex.client import Client
from mlscale.providers.vertex.provider import Vertex
from tests.doubles.moved_clock import MovedClock
from tests.doubles.vertex import serving
from tests.doubles.vertex.serving import PARENT, PROJECT, REGION, Double
from tests.unit.test_vertex_requests import OWN_IMAGE
from tests.unit.test_vertex_requests import asked as full

BUCKET = "mlscale-workspace"
UPLOADS = f"gs://{BUCKET}/team/uploads"
NAMES = ("churn", "fraud", "offers", "reviews")


@pytest.fixture(scope="module")
def served() -> Iterator[Double]:
    """A running double."""
    with serving() as double:
        yield double


@pytest.fixture
def double(served: Double, monkeypatch: pytest.MonkeyPatch) -> Double:
    """The double with an empty bucket, and an environment that leads to it."""
    served.post("reset")
    served.make_bucket(BUCKET)
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    return served


@pytest.fixture
def client(double: Double) -> Client:
    """A client of the double."""
    assert double
    return Client(PROJECT, REGION, MovedClock())


@pytest.fixture
def provider(double: Double) -> Vertex:
    """The provider, at the double."""
    assert double
    return Vertex(project=PROJECT, region=REGION, uploads=UPLOADS, clock=MovedClock())


def place(name: str) -> Identity:
    """Return the identity of the deployment `name`."""
    return Identity("vertex", name, PROJECT, REGION)


def asked(name: str) -> Deployment:
    """Return a deployment of that name, of an image that brings all it serves."""
    return replace(full("own", image=OWN_IMAGE, artifact=""), identity=place(name))


def begin(client: Client, *calls: Call) -> list[str]:
    """Begin what `calls` make, and return the operations."""
    return [client.begin(each) for each in calls]


def model(name: str) -> Call:
    """Return the call that makes the Model of a deployment."""
    wanted = asked(name)
    return Call("model", "upload_model", requests.model(wanted, wanted.revisions[0].revision, UPLOADS))


def endpoint(name: str) -> Call:
    """Return the call that makes the endpoint of a deployment."""
    wanted = asked(name)
    return Call("endpoint", "create_endpoint", requests.endpoint(wanted, wanted.revisions[0].revision.id))


def deploy(name: str) -> Call:
    """Return the call that deploys the Model of a deployment."""
    wanted = asked(name)
    revision = wanted.revisions[0].revision
    request = requests.deploy(wanted, revision, "n1-standard-4", deployed_id="1", least=2, split={requests.NEW: 100})
    return Call("endpoint", "deploy_model", request)


def serve(double: Double, client: Client, names: Sequence[str] = NAMES) -> None:
    """Have these deployments serve."""
    for made in (model, endpoint, deploy):
        begin(client, *map(made, names))
        double.post("advance", seconds=60)
    double.delete("journal")


def test_many_deployments_are_read_with_few_calls(double: Double, client: Client, provider: Vertex) -> None:
    """Lists of the whole project are read once for all, and what comes of it is what each alone is read as."""
    serve(double, client)
    wanted = [*NAMES, "absent"]

    found = provider.read_all([place(each) for each in wanted])

    calls = Counter(each["operation"] for each in double.get("journal"))
    assert calls == {
        "GetEndpoint": len(wanted),
        "ListOperations": len(wanted) + 1,
        "ListModels": 1,
        "ListAlertPolicies": 1,
        "ListDashboards": 1,
        "ListObjects": 1,
    }
    assert found == [provider.read(place(each)) for each in wanted]
    assert [each.identity.name if each else None for each in found] == [*NAMES, None]
    assert provider.read_all([]) == []


def test_an_endpoint_of_somebody_else_is_refused(client: Client, provider: Vertex, double: Double) -> None:
    """Also among many."""
    serve(double, client, NAMES[:1])
    theirs = {"parent": PARENT, "endpoint_id": "fraud", "endpoint": {"display_name": "theirs"}}
    begin(client, Call("endpoint", "create_endpoint", theirs))
    double.post("advance", seconds=60)

    with pytest.raises(NotOurs, match="fraud"):
        provider.read_all([place(each) for each in NAMES])


@pytest.mark.parametrize("made", [model, endpoint], ids=["model", "endpoint"])
def test_what_is_being_made_is_seen(
    client: Client, provider: Vertex, double: Double, made: Callable[[str], Call]
) -> None:
    """Vertex AI has nothing to show of it yet but its operation; that of another deployment is no matter."""
    double.post("settings", delay_s=60)
    (operation,) = begin(client, made("reviews"))
    begin(client, made("reviews-2"))

    found = provider.read(place("reviews"))

    assert found is not None
    assert (found.phase, found.pending) == (Phase.CHANGING, operation)
    assert provider.read(place("offers")) is None


def test_files_alone_are_something_to_destroy(provider: Vertex, double: Double) -> None:
    """Of a run that was cut off before it made anything else."""
    double.put_object(f"{UPLOADS}/reviews/0123456789abcdef/model.joblib", b"a model")
    double.put_object(f"{UPLOADS}/reviews-2/0123456789abcdef/model.joblib", b"a model of others")

    found = provider.read(place("reviews"))

    assert found is not None
    assert (found.phase, found.reason) == (
        Phase.FAILED,
        "the endpoint is gone, and this is left of it: uploaded files",
    )
    assert [each.key for each in provider.steps(None, found, AT_ONCE)] == ["files/delete"]
    assert provider.read(place("offers")) is None


def test_a_model_that_we_did_not_make_is_no_garbage(client: Client, double: Double) -> None:
    """An import gives it our label, and it stays somebody else's."""
    serve(double, client, ["reviews"])
    labels = {requests.NAME: "reviews"}
    container = {"container_spec": {"image_uri": OWN_IMAGE}}
    for name in ("by-hand", "reviews-0123456789"):
        theirs = {"parent": PARENT, "model_id": name, "model": {"display_name": name, "labels": labels, **container}}
        begin(client, Call("model", "upload_model", theirs))
    double.post("advance", seconds=60)

    assert reading.unused(client, place("reviews"), [], UPLOADS) == (["reviews-0123456789"], [])
