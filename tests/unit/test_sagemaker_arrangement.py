"""Two revisions on one SageMaker endpoint: the variants for them, the steps there, and what is read back."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlscale.deployment import WHOLE, Deployment, Role, Scaling, ServedRevision
from mlscale.plan import make
from mlscale.plan.steps import Step
from mlscale.providers.sagemaker import arrangement, requests, translate
from mlscale.providers.sagemaker.payloads import MakeConfig, Release, Scale, Shift, UpdateEndpoint
from mlscale.providers.sagemaker.scaling import SeenScaling
from mlscale.providers.sagemaker.translate import Raw
from tests.builders import NOON
from tests.unit import test_sagemaker_requests as asking
from tests.unit.test_sagemaker_scaling import Cloud, converge
from tests.unit.test_sagemaker_translate import BIGGER, FIXED, ONE, TWO, UPLOADS, WISH, There, asked

THREE = asked(handler="f" * 16)
IDS = {each.revisions[0].revision.id: name for each, name in ((ONE, "one"), (TWO, "two"), (THREE, "three"))}


def beside(first: Deployment, second: Deployment, share: int, role: Role = Role.CANDIDATE) -> Deployment:
    """Return what is asked while `second` is tried beside `first`."""
    rest = WHOLE if role is Role.SHADOW else WHOLE - share
    tried = ServedRevision(second.revisions[0].revision, role, share)
    return replace(first, revisions=(replace(first.revisions[0], share=rest), tried))


@dataclass
class Both:
    """SageMaker with the revisions of `deployment` on it, as our own requests left them."""

    deployment: Deployment
    counts: Sequence[int] = (4, 2)
    status: str = "InService"
    coming: Mapping[str, Any] | None = None
    settled: bool = True
    autoscaled: bool = True

    @property
    def config(self) -> Mapping[str, Any]:
        """The request that made the arrangement."""
        alone = replace(self.deployment, revisions=(replace(self.deployment.revisions[0], share=WHOLE),))
        made = translate.steps(self.deployment, There(alone, count=4).seen, WISH, UPLOADS)
        (config,) = [each.payload for each in made if isinstance(each.payload, MakeConfig)]
        return config.request

    @property
    def raw(self) -> Raw:
        """What SageMaker and its neighbors answer."""
        stable, tried = self.deployment.revisions
        answering = self.config["ProductionVariants"]
        shadows = self.config.get("ShadowProductionVariants", [])
        tags = requests.endpoint_tags(self.deployment, stable.revision.id)
        if not self.settled:
            del tags["mlscale:candidate"]
        alone = There(replace(self.deployment, revisions=(replace(stable, share=WHOLE),)))
        models = {
            **alone.raw.models,
            **There(replace(self.deployment, revisions=(replace(tried, share=WHOLE),))).raw.models,
        }
        shown = [
            {
                "VariantName": variant["VariantName"],
                "CurrentWeight": struct.unpack("f", struct.pack("f", each.share / WHOLE))[0],
                "DesiredInstanceCount": count,
                "CurrentInstanceCount": count,
            }
            for variant, each, count in zip([*answering, *shadows], (stable, tried), self.counts, strict=True)
        ]
        endpoint: dict[str, Any] = {
            "EndpointStatus": self.status,
            "EndpointConfigName": self.config["EndpointConfigName"],
            "ProductionVariants": shown[: len(answering)],
            "ShadowProductionVariants": shown[len(answering) :],
        }
        if self.coming:
            endpoint["PendingDeploymentSummary"] = {"EndpointConfigName": self.coming["EndpointConfigName"]}
        scaling = {"a": alone.raw.scaling["a"]}
        if self.autoscaled and tried.role is Role.CANDIDATE:
            scaling["b"] = self._candidates(self.deployment.scaling)
        return replace(
            alone.raw,
            endpoint=endpoint,
            config=self.config,
            models=models,
            tags=tags,
            scaling=scaling,
            coming=self.coming,
        )

    def _candidates(self, scaling: Scaling) -> SeenScaling:
        cloud = Cloud(count=self.counts[1])
        converge(cloud, self.deployment.kind, arrangement.candidates_scaling(scaling, self.counts[1]))
        return cloud.seen

    @property
    def seen(self) -> Deployment:
        """What is read."""
        return translate.deployment(self.deployment.identity, self.raw)


def planned(wanted: Deployment, seen: Deployment) -> list[Step[object]]:
    """Return the steps in an order that works: a plan refuses others."""
    return list(make.plan(wanted, seen, translate.steps(wanted, seen, WISH, UPLOADS), now=NOON).steps)


def keys(wanted: Deployment, seen: Deployment) -> list[str]:
    """Return the keys of the steps; a revision is told by its name here."""
    found = [each.key for each in planned(wanted, seen)]
    return ["/".join(IDS.get(part, part) for part in key.split("/")) for key in found]


def payload(found: Sequence[Step[object]], key: str) -> Any:
    """Return the payload of the step of that key."""
    (one,) = [each.payload for each in found if each.key.endswith(key)]
    return one


TENTH = beside(ONE, TWO, 1000)
PARTED = ["traffic/part"]
MOVED = ["endpoint/update", "endpoint/wait", "endpoint/configure"]
STATES: dict[str, tuple[Deployment, Deployment, Sequence[str]]] = {
    "it is as asked": (TENTH, Both(TENTH).seen, []),
    "counts have moved": (TENTH, Both(TENTH, counts=(9, 7)).seen, []),
    "counts are being changed": (TENTH, Both(TENTH, status="Updating").seen, []),
    "the share grows": (
        beside(ONE, TWO, 7000),
        Both(TENTH).seen,
        ["b/scale", "traffic/shift", "endpoint/configure"],
    ),
    "the share falls": (beside(ONE, TWO, 10), Both(TENTH).seen, ["traffic/shift", "b/scale", "endpoint/configure"]),
    "the share grows, for as many instances": (
        beside(ONE, TWO, 3000),
        Both(beside(ONE, TWO, 2900)).seen,
        ["traffic/shift", "endpoint/configure"],
    ),
    "a run was cut off before its mark": (
        TENTH,
        Both(TENTH, counts=(4, 1), settled=False).seen,
        ["endpoint/configure"],
    ),
    "a run was cut off before its mark, with more than it needs": (
        TENTH,
        Both(TENTH, counts=(4, 3), settled=False).seen,
        ["endpoint/configure"],
    ),
    "the candidate's autoscaling is gone": (TENTH, Both(TENTH, autoscaled=False).seen, ["b/scale"]),
    "only the stable one is there": (
        TENTH,
        There(ONE).seen,
        ["two/upload", "two/model", "one/config", "endpoint/update", "endpoint/wait", "b/scale", "traffic/shift",
         "endpoint/configure"],
    ),
    "a share of nothing": (
        beside(ONE, TWO, 0),
        There(ONE).seen,
        ["two/upload", "two/model", "one/config", "endpoint/update", "endpoint/wait", "b/scale", "endpoint/configure"],
    ),
    "it is promoted": (
        TWO,
        Both(TENTH).seen,
        ["b/scale", "two/config", *PARTED, "endpoint/watch", "endpoint/release", *MOVED],
    ),
    "its traffic was there already": (
        TWO,
        Both(beside(ONE, TWO, WHOLE), counts=(4, 4)).seen,
        ["two/config", "endpoint/watch", "endpoint/release", *MOVED],
    ),
    "it is given up": (ONE, Both(TENTH).seen, [*PARTED, "one/config", "b/release", *MOVED]),
    "its traffic was away already": (ONE, Both(beside(ONE, TWO, 0)).seen, ["one/config", "b/release", *MOVED]),
    "another one takes its place": (
        beside(ONE, THREE, 1000),
        Both(TENTH).seen,
        [*PARTED, "three/upload", "one/config", "three/model", "b/release", "endpoint/update", "endpoint/wait",
         "c/scale", "traffic/shift", "endpoint/configure"],
    ),
    "a shadow is wanted": (
        beside(ONE, TWO, WHOLE, Role.SHADOW),
        There(ONE).seen,
        ["two/upload", "two/model", "one/config", *MOVED],
    ),
    "the shadow is there": (
        beside(ONE, TWO, WHOLE, Role.SHADOW),
        Both(beside(ONE, TWO, WHOLE, Role.SHADOW), counts=(4, 4)).seen,
        [],
    ),
    "the shadow shall get less": (
        beside(ONE, TWO, 5000, Role.SHADOW),
        Both(beside(ONE, TWO, WHOLE, Role.SHADOW), counts=(4, 4)).seen,
        ["traffic/shift", "b/scale", "endpoint/configure"],
    ),
    "the shadow is given up": (
        ONE,
        Both(beside(ONE, TWO, WHOLE, Role.SHADOW), counts=(4, 4)).seen,
        ["one/config", *MOVED],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", STATES)
def test_each_state_has_its_steps(case: str) -> None:
    """From whatever is there the steps lead to what is asked; where that is there, there is none."""
    wanted, seen, expected = STATES[case]

    assert sorted(keys(wanted, seen)) == sorted(expected)


def test_capacity_comes_before_the_traffic_and_goes_after_it() -> None:
    """Neither is ever short of instances for what it gets."""
    grows, falls = (planned(beside(ONE, TWO, share), Both(TENTH).seen) for share in (7000, 10))
    promoted = {each.key: each.after for each in planned(TWO, Both(TENTH).seen)}

    assert {each.key: each.after for each in grows} == {
        "b/scale": (),
        "traffic/shift": ("b/scale",),
        "endpoint/configure": ("traffic/shift",),
    }
    assert {each.key: each.after for each in falls} == {
        "traffic/shift": (),
        "b/scale": ("traffic/shift",),
        "endpoint/configure": ("b/scale",),
    }
    assert promoted["traffic/part"] == ("b/scale",)
    assert "traffic/part" in promoted["endpoint/release"]
    assert promoted["endpoint/update"] == ("endpoint/release",)


def test_a_candidate_starts_without_traffic_and_the_stable_one_stays_as_it_is() -> None:
    """Its variant is untouched; weights are the new arrangement's until the shift, counts are those of now."""
    seen = There(ONE, count=7).seen
    found = planned(TENTH, seen)

    config, update = payload(found, "/config").request, payload(found, "/update").request
    (before,) = arrangement.variants_in(seen).values()
    stable, tried = config["ProductionVariants"]
    assert stable == before
    assert (tried["VariantName"], tried["InitialVariantWeight"], tried["InitialInstanceCount"]) == ("b", 0.0, 1)
    assert update["ExcludeRetainedVariantProperties"] == [
        {"VariantPropertyType": "DataCaptureConfig"},
        {"VariantPropertyType": "DesiredWeight"},
    ]
    assert update["RetainAllVariantProperties"]
    assert payload(found, "traffic/shift") == Shift("reviews", {"a": 9000, "b": 1000})
    wanted = replace(ONE.scaling, min=1, schedule=())
    assert payload(found, "b/scale") == Scale("reviews", ONE.kind, "b", wanted)


def test_a_promoted_candidate_keeps_its_variant() -> None:
    """It is what the arrangement has of it, with all the weight; the settings that follow are on its name."""
    seen = Both(TENTH).seen
    found = planned(TWO, seen)

    (variant,) = payload(found, "/config").request["ProductionVariants"]
    assert variant == {**arrangement.variants_in(seen)["b"], "InitialVariantWeight": 1.0}
    assert payload(found, "traffic/part") == Shift("reviews", {"b": WHOLE, "a": 0})
    assert payload(found, "/release") == Release("reviews", "a")
    assert (payload(found, "/configure").slot, payload(found, "/watch").slot) == ("b", "b")
    assert payload(found, "/configure").scaling == ONE.scaling


def test_another_candidate_has_a_variant_that_none_has() -> None:
    """The metrics of one are never taken for those of the other, and the stable one gets the traffic meanwhile."""
    found = planned(beside(ONE, THREE, 1000), Both(TENTH).seen)

    config = payload(found, "/config").request
    assert [each["VariantName"] for each in config["ProductionVariants"]] == ["a", "c"]
    assert payload(found, "traffic/part") == Shift("reviews", {"a": WHOLE, "b": 0})
    assert payload(found, "traffic/shift") == Shift("reviews", {"a": 9000, "c": 1000})


def test_a_candidate_on_other_machines_leaves_the_stable_one_autoscaled() -> None:
    """Only a variant whose own machines change is released."""
    found = planned(beside(ONE, BIGGER, 1000), There(ONE).seen)

    assert not [each for each in found if isinstance(each.payload, Release)]


def test_a_candidate_of_a_fixed_deployment_has_a_fixed_count() -> None:
    """Where nothing moves the stable one's count nothing moves its own."""
    tried = beside(FIXED, replace(TWO, scaling=FIXED.scaling), 5000)
    made = planned(tried, There(FIXED, autoscaled=False).seen)

    assert not [each for each in made if isinstance(each.payload, Scale)]
    assert payload(made, "/config").request["ProductionVariants"][1]["InitialInstanceCount"] == 2


def test_settings_that_change_make_both_anew() -> None:
    """They keep their names; all traffic is the stable one's until the new ones are healthy."""
    wanted = beside(asked(None, "sagemaker.volume_size=60Gi"), TWO, 1000)
    found = planned(wanted, Both(TENTH).seen)

    variants = payload(found, "/config").request["ProductionVariants"]
    assert [(each["VariantName"], each["VolumeSizeInGB"], each["InitialVariantWeight"]) for each in variants] == [
        ("a", 60, 1.0),
        ("b", 60, 0.0),
    ]
    assert payload(found, "traffic/shift") == Shift("reviews", {"a": 9000, "b": 1000})


def test_what_a_change_under_way_drops_comes_back_with_the_count_that_it_has() -> None:
    """A promotion that goes on takes the stable one away; what it comes back with is not its first count of all."""
    coming = {"EndpointConfigName": "reviews-0000000000", "ProductionVariants": [{"VariantName": "b"}]}
    seen = Both(TENTH, counts=(9, 1), status="Updating", coming=coming).seen

    for wanted in (ONE, TENTH):
        found = planned(wanted, seen)
        variants = payload(found, "/config").request["ProductionVariants"]
        assert variants[0]["InitialInstanceCount"] == 10
        assert found[0].key == "endpoint/settle"


def test_what_is_being_made_is_not_made_twice() -> None:
    """The same again asks for the arrangement that is on its way, though counts have moved since."""
    begun = payload(planned(TENTH, There(ONE, count=4).seen), "/config").request
    raw = There(ONE, count=4, status="Updating", pending=begun["EndpointConfigName"]).raw
    moved = [{"VariantName": "a", "CurrentWeight": 1.0, "DesiredInstanceCount": 12, "CurrentInstanceCount": 12}]
    endpoint = {**(raw.endpoint or {}), "ProductionVariants": moved}
    seen = translate.deployment(ONE.identity, replace(raw, endpoint=endpoint, coming=begun))

    found = planned(TENTH, seen)

    assert payload(found, "/config").request == begun
    update = payload(found, "/update")
    assert isinstance(update, UpdateEndpoint)
    assert update.request["EndpointConfigName"] == begun["EndpointConfigName"]


def test_a_foreign_name_stays_beside_ours() -> None:
    """An endpoint that was taken over keeps its variant's name, and alarms of the two never have one name."""
    found = planned(TENTH, There(ONE, slot="AllTraffic").seen)

    assert payload(found, "traffic/shift") == Shift("reviews", {"AllTraffic": 9000, "b": 1000})


@pytest.mark.parametrize(
    ("used", "free"),
    [(["a"], "b"), (["b"], "a"), (["a", "b"], "c"), (["AllTraffic"], "b"), (["AllTraffic", "b"], "c")],
    ids=str,
)
def test_a_new_variant_has_the_first_name_that_is_free(used: list[str], free: str) -> None:
    """Names take turns, so that an alarm of one never has the name of another's."""
    assert arrangement.free_slot(set(used)) == free


@settings(deadline=None, max_examples=60)
@given(st.integers(0, WHOLE - 1))
def test_every_share_is_read_back_as_it_was_asked(share: int) -> None:
    """Though a weight is a float of 32 bits; then there is nothing to do."""
    wanted = beside(ONE, TWO, share)
    seen = Both(wanted).seen

    assert [(each.role, each.share, each.metric_dimension) for each in seen.revisions] == [
        (Role.STABLE, WHOLE - share, "a"),
        (Role.CANDIDATE, share, "b"),
    ]
    assert make.difference(wanted, seen) == ()
    assert translate.steps(wanted, seen, WISH, UPLOADS) == ()


@settings(deadline=None, max_examples=60)
@given(st.integers(1, WHOLE))
def test_every_share_of_a_shadow_is_read_back_too(share: int) -> None:
    """It is its weight over the stable one's."""
    wanted = beside(ONE, TWO, share, Role.SHADOW)

    seen = Both(wanted, counts=(4, 4)).seen

    assert [(each.role, each.share) for each in seen.revisions] == [(Role.STABLE, WHOLE), (Role.SHADOW, share)]
    assert make.difference(wanted, seen) == ()


def test_the_endpoint_says_which_is_which() -> None:
    """Its tags name the stable revision, and the candidate with the share for which all is done."""
    tags = requests.endpoint_tags(TENTH, TENTH.revisions[0].revision.id)

    assert tags["mlscale:revision"] == ONE.revisions[0].revision.id
    assert tags["mlscale:candidate"] == f"{TWO.revisions[0].revision.id} 1000"
    assert "mlscale:candidate" not in requests.endpoint_tags(ONE, ONE.revisions[0].revision.id)
    assert asking.TAG.fullmatch(tags["mlscale:candidate"])
