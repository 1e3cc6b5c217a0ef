"""What is sent to Vertex AI: ids, labels and requests, and what is refused before anything is sent."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from google.cloud import aiplatform_v1
from hypothesis import given
from hypothesis import strategies as st

from mlscale.deployment import (
    WHOLE,
    Content,
    Deployment,
    Health,
    Identity,
    Kind,
    Role,
    RolloutWish,
    ServedRevision,
    revision_of,
)
from mlscale.providers.vertex import requests
from mlscale.spec.fit_vertex import MOST_LABELS
from mlscale.spec.parse import parse
from mlscale.spec.resolve import Digests, deployment_of
from tests.conftest import GOLDEN

UPLOADS = "gs://acme-ml/mlscale/uploads"
PARENT = "projects/acme-ml/locations/us-central1"
IMAGE = "us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-5:latest"
OWN_IMAGE = "us-central1-docker.pkg.dev/acme-ml/serving/reviews@sha256:0123"
KEY = "projects/acme-ml/locations/us-central1/keyRings/ml/cryptoKeys/serving"
NETWORK = "projects/123456789012/global/networks/ml"
AT_ONCE, BLUE_GREEN = RolloutWish(), RolloutWish("blue_green", timedelta(minutes=5))
LONGEST_NAME = "a-name-that-has-forty-characters-in-alls"
MODEL_ID = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
"""UploadModelRequest.model_id in the API reference."""

LABEL = re.compile(r"[a-z0-9_-]{0,63}")
MOST = 64
"""Of an Endpoint's and of a Model's labels in the API reference."""

names = st.from_regex(r"[a-z](-?[a-z0-9]){0,39}", fullmatch=True).filter(lambda each: len(each) <= 40)
revisions = st.text("0123456789abcdef", min_size=10, max_size=10)


def asked(env: str | None = None, *overrides: str, **content: Any) -> Deployment:
    """Return what the full spec asks for, its image chosen; `content` changes what the revision is made of."""
    spec = parse((GOLDEN / "vertex.yaml").read_bytes(), "spec.yaml", variables={}, env=env, overrides=overrides)
    deployment = deployment_of(spec, Digests("a" * 16, None, None, None), {})
    return with_content(deployment, **{"image": OWN_IMAGE if env == "own" else IMAGE, **content})


def with_content(deployment: Deployment, **changed: Any) -> Deployment:
    """Return `deployment` with a revision of another content."""
    content = replace(deployment.revisions[0].revision.content, **changed)
    return replace(deployment, revisions=(ServedRevision(revision_of(content), Role.STABLE, WHOLE),))


def read(message: Any) -> dict[str, Any]:
    """Return a message as the client answers it: its JSON, with what is empty left out."""
    found: dict[str, Any] = type(message).to_dict(
        message,
        preserving_proto_field_name=True,
        use_integers_for_enums=False,
        always_print_fields_with_no_presence=False,
    )
    return found


def model(deployment: Deployment) -> dict[str, Any]:
    """Return the request of its Model, as Vertex AI gets it."""
    request = requests.model(deployment, deployment.revisions[0].revision, UPLOADS)
    return read(aiplatform_v1.UploadModelRequest(request))


def endpoint(deployment: Deployment) -> dict[str, Any]:
    """Return the request of its endpoint, as Vertex AI gets it."""
    request = requests.endpoint(deployment, deployment.revisions[0].revision.id)
    return read(aiplatform_v1.CreateEndpointRequest(request))


def deploy(deployment: Deployment, machine: str | None = None, least: int = 2, **split: int) -> dict[str, Any]:
    """Return the request that deploys its revision on `machine`, or on its first one, as Vertex AI gets it."""
    revision = deployment.revisions[0].revision
    chosen = machine or revision.content.machine[0]
    found = requests.deployed_id(revision.id)
    request = requests.deploy(deployment, revision, chosen, deployed_id=found, least=least, split=split or {"0": 100})
    return read(aiplatform_v1.DeployModelRequest(request))


def without(request: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Return `request` without what other tests are about."""
    return {key: value for key, value in request.items() if key not in keys}


def test_a_resource_is_named_by_project_and_region() -> None:
    """The endpoint has the deployment's own name."""
    identity = Identity("vertex", "reviews", "acme-ml", "us-central1")

    assert requests.parent_of(identity) == PARENT
    assert requests.endpoint_of(identity) == f"{PARENT}/endpoints/reviews"


@pytest.mark.parametrize(
    ("revision", "found"),
    [
        ("0000000000", "1000000000"),
        ("0000000001", "1000000001"),
        ("8dc6fd0759", "8633438553"),
        ("ffffffffff", "9589934591"),
    ],
)
def test_a_deployed_model_has_an_id_that_follows_from_its_revision(revision: str, found: str) -> None:
    """A run that was cut off finds it again, whoever began it: the formula never changes."""
    assert requests.deployed_id(revision) == found


@given(revisions)
def test_every_id_of_a_deployed_model_has_ten_digits(revision: str) -> None:
    """Vertex AI takes one to ten; the first is no 0, so that no two texts are the same number."""
    assert re.fullmatch("[1-9][0-9]{9}", requests.deployed_id(revision))


def test_revisions_differ_in_their_ids_by_more_than_their_first_or_last_digits() -> None:
    """As much of a revision's id goes into it as ten digits hold."""
    others = ["0123456789", "0123456788", "0123556789", "0023456789"]

    assert len({requests.deployed_id(each) for each in others}) == len(others)


@given(names, revisions)
def test_the_revision_is_read_in_a_models_id(name: str, revision: str) -> None:
    """Also in its resource name, which may say the project by its number."""
    found = requests.model_id(name, revision)

    assert requests.revision_in(name, found) == revision
    assert requests.revision_in(name, f"projects/123456789012/locations/us-central1/models/{found}") == revision


@given(names, names | st.builds("{}-{}".format, names, revisions), revisions)
def test_no_id_is_anothers(name: str, other: str, revision: str) -> None:
    """What belongs to `reviews` is never taken for what belongs to `reviews-prod`, nor the other way round."""
    for mine, others in ((name, other), (other, name), (name, f"{name}-prod"), (f"{name}-0123456789", name)):
        if mine != others:
            assert requests.revision_in(mine, requests.model_id(others, revision)) is None


@pytest.mark.parametrize(
    "other",
    ["reviews", "reviews-", "reviews-012345678", "reviews-01234567890", "reviews-012345678G", "reviews-0123456789-b"],
)
def test_what_only_begins_as_ours_is_not_ours(other: str) -> None:
    """A revision's id has ten hex digits, and nothing stands after it."""
    assert requests.revision_in("reviews", other) is None


@pytest.mark.parametrize(
    ("resource", "is_ours"),
    [
        ("endpoints/reviews", True),
        ("models/reviews-0123456789", True),
        ("endpoints/reviews-2", False),
        ("models/reviews", False),
        ("models/reviews-2-0123456789", False),
        ("endpoints/reviews-0123456789", False),
        ("batchPredictionJobs/reviews", False),
    ],
)
def test_an_operation_is_about_what_its_name_says(resource: str, *, is_ours: bool) -> None:
    """Only what goes on at the deployment's own endpoint and Models is waited for."""
    name = f"projects/123456789012/locations/us-central1/{resource}/operations/77"

    assert requests.is_about("reviews", name) is is_ours
    assert not requests.is_about("reviews", "projects/123456789012/locations/us-central1/operations/77")


def test_ids_fit_however_long_the_deployments_name_is() -> None:
    """A name of forty characters gives ids of 63 at most, as Vertex AI takes them, which are ours again when read."""
    longest = asked(None, f"name={LONGEST_NAME}")

    found = model(longest)["model_id"]

    assert MODEL_ID.fullmatch(found)
    assert requests.revision_in(LONGEST_NAME, found) == longest.revisions[0].revision.id


def test_a_model_is_all_that_its_revision_is_made_of() -> None:
    """Container, variables and files in the fields that are for them, and what has none in its description."""
    deployment = asked()
    revision = deployment.revisions[0].revision.id

    assert model(deployment) == {
        "parent": PARENT,
        "model_id": f"reviews-{revision}",
        "model": {
            "display_name": f"reviews-{revision}",
            "description": (
                '{"mlscale": {"artifact": "aaaaaaaaaaaaaaaa", "framework": "sklearn", "framework_version": "1.5",'
                ' "machine": ["n1-standard-4", "n2-standard-4"]}}'
            ),
            "container_spec": {
                "image_uri": IMAGE,
                "env": [{"name": "OMP_NUM_THREADS", "value": "1"}, {"name": "STAGE", "value": "production"}],
                "deployment_timeout": "1200s",
            },
            "labels": {"mlscale-name": "reviews", "mlscale-revision": revision, "team": "search",
                       "project": "reviews-2"},
            "artifact_uri": f"{UPLOADS}/reviews/aaaaaaaaaaaaaaaa",
            "encryption_spec": {"kms_key_name": KEY},
        },
    }  # fmt: skip


def test_an_image_of_ones_own_is_told_where_it_listens() -> None:
    """Google's containers know their port and routes; another one's must be said."""
    own = model(asked("own"))["model"]["container_spec"]

    assert without(own, "env", "deployment_timeout") == {
        "image_uri": OWN_IMAGE,
        "ports": [{"container_port": 8080}],
        "predict_route": "/invocations",
        "health_route": "/health",
    }


def test_a_model_without_files_variables_or_key_asks_for_nothing_of_them() -> None:
    """An image that brings its model has no folder, and its container no variable of ours."""
    plain = asked("own", "vertex.encryption_key=null", artifact="", environment={}, framework="custom")
    sent = model(plain)["model"]

    assert without(sent, "display_name", "labels") == {
        "description": '{"mlscale": {"framework": "custom", "machine": ["n1-standard-4", "n2-standard-4"]}}',
        "container_spec": without(model(asked("own"))["model"]["container_spec"], "env"),
    }


def test_variables_are_in_one_order() -> None:
    """The same revision is the same request, however its spec is written."""
    one, other = (asked(environment=each) for each in ({"A": "1", "B": "2"}, {"B": "2", "A": "1"}))

    assert one.revisions == other.revisions
    assert model(one) == model(other)


def test_the_files_of_a_content_have_one_place() -> None:
    """It is below the name of the deployment, and other files have another."""
    content = asked().revisions[0].revision.content

    assert requests.upload_folder("reviews", content, UPLOADS) == f"{UPLOADS}/reviews/aaaaaaaaaaaaaaaa"
    assert (
        requests.upload_folder("reviews-prod", replace(content, artifact="b"), UPLOADS) == f"{UPLOADS}/reviews-prod/b"
    )
    assert requests.upload_folder("reviews", replace(content, artifact=""), UPLOADS) is None


def test_an_endpoint_has_the_settings_that_are_its_own() -> None:
    """And the labels by which it is found, with a note of which of them a spec asked for."""
    deployment = asked()

    assert endpoint(deployment) == {
        "parent": PARENT,
        "endpoint_id": "reviews",
        "endpoint": {
            "display_name": "reviews",
            "description": '{"mlscale": {"labels": ["project", "team"]}}',
            "labels": {
                "mlscale-name": "reviews",
                "mlscale-revision": deployment.revisions[0].revision.id,
                "mlscale-spec-hash": deployment.spec_hash,
                "mlscale-watched": "yes",
                "team": "search",
                "project": "reviews-2",
            },
            "encryption_spec": {"kms_key_name": KEY},
            "dedicated_endpoint_enabled": True,
            "predict_request_response_logging_config": {
                "enabled": True,
                "sampling_rate": 0.1,
                "bigquery_destination": {"output_uri": "bq://acme-ml.serving.requests"},
            },
        },
    }


def test_a_plain_endpoint_has_what_is_asked_and_no_more() -> None:
    """Without settings none of them is sent; a network alone is one."""
    plain = replace(asked(), settings={})
    private = replace(asked(), settings={"network": NETWORK})

    bare = without(endpoint(plain)["endpoint"], "labels")

    assert bare == {"display_name": "reviews", "description": '{"mlscale": {"labels": ["project", "team"]}}'}
    assert without(endpoint(private)["endpoint"], "labels") == {**bare, "network": NETWORK}


@pytest.mark.parametrize(("share", "rate"), [("10%", 0.1), ("100%", 1.0), ("0.5%", 0.005)])
def test_request_logging_is_a_rate_and_a_table(share: str, rate: float) -> None:
    """A table may be in a project of a domain, with a colon in its name."""
    assert requests.request_logging(f"{share} to bq://example.com:acme-ml.serving.requests") == {
        "enabled": True,
        "sampling_rate": rate,
        "bigquery_destination": {"output_uri": "bq://example.com:acme-ml.serving.requests"},
    }


def test_a_revision_is_deployed_by_its_own_id() -> None:
    """On the machine that is chosen, with as many replicas as it begins with, and the split as it is given."""
    deployment = asked("gpu")
    revision = deployment.revisions[0].revision.id

    assert deploy(deployment, "g2-standard-12+1xnvidia-l4+spot", 4, **{"1000000001": 100, "0": 0}) == {
        "endpoint": f"{PARENT}/endpoints/reviews",
        "deployed_model": {
            "id": requests.deployed_id(revision),
            "model": f"{PARENT}/models/reviews-{revision}",
            "display_name": f"reviews-{revision}",
            "dedicated_resources": {
                "machine_spec": {
                    "machine_type": "g2-standard-12",
                    "accelerator_type": "NVIDIA_L4",
                    "accelerator_count": 1,
                },
                "min_replica_count": 4,
                "max_replica_count": 10,
                "autoscaling_metric_specs": [
                    {"metric_name": "aiplatform.googleapis.com/prediction/online/accelerator/duty_cycle", "target": 60}
                ],
                "spot": True,
            },
            "service_account": "serving@acme-ml.iam.gserviceaccount.com",
        },
        "traffic_split": {"1000000001": 100, "0": 0},
    }


def test_without_a_service_account_none_is_named() -> None:
    """Then the containers run as Vertex AI's own."""
    assert "service_account" not in deploy(asked(None, "vertex.service_account=null"))["deployed_model"]


@pytest.mark.parametrize(
    ("auxiliaries", "was_watched", "watched"),
    [(False, False, None), (True, False, "yes"), (False, True, "yes"), (True, True, "yes")],
)
def test_an_endpoint_says_whether_anything_watches_it(
    auxiliaries: bool,  # noqa: FBT001
    was_watched: bool,  # noqa: FBT001
    watched: str | None,
) -> None:
    """Also when nothing does any more: what could not be removed is looked for again."""
    found = asked()
    deployment = found if auxiliaries else replace(found, auxiliaries=())

    labels = requests.endpoint_labels(deployment, "0123456789", was_watched=was_watched)

    assert labels.get("mlscale-watched") == watched
    assert labels["mlscale-revision"] == "0123456789"


def test_our_labels_are_told_from_the_users() -> None:
    """All that we put on an endpoint ourselves is known as ours; a Model's are among them."""
    deployment = asked()
    labels = requests.endpoint_labels(deployment, "0123456789")

    assert labels.keys() - deployment.labels.keys() == requests.OWN - {requests.TRIED}  # that goes with the split
    assert model(deployment)["model"]["labels"].keys() - deployment.labels.keys() < requests.OWN


label_keys = st.from_regex(r"[a-z][a-z0-9_-]{0,62}", fullmatch=True).filter(lambda key: not key.startswith("mlscale-"))


@given(st.dictionaries(label_keys, st.from_regex(LABEL, fullmatch=True), max_size=5))
def test_a_description_says_which_labels_a_spec_asked_for(labels: dict[str, str]) -> None:
    """Those of the spec alone, `_` in their keys or not."""
    deployment = replace(asked(), labels=labels)

    said = endpoint(deployment)["endpoint"]["description"]

    assert list(requests.asked_labels(said)) == sorted(labels)


def test_labels_are_as_google_takes_them() -> None:
    """Their characters and lengths are allowed, and with as many as a spec may have there are 64 at most."""
    users = {f"k{number}": "v" * 63 for number in range(MOST_LABELS)}
    deployment = replace(asked(None, f"name={LONGEST_NAME}"), labels=users)

    for labels in (model(deployment)["model"]["labels"], endpoint(deployment)["endpoint"]["labels"]):
        assert len(labels) <= MOST
        assert users.items() <= labels.items()
        assert all(LABEL.fullmatch(key) and LABEL.fullmatch(value) for key, value in labels.items())


@pytest.mark.parametrize(
    "description", ["", "Reviews, by the search team", "[1]", '"x"', "3", "null", '{"mlscale": 3}', '{"other": {}}']
)
def test_somebody_elses_description_says_nothing(description: str) -> None:
    """Whatever it is, JSON or not."""
    assert requests.facts_of(description) == {}
    assert list(requests.asked_labels(description)) == []


def test_the_facts_of_a_content_are_read_back() -> None:
    """Those that it has; the machines in their order, which is their preference."""
    content = replace(
        asked().revisions[0].revision.content,
        handler="b" * 16,
        requirements="c" * 16,
        runtime="d" * 16,
        machine=("z", "a"),
    )

    assert requests.facts_of(requests.facts_text(content)) == {
        "artifact": "a" * 16,
        "framework": "sklearn",
        "framework_version": "1.5",
        "handler": "b" * 16,
        "requirements": "c" * 16,
        "runtime": "d" * 16,
        "machine": ["z", "a"],
    }


def test_the_content_of_an_asked_revision_is_whole() -> None:
    """Each field of a content is told by the description or by the request: a new field is not forgotten."""
    told_by_the_request = {"image", "environment", "machine", "health"}

    assert {*requests.FACTS, *told_by_the_request} == set(Content.__dataclass_fields__)


@pytest.mark.parametrize(
    ("shares", "found"),
    [
        ({}, {}),
        ({"a": 10_000}, {"a": 100}),
        ({"a": 0, "b": 10_000}, {"a": 0, "b": 100}),
        ({"a": 5000, "b": 5000}, {"a": 50, "b": 50}),
        ({"a": 3333, "b": 3334, "c": 3333}, {"a": 33, "b": 34, "c": 33}),
        ({"a": 199, "b": 9801}, {"a": 2, "b": 98}),
        ({"a": 9801, "b": 199}, {"a": 98, "b": 2}),
        ({"a": 149, "b": 9851}, {"a": 1, "b": 99}),
        ({"a": 1, "b": 9999}, {"a": 1, "b": 99}),
    ],
    ids=str,
)
def test_shares_are_the_nearest_whole_percents(shares: dict[str, int], found: dict[str, int]) -> None:
    """Vertex AI splits by whole percents: who has a share keeps one, and the largest takes what is lost or won."""
    assert requests.percents(shares) == found


@given(st.lists(st.integers(0, WHOLE), max_size=9))
def test_a_split_is_always_a_hundred(cuts: list[int]) -> None:
    """No percent is lost or gained, none is negative, and all but the largest are as near as can be."""
    places = [0, *sorted(cuts), WHOLE]
    shares = {str(number): after - before for number, (before, after) in enumerate(pairwise(places))}

    found = requests.percents(shares)

    assert found.keys() == shares.keys()
    assert sum(found.values()) == 100
    assert min(found.values()) >= 0
    largest = max(shares, key=lambda key: shares[key])
    others = [key for key in shares if key != largest]
    assert all(abs(found[key] * 100 - shares[key]) <= (50 if shares[key] >= 100 else 99) for key in others)
    assert all(bool(found[key]) == bool(shares[key]) for key in shares)


def tried(share: int, role: Role = Role.CANDIDATE, **content: Any) -> Deployment:
    """Return what is asked for while another revision is tried with a share."""
    stable, other = asked().revisions[0], asked(artifact="e" * 16, **content).revisions[0]
    rest = WHOLE if role is Role.SHADOW else WHOLE - share
    return replace(asked(), revisions=(replace(stable, share=rest), replace(other, role=role, share=share)))


REFUSED: dict[str, tuple[Deployment, RolloutWish, str, str]] = {
    "too long a start": (
        asked(health=Health(startup_timeout=timedelta(hours=2, seconds=1))),
        AT_ONCE,
        "endpoint.health.startup_timeout",
        "Vertex AI takes 2h at most",
    ),
    "without machines": (
        replace(asked(), kind=Kind.SERVERLESS),
        AT_ONCE,
        "endpoint.kind",
        "Vertex AI has no endpoint of kind serverless",
    ),
    "from a queue": (
        replace(asked(), kind=Kind.ASYNC),
        AT_ONCE,
        "endpoint.kind",
        "Vertex AI has no endpoint of kind async",
    ),
    "a route of one's own in a container of Google's": (
        asked(health=Health("/healthz")),
        AT_ONCE,
        "endpoint.health.path",
        "a container of Google's has a route of its own",
    ),
    "two models in a network": (
        replace(asked(), settings={"network": NETWORK}),
        BLUE_GREEN,
        "rollout.strategy",
        "an endpoint in a network holds one model: it can be switched all at once alone",
    ),
    "a candidate in a network": (
        replace(tried(1000), settings={"network": NETWORK}),
        AT_ONCE,
        "rollout.strategy",
        "an endpoint in a network holds one model: it can be switched all at once alone",
    ),
    "copies of requests": (
        tried(WHOLE, Role.SHADOW),
        AT_ONCE,
        "rollout.strategy",
        "Vertex AI splits requests, and gives nobody copies of them: use canary",
    ),
    "a part of a percent": (
        tried(1250),
        AT_ONCE,
        "rollout.steps",
        "Vertex AI splits traffic in whole percents: 12.5% is none",
    ),
    "a candidate whose start takes too long": (
        tried(1000, health=Health(startup_timeout=timedelta(hours=2, seconds=1))),
        AT_ONCE,
        "endpoint.health.startup_timeout",
        "Vertex AI takes 2h at most",
    ),
    "a canary of Vertex AI's own": (
        asked(),
        RolloutWish("canary", steps=(1000,), interval=timedelta(minutes=1)),
        "rollout.driver",
        "Vertex AI has no canary rollout of its own, with alarms that guard it: use weights",
    ),
    "linear steps of Vertex AI's own": (
        asked(),
        RolloutWish("linear", steps=(2500, 5000, 7500), interval=timedelta(minutes=1)),
        "rollout.driver",
        "Vertex AI has no linear rollout of its own, with alarms that guard it: use weights",
    ),
    "replica by replica": (
        asked(),
        RolloutWish("rolling", steps=(2500,), interval=timedelta(minutes=1)),
        "rollout.strategy",
        "Vertex AI replaces replicas between versions of one Model alone, and a revision is a Model of its own",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_vertex_cannot_do_is_refused_with_its_reason(case: str) -> None:
    """Each refusal names the key of the spec and a page of Google's; one at a time, nothing else is refused."""
    deployment, rollout, path, why = REFUSED[case]

    found = requests.refusals(deployment, None, rollout, UPLOADS)

    assert [(each.path, each.why) for each in found] == [(path, why)]
    assert found[0].link.startswith("https://docs.cloud.google.com/vertex-ai/")


@pytest.mark.parametrize(
    ("asks", "rollout"),
    [
        (asked(), AT_ONCE),
        (asked(), BLUE_GREEN),
        (asked("private"), AT_ONCE),
        (asked("own"), AT_ONCE),
        (asked("gpu"), BLUE_GREEN),
        (asked(health=Health(startup_timeout=timedelta(hours=2))), AT_ONCE),
        (replace(asked(), revisions=()), AT_ONCE),
        (tried(100), AT_ONCE),
        (tried(0), AT_ONCE),
        (tried(9900), BLUE_GREEN),
    ],
    ids=[
        *("at once", "blue_green", "a network", "own image", "gpu", "longest start", "no revision"),
        *("a candidate", "a candidate without traffic", "a candidate with nearly all"),
    ],
)
def test_what_vertex_can_do_is_not_refused(asks: Deployment, rollout: RolloutWish) -> None:
    """The bounds themselves are allowed."""
    assert requests.refusals(asks, None, rollout, UPLOADS) == ()


@pytest.mark.parametrize("key", ["network", "encryption_key", "dedicated_endpoint"])
def test_what_an_endpoint_was_made_with_stays(key: str) -> None:
    """Nothing that a deploy could do would change it, so it is not planned; where no endpoint is, it is free."""
    wanted = asked(None, "rollout={strategy: all_at_once}")
    has = {name: value for name, value in wanted.settings.items() if name != key}
    there = replace(wanted, settings={**has, key: "another"}, facts={"there": "yes"})

    (refusal,) = requests.refusals(replace(wanted, settings=has), there, AT_ONCE, UPLOADS)

    assert refusal.path == f"vertex.{key}"
    assert refusal.why == ("an endpoint keeps what it was made with, and there it is another: deploy by another name")
    assert (
        requests.refusals(replace(wanted, settings=has), replace(there, facts={"there": "no"}), AT_ONCE, UPLOADS) == ()
    )


@pytest.mark.parametrize(("startup", "text"), [(600, "600s"), (0.5, "0.500s"), (90.25, "90.250s")])
def test_a_fraction_of_a_second_is_sent(startup: float, text: str) -> None:
    """What is rounded would be another revision's when it is read back."""
    request = model(asked(health=Health(startup_timeout=timedelta(seconds=startup))))

    assert request["model"]["container_spec"]["deployment_timeout"] == text


def test_a_deployment_by_another_account_has_another_id() -> None:
    """It can't be changed where it is."""
    assert len({requests.deployed_id("0123456789", each) for each in ("", "one@acme-ml", "two@acme-ml")}) == 3


def test_files_need_a_place_in_cloud_storage() -> None:
    """With a workspace elsewhere a model can't be had, unless the image brings it."""
    (refusal,) = requests.refusals(asked(), None, AT_ONCE, "")

    assert refusal.path == "workspace"
    assert "vertex.uploads" in refusal.why
    assert requests.refusals(asked("own", artifact=""), None, AT_ONCE, "") == ()
