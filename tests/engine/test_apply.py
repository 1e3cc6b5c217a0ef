"""A plan carried out over a provider that breaks: what serves afterwards, and what is said of it."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace

import pytest

from mlscale.deployment import WHOLE, Live, Scaling
from mlscale.engine import plans
from mlscale.engine.run import ApplyOptions
from mlscale.errors import (
    Interrupted,
    LeaseHeld,
    LeaseLost,
    NotAsAsked,
    NotDeployed,
    PlanStale,
    ProviderFailed,
    RolledBack,
    Terminated,
    TimedOut,
    Unsupported,
    UsageError,
)
from mlscale.state import revisions
from mlscale.state.journal import StepBegan, StepFailed, events, runs
from mlscale.state.lease import acquire
from tests.doubles.fake_provider import Fault, Op
from tests.doubles.mortal import Killed, Mortal
from tests.engine.conftest import MODELS, SPEC, Engine

TAKEOVER = (Op.ADD, Op.WAIT, Op.SHIFT)
ONE, TWO = ("stable", "one", WHOLE), ("stable", "two", WHOLE)


def journalled(engine: Engine) -> list[str]:
    """Return what the last run's journal says, a word an event."""
    run = runs(engine.store, "reviews")[-1]
    return [f"{each.event} {getattr(each, 'key', '')}".strip() for each in events(engine.store, "reviews", run)]


def test_a_deploy_is_journalled_before_and_after_each_step(engine: Engine) -> None:
    """Intent, then the call, then by which name it goes on, then the outcome, for every step in its order."""
    applied = engine.deploy()

    assert engine.there is not None
    assert engine.there.stable is not None
    new = engine.there.stable.revision.id
    assert applied.outcome == "done"
    assert engine.provider.calls == ["endpoint/create", f"{new}/add", f"{new}/wait", f"{new}/shift"]
    assert journalled(engine) == [
        "run_started",
        *(
            f"step_{word} {key}"
            for key in engine.provider.calls
            for word in ("intended", *(("began",) if key.endswith("/wait") else ()), "done")
        ),
        "run_finished",
    ]


def test_the_same_spec_again_touches_nothing(engine: Engine) -> None:
    """No difference: no step, no lease, no run."""
    engine.deploy()
    calls, ran = list(engine.provider.calls), list(runs(engine.store, "reviews"))

    applied = engine.deploy()

    assert applied.outcome == "unchanged"
    assert (engine.provider.calls, runs(engine.store, "reviews")) == (calls, ran)


def test_live_counts_are_not_a_difference(engine: Engine) -> None:
    """What autoscaling has set is no step for a deploy, and a new revision starts with as many."""
    engine.deploy()
    _scale(engine, Live(desired=3, ready=3))
    assert engine.deploy().outcome == "unchanged"
    engine.write("two")

    engine.deploy()

    assert engine.there is not None
    assert [each.live for each in engine.there.revisions] == [Live(desired=3, ready=3)]


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER])
@pytest.mark.parametrize("op", TAKEOVER)
def test_a_failed_takeover_is_taken_back(engine: Engine, op: Op, fault: Fault) -> None:
    """Whichever step fails, and whether it had an effect or not: the old revision serves alone, exit code 4."""
    engine.deploy()
    engine.write("two")
    engine.provider.faults = {op: fault}
    old = engine.there.stable.revision.id if engine.there and engine.there.stable else ""

    with pytest.raises(RolledBack) as caught:
        engine.deploy()

    assert engine.serving() == [ONE]
    assert caught.value.exit_code == 4
    assert caught.value.what == "the fake broke"
    assert caught.value.why.startswith(fault.name.lower())
    assert caught.value.why.endswith(f"\nrevision {old} serves, as before")
    assert journalled(engine)[-1] == "run_finished"

    engine.provider.faults = {}
    engine.deploy()
    assert engine.serving() == [TWO]


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER])
@pytest.mark.parametrize("op", [Op.CREATE, *TAKEOVER])
def test_a_failed_first_deploy_leaves_nothing(engine: Engine, op: Op, fault: Fault) -> None:
    """There is nothing to go back to: what was made is taken down, and the failure keeps its name and code."""
    engine.provider.faults = {op: fault}

    with pytest.raises(ProviderFailed) as caught:
        engine.deploy()

    assert engine.there is None
    assert caught.value.exit_code == 1
    assert caught.value.why.endswith("\nwhat was made for it is taken down again")

    engine.provider.faults = {}
    engine.deploy()
    assert engine.serving() == [ONE]


def test_failed_settings_are_taken_back(engine: Engine) -> None:
    """Scaling and labels that the provider took, and then failed over, are what they were."""
    engine.deploy()
    engine.write("one", SPEC.replace("max: 4", "max: 9") + "labels: {team: search}\n")
    engine.provider.faults = {Op.CONFIGURE: Fault.AFTER}

    with pytest.raises(RolledBack):
        engine.deploy()

    assert engine.there is not None
    assert (engine.there.scaling, engine.there.labels) == (Scaling(min=1, max=4), {})


def test_what_fails_on_the_way_back_is_told_with_the_first_failure(engine: Engine) -> None:
    """Both reasons are there, under the first one's name; the next deploy mends it."""
    engine.deploy()
    engine.write("two")
    engine.provider.faults = {Op.SHIFT: Fault.AFTER, Op.DROP: Fault.BEFORE}

    with pytest.raises(ProviderFailed) as caught:
        engine.deploy()

    assert caught.value.why.startswith("after ")
    assert "\ntaking it back failed as well: the fake broke: " in caught.value.why

    engine.provider.faults = {}
    engine.deploy()
    assert engine.serving() == [TWO]


@pytest.mark.parametrize("fault", [Fault.BUSY, Fault.LOST])
@pytest.mark.parametrize("op", [Op.CREATE, *TAKEOVER])
def test_a_retryable_failure_is_tried_again(engine: Engine, op: Op, fault: Fault) -> None:
    """Twice busy, with growing pauses, then it works; a call that worked unheard is not made again."""
    engine.provider.faults = {op: fault}

    engine.deploy()

    assert engine.serving() == [ONE]
    calls = sum(key.endswith(f"/{op}") for key in engine.provider.calls)
    retries = [event for event in engine.events if event.kind == "retry"]
    if fault is Fault.LOST and op is not Op.WAIT:
        assert (calls, len(retries)) == (1, 1)
    else:
        assert (calls, len(retries)) == (3, 2)
        assert [each for each in engine.clock.slept if each in (0.5, 1.0)] == [0.5, 1.0]


def test_a_step_that_stays_busy_fails_at_last(engine: Engine) -> None:
    """Five tries, then the failure; the journal says that again may help."""
    engine.provider.faults = {Op.CREATE: Fault.ALWAYS_BUSY}

    with pytest.raises(ProviderFailed):
        engine.deploy()

    assert engine.provider.calls.count("endpoint/create") == 5
    failed = events(engine.store, "reviews", runs(engine.store, "reviews")[-1])
    assert [each.retryable for each in failed if isinstance(each, StepFailed)] == [True]


def test_a_step_of_many_calls_is_tried_as_long_as_it_comes_further(engine: Engine) -> None:
    """Each of seven calls is refused once: the tries of one are not counted against the next."""
    engine.provider.faults = {Op.CREATE: Fault.BUSY_EACH}

    engine.deploy()

    assert engine.serving() == [ONE]
    assert [each for each in engine.clock.slept if each >= 0.5] == [0.5] * 7


@pytest.mark.parametrize("op", [Op.ADD, Op.SHIFT])
def test_done_without_effect_is_never_told_as_success(engine: Engine, op: Op) -> None:
    """A provider that says done and did nothing: what serves is read back, and the old revision stays."""
    engine.deploy()
    engine.write("two")
    engine.provider.faults = {op: Fault.SILENT}

    with pytest.raises(RolledBack) as caught:
        engine.deploy()

    assert engine.serving() == [ONE]
    assert caught.value.what == "a step was done without effect"


def test_a_silent_rollback_is_told_with_the_provider_s_reason(engine: Engine) -> None:
    """The provider undid the change by itself: exit code 4, and its own words."""
    engine.deploy()
    engine.write("two")
    engine.provider.faults = {Op.SHIFT: Fault.ROLLS_BACK}

    with pytest.raises(RolledBack, match="the fake rolled back: its alarm went off"):
        engine.deploy()

    assert engine.serving() == [ONE]


def test_a_first_deploy_without_effect_is_an_error(engine: Engine) -> None:
    """Nothing serves and nothing served before: not as asked."""
    engine.provider.faults = {Op.CREATE: Fault.SILENT}

    with pytest.raises(NotAsAsked):
        engine.deploy()

    assert engine.there is None


def test_a_destroy_without_effect_is_an_error(engine: Engine) -> None:
    """The provider says done and the endpoint is still there."""
    engine.deploy()
    engine.provider.faults = {Op.DESTROY: Fault.SILENT}

    with pytest.raises(NotAsAsked):
        engine.destroy()

    assert engine.serving() == [ONE]


def test_steps_that_need_nothing_of_each_other_run_side_by_side(engine: Engine) -> None:
    """Dropping the old revision and changing settings, both after the shift, are under way at the same time."""
    engine.deploy()
    engine.write("two", SPEC + "labels: {team: search}\n")
    together = threading.Barrier(2, timeout=20)

    def meet(key: str) -> None:
        if key.endswith(("drop", "configure")):
            together.wait()

    engine.provider.meanwhile = meet

    engine.deploy()

    assert engine.serving() == [TWO]
    assert not together.broken


def test_a_failure_starts_no_more_steps(engine: Engine) -> None:
    """What waits for the failed step is not begun, and the way back is all that follows."""
    engine.deploy()
    engine.write("two")
    engine.provider.faults = {Op.ADD: Fault.BEFORE}
    before = len(engine.provider.calls)

    with pytest.raises(RolledBack):
        engine.deploy()

    assert [key.partition("/")[2] for key in engine.provider.calls[before:]] == ["add"]


def test_our_time_limit_ends_the_wait_and_the_next_run_goes_on(engine: Engine) -> None:
    """Exit code 8, nothing taken back: what was begun goes on, and the same command finishes it."""
    engine.provider.polls = 1000

    with pytest.raises(TimedOut) as caught:
        engine.deploy(options=ApplyOptions("mlscale deploy --timeout 5s", timeout_s=5.0))

    assert caught.value.exit_code == 8
    assert caught.value.hint == "the same command again goes on: mlscale deploy --timeout 5s"
    assert engine.serving() == [("candidate", "one", 0)]
    assert engine.clock.passed_s < 7

    engine.provider.polls = 2
    engine.deploy()
    assert engine.serving() == [ONE]


def test_no_wait_leaves_the_rest_to_the_next_run(engine: Engine) -> None:
    """Nothing shifts to replicas that are still starting; the next run finds them there and goes on."""
    engine.deploy()
    engine.write("two")

    applied = engine.deploy(options=ApplyOptions("mlscale deploy --no-wait", wait=False))

    assert (applied.outcome, applied.deployment) == ("started", None)
    assert engine.serving() == [ONE, ("candidate", "two", 0)]

    engine.deploy()
    assert engine.serving() == [TWO]


@pytest.mark.parametrize(("number", "error"), [(2, Interrupted), (15, Terminated)])
def test_a_signal_stops_at_the_next_safe_point(engine: Engine, number: int, error: type[Interrupted]) -> None:
    """No further step starts, the lease is free, and the same command goes on."""
    engine.provider.meanwhile = lambda key: engine.stop.request(number) if key.endswith("/add") else None

    with pytest.raises(error) as caught:
        engine.deploy()

    assert caught.value.exit_code == 128 + number
    assert not any(key.endswith("/shift") for key in engine.provider.calls)
    engine.stop = type(engine.stop)()
    engine.provider.meanwhile = lambda key: None  # noqa: ARG005 - all steps alike
    engine.deploy(options=ApplyOptions("mlscale deploy"))
    assert engine.serving() == [ONE]


def test_a_long_call_ends_when_it_tells_its_progress(engine: Engine) -> None:
    """A stop or a time limit reaches a call that is under way, by its own progress."""
    engine.stop.request()
    session = engine.session()
    plan = plans.make_plan(session)

    with pytest.raises(Interrupted):
        engine.apply(session, plan)

    assert engine.provider.calls == []


def test_another_run_is_not_disturbed(engine: Engine) -> None:
    """While a run holds the lease the next one changes nothing and exits with 6, or waits as long as it was told."""
    held = acquire(engine.store, "reviews", command="mlscale deploy", run_id="run-1", clock=engine.clock)
    with held, pytest.raises(LeaseHeld) as caught:
        engine.deploy(options=ApplyOptions("mlscale deploy", lease_wait_s=20.0))

    assert caught.value.exit_code == 6
    assert 20 <= engine.clock.passed_s < 21
    assert (engine.there, engine.provider.calls) == (None, [])


def test_waiting_for_another_run_ends_with_our_time(engine: Engine) -> None:
    """--timeout bounds the wait for the lease too."""
    held = acquire(engine.store, "reviews", command="mlscale deploy", run_id="run-1", clock=engine.clock)
    with held, pytest.raises(LeaseHeld):
        engine.deploy(options=ApplyOptions("mlscale deploy", timeout_s=3.0, lease_wait_s=60.0))

    assert engine.clock.passed_s < 4


def test_a_signal_ends_the_wait_for_another_run(engine: Engine) -> None:
    """Nobody has to wait for the lease to be able to stop."""
    engine.stop.request()
    held = acquire(engine.store, "reviews", command="mlscale deploy", run_id="run-1", clock=engine.clock)
    with held, pytest.raises(Interrupted, match="nothing goes on"):
        engine.deploy()

    assert engine.clock.passed_s == 0


def test_a_run_whose_lease_was_taken_starts_no_call(engine: Engine) -> None:
    """A run that slept past its lease finds another holder, and touches nothing more."""

    def sleep_long(key: str) -> None:
        if key.endswith("/create"):
            engine.clock.move(61)
            lease = acquire(engine.store, "reviews", command="other", run_id="run-2", clock=engine.clock, wait_s=61)
            lease.release()

    engine.provider.meanwhile = sleep_long

    with pytest.raises(LeaseLost):
        engine.deploy()

    assert engine.provider.calls == ["endpoint/create"]


def test_a_plan_is_refused_when_the_world_moved(engine: Engine) -> None:
    """What was planned against is read again under the lease; autoscaling does not count, a change does."""
    engine.deploy()
    engine.write("two")
    session = engine.session()
    plan = plans.make_plan(session)
    _scale(engine, Live(desired=4, ready=2))
    other = engine.session(overrides=("labels.team=search",))
    engine.apply(other, plans.make_plan(other))

    with pytest.raises(PlanStale) as caught:
        engine.apply(session, plan)

    assert caught.value.exit_code == 10


def test_a_saved_plan_is_carried_out_as_it_was_made(engine: Engine) -> None:
    """The overlay and the overrides that it was made with hold, also when the spec says something else by now."""
    spec = SPEC + "environments: {prod: {labels: {stage: prod}}}\n"
    engine.write("one", spec)
    session = engine.session(env="prod", overrides=("endpoint.replicas.max=7",))
    text = plans.save_plan(session, plans.make_plan(session))
    engine.write("one", spec.replace("keep_revisions: 2", "keep_revisions: 3"))

    loaded, plan = plans.load_plan(engine.world(), text.encode(), "prod.plan.json")
    engine.apply(loaded, plan)

    assert loaded.spec.rollout.keep_revisions == 3
    assert engine.there is not None
    assert engine.there.identity.name == "reviews-prod"
    assert engine.there.scaling.max == 7
    assert engine.there.labels == {"stage": "prod"}


def test_a_saved_plan_is_refused_when_it_is_stale_or_changed(engine: Engine) -> None:
    """Stale: exit code 10. Changed by hand: it does not match its seal."""
    session = engine.session()
    text = plans.save_plan(session, plans.make_plan(session))
    engine.deploy()

    with pytest.raises(PlanStale):
        plans.load_plan(engine.world(), text.encode(), "a.plan.json")
    with pytest.raises(UsageError, match="changed after it was saved"):
        plans.load_plan(engine.world(), text.replace("reviews", "others").encode(), "a.plan.json")


def test_a_plan_for_another_deployment_than_the_spec_s_is_refused(engine: Engine) -> None:
    """The spec was renamed after the plan was saved."""
    session = engine.session()
    text = plans.save_plan(session, plans.make_plan(session))
    engine.write("one", SPEC.replace("name: reviews", "name: opinions"))

    with pytest.raises(PlanStale, match="names another deployment"):
        plans.load_plan(engine.world(), text.encode(), "a.plan.json")


def test_rollback_goes_to_the_revision_before_and_keeps_the_rest(engine: Engine) -> None:
    """The model goes back; scaling and labels stay as they are asked now."""
    engine.deploy()
    engine.write("two", SPEC + "labels: {team: search}\n")
    engine.deploy()

    engine.rollback()

    assert engine.serving() == [ONE]
    assert engine.there is not None
    assert engine.there.labels == {"team": "search"}


def test_rollback_to_a_revision_by_its_first_digits(engine: Engine) -> None:
    """Any revision that is remembered will do; one that is not, or nothing deployed, is an error."""
    with pytest.raises(NotDeployed):
        engine.rollback()
    for word in ("one", "two", "three"):
        engine.write(word, SPEC.replace("keep_revisions: 2", "keep_revisions: 9"))
        engine.deploy()
    first = next(
        each.revision.id
        for each in revisions.recorded(engine.store, "reviews")
        if MODELS[each.revision.content.artifact] == "one"
    )
    with pytest.raises(UsageError, match="no such revision"):
        engine.rollback("zzz")

    engine.rollback(first[:6])

    assert engine.serving() == [ONE]


def test_revisions_beyond_those_to_keep_are_forgotten(engine: Engine) -> None:
    """With keep_revisions: 2 the newest two are remembered, newest first."""
    for word in ("one", "two", "three", "four"):
        engine.write(word)
        engine.deploy()

    recorded = revisions.recorded(engine.store, "reviews")
    assert [MODELS[each.revision.content.artifact] for each in recorded] == ["four", "three"]


def test_a_rollback_works_when_the_records_were_lost(engine: Engine) -> None:
    """What serves is remembered before it is replaced, so the way back is there."""
    engine.deploy()
    for path in engine.store.list("revisions/"):
        engine.store.delete(path)
    engine.write("two")
    engine.deploy()

    engine.rollback()

    assert engine.serving() == [ONE]


def test_what_can_t_be_done_is_refused_before_anything_is(engine: Engine) -> None:
    """Planning refuses with the provider's reason and its link; a missing file is told by name."""
    session = engine.session()
    engine.provider.refused_frameworks = frozenset({"custom"})
    with pytest.raises(Unsupported, match=r"model\.framework: nothing here runs custom https://example\.com"):
        plans.make_plan(session)
    (engine.folder / "model.bin").unlink()

    with pytest.raises(UsageError, match=r"model\.bin"):
        plans.make_plan(session)


def _scale(engine: Engine, live: Live) -> None:
    seen = engine.there
    assert seen is not None
    revisions_now = tuple(replace(each, live=live) for each in seen.revisions)
    engine.provider.there[seen.identity] = replace(seen, revisions=revisions_now)


def killed_while_waiting(engine: Engine) -> None:
    """Deploy, killed when the journal has the wait's operation and not its end; nothing was there before."""
    for number in range(1, 200):
        if engine.there is not None:
            engine.destroy()
        with suppress(Killed):
            engine.deploy(Mortal(number))
        if runs(engine.store, "reviews") and journalled(engine)[-1].startswith("step_began"):
            return
    raise AssertionError("no run died there")


def test_what_a_killed_run_began_is_asked_for_by_its_name(engine: Engine) -> None:
    """The next run does not begin the wait again: it polls the operation that the journal has, and goes on."""
    killed_while_waiting(engine)
    engine.provider.calls.clear()

    engine.deploy()

    assert [key for key in engine.provider.calls if key.endswith("/wait")] == []
    assert engine.serving() == [ONE]


def test_an_operation_that_nobody_knows_any_more_is_begun_anew(engine: Engine) -> None:
    """A wait whose operation was a killed run's, and fails when it is asked for, is done from its beginning."""
    killed_while_waiting(engine)
    engine.provider.calls.clear()
    engine.provider.forgets = True

    engine.deploy()

    assert len([key for key in engine.provider.calls if key.endswith("/wait")]) == 1
    assert engine.serving() == [ONE]


def test_an_operation_that_goes_on_as_another_is_journalled_once(engine: Engine) -> None:
    """What is begun anew within a step has another name: a run after a kill must ask for that one."""
    engine.provider.polls, engine.provider.moves_to = 4, "starting again"

    engine.deploy()

    run = runs(engine.store, "reviews")[-1]
    begun = [each.operation for each in events(engine.store, "reviews", run) if isinstance(each, StepBegan)]
    assert begun == ["starting", "starting again"]


def test_a_poll_that_fails_for_a_moment_ends_nothing(engine: Engine) -> None:
    """That the provider does not answer while it works is no failure of what it does."""
    engine.provider.deaf_polls = 3

    engine.deploy()

    assert engine.serving() == [ONE]
    assert [event.text for event in engine.events if event.kind == "retry"] == ["it does not answer"] * 3
