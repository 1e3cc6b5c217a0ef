"""A revision beside the stable one on Vertex AI: made, given traffic, counted, replaced, promoted, taken away.

Each `converge` ends with an empty plan and with what was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from google.cloud import aiplatform_v1 as vx

from mlscale.deployment import AT_ONCE, WHOLE, Deployment
from mlscale.errors import MlscaleError, ProviderFailed
from mlscale.providers.contract import BadOfAll
from mlscale.providers.vertex import permissions
from tests.doubles.vertex import Double
from tests.e2e.vertex.candidates import ENDPOINT, QUICK_S, Tried, tried
from tests.e2e.vertex.project import BUCKET

MINUTE = timedelta(minutes=1)


@pytest.fixture
def here(google: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tried:
    """What the first version serves, five replicas of it as autoscaling has wanted, and an empty journal."""
    for key, value in google.environment.items():
        monkeypatch.setenv(key, value)
    made = tried(google, tmp_path)
    made.converge(made.version(1))
    made.move(1, 5)
    google.delete("journal")
    return made


def test_a_candidate_is_made_without_traffic_and_then_gets_its_share(here: Tried) -> None:
    """The stable one keeps its count and bounds; the candidate has what its share needs, and the same targets."""
    before = here.endpoint()

    keys = here.converge(here.beside(1, 2, 1000))

    assert keys == ["v2/upload", "v2/model", "v2/deploy", "v2/wait", "v2/shift"]
    assert here.roles() == [("v1", "stable", 9000), ("v2", "candidate", 1000)]
    assert here.bounds() == {"v1": (2, 10), "v2": (1, 10)}
    (deploy,) = here.calls("DeployModel")
    assert deploy["request"]["traffic_split"] == {here.deployed_id(1): 100, "0": 0}
    targets = deploy["request"]["deployed_model"]["dedicated_resources"]["autoscaling_metric_specs"]
    assert sorted(each["target"] for each in targets) == [70, 600]
    after = here.endpoint()
    assert after["deployed_models"][here.deployed_id(1)] == before["deployed_models"][here.deployed_id(1)]
    assert after["labels"] == {**before["labels"], "mlscale-candidate": f"{here.version(2).revisions[0].revision.id}-1"}


def test_a_larger_share_gets_its_replicas_before_and_a_smaller_one_loses_them_after(here: Tried) -> None:
    """Only the bounds and the split move; a share of nothing keeps one replica."""
    here.converge(here.beside(1, 2, 1000))

    grown = here.converge(here.beside(1, 2, 5000))
    bounds = here.bounds()
    shrunk = here.converge(here.beside(1, 2, 0))

    assert grown == ["v2/resize", "v2/wait", "v2/shift"]
    assert bounds == {"v1": (2, 10), "v2": (3, 10)}
    assert shrunk == ["v2/wait", "v2/shift", "v2/resize"]
    assert here.bounds() == {"v1": (2, 10), "v2": (1, 10)}
    assert here.roles() == [("v1", "stable", WHOLE), ("v2", "candidate", 0)]


def test_counts_that_move_by_themselves_are_no_change(here: Tried) -> None:
    """Autoscaling moves both; an unchanged share plans nothing."""
    asked = here.beside(1, 2, 3300)
    here.converge(asked)
    here.move(1, 9)
    here.move(2, 4)

    assert [each.key for each in here.plan(asked).steps] == []
    assert here.roles() == [("v1", "stable", 6700), ("v2", "candidate", 3300)]


def test_a_split_that_somebody_moved_is_shown_and_put_back(here: Tried) -> None:
    """The plan says which share is another one, and nothing but the split changes."""
    asked = here.beside(1, 2, 2500)
    here.converge(asked)
    split = {here.deployed_id(1): 40, here.deployed_id(2): 60}
    request = {"endpoint": {"name": ENDPOINT, "traffic_split": split}, "update_mask": {"paths": ["traffic_split"]}}
    here.double.client(vx.EndpointServiceClient).update_endpoint(request)
    here.double.delete("journal")

    shown = [f"{here.named(each.path)}: {each.before} -> {each.after}" for each in here.plan(asked).changes]
    here.converge(asked)

    assert shown == ["revision v1: stable 40% -> stable 75%", "revision v2: candidate 60% -> candidate 25%"]
    assert here.endpoint()["traffic_split"] == {here.deployed_id(1): 75, here.deployed_id(2): 25}
    assert [each["operation"] for each in here.calls()] == ["UpdateEndpoint"]


def test_a_candidate_that_somebody_took_off_is_made_again(here: Tried) -> None:
    """Its traffic went with it; its Model and files are there still."""
    asked = here.beside(1, 2, 2500)
    here.converge(asked)
    client = here.double.client(vx.EndpointServiceClient)
    wanted = {
        "endpoint": ENDPOINT,
        "deployed_model_id": here.deployed_id(2),
        "traffic_split": {here.deployed_id(1): 100},
    }
    client.undeploy_model(wanted).result(timeout=10)
    here.double.delete("journal")

    here.converge(asked)

    assert here.roles() == [("v1", "stable", 7500), ("v2", "candidate", 2500)]
    assert [each["operation"] for each in here.calls()] == ["DeployModel", "UpdateEndpoint"]


def test_replicas_that_somebody_set_are_put_back(here: Tried) -> None:
    """How many the candidate needs for its share is written down with it, and counts that move are no difference."""
    asked = here.beside(1, 2, 5000)
    here.converge(asked)
    here.move(1, 2)
    wanted = {"id": here.deployed_id(2), "dedicated_resources": {"min_replica_count": 9}}
    request = {"endpoint": ENDPOINT, "deployed_model": wanted}
    mask = {"update_mask": {"paths": ["dedicated_resources.min_replica_count"]}}
    here.double.client(vx.EndpointServiceClient).mutate_deployed_model(request | mask).result(timeout=10)

    assert here.converge(asked) == ["v2/resize"]
    assert here.bounds() == {"v1": (2, 10), "v2": (3, 10)}


def test_promoting_leaves_the_candidate_alone_as_it_is(here: Tried) -> None:
    """It gets the replicas, then all traffic, then the rest goes; it is not made anew, and at last has the bounds."""
    here.converge(here.beside(1, 2, 1000))
    here.double.delete("journal")

    keys = here.converge(here.version(2))

    assert keys == ["v2/resize", "v2/wait", "v2/shift", "v1/undeploy", "endpoint/configure"]
    assert here.roles() == [("v2", "stable", WHOLE)]
    assert here.bounds() == {"v2": (2, 10)}
    calls = here.calls()
    assert [each["operation"] for each in calls if each["service"] == "EndpointService"] == [
        "MutateDeployedModel",
        "UpdateEndpoint",
        "UndeployModel",
        "UpdateEndpoint",
        "MutateDeployedModel",
    ]
    grown = calls[0]["request"]["deployed_model"]["dedicated_resources"]
    assert grown["min_replica_count"] == 6  # what both had
    assert here.endpoint()["labels"]["mlscale-revision"] == here.version(2).revisions[0].revision.id


def test_a_candidate_that_is_given_up_is_gone_with_all_that_it_had(here: Tried) -> None:
    """First its traffic, then itself; the endpoint is as it was before the candidate came, and nothing else moved."""
    before = here.endpoint()
    here.converge(here.beside(1, 2, 5000))
    here.double.delete("journal")

    keys = here.converge(here.version(1))

    assert keys == ["v1/wait", "v1/shift", "v2/undeploy"]
    assert [each["operation"] for each in here.calls()] == ["UpdateEndpoint", "UndeployModel"]
    assert {**here.endpoint(), "etag": ""} == {**before, "etag": ""}


def test_another_candidate_takes_the_place_of_the_first(here: Tried) -> None:
    """The first loses its traffic and goes before the other is made: two are paid for at most."""
    here.converge(here.beside(1, 2, 2000))

    keys = here.converge(here.beside(1, 3, 1000))

    assert keys.index("endpoint/back") < keys.index("v2/undeploy") < keys.index("v3/deploy") < keys.index("v3/shift")
    assert here.roles() == [("v1", "stable", 9000), ("v3", "candidate", 1000)]
    assert here.bounds() == {"v1": (2, 10), "v3": (1, 10)}


def test_a_candidate_follows_another_that_was_promoted(here: Tried) -> None:
    """Each has an id, and so metrics, of its own."""
    here.converge(here.beside(1, 2, 1000))
    here.converge(here.version(2))

    here.converge(here.beside(2, 3, 2000))

    assert here.roles() == [("v2", "stable", 8000), ("v3", "candidate", 2000)]


Wanted: TypeAlias = Callable[[Tried], Deployment | None]
GOALS: Mapping[str, tuple[Wanted, Wanted]] = {
    "a candidate": (lambda _: None, lambda here: here.beside(1, 2, 1000)),
    "another candidate": (lambda here: here.beside(1, 2, 1000), lambda here: here.beside(1, 3, 2000)),
    "a larger share": (lambda here: here.beside(1, 2, 1000), lambda here: here.beside(1, 2, 5000)),
    "a smaller share": (lambda here: here.beside(1, 2, 5000), lambda here: here.beside(1, 2, 1000)),
    "a promotion": (lambda here: here.beside(1, 2, 1000), lambda here: here.version(2)),
    "giving up": (lambda here: here.beside(1, 2, 5000), lambda here: here.version(1)),
}


@pytest.mark.parametrize("goal", GOALS)
def test_a_run_cut_off_after_any_step_goes_on(here: Tried, goal: str) -> None:
    """However many steps were done, planning again from what is there converges, and so does giving it up."""
    start, end = (asked(here) for asked in GOALS[goal])
    if start is not None:
        here.converge(start)
    assert end is not None
    here.double.post("save")

    for done in range(1, len(here.plan(end).steps)):
        for then in (end, here.version(1)):
            here.double.post("restore")
            for step in here.plan(end).steps[:done]:
                here.do(step)
            here.converge(then)
        assert [(version, role) for version, role, _ in here.roles()] == [("v1", "stable")]
        assert here.bounds() == {"v1": (2, 10)}


CHANGES = r"(EndpointService|ModelService)\.(Create|Update|Upload|Deploy|Undeploy|Mutate|Delete)"


@pytest.mark.parametrize("goal", GOALS)
def test_a_run_cut_off_after_any_change_goes_on(here: Tried, goal: str) -> None:
    """A call that changes something has its effect and no answer, and nothing comes after it: again, it converges.

    Where the first candidate has gone already, the other one is sized by the stable one alone.
    """
    start, end = (asked(here) for asked in GOALS[goal])
    if start is not None:
        here.converge(start)
    assert end is not None
    here.double.post("save")
    here.converge(end)
    wanted, bounds = here.roles(), here.bounds()
    nth = 0
    while True:
        nth += 1
        here.double.post("restore")
        fault = {"operation": CHANGES, "kind": "drop_after_commit", "nth": nth, "times": 1}
        here.double.post("faults", rules=[fault])
        try:
            for step in here.plan(end).steps:
                here.do(step)
        except ProviderFailed:
            here.double.post("faults", rules=[])
            here.converge(end)
            assert here.roles() == wanted, nth
            assert {**here.bounds(), "v3": None} == {**bounds, "v3": None}, nth
        else:
            break
    assert nth > len(here.calls()) // 2


def test_a_promotion_under_way_can_be_taken_back(here: Tried) -> None:
    """What is under way is waited for, and then everything is as it was."""
    here.converge(here.beside(1, 2, 1000))
    here.double.post("settings", delay_s=1.0)
    (first, *_) = here.plan(here.version(2)).steps
    here.provider.perform(first, lambda text: None)  # noqa: ARG005

    steps = here.plan(here.version(1)).steps
    here.double.post("settings", delay_s=QUICK_S)
    for step in steps:
        here.do(step)

    assert [here.named(each.key) for each in steps] == ["endpoint/settle", "v1/wait", "v1/shift", "v2/undeploy"]
    assert here.roles() == [("v1", "stable", WHOLE)]
    assert [each.key for each in here.plan(here.version(1)).steps] == []


@pytest.mark.parametrize("reason", ["server", "health", "capacity"])
def test_a_candidate_that_does_not_start_leaves_the_stable_one_alone(here: Tried, reason: str) -> None:
    """The error has Google's reason; nobody's traffic has moved, and the same again is tried anew."""
    before = here.endpoint()
    lines = [] if reason == "capacity" else ["ValueError: no such column"]
    for _ in range(2 if reason == "capacity" else 1):  # the second machine has no room either
        here.double.post("script", endpoint="reviews", on="deploy", outcome="fail", reason=reason, lines=lines)
    asked = here.beside(1, 2, 1000)
    *made, deploy, _, _ = here.plan(asked).steps
    for step in made:
        here.do(step)

    with pytest.raises(MlscaleError) as caught:
        here.do(deploy)

    told = {"server": "no such column", "health": "never became ready", "capacity": "Resources are insufficient"}
    assert told[reason] in caught.value.why
    assert {**here.endpoint(), "etag": ""} == {**before, "etag": ""}
    here.converge(asked)


def test_everything_is_taken_down_also_beside_a_candidate(here: Tried) -> None:
    """Nothing is left of either."""
    here.converge(here.beside(1, 2, 1000))

    for step in here.provider.steps(None, here.seen(), AT_ONCE):
        here.do(step)

    found = here.double.get(f"resources?bucket={BUCKET}")
    assert {kind for kind, things in found.items() if things} == {"operations", "buckets"}


def put(here: Tried, number: int, ago: timedelta, *, good: int, bad: int = 0, slow: int = 0) -> None:
    """Put what a version answered into Cloud Monitoring, and one 4xx: a slow one takes a second, others a tenth."""
    words = {"endpoint": "reviews", "deployed_model": here.deployed_id(number), "ago_s": ago.total_seconds()}
    for code, count in (("200", good), ("500", bad), ("400", 1)):
        here.double.post("metrics", values={"response_count": [count]}, labels={"response_code": code}, **words)
    times = [1000.0] * slow + [100.0] * (good + bad - slow)
    for kind, spread in (("total", times), ("model", [1.0] * len(times))):
        here.double.post("metrics", values={"prediction_latencies": spread}, labels={"latency_type": kind}, **words)


def counts(here: Tried, bound: float | None, minutes: int = 15) -> Sequence[BadOfAll]:
    """Return what is counted of the minutes before now."""
    now = here.clock.now()
    return here.provider.counts(here.version(1).identity, now - minutes * MINUTE, now, bound)


@pytest.fixture
def counted(here: Tried) -> Tried:
    """A candidate with a share, a quarter of an hour ago; it is half a minute past."""
    here.converge(here.beside(1, 2, 1000))
    here.move_on(15 * MINUTE)
    here.double.delete("journal")
    return here


def test_each_revision_is_counted_minute_by_minute(counted: Tried) -> None:
    """The rows are the revisions', by their deployed models; a minute in which nobody asked has none."""
    put(counted, 1, 7 * MINUTE, good=88, bad=2, slow=9)
    put(counted, 2, 7 * MINUTE, good=9, bad=1, slow=4)
    put(counted, 1, 9 * MINUTE, good=50)

    found = counts(counted, 512.0)

    rows = [(counted.named(each.revision), each.requests, each.errors, each.slow) for each in found]
    assert rows == [("v1", 51, 0, 0), ("v1", 91, 2, 9), ("v2", 11, 1, 4)]
    assert all(each.end - each.start == MINUTE and each.start.second == 0 for each in found)
    assert [counted.clock.now() - each.end for each in found][1:] == pytest.approx([7 * MINUTE] * 2, abs=MINUTE / 2)
    asked = [each["operation"] for each in counted.double.get("journal")]
    assert asked == ["GetEndpoint", "GetModel", "GetModel", "ListTimeSeries", "ListTimeSeries"]


def test_predictions_that_were_made_are_counted(counted: Tried) -> None:
    """What the endpoint itself answered, by the revision that did."""
    client = counted.double.client(vx.PredictionServiceClient)
    for _ in range(20):
        client.raw_predict(endpoint=ENDPOINT, http_body={"data": b"x"})
    counted.move_on(counted.provider.lag + MINUTE)

    found = counts(counted, 512.0)

    assert {(counted.named(each.revision), each.requests, each.errors, each.slow) for each in found} == {
        ("v1", 18, 0, 0),
        ("v2", 2, 0, 0),
    }


def test_a_minute_whose_values_may_still_come_is_not_counted(counted: Tried) -> None:
    """The lag that is told covers what comes late: at the end each minute has been counted whole, once."""
    for minutes in range(1, 9):
        put(counted, 1, timedelta(minutes=minutes, seconds=-1), good=9)
    counted.double.post("settings", metrics_lag_s=counted.provider.lag.total_seconds() - 1)

    found = counts(counted, None)

    assert [each.requests for each in found] == [10, 10, 10]
    assert all(each.end <= counted.clock.now() - counted.provider.lag for each in found)


def test_values_that_come_page_by_page_are_all_counted(counted: Tried) -> None:
    """Cloud Monitoring gives as many at a time as it likes."""
    for minutes in range(6, 12):
        put(counted, 1, minutes * MINUTE, good=minutes, slow=1)
        put(counted, 2, minutes * MINUTE, good=1, bad=1)
    whole = counts(counted, 512.0)

    counted.double.post("settings", metrics_page=5)

    assert len(whole) == 12
    assert counts(counted, 512.0) == whole


def test_what_may_not_be_all_is_not_counted(counted: Tried) -> None:
    """An answer with errors beside it is none: it is asked for again."""
    put(counted, 1, 7 * MINUTE, good=50)
    counted.double.post("settings", metrics_errors=["the query took too long"])

    with pytest.raises(ProviderFailed) as caught:
        counts(counted, 512.0)

    assert (caught.value.what, caught.value.why) == (
        "Cloud Monitoring did not give all values",
        "the query took too long",
    )
    assert caught.value.retryable


def test_what_is_not_there_is_counted_by_nobody(google: Double, here: Tried) -> None:
    """No endpoint, no rows; and nothing is asked about a time that has no whole minute yet."""
    here.double.delete("journal")
    assert counts(here, None, minutes=1) == ()
    assert google.get("journal") == []

    for step in here.provider.steps(None, here.seen(), AT_ONCE):
        here.do(step)

    assert counts(here, None) == ()


def test_shares_are_held_in_whole_percents(here: Tried) -> None:
    """A candidate's share is one percent at least; what is held comes back as it was asked."""
    held = [dict(here.provider.shares_that_hold({"one": WHOLE - each, "two": each})) for each in (1, 1250, 9999, 0)]

    assert [each["two"] for each in held] == [100, 1300, 9900, 0]
    assert [sum(each.values()) for each in held] == [WHOLE] * 4
    for each in held[:3]:
        here.converge(here.beside(1, 2, each["two"]))
        assert [share for _, _, share in here.roles()] == [each["one"], each["two"]]


def test_the_roles_allow_all_that_a_candidate_needs(counted: Tried) -> None:
    """Making, shifting, counting, promoting and giving up call nothing that is not allowed."""
    counts(counted, 512.0)
    counted.converge(counted.beside(1, 2, 5000))
    counted.converge(counted.version(2))
    counted.converge(counted.beside(2, 3, 1000))
    counted.converge(counted.version(2))

    calls: Sequence[Mapping[str, Any]] = counted.double.get("journal")
    called = {f"{each['service']}.{each['operation']}" for each in calls}
    made = counted.provider.policy(counted.version(1), f"gs://{BUCKET}/team")
    allowed = {each for role in made["roles"].values() for each in role["includedPermissions"]}
    assert permissions.needed(counted.version(1), called) <= allowed
    assert {each["permission"] for each in calls} - {""} <= allowed
    assert "MetricService.ListTimeSeries" in called
