"""What differs: fields in the spec's words, and nothing that moves by itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlscale.deployment import (
    WHOLE,
    Auxiliary,
    AuxiliaryKind,
    CustomMetric,
    Deployment,
    Health,
    Kind,
    Live,
    Metric,
    Phase,
    Replica,
    Role,
    Scaling,
    ScheduledBounds,
    ServedRevision,
    StepPolicy,
    TargetPolicy,
    revision_of,
)
from mlscale.plan.diff import bounds_text, changes, fields, number_text, share_text
from mlscale.plan.steps import Change
from tests.builders import a_content, a_deployment

RICH = a_deployment(
    revisions=(
        ServedRevision(
            revision_of(
                a_content(
                    framework_version="1.10",
                    handler="h1",
                    requirements="r1",
                    image="i1",
                    runtime="t1",
                    environment={"B": "2", "A": "1"},
                    machine=("small", "large"),
                    health=Health("/ready", timedelta(minutes=5)),
                )
            ),
            Role.STABLE,
            WHOLE,
        ),
    ),
    scaling=Scaling(
        min=2,
        max=4,
        target=(TargetPolicy(Metric.CPU, 70.0),),
        steps=(StepPolicy(Metric.CPU, 2, above=85.5), StepPolicy(Metric.CONCURRENCY, -1, below=1.0)),
        schedule=(ScheduledBounds("0 8 * * *", "Europe/Berlin", 4, 9), ScheduledBounds("0 20 * * *", max=3)),
    ),
    labels={"team": "search", "app": "reviews"},
)


def test_every_field_that_can_be_asked_for_is_text_in_the_specs_words() -> None:
    """A reader finds each field by the path that the spec has for it, in a fixed order."""
    [served] = RICH.revisions

    assert list(fields(RICH).items()) == [
        ("endpoint.kind", "realtime"),
        (f"revision {served.revision.id}", "stable 100%"),
        ("model.source", "one"),
        ("model.framework", "custom"),
        ("model.framework_version", "1.10"),
        ("model.handler", "h1"),
        ("model.requirements", "r1"),
        ("model.image", "i1"),
        ("runtime", "t1"),
        ("model.environment.A", "1"),
        ("model.environment.B", "2"),
        ("endpoint.machine", "small, large"),
        ("endpoint.health.path", "/ready"),
        ("endpoint.health.startup_timeout", "5m"),
        ("endpoint.replicas", "2 to 4"),
        ("endpoint.autoscaling.target[cpu]", "70 (cooldown in 5m, out 30s)"),
        ("endpoint.autoscaling.steps[0]", "cpu above 85.5: +2 (cooldown 1m)"),
        ("endpoint.autoscaling.steps[1]", "concurrency below 1: -1 (cooldown 1m)"),
        ("endpoint.autoscaling.schedule[0]", "0 8 * * * Europe/Berlin: min 4, max 9"),
        ("endpoint.autoscaling.schedule[1]", "0 20 * * * UTC: max 3"),
        ("labels.app", "reviews"),
        ("labels.team", "search"),
        ("fake.host", "127.0.0.1"),
        ("fake.port", "0"),
    ]


WATCHED = a_deployment(
    scaling=Scaling(
        min=0,
        max=4,
        target=(
            TargetPolicy(Metric.QUEUE_DEPTH, 5.0),
            TargetPolicy(Metric.CUSTOM, 2.5, custom=CustomMetric("Reviews", "Wait", "Maximum", {"B": "2", "A": "1"})),
            TargetPolicy(Metric.CUSTOM, 1.0, custom=CustomMetric("Reviews", "Load")),
        ),
    ),
    auxiliaries=(
        Auxiliary(AuxiliaryKind.ALARM, "p99_latency", {"above": "500ms", "notify": "a b"}),
        Auxiliary(AuxiliaryKind.DASHBOARD, "endpoint", {"shows": "requests"}),
    ),
    facts={"variant": "a"},
)


def test_what_watches_and_what_is_followed_is_text_too() -> None:
    """A metric of one's own is named whole, its dimensions in a fixed order; an alarm says when and whom it tells."""
    found = fields(WATCHED)

    assert {
        path: text for path, text in found.items() if path.startswith(("endpoint.autoscaling", "alarms", "dash"))
    } == {
        "endpoint.autoscaling.target[queue_depth]": "5 (cooldown in 5m, out 30s)",
        "endpoint.autoscaling.target[Reviews Wait]": "Maximum of A 1, B 2 at 2.5 (cooldown in 5m, out 30s)",
        "endpoint.autoscaling.target[Reviews Load]": "Average of all at 1 (cooldown in 5m, out 30s)",
        "alarms.p99_latency": "above 500ms, notify a b",
        "dashboards.endpoint": "shows requests",
    }
    assert list(found).index("alarms.p99_latency") > list(found).index("endpoint.autoscaling.target[Reviews Load]")


def test_a_machine_on_vertex_says_its_gpus_and_its_capacity() -> None:
    """Each by preference, so that spot capacity that is given up is seen in the plan."""
    [spot], [kept] = (
        a_deployment(revisions=(ServedRevision(revision_of(a_content(machine=machine)), Role.STABLE, WHOLE),)).revisions
        for machine in (("g2-standard-8+1xnvidia-l4+spot",), ("g2-standard-8+1xnvidia-l4", "n1-standard-4"))
    )
    found = changes(a_deployment(revisions=(kept,)), a_deployment(revisions=(spot,)))

    assert (
        Change("endpoint.machine", "g2-standard-8+1xnvidia-l4+spot", "g2-standard-8+1xnvidia-l4, n1-standard-4")
        in found
    )


def test_an_alarm_that_is_gone_is_a_difference() -> None:
    """Someone deleted it by hand: the plan will have it back."""
    seen = replace(WATCHED, auxiliaries=WATCHED.auxiliaries[1:])

    assert changes(WATCHED, seen) == (Change("alarms.p99_latency", None, "above 500ms, notify a b"),)


@pytest.mark.parametrize("deployment", [a_deployment(), RICH, WATCHED])
def test_the_same_is_no_difference(deployment: Deployment) -> None:
    """Nothing differs from itself."""
    assert changes(deployment, deployment) == ()


def test_what_moves_by_itself_is_no_difference() -> None:
    """Live counts, replicas, address, phase, marks, facts and where files are: none of it is asked for."""
    [served] = RICH.revisions
    moved = replace(
        RICH,
        revisions=(replace(served, live=Live(3, 1), replicas=(Replica("a", "starting"),), metric_dimension="v"),),
        sources={"a": "/b"},
        facts={"variant": "b"},
        phase=Phase.CHANGING,
        reason="busy",
        pending="operation-1",
        address="http://127.0.0.1:1",
        spec_hash="another",
    )

    assert changes(RICH, moved) == ()
    assert changes(moved, RICH) == ()


def test_a_difference_has_both_values() -> None:
    """What is gone has no after, what is new no before; the rest is left out."""
    seen = a_deployment(labels={"team": "search", "old": "x"})
    asked = a_deployment(labels={"team": "serving", "new": ""}, scaling=Scaling(min=2, max=2))

    assert changes(asked, seen) == (
        Change("endpoint.replicas", "1 to 4", "2"),
        Change("labels.old", "x", None),
        Change("labels.team", "search", "serving"),
        Change("labels.new", None, ""),
    )


def test_a_first_deploy_and_a_destroy_are_all_fields() -> None:
    """Against nothing every field is new, and to nothing every field is gone."""
    every = fields(RICH)

    assert changes(RICH, None) == tuple(Change(path, None, text) for path, text in every.items())
    assert changes(None, RICH) == tuple(Change(path, text, None) for path, text in every.items())
    assert changes(None, None) == ()


def test_a_new_model_differs_in_its_content_and_its_revision() -> None:
    """The files are named by digest, and both revisions by their shares."""
    seen, asked = a_deployment("one"), a_deployment("two")
    [old], [new] = seen.revisions, asked.revisions

    assert changes(asked, seen) == (
        Change(f"revision {old.revision.id}", "stable 100%", None),
        Change("model.source", "one", "two"),
        Change(f"revision {new.revision.id}", None, "stable 100%"),
    )


POLICIES = st.builds(
    TargetPolicy,
    st.just(Metric.CPU),
    st.floats(0.001, 1e9),
    st.integers(0, 10**9).map(lambda ms: timedelta(milliseconds=ms)),
    st.integers(0, 10**9).map(lambda ms: timedelta(milliseconds=ms)),
)
STEPS = st.builds(
    StepPolicy,
    st.sampled_from(Metric),
    st.integers(-9, 9),
    st.none() | st.floats(0, 1e9),
    st.none() | st.floats(0, 1e9),
    st.integers(0, 10**9).map(lambda ms: timedelta(milliseconds=ms)),
)
SCALINGS = st.builds(
    Scaling,
    st.integers(1, 3),
    st.integers(3, 5),
    st.tuples(POLICIES) | st.just(()),
    st.lists(STEPS, max_size=2).map(tuple),
    st.just(()),
)


@given(SCALINGS, SCALINGS)
def test_two_scalings_that_differ_never_read_alike(one: Scaling, other: Scaling) -> None:
    """No change of a policy, however small, is taken for none."""
    differ = changes(a_deployment(scaling=one), a_deployment(scaling=other)) != ()

    assert differ == (one != other)


def test_large_bounds_keep_their_digits() -> None:
    """1,000,001 requests a minute are not 1,000,002."""
    numbers = (1_000_001.0, 1_000_002.0, 1_234_567.25, 1_234_567.5, 0.001, 70.0)

    assert [number_text(number) for number in numbers] == [
        "1000001",
        "1000002",
        "1234567.25",
        "1234567.5",
        "0.001",
        "70",
    ]


@pytest.mark.parametrize(
    ("share", "words"), [(10_000, "100%"), (1250, "12.5%"), (1, "0.01%"), (0, "0%"), (3333, "33.33%")]
)
def test_a_share_is_shown_exactly(share: int, words: str) -> None:
    """Basis points have two digits after the point, and only those that are needed are shown."""
    assert share_text(share) == words


def test_a_fixed_count_is_one_number() -> None:
    """2 to 2 is 2."""
    assert (bounds_text(2, 2), bounds_text(2, 10)) == ("2", "2 to 10")


def test_a_serverless_endpoint_has_no_replicas_to_tell_of() -> None:
    """It has workers, and how many run is nobody's to ask for."""
    found = fields(a_deployment(kind=Kind.SERVERLESS, settings={"serverless.memory": "4Gi", "role": "r"}))

    assert "endpoint.replicas" not in found
    assert (found["endpoint.serverless.memory"], found["fake.role"]) == ("4Gi", "r")
