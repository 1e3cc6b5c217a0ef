"""Values as JSON: every type that occurs, and nothing that would be told wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from types import MappingProxyType

import pytest

from mlscale.deployment import Live, Metric, Replica, Scaling, TargetPolicy
from mlscale.plan import make
from mlscale.plan.steps import Change, Step, StepKind, Unknown
from mlscale.report.json import data, plan
from tests.builders import NOON, a_deployment


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (1.5, 1.5),
        ("a", "a"),
        (Metric.CPU, "cpu"),
        (NOON, "2026-01-01T12:00:00+00:00"),
        (timedelta(minutes=1, milliseconds=500), 60.5),
        (Decimal("0.10"), "0.10"),
        (MappingProxyType({Metric.CPU: (1, 2)}), {"cpu": [1, 2]}),
        (frozenset({"b", "a"}), ["a", "b"]),
        (Change("a", None, "b"), {"path": "a", "before": None, "after": "b"}),
        (Unknown("no price book"), {"unknown": "no price book"}),
    ],
)
def test_every_type_has_one_form(value: object, expected: object) -> None:
    """Durations are seconds, times ISO 8601, money text, sets in order; what is unknown is no number."""
    assert data(value) == expected
    assert json.loads(json.dumps(data(value))) == expected


def test_another_type_is_a_bug() -> None:
    """What has no form in JSON is refused rather than written as its repr."""
    with pytest.raises(TypeError, match="no JSON for bytes"):
        data({"a": b"x"})


def test_a_whole_deployment_is_plain_data() -> None:
    """Every field of a deployment that is seen goes through JSON unchanged."""
    stable = a_deployment().revisions[0]
    served = replace(stable, live=Live(2, 1), replicas=(Replica("r-1", "healthy"),))
    seen = a_deployment(
        revisions=(served,), scaling=Scaling(1, 4, target=(TargetPolicy(Metric.CPU, 70.0),)), labels={"team": "search"}
    )

    facts = json.loads(json.dumps(data(seen)))

    assert facts == data(seen)
    assert facts["revisions"][0] == {
        "revision": {"id": stable.revision.id, "content": data(stable.revision.content)},
        "role": "stable",
        "share": 10000,
        "live": {"desired": 2, "ready": 1},
        "replicas": [{"name": "r-1", "health": "healthy", "restarts": 0, "detail": ""}],
        "metric_dimension": "",
    }
    assert facts["scaling"]["target"] == [
        {"metric": "cpu", "value": 70.0, "scale_in_cooldown": 300.0, "scale_out_cooldown": 30.0, "custom": None}
    ]


def test_a_plan_has_its_steps_without_payloads() -> None:
    """The steps' facts and the whole cost are there, the provider's own values are not."""
    first: Step[object] = Step("e/start", StepKind.CREATE, "endpoint e", object(), cost_delta=Decimal("0.25"))
    second: Step[object] = Step(
        "e/configure", StepKind.UPDATE, "settings", object(), ("e/start",), (Change("labels.a", "x", "y"),)
    )

    made = make.plan(a_deployment(labels={"a": "y"}), a_deployment(), [first, second], now=NOON, warnings=["careful"])

    assert plan(made) == {
        "identity": {"provider": "fake", "name": "reviews", "account": None, "region": None},
        "made_at": "2026-01-01T12:00:00+00:00",
        "made_against": made.made_against,
        "changes": [{"path": "labels.a", "before": None, "after": "y"}],
        "notes": {},
        "warnings": ["careful"],
        "cost_delta": {"unknown": "no price book"},
        "steps": [
            {
                "key": "e/start",
                "kind": "create",
                "subject": "endpoint e",
                "after": [],
                "changes": [],
                "destroys": False,
                "interrupts": False,
                "expected": 1.0,
                "cost_delta": "0.25",
            },
            {
                "key": "e/configure",
                "kind": "update",
                "subject": "settings",
                "after": ["e/start"],
                "changes": [{"path": "labels.a", "before": "x", "after": "y"}],
                "destroys": False,
                "interrupts": False,
                "expected": 1.0,
                "cost_delta": {"unknown": "no price book"},
            },
        ],
    }
