"""Plans as files: read back as they were, and refused when they are anything else."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlscale.deployment import (
    Health,
    Live,
    Metric,
    Phase,
    Replica,
    Scaling,
    ScheduledBounds,
    StepPolicy,
    TargetPolicy,
    revision_of,
)
from mlscale.errors import UsageError
from mlscale.plan import make
from mlscale.plan.planfile import Origin, file_of, plan_of, text_of
from mlscale.plan.steps import Change, Plan, Step, StepKind, Unknown
from tests.builders import NOON, a_content, a_deployment


@dataclass(frozen=True, slots=True)
class Begin:
    """A payload with the same fields as another."""

    name: str


@dataclass(frozen=True, slots=True)
class End:
    """A payload with the same fields as another."""

    name: str


PAYLOADS = Begin | End
ORIGIN = Origin(spec="/specs/spec.yaml", env="prod", overrides=("labels.a=b",), workspace="s3://acme/ws")


def a_plan() -> Plan:
    """Return a plan that uses every kind of value."""
    content = a_content(environment={"A": "ä"}, health=Health("/ready", timedelta(seconds=90)))
    asked = a_deployment(
        revisions=(replace(a_deployment().revisions[0], revision=revision_of(content)),),
        scaling=Scaling(
            1,
            4,
            target=(TargetPolicy(Metric.CPU, 70.5),),
            steps=(StepPolicy(Metric.CONCURRENCY, -1, below=0.5, cooldown=timedelta(milliseconds=1500)),),
            schedule=(ScheduledBounds("0 8 * * *", "Europe/Berlin", 2),),
        ),
        sources={"one": "/models/one"},
    )
    [served] = a_deployment().revisions
    seen = a_deployment(
        revisions=(replace(served, live=Live(2, 1), replicas=(Replica("r-1", "healthy", 2, "x"),)),),
        phase=Phase.CHANGING,
        reason="busy",
        pending="operation-1",
        address="http://127.0.0.1:1",
    )
    steps: tuple[Step[object], ...] = (
        Step("a/begin", StepKind.CREATE, "a", Begin("a"), cost_delta=Decimal("0.10"), expected=timedelta(minutes=2)),
        Step("a/end", StepKind.DELETE, "a", End("a"), ("a/begin",), (Change("x", None, ""),), destroys=True),
        Step("b/end", StepKind.WAIT, "b", End("b"), interrupts=True, cost_delta=Unknown("no price")),
    )
    return make.plan(asked, seen, steps, now=NOON, warnings=("careful",))


def saved(plan: Plan) -> str:
    """Return the text of a plan's file."""
    return text_of(plan, ORIGIN, payloads=PAYLOADS)


@pytest.mark.parametrize(
    "plan", [a_plan(), make.plan(None, None, (), now=NOON), make.plan(a_deployment(), None, (), now=NOON)]
)
def test_a_plan_is_read_back_as_it_was(plan: Plan) -> None:
    """Every field comes back: money exact, unknown as unknown, each payload as the type that it was."""
    file = file_of(saved(plan), name="plan.json")

    assert plan_of(file, payloads=PAYLOADS) == plan
    assert file.made_from == ORIGIN


def test_the_same_plan_is_the_same_text() -> None:
    """A plan file can be compared and reviewed: nothing in it is by chance."""
    assert saved(a_plan()) == saved(a_plan())
    assert json.loads(saved(a_plan()))["version"] == 1


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("plan", "steps", 0, "subject"), "b"),
        (("plan", "steps", 2, "destroys"), False),
        (("plan", "steps", 0, "payload", "name"), "b"),
        (("plan", "steps", 2, "payload_type"), "Begin"),
        (("plan", "made_against"), "absent"),
        (("plan", "warnings"), []),
        (("made_from", "spec"), "/other.yaml"),
        (("made_from", "env"), None),
        (("seal",), "0" * 64),
    ],
)
def test_a_file_that_was_changed_is_refused(path: tuple[Any, ...], value: object) -> None:
    """What is carried out is what was reviewed: consent can't be edited away."""
    facts = json.loads(saved(a_plan()))
    place = facts
    for part in path[:-1]:
        place = place[part]
    assert place[path[-1]] != value
    place[path[-1]] = value

    with pytest.raises(UsageError) as caught:
        file_of(json.dumps(facts), name="plan.json")

    assert (caught.value.what, caught.value.why) == (
        "the plan file was changed after it was saved",
        "plan.json does not match its seal",
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "plan.json: Invalid JSON: EOF while parsing a value at line 1 column 0"),
        (b"\xff\xfe", "plan.json: Invalid JSON: expected value at line 1 column 1"),
        ("{}", "plan.json: made_from: Field required"),
        ('{"version": 2}', "plan.json: version: Input should be 1"),
    ],
)
def test_what_is_no_plan_file_is_refused(text: str | bytes, why: str) -> None:
    """Another file, half a file, or one of a later version: what is wrong is said, and how to make one."""
    with pytest.raises(UsageError) as caught:
        file_of(text, name="plan.json")

    assert (caught.value.what, caught.value.why, caught.value.hint) == (
        "this is not a plan file that can be carried out",
        why,
        "mlscale plan --out FILE",
    )


@given(st.integers(0, 2**32))
def test_a_damaged_file_is_refused_or_the_same_plan(seed: int) -> None:
    """Whatever happened to the text, it is a plan as it was saved or an error that says so."""
    chance = random.Random(seed)  # noqa: S311, no secret depends on it
    text = saved(a_plan())
    at = chance.randrange(len(text))
    damaged = (
        text[:at]
        + chance.choice(["", "0", '"', "{", "null", "\n", "ä", text[: chance.randrange(50)]])
        + text[at + chance.randrange(20) :]
    )

    try:
        plan = plan_of(file_of(damaged, name="plan.json"), payloads=PAYLOADS)
    except UsageError:
        return
    assert plan == a_plan()


def test_a_step_that_nobody_here_can_do_is_refused() -> None:
    """A file that is whole and was made by another version is an error that names the step."""
    plan = a_plan()
    file = file_of(text_of(plan, ORIGIN, payloads=PAYLOADS), name="a.plan.json")

    with pytest.raises(UsageError, match=f"knows how to do .*{plan.steps[0].key}"):
        plan_of(file, payloads=str)
