"""Plans: steps in an order that holds, what they were made against, and the way back."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlscale.deployment import (
    WHOLE,
    Deployment,
    Live,
    Phase,
    Replica,
    Role,
    Scaling,
    ServedRevision,
    revision_of,
)
from mlscale.plan import make
from mlscale.plan.steps import Change, Plan, Step, StepKind
from tests.builders import NOON, a_content, a_deployment


def a_step(key: str, *after: str) -> Step[object]:
    """Return a step that only has a key and what it waits for."""
    return Step(key, StepKind.UPDATE, key, None, after)


def an_order(*steps: Step[object]) -> list[str]:
    """Return the keys of a plan of `steps`, in its order."""
    return [step.key for step in make.plan(a_deployment(), None, steps, now=NOON).steps]


def test_a_plan_says_what_it_is_made_of() -> None:
    """Both sides, the steps, the difference, the time, the warnings, and the digest of what was read."""
    asked, seen = a_deployment(labels={"a": "y"}), a_deployment(labels={"a": "x"})
    step = a_step("endpoint/configure")

    assert make.plan(asked, seen, [step], now=NOON, warnings=["careful"]) == Plan(
        made_at=NOON,
        asked=asked,
        seen=seen,
        steps=(step,),
        changes=(Change("labels.a", "x", "y"),),
        made_against=make.digest(seen),
        warnings=("careful",),
    )


def test_a_step_comes_after_what_it_waits_for() -> None:
    """Whatever order the provider gives, no step stands before one that it needs."""
    assert an_order(a_step("c", "b"), a_step("b", "a"), a_step("a")) == ["a", "b", "c"]


@given(st.integers(0, 2**32), st.integers(1, 12))
def test_every_order_holds_and_is_the_same_again(seed: int, count: int) -> None:
    """For any steps without a circle: all are there, each after its needs, and a second plan is the first."""
    chance = random.Random(seed)  # noqa: S311, no secret depends on it
    steps = [a_step(str(n), *(str(m) for m in range(n) if chance.random() < 0.3)) for n in range(count)]
    chance.shuffle(steps)

    order = an_order(*steps)

    assert sorted(order) == sorted(step.key for step in steps)
    assert all(order.index(need) < order.index(step.key) for step in steps for need in step.after)
    assert an_order(*steps) == order


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((a_step("a"), a_step("a")), "two steps share a key"),
        ((a_step("a", "b"),), "nobody plans are waited for: ['b']"),
        ((a_step("a", "a"),), "wait for each other"),
        ((a_step("a", "c"), a_step("b", "a"), a_step("c", "b")), "wait for each other"),
    ],
)
def test_steps_that_can_never_be_done_are_a_bug(steps: tuple[Step[object], ...], words: str) -> None:
    """A key twice, a need that nobody plans or a circle is refused when the plan is made, not while it runs."""
    with pytest.raises(ValueError, match=words.replace("[", r"\[")):
        an_order(*steps)


def served(artifact: str, role: Role, share: int, **fields: object) -> ServedRevision:
    """Return a revision as seen."""
    return replace(ServedRevision(revision_of(a_content(artifact)), role, share), **fields)  # type: ignore[arg-type]


def test_the_digest_is_without_counts_and_times() -> None:
    """Replicas that come and go, an address that moves, a mark: none of it makes a plan stale."""
    still = a_deployment()
    [one] = still.revisions
    moved = replace(
        still,
        revisions=(replace(one, live=Live(3, 2), replicas=(Replica("r-1", "healthy", 4),)),),
        address="http://127.0.0.1:1234",
        spec_hash="another",
        sources={"a": "b"},
    )

    assert make.digest(moved) == make.digest(still)


@pytest.mark.parametrize(
    "other",
    [
        None,
        a_deployment("two"),
        a_deployment(scaling=Scaling(min=1, max=5)),
        a_deployment(labels={"a": "b"}),
        a_deployment(settings={"host": "127.0.0.1", "port": "1"}),
        a_deployment(phase=Phase.FAILED),
        a_deployment(revisions=()),
        a_deployment(revisions=(served("one", Role.STABLE, 9000), served("two", Role.CANDIDATE, 1000))),
        a_deployment(revisions=(served("one", Role.RETIRED, WHOLE),)),
    ],
)
def test_the_digest_tells_what_a_plan_depends_on(other: Deployment | None) -> None:
    """Another revision, share, role, bound, label, setting or phase, or nothing at all, makes a plan stale."""
    assert make.digest(other) != make.digest(a_deployment())
    assert make.digest(other) == make.digest(other)


def test_the_way_back_is_the_stable_revision_alone() -> None:
    """Half a takeover ends where it began: stable has all, scaling and labels stay, nothing live is asked for."""
    stable = served("one", Role.STABLE, 0, live=Live(2, 2), replicas=(Replica("r-1", "healthy"),))
    seen = a_deployment(
        revisions=(stable, served("two", Role.CANDIDATE, WHOLE)),
        scaling=Scaling(min=2, max=8),
        labels={"a": "b"},
        phase=Phase.FAILED,
        reason="two does not start",
        pending="operation-1",
        address="http://127.0.0.1:1",
    )

    assert make.back_to_stable(seen) == a_deployment(
        revisions=(served("one", Role.STABLE, WHOLE),), scaling=Scaling(min=2, max=8), labels={"a": "b"}
    )


def test_without_a_stable_revision_there_is_no_way_back() -> None:
    """A first deploy that failed has nothing to go back to."""
    assert make.back_to_stable(a_deployment(revisions=(served("one", Role.CANDIDATE, 0),))) is None


def test_what_is_not_as_asked_is_a_line_a_field() -> None:
    """Read-back names each field with both values; equal is empty."""
    asked, seen = a_deployment(labels={"a": "x", "b": ""}), a_deployment(labels={"a": "y", "c": "z"})

    assert make.difference(asked, seen) == (
        "labels.a: asked x, is y",
        "labels.c: asked nothing, is z",
        'labels.b: asked "", is nothing',
    )
    assert make.difference(asked, asked) == ()
    assert make.difference(None, None) == ()
