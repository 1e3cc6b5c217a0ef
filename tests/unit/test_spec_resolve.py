"""From a spec to what it asks for: what makes a revision, and what changes in place."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlscale.deployment import (
    TO_BUILD,
    WHOLE,
    Auxiliary,
    AuxiliaryKind,
    Content,
    CustomMetric,
    Deployment,
    Health,
    Identity,
    Kind,
    Metric,
    Role,
    RolloutWish,
    Scaling,
    ScheduledBounds,
    ServedRevision,
    StepPolicy,
    TargetPolicy,
    revision_of,
)
from mlscale.plan.diff import changes
from mlscale.spec import fields as spec_fields
from mlscale.spec.parse import parse
from mlscale.spec.resolve import Digests, deployment_of, identity_of, ignored_by, wish_of
from tests.unit.test_spec_mutations import CLOUD, FULL, VARIABLES, VERTEX

DIGESTS = Digests(artifact="a1", handler="h1", requirements="r1", runtime="t1")


def asked(*overrides: str, digests: Digests = DIGESTS, env: str | None = None, **variables: str) -> Deployment:
    """Return what the full spec asks for, with overrides laid over it."""
    spec = parse(FULL.read_bytes(), FULL.name, variables={**VARIABLES, **variables}, env=env, overrides=overrides)
    return deployment_of(spec, digests, {"a1": "/models/a"})


def revision_id(deployment: Deployment) -> str:
    """Return the id of the one revision that is asked for."""
    [served] = deployment.revisions
    return served.revision.id


def test_a_spec_has_the_words_of_a_deployment() -> None:
    """What a spec may name as kind and metric is what a deployment can have; a custom one is named in its own way."""
    assert get_args(spec_fields.Kind) == tuple(Kind)
    assert (*get_args(spec_fields.Metric), "custom") == tuple(Metric)


def test_a_spec_asks_for_one_stable_revision_with_all_traffic() -> None:
    """Everything that the full spec says is in the deployment, in its place."""
    content = Content(
        artifact="a1",
        framework="sklearn",
        framework_version="1.10",
        handler="h1",
        requirements="r1",
        image=TO_BUILD,
        runtime="t1",
        machine=("cpus=1.5", "memory=4Gi", "gpus=all"),
        environment={"OMP_NUM_THREADS": "1", "STAGE": "test", "BUCKET": "s3://acme"},
        health=Health("/ping", timedelta(minutes=10)),
    )
    found = asked()

    assert found == Deployment(
        identity=Identity("local", "reviews"),
        kind=Kind.REALTIME,
        revisions=(ServedRevision(revision_of(content), Role.STABLE, WHOLE),),
        scaling=Scaling(
            min=2,
            max=10,
            target=(
                TargetPolicy(Metric.INVOCATIONS_PER_REPLICA, 600.0),
                TargetPolicy(Metric.CONCURRENCY, 2.5),
            ),
            steps=(
                StepPolicy(Metric.CPU, 2, above=85.0, cooldown=timedelta(seconds=90)),
                StepPolicy(Metric.CPU, -1, below=10.0),
            ),
            schedule=(
                ScheduledBounds("0 8 * * MON-FRI", "Europe/Berlin", 4, 12),
                ScheduledBounds("0 20 * * *", min=2),
            ),
        ),
        labels={"team": "search", "project": "reviews 2"},
        settings={"host": "127.0.0.1", "port": "8080"},
        sources={"a1": "/models/a"},
        spec_hash=found.spec_hash,
    )


CLOUD_CONTENT = Content(
    artifact="a1",
    framework="sklearn",
    framework_version="1.4",
    handler="h1",
    requirements="r1",
    environment={"OMP_NUM_THREADS": "1", "STAGE": "production"},
    machine=("ml.c6i.xlarge", "ml.c5.xlarge"),
    health=Health("/ping", timedelta(minutes=10)),
)
CLOUD_SETTINGS = {
    "role": "arn:aws:iam::123456789012:role/mlscale-serving",
    "subnets": "subnet-0a1b2c3d4e5f60718 subnet-1a1b2c3d4e5f60718",
    "security_groups": "sg-0a1b2c3d4e5f60718",
    "kms_key": "arn:aws:kms:us-east-1:123456789012:key/0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9",
    "volume_size": "50Gi",
    "data_capture": "10% to s3://mlscale-workspace/captured",
}
TOLD = {"notify": "arn:aws:sns:us-east-1:123456789012:ml-oncall"}


def asked_of_a_cloud(*overrides: str, env: str | None = None) -> Deployment:
    """Return what the spec for SageMaker asks for, with overrides laid over it."""
    spec = parse(CLOUD.read_bytes(), CLOUD.name, variables={}, env=env, overrides=overrides)
    return deployment_of(spec, Digests("a1", "h1", "r1", None), {"a1": "/models/a"})


def test_a_spec_for_sagemaker_asks_for_everything_that_it_says() -> None:
    """Machines by preference, a metric of one's own, alarms, a dashboard, and the settings as text; no image yet."""
    found = asked_of_a_cloud()

    assert found == Deployment(
        identity=Identity("sagemaker", "reviews", "123456789012", "us-east-1"),
        kind=Kind.REALTIME,
        revisions=(ServedRevision(revision_of(CLOUD_CONTENT), Role.STABLE, WHOLE),),
        scaling=Scaling(
            min=2,
            max=10,
            target=(
                TargetPolicy(Metric.INVOCATIONS_PER_REPLICA, 600.0),
                TargetPolicy(
                    Metric.CUSTOM,
                    2.5,
                    custom=CustomMetric("Reviews", "QueueWait", "Average", {"Stage": "production"}),
                ),
            ),
            steps=(
                StepPolicy(Metric.CPU, 2, above=85.0, cooldown=timedelta(seconds=90)),
                StepPolicy(Metric.CPU, -1, below=10.0),
            ),
            schedule=(
                ScheduledBounds("0 8 * * MON-FRI", "Europe/Berlin", 4, 12),
                ScheduledBounds("0 20 * * MON-FRI", "Europe/Berlin", 2, 10),
            ),
        ),
        labels={"team": "search", "project": "reviews 2"},
        settings=CLOUD_SETTINGS,
        sources={"a1": "/models/a"},
        auxiliaries=(
            Auxiliary(AuxiliaryKind.ALARM, "p99_latency", {"above": "500ms", **TOLD}),
            Auxiliary(AuxiliaryKind.ALARM, "error_rate", {"above": "1%", **TOLD}),
            Auxiliary(AuxiliaryKind.ALARM, "no_invocations", {"for": "15m", **TOLD}),
            Auxiliary(AuxiliaryKind.DASHBOARD, "endpoint", {"shows": "requests, latency, machines"}),
        ),
        spec_hash=found.spec_hash,
    )


def test_a_serverless_endpoint_has_its_size_and_no_replicas() -> None:
    """Its size is a setting; left out, it is the size that the language says."""
    found = asked_of_a_cloud(env="serverless")
    least = asked_of_a_cloud("endpoint.serverless=null", env="serverless")

    assert (found.kind, found.scaling, found.stable and found.stable.revision.content.machine) == (
        Kind.SERVERLESS,
        Scaling(min=0, max=0),
        (),
    )
    assert found.settings == {
        "role": CLOUD_SETTINGS["role"],
        "serverless.memory": "4Gi",
        "serverless.concurrency": "20",
        "serverless.provisioned": "2",
    }
    assert least.settings == {
        "role": CLOUD_SETTINGS["role"],
        "serverless.memory": "2Gi",
        "serverless.concurrency": "20",
    }


def test_an_async_endpoint_follows_its_queue_from_no_replica() -> None:
    """Where answers go and who is told are settings; the queue is a metric like the others."""
    found = asked_of_a_cloud(env="async")

    assert (found.kind, found.scaling) == (
        Kind.ASYNC,
        Scaling(min=0, max=10, target=(TargetPolicy(Metric.QUEUE_DEPTH, 5.0),)),
    )
    assert {key: value for key, value in found.settings.items() if key.startswith("async_inference.")} == {
        "async_inference.output": "s3://mlscale-workspace/answers",
        "async_inference.failures": "s3://mlscale-workspace/failures",
        "async_inference.concurrency": "4",
        "async_inference.notify_success": "arn:aws:sns:us-east-1:123456789012:answers",
        "async_inference.notify_error": "arn:aws:sns:us-east-1:123456789012:failures",
    }


def test_the_overlays_of_the_spec_for_sagemaker_are_its_updates() -> None:
    """A switch in blue and green changes how, not what; another machine is another revision of the same endpoint."""
    spec = parse(CLOUD.read_bytes(), CLOUD.name, variables={}, env="blue")

    assert wish_of(spec) == RolloutWish("blue_green", timedelta(minutes=5))
    assert asked_of_a_cloud(env="blue").revisions == asked_of_a_cloud().revisions
    assert asked_of_a_cloud(env="bigger").identity == asked_of_a_cloud().identity
    assert asked_of_a_cloud(env="bigger").revisions != asked_of_a_cloud().revisions


def test_the_account_is_the_roles_where_no_other_is_said() -> None:
    """A role serves in its own account, so that is where the endpoint will be."""
    assert asked_of_a_cloud("account=null").identity == asked_of_a_cloud().identity


@pytest.mark.parametrize(
    "override",
    [
        "sagemaker.subnets=[subnet-1a1b2c3d4e5f60718, subnet-0a1b2c3d4e5f60718]",
        "sagemaker.uploads=s3://acme/elsewhere",
        "local.port=9000",
    ],
)
def test_what_is_the_same_for_sagemaker_is_no_difference(override: str) -> None:
    """The order of subnets, where archives go, and another provider's settings change nothing that is served."""
    assert changes(asked_of_a_cloud(override), asked_of_a_cloud()) == ()


GOOGLE_CONTENT = Content(
    artifact="a1",
    framework="sklearn",
    framework_version="1.5",
    environment={"OMP_NUM_THREADS": "1", "STAGE": "production"},
    machine=("n1-standard-4", "n2-standard-4"),
    health=Health("/ping", timedelta(minutes=20)),
)
GOOGLE_SETTINGS = {
    "service_account": "serving@acme-ml.iam.gserviceaccount.com",
    "encryption_key": "projects/acme-ml/locations/us-central1/keyRings/ml/cryptoKeys/serving",
    "dedicated_endpoint": "true",
    "request_logging": "10% to bq://acme-ml.serving.requests",
}


def asked_of_google(*overrides: str, env: str | None = None) -> Deployment:
    """Return what the spec for Vertex AI asks for, with overrides laid over it."""
    spec = parse(VERTEX.read_bytes(), VERTEX.name, variables={}, env=env, overrides=overrides)
    return deployment_of(spec, Digests("a1", None, None, None), {"a1": "/models/a"})


def test_a_spec_for_vertex_asks_for_everything_that_it_says() -> None:
    """Machines by preference, targets, alarms, a dashboard, and the settings as text; no image yet."""
    found = asked_of_google()
    told = {"notify": "projects/acme-ml/notificationChannels/1234567890123456789"}

    assert found == Deployment(
        identity=Identity("vertex", "reviews", "acme-ml", "us-central1"),
        kind=Kind.REALTIME,
        revisions=(ServedRevision(revision_of(GOOGLE_CONTENT), Role.STABLE, WHOLE),),
        scaling=Scaling(
            min=2,
            max=10,
            target=(TargetPolicy(Metric.INVOCATIONS_PER_REPLICA, 600.0), TargetPolicy(Metric.CPU, 70.0)),
        ),
        labels={"team": "search", "project": "reviews-2"},
        settings=GOOGLE_SETTINGS,
        sources={"a1": "/models/a"},
        auxiliaries=(
            Auxiliary(AuxiliaryKind.ALARM, "p99_latency", {"above": "500ms", **told}),
            Auxiliary(AuxiliaryKind.ALARM, "error_rate", {"above": "1%", **told}),
            Auxiliary(AuxiliaryKind.ALARM, "no_invocations", {"for": "15m", **told}),
            Auxiliary(AuxiliaryKind.DASHBOARD, "endpoint", {"shows": "requests, latency, machines"}),
        ),
        spec_hash=found.spec_hash,
    )


def test_the_overlays_of_the_spec_for_vertex_are_its_updates() -> None:
    """Other machines or an image of one's own are another revision; a network is a setting of the endpoint."""
    spec = parse(VERTEX.read_bytes(), VERTEX.name, variables={}, env="blue")
    ids = {revision_id(asked_of_google(env=env)) for env in (None, "bigger", "gpu", "own")}

    assert wish_of(spec) == RolloutWish("blue_green", timedelta(minutes=5))
    assert len(ids) == 4
    assert revision_id(asked_of_google(env="private")) == revision_id(asked_of_google())
    assert asked_of_google(env="private").settings == {
        "service_account": GOOGLE_SETTINGS["service_account"],
        "encryption_key": GOOGLE_SETTINGS["encryption_key"],
        "request_logging": GOOGLE_SETTINGS["request_logging"],
        "network": "projects/123456789012/global/networks/ml",
    }


@pytest.mark.parametrize(
    "override", ["vertex.uploads=gs://acme/elsewhere", "sagemaker.dashboard=true", "local.port=9000"]
)
def test_what_is_the_same_for_vertex_is_no_difference(override: str) -> None:
    """Where files go, and other providers' settings, change nothing that is served."""
    assert changes(asked_of_google(override), asked_of_google()) == ()


@pytest.mark.parametrize(
    ("override", "paths"),
    [
        ("vertex.service_account=other@acme-ml.iam.gserviceaccount.com", ["vertex.service_account"]),
        ("vertex.dedicated_endpoint=false", ["vertex.dedicated_endpoint"]),
        ("vertex.request_logging.share=20%", ["vertex.request_logging"]),
        ("vertex.dashboard=false", ["dashboards.endpoint"]),
    ],
)
def test_a_setting_of_vertex_is_a_difference_by_its_name_in_the_spec(override: str, paths: list[str]) -> None:
    """A plan names the key that the user wrote."""
    assert [each.path for each in changes(asked_of_google(override), asked_of_google())] == paths


def test_an_image_of_ones_own_is_the_revisions_image() -> None:
    """The one that is named; a cloud's prebuilt one is not the spec's to say."""
    own = "123456789012.dkr.ecr.us-east-1.amazonaws.com/reviews:1.2"
    found = asked_of_a_cloud(f"model={{image: '{own}'}}")

    assert found.stable
    assert found.stable.revision.content.image == own


def test_what_a_spec_says_in_vain_is_named() -> None:
    """On this machine a cloud's machines and alarms change nothing; on SageMaker everything is carried out."""
    here = parse(FULL.read_bytes(), FULL.name, variables=VARIABLES)
    bare = parse(
        FULL.read_bytes(), FULL.name, variables=VARIABLES, overrides=["endpoint.machine=[]", "alarms={notify: []}"]
    )

    assert ignored_by(here) == (
        "endpoint.machine is for a cloud: it changes nothing here",
        "alarms are for a cloud: nothing watches a deployment on this machine",
    )
    assert ignored_by(bare) == ()
    assert ignored_by(parse(CLOUD.read_bytes(), CLOUD.name, variables={})) == ()
    assert ignored_by(parse(VERTEX.read_bytes(), VERTEX.name, variables={})) == ()


def test_identity_and_wish_are_what_the_spec_says() -> None:
    """The environment is a part of the name; strategy and bake time are how the next revision takes over."""
    spec = parse(FULL.read_bytes(), FULL.name, variables=VARIABLES, env="prod")

    assert identity_of(spec) == Identity("local", "reviews-prod")
    assert wish_of(spec) == RolloutWish("blue_green", timedelta(seconds=90))


@pytest.mark.parametrize(
    "override",
    [
        "endpoint.replicas={min: 1, max: 99}",
        "endpoint.autoscaling={target: [{metric: cpu, value: 50%}]}",
        "endpoint.autoscaling.schedule=[]",
        "labels={other: label}",
        "local.port=9000",
        "rollout={strategy: all_at_once}",
        "name=other",
        "workspace=elsewhere",
        "model.source=./moved",
        "model.requirements=moved.txt",
        "model.handler=moved.py",
        "model.environment={BUCKET: s3://acme, STAGE: test, OMP_NUM_THREADS: '1'}",
    ],
)
def test_what_changes_in_place_is_no_new_revision(override: str) -> None:
    """Scaling, schedule, labels, settings, and where the same files are: the revision stays."""
    assert revision_id(asked(override)) == revision_id(asked())


@pytest.mark.parametrize(
    "override",
    [
        "model.framework=xgboost",
        "model.framework_version='1.11'",
        "model.environment.STAGE=prod",
        "model.environment.NEW=x",
        "endpoint.health.path=/ready",
        "endpoint.health.startup_timeout=11m",
    ],
)
def test_what_is_served_makes_a_new_revision(override: str) -> None:
    """Framework, environment and health are what a replica is."""
    assert revision_id(asked(override)) != revision_id(asked())


@pytest.mark.parametrize(
    "digests",
    [
        Digests("a2", "h1", "r1", "t1"),
        Digests("a1", "h2", "r1", "t1"),
        Digests("a1", None, "r1", "t1"),
        Digests("a1", "h1", "r2", "t1"),
        Digests("a1", "h1", None, "t1"),
        Digests("a1", "h1", "r1", "t2"),
        Digests("h1", "a1", "r1", "t1"),
    ],
)
def test_other_files_make_a_new_revision(digests: Digests) -> None:
    """The model, the handler, the requirements and the serving code each count, and none stands for another."""
    assert revision_id(asked(digests=digests)) != revision_id(asked())


TEXTS = st.text(alphabet=st.characters(codec="utf-8"), max_size=8)
CONTENTS = st.builds(
    Content,
    artifact=TEXTS,
    framework=st.sampled_from(["onnx", "custom"]),
    framework_version=st.none() | TEXTS,
    handler=st.none() | TEXTS,
    requirements=st.none() | TEXTS,
    runtime=st.none() | TEXTS,
    environment=st.dictionaries(TEXTS, TEXTS, max_size=3),
    health=st.builds(Health, TEXTS, st.timedeltas(timedelta(0), timedelta(days=1))),
)


@given(CONTENTS)
def test_the_same_content_is_the_same_revision_everywhere(content: Content) -> None:
    """The order in which variables were written is not content; the id is ten hexadecimal digits."""
    turned: dict[str, Any] = dict(reversed(list(content.environment.items())))
    again = Content(**{name: getattr(content, name) for name in content.__slots__} | {"environment": turned})

    assert revision_of(again).id == revision_of(content).id
    assert len(revision_of(content).id) == 10
    assert int(revision_of(content).id, 16) >= 0


@given(CONTENTS, CONTENTS)
def test_other_content_is_another_revision(one: Content, other: Content) -> None:
    """No field's value can be taken for another's."""
    assert (revision_of(one).id == revision_of(other).id) == (one == other)


def test_the_id_of_a_revision_does_not_change_between_versions() -> None:
    """An upgrade of mlscale deploys nothing anew: this id is pinned."""
    content = Content(artifact="a", framework="custom", environment={"B": "2", "A": "1"})

    assert revision_of(content).id == "b7fccbd10d"


def test_the_spec_hash_marks_every_change() -> None:
    """What the endpoint is marked with tells whether this very spec was applied."""
    hashes = {asked(*each).spec_hash for each in ((), ("labels.a=b",), ("rollout.keep_revisions=9",))}

    assert len(hashes) == 3
    assert asked().spec_hash == asked().spec_hash
