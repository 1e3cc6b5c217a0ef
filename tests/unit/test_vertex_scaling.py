"""Scaling in Vertex AI's words: what a model is deployed with, what is read back, and what is put right again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from google.cloud import aiplatform_v1
from hypothesis import given, settings
from hypothesis import strategies as st

from mlscale.deployment import CustomMetric, Metric, Scaling, ScheduledBounds, StepPolicy, TargetPolicy
from mlscale.providers.contract import Refusal
from mlscale.providers.vertex import scaling
from mlscale.providers.vertex.machines import Machine, parse

CPU_MACHINE = Machine("n1-standard-4")
GPU_MACHINE = Machine("g2-standard-8", "NVIDIA_L4", 1)
SPOT_MACHINE = replace(GPU_MACHINE, spot=True)
ONLINE = "aiplatform.googleapis.com/prediction/online"


def a_target(metric: Metric, value: float, **fields: Any) -> TargetPolicy:
    """Return a target with the usual cooldowns."""
    return TargetPolicy(metric, value, **fields)


def read(message: Any) -> dict[str, Any]:
    """Return a message as the client answers it: its JSON, with what is empty left out."""
    found: dict[str, Any] = type(message).to_dict(
        message,
        preserving_proto_field_name=True,
        use_integers_for_enums=False,
        always_print_fields_with_no_presence=False,
    )
    return found


def deployed(asked: Scaling, machine: Machine, least: int) -> dict[str, Any]:
    """Return the DedicatedResources of a model that was just deployed."""
    return read(aiplatform_v1.DedicatedResources(scaling.dedicated(asked, machine, least=least)))


def filled(resources: dict[str, Any]) -> dict[str, Any]:
    """Return resources as a server may answer them that writes out the targets which are usual anyway."""
    has_gpu = "accelerator_type" in resources["machine_spec"]
    followed = ["cpu/utilization", "accelerator/duty_cycle"] if has_gpu else ["cpu/utilization"]
    usual = [{"metric_name": f"{ONLINE}/{each}", "target": 60} for each in followed]
    return {"autoscaling_metric_specs": usual, **resources}


def mutated(present: dict[str, Any], change: tuple[dict[str, Any], list[str]] | None) -> dict[str, Any]:
    """Return resources after a MutateDeployedModel: each path of the mask is as the message says, or empty."""
    if change is None:
        return present
    message, paths = change
    made = read(aiplatform_v1.DeployedModel(message))["dedicated_resources"]
    after = dict(present)
    for path in paths:
        resources, field = path.split(".")
        assert resources == "dedicated_resources"
        after.pop(field, None)
        if field in made:
            after[field] = made[field]
    assert after["min_replica_count"] <= after["max_replica_count"]
    return after


machines = st.sampled_from((CPU_MACHINE, GPU_MACHINE, SPOT_MACHINE))
percents = st.integers(1, 100).map(float)
requests = st.integers(1, 2**31 - 1).map(float)
usual = st.just(60.0)


@st.composite
def wishes(draw: st.DrawFn, machine: Machine) -> Scaling:
    """Draw what Vertex AI can do on a machine."""
    targets = [
        a_target(Metric.CPU, draw(percents | usual)),
        a_target(Metric.INVOCATIONS_PER_REPLICA, draw(requests)),
        *([a_target(Metric.GPU, draw(percents | usual))] if machine.accelerator else []),
    ]
    low = draw(st.integers(1, 50))
    chosen = [each for each in draw(st.permutations(targets)) if draw(st.booleans())]
    return Scaling(low, low + draw(st.integers(0, 50)), tuple(chosen))


@settings(deadline=None)
@given(st.data(), machines)
def test_whatever_is_asked_is_what_is_read_back(data: st.DataObject, machine: Machine) -> None:
    """From nothing to any scaling, and on to any other: each is read back, whether or not the server fills in."""
    first, second = (data.draw(wishes(machine)) for _ in range(2))
    present = deployed(first, machine, first.min)

    for asked in (first, second, first):
        wanted = scaling.canonical(asked, [machine])
        present = mutated(present, scaling.mutation("1234567890", wanted, present))
        assert scaling.scaling_of(present) == scaling.scaling_of(filled(present)) == wanted
        assert scaling.canonical(wanted, [machine]) == wanted
        assert scaling.mutation("1234567890", wanted, present) is None
        assert scaling.mutation("1234567890", wanted, filled(present)) is None
        assert scaling.refusals(asked, [machine]) == ()


def test_resources_name_machine_bounds_and_targets() -> None:
    """The request has each in Vertex AI's words, and the replicas that it begins with as the least."""
    asked = Scaling(2, 10, (a_target(Metric.INVOCATIONS_PER_REPLICA, 600.0), a_target(Metric.CPU, 70.0)))

    assert deployed(asked, parse("g2-standard-8+1xnvidia-l4+spot"), 4) == {
        "machine_spec": {
            "machine_type": "g2-standard-8",
            "accelerator_type": "NVIDIA_L4",
            "accelerator_count": 1,
        },
        "min_replica_count": 4,
        "max_replica_count": 10,
        "autoscaling_metric_specs": [
            {"metric_name": "aiplatform.googleapis.com/prediction/online/cpu/utilization", "target": 70},
            {"metric_name": "aiplatform.googleapis.com/prediction/online/request_count", "target": 600},
        ],
        "spot": True,
    }


def test_a_fixed_count_is_both_bounds() -> None:
    """Three replicas are three at least and three at most, and more where it begins with more."""
    fixed = {"machine_spec": {"machine_type": "n1-standard-4"}, "min_replica_count": 3, "max_replica_count": 3}

    assert deployed(Scaling(3, 3), CPU_MACHINE, 3) == fixed
    assert deployed(Scaling(3, 3), CPU_MACHINE, 5) == {**fixed, "min_replica_count": 5, "max_replica_count": 5}


CPU_60, GPU_60 = a_target(Metric.CPU, 60.0), a_target(Metric.GPU, 60.0)


@pytest.mark.parametrize(
    ("machine", "asked", "kept"),
    [
        (CPU_MACHINE, (CPU_60,), ()),
        (GPU_MACHINE, (GPU_60, CPU_60), ()),
        (GPU_MACHINE, (CPU_60,), (CPU_60,)),
        (GPU_MACHINE, (GPU_60,), (GPU_60,)),
        (CPU_MACHINE, (a_target(Metric.CPU, 61.0),), (a_target(Metric.CPU, 61.0),)),
    ],
)
def test_what_is_usual_anyway_is_no_target(
    machine: Machine, asked: Sequence[TargetPolicy], kept: Sequence[TargetPolicy]
) -> None:
    """CPU and GPU at 60 are what nobody asked for; the CPU alone at 60 turns the GPU off where there is one."""
    wanted = Scaling(1, 4, tuple(kept))

    assert scaling.canonical(Scaling(1, 4, tuple(asked)), [machine]) == wanted
    assert scaling.scaling_of(deployed(Scaling(1, 4, tuple(asked)), machine, 1)) == wanted


def test_cooldowns_are_those_of_a_target_that_names_none() -> None:
    """Vertex AI holds none, so a plan can't show that they differ."""
    brief = timedelta(seconds=1)
    asked = Scaling(1, 4, (TargetPolicy(Metric.CPU, 70, brief, brief),))

    assert scaling.canonical(asked) == Scaling(1, 4, (TargetPolicy(Metric.CPU, 70.0),))


def test_resources_that_say_little_have_one_replica() -> None:
    """A least that is left out is one, a most that is left out is as many as the least."""
    assert scaling.scaling_of({}) == Scaling(1, 1)
    assert scaling.scaling_of({"min_replica_count": 3}) == Scaling(3, 3)


def test_a_metric_of_somebody_elses_shows_and_is_put_right() -> None:
    """A target that we can't ask for is read as a metric of one's own, and taken away."""
    spec = {"metric_name": "prometheus.googleapis.com/vertex_vllm_num_requests_waiting", "target": 5}
    present = {**deployed(Scaling(1, 2), GPU_MACHINE, 1), "autoscaling_metric_specs": [spec]}
    metric = CustomMetric("prometheus.googleapis.com", "vertex_vllm_num_requests_waiting")
    change = scaling.mutation("1234567890", Scaling(1, 2), present)

    assert scaling.scaling_of(present) == Scaling(1, 2, (a_target(Metric.CUSTOM, 5.0, custom=metric),))
    assert change == (
        {
            "id": "1234567890",
            "dedicated_resources": {
                "autoscaling_metric_specs": [
                    {"metric_name": "aiplatform.googleapis.com/prediction/online/cpu/utilization", "target": 60},
                    {"metric_name": "aiplatform.googleapis.com/prediction/online/accelerator/duty_cycle", "target": 60},
                ]
            },
        },
        ["dedicated_resources.autoscaling_metric_specs"],
    )
    assert scaling.scaling_of(mutated(present, change)) == Scaling(1, 2)


def test_only_what_differs_is_changed() -> None:
    """Bounds that were raised for a takeover come down again, and targets that are right are not named."""
    asked = Scaling(2, 3, (a_target(Metric.CPU, 70.0),))
    present = deployed(asked, CPU_MACHINE, 5)

    assert scaling.mutation("1234567890", asked, present) == (
        {"id": "1234567890", "dedicated_resources": {"min_replica_count": 2, "max_replica_count": 3}},
        ["dedicated_resources.min_replica_count", "dedicated_resources.max_replica_count"],
    )


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (
            Scaling(0, 2),
            Refusal("endpoint.replicas", "a model keeps one replica at least", scaling.LINK_TO_RESOURCES),
        ),
        (
            Scaling(1, 2, (a_target(Metric.CONCURRENCY, 4),)),
            Refusal(
                "endpoint.autoscaling.target[0].metric",
                "Vertex AI follows cpu, gpu, invocations_per_replica, not concurrency",
                scaling.LINK,
            ),
        ),
        (
            Scaling(1, 2, (a_target(Metric.CUSTOM, 4, custom=CustomMetric("own", "metric")),)),
            Refusal(
                "endpoint.autoscaling.target[0].metric",
                "Vertex AI follows cpu, gpu, invocations_per_replica, not a metric of your own",
                scaling.LINK,
            ),
        ),
        (
            Scaling(1, 2, (a_target(Metric.CPU, 120),)),
            Refusal(
                "endpoint.autoscaling.target[0].value",
                "120 is no whole number from 1 to 100",
                scaling.LINK_TO_RESOURCES,
            ),
        ),
        (
            Scaling(1, 2, (a_target(Metric.INVOCATIONS_PER_REPLICA, 0.5),)),
            Refusal(
                "endpoint.autoscaling.target[0].value",
                "0.5 is no whole number from 1 to 2147483647",
                scaling.LINK_TO_RESOURCES,
            ),
        ),
        (
            Scaling(1, 2, (a_target(Metric.GPU, 70),)),
            Refusal("endpoint.autoscaling.target[0].metric", "n1-standard-4 has no GPU", scaling.LINK),
        ),
        (
            Scaling(1, 2, (a_target(Metric.CPU, 70), a_target(Metric.CPU, 80))),
            Refusal("endpoint.autoscaling.target[1]", "a metric has one target", scaling.LINK_TO_RESOURCES),
        ),
        (
            Scaling(1, 2, (a_target(Metric.CPU, 70, scale_in_cooldown=timedelta(minutes=1)),)),
            Refusal(
                "endpoint.autoscaling.target[0].scale_in_cooldown",
                "Vertex AI has no cooldown: it goes by the last five minutes",
                scaling.LINK,
            ),
        ),
        (
            Scaling(1, 2, steps=(StepPolicy(Metric.CPU, 1, above=80),)),
            Refusal("endpoint.autoscaling.steps", "Vertex AI has no steps: use a target", scaling.LINK),
        ),
        (
            Scaling(1, 2, schedule=(ScheduledBounds("0 8 * * *", min=2),)),
            Refusal(
                "endpoint.autoscaling.schedule",
                "Vertex AI has no schedule: change replicas with a deploy at those times",
                scaling.LINK,
            ),
        ),
    ],
)
def test_what_vertex_cannot_do_is_refused(asked: Scaling, expected: Refusal) -> None:
    """One reason for each, with the page where Google says it."""
    assert scaling.refusals(asked, [CPU_MACHINE]) == (expected,)


def test_each_metric_is_one_that_the_api_names() -> None:
    """The three are the ones that AutoscalingMetricSpec lists for online prediction."""
    told = aiplatform_v1.AutoscalingMetricSpec.__doc__ or ""

    assert set(scaling.METRICS.values()) == {
        word.strip("`") for word in told.split() if word.startswith("``aiplatform.googleapis.com")
    }
