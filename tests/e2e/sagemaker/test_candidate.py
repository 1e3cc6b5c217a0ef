"""A revision beside the stable one on SageMaker: made, given traffic, replaced, promoted, taken away.

Each `converge` ends with an empty plan and with what was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

import pytest

from mlscale.deployment import AT_ONCE, WHOLE, Deployment, Role, RolloutWish
from mlscale.errors import ProviderFailed, RolledBack
from mlscale.providers.contract import Work
from mlscale.providers.sagemaker import permissions
from tests.doubles.aws import Double
from tests.e2e.sagemaker.account import BUCKET
from tests.e2e.sagemaker.candidates import Tried, tried, until

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


CHANGES = r"(sagemaker|application-autoscaling|cloudwatch)\.(Create|Update|Delete|Put|Register|Deregister|Add)"
Wanted: TypeAlias = Callable[[Tried], Deployment | None]
GOALS: Mapping[str, tuple[Wanted, Wanted]] = {
    "a candidate": (lambda _: None, lambda here: here.beside(1, 2, 1000)),
    "another candidate": (lambda here: here.beside(1, 2, 1000), lambda here: here.beside(1, 3, 2000)),
    "a larger share": (lambda here: here.beside(1, 2, 1000), lambda here: here.beside(1, 2, 5000)),
    "a promotion": (lambda here: here.beside(1, 2, 1000), lambda here: here.version(2)),
    "giving up": (lambda here: here.beside(1, 2, 5000), lambda here: here.version(1)),
}


@pytest.mark.parametrize("goal", GOALS)
def test_a_run_cut_off_after_any_change_goes_on(here: Tried, goal: str) -> None:
    """A call that changes something has its effect and no answer, and nothing comes after it: again, it converges.

    What carries traffic when it goes on is counted anew, so the candidate may have more instances or fewer, and the
    stable one never fewer.
    """
    start, end = (asked(here) for asked in GOALS[goal])
    if start is not None:
        here.converge(start)
    assert end is not None
    here.double.post("save")
    here.converge(end)
    wanted, counts = (here.roles(), here.alarms()), here.counts()
    nth = 0
    while True:
        nth += 1
        here.double.post("restore")
        fault = {"operation": CHANGES, "kind": "drop_after_commit", "nth": nth, "times": 1}
        here.double.post("faults", rules=[fault])
        try:
            for step in here.steps(end):
                here.do(step)
        except ProviderFailed:
            here.double.post("faults", rules=[])
            here.seen()
            here.converge(end)
            assert (here.roles(), here.alarms()) == wanted, nth
            assert here.bounds().keys() == counts.keys(), nth
            stable = wanted[0][0][3]
            assert all(10 >= count >= (counts[slot] if slot == stable else 1) for slot, count in here.counts().items())
        else:
            break
    assert nth > len(here.steps(end))


def test_a_promotion_under_way_can_be_taken_back(here: Tried) -> None:
    """What serves comes back with as many instances as it had, not with those that it once began with."""
    here.converge(here.beside(1, 2, 1000))
    here.double.post("settings", delay_s=2.0)
    for step in here.steps(here.version(2)):
        if step.key == "endpoint/wait":
            break
        here.do(step)

    steps = here.steps(here.version(1))
    here.double.post("settings", delay_s=0.02)
    for step in steps:
        here.do(step)

    assert here.roles() == [("v1", "stable", WHOLE, "a")]
    assert here.counts() == {"a": 6}
    assert here.bounds() == {"a": (2, 10)}
    assert [each.key for each in here.steps(here.version(1))] == []


def test_the_same_command_again_waits_for_the_update_that_it_began(here: Tried) -> None:
    """Autoscaling has moved meanwhile, and the endpoint is not updated a second time for it."""
    here.double.post("settings", delay_s=2.0)
    for step in here.steps(here.beside(1, 2, 5000)):
        if step.key == "endpoint/wait":
            break
        here.do(step)
    here.double.post("move", endpoint="reviews", variant="a", count=9)
    here.double.delete("journal")

    steps = here.steps(here.beside(1, 2, 5000))
    here.double.post("settings", delay_s=0.02)
    for step in steps:
        here.do(step)

    assert "UpdateEndpoint" not in here.calls()
    assert here.roles() == [("v1", "stable", 5000, "a"), ("v2", "candidate", 5000, "b")]


def test_traffic_waits_for_what_goes_on_at_the_endpoint(here: Tried) -> None:
    """Autoscaling and AWS change it as they like, and SageMaker takes one change at a time."""
    here.converge(here.beside(1, 2, 1000))
    *_, shift, _ = here.steps(here.beside(1, 2, 2000))
    here.double.post("settings", delay_s=0.5)
    here.double.post("script", endpoint="reviews", on="now", outcome="system_updating")

    outcome = here.provider.perform(shift, lambda text: None)  # noqa: ARG005
    sent = "UpdateEndpointWeightsAndCapacities" in here.calls()[-1:]
    here.do(shift)

    assert (outcome.work, sent) == (Work.RUNNING, False)
    assert here.provider.is_done(shift)
    assert [each[2] for each in here.roles()] == [8000, 2000]


@pytest.mark.parametrize("outcome", ["fail", "rollback"])
def test_traffic_that_sagemaker_does_not_shift_is_an_error(here: Tried, outcome: str) -> None:
    """It takes the weights and goes back to the old ones."""
    here.converge(here.beside(1, 2, 1000))
    *_, shift, _ = here.steps(here.beside(1, 2, 1100))
    here.double.post("script", endpoint="reviews", on="weights", outcome=outcome, reason="capacity")

    with pytest.raises(ProviderFailed) as caught:
        here.do(shift)

    assert caught.value.what == "SageMaker did not shift the traffic"
    assert "InsufficientInstanceCapacity" in caught.value.why
    assert [each[2] for each in here.roles()] == [9000, 1000]
    here.converge(here.beside(1, 2, 1100))


def test_a_candidate_that_does_not_start_leaves_the_stable_one_alone(here: Tried) -> None:
    """The error has SageMaker's reason; nobody's traffic has moved, and the same again is tried anew."""
    before = here.counts(), here.bounds(), here.alarms()
    here.double.post("script", endpoint="reviews", on="update", outcome="rollback", reason="ping")
    asked = here.beside(1, 2, 1000)

    with pytest.raises(RolledBack) as caught:
        _all_of(here, asked)

    assert "did not pass the ping health check" in caught.value.why
    assert here.roles() == [("v1", "stable", WHOLE, "a")]
    assert (here.counts(), here.bounds(), here.alarms()) == before
    here.converge(asked)


def _all_of(here: Tried, asked: Deployment) -> None:
    for step in here.steps(asked):
        here.do(step)


def test_many_are_read_as_one_is(here: Tried) -> None:
    """Lists of the whole account tell the same of two variants."""
    here.converge(here.beside(1, 2, 1000))
    identity = here.version(1).identity

    assert here.provider.read_all([identity] * 4) == [here.provider.read(identity)] * 4


def test_everything_is_taken_down_also_beside_a_candidate(here: Tried) -> None:
    """Nothing is left of either."""
    here.converge(here.beside(1, 2, 1000))
    seen = here.provider.read(here.version(1).identity)

    for step in here.provider.steps(None, seen, AT_ONCE):
        here.do(step)

    left = {kind for kind, things in here.double.get("resources").items() if things}
    assert left == {"log_groups"}


def put(here: Tried, variant: str, ago: timedelta, *, requests: int, errors: int = 0, slow: int = 0) -> None:
    """Put what a variant answered into CloudWatch, as SageMaker does: a slow request takes a second, others a tenth."""
    values = {
        "Invocations": [1.0] * requests,
        "Invocation5XXErrors": [1.0] * errors + [0.0] * (requests - errors),
        "InvocationModelErrors": [1.0] * errors + [0.0] * (requests - errors),
        "Invocation4XXErrors": [0.0] * requests,
        "ModelLatency": [1e6] * slow + [1e5] * (requests - slow),
    }
    here.double.post("metrics", endpoint="reviews", variant=variant, values=values, ago_s=ago.total_seconds())


@pytest.fixture
def counted(here: Tried) -> Iterator[Tried]:
    """A candidate with a share, a quarter of an hour ago: the clock of AWS and ours are moved on by as much."""
    here.converge(here.beside(1, 2, 1000))
    yield here
    here.double.post("settings", metrics_lag_s=0, metrics_page=100_800)


def test_each_revision_is_counted_minute_by_minute(counted: Tried) -> None:
    """The rows are the revisions', by their variants; a minute in which nobody asked has none."""
    now = counted.move_on(timedelta(minutes=15))
    put(counted, "a", timedelta(minutes=5), requests=90, errors=2, slow=9)
    put(counted, "b", timedelta(minutes=5), requests=10, errors=1, slow=4)
    put(counted, "a", timedelta(minutes=7), requests=50)
    counted.double.delete("journal")

    found = counted.provider.counts(counted.version(1).identity, now - timedelta(minutes=10), now, 500.0)

    named = [(counted.named(each.revision), each.requests, each.errors, each.slow) for each in found]
    assert named == [("v1", 50, 0, 0), ("v1", 90, 2, 9), ("v2", 10, 1, 4)]
    assert all(each.end - each.start == timedelta(minutes=1) and each.start.second == 0 for each in found)
    operations = [each["operation"] for each in counted.double.get("journal")]
    assert operations == ["DescribeEndpoint", "DescribeEndpointConfig", "GetMetricData"]


def test_expressions_of_ones_own_are_evaluated_for_each_variant(counted: Tried) -> None:
    """Both in one call, with the names in them; one that gives several series is told as it is."""
    now = counted.move_on(timedelta(minutes=15))
    for variant, series in (("a", [[[330, 90.0], [390, 80.0]]]), ("b", [[[330, 10.0]], [[330, 1.0]]])):
        counted.double.post("expression", expression=f"SUM({variant} of reviews)", series=series)
    counted.double.delete("journal")

    found = counted.provider.points(
        counted.version(1).identity, ["SUM($variant of $endpoint)"], now - timedelta(minutes=10), now
    )

    assert [(counted.named(each.revision), each.expression, each.value) for each in found] == [
        ("v1", "SUM($variant of $endpoint)", 80.0),
        ("v1", "SUM($variant of $endpoint)", 90.0),
        ("v2", "SUM($variant of $endpoint)", 10.0),
        ("v2", "SUM($variant of $endpoint)", 1.0),
    ]
    assert found[1].start - found[0].start == timedelta(minutes=1)
    operations = [each["operation"] for each in counted.double.get("journal")]
    assert operations == ["DescribeEndpoint", "DescribeEndpointConfig", "GetMetricData"]


def test_a_minute_whose_values_may_still_come_is_not_counted(counted: Tried) -> None:
    """The lag that is told covers what comes late: at the end each minute has been counted whole, once."""
    now = counted.move_on(timedelta(minutes=15))
    for minutes in (1, 2, 3, 4):
        put(counted, "a", timedelta(minutes=minutes, seconds=-1), requests=10)
    counted.double.post("settings", metrics_lag_s=counted.provider.lag.total_seconds() - 1)

    found = counted.provider.counts(counted.version(1).identity, now - timedelta(minutes=10), now, None)

    assert [each.requests for each in found] == [10, 10]
    assert all(each.end <= now - counted.provider.lag for each in found)


def test_values_that_come_page_by_page_are_all_counted(counted: Tried) -> None:
    """CloudWatch gives as many at a time as it likes."""
    now = counted.move_on(timedelta(minutes=15))
    for minutes in range(4, 10):
        put(counted, "a", timedelta(minutes=minutes), requests=minutes, slow=1)
        put(counted, "b", timedelta(minutes=minutes), requests=1, errors=1)
    whole = counted.provider.counts(counted.version(1).identity, now - timedelta(minutes=12), now, 500.0)

    counted.double.post("settings", metrics_page=5)

    assert len(whole) == 12
    assert counted.provider.counts(counted.version(1).identity, now - timedelta(minutes=12), now, 500.0) == whole


def test_what_a_variant_answered_before_it_served_this_is_nobodys(counted: Tried) -> None:
    """Before its arrangement was made a variant may have served another revision."""
    now = counted.clock.now()
    put(counted, "a", timedelta(minutes=5), requests=100)

    assert counted.provider.counts(counted.version(1).identity, now - timedelta(minutes=10), now, None) == ()


def test_what_is_not_there_is_counted_by_nobody(aws: Double, here: Tried) -> None:
    """No endpoint, no rows."""
    aws.client("sagemaker").delete_endpoint(EndpointName="reviews")
    now = here.clock.now()

    def counts() -> Sequence[object]:
        return here.provider.counts(here.version(1).identity, now - timedelta(minutes=10), now, None)

    until(lambda: not counts())
    assert counts() == ()


def test_every_share_is_held_exactly(here: Tried) -> None:
    """What is asked in basis points is what the provider says that it holds."""
    for share in (1, 3333, 9999):
        shares = {"one": WHOLE - share, "two": share}
        assert here.provider.shares_that_hold(shares) == shares


@pytest.mark.parametrize("share", [1, 17, 3333, 9999])
def test_shares_come_back_exactly(fixed: Tried, share: int) -> None:
    """Weights are floats of 32 bits, shares whole basis points."""
    fixed.converge(fixed.beside(1, 2, share))

    assert [each[2] for each in fixed.roles()] == [WHOLE - share, share]


NATIVE = {
    "canary": RolloutWish("canary", steps=(1000,), interval=timedelta(minutes=1)),
    "linear": RolloutWish("linear", steps=(2500, 5000, 7500), interval=timedelta(minutes=1)),
    "rolling": RolloutWish("rolling", interval=timedelta(minutes=1)),
}


@pytest.mark.parametrize("strategy", NATIVE)
def test_sagemaker_takes_its_own_steps(here: Tried, strategy: str) -> None:
    """The variant stays the same, and the deployment's alarms stop the update."""
    here.converge(here.version(2), NATIVE[strategy])

    asked = [each["params"] for each in here.double.get("journal") if each["operation"] == "UpdateEndpoint"]
    assert len(asked) == 1
    alarms = asked[0]["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]
    assert [each["AlarmName"] for each in alarms] == ["mlscale/reviews/p99_latency", "mlscale/reviews/error_rate"]
    assert here.roles() == [("v2", "stable", WHOLE, "a")]


@pytest.mark.parametrize("strategy", NATIVE)
def test_an_update_that_an_alarm_stops_is_no_success(here: Tried, strategy: str) -> None:
    """SageMaker has gone back: the error has its reason, and the old revision serves with all that it had."""
    *before, wait, _ = here.steps(here.version(2), NATIVE[strategy])
    here.double.post("alarm", name="mlscale/reviews/p99_latency", state="ALARM")
    for step in before:
        here.do(step)

    with pytest.raises(RolledBack) as caught:
        here.do(wait)

    assert "mlscale/reviews/p99_latency" in caught.value.why
    assert here.roles() == [("v1", "stable", WHOLE, "a")]
    assert here.counts() == {"a": 5}


def test_a_promotion_goes_no_steps_that_sagemaker_has_not(here: Tried) -> None:
    """A variant goes with it, where SageMaker takes no steps; the traffic has gone there before."""
    here.converge(here.beside(1, 2, 1000))
    here.double.delete("journal")

    here.converge(here.version(2), NATIVE["canary"])

    asked = [each["params"] for each in here.double.get("journal") if each["operation"] == "UpdateEndpoint"]
    assert ["DeploymentConfig" in each for each in asked] == [False]


def test_the_policy_allows_all_that_a_candidate_needs(counted: Tried) -> None:
    """Making, shifting, counting, promoting and giving up call nothing that is not allowed."""
    now = counted.move_on(timedelta(minutes=15))
    identity = counted.version(1).identity
    counted.provider.counts(identity, now - timedelta(minutes=5), now, 500.0)
    counted.converge(counted.beside(1, 2, 5000))
    counted.converge(counted.version(2))
    counted.converge(counted.beside(2, 3, 1000))
    counted.converge(counted.version(2))

    called = {f"{each['service']}:{each['operation']}" for each in counted.double.get("journal")}
    allowed = {
        action
        for each in counted.provider.policy(counted.version(1), f"s3://{BUCKET}/team")["Statement"]
        for action in each["Action"]
    }
    assert permissions.needed(counted.version(1), called) <= allowed
    assert {"cloudwatch:GetMetricData", "sagemaker:UpdateEndpointWeightsAndCapacities"} <= allowed
