"""Rollouts by shares, as commands ask for them: driven here under the lease, or a wish to whoever drives."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from mlscale.engine import evidence, plans
from mlscale.engine.apply import leased
from mlscale.engine.driver import Driver, Ways
from mlscale.engine.session import Session
from mlscale.errors import (
    LeaseHeld,
    TimedOut,
    UsageError,
)
from mlscale.state import rollouts
from mlscale.state.journal import new_run_id
from mlscale.state.lease import holder
from mlscale.state.rollouts import ENDING, Phase, Rollout, Wish

OBEYED_WITHIN_S = 60.0
"""How long a wish is waited for that somebody else should obey, before that counts as a failure."""


def put(session: Session, share: int, ways: Ways) -> Rollout:
    """Put the spec's revision at `share` basis points beside the stable one, and hold it there.

    Raises:
        NotDeployed: nothing is there to compare with.
        RolledBack: it did not become healthy, and is gone.
        UsageError: the spec's revision is the stable one.
        MlscaleError: as `apply`.
    """
    with _taking_over(session, ways) as driver:
        return driver.put(share)


def drive(session: Session, ways: Ways) -> Rollout:
    """Go all steps with the spec's revision, judge each, and promote it or take it back.

    Raises:
        NotDeployed: nothing is there to compare with.
        RolledBack: it is worse, or did not become healthy, and is gone.
        TimedOut: the deadline is over without a verdict, and it holds; or our own time is.
        UsageError: the spec's revision is the stable one.
        MlscaleError: as `apply`.
    """
    with _taking_over(session, ways) as driver:
        return driver.drive()


def wish(session: Session, what: Wish, ways: Ways) -> Rollout:
    """Have a wish fulfilled: by whoever drives the rollout, or else here, under the lease.

    One that ends the rollout is waited for until it has ended, the others until they are taken up.

    Raises:
        UsageError: no rollout goes on.
        RolledBack: an abort was wished for; never raised for it.
        TimedOut: a promotion lacks evidence, or whoever drives does not obey; or our own time is over.
        MlscaleError: as `apply`.
    """
    clock, store, name = session.world.clock, session.store, session.identity.name
    rollout_id = live(session).id
    asked = rollouts.request(store, name, what, whose(), clock.now())
    begun, timeout = clock.monotonic(), ways.options.timeout_s
    while True:
        try:
            with _driving(session, ways) as driver:
                return driver.obey(asked)
        except LeaseHeld:
            found = last(session, rollout_id)
            is_obeyed = found.obeyed >= asked.number
            if not found.is_live or (is_obeyed and what not in ENDING):
                return found
            spent = clock.monotonic() - begun
            if timeout is not None and spent >= timeout:
                why = f"the rollout is {found.phase.value.replace('_', ' ')}"
                raise TimedOut(
                    "the time is over", why=why, hint="mlscale rollout status tells when it is done"
                ) from None
            owner = holder(store, name)
            if not is_obeyed and spent >= OBEYED_WITHIN_S:
                why = f"{owner.command} on {owner.host} holds the lease" if owner else "the lease changes hands"
                raise TimedOut(
                    "nobody obeyed in time", why=why, hint="mlscale rollout status tells when it is done"
                ) from None
        if ways.stop.requested:
            raise ways.stop.error("the wish stays written down, and is obeyed")
        clock.sleep(1.0)


def let_go(session: Session, ways: Ways) -> None:
    """Have whoever drives a rollout leave it to this process; return when the lease is free, at once if nobody drives.

    Raises:
        TimedOut: nobody obeyed in time.
    """
    clock, store, name = session.world.clock, session.store, session.identity.name
    found, first = rollouts.current(store, name), holder(store, name)
    if found is None or not found.is_live or first is None:
        return
    rollouts.request(store, name, Wish.REPLACE, whose(), clock.now())
    limit = clock.monotonic() + OBEYED_WITHIN_S
    while (owner := holder(store, name)) is not None and owner.run_id == first.run_id:
        if clock.monotonic() >= limit:
            why = f"{owner.command} on {owner.host} holds the lease"
            raise TimedOut("nobody obeyed in time", why=why, hint="mlscale rollout status tells when it is done")
        if ways.stop.requested:
            raise ways.stop.error("")
        clock.sleep(1.0)


def live(session: Session) -> Rollout:
    """Return the rollout that goes on.

    Raises:
        UsageError: none does.
    """
    found = rollouts.current(session.store, session.identity.name)
    if found is None or not found.is_live:
        how = f"the last one, {found.id}, was {found.phase.value.replace('_', ' ')}" if found else "there was none yet"
        raise UsageError("no rollout goes on", why=how, hint="mlscale rollout --canary 10")
    return found


def last(session: Session, rollout_id: str | None = None) -> Rollout:
    """Return the rollout of that id, without one the last, whether it goes on or has ended.

    Raises:
        UsageError: there is none.
    """
    store, name = session.store, session.identity.name
    found = rollouts.current(store, name)
    if rollout_id is not None and (found is None or found.id != rollout_id):
        found = rollouts.of_id(store, name, rollout_id)
    if found is None:
        known = ", ".join(rollouts.ended(store, name)[-5:]) or "none"
        why = f"{rollout_id}: known are {known}" if rollout_id else "there was none yet"
        raise UsageError("there is no such rollout", why=why, hint="mlscale rollout --canary 10")
    return found


def looked_at(session: Session, rollout: Rollout) -> Rollout:
    """Return the rollout with what is known of it by now; nothing is written."""
    if not rollout.is_live or rollout.watched_from is None:
        return rollout
    found = evidence.seen(session, rollout, session.world.clock.now())
    return rollout.model_copy(update={"outcome": found.outcome, "verdicts": found.verdicts, "windows": found.windows})


def refuse_unless_taken_back(session: Session) -> None:
    """Return if the last rollout was taken back.

    Raises:
        UsageError: it was not.
    """
    found = last(session)
    if found.phase is not Phase.ROLLED_BACK:
        why = f"rollout {found.id} was not taken back: it is {found.phase.value.replace('_', ' ')}"
        raise UsageError("there is nothing to try again", why=why, hint="mlscale rollout --auto")


@contextmanager
def _driving(session: Session, ways: Ways) -> Iterator[Driver]:
    """Give whoever drives, under the lease."""
    run_id = new_run_id(session.world.clock.now(), session.world.seed())
    with leased(session, run_id, ways.options, ways.tell, ways.stop) as lease:
        yield Driver(session, ways, lease, run_id)


@contextmanager
def _taking_over(session: Session, ways: Ways) -> Iterator[Driver]:
    """Give whoever drives, under the lease; where another candidate is driven, its driver lets go first."""
    found = rollouts.current(session.store, session.identity.name)
    if found is not None and found.is_live:
        asked = plans.wanted(session, session.provider.read(session.identity)).stable
        if asked is not None and asked.revision.id != found.candidate.id:
            let_go(session, ways)
    with _driving(session, ways) as driver:
        yield driver


def whose() -> str:
    """Return who wishes: user and host."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
