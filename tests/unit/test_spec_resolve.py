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
    Content,
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
from mlscale.spec import fields as spec_fields
from mlscale.spec.parse import parse
from mlscale.spec.resolve import Digests, deployment_of, identity_of, wish_of
from tests.unit.test_spec_mutations import FULL, VARIABLES

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
