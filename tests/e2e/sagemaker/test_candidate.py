"""A revision beside the stable one on SageMaker: made, given traffic, replaced, promoted, taken away.

Each `converge` ends with an empty plan and with what was asked for.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mlscale.deployment import AT_ONCE, WHOLE, Role
from tests.doubles.aws import Double
from tests.e2e.sagemaker.candidates import Tried, tried

STEP_ALARMS = ["step-1", "step-2"]
OURS = ["error_rate", "no_invocations", "p99_latency"]
NO_POLICIES = tuple(f"endpoint.autoscaling.{key}=[]" for key in ("target", "steps"))


def serving(double: Double, folder: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> Tried:
    """Return what the first version serves with five instances, and an empty journal."""
    for key, value in double.environment.items():
        monkeypatch.setenv(key, value)
    made = tried(double, folder, *overrides)
    made.converge(made.version(1))
    double.post("move", endpoint="reviews", variant="a", count=5)
    double.delete("journal")
    return made


@pytest.fixture
def here(aws: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tried:
    """The full spec, autoscaled by targets and steps."""
    return serving(aws, tmp_path, monkeypatch)


@pytest.fixture
def fixed(aws: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tried:
    """A deployment whose count nothing moves."""
    words = ("endpoint.autoscaling={}", "endpoint.replicas=5")
    return serving(aws, tmp_path, monkeypatch, *words)


def test_a_candidate_is_made_without_traffic_and_then_gets_its_share(here: Tried) -> None:
    """The stable one keeps its count and autoscaling; the candidate has what its share needs, and the same policies."""
    keys = here.converge(here.beside(1, 2, 1000))

    assert keys == [
        "v2/upload",
        "v2/model",
        "v1/config",
        "endpoint/update",
        "endpoint/wait",
        "b/scale",
        "traffic/shift",
        "endpoint/configure",
    ]
    assert here.roles() == [("v1", "stable", 9000, "a"), ("v2", "candidate", 1000, "b")]
    assert here.counts() == {"a": 5, "b": 1}
    assert here.bounds() == {"a": (2, 10), "b": (1, 10)}
    assert here.alarms() == sorted([*OURS, *STEP_ALARMS, *(f"b-{each}" for each in STEP_ALARMS)])
    ids = [here.version(number).revisions[0].revision.id for number in (1, 2)]
    assert (here.tags()["mlscale:revision"], here.tags()["mlscale:candidate"]) == (ids[0], f"{ids[1]} 1000")


def test_a_larger_share_gets_its_capacity_before_and_a_smaller_one_loses_it_after(here: Tried) -> None:
    """Only the counts and weights move; a share of nothing keeps one instance."""
    here.converge(here.beside(1, 2, 1000))

    grown = here.converge(here.beside(1, 2, 5000))
    counts = here.counts()
    shrunk = here.converge(here.beside(1, 2, 0))

    assert grown == ["b/scale", "traffic/shift", "endpoint/configure"]
    assert counts == {"a": 5, "b": 3}
    assert shrunk == ["traffic/shift", "b/scale", "endpoint/configure"]
    assert here.bounds() == {"a": (2, 10), "b": (1, 10)}
    assert here.roles() == [("v1", "stable", WHOLE, "a"), ("v2", "candidate", 0, "b")]


def test_counts_that_move_by_themselves_are_no_change(here: Tried) -> None:
    """Autoscaling moves both; an unchanged share plans nothing."""
    asked = here.beside(1, 2, 3333)
    here.converge(asked)
    here.double.post("move", endpoint="reviews", variant="a", count=9)
    here.double.post("move", endpoint="reviews", variant="b", count=4)

    assert [each.key for each in here.steps(asked)] == []
    assert here.roles() == [("v1", "stable", 6667, "a"), ("v2", "candidate", 3333, "b")]


def test_weights_moved_by_hand_are_put_back(here: Tried) -> None:
    """Somebody else's weights are a difference, and the shares come back exactly."""
    asked = here.beside(1, 2, 2500)
    here.converge(asked)
    here.double.post("move", endpoint="reviews", variant="b", weight=7.5)

    assert "traffic/shift" in here.converge(asked)
    assert here.roles() == [("v1", "stable", 7500, "a"), ("v2", "candidate", 2500, "b")]


def test_policies_of_the_candidate_that_are_gone_are_put_back(here: Tried) -> None:
    """Without them a candidate would not follow its traffic."""
    asked = here.beside(1, 2, 2500)
    here.converge(asked)
    target = {"ServiceNamespace": "sagemaker", "ScalableDimension": "sagemaker:variant:DesiredInstanceCount"}
    scaling = here.double.client("application-autoscaling")
    scaling.deregister_scalable_target(ResourceId="endpoint/reviews/variant/b", **target)

    assert here.converge(asked) == ["b/scale"]
    assert here.bounds() == {"a": (2, 10), "b": (2, 10)}


def test_promoting_leaves_the_candidate_alone_as_it_is(here: Tried) -> None:
    """It gets the capacity, then all traffic, then the rest goes; it is not made anew and keeps its variant."""
    here.converge(here.beside(1, 2, 1000))
    here.double.delete("journal")

    keys = here.converge(here.version(2))

    assert keys == [
        "b/scale",
        "v2/config",
        "traffic/part",
        "endpoint/watch",
        "endpoint/release",
        "endpoint/update",
        "endpoint/wait",
        "endpoint/configure",
    ]
    assert here.roles() == [("v2", "stable", WHOLE, "b")]
    assert here.counts() == {"b": 6}  # what both had
    assert here.bounds() == {"b": (2, 10)}
    assert here.alarms() == sorted([*OURS, *(f"b-{each}" for each in STEP_ALARMS)])
    assert "mlscale:candidate" not in here.tags()
    assert "CreateModel" not in here.calls()
    weights = here.calls().index("UpdateEndpointWeightsAndCapacities")
    assert weights < here.calls().index("UpdateEndpoint")


def test_the_next_candidate_after_a_promotion_takes_another_variant(here: Tried) -> None:
    """Names take turns, and alarms of the two never meet."""
    here.converge(here.beside(1, 2, 1000))
    here.converge(here.version(2))

    here.converge(here.beside(2, 3, 2000))

    assert here.roles() == [("v2", "stable", 8000, "b"), ("v3", "candidate", 2000, "a")]
    assert here.bounds() == {"b": (2, 10), "a": (2, 10)}
    assert here.alarms() == sorted([*OURS, *STEP_ALARMS, *(f"b-{each}" for each in STEP_ALARMS)])


def test_a_candidate_that_is_given_up_is_gone_with_all_that_it_had(here: Tried) -> None:
    """First its traffic, then its autoscaling and itself; the stable one is as it was before the candidate came."""
    before = here.double.get("resources")
    here.converge(here.beside(1, 2, 5000))

    keys = here.converge(here.version(1))

    assert keys == ["traffic/part", "v1/config", "b/release", "endpoint/update", "endpoint/wait", "endpoint/configure"]
    assert here.roles() == [("v1", "stable", WHOLE, "a")]
    after = here.double.get("resources")
    for kind in ("scalable_targets", "scaling_policies", "scheduled_actions"):
        assert after[kind] == before[kind]
    assert here.alarms() == sorted([*OURS, *STEP_ALARMS])
    assert here.counts() == {"a": 5}
    assert here.tags() == before["endpoints"]["reviews"]["tags"]
    configs = {each["EndpointConfigName"] for each in after["endpoint_configs"].values()}
    assert before["endpoints"]["reviews"]["config"] in configs
    assert after["endpoints"]["reviews"]["config"] == before["endpoints"]["reviews"]["config"]


def test_another_candidate_takes_the_place_of_the_first(here: Tried) -> None:
    """The first loses its traffic before it goes, and the new one has a variant, and so metrics, of its own."""
    here.converge(here.beside(1, 2, 2000))

    keys = here.converge(here.beside(1, 3, 1000))

    assert keys.index("traffic/part") < keys.index("b/release") < keys.index("endpoint/update")
    assert keys.index("endpoint/update") < keys.index("traffic/shift")
    assert here.roles() == [("v1", "stable", 9000, "a"), ("v3", "candidate", 1000, "c")]
    assert here.counts() == {"a": 5, "c": 1}
    assert here.bounds() == {"a": (2, 10), "c": (1, 10)}
    assert here.alarms() == sorted([*OURS, *STEP_ALARMS, *(f"c-{each}" for each in STEP_ALARMS)])


def test_without_policies_the_counts_are_set(fixed: Tried) -> None:
    """Nothing is a scalable target, and the count follows the share up and down."""
    made = fixed.converge(fixed.beside(1, 2, 1000))
    counts = [fixed.counts()]
    for share in (5000, 1000):
        fixed.converge(fixed.beside(1, 2, share))
        counts.append(fixed.counts())
    fixed.converge(fixed.version(2))

    assert "b/scale" not in made
    assert counts == [{"a": 5, "b": 1}, {"a": 5, "b": 3}, {"a": 5, "b": 1}]
    assert fixed.counts() == {"b": 5}
    assert fixed.bounds() == {}


def test_a_shadow_gets_copies_and_answers_none(here: Tried) -> None:
    """It is as large as the stable one, which has all the traffic, and goes without a trace."""
    here.converge(here.beside(1, 2, WHOLE, Role.SHADOW))
    runtime = here.double.client("sagemaker-runtime")
    answers = {runtime.invoke_endpoint(EndpointName="reviews", Body=b"{}")["InvokedProductionVariant"] for _ in "12345"}

    assert here.roles() == [("v1", "stable", WHOLE, "a"), ("v2", "shadow", WHOLE, "b")]
    assert here.counts() == {"a": 5, "b": 5}
    assert here.bounds() == {"a": (2, 10)}
    assert answers == {"a"}

    here.converge(here.version(1))
    assert here.roles() == [("v1", "stable", WHOLE, "a")]


def test_a_shadow_becomes_a_candidate_and_then_the_stable_one(here: Tried) -> None:
    """Its Model is there already; only its variant changes."""
    here.converge(here.beside(1, 2, WHOLE, Role.SHADOW))
    here.double.delete("journal")

    here.converge(here.beside(1, 2, 1000))
    assert here.roles() == [("v1", "stable", 9000, "a"), ("v2", "candidate", 1000, "c")]
    here.converge(here.version(2))

    assert here.roles() == [("v2", "stable", WHOLE, "c")]
    assert "CreateModel" not in here.calls()


@pytest.mark.parametrize("goal", ["candidate", "promote", "abort"])
def test_a_run_cut_off_after_any_step_goes_on(here: Tried, goal: str) -> None:
    """However many steps were done, planning again from what is there converges, and so does giving it up."""
    beside = here.beside(1, 2, 1000)
    asked = {"candidate": beside, "promote": here.version(2), "abort": here.version(1)}[goal]
    if goal != "candidate":
        here.converge(beside)
    here.double.post("save")

    for done in range(1, len(here.steps(asked))):
        here.double.post("restore")
        for step in here.steps(asked)[:done]:
            here.do(step)
        here.converge(asked)
        here.double.post("restore")
        for step in here.steps(asked)[:done]:
            here.do(step)
        here.converge(here.version(1))
        ((version, role, _, slot),) = here.roles()
        assert (version, role) == ("v1", "stable")
        assert here.bounds() == {slot: (2, 10)}


def test_everything_is_taken_down_also_beside_a_candidate(here: Tried) -> None:
    """Nothing is left of either."""
    here.converge(here.beside(1, 2, 1000))
    seen = here.provider.read(here.version(1).identity)

    for step in here.provider.steps(None, seen, AT_ONCE):
        here.do(step)

    left = {kind for kind, things in here.double.get("resources").items() if things}
    assert left == {"log_groups"}
