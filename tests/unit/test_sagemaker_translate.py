"""Steps on SageMaker from what is there to what is asked, and what its answers amount to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlscale.deployment import (
    WHOLE,
    Auxiliary,
    AuxiliaryKind,
    Content,
    Deployment,
    Health,
    Identity,
    Kind,
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
from mlscale.plan.steps import Step
from mlscale.providers.sagemaker import requests, scaling, translate, watching
from mlscale.providers.sagemaker.payloads import (
    AwaitEndpoint,
    AwaitGone,
    Configure,
    MakeConfig,
    Release,
    RemoveEndpoint,
    UpdateEndpoint,
    Upload,
    Watch,
)
from mlscale.providers.sagemaker.translate import Raw
from mlscale.quantities import size_text
from tests.builders import NOON
from tests.unit import test_sagemaker_requests as asking
from tests.unit.test_sagemaker_scaling import Cloud, converge, scalings

UPLOADS = asking.UPLOADS
WISH, BLUE_GREEN = RolloutWish(), RolloutWish("blue_green", timedelta(minutes=5))
REGION = "us-east-1"


def asked(env: str | None = None, *overrides: str, **content: Any) -> Deployment:
    """Return what the full spec asks for, its scaling and alarms as they are read back."""
    found = asking.asked(env, *overrides, **content)
    return replace(found, scaling=scaling.canonical(found.scaling), auxiliaries=watching.canonical(found.auxiliaries))


@dataclass
class There:
    """SageMaker with `deployment` on it, as its own requests left it; a test changes what it wants otherwise."""

    deployment: Deployment
    status: str = "InService"
    count: int = 4
    weight: float = 1.0
    pending: str | None = None
    reason: str = ""
    autoscaled: bool = True
    watched: bool = True
    slot: str = "a"
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        """The request that made the arrangement."""
        return asking.config(self.deployment, self.count, self.slot)

    @property
    def raw(self) -> Raw:
        """What SageMaker and its neighbors answer."""
        deployment, served = self.deployment, self.deployment.revisions[0].revision
        request = asking.model(deployment)
        tags = {**requests.endpoint_tags(deployment, served.id), **self.tags}
        alarms, dashboard = self._watching()
        cloud = Cloud(count=self.count)
        if self.autoscaled:
            converge(cloud, deployment.kind, deployment.scaling)
        cloud.bounds = tags.get("mlscale:bounds", "")
        return Raw(
            endpoint=self._endpoint(),
            tags=tags,
            config=self.config,
            models={request["ModelName"]: (request, {each["Key"]: each["Value"] for each in request["Tags"]})},
            scaling={self.slot: cloud.seen},
            alarms=alarms,
            dashboard=dashboard,
        )

    @property
    def seen(self) -> Deployment:
        """What is read."""
        return translate.deployment(self.deployment.identity, self.raw)

    def _endpoint(self) -> Mapping[str, Any]:
        variant: dict[str, Any] = {"VariantName": self.slot, "CurrentWeight": self.weight}
        if self.deployment.kind is not Kind.SERVERLESS:
            variant |= {"DesiredInstanceCount": self.count, "CurrentInstanceCount": self.count}
        endpoint = {
            "EndpointName": self.deployment.identity.name,
            "EndpointStatus": self.status,
            "EndpointConfigName": self.config["EndpointConfigName"],
            "ProductionVariants": [variant],
            "FailureReason": self.reason,
        }
        if self.pending:
            endpoint["PendingDeploymentSummary"] = {"EndpointConfigName": self.pending}
        return endpoint

    def _watching(self) -> tuple[Sequence[Mapping[str, Any]], str | None]:
        found = self.deployment
        wanted = found.auxiliaries if self.watched else ()
        puts = watching.calls(found.identity.name, self.slot, found.kind, wanted, (), None, {}, REGION)
        alarms = [each.request for each in puts if each.operation == "put_metric_alarm"]
        boards = [str(each.request["DashboardBody"]) for each in puts if each.operation == "put_dashboard"]
        return alarms, boards[0] if boards else None


def steps(wanted: Deployment | None, seen: Deployment | None, rollout: RolloutWish = WISH) -> tuple[Step[object], ...]:
    """Return the steps in an order that works: a plan refuses others."""
    return make.plan(wanted, seen, translate.steps(wanted, seen, rollout, UPLOADS), now=NOON).steps


def keys(wanted: Deployment, seen: Deployment | None) -> list[str]:
    """Return the keys of the steps, in the order in which the provider gives them; `new` is for the revision's id."""
    found = translate.steps(wanted, seen, WISH, UPLOADS)
    return [each.key.replace(wanted.revisions[0].revision.id, "new") for each in found]


def step(found: Sequence[Step[object]], key: str) -> Step[object]:
    """Return the step of that key."""
    (one,) = [each for each in found if each.key.endswith(key)]
    return one


ONE, TWO = asked(), asked(handler="e" * 16)
BIGGER = asked("bigger")
FIXED = asked(
    None, *(f"endpoint.autoscaling.{key}=[]" for key in ("target", "steps", "schedule")), "endpoint.replicas=4"
)
NEW = ["new/upload", "new/model", "new/config"]
MADE = [*NEW, "endpoint/create", "endpoint/wait", "endpoint/configure", "endpoint/watch"]
MOVED = [*NEW, "endpoint/update", "endpoint/wait", "endpoint/configure"]
LEFT = Deployment(ONE.identity, phase=Phase.FAILED, scaling=Scaling(0, 0), facts={"left": "yes"})

BUSY_ELSEWHERE = There(ONE, status="Updating", pending="reviews-elsewhere")
STATES: dict[str, tuple[Deployment, Deployment | None, Sequence[str]]] = {
    "nothing is there": (ONE, None, MADE),
    "nothing is there, and nothing scales": (FIXED, None, [*NEW, "endpoint/create", "endpoint/wait", "endpoint/watch"]),
    "something is left": (ONE, LEFT, MADE),
    "it serves": (ONE, There(ONE).seen, []),
    "another revision serves": (TWO, There(ONE).seen, MOVED),
    "other settings": (asked(None, "sagemaker.volume_size=60Gi"), There(ONE).seen, MOVED),
    "it is being made": (
        ONE,
        There(ONE, status="Creating", autoscaled=False, watched=False).seen,
        ["endpoint/settle", "endpoint/configure", "endpoint/watch"],
    ),
    "another one is being made": (
        TWO,
        There(ONE, status="Creating", autoscaled=False).seen,
        ["endpoint/settle", *MOVED],
    ),
    "counts are being changed": (ONE, There(ONE, status="Updating").seen, []),
    "counts are being changed, for another one": (TWO, There(ONE, status="Updating").seen, ["endpoint/settle", *MOVED]),
    "AWS works on it": (ONE, There(ONE, status="SystemUpdating").seen, []),
    "the asked one is on its way": (
        TWO,
        There(ONE, status="Updating", pending="reviews-0123456789").seen,
        ["endpoint/settle", *MOVED],
    ),
    "it is being left": (
        ONE,
        BUSY_ELSEWHERE.seen,
        ["endpoint/settle", "endpoint/update", "endpoint/wait", "endpoint/configure"],
    ),
    "it comes back": (
        ONE,
        There(ONE, status="RollingBack", pending="reviews-elsewhere").seen,
        ["endpoint/settle", "endpoint/update", "endpoint/wait", "endpoint/configure"],
    ),
    "it comes back, and nobody says from where": (ONE, There(ONE, status="RollingBack").seen, ["endpoint/settle"]),
    "it came back to neither": (ONE, There(ONE, status="UpdateRollbackFailed").seen, MOVED),
    "it could not be made": (
        ONE,
        There(ONE, status="Failed").seen,
        [*NEW, "endpoint/clear", "endpoint/cleared", *MADE[3:]],
    ),
    "it went out of service": (
        ONE,
        There(ONE, status="OutOfService").seen,
        [*NEW, "endpoint/clear", "endpoint/cleared", *MADE[3:]],
    ),
    "it is being deleted": (ONE, There(ONE, status="Deleting").seen, [*NEW, "endpoint/cleared", *MADE[3:]]),
    "a run was cut off before its mark": (
        TWO,
        There(TWO, tags={"mlscale:revision": "0" * 10}).seen,
        ["endpoint/configure"],
    ),
    "scaling is gone": (ONE, There(ONE, autoscaled=False).seen, ["endpoint/configure"]),
    "alarms are gone": (ONE, There(ONE, watched=False).seen, ["endpoint/watch"]),
}


@pytest.mark.parametrize("case", STATES)
def test_each_state_has_its_steps(case: str) -> None:
    """From whatever is there the steps lead to what is asked; where that serves, there is none."""
    wanted, seen, expected = STATES[case]

    assert keys(wanted, seen) == expected
    assert steps(wanted, seen) or not expected


@pytest.mark.parametrize("wanted", [ONE, FIXED, asked("serverless"), asked("async")], ids=lambda each: each.kind)
@pytest.mark.parametrize("seen", [None, There(TWO).seen], ids=["nothing is there", "another one serves"])
def test_a_plan_tells_each_field_that_changes(wanted: Deployment, seen: Deployment | None) -> None:
    """No difference is carried out without a word, and none is told twice."""
    told = [change for step in steps(wanted, seen) for change in step.changes]

    assert sorted(told, key=str) == sorted(changes(wanted, seen), key=str)


def test_each_step_waits_for_what_it_needs() -> None:
    """Nothing is made of what is not there yet, and alarms and autoscaling come when there is something to watch."""
    revision = ONE.revisions[0].revision.id

    assert {each.key: each.after for each in steps(ONE, None)} == {
        f"{revision}/upload": (),
        f"{revision}/model": (f"{revision}/upload",),
        f"{revision}/config": (f"{revision}/model",),
        "endpoint/create": (f"{revision}/config",),
        "endpoint/wait": ("endpoint/create",),
        "endpoint/configure": ("endpoint/wait",),
        "endpoint/watch": ("endpoint/wait",),
    }
    failed = {each.key: each.after for each in steps(ONE, There(ONE, status="Failed").seen)}
    assert failed["endpoint/cleared"] == ("endpoint/clear",)
    assert failed["endpoint/create"] == (f"{revision}/config", "endpoint/cleared")


def test_what_goes_on_is_waited_for_before_anything_changes() -> None:
    """SageMaker refuses changes meanwhile. How an update ends that was not asked for is no matter, a creation's is."""
    busy = steps(TWO, BUSY_ELSEWHERE.seen)
    creating = There(ONE, status="Creating", autoscaled=False)
    left = steps(ONE, BUSY_ELSEWHERE.seen)

    assert step(busy, "/settle").payload == AwaitEndpoint("reviews", None)
    assert "endpoint/settle" in step(busy, "/update").after
    assert step(left, "/settle").payload == AwaitEndpoint("reviews", None)
    assert "endpoint/settle" in step(left, "/update").after
    made = creating.config["EndpointConfigName"]
    assert step(steps(TWO, creating.seen), "/settle").payload == AwaitEndpoint("reviews", made)


def test_the_way_back_is_the_arrangement_that_serves() -> None:
    """No new arrangement is made for what is there: its own name, and everything that moves by itself, stay."""
    found = steps(ONE, BUSY_ELSEWHERE.seen)
    config = BUSY_ELSEWHERE.config["EndpointConfigName"]

    assert step(found, "/update").payload == UpdateEndpoint("reviews", requests.update(ONE, config, WISH))
    assert step(found, "/wait").payload == AwaitEndpoint("reviews", config)


def test_a_revision_without_files_uploads_nothing() -> None:
    """An image that brings its model needs no archive, and its Model waits for none."""
    found = steps(asked(artifact="", image=asking.OWN_IMAGE), None)

    assert not [each for each in found if isinstance(each.payload, Upload)]
    assert step(found, "/model").after == ()


def test_an_upload_knows_where_its_files_are() -> None:
    """Each part of the archive is found on this machine by its digest; what is not here is None."""
    sources = {"a" * 16: "/here/model", "b" * 16: "/here/inference.py"}

    upload = step(steps(replace(ONE, sources=sources), None), "/upload").payload

    assert isinstance(upload, Upload)
    assert (upload.model, upload.handler, upload.requirements) == ("/here/model", "/here/inference.py", None)


def test_autoscaling_is_off_while_the_machines_change() -> None:
    """SageMaker refuses the change otherwise. It goes last before the update, and comes back after it."""
    found = steps(BIGGER, There(ONE).seen)
    revision = BIGGER.revisions[0].revision.id

    assert step(found, "/release").payload == Release("reviews", "a")
    assert step(found, "/release").after == (f"{revision}/config",)
    assert step(found, "/update").after == ("endpoint/release",)
    assert step(found, "/configure").after == ("endpoint/wait",)
    configure = step(found, "/configure").payload
    assert isinstance(configure, Configure)
    assert configure.scaling == BIGGER.scaling


@pytest.mark.parametrize(
    ("wanted", "seen"),
    [
        (TWO, There(ONE).seen),
        (BIGGER, There(ONE, autoscaled=False).seen),
        (replace(FIXED, revisions=BIGGER.revisions), There(FIXED).seen),
    ],
    ids=["the same machines", "a target that is gone", "a fixed count"],
)
def test_autoscaling_stays_where_nothing_asks_for_less(wanted: Deployment, seen: Deployment) -> None:
    """It is taken off for no other reason than a change of machines under it."""
    found = steps(wanted, seen)

    assert not [each for each in found if isinstance(each.payload, Release)]
    assert [each for each in found if isinstance(each.payload, UpdateEndpoint)]


def test_a_variant_that_goes_is_released_too() -> None:
    """SageMaker refuses to take one away that has autoscaling; the one that stays keeps its own."""
    there = There(ONE)
    (variant,) = there.config["ProductionVariants"]
    both = {**there.config, "ProductionVariants": [variant, {**variant, "VariantName": "b"}]}
    raw = replace(there.raw, config=both)
    seen = translate.deployment(ONE.identity, replace(raw, scaling={**raw.scaling, "b": raw.scaling["a"]}))

    assert [each.role for each in seen.revisions] == [Role.STABLE, Role.CANDIDATE]
    assert [each for each in keys(ONE, seen) if each.endswith("release")] == ["b/release"]


def test_an_update_starts_with_the_instances_that_there_are() -> None:
    """The count that autoscaling has come to is the new arrangement's, as far as its bounds allow."""
    for count, sent in ((7, 7), (1, 2), (99, 12)):
        config = step(steps(TWO, There(ONE, count=count).seen), "/config").payload
        assert isinstance(config, MakeConfig)
        assert config.request["ProductionVariants"][0]["InitialInstanceCount"] == sent


def test_a_blue_green_update_finds_its_alarms() -> None:
    """Alarms that can stop the update are there before it begins, and it is waited for as long as it bakes."""
    found = steps(TWO, There(ONE, watched=False).seen, BLUE_GREEN)

    assert "endpoint/watch" in step(found, "/update").after
    assert step(found, "/wait").expected == translate.UPDATING + timedelta(minutes=5)
    update = step(found, "/update").payload
    assert isinstance(update, UpdateEndpoint)
    assert "DeploymentConfig" in update.request


def test_somebody_elses_name_of_the_variant_stays() -> None:
    """An endpoint that was taken over keeps it: its metrics, scaling and alarms are by that name."""
    found = steps(BIGGER, There(ONE, watched=False, slot="AllTraffic").seen)

    config, configure, watch, release = (
        step(found, each).payload for each in ("/config", "/configure", "/watch", "/release")
    )
    assert isinstance(config, MakeConfig)
    assert config.request["ProductionVariants"][0]["VariantName"] == "AllTraffic"
    assert isinstance(configure, Configure)
    assert isinstance(watch, Watch)
    assert (configure.slot, watch.slot) == ("AllTraffic", "AllTraffic")
    assert release == Release("reviews", "AllTraffic")


def test_taking_down_ends_what_bills_first_and_leaves_a_trace_to_the_end() -> None:
    """Archives go before Models and arrangements, by which a run that was cut off is found."""
    found = steps(None, There(ONE).seen)

    assert [(each.key, each.after) for each in translate.steps(None, There(ONE).seen, WISH, UPLOADS)] == [
        ("endpoint/unwatch", ()),
        ("endpoint/release", ()),
        ("endpoint/delete", ("endpoint/unwatch", "endpoint/release")),
        ("endpoint/gone", ("endpoint/delete",)),
        ("files/delete", ("endpoint/gone",)),
        ("models/delete", ("files/delete",)),
    ]
    assert [each.key for each in found if each.destroys] == ["endpoint/delete", "files/delete", "models/delete"]
    assert step(found, "endpoint/delete").interrupts
    assert step(found, "endpoint/delete").payload == RemoveEndpoint("reviews")
    assert step(found, "endpoint/gone").payload == AwaitGone("reviews")


@pytest.mark.parametrize(
    ("seen", "expected", "interrupts"),
    [
        (
            LEFT,
            ["endpoint/unwatch", "endpoint/release", "b/release", "c/release", "files/delete", "models/delete"],
            False,
        ),
        (
            There(ONE, status="Updating").seen,
            ["endpoint/settle", "endpoint/unwatch", "endpoint/release", "endpoint/delete", "endpoint/gone",
             "files/delete", "models/delete"],
            True,
        ),
        (
            There(ONE, status="Deleting").seen,
            ["endpoint/unwatch", "endpoint/release", "endpoint/delete", "endpoint/gone", "files/delete",
             "models/delete"],
            False,
        ),
        (
            There(ONE, status="Failed").seen,
            ["endpoint/unwatch", "endpoint/release", "endpoint/delete", "endpoint/gone", "files/delete",
             "models/delete"],
            False,
        ),
    ],
    ids=["what is left", "updating", "deleting", "failed"],
)  # fmt: skip
def test_taking_down_from_any_state(seen: Deployment, expected: list[str], interrupts: bool) -> None:  # noqa: FBT001
    """What goes on is waited for, since SageMaker deletes nothing meanwhile; only what answers is interrupted."""
    found = translate.steps(None, seen, WISH, UPLOADS)

    assert [each.key for each in found] == expected
    assert any(each.interrupts for each in found) is interrupts


def test_nothing_is_taken_down_where_nothing_is() -> None:
    """No step for what was never there."""
    assert translate.steps(None, None, WISH, UPLOADS) == ()


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ([], ()),
        ([1.0], (10_000,)),
        ([0.0], (10_000,)),
        ([0.0, 0.0], (10_000, 0)),
        ([0.10000000149, 0.89999997615], (1000, 9000)),
        ([0.3333333432674408, 0.6666666865348816], (3333, 6667)),
        ([1.0, 1.0, 1.0], (3334, 3333, 3333)),
        ([1.0, 0.0], (10_000, 0)),
        ([3.0, 1.0], (7500, 2500)),
    ],
    ids=str,
)
def test_weights_are_shares_of_the_whole(weights: list[float], shares: tuple[int, ...]) -> None:
    """SageMaker's are 32-bit floats of any sum, ours basis points; what is lost by rounding goes to the largest."""
    assert translate.shares_of(weights) == shares


@given(st.lists(st.floats(0, 1000, width=32), min_size=1, max_size=10))
def test_shares_are_always_the_whole(weights: list[float]) -> None:
    """No basis point is lost or gained, and none is negative."""
    shares = translate.shares_of(weights)

    assert sum(shares) == WHOLE
    assert min(shares) >= 0


hexes = st.text("0123456789abcdef", min_size=16, max_size=16)
words = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,8}", fullmatch=True).filter(
    lambda each: not each.startswith("SAGEMAKER_")
)
machines = st.lists(
    st.sampled_from(("ml.m5.large", "ml.c6i.xlarge", "ml.c5.xlarge", "ml.g5.xlarge")), min_size=1, unique=True
).map(tuple)


@st.composite
def contents(draw: st.DrawFn, kind: Kind) -> Content:
    """Contents that SageMaker can hold."""
    image = draw(st.sampled_from((asking.IMAGE, asking.OWN_IMAGE)))
    own = image == asking.OWN_IMAGE
    return Content(
        artifact=draw(st.just("") | hexes) if own else draw(hexes),
        framework=draw(st.sampled_from(("sklearn", "onnx", "lightgbm", "pytorch", "custom"))),
        framework_version=draw(st.none() | st.just("1.4")),
        handler=None if own else draw(st.none() | hexes),
        requirements=None if own else draw(st.none() | hexes),
        image=image,
        runtime=None if own else draw(st.none() | hexes),
        environment=draw(st.dictionaries(words, st.text("abc =/", max_size=5), max_size=3)),
        machine=() if kind is Kind.SERVERLESS else draw(machines),
        health=Health(startup_timeout=timedelta(seconds=draw(st.integers(60, 3600)))),
    )


@st.composite
def settings_of(draw: st.DrawFn, kind: Kind) -> dict[str, str]:
    """Settings in the words of `spec.resolve`."""
    found: dict[str, str] = {"role": "arn:aws:iam::123456789012:role/serving"}
    either = st.booleans()
    if draw(either):
        found |= {"subnets": "subnet-a subnet-b", "security_groups": "sg-a"}
    if draw(either):
        found["network_isolation"] = "true"
    if kind is not Kind.SERVERLESS and draw(either):
        found |= {"kms_key": "alias/ours", "volume_size": size_text(draw(st.integers(1, 2000)) * 2**30)}
    if kind is Kind.REALTIME and draw(either):
        found["data_capture"] = f"{draw(st.integers(1, 100))}% to s3://acme-ml/captured"
    if kind is Kind.SERVERLESS:
        memory = size_text(draw(st.sampled_from((1024, 2048, 3072, 4096, 5120, 6144))) * 2**20)
        found |= {"serverless.memory": memory, "serverless.concurrency": str(draw(st.integers(1, 200)))}
        if draw(either):
            found["serverless.provisioned"] = "1"
    if kind is Kind.ASYNC:
        found["async_inference.output"] = "s3://acme-ml/answers"
        more = {
            "failures": "s3://acme-ml/failures",
            "concurrency": "4",
            "notify_success": "arn:aws:sns:us-east-1:123456789012:answers",
            "notify_error": "arn:aws:sns:us-east-1:123456789012:failures",
        }
        found |= {f"async_inference.{key}": more[key] for key in draw(st.sets(st.sampled_from(sorted(more))))}
    return found


@st.composite
def deployments(draw: st.DrawFn, kind: Kind) -> Deployment:
    """What a spec may ask of SageMaker, its image chosen."""
    alarms = [Auxiliary(AuxiliaryKind.ALARM, "error_rate", {"above": "1%"}), *watching.canonical(ONE.auxiliaries)]
    return Deployment(
        identity=Identity("sagemaker", "reviews", "123456789012", REGION),
        kind=kind,
        revisions=(ServedRevision(revision_of(draw(contents(kind))), Role.STABLE, WHOLE),),
        scaling=scaling.canonical(draw(scalings(kind))),
        labels=draw(st.dictionaries(words, st.text("abc. 7", max_size=5), max_size=3)),
        settings=draw(settings_of(kind)),
        auxiliaries=watching.canonical(draw(st.lists(st.sampled_from(alarms), unique_by=lambda each: each.key))),
        spec_hash="0123456789abcdef",
    )


thorough = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])


@thorough
@given(st.sampled_from(Kind).flatmap(deployments), st.floats(0.015625, 1, width=32))
def test_whatever_is_asked_is_what_is_read_back(deployment: Deployment, weight: float) -> None:
    """From the requests alone the same content, settings and scaling are read, whatever the weight has become."""
    count = max(deployment.scaling.min, 1)
    seen = There(deployment, count=count if deployment.scaling.max else 0, weight=weight).seen

    assert make.difference(deployment, seen) == ()
    assert seen.revisions[0].revision == deployment.revisions[0].revision
    assert translate.steps(deployment, seen, WISH, UPLOADS) == ()


@thorough
@given(st.sampled_from(Kind).flatmap(lambda kind: st.tuples(deployments(kind), deployments(kind))))
def test_a_change_of_anything_has_a_step_and_no_change_has_none(both: tuple[Deployment, Deployment]) -> None:
    """A field that differs is in the steps' changes; a plan that shows a difference does something about it."""
    one, other = both
    seen = There(one, count=max(one.scaling.min, 1)).seen

    planned = translate.steps(other, seen, WISH, UPLOADS)

    assert bool(planned) == bool(changes(other, seen))
    shown = {each.path for found in planned for each in found.changes}
    assert {each.path for each in changes(other, seen)} <= shown


PHASES: dict[str, tuple[There, Phase, str, str | None]] = {
    "InService": (There(ONE), Phase.STEADY, "", None),
    "an update failed before": (There(ONE, reason="no capacity"), Phase.STEADY, "no capacity", None),
    "Creating": (
        There(ONE, status="Creating"),
        Phase.CHANGING,
        "the endpoint is Creating",
        There(ONE).config["EndpointConfigName"],
    ),
    "Updating counts": (There(ONE, status="Updating"), Phase.STEADY, "", None),
    "SystemUpdating": (There(ONE, status="SystemUpdating"), Phase.STEADY, "", None),
    "Updating": (There(ONE, status="Updating", pending="c"), Phase.CHANGING, "the endpoint is Updating", "c"),
    "RollingBack": (There(ONE, status="RollingBack", reason="ping"), Phase.CHANGING, "ping", None),
    "Deleting": (There(ONE, status="Deleting"), Phase.CHANGING, "the endpoint is Deleting", None),
    "Failed": (There(ONE, status="Failed", reason="ping"), Phase.FAILED, "ping", None),
    "OutOfService": (There(ONE, status="OutOfService"), Phase.FAILED, "the endpoint is OutOfService", None),
    "UpdateRollbackFailed": (There(ONE, status="UpdateRollbackFailed", reason="x"), Phase.FAILED, "x", None),
}


@pytest.mark.parametrize("case", PHASES)
def test_a_status_is_a_phase_with_its_reason(case: str) -> None:
    """What changes what was asked for is changing; what only moves counts, and AWS's own upkeep, is not."""
    there, phase, reason, pending = PHASES[case]

    seen = there.seen

    assert (seen.phase, seen.reason, seen.pending) == (phase, reason, pending)


def test_an_arrangement_that_was_deleted_is_a_failure() -> None:
    """Nothing can be read of what serves, and SageMaker could not start another instance of it."""
    seen = translate.deployment(ONE.identity, replace(There(ONE).raw, config=None, models={}))

    assert (seen.phase, seen.revisions) == (Phase.FAILED, ())
    assert "was deleted while it is in use" in seen.reason
    assert "endpoint/update" in keys(ONE, seen)


def test_what_is_left_without_an_endpoint_is_named() -> None:
    """A failed deployment of no revision, which a deploy and a destroy both start from."""
    seen = translate.deployment(ONE.identity, Raw(None, left=("model reviews-1", "alarm x")))

    assert seen.revisions == ()
    assert seen.facts == {"left": "yes"}
    assert seen.reason == "the endpoint is gone, and this is left of it: model reviews-1, alarm x"


def test_the_stable_revision_is_the_marked_one() -> None:
    """Of two variants the endpoint's tag says which; without it the one with more traffic is."""
    raw = There(ONE).raw
    assert raw.config
    other = asking.model(TWO)
    models = {**raw.models, other["ModelName"]: (other, {each["Key"]: each["Value"] for each in other["Tags"]})}
    (variant,) = raw.config["ProductionVariants"]
    variants = [variant, {**variant, "VariantName": "b", "ModelName": other["ModelName"]}]
    live = [{"VariantName": "a", "CurrentWeight": 0.1}, {"VariantName": "b", "CurrentWeight": 0.9}]
    both = replace(
        raw,
        config={**raw.config, "ProductionVariants": variants},
        endpoint={**(raw.endpoint or {}), "ProductionVariants": live},
        models=models,
    )

    marked = translate.deployment(ONE.identity, both)
    unmarked = translate.deployment(ONE.identity, replace(both, tags={}))

    assert [(each.metric_dimension, each.role, each.share) for each in marked.revisions] == [
        ("a", Role.STABLE, 1000),
        ("b", Role.CANDIDATE, 9000),
    ]
    assert [each.role for each in unmarked.revisions] == [Role.CANDIDATE, Role.STABLE]


def test_labels_are_ours_only_if_the_endpoint_says_so() -> None:
    """Tags that an account puts on everything are no labels."""
    theirs = There(ONE, tags={"cost-center": "7"})

    assert theirs.seen.labels == {"team": "search", "project": "reviews 2"}


def test_an_endpoint_that_somebody_made_is_an_image_with_a_model_of_its_place() -> None:
    """What its tags do not tell is told by its place, so that another place is another revision."""
    bare = {"Image": "i", "ModelDataUrl": "s3://theirs/model.tar.gz"}
    variant = {"VariantName": "AllTraffic", "InstanceType": "ml.m5.large"}

    one = translate.content_of({"PrimaryContainer": bare}, {}, variant, Kind.REALTIME)
    two = translate.content_of({"Containers": [{**bare, "ModelDataUrl": "s3://theirs/2"}]}, {}, variant, Kind.REALTIME)

    assert one == Content(artifact=one.artifact, framework="custom", image="i", machine=("ml.m5.large",))
    assert one.artifact
    assert one.artifact != two.artifact


def test_counts_are_told_apart_from_what_is_asked() -> None:
    """How many instances there are is no difference; a serverless variant has none."""
    assert There(ONE, count=7).seen.revisions[0].live == Live(7, 7)
    assert There(asked("serverless")).seen.revisions[0].live is None


def test_who_waits_is_told_how_far_it_is() -> None:
    """The state, the instances that there are of those that there shall be, and why it rolls back."""
    variant = {"DesiredInstanceCount": 4, "CurrentInstanceCount": 1, "VariantStatus": [{"Status": "Creating"}]}
    pending = {"PendingDeploymentSummary": {"ProductionVariants": [variant]}}

    assert translate.progress_text({"EndpointStatus": "Updating", **pending}) == "Updating: Creating, 1 of 4 instances"
    assert translate.progress_text({"EndpointStatus": "RollingBack", "FailureReason": "ping"}) == "RollingBack: ping"
    assert translate.progress_text({"EndpointStatus": "Creating", "ProductionVariants": [{}]}) == "Creating"
    assert translate.progress_text({"EndpointStatus": "Creating", "ProductionVariants": [variant]}) == (
        "Creating: 1 of 4 instances"
    )


def test_an_update_is_not_told_with_the_reason_of_the_one_before() -> None:
    """SageMaker keeps the reason of the last failure until another change has ended."""
    assert translate.progress_text({"EndpointStatus": "Updating", "FailureReason": "ping"}) == "Updating"
