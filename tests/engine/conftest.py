"""An engine over a provider in memory, a workspace in a folder and a clock that nobody waits for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from mlscale.deployment import Deployment
from mlscale.engine import plans, rollout
from mlscale.engine import session as sessions
from mlscale.engine.apply import Applied
from mlscale.engine.apply import apply as carry_out
from mlscale.engine.driver import Ways
from mlscale.engine.run import ApplyOptions, Event, Stop
from mlscale.engine.session import Session, World
from mlscale.plan.steps import Plan
from mlscale.state.rollouts import Rollout, Wish
from mlscale.state.store import Store, open_store
from tests.doubles.fake_provider import FakeProvider
from tests.doubles.mortal import Mortal, MortalStore
from tests.doubles.moved_clock import MovedClock

SPEC = """\
version: 1
name: reviews
provider: local
model: {source: model.bin, framework: custom}
endpoint: {replicas: {min: 1, max: 4}}
rollout: {keep_revisions: 2}
"""

MODELS = {hashlib.sha256(word.encode()).hexdigest()[:16]: word for word in ("one", "two", "three", "four")}

PATIENT = ApplyOptions("mlscale deploy", lease_wait_s=75.0)
"""Longer than a dead run's lease lives; the clock is moved, so nobody waits."""


@dataclass(slots=True)
class Engine:
    """What a test asks of the engine: every `deploy` is a process of its own, killed where `mortal` says."""

    folder: Path
    provider: FakeProvider = field(default_factory=FakeProvider)
    clock: MovedClock = field(default_factory=MovedClock)
    events: list[Event] = field(default_factory=list)
    stop: Stop = field(default_factory=Stop)

    @property
    def store(self) -> Store:
        """Return the workspace, as it is."""
        return open_store(str(self.folder / ".mlscale"))

    @property
    def there(self) -> Deployment | None:
        """Return what the provider has."""
        return next(iter(self.provider.there.values()), None)

    def serving(self) -> list[tuple[str, str, int]]:
        """Return role, model and share of each revision that is there."""
        revisions = self.there.revisions if self.there else ()
        return [(each.role.value, MODELS[each.revision.content.artifact], each.share) for each in revisions]

    def write(self, model: str = "one", spec: str = SPEC) -> None:
        """Make `model` the model's content, and `spec` the spec."""
        (self.folder / "model.bin").write_text(model)
        (self.folder / "spec.yaml").write_text(spec)

    def session(
        self, mortal: Mortal | None = None, *, env: str | None = None, overrides: tuple[str, ...] = ()
    ) -> Session:
        """Return a new process's session."""
        self.provider.mortal = mortal or Mortal()
        return sessions.open_session(self.world(), self.folder / "spec.yaml", env=env, overrides=overrides)

    def world(self) -> World:
        """Return the outside, as the process that runs now has it."""
        mortal = self.provider.mortal
        return World(
            provider=lambda site: self.provider,  # noqa: ARG005 - there is one, wherever it is asked for
            store=lambda place: MortalStore(open_store(place), mortal),
            clock=self.clock,
            variables={},
        )

    def deploy(self, mortal: Mortal | None = None, options: ApplyOptions = PATIENT) -> Applied:
        """Plan and carry out, as `mlscale deploy` does."""
        session = self.session(mortal)
        return self.apply(session, plans.make_plan(session), options)

    def rollback(self, to: str | None = None, mortal: Mortal | None = None) -> Applied:
        """Plan and carry out, as `mlscale rollback` does."""
        session = self.session(mortal)
        return self.apply(session, plans.rollback_plan(session, to), replace(PATIENT, command="mlscale rollback"))

    def destroy(self, mortal: Mortal | None = None) -> Applied:
        """Plan and carry out, as `mlscale destroy` does."""
        session = self.session(mortal)
        return self.apply(session, plans.destroy_plan(session))

    def ways(self, command: str = "mlscale rollout --auto") -> Ways:
        """Return how a test drives a rollout."""
        return Ways(replace(PATIENT, command=command), self.events.append, self.stop)

    def put(self, share: int, mortal: Mortal | None = None) -> Rollout:
        """Put the spec's revision at a share, as `mlscale rollout --canary` does."""
        return rollout.put(self.session(mortal), share, self.ways())

    def drive(self, mortal: Mortal | None = None) -> Rollout:
        """Go all steps, as `mlscale rollout --auto` does."""
        return rollout.drive(self.session(mortal), self.ways())

    def wish(self, what: Wish, mortal: Mortal | None = None) -> Rollout:
        """Have a wish fulfilled, as `mlscale rollout abort` and the like do."""
        return rollout.wish(self.session(mortal), what, self.ways())

    def apply(self, session: Session, plan: Plan, options: ApplyOptions = PATIENT) -> Applied:
        """Carry out `plan`; what is told goes to `events`."""
        return carry_out(session, plan, options, tell=self.events.append, stop=self.stop)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """An engine, with a spec and nothing deployed."""
    made = Engine(tmp_path)
    made.write()
    return made
