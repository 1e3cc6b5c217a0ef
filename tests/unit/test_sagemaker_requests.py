"""What is sent to SageMaker: names, tags and requests, and what is refused before anything is sent."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlscale.deployment import (
    WHOLE,
    Content,
    Deployment,
    Health,
    Kind,
    Role,
    RolloutWish,
    Scaling,
    ScheduledBounds,
    ServedRevision,
    revision_of,
)
from mlscale.providers.sagemaker import requests
from mlscale.spec.parse import parse
from mlscale.spec.resolve import Digests, deployment_of
from tests.conftest import GOLDEN

UPLOADS = "s3://acme-ml/mlscale/uploads"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-py312-cpu-py3"
OWN_IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/mine@sha256:0123"
NOON = datetime(2026, 6, 3, 12, 0, tzinfo=UTC)
AT_ONCE, BLUE_GREEN = RolloutWish(), RolloutWish("blue_green", timedelta(minutes=5))
LONGEST_NAME = "a-name-that-has-forty-characters-in-alls"
MODEL_NAME = re.compile(r"[a-zA-Z0-9]([\-a-zA-Z0-9]*[a-zA-Z0-9])?")
"""ModelName and EndpointConfigName, 63 characters at most (SageMaker API reference)."""

TAG = re.compile(r"[\w\s.:/=+\-@]{0,256}", re.ASCII)

names = st.from_regex(r"[a-z](-?[a-z0-9]){0,39}", fullmatch=True).filter(lambda each: len(each) <= 40)
hexes = st.text("0123456789abcdef", min_size=8, max_size=10)


def asked(env: str | None = None, *overrides: str, **content: Any) -> Deployment:
    """Return what the full spec asks for, its image chosen; `content` changes what the revision is made of."""
    spec = parse((GOLDEN / "sagemaker.yaml").read_bytes(), "spec.yaml", variables={}, env=env, overrides=overrides)
    return with_content(
        deployment_of(spec, Digests("a" * 16, "b" * 16, "c" * 16, None), {}), **{"image": IMAGE, **content}
    )


def with_content(deployment: Deployment, **changed: Any) -> Deployment:
    """Return `deployment` with a revision of another content."""
    content = replace(deployment.revisions[0].revision.content, **changed)
    return replace(deployment, revisions=(ServedRevision(revision_of(content), Role.STABLE, WHOLE),))


def model(deployment: Deployment) -> dict[str, Any]:
    """Return the request of its Model."""
    return requests.model(deployment, deployment.revisions[0].revision, UPLOADS)


def config(deployment: Deployment, count: int = 2, slot: str = "a") -> dict[str, Any]:
    """Return the request of its EndpointConfig."""
    content, name = deployment.revisions[0].revision.content, model(deployment)["ModelName"]
    return requests.config(deployment, [requests.variant(deployment, content, name, slot=slot, count=count)])


def without(request: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Return `request` without what other tests are about."""
    return {key: value for key, value in request.items() if key not in keys}


def test_a_model_without_network_or_files_asks_for_nothing_of_them() -> None:
    """An image that brings its model needs no archive, and its container gets no variable of ours."""
    plain = asked("serverless", "model.environment={}", image=OWN_IMAGE, artifact="", handler=None, requirements=None)

    assert without(model(plain), "ModelName", "Tags") == {
        "PrimaryContainer": {"Image": OWN_IMAGE},
        "ExecutionRoleArn": "arn:aws:iam::123456789012:role/mlscale-serving",
    }


def test_a_model_may_be_cut_off_from_the_network() -> None:
    """Network isolation is asked for where the spec says so."""
    alone = asked(None, "sagemaker.network_isolation=true", "model.requirements=null")

    assert model(alone)["EnableNetworkIsolation"] is True
    assert "EnableNetworkIsolation" not in model(asked())


def test_the_archive_of_a_content_has_one_place() -> None:
    """It is below the name of the deployment, and another handler is another archive."""
    one, other = (asked(handler=each * 16).revisions[0].revision.content for each in "bd")

    places = [requests.upload_place("reviews", each, UPLOADS) for each in (one, other)]

    assert all(re.fullmatch(rf"{UPLOADS}/reviews/[0-9a-f]{{16}}\.tar\.gz", each or "") for each in places)
    assert places[0] != places[1]
    assert requests.upload_place("reviews", replace(one, artifact=""), UPLOADS) is None


def test_names_fit_however_long_the_deployments_name_is() -> None:
    """A name of forty characters gives names of 63 at most, as SageMaker takes them, which are ours again when read."""
    longest = asked(None, f"name={LONGEST_NAME}")

    for name in (model(longest)["ModelName"], config(longest)["EndpointConfigName"]):
        assert len(name) <= 63
        assert MODEL_NAME.fullmatch(name)
    assert requests.revision_in(LONGEST_NAME, model(longest)["ModelName"]) == longest.revisions[0].revision.id
    assert requests.is_config(LONGEST_NAME, config(longest)["EndpointConfigName"])


@given(names, names | st.builds("{}-{}".format, names, hexes), hexes, hexes)
def test_no_name_is_anothers(name: str, other: str, revision: str, digest: str) -> None:
    """What belongs to `reviews` is never taken for what belongs to `reviews-prod`, nor the other way round."""
    for mine, others in ((name, other), (other, name), (name, f"{name}-prod"), (f"{name}-0123456789", name)):
        if mine == others:
            continue
        theirs = f"{others}-{revision:0<10}-{digest[:8]}"
        assert requests.revision_in(mine, theirs) is None
        assert not requests.is_config(mine, f"{others}-{revision:0<10}")


def test_a_name_says_what_is_in_it() -> None:
    """Labels change no name; anything that SageMaker is asked for changes the name of the resource that has it."""
    plain = asked()
    relabelled = asked(None, "labels={team: other}")
    other_role = asked(None, "sagemaker.role=arn:aws:iam::123456789012:role/other")
    other_volume = asked(None, "sagemaker.volume_size=60Gi")

    assert model(relabelled)["ModelName"] == model(plain)["ModelName"]
    assert config(relabelled)["EndpointConfigName"] == config(plain)["EndpointConfigName"]
    assert model(other_role)["ModelName"] != model(plain)["ModelName"]
    assert model(other_volume)["ModelName"] == model(plain)["ModelName"]
    arrangements = [config(plain), config(other_role), config(other_volume), config(plain, 3), config(plain, slot="b")]
    assert len({each["EndpointConfigName"] for each in arrangements}) == len(arrangements)


def test_tags_tell_what_nothing_else_does() -> None:
    """Each resource says whose it is and has the labels; a Model also what it is made of, the endpoint its marks."""
    deployment = asked()
    revision = deployment.revisions[0].revision.id
    shared = {"mlscale:name": "reviews", "project": "reviews 2", "team": "search"}

    assert model(deployment)["Tags"] == requests.tag_list(
        {
            **shared,
            "mlscale:revision": revision,
            "mlscale:artifact": "a" * 16,
            "mlscale:framework": "sklearn",
            "mlscale:framework-version": "1.4",
            "mlscale:handler": "b" * 16,
            "mlscale:requirements": "c" * 16,
            "mlscale:startup-timeout": "600",
            "mlscale:machine": "ml.c6i.xlarge ml.c5.xlarge",
        }
    )
    assert config(deployment)["Tags"] == requests.tag_list({**shared, "mlscale:revision": revision})
    assert requests.endpoint(deployment, revision, "reviews-0123456789") == {
        "EndpointName": "reviews",
        "EndpointConfigName": "reviews-0123456789",
        "Tags": requests.tag_list(
            {
                **shared,
                "mlscale:revision": revision,
                "mlscale:spec-hash": deployment.spec_hash,
                "mlscale:bounds": "2 10",
                "mlscale:labels": "project team",
            }
        ),
    }


@pytest.mark.parametrize("runtime", [None, "d" * 16])
def test_tags_are_as_aws_takes_them(runtime: str | None) -> None:
    """Their characters and lengths are allowed, and with as many labels as are not refused there are fifty at most."""
    keys = {f"k{number}": "v" * 256 for number in range(requests.MOST_TAGS - requests.OUR_TAGS)}
    deployment = replace(asked(runtime=runtime), labels=keys)

    assert requests.refusals(deployment, None, AT_ONCE, UPLOADS) == ()
    for tags in (
        model(deployment)["Tags"],
        config(deployment)["Tags"],
        requests.tag_list(requests.endpoint_tags(deployment, "0" * 10)),
    ):
        assert len(tags) <= requests.MOST_TAGS
        assert all(TAG.fullmatch(each["Value"]) and TAG.fullmatch(each["Key"]) for each in tags)
        assert [each["Key"] for each in tags] == sorted(each["Key"] for each in tags)


def test_machines_are_a_pool_where_there_are_several() -> None:
    """One machine is the variant's type; several are tried in their order."""
    one = config(asked(None, "endpoint.machine=ml.m5.large"))["ProductionVariants"][0]
    several = config(asked())["ProductionVariants"][0]

    assert one["InstanceType"] == "ml.m5.large"
    assert "InstancePools" not in one
    assert "InstanceType" not in several
    assert several["InstancePools"] == [
        {"InstanceType": "ml.c6i.xlarge", "Priority": 1},
        {"InstanceType": "ml.c5.xlarge", "Priority": 2},
    ]


@pytest.mark.parametrize(("count", "sent"), [(0, 1), (1, 1), (7, 7)])
def test_a_variant_starts_with_one_instance_at_least(count: int, sent: int) -> None:
    """SageMaker starts no endpoint without an instance, also where its queue may later have none."""
    assert config(asked("async"), count)["ProductionVariants"][0]["InitialInstanceCount"] == sent


def test_a_plain_arrangement_has_what_is_asked_and_no_more() -> None:
    """Without key, capture and volume none of them is sent; a slot that somebody else named stays."""
    plain = asked(
        None,
        "endpoint.machine=ml.m5.large",
        *(f"sagemaker.{key}=null" for key in ("kms_key", "volume_size", "data_capture")),
    )

    assert without(config(plain, 3, "AllTraffic"), "EndpointConfigName", "Tags") == {
        "ProductionVariants": [
            {
                "VariantName": "AllTraffic",
                "ModelName": model(plain)["ModelName"],
                "InitialVariantWeight": 1.0,
                "InitialInstanceCount": 3,
                "InstanceType": "ml.m5.large",
                "ContainerStartupHealthCheckTimeoutInSeconds": 600,
            }
        ]
    }


def test_a_serverless_variant_has_no_machines() -> None:
    """It has memory and concurrency; provisioned concurrency only where it is asked for."""
    cold = config(asked("serverless", "endpoint.serverless.provisioned=null"))["ProductionVariants"][0]

    assert cold["ServerlessConfig"] == {"MemorySizeInMB": 4096, "MaxConcurrency": 20}
    assert cold.keys() == {"VariantName", "ModelName", "InitialVariantWeight", "ServerlessConfig"}
    warm = config(asked("serverless"))["ProductionVariants"][0]
    assert warm["ServerlessConfig"] == {**cold["ServerlessConfig"], "ProvisionedConcurrency": 2}


def test_a_queue_needs_only_a_place_for_answers() -> None:
    """Failures, topics and concurrency are sent where they are asked for, each by itself."""
    keys = ("failures", "concurrency", "notify_success", "notify_error")
    least = asked("async", *(f"endpoint.async_inference.{key}=null" for key in keys))
    told = asked("async", *(f"endpoint.async_inference.{key}=null" for key in keys[:3]))

    output = {"S3OutputPath": "s3://mlscale-workspace/answers"}
    topic = {"ErrorTopic": "arn:aws:sns:us-east-1:123456789012:failures"}
    assert config(least)["AsyncInferenceConfig"] == {"OutputConfig": output}
    assert config(told)["AsyncInferenceConfig"] == {"OutputConfig": {**output, "NotificationConfig": topic}}


def test_an_update_keeps_counts_and_weights() -> None:
    """Without the words for it SageMaker goes back to the counts of the arrangement; data capture is the new one's."""
    assert requests.update(asked(), "reviews-0123456789", AT_ONCE) == {
        "EndpointName": "reviews",
        "EndpointConfigName": "reviews-0123456789",
        "RetainAllVariantProperties": True,
        "ExcludeRetainedVariantProperties": [{"VariantPropertyType": "DataCaptureConfig"}],
    }


def test_a_blue_green_update_is_stopped_by_alarms_that_requests_ring() -> None:
    """It waits as long as the old revision shall stay, and not for an alarm that rings because nobody asks."""
    assert requests.update(asked(), "reviews-0123456789", BLUE_GREEN)["DeploymentConfig"] == {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 300},
            "TerminationWaitInSeconds": 0,
            "MaximumExecutionTimeoutInSeconds": 2100,
        },
        "AutoRollbackConfiguration": {
            "Alarms": [{"AlarmName": "mlscale/reviews/p99_latency"}, {"AlarmName": "mlscale/reviews/error_rate"}]
        },
    }
    unwatched = asked(None, "alarms={no_invocations: 15m}")
    assert "AutoRollbackConfiguration" not in requests.update(unwatched, "c", BLUE_GREEN)["DeploymentConfig"]


@pytest.mark.parametrize(
    ("have", "sent"), [(None, None), (1, 2), (2, None), (3, None), (4, None), (5, 4), (0, 2)], ids=str
)
def test_a_count_is_brought_into_its_bounds_by_the_shortest_way(have: int | None, sent: int | None) -> None:
    """A count in its bounds is let be, and so is a variant that has none."""
    call = requests.count("reviews", "a", Scaling(2, 4), have, NOON)

    wanted = [{"VariantName": "a", "DesiredInstanceCount": sent}]
    assert (call.request if call else None) == (
        {"EndpointName": "reviews", "DesiredWeightsAndCapacities": wanted} if sent else None
    )


def test_the_bounds_of_a_count_are_those_of_the_schedule() -> None:
    """Between two entries it is what the last one said."""
    scheduled = Scaling(1, 2, schedule=(ScheduledBounds("0 8 * * *", "UTC", 5, 6),))

    call = requests.count("reviews", "a", scheduled, 2, NOON)

    assert call is not None
    assert call.request["DesiredWeightsAndCapacities"] == [{"VariantName": "a", "DesiredInstanceCount": 5}]


REFUSED: dict[str, tuple[Deployment, RolloutWish, str]] = {
    "another health path": (asked(health=Health("/health")), AT_ONCE, "endpoint.health.path"),
    "too short a start": (
        asked(health=Health(startup_timeout=timedelta(seconds=59))),
        AT_ONCE,
        "endpoint.health.startup_timeout",
    ),
    "too long a start": (
        asked(health=Health(startup_timeout=timedelta(seconds=3601))),
        AT_ONCE,
        "endpoint.health.startup_timeout",
    ),
    "a start of half a second": (
        asked(health=Health(startup_timeout=timedelta(seconds=90.5))),
        AT_ONCE,
        "endpoint.health.startup_timeout",
    ),
    "blue_green without machines": (asked("serverless"), BLUE_GREEN, "rollout.strategy"),
    "too long a bake": (asked(), RolloutWish("blue_green", timedelta(seconds=3601)), "rollout.bake_time"),
    "half a percent": (
        replace(asked(), settings={**asked().settings, "data_capture": "0.5% to s3://a/b"}),
        AT_ONCE,
        "sagemaker.data_capture.share",
    ),
    "capture of a queue": (
        replace(asked("async"), settings={**asked("async").settings, "data_capture": "5% to s3://a/b"}),
        AT_ONCE,
        "sagemaker.data_capture",
    ),
    "labels too many": (replace(asked(), labels={f"k{number}": "v" for number in range(39)}), AT_ONCE, "labels"),
    "labels too long": (replace(asked(), labels={"k" * 128: "v", "l" * 128: "v"}), AT_ONCE, "labels"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_sagemaker_cannot_do_is_refused_with_its_reason(case: str) -> None:
    """Each refusal names the key of the spec; one at a time, nothing else is refused."""
    deployment, rollout, path = REFUSED[case]

    found = requests.refusals(deployment, None, rollout, UPLOADS)

    assert [each.path for each in found] == [path]
    assert found[0].why
    assert found[0].link.startswith("https://docs.aws.amazon.com/") or path == "labels"


@pytest.mark.parametrize(
    "asks",
    [
        asked(),
        asked("async"),
        asked("serverless"),
        asked(health=Health(startup_timeout=timedelta(minutes=1))),
        asked(health=Health(startup_timeout=timedelta(hours=1))),
        replace(asked(), labels={f"k{number}": "v" for number in range(38)}),
    ],
    ids=["realtime", "async", "serverless", "shortest start", "longest start", "most labels"],
)
def test_what_sagemaker_can_do_is_not_refused(asks: Deployment) -> None:
    """The bounds themselves are allowed."""
    bake = RolloutWish(AT_ONCE.strategy if asks.kind is Kind.SERVERLESS else "blue_green", timedelta(hours=1))

    assert requests.refusals(asks, None, bake, UPLOADS) == ()


def test_files_need_a_place_in_s3() -> None:
    """With a workspace elsewhere a model can't be had, unless the image brings it."""
    assert [each.path for each in requests.refusals(asked(), None, AT_ONCE, "")] == ["workspace"]
    bare = asked(artifact="", image=OWN_IMAGE)
    assert requests.refusals(bare, None, AT_ONCE, "") == ()


def test_a_kind_is_for_life() -> None:
    """Of an endpoint that is there SageMaker makes no other kind; of what is left of one it may."""
    seen = replace(asked("async"), facts={"status": "InService"})

    assert [each.path for each in requests.refusals(asked(), seen, AT_ONCE, UPLOADS)] == ["endpoint.kind"]
    assert requests.refusals(asked("async"), seen, AT_ONCE, UPLOADS) == ()
    assert requests.refusals(asked(), replace(seen, facts={"left": "yes"}), AT_ONCE, UPLOADS) == ()


def test_the_content_of_an_asked_revision_is_whole() -> None:
    """Each field of a content is told by a tag or by the request: a new field is not forgotten."""
    told_by_the_request = {"image", "environment", "machine", "health"}

    assert {*requests.CONTENT_TAGS, *told_by_the_request} == set(Content.__dataclass_fields__)
