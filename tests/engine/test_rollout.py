"""A rollout by shares over a provider that counts: what serves on the way, what is decided, and who may wish what."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mlscale.deployment import WHOLE, Live, RolloutWish
from mlscale.engine import plans, rollout
from mlscale.engine.run import ApplyOptions, Event, Stop
from mlscale.errors import Interrupted, NotDeployed, PlanStale, PolicyRefused, RolledBack, TimedOut, UsageError
from mlscale.state import rollouts
from mlscale.state.lease import acquire
from mlscale.state.rollouts import Phase, Wish
from tests.doubles.fake_provider import Fault, Op
from tests.doubles.mortal import Killed, Mortal
from tests.doubles.moved_clock import MORNING, MovedClock
from tests.engine.conftest import SPEC, Engine

CANARY = SPEC.replace("{keep_revisions: 2}", "{strategy: canary, steps: [10%, 50%], interval: 5m, deadline: 2h}")
STABLE, TAKEN = ("stable", "one", WHOLE), ("stable", "two", WHOLE)


def artifact(word: str) -> str:
    """Return the digest of a model's files."""
    return hashlib.sha256(word.encode()).hexdigest()[:16]


@pytest.fixture
def ready(engine: Engine) -> Engine:
    """An engine whose first revision serves, with a second in the spec; both fail once in 200 requests."""
    engine.write(spec=CANARY)
    engine.deploy()
    engine.write("two", spec=CANARY)
    engine.provider.per_minute = 6000
    engine.provider.bad = {artifact("one"): 50, artifact("two"): 50}
    return engine


def told(engine: Engine) -> list[tuple[str, int]]:
    """Return what happened in the rollout, with the shares."""
    found = rollouts.current(engine.store, "reviews")
    return [(each.what, each.share) for each in found.history] if found else []


def test_a_good_candidate_goes_all_steps_and_is_promoted(ready: Engine) -> None:
    """Each share is watched for its interval at least; then it serves alone, and the old one is gone."""
    found = ready.drive()

    assert found.phase is Phase.PROMOTED
    assert told(ready) == [("began", 0), ("shifted", 1000), ("shifted", 5000), ("promoted", WHOLE)]
    assert ready.serving() == [TAKEN]
    assert found.outcome == "pass"
    assert found.ended_at is not None
    assert found.ended_at - found.began_at >= 2 * timedelta(minutes=5)
    assert found.windows[0].start == found.watched_from
    assert ready.deploy().outcome == "unchanged"


def test_a_failing_candidate_is_taken_back(ready: Engine) -> None:
    """Soon, with the numbers, exit code 4; it serves nobody and is gone."""
    ready.provider.bad = {artifact("one"): 50, artifact("two"): 800}

    with pytest.raises(RolledBack) as caught:
        ready.drive()

    found = rollouts.current(ready.store, "reviews")
    assert found is not None
    assert caught.value.exit_code == 4
    assert "8% of" in caught.value.why
    assert "baseline 0.5% of" in caught.value.why
    assert ready.serving() == [STABLE]
    assert (found.phase, found.outcome) == (Phase.ROLLED_BACK, "fail")
    assert found.ended_at is not None
    assert found.ended_at - found.began_at <= timedelta(minutes=5)


def test_what_breaks_only_at_a_larger_share_is_soon_seen_there(ready: Engine) -> None:
    """Half an hour of what was good at ten percent does not outweigh it."""
    ready.write("two", spec=CANARY.replace("interval: 5m", "interval: 30m"))
    ready.provider.per_minute = 900

    def meanwhile(key: str) -> None:
        found = rollouts.current(ready.store, "reviews")
        if key.endswith("/share") and found and found.share == 1000:
            ready.provider.bad[artifact("two")] = 500

    ready.provider.meanwhile = meanwhile
    with pytest.raises(RolledBack):
        ready.drive()

    found = rollouts.current(ready.store, "reviews")
    assert found is not None
    (moved,) = [each.at for each in found.history if each.what == "shifted" and each.share == 5000]
    assert found.ended_at is not None
    assert found.ended_at - moved <= timedelta(minutes=4)


@pytest.mark.parametrize(("per_minute", "silent"), [(0, False), (6000, True)], ids=["no traffic", "no metrics"])
def test_without_data_nothing_is_promoted(ready: Engine, per_minute: int, silent: bool) -> None:  # noqa: FBT001
    """It holds when the deadline is over, with exit code 8, and says what is missing."""
    ready.provider.per_minute, ready.provider.silent = per_minute, silent

    with pytest.raises(TimedOut) as caught:
        ready.drive()

    found = rollouts.current(ready.store, "reviews")
    assert found is not None
    assert found.phase is Phase.HOLDING
    assert caught.value.exit_code == 8
    assert "holds at 10%" in caught.value.what
    assert ready.serving() == [("stable", "one", 9000), ("candidate", "two", 1000)]


def test_without_a_verdict_it_goes_back_where_the_spec_says_so(ready: Engine) -> None:
    """The candidate bills no more."""
    ready.write("two", spec=CANARY.replace("deadline: 2h", "deadline: 10m, analysis: {on_inconclusive: roll_back}"))
    ready.provider.silent = True

    with pytest.raises(RolledBack):
        ready.drive()

    assert ready.serving() == [STABLE]


def test_a_candidate_that_does_not_become_healthy_is_gone(ready: Engine) -> None:
    """As after a failed deploy."""
    ready.provider.faults = {Op.WAIT: Fault.AFTER}

    with pytest.raises(RolledBack):
        ready.drive()

    found = rollouts.current(ready.store, "reviews")
    assert found is not None
    assert found.phase is Phase.ROLLED_BACK
    assert ready.serving() == [STABLE]


def test_a_canary_by_hand_holds_where_it_was_put(ready: Engine) -> None:
    """At one share, and then at another."""
    first = ready.put(1000)
    at_ten = ready.serving()
    second = ready.put(3000)

    assert (first.phase, first.share, second.share) == (Phase.HOLDING, 1000, 3000)
    assert at_ten == [("stable", "one", 9000), ("candidate", "two", 1000)]
    assert ready.serving() == [("stable", "one", 7000), ("candidate", "two", 3000)]
    assert first.id == second.id


def test_a_step_is_what_the_provider_holds_of_it(ready: Engine) -> None:
    """Where it can't hold the share that was asked for."""
    found = ready.put(1234)

    assert (found.share, found.shares) == (1200, (1200,))


def test_a_canary_by_hand_is_promoted_by_evidence_alone(ready: Engine) -> None:
    """Without it the wish fails with what is missing; with it the candidate takes over."""
    ready.put(1000)
    with pytest.raises(TimedOut) as caught:
        ready.wish(Wish.PROMOTE)
    held = ready.serving()
    ready.clock.move(60 * 60)

    found = ready.wish(Wish.PROMOTE)

    assert caught.value.exit_code == 8
    assert held == [("stable", "one", 9000), ("candidate", "two", 1000)]
    assert found.phase is Phase.PROMOTED
    assert ready.serving() == [TAKEN]


def test_a_full_promotion_asks_for_no_evidence(ready: Engine) -> None:
    """Whoever wishes for it has other reasons."""
    ready.put(1000)

    assert ready.wish(Wish.PROMOTE_FULL).phase is Phase.PROMOTED
    assert ready.serving() == [TAKEN]


def test_an_abort_takes_the_candidate_away(ready: Engine) -> None:
    """The stable revision has all traffic again; a second abort has nothing to do."""
    ready.put(1000)

    found = ready.wish(Wish.ABORT)

    assert found.phase is Phase.ROLLED_BACK
    assert ready.serving() == [STABLE]
    with pytest.raises(UsageError):
        ready.wish(Wish.ABORT)


def test_a_rollout_by_hand_goes_on_by_itself(ready: Engine) -> None:
    """From the share where it is."""
    put = ready.put(2000)

    found = ready.drive()

    assert found.id == put.id
    assert found.phase is Phase.PROMOTED
    assert [share for what, share in told(ready) if what == "shifted"] == [2000, 5000]


def test_a_shadow_gets_copies_and_takes_over_when_it_passes(ready: Engine) -> None:
    """It answers nobody meanwhile."""
    ready.write("two", spec=CANARY.replace("strategy: canary, steps: [10%, 50%]", "strategy: shadow, mirror: 50%"))
    seen = []
    ready.provider.meanwhile = lambda key: seen.append(ready.serving()) if key.endswith("/shift") else None

    found = ready.drive()

    assert seen == [[STABLE, ("shadow", "two", 5000)]]
    assert found.phase is Phase.PROMOTED


def test_linear_goes_even_steps(ready: Engine) -> None:
    """By the step of the spec."""
    ready.write("two", spec=CANARY.replace("strategy: canary, steps: [10%, 50%]", "strategy: linear, step: 30%"))

    ready.drive()

    assert [share for what, share in told(ready) if what == "shifted"] == [3000, 6000, 9000]


def test_another_candidate_takes_the_place_of_the_first(ready: Engine) -> None:
    """The stable revision is the same; the first candidate is gone."""
    first = ready.put(1000)
    ready.write("three", spec=CANARY)

    second = ready.put(2000)

    assert second.id != first.id
    assert ready.serving() == [("stable", "one", 8000), ("candidate", "three", 2000)]
    ended = rollouts.of_id(ready.store, "reviews", first.id)
    assert ended is not None
    assert ended.phase is Phase.REPLACED


def test_there_must_be_something_to_roll_out(engine: Engine) -> None:
    """Nothing deployed, and nothing new, are said; neither changes anything."""
    engine.write(spec=CANARY)
    with pytest.raises(NotDeployed):
        engine.drive()
    engine.deploy()
    with pytest.raises(UsageError, match="nothing to roll out"):
        engine.drive()
    assert engine.serving() == [STABLE]


def test_the_plan_says_what_comes_and_who_goes_the_steps(ready: Engine) -> None:
    """The next share as steps; what rests on evidence as a note."""
    plan = plans.make_plan(ready.session())

    assert [step.key.rpartition("/")[2] for step in plan.steps] == ["add", "wait", "share"]
    assert plan.notes["rollout"].startswith("10% for 5m at least, 50% for 5m at least, then 100%")
    assert "no price book" in plan.notes["rollout"]


def test_a_plan_that_ends_a_rollout_says_so(ready: Engine) -> None:
    """Who deploys past it is told what becomes of it."""
    ready.put(1000)
    ready.write("three", spec=SPEC)

    (warning,) = plans.make_plan(ready.session()).warnings

    assert warning.endswith(", at 10%, ends with this")


@pytest.mark.parametrize(
    ("change", "phase"),
    [
        ("destroy", Phase.ROLLED_BACK),
        ("at once", Phase.PROMOTED),
        ("the stable one again", Phase.ROLLED_BACK),
    ],
)
def test_another_change_ends_a_rollout_that_nobody_drives(ready: Engine, change: str, phase: Phase) -> None:
    """What is written of it agrees with what is there."""
    ready.put(1000)
    if change == "destroy":
        ready.destroy()
    else:
        ready.write("two" if change == "at once" else "one", spec=SPEC)
        ready.deploy()

    found = rollouts.current(ready.store, "reviews")

    assert found is not None
    assert found.phase is phase
    assert ready.serving() == {"destroy": [], "at once": [TAKEN]}.get(change, [STABLE])


def gated(engine: Engine, hook: str, *answers: int) -> None:
    """Have a command be asked at `hook` that ends with each of these exit codes in turn, and then with 0."""
    (engine.folder / "codes").write_text("".join(f"{each}\n" for each in answers))
    (engine.folder / "gate.sh").write_text("code=$(head -n 1 codes)\nsed -i 1d codes\nexit ${code:-0}\n")
    command = "bash gate.sh"
    gates = f"gates: {{{hook}: [{{command: '{command}'}}]}}"
    engine.write("two", spec=CANARY.replace("deadline: 2h", f"deadline: 2h, {gates}"))


@pytest.mark.parametrize("hook", ["before", "before_step", "during", "after_step", "before_promotion"])
def test_a_gate_that_opens_later_is_asked_again(ready: Engine, hook: str) -> None:
    """Nothing is lost meanwhile, and the rollout goes on when it does."""
    gated(ready, hook, 75, 75)

    assert ready.drive().phase is Phase.PROMOTED
    assert (ready.folder / "codes").read_text() == ""


@pytest.mark.parametrize("hook", ["during", "after_step", "before_promotion"])
def test_a_gate_that_refuses_takes_the_candidate_back(ready: Engine, hook: str) -> None:
    """Whatever the evidence says, exit code 4."""
    gated(ready, hook, 1)

    with pytest.raises(RolledBack, match=hook):
        ready.drive()
    assert ready.serving() == [STABLE]


@pytest.mark.parametrize("hook", ["before", "before_step"])
def test_a_gate_that_refuses_at_the_beginning_changes_nothing(ready: Engine, hook: str) -> None:
    """Exit code 5, and the provider was never asked for a change."""
    gated(ready, hook, 1)
    calls = list(ready.provider.calls)

    with pytest.raises(PolicyRefused) as caught:
        ready.drive()
    found = rollouts.current(ready.store, "reviews")
    assert found is not None
    assert (caught.value.exit_code, ready.provider.calls, found.phase) == (5, calls, Phase.ROLLED_BACK)


def test_who_is_told_hears_of_each_change(ready: Engine) -> None:
    """In order, with the share."""
    command = "echo $MLSCALE_EVENT $MLSCALE_SHARE >> told"
    gates = f"gates: {{on_change: [{{command: '{command}'}}]}}"
    ready.write("two", spec=CANARY.replace("deadline: 2h", f"deadline: 2h, {gates}"))

    ready.drive()

    assert (ready.folder / "told").read_text().splitlines() == [
        "began 0",
        "shifted 10",
        "shifted 50",
        "promoted 100",
    ]


class Ending(MovedClock):
    """A clock on which a signal comes after some time, so that what waits for ever ends."""

    def __init__(self, stop: Stop, after_s: float) -> None:
        super().__init__()
        self._stop = stop
        self._after_s = after_s

    def sleep(self, seconds: float) -> None:
        """Let the time pass, and the signal come."""
        super().sleep(seconds)
        if self.passed_s >= self._after_s:
            self._stop.request()


def elsewhere(engine: Engine, what: Wish, when: Callable[[rollouts.Rollout], bool]) -> list[float]:
    """Have somebody on another machine wish for something once the rollout is as `when` says; return the times."""
    times: list[float] = []

    class Watching(list[Event]):
        def append(self, event: Event) -> None:
            super().append(event)
            found = rollouts.current(engine.store, "reviews")
            if found and when(found) and not times:
                rollouts.request(engine.store, "reviews", what, "ann@elsewhere", engine.clock.now())
                times.append(engine.clock.passed_s)

    engine.events = Watching()
    return times


ENDS = {Wish.ABORT: Phase.ROLLED_BACK, Wish.PAUSE: Phase.PAUSED, Wish.PROMOTE_FULL: Phase.PROMOTED}


@pytest.mark.parametrize("what", ENDS)
def test_a_wish_is_obeyed_by_whoever_drives(ready: Engine, what: Wish) -> None:
    """Written down without the lease, and found within ten seconds while a share is watched."""
    ready.clock = Ending(ready.stop, 3600)
    wished = elsewhere(ready, what, lambda found: bool(found.verdicts))
    with suppress(RolledBack, Interrupted):
        ready.drive()

    found = rollouts.current(ready.store, "reviews")
    assert found is not None
    obeyed = next(each.at for each in found.history if each.what == what.value)
    assert (obeyed - MORNING).total_seconds() - wished[0] <= 10
    assert found.phase is ENDS[what]


def test_an_abort_is_obeyed_in_the_middle_of_a_step(ready: Engine) -> None:
    """A machine that takes its time to start is not waited for."""
    ready.provider.polls = 1000
    wished = elsewhere(ready, Wish.ABORT, lambda found: found.phase is Phase.PROGRESSING)

    with pytest.raises(RolledBack, match="wished for it"):
        ready.drive()

    assert ready.clock.passed_s - wished[0] <= 15
    assert ready.serving() == [STABLE]


def test_what_pauses_goes_on_after_a_resume(ready: Engine) -> None:
    """Nothing moves meanwhile, however good it looks."""
    elsewhere(ready, Wish.PAUSE, lambda found: bool(found.verdicts))
    ready.clock = Ending(ready.stop, 3 * 3600)
    with pytest.raises(Interrupted):
        ready.drive()
    held = ready.serving()
    ready.stop = Stop()
    ready.clock = MovedClock()

    ready.wish(Wish.RESUME)
    found = ready.drive()

    assert held == [("stable", "one", 9000), ("candidate", "two", 1000)]
    assert found.phase is Phase.PROMOTED


def test_a_deploy_of_another_revision_replaces_the_candidate_alone(ready: Engine) -> None:
    """Whoever drives the first one lets go; the stable revision serves all the while."""
    elsewhere(ready, Wish.REPLACE, lambda found: bool(found.verdicts))

    with pytest.raises(PlanStale) as caught:
        ready.drive()
    held = ready.serving()
    ready.write("three", spec=CANARY)
    ready.provider.bad[artifact("three")] = 50
    found = ready.drive()

    assert caught.value.exit_code == 10
    assert held == [("stable", "one", 9000), ("candidate", "two", 1000)]
    assert found.phase is Phase.PROMOTED
    assert ready.serving() == [("stable", "three", WHOLE)]


def test_who_changes_something_else_is_let_go_to(ready: Engine) -> None:
    """Where nobody drives, at once; where somebody does and is stuck, that is told."""
    ready.put(1000)
    rollout.let_go(ready.session(), ready.ways())
    before = rollouts.requests(ready.store, "reviews")
    with (
        acquire(ready.store, "reviews", command="mlscale rollout --auto", run_id="1", clock=ready.clock),
        pytest.raises(TimedOut),
    ):
        rollout.let_go(ready.session(), ready.ways())

    assert before == []
    assert [each.wish for each in rollouts.requests(ready.store, "reviews")] == [Wish.REPLACE]


def test_a_wish_that_nobody_obeys_is_told(ready: Engine) -> None:
    """Whoever holds the lease may be stuck; the wish stays written down."""
    ready.put(1000)
    with (
        acquire(ready.store, "reviews", command="mlscale rollout --auto", run_id="1", clock=ready.clock),
        pytest.raises(TimedOut) as caught,
    ):
        rollout.wish(ready.session(), Wish.PAUSE, replace(ready.ways(), options=ApplyOptions("mlscale")))

    assert "mlscale rollout --auto on" in caught.value.why
    assert [each.wish for each in rollouts.requests(ready.store, "reviews")] == [Wish.PAUSE]


@pytest.mark.parametrize(("what", "serving"), [(Wish.ABORT, STABLE), (Wish.PROMOTE_FULL, TAKEN)])
def test_a_wish_that_ends_a_rollout_is_done_when_it_has(
    ready: Engine, what: Wish, serving: tuple[str, str, int]
) -> None:
    """Taken up is not enough; and where whoever took it up is gone, whoever wished for it does it."""
    ready.put(1000)
    lease = acquire(ready.store, "reviews", command="mlscale rollout --auto", run_id="1", clock=ready.clock)

    class Leaving(MovedClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if len(self.slept) == 1:
                found = rollout.last(ready.session())
                rollouts.save(ready.store, "reviews", found.model_copy(update={"obeyed": 1}))
            if len(self.slept) == 3:
                lease.release()

    ready.clock = Leaving()

    found = ready.wish(what)

    assert not found.is_live
    assert ready.clock.passed_s >= 3
    assert ready.serving() == [serving]


def test_a_wish_that_goes_on_outsideis_waited_for_as_long_as_the_user_says(ready: Engine) -> None:
    """Then the exit code is 8, and it goes on."""
    ready.put(1000)
    with acquire(ready.store, "reviews", command="mlscale rollout --auto", run_id="1", clock=ready.clock):
        found = rollout.last(ready.session())
        rollouts.save(ready.store, "reviews", found.model_copy(update={"obeyed": 1}))

        ways = replace(ready.ways(), options=ApplyOptions("mlscale rollout abort", timeout_s=200.0))
        with pytest.raises(TimedOut, match="the time is over"):
            rollout.wish(ready.session(), Wish.ABORT, ways)

    assert 200 <= ready.clock.passed_s < 210


def test_the_capacity_of_the_candidate_follows_its_share(ready: Engine) -> None:
    """Of four replicas, one for ten percent."""
    ready.write("two", spec=CANARY)
    _scale(ready, Live(4, 4))

    ready.put(1000)

    assert ready.there is not None
    assert [each.live.desired for each in ready.there.revisions if each.live] == [4, 1]


def _scale(engine: Engine, live: Live) -> None:
    (identity,) = engine.provider.there
    seen = engine.provider.there[identity]
    engine.provider.there[identity] = replace(seen, revisions=(replace(seen.revisions[0], live=live),))


QUICK = CANARY.replace("interval: 5m", "interval: 1s").replace("[10%, 50%]", "[50%]")


def prepared(folder: Path) -> Engine:
    """An engine whose rollout is short, with much traffic."""
    folder.mkdir()
    engine = Engine(folder)
    engine.write(spec=QUICK)
    engine.deploy()
    engine.write("two", spec=QUICK)
    engine.provider.per_minute = 600_000
    return engine


def test_a_rollout_killed_at_any_touch_is_finished_by_the_next(tmp_path: Path) -> None:
    """Before and after every write, step and poll: the same command again promotes it, and nothing is left over."""
    whole = Mortal()
    prepared(tmp_path / "whole").drive(whole)

    for lives in range(whole.touched):
        engine = prepared(tmp_path / str(lives))
        with pytest.raises(Killed):
            engine.drive(Mortal(lives))

        found = engine.drive()

        assert found.phase is Phase.PROMOTED, f"killed at touch {lives}"
        assert engine.serving() == [TAKEN]
    assert whole.touched > 30


def test_an_abort_killed_at_any_touch_is_finished_by_the_next_command(tmp_path: Path) -> None:
    """Another abort, or a rollout that goes on: what was decided stays so."""
    whole = Mortal()
    engine = prepared(tmp_path / "whole")
    engine.put(5000)
    engine.wish(Wish.ABORT, whole)

    for lives in range(whole.touched):
        engine = prepared(tmp_path / str(lives))
        engine.put(5000)
        with pytest.raises(Killed):
            engine.wish(Wish.ABORT, Mortal(lives))
        before = rollouts.current(engine.store, "reviews")

        if before and before.phase is Phase.ABORTING:
            with pytest.raises(RolledBack):
                engine.drive()
        elif before and before.is_live:
            engine.wish(Wish.ABORT)

        assert engine.serving() == [STABLE], f"killed at touch {lives}"
    assert whole.touched > 10


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (RolloutWish("canary", steps=(1000,), interval=timedelta(minutes=5)), "two steps, at most 50% in the first"),
        (RolloutWish("linear", steps=(2000,), interval=timedelta(minutes=5)), "20% of the instances more each 5m"),
        (RolloutWish("rolling", steps=(2500,), interval=timedelta(minutes=1)), "25% of the instances at a time"),
    ],
    ids=lambda each: each.strategy if isinstance(each, RolloutWish) else "",
)
def test_what_the_provider_drives_says_what_it_can_not(wish: RolloutWish, said: str) -> None:
    """Instances instead of requests, alarms instead of a comparison."""
    text = plans.native_text(wish)

    assert said in text
    assert "compares nothing" in text


def test_a_rollouts_plan_warns_of_what_any_plan_warns_of(ready: Engine, tmp_path: Path) -> None:
    """A pickle from outside the spec's folder runs its author's code in a candidate too."""
    outside = tmp_path.parent / f"{tmp_path.name}-model"
    outside.mkdir()
    (outside / "model.pkl").write_bytes(b"\x80\x04N.")
    ready.write("two", spec=CANARY.replace("source: model.bin", f"source: {outside}"))

    (warning,) = plans.make_plan(ready.session()).warnings

    assert "is a pickle from outside the spec's folder" in warning
