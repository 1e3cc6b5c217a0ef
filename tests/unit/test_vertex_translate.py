"""Steps on Vertex AI from what is there to what is asked, and what its answers amount to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from google.cloud import aiplatform_v1
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlscale.deployment import (
    WHOLE,
    Content,
    Deployment,
    Health,
    Identity,
    Live,
    Phase,
    Role,
    RolloutWish,
    Scaling,
    ServedRevision,
    revision_of,
)
from mlscale.plan import make
from mlscale.plan.diff import changes
from mlscale.plan.steps import Change, Step, StepKind
from mlscale.providers.vertex import machines, requests, scaling, translate, watching
from mlscale.providers.vertex.machines import parse
from mlscale.providers.vertex.payloads import (
    Adopt,
    AwaitOperation,
    AwaitReplicas,
    Bake,
    Configure,
    Deploy,
    Discard,
    MakeEndpoint,
    MakeModel,
    RemoveEndpoint,
    RemoveModel,
    RemoveUploads,
    Shift,
    Undeploy,
    Upload,
    Watch,
)
from mlscale.providers.vertex.translate import Raw
from mlscale.quantities import percent_text
from tests.builders import NOON
from tests.unit import test_vertex_requests as asking
from tests.unit.test_vertex_requests import IMAGE, KEY, NETWORK, OWN_IMAGE, UPLOADS, read, with_content
from tests.unit.test_vertex_scaling import wishes
from tests.unit.test_vertex_watching import Cloud, converge

AT_ONCE, BLUE_GREEN = RolloutWish(), RolloutWish("blue_green", timedelta(minutes=5))
REVIEWS = Identity("vertex", "reviews", "acme-ml", "us-central1")
BY_NUMBER = "projects/123456789012/locations/us-central1"
OPERATION = f"{BY_NUMBER}/operations/77"


def pinned(found: Deployment) -> Deployment:
    """Return what is asked as it is read back: its scaling and alarms in the cloud's words."""
    listed = [parse(each) for each in found.revisions[0].revision.content.machine]
    return replace(
        found,
        scaling=scaling.canonical(found.scaling, listed),
        auxiliaries=watching.canonical(found.auxiliaries),
    )


def asked(env: str | None = None, *overrides: str, **content: Any) -> Deployment:
    """Return what the full spec asks for, as it is read back."""
    return pinned(asking.asked(env, *overrides, **content))


def revision_in(deployment: Deployment) -> str:
    """Return the id of the revision that is asked for."""
    return deployment.revisions[0].revision.id


@dataclass
class There:
    """Vertex AI with `deployment` on it, as its own requests left it; a test changes what it wants otherwise.

    `shares` are its deployed models with their percents; without them it is the one of `deployment`, with all traffic.
    `available` is how many replicas the first of them has; None is a server that does not say, as of the others.
    """

    deployment: Deployment
    shares: Sequence[tuple[Deployment, int]] | None = None
    machine: str | None = None
    available: int | None = None
    watched: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)
    pending: str = ""

    @property
    def raw(self) -> Raw:
        """What Vertex AI and its neighbors answer; it names a project by its number, and a Model with its version."""
        found = self.deployment
        shares = [(found, 100)] if self.shares is None else self.shares
        made = asking.endpoint(found if self.watched else replace(found, auxiliaries=()))["endpoint"]
        endpoint = {
            **made,
            "name": f"{BY_NUMBER}/endpoints/reviews",
            "labels": {**made["labels"], **self.labels},
            "deployed_models": [
                self._deployed(each, None if number else self.available) for number, (each, _) in enumerate(shares)
            ],
            "traffic_split": {self._id(each): share for each, share in shares if share},
        }
        sent = [asking.model(each) for each, _ in shares]
        cloud = Cloud()
        if self.watched:
            converge(cloud, found.auxiliaries, requests.our_labels(found))
        return Raw(
            endpoint={key: value for key, value in endpoint.items() if value},
            models={each["model_id"]: each["model"] for each in sent},
            policies=list(cloud.policies.values()),
            dashboard=next(iter(cloud.dashboards.values()), None),
            pending=tuple(self.pending.split()),
        )

    def _deployed(self, deployment: Deployment, available: int | None) -> dict[str, Any]:
        made: dict[str, Any] = asking.deploy(deployment, self.machine, deployment.scaling.min)["deployed_model"]
        status = {} if available is None else {"status": {"available_replica_count": available} if available else {}}
        return {**made, "id": self._id(deployment), "model": f"{BY_NUMBER}/models/{made['display_name']}@1", **status}

    def _id(self, deployment: Deployment) -> str:
        """The id of a revision's; with another account than the first deployment's, another."""
        account = deployment.settings.get("service_account", "")
        is_same = account == self.deployment.settings.get("service_account", "")
        return requests.deployed_id(revision_in(deployment), "" if is_same else account)

    @property
    def seen(self) -> Deployment:
        """What is read."""
        return translate.deployment(REVIEWS, self.raw)


def steps(
    wanted: Deployment | None, seen: Deployment | None, rollout: RolloutWish = AT_ONCE
) -> tuple[Step[object], ...]:
    """Return the steps in an order that works: a plan refuses others."""
    return make.plan(wanted, seen, translate.steps(wanted, seen, rollout, UPLOADS), now=NOON).steps


def named(key: str) -> str:
    """Return a step's key with a word for the revision's id."""
    for word, deployment in (("one", ONE), ("two", TWO), ("three", THREE)):
        for found in (revision_in(deployment), requests.deployed_id(revision_in(deployment))):
            key = key.replace(found, word)
    return key


def keys(wanted: Deployment, seen: Deployment | None, rollout: RolloutWish = AT_ONCE) -> list[str]:
    """Return the keys of the steps, in the order in which the provider gives them."""
    return [named(each.key) for each in translate.steps(wanted, seen, rollout, UPLOADS)]


def step(found: Sequence[Step[object]], key: str) -> Step[object]:
    """Return the step of that key."""
    (one,) = [each for each in found if named(each.key).endswith(key)]
    return one


def afters(found: Sequence[Step[object]]) -> dict[str, list[str]]:
    """Return what each step waits for."""
    return {named(each.key): [named(key) for key in each.after] for each in found}


def trying(deployment: Deployment, share: int) -> Deployment:
    """Return what a rollout asks for: the first revision, and beside it that of `deployment` with a share."""
    stable = replace(ONE.revisions[0], share=WHOLE - share)
    return replace(ONE, revisions=(stable, replace(deployment.revisions[0], role=Role.CANDIDATE, share=share)))


def tried(deployment: Deployment, least: int) -> dict[str, str]:
    """Return the label of an endpoint whose candidate is the revision of `deployment`."""
    return {requests.TRIED: requests.tried_text(revision_in(deployment), least)}


ONE, TWO, THREE = asked(), asked(artifact="e" * 16), asked(artifact="f" * 16)
MORE = asked(None, "endpoint.replicas={min: 3, max: 20}")
RELABELLED = asked(None, "labels={team: other}")
LOGGED = asked(None, "vertex.request_logging.share=20%")
ELSEWHERE = asked(None, "vertex.service_account=other@acme-ml.iam.gserviceaccount.com")
OTHER = requests.deployed_id(revision_in(ONE), "other@acme-ml.iam.gserviceaccount.com")
UNWATCHED = replace(ONE, auxiliaries=())
LESS_WATCHED = replace(ONE, auxiliaries=ONE.auxiliaries[:1])
LEFT = translate.deployment(REVIEWS, Raw(None, left=("reviews-0123456789",)))
ONES, TWOS = (requests.deployed_id(revision_in(each)) for each in (ONE, TWO))

TAKES_OVER = ["two/upload", "two/model", "two/deploy", "two/wait", "two/shift"]
MADE = ["endpoint/create", "one/upload", "one/model", "one/deploy", "one/wait", "one/shift"]
STATES: dict[str, tuple[Deployment, Deployment | None, Sequence[str]]] = {
    "nothing is there": (ONE, None, [*MADE, "endpoint/watch"]),
    "nothing is there, and nothing shall watch": (UNWATCHED, None, MADE),
    "something is left": (ONE, LEFT, [*MADE, "endpoint/watch"]),
    "it serves": (ONE, There(ONE).seen, []),
    "it serves, unwatched": (UNWATCHED, There(UNWATCHED).seen, []),
    "an operation goes on": (ONE, There(ONE, pending=OPERATION).seen, ["endpoint/settle"]),
    "another revision serves": (TWO, There(ONE).seen, [*TAKES_OVER, "one/undeploy", "endpoint/configure"]),
    "another revision serves, and an operation goes on": (
        TWO,
        There(ONE, pending=OPERATION).seen,
        ["endpoint/settle", *TAKES_OVER, "one/undeploy", "endpoint/configure"],
    ),
    "another revision and other alarms": (
        replace(TWO, auxiliaries=LESS_WATCHED.auxiliaries),
        There(ONE).seen,
        [*TAKES_OVER, "one/undeploy", "endpoint/configure", "endpoint/watch"],
    ),
    "it is deployed, without traffic": (
        TWO,
        There(ONE, [(ONE, 100), (TWO, 0)]).seen,
        ["two/wait", "two/shift", "one/undeploy", "endpoint/configure"],
    ),
    "it has a part of the traffic": (
        TWO,
        There(ONE, [(ONE, 60), (TWO, 40)]).seen,
        ["two/resize", "two/wait", "two/shift", "one/undeploy", "endpoint/configure"],
    ),
    "it has all traffic, beside the one before": (
        TWO,
        There(ONE, [(ONE, 0), (TWO, 100)]).seen,
        ["one/undeploy", "endpoint/configure"],
    ),
    "it is alone, and not yet marked": (TWO, There(ONE, [(TWO, 100)]).seen, ["endpoint/configure"]),
    "the way back from one that has a part": (
        ONE,
        There(ONE, [(ONE, 60), (TWO, 40)]).seen,
        ["one/wait", "one/shift", "two/undeploy"],
    ),
    "two others are there": (
        TWO,
        There(ONE, [(ONE, 50), (THREE, 50)]).seen,
        [*TAKES_OVER, "one/undeploy", "three/undeploy", "endpoint/configure"],
    ),
    "a leftover is there": (ONE, There(ONE, [(ONE, 100), (TWO, 0)]).seen, ["two/undeploy"]),
    "a leftover is there, and other bounds": (
        MORE,
        There(ONE, [(ONE, 100), (TWO, 0)]).seen,
        ["two/undeploy", "endpoint/configure"],
    ),
    "other bounds": (MORE, There(ONE).seen, ["endpoint/configure"]),
    "other targets": (
        asked(None, "endpoint.autoscaling.target=[{metric: cpu, value: 50%}]"),
        There(ONE).seen,
        ["endpoint/configure"],
    ),
    "other labels": (RELABELLED, There(ONE).seen, ["endpoint/configure", "endpoint/watch"]),
    "other labels, and nothing that watches": (
        replace(RELABELLED, auxiliaries=()),
        There(UNWATCHED, watched=False).seen,
        ["endpoint/configure"],
    ),
    "other logging": (LOGGED, There(ONE).seen, ["endpoint/configure"]),
    "another account": (
        ELSEWHERE,
        There(ONE).seen,
        [*(f"one/{each}" for each in ("upload", "model", "deploy", "wait", "shift")), "one/undeploy"],
    ),
    "another account, half-way": (
        ELSEWHERE,
        There(ONE, [(ONE, 100), (ELSEWHERE, 0)]).seen,
        ["one/wait", "one/shift", "one/undeploy"],
    ),
    "a revision is there twice": (ONE, There(ONE, [(ONE, 100), (ELSEWHERE, 0)]).seen, [f"{OTHER}/undeploy"]),
    "there are no models any more, and other labels": (
        RELABELLED,
        There(ONE, []).seen,
        [*MADE[1:], "endpoint/configure", "endpoint/watch"],
    ),
    "a candidate": (
        trying(TWO, 1000),
        There(ONE).seen,
        ["two/upload", "two/model", "two/deploy", "two/wait", "two/shift"],
    ),
    "a candidate has its share": (trying(TWO, 1000), There(ONE, [(ONE, 90), (TWO, 10)]).seen, []),
    "a candidate without traffic": (trying(TWO, 0), There(ONE, [(ONE, 100), (TWO, 0)]).seen, []),
    "a candidate gets more": (
        trying(TWO, 5000),
        There(ONE, [(ONE, 90), (TWO, 10)]).seen,
        ["two/wait", "two/shift"],
    ),
    "a candidate gets more than its replicas carry": (
        trying(TWO, 5000),
        There(ONE, [(ONE, 90), (TWO, 10)], available=7).seen,
        ["two/resize", "two/wait", "two/shift"],
    ),
    "a candidate gets less": (
        trying(TWO, 1000),
        There(ONE, [(ONE, 50), (TWO, 50)], available=7).seen,
        ["two/wait", "two/shift", "two/resize"],
    ),
    "another candidate": (
        trying(TWO, 1000),
        There(ONE, [(ONE, 90), (THREE, 10)]).seen,
        ["endpoint/back", "three/undeploy", "two/upload", "two/model", "two/deploy", "two/wait", "two/shift"],
    ),
    "a candidate and other bounds": (
        replace(trying(TWO, 1000), scaling=MORE.scaling),
        There(ONE, [(ONE, 90), (TWO, 10)]).seen,
        ["endpoint/configure"],
    ),
    "a candidate becomes the stable one": (
        TWO,
        There(ONE, [(ONE, 50), (TWO, 50)], available=7).seen,
        ["two/resize", "two/wait", "two/shift", "one/undeploy", "endpoint/configure"],
    ),
    "a candidate has its share, and not the replicas for it": (
        trying(TWO, 1000),
        There(ONE, [(ONE, 90), (TWO, 10)], labels=tried(TWO, 1)).seen,
        ["two/resize"],
    ),
    "a candidate has its share and the replicas for it": (
        trying(TWO, 1000),
        There(ONE, [(ONE, 90), (TWO, 10)], labels=tried(TWO, 2)).seen,
        [],
    ),
    "a candidate has another one's label": (
        trying(TWO, 1000),
        There(ONE, [(ONE, 90), (TWO, 10)], labels=tried(THREE, 1)).seen,
        [],
    ),
    "a candidate that has replicas for more already": (
        trying(TWO, 3000),
        There(ONE, [(ONE, 90), (TWO, 10)], available=2, labels=tried(TWO, 1)).seen,
        ["two/wait", "two/shift", "two/resize"],
    ),
    "a candidate, and an operation goes on": (
        trying(TWO, 1000),
        There(ONE, pending=OPERATION).seen,
        ["endpoint/settle", *TAKES_OVER, "two/resize"],
    ),
    "a candidate without traffic is given up": (
        ONE,
        There(ONE, [(ONE, 100), (TWO, 0)], labels=tried(TWO, 2)).seen,
        ["one/shift", "two/undeploy"],
    ),
    "a candidate is gone, and its label is there": (
        ONE,
        There(ONE, labels=tried(TWO, 2)).seen,
        ["one/shift"],
    ),
    "alarms are gone": (ONE, replace(There(ONE).seen, auxiliaries=()), ["endpoint/watch"]),
    "fewer alarms": (LESS_WATCHED, There(ONE).seen, ["endpoint/watch"]),
    "no alarms any more": (UNWATCHED, There(ONE).seen, ["endpoint/watch"]),
    "alarms for the first time": (ONE, There(ONE, watched=False).seen, ["endpoint/configure", "endpoint/watch"]),
}


@pytest.mark.parametrize("case", STATES)
def test_each_state_has_its_steps(case: str) -> None:
    """From whatever is there the steps lead to what is asked; where that serves, there is none."""
    wanted, seen, expected = STATES[case]

    assert keys(wanted, seen) == expected
    assert len(steps(wanted, seen)) == len(expected)


def test_an_endpoint_without_models_is_not_made_again() -> None:
    """A run that was cut off after it made the endpoint is taken up there."""
    found = translate.steps(ONE, There(ONE, []).seen, AT_ONCE, UPLOADS)

    assert [named(each.key) for each in found][:5] == MADE[1:]
    assert step(found, "/deploy").payload == step(translate.steps(ONE, None, AT_ONCE, UPLOADS), "/deploy").payload


def test_nothing_is_planned_where_no_revision_is_asked() -> None:
    """Labels alone make no deployment."""
    assert translate.steps(replace(ONE, revisions=()), None, AT_ONCE, UPLOADS) == ()


def test_each_step_of_the_first_deployment_waits_for_what_it_needs() -> None:
    """Nothing is deployed before its Model and the endpoint are there; what watches comes when there is something."""
    assert afters(steps(ONE, None)) == {
        "endpoint/create": [],
        "one/upload": [],
        "one/model": ["one/upload"],
        "one/deploy": ["endpoint/create", "one/model"],
        "one/wait": ["one/deploy"],
        "one/shift": ["one/wait"],
        "endpoint/watch": ["one/shift"],
    }


def test_each_step_of_a_takeover_waits_for_what_it_needs() -> None:
    """The old revision goes when the new one has the traffic and was watched; marks and alarms come after that."""
    wanted = replace(TWO, auxiliaries=LESS_WATCHED.auxiliaries, scaling=MORE.scaling)
    busy = There(ONE, [(ONE, 50), (THREE, 50)], pending=OPERATION).seen

    assert afters(steps(wanted, busy, BLUE_GREEN)) == {
        "endpoint/settle": [],
        "two/upload": [],
        "two/model": ["two/upload"],
        "two/deploy": ["endpoint/settle", "two/model"],
        "two/wait": ["two/deploy"],
        "two/shift": ["two/wait"],
        "two/bake": ["two/shift"],
        "one/undeploy": ["two/bake"],
        "three/undeploy": ["two/bake"],
        "endpoint/configure": ["one/undeploy", "three/undeploy"],
        "endpoint/watch": ["endpoint/configure"],
    }


def test_in_a_network_the_old_revision_goes_before_the_new_one_is_deployed() -> None:
    """An endpoint there holds one model: all that can be ready before is, and consent is asked for."""
    one, two = (replace(each, settings={**each.settings, "network": NETWORK}) for each in (ONE, TWO))

    found = translate.steps(two, There(one, available=4).seen, AT_ONCE, UPLOADS)

    assert afters(found) == {
        "two/upload": [],
        "two/model": ["two/upload"],
        "one/undeploy": ["two/model"],
        "two/deploy": ["two/model", "one/undeploy"],
        "two/wait": ["two/deploy"],
        "two/shift": ["two/wait"],
        "endpoint/configure": ["two/shift"],
    }
    assert [named(each.key) for each in found if each.interrupts] == ["one/undeploy"]
    deploy = step(found, "/deploy").payload
    assert isinstance(deploy, Deploy)
    assert deploy.requests[0] == requests.deploy(
        two, two.revisions[0].revision, "n1-standard-4", deployed_id=TWOS, least=4, split={requests.NEW: 100}
    )
    assert keys(one, There(two).seen) == ["one/upload", "one/model", "two/undeploy", *MADE[3:], "endpoint/configure"]


def test_without_a_bake_the_old_revision_goes_after_the_shift() -> None:
    """At once, but not before."""
    found = afters(steps(TWO, There(ONE).seen))

    assert found["one/undeploy"] == ["two/shift"]
    assert found["endpoint/configure"] == ["one/undeploy"]


def test_what_goes_on_is_waited_for_before_anything_changes() -> None:
    """Vertex AI refuses another change meanwhile, whichever step is the first."""
    pending = There(ONE, [(ONE, 60), (TWO, 40)], pending=OPERATION).seen
    leftover = There(ONE, [(ONE, 100), (TWO, 0)], pending=OPERATION).seen
    serving = There(ONE, pending=OPERATION).seen

    assert step(steps(ONE, serving), "/settle").payload == AwaitOperation(REVIEWS, (OPERATION,))
    assert step(steps(TWO, pending), "/resize").after == ("endpoint/settle",)
    assert step(steps(ONE, leftover), "/undeploy").after == ("endpoint/settle",)
    assert step(steps(MORE, serving), "/configure").after == ("endpoint/settle",)
    assert step(steps(LESS_WATCHED, serving), "/watch").after == ("endpoint/settle",)


def test_the_first_deployment_has_what_it_needs_in_its_steps() -> None:
    """Files, Model and endpoint whole; its first replicas are the least that is asked for."""
    sources = {"a" * 16: "/here/model"}
    revision = ONE.revisions[0].revision
    split = {"0": 100}

    assert [each.payload for each in translate.steps(replace(ONE, sources=sources), None, AT_ONCE, UPLOADS)] == [
        MakeEndpoint(REVIEWS, requests.endpoint(ONE, revision.id)),
        Upload(REVIEWS, f"{UPLOADS}/reviews/{'a' * 16}", revision, "/here/model"),
        MakeModel(REVIEWS, requests.model(ONE, revision, UPLOADS)),
        Deploy(
            REVIEWS,
            revision.id,
            (
                requests.deploy(ONE, revision, "n1-standard-4", deployed_id=ONES, least=2, split=split),
                requests.deploy(ONE, revision, "n2-standard-4", deployed_id=ONES, least=2, split=split),
            ),
        ),
        AwaitReplicas(REVIEWS, revision.id, ONES, 2),
        Shift(REVIEWS, {ONES: 100}),
        Watch(REVIEWS, ONE.auxiliaries, {"mlscale-name": "reviews", **ONE.labels}),
    ]


def test_a_takeover_has_what_it_needs_in_its_steps() -> None:
    """The new one is deployed without traffic, with as many replicas as carry the traffic; the old one goes by id."""
    revision = TWO.revisions[0].revision
    found = steps(TWO, There(ONE, available=4).seen, BLUE_GREEN)

    deploy = step(found, "/deploy").payload
    assert isinstance(deploy, Deploy)
    assert deploy.requests[0] == requests.deploy(
        TWO, revision, "n1-standard-4", deployed_id=TWOS, least=4, split={ONES: 100, requests.NEW: 0}
    )
    assert step(found, "/upload").payload == Upload(REVIEWS, f"{UPLOADS}/reviews/{'e' * 16}", revision, None)
    assert step(found, "/wait").payload == AwaitReplicas(REVIEWS, revision.id, TWOS, 4)
    assert step(found, "/shift").payload == Shift(REVIEWS, {TWOS: 100})
    assert step(found, "/bake").payload == Bake(REVIEWS, revision.id, TWOS, timedelta(minutes=5))
    assert step(found, "/undeploy").payload == Undeploy(REVIEWS, ONES)
    assert step(found, "/configure").payload == Configure(
        REVIEWS,
        TWOS,
        TWO.scaling,
        requests.endpoint_labels(TWO, revision.id),
        "10% to bq://acme-ml.serving.requests",
        (f"reviews-{revision_in(ONE)}",),
    )


def test_a_candidate_has_what_it_needs_in_its_steps() -> None:
    """It starts with replicas for its share and without traffic, which the stable one keeps until it is ready."""
    wanted, revision = trying(TWO, 2500), TWO.revisions[0].revision
    found = steps(wanted, There(ONE, [(ONE, 60), (THREE, 40)], available=7).seen)

    deploy = step(found, "two/deploy").payload
    assert isinstance(deploy, Deploy)
    assert deploy.requests[0] == requests.deploy(
        wanted, revision, "n1-standard-4", deployed_id=TWOS, least=3, split={ONES: 100, requests.NEW: 0}
    )
    assert step(found, "endpoint/back").payload == Shift(REVIEWS, {ONES: 100})
    assert step(found, "/wait").payload == AwaitReplicas(REVIEWS, revision.id, TWOS, 3)
    assert step(found, "two/shift").payload == Shift(REVIEWS, {ONES: 75, TWOS: 25}, f"{revision.id}-3")
    assert step(found, "two/shift").changes == (
        Change(f"revision {revision_in(ONE)}", "60%", "75%"),
        Change(f"revision {revision_in(THREE)}", "40%", "0%"),
        Change(f"revision {revision.id}", "0%", "25%"),
    )


def test_a_label_that_somebody_else_wrote_says_nothing() -> None:
    """Whatever stands in it, the plan is as without it."""
    for label in ("x", "mine-2", f"{revision_in(TWO)}-", f"{revision_in(TWO)}--1"):
        seen = There(ONE, [(ONE, 90), (TWO, 10)], labels={requests.TRIED: label}).seen
        assert keys(trying(TWO, 1000), seen) == []


def test_each_step_of_another_candidate_waits_for_what_it_needs() -> None:
    """What is neither of the two goes first: two are paid for at most."""
    found = afters(steps(trying(TWO, 1000), There(ONE, [(ONE, 60), (THREE, 40)]).seen))

    assert found == {
        "endpoint/back": [],
        "three/undeploy": ["endpoint/back"],
        "two/upload": [],
        "two/model": ["two/upload"],
        "two/deploy": ["endpoint/back", "three/undeploy", "two/model"],
        "two/wait": ["two/deploy"],
        "two/shift": ["two/wait"],
    }


@pytest.mark.parametrize(("available", "least"), [(None, 2), (1, 2), (7, 7), (99, 10)])
def test_a_new_revision_starts_with_the_replicas_that_there_are(available: int | None, least: int) -> None:
    """As far as its bounds allow."""
    deploy = step(steps(TWO, There(ONE, available=available).seen), "/deploy").payload

    assert isinstance(deploy, Deploy)
    assert deploy.requests[0]["deployed_model"]["dedicated_resources"]["min_replica_count"] == least


@pytest.mark.parametrize(
    ("shares", "split"),
    [
        ([(ONE, 100)], {ONES: 100, "0": 0}),
        ([(ONE, 60), (THREE, 40)], {ONES: 60, requests.deployed_id(revision_in(THREE)): 40, "0": 0}),
        ([(ONE, 0), (THREE, 100)], {requests.deployed_id(revision_in(THREE)): 100, "0": 0}),
        ([(ONE, 0)], {"0": 100}),
        ([], {"0": 100}),
    ],
)
def test_a_deployment_leaves_the_split_as_it_is(
    shares: Sequence[tuple[Deployment, int]], split: dict[str, int]
) -> None:
    """The new one gets nothing; where nothing has traffic, it gets all: a split of nothing would serve nobody."""
    deploy = step(steps(TWO, There(ONE, shares).seen), "/deploy").payload

    assert isinstance(deploy, Deploy)
    assert [each["traffic_split"] for each in deploy.requests] == [split, split]


def test_a_revision_without_files_uploads_nothing() -> None:
    """An image that brings its model needs no folder, and its Model waits for none."""
    found = steps(asked("own", artifact=""), None)

    assert not [each for each in found if isinstance(each.payload, Upload)]
    assert step(found, "/model").after == ()


def test_only_a_takeover_is_watched_for_a_while() -> None:
    """Without an old revision there is nothing to go back to; without a time there is nothing to wait for."""
    assert not [each for each in steps(ONE, None, BLUE_GREEN) if isinstance(each.payload, Bake)]
    assert not [each for each in steps(TWO, There(ONE).seen, AT_ONCE) if isinstance(each.payload, Bake)]
    assert step(steps(TWO, There(ONE).seen, BLUE_GREEN), "/bake").expected == timedelta(minutes=5)


def test_an_endpoint_that_was_watched_stays_marked_so() -> None:
    """What watched it is looked for also when nothing shall any more."""
    configure = step(steps(replace(MORE, auxiliaries=()), There(ONE).seen), "/configure").payload

    assert isinstance(configure, Configure)
    assert configure.labels["mlscale-watched"] == "yes"


def test_each_step_tells_what_it_changes() -> None:
    """Content where it is deployed, shares where they shift, and the rest where it is changed in place."""
    wanted = replace(with_content(MORE, artifact="e" * 16), labels={"team": "other"}, auxiliaries=())
    new, old = revision_in(wanted), revision_in(ONE)
    found = steps(wanted, There(ONE).seen)

    assert {each.key.rpartition("/")[2]: each.changes for each in found if each.changes} == {
        "deploy": (
            Change(f"revision {old}", "stable 100%", None),
            Change("model.source", "a" * 16, "e" * 16),
            Change(f"revision {new}", None, "stable 100%"),
        ),
        "shift": (Change(f"revision {old}", "100%", "0%"), Change(f"revision {new}", "0%", "100%")),
        "configure": (
            Change("endpoint.replicas", "2 to 10", "3 to 20"),
            Change("labels.project", "reviews-2", None),
            Change("labels.team", "search", "other"),
        ),
        "watch": tuple(Change(f"{each.kind}s.{each.key}", text_of(each.content), None) for each in ONE.auxiliaries),
    }


def text_of(content: Mapping[str, str]) -> str:
    """Return what a plan says of an alarm."""
    return ", ".join(f"{key} {value}" for key, value in content.items())


def test_only_taking_down_destroys_or_interrupts() -> None:
    """What a takeover takes away is there again with the next one."""
    found = steps(TWO, There(ONE, [(ONE, 50), (THREE, 50)], pending=OPERATION).seen, BLUE_GREEN)

    assert not [each for each in found if each.destroys or each.interrupts]
    assert {each.key.rpartition("/")[2]: each.kind for each in found} == {
        "settle": StepKind.WAIT,
        "upload": StepKind.CREATE,
        "model": StepKind.CREATE,
        "deploy": StepKind.CREATE,
        "wait": StepKind.WAIT,
        "shift": StepKind.SHIFT,
        "bake": StepKind.WAIT,
        "undeploy": StepKind.DELETE,
        "configure": StepKind.UPDATE,
    }


def test_taking_down_ends_what_bills_first_and_leaves_a_trace_to_the_end() -> None:
    """The model with the traffic goes last, with the split; files go before the Models, by which all is found."""
    there = There(ONE, [(ONE, 100), (TWO, 0)], pending=OPERATION)
    two, one = f"reviews-{revision_in(TWO)}", f"reviews-{revision_in(ONE)}"
    first, last = sorted((one, two))

    found = translate.steps(None, there.seen, AT_ONCE, UPLOADS)

    assert [(each.key, each.after) for each in found] == [
        ("endpoint/settle", ()),
        ("endpoint/unwatch", ()),
        (f"{TWOS}/undeploy", ("endpoint/settle",)),
        (f"{ONES}/undeploy", ("endpoint/settle", f"{TWOS}/undeploy")),
        (
            "endpoint/delete",
            ("endpoint/unwatch", "endpoint/settle", f"{TWOS}/undeploy", f"{ONES}/undeploy"),
        ),
        ("files/delete", ("endpoint/delete",)),
        (f"{first}/delete", ("files/delete",)),
        (f"{last}/delete", ("files/delete",)),
    ]
    assert [each.payload for each in found] == [
        AwaitOperation(REVIEWS, (OPERATION,)),
        Watch(REVIEWS, (), {}),
        Undeploy(REVIEWS, TWOS),
        Undeploy(REVIEWS, ONES),
        RemoveEndpoint(REVIEWS),
        RemoveUploads(REVIEWS),
        RemoveModel(REVIEWS, first),
        RemoveModel(REVIEWS, last),
    ]
    assert [each.key for each in found if not each.destroys] == ["endpoint/settle", "endpoint/unwatch"]
    assert [each.key for each in found if each.interrupts] == [f"{ONES}/undeploy", "endpoint/delete"]
    assert step(found, "endpoint/delete").changes == changes(None, there.seen)
    assert len(steps(None, there.seen)) == len(found)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (None, []),
        (LEFT, ["files/delete", "reviews-0123456789/delete"]),
        (There(ONE, []).seen, ["endpoint/unwatch", "endpoint/delete", "files/delete"]),
        (
            There(UNWATCHED, watched=False).seen,
            ["one/undeploy", "endpoint/delete", "files/delete", "reviews-one/delete"],
        ),
        (
            There(UNWATCHED, [(UNWATCHED, 40), (TWO, 60)], watched=False).seen,
            [
                *("endpoint/gather", "one/undeploy", "two/undeploy", "endpoint/delete", "files/delete"),
                *(f"reviews-{named(each)}/delete" for each in sorted(map(revision_in, (ONE, TWO)))),
            ],
        ),
    ],
    ids=["nothing is there", "what is left", "an endpoint without models", "nothing watches", "two have traffic"],
)
def test_taking_down_from_any_state(seen: Deployment | None, expected: list[str]) -> None:
    """What is not there is not taken down; where several have traffic, the last to go has all of it first."""
    assert [named(each.key) for each in steps(None, seen)] == expected
    shifts = [each.payload for each in steps(None, seen) if each.kind is StepKind.SHIFT]
    assert shifts == [Shift(REVIEWS, {TWOS: 100})] * expected.count("endpoint/gather")


def test_garbage_is_each_model_and_file_by_itself() -> None:
    """A step for each, which no other waits for."""
    place = f"{UPLOADS}/reviews/0123456789abcdef/model.joblib"

    assert translate.garbage_steps(REVIEWS, ["reviews-0123456789"], [place]) == (
        Step(
            "reviews-0123456789/discard",
            StepKind.DELETE,
            "model reviews-0123456789",
            RemoveModel(REVIEWS, "reviews-0123456789"),
            expected=timedelta(minutes=1),
        ),
        Step(f"{place}/discard", StepKind.DELETE, f"file {place}", Discard(REVIEWS, place)),
    )


@pytest.mark.parametrize(
    "changed",
    [{"mlscale-name": ""}, {"mlscale-revision": "0123456789"}, {"team": "other"}, {"team": ""}],
)
def test_a_model_gets_its_labels_again(changed: dict[str, str]) -> None:
    """Without ours it would be in no list of the deployment's any more; what others add to it is no matter."""
    raw = There(ONE).raw
    (name, model), *_ = raw.models.items()
    labels = {key: value for key, value in {**model["labels"], "theirs": "yes", **changed}.items() if value}

    found = translate.deployment(REVIEWS, replace(raw, models={name: {**model, "labels": labels}}))

    (configure,) = steps(ONE, found)
    assert isinstance(configure.payload, Configure)
    assert configure.payload.models == (name,)


@pytest.mark.parametrize("changed", ["policies", "dashboard"])
def test_what_watches_gets_its_labels_again(changed: str) -> None:
    """Also where a run was cut off between the endpoint's labels and these."""
    raw = There(ONE).raw
    policies = [{**each, "user_labels": {**each["user_labels"], "team": "other"}} for each in raw.policies]
    board = {**(raw.dashboard or {}), "labels": {"mlscale-name": "reviews"}}

    found = replace(raw, policies=policies) if changed == "policies" else replace(raw, dashboard=board)

    (watch,) = steps(ONE, translate.deployment(REVIEWS, found))
    assert watch.payload == Watch(REVIEWS, ONE.auxiliaries, requests.our_labels(ONE))


def test_an_endpoint_becomes_ours_in_one_step() -> None:
    """By its labels."""
    assert translate.adoption(REVIEWS, {"team": "search"}) == (
        Step("endpoint/adopt", StepKind.UPDATE, "endpoint reviews", Adopt(REVIEWS, {"team": "search"})),
    )


hexes = st.text("0123456789abcdef", min_size=16, max_size=16)
words = st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True)
label_keys = st.from_regex(r"[a-z][a-z0-9_-]{0,9}", fullmatch=True)
MACHINES = (
    ("n1-standard-4", "n2-standard-4", "e2-standard-8"),
    ("n1-standard-4+spot", "n2-standard-4+spot"),
    ("g2-standard-8+1xnvidia-l4", "g2-standard-12+1xnvidia-l4"),
    ("a2-highgpu-8g+8xnvidia-tesla-a100+spot",),
)


@st.composite
def contents(draw: st.DrawFn) -> Content:
    """Contents that Vertex AI can hold."""
    is_own = draw(st.booleans())
    return Content(
        artifact=draw(st.just("") | hexes) if is_own else draw(hexes),
        framework=draw(st.sampled_from(("sklearn", "tensorflow", "xgboost", "pytorch", "custom"))),
        framework_version=draw(st.none() | st.just("1.5")),
        handler=draw(st.none() | hexes),
        requirements=draw(st.none() | hexes),
        image=OWN_IMAGE if is_own else IMAGE,
        runtime=draw(st.none() | hexes),
        environment=draw(st.dictionaries(words, st.text('abc =/"é', max_size=5), max_size=3)),
        machine=tuple(draw(st.lists(st.sampled_from(draw(st.sampled_from(MACHINES))), min_size=1, unique=True))),
        health=Health(
            draw(st.sampled_from(("/ping", "/health"))) if is_own else "/ping",
            timedelta(seconds=draw(st.integers(1, 7200))),
        ),
    )


@st.composite
def settings_of(draw: st.DrawFn) -> dict[str, str]:
    """Settings in the words of `spec.resolve`."""
    share = percent_text(draw(st.integers(1, 10**8)) / 10**6)
    every = {
        "service_account": "serving@acme-ml.iam.gserviceaccount.com",
        "network": NETWORK,
        "encryption_key": KEY,
        "dedicated_endpoint": "true",
        "request_logging": f"{share} to bq://example.com:acme-ml.serving.requests",
    }
    return {key: every[key] for key in draw(st.sets(st.sampled_from(sorted(every))))}


@st.composite
def deployments(draw: st.DrawFn) -> Deployment:
    """What a spec may ask of Vertex AI, its image chosen, as it is read back."""
    revision = revision_of(draw(contents()))
    auxiliaries = draw(st.lists(st.sampled_from(ONE.auxiliaries), unique_by=lambda each: each.key))
    return pinned(
        Deployment(
            identity=REVIEWS,
            revisions=(ServedRevision(revision, Role.STABLE, WHOLE),),
            scaling=draw(wishes(parse(revision.content.machine[0]))),
            labels=draw(st.dictionaries(label_keys, st.from_regex(r"[a-z0-9_-]{0,9}", fullmatch=True), max_size=3)),
            settings=draw(settings_of()),
            auxiliaries=tuple(auxiliaries),
            spec_hash="0123456789abcdef",
        )
    )


thorough = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])


@thorough
@given(deployments(), st.data())
def test_whatever_is_asked_is_what_is_read_back(deployment: Deployment, data: st.DataObject) -> None:
    """From the requests alone the same content, settings, labels and scaling are read, on any of its machines."""
    machine = data.draw(st.sampled_from(deployment.revisions[0].revision.content.machine))
    seen = There(deployment, machine=machine).seen

    assert make.difference(deployment, seen) == ()
    assert seen.revisions[0].revision == deployment.revisions[0].revision
    assert (seen.settings, seen.labels, seen.scaling) == (deployment.settings, deployment.labels, deployment.scaling)
    assert seen.auxiliaries == deployment.auxiliaries
    assert seen.spec_hash == deployment.spec_hash
    assert translate.steps(deployment, seen, AT_ONCE, UPLOADS) == ()


@thorough
@given(deployments(), deployments())
def test_a_change_of_anything_has_a_step_and_no_change_has_none(one: Deployment, other: Deployment) -> None:
    """A field that differs is in the steps' changes; a plan that shows a difference does something about it."""
    kept = {key: value for key, value in one.settings.items() if key in requests.FIXED}
    free = {key: value for key, value in other.settings.items() if key not in requests.FIXED}
    other = replace(other, settings={**kept, **free})
    seen = There(one).seen

    planned = translate.steps(other, seen, AT_ONCE, UPLOADS)

    assert bool(planned) == bool(changes(other, seen))
    told = {change.path for each in planned for change in each.changes}
    assert {each.path for each in changes(other, seen)} <= told


@thorough
@given(contents())
def test_a_content_is_read_from_its_model_alone(content: Content) -> None:
    """From the request of the Model and the machine that is in use."""
    deployment = with_content(ONE, **{key: getattr(content, key) for key in Content.__dataclass_fields__})
    model = asking.model(deployment)["model"]

    for machine in content.machine:
        used = {"dedicated_resources": machines.resources_of(machine)}
        assert translate.content_of(model, used) == content


@pytest.mark.parametrize("machine", ["n1-standard-8", "n1-standard-4+spot", "n1-standard-4+1xnvidia-tesla-t4"])
def test_a_machine_that_the_revision_does_not_name_is_a_difference(machine: str) -> None:
    """Of another size, on spot capacity or with a GPU: it costs or serves otherwise."""
    seen = There(ONE, machine=machine).seen

    assert seen.revisions[0].revision.content.machine == (machine,)
    assert seen.revisions[0].revision != ONE.revisions[0].revision
    assert "one/deploy" in keys(ONE, seen)


def test_a_fallback_machine_in_use_is_no_difference() -> None:
    """A revision runs on whichever of its machines there was."""
    assert There(ONE, machine="n2-standard-4").seen.revisions[0].revision == ONE.revisions[0].revision


def test_an_endpoint_that_somebody_made_is_an_image_with_files_of_its_place() -> None:
    """What no description tells is told by its place, so that another place is another revision."""
    bare = {"container_spec": {"image_uri": OWN_IMAGE}, "artifact_uri": "gs://theirs/model", "description": "mine"}
    used = {"dedicated_resources": {"machine_spec": {"machine_type": "n1-standard-4"}}}

    assert translate.content_of(bare, used) == Content(
        artifact="gs://theirs/model", framework="custom", image=OWN_IMAGE, machine=("n1-standard-4",)
    )
    assert translate.content_of({}, {}) == Content(artifact="", framework="custom")


@pytest.mark.parametrize("text", ["1200s", "1200.000s"])
def test_a_timeout_is_read_in_any_of_its_forms(text: str) -> None:
    """A Duration has no digits after the point, or three, six or nine."""
    found = translate.content_of({"container_spec": {"deployment_timeout": text}}, {})

    assert found.health.startup_timeout == timedelta(minutes=20)


def test_a_serving_endpoint_is_read_whole() -> None:
    """Address, marks and facts; counts are told apart from what is asked."""
    revision = ONE.revisions[0].revision

    assert There(ONE, available=3).seen == Deployment(
        identity=REVIEWS,
        revisions=(ServedRevision(revision, Role.STABLE, WHOLE, Live(3, 3), metric_dimension=ONES),),
        scaling=ONE.scaling,
        labels={"team": "search", "project": "reviews-2"},
        settings=ONE.settings,
        auxiliaries=ONE.auxiliaries,
        facts={
            "there": "yes",
            "marked": revision.id,
            "labelled": "yes",
            "watched": "yes",
            "models": f"reviews-{revision.id}",
            "watchers": "mlscale-name=reviews project=reviews-2 team=search",
        },
        phase=Phase.STEADY,
        reason="",
        pending=None,
        address=(
            "https://us-central1-aiplatform.googleapis.com/v1/projects/acme-ml/locations/us-central1/endpoints/reviews"
        ),
        spec_hash=ONE.spec_hash,
    )


def test_what_is_left_without_an_endpoint_is_named() -> None:
    """A failed deployment of no revision, which a deploy and a destroy both start from."""
    assert translate.deployment(REVIEWS, Raw(None, left=("reviews-1", "reviews-2"))) == Deployment(
        REVIEWS,
        phase=Phase.FAILED,
        reason="the endpoint is gone, and this is left of it: model reviews-1, model reviews-2",
        scaling=Scaling(0, 0),
        facts={"there": "no", "models": "reviews-1 reviews-2"},
    )


def test_what_is_made_where_nothing_is_yet_is_a_change() -> None:
    """Not something left of a deployment: each command waits for it first."""
    seen = translate.deployment(REVIEWS, Raw(None, pending=(OPERATION, f"{OPERATION}8"), has_files=True))

    assert (seen.phase, seen.pending) == (Phase.CHANGING, f"{OPERATION} {OPERATION}8")
    assert seen.reason == "an operation goes on at the endpoint"
    assert [each.key for each in steps(None, seen)] == ["endpoint/settle", "files/delete"]
    assert keys(ONE, seen) == ["endpoint/settle", *MADE, "endpoint/watch"]
    assert steps(ONE, seen)[0].payload == AwaitOperation(REVIEWS, (OPERATION, f"{OPERATION}8"))


def test_a_model_that_somebody_else_made_outlives_the_endpoint() -> None:
    """It serves there, or did, and an import gave it our label."""
    there = There(UNWATCHED, watched=False).raw
    raw = replace(there, models={**there.models, "by-hand": {"labels": {"mlscale-name": "reviews"}}})

    found = [named(each.key) for each in steps(None, translate.deployment(REVIEWS, raw))]

    assert found == ["one/undeploy", "endpoint/delete", "files/delete", "reviews-one/delete"]


def test_an_endpoint_without_models_has_no_replicas() -> None:
    """It is there, and serves nothing."""
    seen = There(ONE, []).seen

    assert (seen.revisions, seen.scaling, seen.stable) == ((), Scaling(0, 0), None)
    assert (seen.facts["there"], seen.facts["models"]) == ("yes", "")


def test_an_operation_that_goes_on_is_a_change() -> None:
    """Its name is what to wait for."""
    seen = There(ONE, pending=OPERATION).seen

    assert (seen.phase, seen.pending) == (Phase.CHANGING, OPERATION)
    assert seen.reason == "an operation goes on at the endpoint"


def test_percents_are_shares_of_the_whole() -> None:
    """The marked revision is the stable one, whatever its share."""
    seen = There(ONE, [(TWO, 93), (ONE, 7), (THREE, 0)]).seen

    assert [(each.revision.id, each.role, each.share) for each in seen.revisions] == [
        (revision_in(TWO), Role.CANDIDATE, 9300),
        (revision_in(ONE), Role.STABLE, 700),
        (revision_in(THREE), Role.CANDIDATE, 0),
    ]


@pytest.mark.parametrize("marked", ["", "0123456789"])
def test_without_a_mark_the_revision_with_more_traffic_is_the_stable_one(marked: str) -> None:
    """So it is where the mark is of one that is gone, or where there is none."""
    seen = There(ONE, [(ONE, 40), (TWO, 60)], labels={"mlscale-revision": marked}).seen

    assert [each.role for each in seen.revisions] == [Role.CANDIDATE, Role.STABLE]


def test_scaling_and_service_account_are_the_stable_revisions() -> None:
    """Those of another one are no matter, wherever it stands."""
    other = replace(
        with_content(MORE, artifact="e" * 16), settings={**ONE.settings, "service_account": "other@acme-ml"}
    )

    seen = There(ONE, [(other, 20), (ONE, 80)]).seen

    assert (seen.scaling, seen.settings) == (ONE.scaling, ONE.settings)


@pytest.mark.parametrize(
    ("available", "live"), [(None, Live(2, 2)), (0, Live(2, 0)), (1, Live(2, 1)), (2, Live(2, 2)), (7, Live(7, 7))]
)
def test_counts_are_as_the_endpoint_says(available: int | None, live: Live) -> None:
    """Fewer than the least are on their way; where it does not say, there are as many as were asked for."""
    assert There(ONE, available=available).seen.revisions[0].live == live


def test_labels_are_ours_only_if_a_spec_asked_for_them() -> None:
    """Labels that an account puts on everything are none; one that somebody changed has what it has now."""
    theirs = There(ONE, labels={"cost-center": "7", "team": "other"})

    assert theirs.seen.labels == {"team": "other", "project": "reviews-2"}


def test_a_label_that_somebody_removed_is_missing() -> None:
    """Whatever the description says."""
    raw = There(ONE).raw
    assert raw.endpoint
    kept = {key: value for key, value in raw.endpoint["labels"].items() if key != "team"}

    seen = translate.deployment(REVIEWS, replace(raw, endpoint={**raw.endpoint, "labels": kept}))

    assert seen.labels == {"project": "reviews-2"}
    assert keys(ONE, seen) == ["endpoint/configure"]


def test_logging_that_is_switched_off_is_none() -> None:
    """Its table and rate may stay."""
    raw = There(ONE).raw
    assert raw.endpoint
    kept = {**raw.endpoint["predict_request_response_logging_config"]}
    del kept["enabled"]
    off = {**raw.endpoint, "predict_request_response_logging_config": kept}

    assert "request_logging" not in translate.deployment(REVIEWS, replace(raw, endpoint=off)).settings


def test_every_answer_of_the_cloud_is_one_that_its_client_gives() -> None:
    """What these tests say that Vertex AI answers is a message of Google's own."""
    raw = There(ONE, [(ONE, 60), (TWO, 40)], available=3).raw
    assert raw.endpoint

    assert read(aiplatform_v1.Endpoint(raw.endpoint)) == raw.endpoint
    for each in raw.models.values():
        assert read(aiplatform_v1.Model(each)) == each


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ({}, "us-central1-aiplatform.googleapis.com"),
        ({"dedicated_endpoint_dns": "reviews.prediction.vertexai.goog"}, "reviews.prediction.vertexai.goog"),
    ],
    ids=["shared", "dedicated"],
)
def test_the_address_is_where_requests_are_answered(endpoint: dict[str, Any], host: str) -> None:
    """A dedicated endpoint answers nowhere but under its own name."""
    found = translate.deployment(ONE.identity, Raw(endpoint))

    assert found.address == f"https://{host}/v1/projects/acme-ml/locations/us-central1/endpoints/reviews"
