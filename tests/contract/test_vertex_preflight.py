"""What doctor and preflight find, over gRPC and HTTP against the double."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from google.cloud import monitoring_v3

from mlscale.deployment import Deployment, Role, ServedRevision, revision_of
from mlscale.errors import MlscaleError, Unsupported, WrongCredentials
from mlscale.providers.contract import Check
from mlscale.providers.vertex.client import Client
from mlscale.providers.vertex.failures import LOGIN, QUOTAS
from mlscale.providers.vertex.permissions import needed, policy
from mlscale.providers.vertex.preflight import checks, pinned_image, refuse_unready
from mlscale.providers.vertex.watching import canonical
from mlscale.spec.parse import parse
from mlscale.spec.resolve import Digests, deployment_of
from tests.conftest import GOLDEN
from tests.doubles.moved_clock import MovedClock
from tests.doubles.vertex import serving
from tests.doubles.vertex.serving import PROJECT, REGION, Double

BUCKET = "mlscale-workspace"
UPLOADS = f"gs://{BUCKET}/team/uploads"
WHO = Check("credentials", ok=True, found=f"project {PROJECT}, anonymous, as MLSCALE_VERTEX_API_ENDPOINT says")
ANSWERS = Check("region", ok=True, found=f"Vertex AI answers in {REGION}")


@pytest.fixture(scope="module")
def served() -> Iterator[Double]:
    """A running double."""
    with serving() as double:
        yield double


@pytest.fixture
def double(served: Double, monkeypatch: pytest.MonkeyPatch) -> Double:
    """The double with nothing in it, and an environment that leads to it."""
    served.post("reset")
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    return served


@pytest.fixture
def client(double: Double) -> Client:
    """A client of the double."""
    assert double
    return Client(PROJECT, REGION, MovedClock())


def asked(channel: str = "", **content: Any) -> Deployment:
    """Return what the whole spec asks for, with other `content`; `channel` is told, or whom the spec names."""
    spec = parse((GOLDEN / "vertex.yaml").read_bytes(), "spec.yaml", variables={})
    deployment = deployment_of(spec, Digests("0" * 64, None, None, None), {})
    told = tuple(
        replace(each, content={**each.content, "notify": channel}) if channel and "notify" in each.content else each
        for each in deployment.auxiliaries
    )
    made = revision_of(replace(deployment.revisions[0].revision.content, **content))
    return replace(deployment, revisions=(ServedRevision(made, Role.STABLE, 10_000),), auxiliaries=told)


def a_channel(double: Double) -> str:
    """Make a notification channel; its name."""
    channels = double.client(monitoring_v3.NotificationChannelServiceClient)
    made = channels.create_notification_channel(
        name=f"projects/{PROJECT}", notification_channel={"type_": "email", "labels": {"email_address": "ml@acme.test"}}
    )
    return str(made.name)


def refused(client: Client, asked: Deployment, seen: Deployment | None = None) -> MlscaleError:
    """Return why a deployment is refused."""
    with pytest.raises(MlscaleError) as caught:
        refuse_unready(client, asked, seen, UPLOADS)
    return caught.value


def wrong(found: list[Check]) -> list[Check]:
    """Return the checks that are not ok."""
    return [each for each in found if not each.ok]


def test_all_that_is_needed_is_there(double: Double, client: Client) -> None:
    """Each thing is named with what was found or why it can't be known, and nothing that was tried stays."""
    double.make_bucket(BUCKET)
    channel = a_channel(double)

    found = checks(client, asked(channel), UPLOADS)

    takes = "not known, and a change needs as many again: 10 replicas take 40 of custom_model_serving_cpus"
    assert found == [
        WHO,
        ANSWERS,
        Check("permissions", ok=True, found="all 25 that are needed on the project"),
        Check("machine", ok=True, found="n1-standard-4"),
        Check("machine", ok=True, found="n2-standard-4"),
        Check("quota", ok=True, found=f"{takes}; {QUOTAS}"),
        Check("quota", ok=True, found=f"{takes}; {QUOTAS}"),
        Check("image", ok=True, found="one of Google's own"),
        Check("bucket", ok=True, found=f"gs://{BUCKET}, whose location can't be asked here"),
        Check("channel", ok=True, found=channel),
        Check("uploads", ok=True, found=f"{UPLOADS} can be written"),
    ]
    assert double.get(f"resources?bucket={BUCKET}")["objects"] == {}
    refuse_unready(client, asked(channel), None, UPLOADS)


def test_without_a_spec_it_is_the_credentials_and_the_service(double: Double, client: Client) -> None:
    """Where nothing is asked for, whose credentials they are and whether Vertex AI answers is all there is to say."""
    assert double
    assert checks(client, None, "") == [WHO, ANSWERS]


def test_everything_that_is_missing_is_told_at_once(double: Double, client: Client) -> None:
    """Each check that is not ok says what mends it, and a deploy is refused with all that would stop it."""
    double.post("settings", denied=["aiplatform.endpoints.deploy", "monitoring.dashboards.create"])

    found = {each.name: each for each in wrong(checks(client, asked(), UPLOADS))}

    assert set(found) == {"permissions", "bucket", "channel", "uploads"}
    assert all(each.hint for each in found.values())
    missing = "missing on the project: aiplatform.endpoints.deploy, monitoring.dashboards.create"
    assert (found["permissions"].found, found["permissions"].hint) == (missing, "mlscale iam policy")
    error = refused(client, asked())
    channel = "projects/acme-ml/notificationChannels/1234567890123456789"
    assert (type(error), error.what, error.why.splitlines()) == (
        Unsupported,
        "2 things would stop the deployment",
        [
            f"the bucket for the model's files can't be used: there is no bucket {BUCKET}",
            f"a notification channel can't be used: {channel} is not there",
        ],
    )


def test_a_channel_is_looked_for_in_what_is_asked_as_it_is_read_back(double: Double, client: Client) -> None:
    """A plan names channels by id alone, as they are compared, and is what a deploy looks at."""
    double.make_bucket(BUCKET)
    wanted = asked()

    error = refused(client, replace(wanted, auxiliaries=canonical(wanted.auxiliaries)))

    assert error.why == "projects/acme-ml/notificationChannels/1234567890123456789 is not there"


def test_what_may_not_be_looked_at_stops_nobody(double: Double, client: Client) -> None:
    """Who may deploy and not look at everything is told what is not known, and deploys."""
    double.post(
        "settings",
        denied=["aiplatform.endpoints.list", "storage.objects.list", "monitoring.notificationChannels.get"],
    )
    double.make_bucket(BUCKET)

    found = {each.name: each for each in checks(client, asked(), UPLOADS)}

    assert [name for name, each in found.items() if each.found.startswith("not known: these credentials may not")] == [
        "region", "bucket", "channel",
    ]  # fmt: skip
    assert [each.name for each in found.values() if not each.ok] == ["permissions"]
    refuse_unready(client, asked(), None, UPLOADS)


def test_a_project_without_the_api_is_told_how_to_enable_it(double: Double, client: Client) -> None:
    """That is no lack of a permission, though Google answers with the same code."""
    message = (
        "Vertex AI API has not been used in project acme-ml before or it is disabled. Enable it by visiting "
        "https://console.developers.google.com/apis/api/aiplatform.googleapis.com/overview?project=acme-ml then retry."
    )
    rule = {"operation": "ListEndpoints$", "kind": "custom", "code": "PERMISSION_DENIED", "message": message}
    double.post("faults", rules=[rule])

    (found,) = wrong(checks(client, None, ""))

    assert (found.name, found.hint) == ("region", "gcloud services enable aiplatform.googleapis.com")


def test_a_server_that_does_not_test_permissions(double: Double, client: Client) -> None:
    """What stands in for Google may know Vertex AI alone: the rest is not known."""
    double.make_bucket(BUCKET)
    rules = [
        {"operation": f"{each}$", "kind": "custom", "code": "UNIMPLEMENTED", "message": "Method not found", "times": 9}
        for each in ("TestIamPermissions", "GetNotificationChannel")
    ]
    double.post("faults", rules=rules)

    found = {each.name: each for each in checks(client, asked(), UPLOADS)}

    assert [each.name for each in found.values() if not each.ok] == []
    assert all(found[name].found.startswith("not known: ") for name in ("permissions", "channel"))


def test_without_credentials_nothing_is_asked(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one thing that is wrong is told with what mends it."""
    monkeypatch.delenv("MLSCALE_VERTEX_API_ENDPOINT")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    client = Client(PROJECT, REGION, MovedClock())

    found = checks(client, asked(), UPLOADS)

    assert [(each.name, each.ok, each.hint) for each in found] == [("credentials", False, LOGIN)]
    assert isinstance(refused(client, asked()), WrongCredentials)
    assert double.get("journal") == []


@pytest.mark.parametrize(
    ("machine", "ok", "found"),
    [
        ("n1-standard-4+1xnvidia-tesla-t4", True, "n1-standard-4"),
        ("g2-standard-8+1xnvidia-l4+spot", True, "g2-standard-8"),
        ("n2-standard-4+1xnvidia-tesla-t4", False, "n2-standard-4 takes no GPU"),
        ("g2-standard-8", False, "g2-standard-8 has GPUs of its own"),
    ],
)
def test_a_machine_and_its_accelerator_go_together(client: Client, machine: str, found: str, *, ok: bool) -> None:
    """What Vertex AI would refuse after the upload is told before."""
    checked = next(each for each in checks(client, asked(machine=(machine,)), UPLOADS) if each.name == "machine")

    assert (checked.ok, checked.found[: len(found)]) == (ok, found)


def test_what_replicas_take_of_the_quotas_is_told(double: Double, client: Client) -> None:
    """Spot has quotas of its own, and GPUs are counted beside CPUs."""
    double.make_bucket(BUCKET)

    found = checks(client, asked(machine=("g2-standard-8+1xnvidia-l4+spot",)), UPLOADS)

    told = next(each.found for each in found if each.name == "quota")
    assert (
        "take 80 of custom_model_serving_preemptible_cpus, 10 of custom_model_serving_preemptible_nvidia_l4_gpus;"
        in told
    )


def test_an_own_image_is_taken_as_it_is(double: Double, client: Client) -> None:
    """Its registry has no client here: nothing is asked, and doctor says so."""
    double.make_bucket(BUCKET)
    image = "us-central1-docker.pkg.dev/acme-ml/serving/reviews:1.2"

    found = {each.name: each for each in checks(client, asked(image=image), UPLOADS)}

    assert pinned_image(client, image) == image
    assert (found["image"].ok, found["image"].found.partition(",")[0]) == (True, image)


def test_a_model_inside_its_image_needs_no_bucket(double: Double, client: Client) -> None:
    """Where there are no files, no bucket is looked at."""
    channel = a_channel(double)

    found = checks(client, asked(channel, artifact="", image="us-docker.pkg.dev/acme-ml/serving/reviews"), UPLOADS)

    assert wrong(found) == []
    assert not {"bucket", "uploads"} & {each.name for each in found}


def test_what_is_there_already_is_not_looked_at_again(double: Double, client: Client) -> None:
    """A revision that serves needs nothing new: no call is made for it."""
    refuse_unready(client, asked(), asked(), UPLOADS)

    assert double.get("journal") == []


def test_the_roles_allow_all_that_is_looked_at(double: Double, client: Client) -> None:
    """What doctor and preflight call stands in the table, and so in the policy."""
    double.make_bucket(BUCKET)
    double.delete("journal")
    deployment = asked(a_channel(double))
    double.delete("journal")

    checks(client, deployment, UPLOADS)
    refuse_unready(client, deployment, None, UPLOADS)

    called = {f"{each['service']}.{each['operation']}" for each in double.get("journal")}
    roles = policy(deployment, UPLOADS)["roles"].values()
    assert needed(deployment, called) <= {each for role in roles for each in role["includedPermissions"]}
    assert {each["permission"] for each in double.get("journal")} - {""} <= needed(deployment, called)
