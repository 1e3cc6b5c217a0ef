"""SageMaker's own canary, linear and rolling updates: what is asked for, and what it can't do."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from mlscale.deployment import WHOLE, Deployment, Role, RolloutWish, ServedRevision
from mlscale.providers.sagemaker import guardrails, requests
from tests.unit.test_sagemaker_requests import UPLOADS, asked

TEN = timedelta(minutes=10)
CANARY = RolloutWish("canary", steps=(1000,), interval=TEN)
LINEAR = RolloutWish("linear", steps=(2500, 5000, 7500), interval=TEN)
ROLLING = RolloutWish("rolling", interval=TEN)
ALARMS = {"Alarms": [{"AlarmName": "mlscale/reviews/p99_latency"}, {"AlarmName": "mlscale/reviews/error_rate"}]}


def percent(value: int) -> dict[str, Any]:
    """Return a size in percent of the instances."""
    return {"Type": "CAPACITY_PERCENT", "Value": value}


WAYS: dict[str, tuple[RolloutWish, dict[str, Any]]] = {
    "a canary waits twice: after its step and after the rest": (
        CANARY,
        {
            "BlueGreenUpdatePolicy": {
                "TrafficRoutingConfiguration": {
                    "Type": "CANARY",
                    "WaitIntervalInSeconds": 600,
                    "CanarySize": percent(10),
                },
                "TerminationWaitInSeconds": 0,
                "MaximumExecutionTimeoutInSeconds": 1200 + 1800,
            }
        },
    ),
    "linear waits after each of its steps": (
        LINEAR,
        {
            "BlueGreenUpdatePolicy": {
                "TrafficRoutingConfiguration": {
                    "Type": "LINEAR",
                    "WaitIntervalInSeconds": 600,
                    "LinearStepSize": percent(25),
                },
                "TerminationWaitInSeconds": 0,
                "MaximumExecutionTimeoutInSeconds": 2400 + 1800,
            }
        },
    ),
    "rolling changes a quarter at a time": (
        ROLLING,
        {
            "RollingUpdatePolicy": {
                "MaximumBatchSize": percent(25),
                "WaitIntervalInSeconds": 600,
                "MaximumExecutionTimeoutInSeconds": 2400 + 1800,
            }
        },
    ),
    "the longer of two waits is SageMaker's only one": (
        RolloutWish("canary", bake_time=timedelta(minutes=20), steps=(5000,), interval=TEN),
        {
            "BlueGreenUpdatePolicy": {
                "TrafficRoutingConfiguration": {
                    "Type": "CANARY",
                    "WaitIntervalInSeconds": 1200,
                    "CanarySize": percent(50),
                },
                "TerminationWaitInSeconds": 0,
                "MaximumExecutionTimeoutInSeconds": 2400 + 1800,
            }
        },
    ),
}


@pytest.mark.parametrize("case", WAYS)
def test_an_update_goes_in_sagemakers_own_steps(case: str) -> None:
    """The deployment's alarms stop it; the request is one that SageMaker takes."""
    rollout, way = WAYS[case]

    request = requests.update(asked(), "reviews-0123456789", rollout)

    assert request["DeploymentConfig"] == {**way, "AutoRollbackConfiguration": ALARMS}
    model = botocore.session.get_session().get_service_model("sagemaker").operation_model("UpdateEndpoint")
    assert not ParamValidator().validate(request, model.input_shape).has_errors()


def beside(share: int = 1000) -> Deployment:
    """Return a deployment with a candidate."""
    tried = asked(handler="e" * 16).revisions[0].revision
    stable = replace(asked().revisions[0], share=WHOLE - share)
    return replace(asked(), revisions=(stable, ServedRevision(tried, Role.CANDIDATE, share)))


REFUSED: dict[str, tuple[Deployment, Deployment | None, RolloutWish, str]] = {
    "a canary of two steps": (asked(), None, replace(CANARY, steps=(1000, 2000)), "rollout.steps"),
    "a canary of more than half": (asked(), None, replace(CANARY, steps=(5100,)), "rollout.steps"),
    "a canary of half a percent": (asked(), None, replace(CANARY, steps=(1050,)), "rollout.steps"),
    "a canary without a step": (asked(), None, replace(CANARY, steps=()), "rollout.steps"),
    "too small a linear step": (asked(), None, replace(LINEAR, steps=(500, 1000)), "rollout.steps"),
    "uneven linear steps": (asked(), None, replace(LINEAR, steps=(1000, 5000)), "rollout.steps"),
    "too large a batch": (asked(), None, replace(ROLLING, steps=(6000,)), "rollout.steps"),
    "too long an interval": (asked(), None, replace(CANARY, interval=timedelta(minutes=61)), "rollout.interval"),
    "half a second": (asked(), None, replace(CANARY, interval=timedelta(seconds=0.5)), "rollout.interval"),
    "more than eight hours": (
        asked(),
        None,
        replace(LINEAR, steps=tuple(range(1000, WHOLE, 1000)), interval=timedelta(hours=1)),
        "rollout.interval",
    ),
    "no machines": (asked("serverless"), None, CANARY, "rollout.strategy"),
    "machines that switch at once": (asked(machine=("ml.inf1.xlarge",)), None, CANARY, "rollout.strategy"),
    "two variants": (asked(handler="f" * 16), beside(), CANARY, "rollout.strategy"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_sagemaker_does_not_do_is_refused_with_its_reason(case: str) -> None:
    """One refusal by the spec's key, with a link to where SageMaker says so."""
    wanted, seen, rollout, path = REFUSED[case]

    found = list(guardrails.refusals(wanted, seen, rollout))

    assert [each.path for each in found] == [path]
    assert found[0].why
    assert found[0].link.startswith("https://docs.aws.amazon.com/sagemaker/")


@pytest.mark.parametrize(
    "rollout",
    [
        CANARY,
        LINEAR,
        ROLLING,
        replace(CANARY, steps=(5000, WHOLE), interval=timedelta(hours=1)),
        replace(LINEAR, steps=(1000, 2000, 3000)),
        replace(LINEAR, steps=(*range(3000, WHOLE, 3000), WHOLE)),
        replace(ROLLING, steps=(500,)),
    ],
    ids=str,
)
def test_the_bounds_themselves_are_allowed(rollout: RolloutWish) -> None:
    """What SageMaker can do is refused by nobody, and a promotion of what is there already needs no steps."""
    assert requests.refusals(asked(), None, rollout, UPLOADS) == ()
    assert list(guardrails.refusals(asked(), beside(), rollout)) == []


NOTHING_BESIDE: dict[str, tuple[Deployment, Role]] = {
    "a serverless endpoint": (asked("serverless"), Role.CANDIDATE),
    "a shadow of a serverless endpoint": (asked("serverless"), Role.SHADOW),
    "an async endpoint": (asked("async"), Role.CANDIDATE),
    "a shadow of an async endpoint": (asked("async"), Role.SHADOW),
    "a shadow on machines that have none": (asked(machine=("ml.inf1.xlarge",)), Role.SHADOW),
}


@pytest.mark.parametrize("case", NOTHING_BESIDE)
def test_where_nothing_can_be_beside_the_stable_revision(case: str) -> None:
    """One refusal, with what to use instead or where it is written."""
    wanted, role = NOTHING_BESIDE[case]
    both = (wanted.revisions[0], ServedRevision(asked(handler="e" * 16).revisions[0].revision, role, 0))

    found = requests.refusals(replace(wanted, revisions=both), None, RolloutWish(), UPLOADS)

    assert [each.path for each in found] == ["rollout.strategy"]
    assert found[0].link.startswith("https://docs.aws.amazon.com/sagemaker/")
