"""Steps on this machine: which there are, that they converge from anywhere, and what is told of what is there."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlscale.autoscaling.policy import candidate_replicas, starting_replicas
from mlscale.deployment import (
    WHOLE,
    Deployment,
    Health,
    Identity,
    Live,
    Phase,
    Replica,
    Revision,
    Role,
    RolloutWish,
    Scaling,
    ScheduledBounds,
    ServedRevision,
    revision_of,
)
from mlscale.plan import make
from mlscale.plan.steps import Change, Step, StepKind
from mlscale.providers.local.records import (
    Desired,
    DesiredRevision,
    Observed,
    ObservedReplica,
    ObservedRevision,
)
from mlscale.providers.local.translate import (
    AddRevision,
    AwaitRevision,
    Bake,
    Configure,
    DropRevision,
    GrowRevision,
    PrepareRevision,
    PromoteRevision,
    ShiftTraffic,
    StartEndpoint,
    StopEndpoint,
    deployment,
    garbage_steps,
    steps,
)
from tests.builders import NOON, a_content, a_deployment

IDENTITY = Identity("local", "reviews")
SCALING = Scaling(min=1, max=4)
ONE, TWO, THREE = (revision_of(a_content(name)) for name in ("one", "two", "three"))
PLAIN = RolloutWish()
BAKED = RolloutWish("blue_green", timedelta(minutes=5))
SOURCES = {"one": "/models/one", "two": "/models/two", "three": "/models/three"}


def asked(artifact: str = "one", **fields: object) -> Deployment:
    """Return what is asked for: one revision, on this machine."""
    return replace(a_deployment(artifact, identity=IDENTITY, scaling=SCALING, sources=SOURCES), **fields)  # type: ignore[arg-type]


def seen(*revisions: ServedRevision, **fields: object) -> Deployment:
    """Return what runs; without arguments the revision `one`, with two replicas."""
    served = revisions or (ServedRevision(ONE, Role.STABLE, WHOLE, Live(2, 2)),)
    known = asked(revisions=served, sources={}, address="http://127.0.0.1:8123")
    return replace(known, **fields)  # type: ignore[arg-type]


def keys(planned: Iterable[Step[object]]) -> list[str]:
    """Return what the steps are and do."""
    return [step.key for step in planned]


def test_a_first_deploy_starts_everything() -> None:
    """The endpoint and the files come first, then the replicas, their health, the traffic, and the settings."""
    id_ = ONE.id
    prepare, add = f"{id_}/prepare", f"{id_}/add"

    planned = steps(asked(), None, BAKED)

    assert [(step.key, step.kind, step.payload, step.after) for step in planned] == [
        ("endpoint/start", StepKind.CREATE, StartEndpoint("reviews", "127.0.0.1", 0, scaling=SCALING), ()),
        (prepare, StepKind.CREATE, PrepareRevision("reviews", ONE, "/models/one", None, None), ()),
        (add, StepKind.CREATE, AddRevision("reviews", ONE, start_with=1), ("endpoint/start", prepare)),
        (f"{id_}/wait", StepKind.WAIT, AwaitRevision("reviews", id_, timedelta(minutes=10)), (add,)),
        (f"{id_}/shift", StepKind.SHIFT, ShiftTraffic("reviews", {id_: WHOLE}), (f"{id_}/wait",)),
        (f"{id_}/promote", StepKind.UPDATE, PromoteRevision("reviews", id_), (f"{id_}/shift",)),
        (
            "endpoint/configure",
            StepKind.UPDATE,
            Configure("reviews", SCALING, {}, "127.0.0.1", 0, ""),
            (f"{id_}/promote",),
        ),
    ]
    assert not any(step.destroys or step.interrupts for step in planned)


@pytest.mark.parametrize("rollout", [PLAIN, BAKED])
def test_no_difference_is_no_step(rollout: RolloutWish) -> None:
    """What runs as asked is left alone, whatever its counts are."""
    for count in (1, 4, 9):
        running = ServedRevision(ONE, Role.STABLE, WHOLE, Live(count, count))

        assert steps(asked(), seen(running), rollout) == ()


def test_a_changed_model_starts_beside_the_old_one() -> None:
    """The new revision gets the traffic when it is healthy, and the old one goes last."""
    planned = steps(asked("two"), seen(), PLAIN)

    assert keys(planned) == [
        *(f"{TWO.id}/{act}" for act in ("prepare", "add", "wait", "shift", "promote")),
        f"{ONE.id}/drop",
    ]
    assert planned[1].changes == (Change("model.source", "one", "two"),)
    assert planned[3].changes == (
        Change(f"revision {ONE.id}", "100%", "0%"),
        Change(f"revision {TWO.id}", "0%", "100%"),
    )
    assert planned[5] == Step(
        f"{ONE.id}/drop",
        StepKind.DELETE,
        f"revision {ONE.id}",
        DropRevision("reviews", ONE.id),
        after=(f"{TWO.id}/promote",),
    )


def test_a_bake_is_watched_before_the_old_revision_goes() -> None:
    """Blue-green with a bake time waits between shift and promote, for as long as the spec says."""
    planned = steps(asked("two"), seen(), BAKED)
    bake = planned[4]

    assert keys(planned)[3:] == [f"{TWO.id}/shift", f"{TWO.id}/bake", f"{TWO.id}/promote", f"{ONE.id}/drop"]
    assert (bake.payload, bake.expected) == (Bake("reviews", TWO.id, timedelta(minutes=5)), timedelta(minutes=5))


def test_changed_scaling_and_labels_are_one_step_in_place() -> None:
    """No revision is touched and nothing is interrupted."""
    wanted = asked(scaling=Scaling(min=2, max=8), labels={"team": "search"}, spec_hash="h2")

    assert steps(wanted, seen(), PLAIN) == (
        Step(
            "endpoint/configure",
            StepKind.UPDATE,
            "endpoint settings",
            Configure("reviews", Scaling(min=2, max=8), {"team": "search"}, "127.0.0.1", 0, "h2"),
            changes=(Change("endpoint.replicas", "1 to 4", "2 to 8"), Change("labels.team", None, "search")),
        ),
    )


def test_another_port_interrupts() -> None:
    """Requests to the old address fail from then on, so it needs consent."""
    [step] = steps(asked(settings={"host": "127.0.0.1", "port": "9000"}), seen(), PLAIN)

    assert (step.key, step.interrupts, step.destroys) == ("endpoint/configure", True, False)
    assert step.changes == (Change("local.port", "0", "9000"),)


def test_a_supervisor_that_is_gone_is_started_again() -> None:
    """The same spec heals it: one supervisor, and the revision's health is waited for."""
    gone = seen(ServedRevision(ONE, Role.STABLE, WHOLE), address=None, phase=Phase.FAILED, reason="it is gone")

    planned = steps(asked(), gone, PLAIN)

    assert keys(planned) == ["endpoint/start", f"{ONE.id}/prepare", f"{ONE.id}/wait"]
    assert planned[2].after == ("endpoint/start", f"{ONE.id}/prepare")


def test_what_has_failed_is_healed_with_the_new_settings() -> None:
    """A port that is taken may be why nothing serves, so the new one comes before health is waited for."""
    failed = seen(phase=Phase.FAILED, reason="the port is taken")

    planned = steps(asked(settings={"host": "127.0.0.1", "port": "9000"}), failed, PLAIN)

    assert keys(planned) == ["endpoint/configure", f"{ONE.id}/prepare", f"{ONE.id}/wait"]
    assert planned[2].after == ("endpoint/configure", f"{ONE.id}/prepare")


def test_a_new_revision_waits_for_a_supervisor_that_is_gone() -> None:
    """Healing and a takeover are one plan."""
    gone = seen(ServedRevision(ONE, Role.STABLE, WHOLE), address=None, phase=Phase.FAILED, reason="it is gone")

    planned = steps(asked("two"), gone, PLAIN)

    assert keys(planned)[:3] == ["endpoint/start", f"{TWO.id}/prepare", f"{TWO.id}/add"]
    assert planned[2].after == ("endpoint/start", f"{TWO.id}/prepare")


def test_a_rollback_goes_back_to_an_earlier_revision() -> None:
    """Its files are there already, so none are named; scaling and labels stay as they are."""
    running = seen(scaling=Scaling(min=2, max=9), labels={"a": "b"})
    wanted = make.with_revision(running, ServedRevision(TWO, Role.STABLE, WHOLE))

    planned = steps(wanted, running, PLAIN)

    assert keys(planned)[-1] == f"{ONE.id}/drop"
    assert "endpoint/configure" not in keys(planned)
    assert planned[0].payload == PrepareRevision("reviews", TWO, None, None, None)


def test_a_takeover_that_failed_is_taken_back() -> None:
    """From a candidate with all traffic back to the stable revision, which can answer: at once, without a bake."""
    half = seen(ServedRevision(ONE, Role.STABLE, 0, Live(2, 2)), ServedRevision(TWO, Role.CANDIDATE, WHOLE, Live(2, 0)))
    back = make.back_to_stable(half)

    planned = steps(back, half, BAKED)

    assert keys(planned) == [f"{ONE.id}/shift", f"{TWO.id}/drop"]


def test_a_stable_revision_that_can_not_answer_is_waited_for() -> None:
    """Nothing that serves is taken away before what shall serve can."""
    half = seen(ServedRevision(ONE, Role.STABLE, 0, Live(2, 0)), ServedRevision(TWO, Role.CANDIDATE, WHOLE, Live(2, 2)))

    planned = steps(make.back_to_stable(half), half, PLAIN)

    assert keys(planned) == [f"{ONE.id}/wait", f"{ONE.id}/shift", f"{TWO.id}/drop"]


def test_destroying_is_one_step_that_says_so() -> None:
    """It destroys, interrupts, and has every field that goes; nothing there is nothing to do."""
    [step] = steps(None, seen(), PLAIN)

    assert (step.key, step.kind, step.payload) == ("endpoint/stop", StepKind.DELETE, StopEndpoint("reviews"))
    assert (step.destroys, step.interrupts) == (True, True)
    assert all(change.after is None for change in step.changes)
    assert steps(None, None, PLAIN) == ()


def test_garbage_is_a_step_a_folder() -> None:
    """Each folder that nothing uses is deleted by its own step."""
    planned = garbage_steps("reviews", ("revisions/aa", "environments/bb"))

    assert [(step.kind, step.subject) for step in planned] == [
        (StepKind.DELETE, "files of revisions/aa"),
        (StepKind.DELETE, "files of environments/bb"),
    ]
    assert len(set(keys(planned))) == 2


@pytest.mark.parametrize(
    ("live", "scaling", "count"),
    [
        (None, Scaling(min=1, max=4), 1),
        (Live(3, 3), Scaling(min=1, max=4), 3),
        (Live(3, 1), Scaling(min=1, max=4), 3),
        (Live(9, 9), Scaling(min=1, max=4), 4),
        (Live(1, 1), Scaling(min=2, max=4), 2),
        (Live(0, 0), Scaling(min=1, max=4), 1),
        (Live(9, 9), Scaling(min=1, max=4, schedule=(ScheduledBounds("0 8 * * *", max=10),)), 9),
    ],
)
def test_a_new_revision_starts_with_what_autoscaling_has_set(live: Live | None, scaling: Scaling, count: int) -> None:
    """Live capacity is never reset: the count that is wanted now, within the bounds that are asked for."""
    running = seen(ServedRevision(ONE, Role.STABLE, WHOLE, live))

    add = next(step for step in steps(asked("two", scaling=scaling), running, PLAIN) if step.key.endswith("/add"))

    assert starting_replicas(scaling, running) == count
    assert add.payload == AddRevision("reviews", TWO, start_with=count)
    assert add.subject == f"revision {TWO.id} with {'1 replica' if count == 1 else f'{count} replicas'}"


def test_a_new_revision_starts_with_what_the_traffic_needs() -> None:
    """After a run that was cut off past its shift the candidate has the traffic, and its count is what counts."""
    stable = ServedRevision(ONE, Role.STABLE, 0, Live(1, 1))
    candidate = ServedRevision(TWO, Role.CANDIDATE, WHOLE, Live(3, 3))

    assert starting_replicas(SCALING, seen(stable, candidate)) == 3


def test_what_a_candidate_was_given_already_is_no_reason_for_more() -> None:
    """A run that was cut off before it shifted the traffic goes on with the count that it had worked out."""
    before = seen(
        ServedRevision(ONE, Role.STABLE, 9000, Live(5, 5)), ServedRevision(TWO, Role.CANDIDATE, 1000, Live(1, 1))
    )
    grown = seen(
        ServedRevision(ONE, Role.STABLE, 9000, Live(5, 5)), ServedRevision(TWO, Role.CANDIDATE, 1000, Live(6, 6))
    )
    scaling = Scaling(min=1, max=10)

    assert [starting_replicas(scaling, each) for each in (before, grown)] == [6, 6]
    assert [candidate_replicas(scaling, each, 5000) for each in (before, grown)] == [3, 3]


@pytest.mark.parametrize(("share", "count"), [(0, 1), (1, 1), (1000, 1), (2500, 2), (5001, 4), (WHOLE, 7)])
def test_a_candidate_has_replicas_for_its_share(share: int, count: int) -> None:
    """Of what autoscaling has set for the traffic, rounded up; one at least, which answers nothing but its checks."""
    running = seen(ServedRevision(ONE, Role.STABLE, WHOLE, Live(7, 7)))

    assert candidate_replicas(Scaling(min=1, max=9), running, share) == count


def test_a_first_deploy_shows_the_settings_that_it_makes() -> None:
    """Bounds, labels and the port stand in the plan, and nothing is interrupted: nothing serves yet."""
    configure = steps(asked(labels={"team": "search"}), None, PLAIN)[-1]

    assert configure.changes == (
        Change("endpoint.replicas", None, "1 to 4"),
        Change("labels.team", None, "search"),
        Change("local.host", None, "127.0.0.1"),
        Change("local.port", None, "0"),
    )
    assert not configure.interrupts


def test_a_candidate_whose_files_are_gone_is_prepared_again() -> None:
    """A takeover that goes on does not wait for replicas that can't start."""
    world = seen(
        ServedRevision(ONE, Role.STABLE, WHOLE, Live(1, 1)),
        ServedRevision(TWO, Role.CANDIDATE, 0),
        phase=Phase.FAILED,
        reason="its files are gone",
    )

    planned = keys(steps(asked("two"), world, PLAIN))

    assert planned[:3] == [f"{TWO.id}/prepare", f"{TWO.id}/grow", f"{TWO.id}/wait"]


def trial(
    share: int, role: Role = Role.CANDIDATE, of: Revision = TWO, labels: Mapping[str, str] | None = None
) -> Deployment:
    """Return what is asked for while `of` is tried beside the revision `one`."""
    rest = WHOLE if role is Role.SHADOW else WHOLE - share
    both = (ServedRevision(ONE, Role.STABLE, rest), ServedRevision(of, role, share))
    return asked(revisions=both, labels=labels or {})


def tried(share: int, live: Live | None = None, role: Role = Role.CANDIDATE, of: Revision = TWO) -> Deployment:
    """Return what runs while `of` is tried beside the revision `one`, which has four replicas."""
    rest = WHOLE if role is Role.SHADOW else WHOLE - share
    return seen(ServedRevision(ONE, Role.STABLE, rest, Live(4, 4)), ServedRevision(of, role, share, live or Live(1, 1)))


def test_a_candidate_is_made_without_traffic_then_gets_its_share() -> None:
    """Its replicas are those that its share needs; nothing is done to the stable revision but the shift."""
    running = seen(ServedRevision(ONE, Role.STABLE, WHOLE, Live(4, 4)))

    prepare, add, wait, shift = steps(trial(2600), running, PLAIN)

    assert (prepare.key, prepare.kind) == (f"{TWO.id}/prepare", StepKind.CREATE)
    assert add.payload == AddRevision("reviews", TWO, start_with=2)
    assert add.changes == (Change("model.source", "one", "two"),)
    assert wait.payload == AwaitRevision("reviews", TWO.id, timedelta(minutes=10))
    assert shift == Step(
        f"{TWO.id}/shift",
        StepKind.SHIFT,
        f"revision {TWO.id}",
        ShiftTraffic("reviews", {ONE.id: 7400, TWO.id: 2600}),
        after=(f"{TWO.id}/wait",),
        changes=(Change(f"revision {ONE.id}", "100%", "74%"), Change(f"revision {TWO.id}", "0%", "26%")),
    )


def test_a_candidate_without_a_share_is_made_and_waited_for() -> None:
    """There is no shift to make."""
    assert keys(steps(trial(0), seen(), PLAIN)) == [f"{TWO.id}/{act}" for act in ("prepare", "add", "wait")]


def test_more_replicas_come_before_the_traffic_and_fewer_go_with_it() -> None:
    """A share that grows finds its replicas healthy; one that falls takes them along, in one change."""
    up = steps(trial(5000), tried(1000), PLAIN)
    down = steps(trial(1000), tried(5000, Live(2, 2)), PLAIN)

    assert keys(up) == [f"{TWO.id}/{act}" for act in ("grow", "wait", "shift")]
    assert up[0] == Step(
        f"{TWO.id}/grow",
        StepKind.SCALE,
        f"revision {TWO.id} with 2 replicas",
        GrowRevision("reviews", TWO.id, 2),
        changes=(Change(f"replicas of revision {TWO.id}", "1 replica", "2 replicas"),),
    )
    assert [each.payload for each in down] == [
        ShiftTraffic("reviews", {ONE.id: 9000, TWO.id: 1000}, replicas={TWO.id: 1})
    ]


def test_a_share_that_grows_takes_nothing_from_what_autoscaling_has_set() -> None:
    """A candidate that has more replicas than its new share needs keeps them."""
    assert keys(steps(trial(2500), tried(1000, Live(3, 3)), PLAIN)) == [f"{TWO.id}/wait", f"{TWO.id}/shift"]


@pytest.mark.parametrize("role", [Role.CANDIDATE, Role.SHADOW])
@pytest.mark.parametrize("share", [0, 1000, 5000])
def test_a_candidate_as_asked_is_no_step(role: Role, share: int) -> None:
    """Whatever its count and the stable one's."""
    for count in (1, 4):
        assert steps(trial(share, role), tried(share, Live(count, count), role), BAKED) == ()


def test_a_candidate_that_a_cut_off_run_has_made_is_waited_for() -> None:
    """It is there without traffic, as asked, and not healthy yet."""
    assert keys(steps(trial(0), tried(0, Live(1, 0)), PLAIN)) == [f"{TWO.id}/wait"]


def test_a_candidate_is_promoted_as_it_is() -> None:
    """It is not made again: it grows to what all traffic needs, gets it, and the old one goes last."""
    planned = steps(asked("two"), tried(5000, Live(2, 2)), PLAIN)

    assert keys(planned) == [*(f"{TWO.id}/{act}" for act in ("grow", "wait", "shift", "promote")), f"{ONE.id}/drop"]
    assert planned[0].payload == GrowRevision("reviews", TWO.id, 4)
    assert planned[-1].after == (f"{TWO.id}/promote",)


def test_an_abort_waits_for_nothing() -> None:
    """All traffic goes to the stable revision at once, also where the candidate is why something has failed."""
    failing = replace(tried(5000, Live(1, 0)), phase=Phase.FAILED, reason="no replica is healthy")

    for world in (tried(5000), failing):
        planned = steps(asked(), world, BAKED)
        assert [each.payload for each in planned] == [
            ShiftTraffic("reviews", {ONE.id: WHOLE}),
            DropRevision("reviews", TWO.id),
        ]


def test_another_candidate_replaces_the_one_that_is_tried() -> None:
    """The old one's traffic goes first, then itself, and the new one is made after that; the stable one stays."""
    planned = steps(trial(1000, of=THREE), tried(5000, Live(2, 2)), PLAIN)

    assert keys(planned) == [
        f"{ONE.id}/clear",
        f"{TWO.id}/drop",
        *(f"{THREE.id}/{act}" for act in ("prepare", "add", "wait", "shift")),
    ]
    clear, drop, _, add = planned[:4]
    assert clear.payload == ShiftTraffic("reviews", {ONE.id: WHOLE})
    assert (drop.after, add.after) == ((clear.key,), (clear.key, drop.key, f"{THREE.id}/prepare"))


def test_a_shadow_gets_copies_and_the_stable_revision_keeps_all_traffic() -> None:
    """Its share is that of the requests that are copied."""
    shift = steps(trial(WHOLE, Role.SHADOW), seen(), PLAIN)[-1]

    assert shift.payload == ShiftTraffic("reviews", {ONE.id: WHOLE, TWO.id: WHOLE}, shadow=TWO.id)


def test_a_shadow_becomes_a_candidate_in_place() -> None:
    """It is there already; with less to do than before it needs fewer replicas."""
    planned = steps(trial(1000), tried(WHOLE, Live(4, 4), Role.SHADOW), PLAIN)

    assert [each.payload for each in planned] == [
        ShiftTraffic("reviews", {ONE.id: 9000, TWO.id: 1000}, replicas={TWO.id: 1})
    ]


def test_a_candidate_is_healed_beside_a_supervisor_that_is_started() -> None:
    """Both revisions are waited for: the supervisor that was killed had both."""
    gone = replace(tried(1000), address=None, phase=Phase.FAILED, reason="it is gone")

    assert keys(steps(trial(1000), gone, PLAIN)) == [
        "endpoint/start",
        *(f"{each.id}/{act}" for each in (ONE, TWO) for act in ("prepare", "wait")),
    ]


def done(world: Deployment | None, step: Step[object]) -> Deployment | None:
    """Return the world after `step`, by hand; what a step does twice it does once."""
    match step.payload:
        case StartEndpoint() as start:
            settings = {"host": start.host, "port": str(start.port)}
            fresh = Deployment(IDENTITY, scaling=start.scaling, settings=settings)
            return replace(world or fresh, address="http://127.0.0.1:8123", phase=Phase.STEADY, reason="")
        case StopEndpoint():
            return None
        case PrepareRevision() | Bake():
            return world
    assert world is not None
    revisions = world.revisions
    match step.payload:
        case AwaitRevision() as wait:
            revisions = tuple(
                replace(each, live=each.live or Live(1, 1)) if each.revision.id == wait.id else each
                for each in revisions
            )
        case AddRevision() as add:
            if all(each.revision != add.revision for each in revisions):
                live = Live(add.start_with, add.start_with)
                revisions = (*revisions, ServedRevision(add.revision, Role.CANDIDATE, 0, live))
        case GrowRevision() as grow:
            assert any(each.revision.id == grow.id for each in revisions)
            live = Live(grow.replicas, grow.replicas)
            revisions = tuple(replace(each, live=live) if each.revision.id == grow.id else each for each in revisions)
        case ShiftTraffic() as shift:
            assert shift.shares.keys() <= {each.revision.id for each in revisions}
            revisions = tuple(shifted(each, shift) for each in revisions)
        case PromoteRevision() as promote:
            left = tuple(replace(each, role=Role.RETIRED) if each.role is Role.STABLE else each for each in revisions)
            revisions = tuple(
                replace(each, role=Role.STABLE) if each.revision.id == promote.id else each for each in left
            )
        case DropRevision() as drop:
            revisions = tuple(each for each in revisions if each.revision.id != drop.id)
        case Configure() as new:
            settings = {"host": new.host, "port": str(new.port)}
            world = replace(world, scaling=new.scaling, labels=new.labels, settings=settings, spec_hash=new.spec_hash)
        case _:
            raise AssertionError(step)
    return replace(world, revisions=revisions)


def shifted(served: ServedRevision, shift: ShiftTraffic) -> ServedRevision:
    """Return a revision after a shift."""
    id_, role = served.revision.id, served.role
    if id_ in shift.shares and role is not Role.STABLE:
        role = Role.SHADOW if id_ == shift.shadow else Role.CANDIDATE
    count = shift.replicas.get(id_)
    return replace(served, role=role, share=shift.shares.get(id_, 0), live=Live(count, count) if count else served.live)


def an_order(planned: tuple[Step[object], ...], chance: random.Random) -> list[Step[object]]:
    """Return the steps in one of the orders that `after` allows: the engine runs independent ones side by side."""
    left, order = list(planned), []
    while left:
        ready = [step for step in left if not {each.key for each in left} & set(step.after)]
        order.append(chance.choice(ready))
        left.remove(order[-1])
    return order


WORLDS = (
    None,
    seen(),
    seen(ServedRevision(ONE, Role.STABLE, WHOLE), address=None, phase=Phase.FAILED, reason="it is gone"),
    seen(ServedRevision(ONE, Role.STABLE, WHOLE), ServedRevision(TWO, Role.CANDIDATE, 0)),
    seen(ServedRevision(ONE, Role.STABLE, 0), ServedRevision(TWO, Role.CANDIDATE, WHOLE)),
    seen(ServedRevision(ONE, Role.RETIRED, 0), ServedRevision(TWO, Role.STABLE, WHOLE)),
    seen(ServedRevision(THREE, Role.CANDIDATE, 0), revisions=()),
    tried(0),
    tried(1000),
    tried(5000, Live(2, 2)),
    tried(WHOLE, Live(4, 4), Role.SHADOW),
    tried(1000, of=THREE),
    replace(tried(1000), address=None, phase=Phase.FAILED, reason="it is gone"),
)
WISHES = (
    asked(),
    asked("two"),
    asked("three", scaling=Scaling(min=2, max=3), labels={"a": "b"}),
    asked("two", settings={"host": "127.0.0.1", "port": "9000"}),
    trial(0),
    trial(1000),
    trial(5000, labels={"a": "b"}),
    trial(2000, of=THREE),
    trial(5000, Role.SHADOW),
    None,
)


@given(
    st.sampled_from(WORLDS),
    st.sampled_from(WISHES),
    st.sampled_from(WISHES),
    st.integers(0, 2**32),
    st.sampled_from([PLAIN, BAKED]),
)
def test_a_run_that_was_cut_off_anywhere_converges(
    before: Deployment | None, first: Deployment | None, second: Deployment | None, seed: int, rollout: RolloutWish
) -> None:
    """After any steps of a first plan, in any order they may run in, a second plan ends where it was asked to end.

    At no moment is the traffic with a revision that is not there, or the stable one gone before another has it all.
    """
    chance = random.Random(seed)  # noqa: S311, no secret depends on it
    order = an_order(steps(first, before, rollout), chance)
    world = before
    for step in order[: chance.randint(0, len(order))]:
        world = done(world, step)
        assert_served(world, before)

    for step in an_order(steps(second, world, rollout), chance):
        world, earlier = done(world, step), world
        assert_served(world, earlier)

    assert make.difference(second, world) == ()
    assert steps(second, world, rollout) == ()


def assert_served(world: Deployment | None, before: Deployment | None) -> None:
    """Check that all traffic has a revision, if it had one before."""
    if world and before and any(each.share for each in before.revisions):
        assert sum(each.share for each in world.revisions if each.role is not Role.SHADOW) == WHOLE
        assert before.stable is None or world.stable is not None


def a_record(*revisions: DesiredRevision, **fields: object) -> Desired:
    """Return what is desired; without arguments the revision `one` with all traffic."""
    known = {
        "name": "reviews",
        "generation": 3,
        "scaling": SCALING,
        "labels": {"team": "search"},
        "spec_hash": "h1",
        "revisions": revisions
        or (DesiredRevision(id=ONE.id, content=ONE.content, role=Role.STABLE, share=WHOLE, start_with=1),),
    }
    return Desired.model_validate({**known, **fields})


def an_observation(*replicas: ObservedReplica, **fields: object) -> Observed:
    """Return what the supervisor sees of the revision `one`."""
    known = {
        "pid": 1,
        "pid_started": "1",
        "at": NOON,
        "generation": 3,
        "host": "127.0.0.1",
        "port": 8123,
        "revisions": (ObservedRevision(id=ONE.id, share=WHOLE, wanted=2, replicas=replicas),),
    }
    return Observed.model_validate({**known, **fields})


HEALTHY = ObservedReplica(name="r-1", pid=2, port=9001, health="healthy")
BROKEN = ObservedReplica(name="r-2", pid=3, port=9002, health="backing_off", restarts=4, detail="exit code 1")


def test_what_is_there_is_what_was_asked_and_what_is_seen() -> None:
    """Bounds and labels come from the record, counts and health from the supervisor."""
    assert deployment(IDENTITY, a_record(), an_observation(HEALTHY, BROKEN)) == Deployment(
        identity=IDENTITY,
        revisions=(
            ServedRevision(
                ONE,
                Role.STABLE,
                WHOLE,
                Live(desired=2, ready=1),
                (Replica("r-1", "healthy"), Replica("r-2", "backing_off", 4, "exit code 1")),
                metric_dimension=f'revision="{ONE.id}"',
            ),
        ),
        scaling=SCALING,
        labels={"team": "search"},
        settings={"host": "127.0.0.1", "port": "0"},
        phase=Phase.STEADY,
        address="http://127.0.0.1:8123",
        spec_hash="h1",
    )


def test_a_deployment_as_asked_reads_back_without_a_difference() -> None:
    """What is read is compared with what was asked, so both say the same in the same words."""
    read = deployment(IDENTITY, a_record(), an_observation(HEALTHY))

    assert make.difference(asked(labels={"team": "search"}), read) == ()


@pytest.mark.parametrize(
    ("observed", "trouble", "damage", "phase", "reason"),
    [
        (None, "", "", Phase.CHANGING, "the supervisor has not taken up the last change yet"),
        (
            an_observation(HEALTHY, generation=2),
            "",
            "",
            Phase.CHANGING,
            "the supervisor has not taken up the last change yet",
        ),
        (None, "the supervisor is gone", "", Phase.FAILED, "the supervisor is gone"),
        (
            an_observation(HEALTHY),
            "",
            "the files of revision x are gone",
            Phase.FAILED,
            "the files of revision x are gone",
        ),
        (an_observation(HEALTHY, failed="the port is taken"), "", "", Phase.FAILED, "the port is taken"),
        (
            an_observation(BROKEN),
            "",
            "",
            Phase.FAILED,
            f"no replica of revision {ONE.id} is healthy: exit code 1",
        ),
        (an_observation(), "", "", Phase.FAILED, f"no replica of revision {ONE.id} is healthy: they are starting"),
        (
            an_observation(revisions=()),
            "",
            "",
            Phase.FAILED,
            f"no replica of revision {ONE.id} is healthy: they are starting",
        ),
    ],
)
def test_a_phase_that_is_not_steady_has_its_reason(
    observed: Observed | None, trouble: str, damage: str, phase: Phase, reason: str
) -> None:
    """What does not serve is never told as steady, and why is told with it."""
    found = deployment(IDENTITY, a_record(), observed, trouble=trouble, damage=damage)

    assert (found.phase, found.reason) == (phase, reason)


def test_without_a_supervisor_there_is_no_address_and_no_count() -> None:
    """Unknown counts are not zero, and an address that nobody answers at is none."""
    found = deployment(IDENTITY, a_record(), None, trouble="it is gone")

    assert found.address is None
    assert [each.live for each in found.revisions] == [None]


def test_a_revision_without_traffic_need_not_be_healthy() -> None:
    """A candidate that starts does not make the endpoint failed."""
    candidate = DesiredRevision(id=TWO.id, content=TWO.content, role=Role.CANDIDATE, share=0, start_with=1)
    stable = DesiredRevision(id=ONE.id, content=ONE.content, role=Role.STABLE, share=WHOLE, start_with=1)

    assert deployment(IDENTITY, a_record(stable, candidate), an_observation(HEALTHY)).phase is Phase.STEADY


@pytest.mark.parametrize("wanted", [trial(1000), trial(0), trial(WHOLE, Role.SHADOW), trial(3333, Role.SHADOW)])
def test_what_is_tried_reads_back_as_it_was_asked(wanted: Deployment) -> None:
    """Both roles and shares, to the basis point, each with its own counts and the name that its metrics have."""
    record = a_record(
        *(
            DesiredRevision(
                id=each.revision.id, content=each.revision.content, role=each.role, share=each.share, start_with=1
            )
            for each in wanted.revisions
        ),
        labels={},
    )
    observed = an_observation(
        revisions=tuple(
            ObservedRevision(id=each.revision.id, share=each.share, wanted=1, replicas=(HEALTHY,))
            for each in wanted.revisions
        )
    )

    read = deployment(IDENTITY, record, observed)

    assert make.difference(wanted, read) == ()
    assert (read.phase, steps(wanted, read, PLAIN)) == (Phase.STEADY, ())
    assert [each.live for each in read.revisions] == [Live(1, 1), Live(1, 1)]
    assert [each.metric_dimension for each in read.revisions] == [f'revision="{each.id}"' for each in (ONE, TWO)]


def test_the_startup_timeout_is_the_revisions_own() -> None:
    """A model that needs long to load is waited for as long as its spec says."""
    slow = revision_of(a_content("slow", health=Health("/ping", timedelta(hours=1))))
    wanted = asked(revisions=(ServedRevision(slow, Role.STABLE, WHOLE),))

    waits = [step.payload for step in steps(wanted, None, PLAIN) if step.kind is StepKind.WAIT]

    assert waits == [AwaitRevision("reviews", slow.id, timedelta(hours=1))]
