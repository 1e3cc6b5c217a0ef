"""Taking over what somebody else made: under the lease, in the journal, and read back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlscale.deployment import Identity
from mlscale.engine import adopt as adopting
from mlscale.engine.apply import Applied
from mlscale.engine.run import ApplyOptions
from mlscale.errors import LeaseHeld, NotAsAsked, NotDeployed, PlanStale, ProviderFailed
from mlscale.plan.steps import Plan
from mlscale.state.journal import events, runs
from mlscale.state.lease import acquire
from tests.builders import a_deployment
from tests.doubles.fake_provider import Fault, Op
from tests.doubles.others import MARK, Others
from tests.engine.conftest import Engine

HERE = Identity("local", "reviews")
OPTIONS = ApplyOptions("mlscale import")


@pytest.fixture
def others(engine: Engine) -> Others:
    """The engine's provider, in which somebody made an endpoint of the spec's name."""
    provider = Others()
    provider.there[HERE] = a_deployment(identity=HERE, labels={"owner": "somebody"})
    engine.provider = provider
    return provider


def adopted(engine: Engine, plan: Plan | None = None) -> Applied:
    """Plan and carry out, as `mlscale import` does."""
    session = engine.session()
    made = adopting.adoption(session) if plan is None else plan
    return adopting.adopt(session, made, OPTIONS, tell=engine.events.append, stop=engine.stop)


def test_it_becomes_ours_and_nothing_else_of_it_changes(engine: Engine, others: Others) -> None:
    """It gets our mark, and everything else stays; the journal has the run."""
    before = others.there[HERE]

    applied = adopted(engine)

    assert applied == Applied(
        "done", replace(before, labels={"owner": "somebody", MARK: "yes"}), runs(engine.store, "reviews")[-1]
    )
    assert [each.event for each in events(engine.store, "reviews", applied.run_id)] == [
        "run_started",
        "step_intended",
        "step_done",
        "run_finished",
    ]
    assert [(each.kind, each.subject) for each in engine.events] == [
        ("run_started", "reviews"),
        ("started", "endpoint reviews"),
        ("progress", "endpoint reviews"),
        ("done", "endpoint reviews"),
        ("run_finished", "reviews"),
    ]


def test_what_is_ours_stays_as_it_is(engine: Engine, others: Others) -> None:
    """A second time nothing is done, and no lease is taken."""
    adopted(engine)
    known = runs(engine.store, "reviews")

    again = adopted(engine)

    assert (again.outcome, again.deployment) == ("unchanged", others.there[HERE])
    assert runs(engine.store, "reviews") == known


def test_nothing_is_taken_over_while_another_run_changes_it(engine: Engine, others: Others) -> None:
    """The lease is the same that a deploy takes."""
    before = others.there[HERE]

    other = acquire(engine.store, "reviews", command="mlscale deploy", run_id="other", clock=engine.clock)
    with other, pytest.raises(LeaseHeld):
        adopted(engine)

    assert others.there[HERE] == before


def test_a_plan_that_somebody_carried_out_meanwhile_is_stale(engine: Engine, others: Others) -> None:
    """What another run took over is not taken over again by an old plan."""
    assert others
    plan = adopting.adoption(engine.session())
    adopted(engine)

    with pytest.raises(PlanStale):
        adopted(engine, plan)


def test_a_failure_is_told_and_the_same_command_goes_on(engine: Engine, others: Others) -> None:
    """What did not work is not taken back: it does no harm, and is put again."""
    others.faults[Op.CONFIGURE] = Fault.BEFORE

    with pytest.raises(ProviderFailed):
        adopted(engine)

    assert adopted(engine).outcome == "done"


def test_a_mark_that_does_not_hold_is_no_success(engine: Engine, others: Others) -> None:
    """The provider said done and did nothing: what is there is still not ours."""
    others.faults[Op.CONFIGURE] = Fault.SILENT

    with pytest.raises(NotAsAsked):
        adopted(engine)


def test_there_must_be_something(engine: Engine, others: Others) -> None:
    """Nothing of that name is there to be taken over."""
    others.there.clear()

    with pytest.raises(NotDeployed):
        adopting.adoption(engine.session())
