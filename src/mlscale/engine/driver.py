"""One rollout, driven under the lease: from share to share as the evidence allows, obeying wishes on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from mlscale.deployment import WHOLE, Deployment, Role, ServedRevision
from mlscale.engine import evidence, own_metrics, plans
from mlscale.engine.apply import apply
from mlscale.engine.gates import Gates, Hook
from mlscale.engine.outside import Outranked, never
from mlscale.engine.run import ApplyOptions, Event, Stop
from mlscale.engine.session import Session
from mlscale.errors import (
    Interrupted,
    NoCapacity,
    NotDeployed,
    PlanStale,
    PolicyRefused,
    RolledBack,
    TimedOut,
    UsageError,
)
from mlscale.plan.diff import changes, share_text, value_text
from mlscale.plan.steps import Plan
from mlscale.providers.contract import Traffic
from mlscale.quantities import duration_text
from mlscale.rollout.judge import Outcome
from mlscale.spec.resolve import shares_of
from mlscale.state import rollouts
from mlscale.state.lease import Held
from mlscale.state.rollouts import ENDING, OUTRANKING, Moment, Phase, Request, Rollout, Wish

HEED_EVERY_S = 3.0
"""How often the driver of a rollout looks for wishes; DESIGN 6 gives it ten seconds to obey one."""

LOOK_EVERY_S = 15.0
"""How often the counts are asked for while a share is watched; there is a new window each minute."""


class HeedfulStop(Stop):
    """A stop that also comes when an abort or another candidate is wished for, in the middle of a step."""

    def __init__(self, stop: Stop, heed: Callable[[], Request | None]) -> None:
        """Stop when `stop` is requested, or `heed` gives a request."""
        super().__init__()
        self._first = stop
        self._heed = heed
        self.found: Request | None = None

    @property
    def requested(self) -> bool:
        """Whether somebody wants the run to stop."""
        if self._first.requested:
            return True
        self.found = self.found or self._heed()
        return self.found is not None

    def error(self, going_on: str) -> Interrupted:
        """Return the error for a run that stopped."""
        if self._first.requested:
            return self._first.error(going_on)
        return super().error(going_on)


@dataclass(frozen=True, slots=True)
class Ways:
    """How a rollout is driven: as commands ask, telling `tell`, ended by `stop`."""

    options: ApplyOptions
    tell: Callable[[Event], None]
    stop: Stop


class Driver:
    """One rollout, driven under the lease."""

    def __init__(self, session: Session, ways: Ways, lease: Held, run_id: str) -> None:
        """Drive what `session` asks for; `run_id` becomes the rollout's if it begins here."""
        self._session = session
        self._ways = ways
        self._lease = lease
        self._run_id = run_id
        self._clock = session.world.clock
        self._name = session.identity.name
        self._spec = session.spec.rollout
        timeout = ways.options.timeout_s
        self._limit = None if timeout is None else self._clock.monotonic() + timeout
        self._heeded = self._looked = float("-inf")
        self._gates = Gates(session)
        self._answered: dict[Hook, tuple[float, bool]] = {}
        self._rollout: Rollout | None = None

    def put(self, share: int) -> Rollout:
        """Put the candidate at `share`, and hold it there."""
        asked = self._begin((share,), driven=False)
        self._finish(asked)
        while self._now.is_live and self._now.share != self._that_holds(share):
            if self._opens(Hook.BEFORE_STEP):
                self._to(asked, share)
            else:
                self._pause()
        if self._now.is_live:
            self._save(phase=Phase.HOLDING)
        return self._ended_well()

    def drive(self) -> Rollout:
        """Go all steps."""
        asked = self._begin(shares_of(self._session.spec), driven=True)
        self._finish(asked)
        while self._now.is_live:
            self._checkpoint()
            self._heed(asked)
            if self._now.is_live:
                self._go_on(asked)
        return self._ended_well()

    def obey(self, request: Request) -> Rollout:
        """Obey what is wished for, up to `request`; nobody else does."""
        found = rollouts.current(self._session.store, self._name)
        if found is None or not found.is_live:
            return found or self._now
        self._rollout = found
        if found.obeyed < request.number:
            self._heed(None, at_once=True)
        elif request.wish in ENDING:  # whoever had begun to is gone
            self._obey(request, None)
        return self._now

    @property
    def _now(self) -> Rollout:
        if self._rollout is None:
            raise TypeError("no rollout has begun")
        return self._rollout

    def _begin(self, shares: tuple[int, ...], *, driven: bool) -> Deployment:
        """Take the rollout of the spec's revision up, or begin it; return what the spec asks for."""
        session = self._session
        seen = session.provider.read(session.identity)
        if seen is None or seen.stable is None:
            raise NotDeployed("nothing is there to compare with", why=str(session.identity), hint="mlscale deploy")
        asked = plans.wanted(session, seen)
        found = rollouts.current(session.store, self._name)
        before = found if found and found.is_live else None
        candidate = asked.stable.revision if asked.stable else seen.stable.revision
        if before and before.candidate.id == candidate.id:
            self._take_up(before, shares, driven=driven)
            return asked
        if found and found.phase is Phase.PROMOTED and found.candidate.id == candidate.id == seen.stable.revision.id:
            self._rollout = found  # the same command once more has nothing left to do
            return asked
        if candidate.id == seen.stable.revision.id:
            more = f"; a rollout of {before.candidate.id} goes on: mlscale rollout abort" if before else ""
            raise UsageError(
                "there is nothing to roll out", why=f"revision {candidate.id} serves already{more}", hint="mlscale plan"
            )
        _refuse_settings(asked, seen)
        self._gates.require()
        own_metrics.require(self._session)
        if before:
            self._rollout = before
            self._end(Phase.REPLACED, f"by revision {candidate.id}")
        now = self._clock.now()
        self._rollout = Rollout(
            id=self._run_id,
            strategy=self._spec.strategy if driven else "canary",
            phase=Phase.PROGRESSING,
            stable=seen.stable.revision,
            candidate=candidate,
            shares=shares,
            driven=driven,
            began_at=now,
            driven_at=now,
            obeyed=rollouts.latest_request(session.store, self._name),
        )
        self._happened("began", f"{seen.stable.revision.id} → {candidate.id}")
        while self._now.is_live and not self._opens(Hook.BEFORE):
            self._pause()
        return asked

    def _take_up(self, before: Rollout, shares: tuple[int, ...], *, driven: bool) -> None:
        """Go on with a rollout: with the steps that are left, or with the one share that it is put at."""
        left = tuple(each for each in shares if each > before.share) if driven else shares
        kept = (before.share,) if driven and before.share else ()
        self._rollout = before
        if driven != before.driven or not driven or before.phase is Phase.HOLDING:
            phase = Phase.PROGRESSING if before.phase is Phase.HOLDING else before.phase
            again = {"driven_at": self._clock.now(), "step": 0, "shares": kept + left or shares}
            self._save(phase=phase, driven=driven, **again)

    def _finish(self, asked: Deployment) -> None:
        """Finish what a run was cut off in the middle of: what was decided stays so."""
        match self._now.phase:
            case Phase.ABORTING:
                self._abort(self._now.why)
            case Phase.PROMOTING:
                self._promote(asked)

    def _ended_well(self) -> Rollout:
        """Return the rollout.

        Raises:
            RolledBack: the candidate was taken back.
        """
        rollout = self._now
        if rollout.phase is not Phase.ROLLED_BACK:
            return rollout
        raise RolledBack(
            f"revision {rollout.candidate.id} was taken back",
            why=f"{rollout.why}\nrevision {rollout.stable.id} serves, as before",
            hint="mlscale rollout status has the numbers; mlscale rollout retry tries it again",
        )

    def _go_on(self, asked: Deployment) -> None:
        """Do what comes next, or wait a little."""
        rollout = self._now
        if rollout.phase is Phase.PAUSED:
            self._clock.sleep(HEED_EVERY_S)
            return
        share = self._that_holds(rollout.shares[rollout.step])
        if rollout.share != share:
            if self._opens(Hook.BEFORE_STEP):
                self._to(asked, share)
            else:
                self._clock.sleep(HEED_EVERY_S)
            return
        try:
            self._look(self._is_urgent)
        except Outranked:
            self._heed(asked, at_once=True)
            return
        now = self._clock.now()
        is_over = now >= (rollout.step_at or now) + self._spec.interval and self._is_seen_at_its_share()
        if self._now.outcome == Outcome.FAIL:
            self._abort(_why(self._now))
        elif self._opens(Hook.DURING) and is_over and self._now.outcome == Outcome.PASS and self._next(asked):
            return
        elif self._now.is_live and now >= rollout.driven_at + self._spec.deadline:
            self._undecided()
        else:
            self._clock.sleep(HEED_EVERY_S)

    def _is_seen_at_its_share(self) -> bool:
        """Return whether a whole window was counted since the present share is in force: others may break at more."""
        rollout = self._now
        since = evidence.first_window(rollout.step_at or self._clock.now())
        return any(each.start >= since and each.candidate for each in rollout.windows)

    def _next(self, asked: Deployment) -> bool:
        """Go to the next share, or promote after the last; return False where somebody who was asked says not yet."""
        if not self._opens(Hook.AFTER_STEP):
            return False
        if self._now.step + 1 < len(self._now.shares):
            self._save(step=self._now.step + 1)
            return True
        if not self._opens(Hook.BEFORE_PROMOTION):
            return False
        self._promote(asked)
        return True

    def _opens(self, hook: Hook) -> bool:
        """Return whether those who are asked at `hook` let the rollout go on; who says not yet is asked again later.

        Raises:
            PolicyRefused: somebody refuses, and the candidate has no traffic yet: the rollout ends.
        """
        at, opened = self._answered.get(hook, (float("-inf"), False))
        if self._clock.monotonic() - at < LOOK_EVERY_S:
            return opened
        answer = self._gates.ask(hook, self._now, self._is_urgent)
        self._answered[hook] = (self._clock.monotonic(), answer.opens)
        if answer.opens and hook is not Hook.DURING:  # the next time is another step's
            del self._answered[hook]
        if answer.opens:
            return True
        subject = f"revision {self._now.candidate.id} at {share_text(self._now.share)}"
        if answer.waits:
            self._ways.tell(Event(self._clock.now(), "progress", "rollout", subject, answer.why))
            return False
        if self._now.share:
            self._abort(answer.why)
            return False
        self._end(Phase.ROLLED_BACK, answer.why)
        raise PolicyRefused(
            "a gate refuses the rollout", why=answer.why, hint="rollout.gates in the spec has it; mlscale rollout retry"
        )

    def _is_urgent(self) -> bool:
        """Return whether somebody who is asked or told has to be left: a signal came, or what outranks everything."""
        return self._ways.stop.requested or (self._now.is_live and self._outranking() is not None)

    def _pause(self) -> None:
        """Wait a little for somebody to open."""
        self._checkpoint()
        self._heed(None)
        self._clock.sleep(HEED_EVERY_S)

    def _undecided(self) -> None:
        why = f"{duration_text(self._spec.deadline)} are over: {_why(self._now)}"
        if self._spec.analysis.on_inconclusive == "roll_back":
            self._abort(why)
            return
        self._save(phase=Phase.HOLDING)
        self._happened("held", why)
        raise TimedOut(
            f"the rollout holds at {share_text(self._now.share)} without a verdict",
            why=why,
            hint="mlscale rollout promote --full, or mlscale rollout abort; mlscale rollout --auto watches on",
        )

    def _to(self, asked: Deployment, share: int) -> None:
        """Bring the candidate to `share`."""
        session, rollout = self._session, self._now
        seen = self._read()
        role = Role.SHADOW if rollout.strategy == "shadow" else Role.CANDIDATE
        candidate = ServedRevision(rollout.candidate, role, self._that_holds(share))
        plan = plans.trial_plan(session, asked, seen, candidate, stable=rollout.stable)
        if not self._carried_out(plan):
            return
        now = self._clock.now()
        watched_from = rollout.watched_from or evidence.first_window(now)
        shares = (*rollout.shares[: rollout.step], candidate.share, *rollout.shares[rollout.step + 1 :])
        self._save(share=candidate.share, shares=shares, step_at=now, watched_from=watched_from)
        self._happened("shifted", "copies" if role is Role.SHADOW else "")

    def _that_holds(self, share: int) -> int:
        provider, rollout = self._session.provider, self._now
        if not isinstance(provider, Traffic):
            return share
        wanted = {rollout.stable.id: WHOLE - share, rollout.candidate.id: share}
        return max(1, provider.shares_that_hold(wanted)[rollout.candidate.id])

    def _promote(self, asked: Deployment) -> None:
        self._save(phase=Phase.PROMOTING)
        if self._carried_out(plans.promotion_plan(self._session, asked, self._read())):
            self._save(share=WHOLE)
            self._end(Phase.PROMOTED, _why(self._now))

    def _abort(self, why: str) -> None:
        """Go back to the stable revision; where the candidate is that already, it is too late, and that is finished."""
        self._save(phase=Phase.ABORTING, why=why)
        seen = self._read()
        plan = plans.abort_plan(self._session, seen)
        if seen.stable and seen.stable.revision.id == self._now.candidate.id:
            self._apply(plan, self._ways.stop)
            self._save(share=WHOLE)
            self._end(Phase.PROMOTED, "an abort came when it had been promoted")
            return
        self._ways.tell(Event(self._clock.now(), "progress", "rollout", f"back to {self._now.stable.id}", why))
        self._apply(plan, self._ways.stop)  # without a step, too: a run that was cut off may have left files
        self._save(share=0)
        self._end(Phase.ROLLED_BACK, why)

    def _carried_out(self, plan: Plan) -> bool:
        """Carry a plan out; return False where a wish was obeyed instead, and the rollout has ended.

        Raises:
            MlscaleError: what came of it; the rollout has ended where the candidate was taken down.
        """
        stop = HeedfulStop(self._ways.stop, self._outranking)
        try:
            self._apply(plan, stop)
        except Interrupted:
            if stop.found is None or self._ways.stop.requested:
                raise
            self._heed(None, at_once=True)
            return False
        except (RolledBack, NoCapacity) as error:
            self._save(share=0)
            self._end(Phase.ROLLED_BACK, error.why)
            raise
        return True

    def _apply(self, plan: Plan, stop: Stop) -> None:
        left = None if self._limit is None else max(0.0, self._limit - self._clock.monotonic())
        options = replace(self._ways.options, timeout_s=left, wait=True)
        apply(self._session, plan, options, tell=self._ways.tell, stop=stop, held=self._lease)

    def _look(self, urgent: Callable[[], bool] = never) -> None:
        """Ask for the counts if it is time to, and remember what they show.

        Raises:
            Outranked: `urgent` said so before they were there.
        """
        if self._clock.monotonic() - self._looked < LOOK_EVERY_S:
            return
        self._looked = self._clock.monotonic()
        found = evidence.seen(self._session, self._now, self._clock.now(), urgent)
        if (found.outcome, found.verdicts) != (self._now.outcome, self._now.verdicts):
            self._save(outcome=found.outcome, verdicts=found.verdicts, windows=found.windows)
            subject = f"revision {self._now.candidate.id} at {share_text(self._now.share)}"
            self._ways.tell(Event(self._clock.now(), "progress", "rollout", subject, _why(self._now)))

    def _outranking(self) -> Request | None:
        """Return a wish for which a step is left half done; looked for now and then."""
        if self._clock.monotonic() - self._heeded < HEED_EVERY_S:
            return None
        self._heeded = self._clock.monotonic()
        pending = rollouts.requests(self._session.store, self._name, self._now.obeyed)
        return next((each for each in pending if each.wish in OUTRANKING), None)

    def _heed(self, asked: Deployment | None, *, at_once: bool = False) -> None:
        """Obey what was wished for since; what outranks the rest first."""
        if not at_once and self._clock.monotonic() - self._heeded < HEED_EVERY_S:
            return
        self._heeded = self._clock.monotonic()
        pending = rollouts.requests(self._session.store, self._name, self._now.obeyed)
        for each in sorted(pending, key=lambda each: (each.wish not in OUTRANKING, each.number)):
            if self._now.is_live:
                self._save(obeyed=max(self._now.obeyed, each.number))
                self._happened(each.wish.value, f"by {each.by}")
                self._obey(each, asked)

    def _obey(self, request: Request, asked: Deployment | None) -> None:
        match request.wish:
            case Wish.PAUSE:
                self._save(phase=Phase.PAUSED)
            case Wish.RESUME:
                self._save(phase=Phase.PROGRESSING if self._now.driven else Phase.HOLDING)
            case Wish.ABORT:
                self._abort(f"{request.by} wished for it")
            case Wish.REPLACE:
                self._end(Phase.REPLACED, f"{request.by} deploys another revision")
                raise PlanStale(
                    "another revision takes this one's place", why=self._now.why, hint="mlscale rollout status"
                )
            case Wish.PROMOTE_FULL:
                self._promote(asked or plans.wanted(self._session, self._read()))
            case Wish.PROMOTE:
                self._promoted_by_wish(asked or plans.wanted(self._session, self._read()), is_driven=asked is not None)

    def _promoted_by_wish(self, asked: Deployment, *, is_driven: bool) -> None:
        """Go one step on where the evidence is there; on_inconclusive decides where it is not."""
        self._looked = float("-inf")
        self._look()
        rollout = self._now
        if rollout.outcome == Outcome.FAIL or (
            rollout.outcome != Outcome.PASS and self._spec.analysis.on_inconclusive == "roll_back"
        ):
            self._abort(_why(rollout))
        elif rollout.outcome != Outcome.PASS:
            self._happened("not promoted", _why(rollout))
            if not is_driven:
                raise TimedOut(
                    "there is no evidence yet that would promote it",
                    why=_why(rollout),
                    hint="wait, or mlscale rollout promote --full",
                )
        elif not self._next(asked):
            if self._now.is_live and not is_driven:
                raise TimedOut("a gate does not open yet", why="", hint="the same command again asks once more")
        elif self._now.is_live and not is_driven and self._opens(Hook.BEFORE_STEP):
            self._to(asked, self._now.shares[self._now.step])

    def _checkpoint(self) -> None:
        """Return if the rollout may go on here."""
        self._lease.check(0.0)
        at = share_text(self._now.share)
        if self._ways.stop.requested:
            raise self._ways.stop.error(f"revision {self._now.candidate.id} stays at {at} until somebody goes on")
        if self._limit is not None and self._clock.monotonic() >= self._limit:
            raise TimedOut(
                "the time is over",
                why=f"revision {self._now.candidate.id} stays at {at} until somebody goes on",
                hint=f"the same command again goes on: {self._ways.options.command}",
            )

    def _read(self) -> Deployment:
        seen = self._session.provider.read(self._session.identity)
        if seen is None:
            raise NotDeployed(
                "the deployment is gone", why=str(self._session.identity), hint="mlscale deploy makes it anew"
            )
        return seen

    def _happened(self, what: str, text: str = "") -> None:
        moment = Moment(at=self._clock.now(), what=what, share=self._now.share, text=text)
        self._save(history=(*self._now.history, moment))
        for missed in self._gates.tell(self._now, self._is_urgent):
            self._ways.tell(Event(self._clock.now(), "retry", "", self._name, missed))

    def _end(self, phase: Phase, why: str) -> None:
        """Write down how it ended, and tell it."""
        self._save(phase=phase, why=why, ended_at=self._clock.now())
        self._happened(phase.value, why)

    def _save(self, **changed: object) -> None:
        self._lease.check(0.0)
        self._rollout = self._now.model_copy(update=changed)
        rollouts.save(self._session.store, self._name, self._rollout)


def _refuse_settings(asked: Deployment, seen: Deployment) -> None:
    """Return if nothing but the revision, scaling, labels and alarms differs: the rest belongs to both revisions.

    Raises:
        UsageError: something does.
    """
    own = (f"{asked.identity.provider}.", "endpoint.kind")
    different = [each for each in changes(asked, seen) if each.path.startswith(own)]
    if different:
        raise UsageError(
            "a rollout by shares changes the revision alone",
            why="\n".join(f"{each.path}: {value_text(each.before)} → {value_text(each.after)}" for each in different),
            hint="deploy the settings first, with the model as it was",
        )


def _why(rollout: Rollout) -> str:
    """Return what the worst verdict says, and of which metric."""
    found = next((each for each in rollout.verdicts if each.outcome == rollout.outcome), None)
    return f"{found.metric}: {found.why}" if found else "there is no data yet"
