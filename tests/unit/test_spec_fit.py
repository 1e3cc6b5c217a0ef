"""What a provider can't do of a spec, or needs and does not find there, is told at its key."""

from __future__ import annotations

import re

import pytest

from tests.unit.test_spec_parse import BASE, SCALED, parsed, problems

CLOUD = """\
version: 1
name: reviews
provider: sagemaker
region: us-east-1
model:
  source: ./model
  framework: sklearn
endpoint:
  machine: ml.c6i.xlarge
sagemaker:
  role: arn:aws:iam::123456789012:role/ml
"""
"""The least that a spec for SageMaker must say; what a test adds begins in line 12."""

QUEUED = "endpoint.autoscaling.target=[{metric: queue_depth, value: 5}]"
ASYNC = ("endpoint.kind=async", "endpoint.async_inference={output: 's3://acme/answers'}")
SERVERLESS = ("endpoint.kind=serverless", "endpoint.machine=[]")


def said(*overrides: str) -> list[str]:
    """Return the problems of the least spec for SageMaker with `overrides`, without their places."""
    return [re.sub(r"^(--set [^:]*|\d+:\d+): ", "", each) for each in problems(CLOUD, overrides=overrides)]


def test_the_least_spec_for_sagemaker_is_completed() -> None:
    """A machine type stands alone or in a list; what is left out has its default."""
    spec = parsed(CLOUD)

    assert spec.endpoint.machine == ("ml.c6i.xlarge",)
    assert (spec.region, spec.account, spec.endpoint.capacity) == ("us-east-1", None, "on_demand")
    assert spec.sagemaker.data_capture is None
    assert parsed(CLOUD, overrides=SERVERLESS).endpoint.serverless is None
    assert parsed(CLOUD, overrides=[*ASYNC, "endpoint.replicas={min: 0, max: 2}", QUEUED]).endpoint.replicas.min == 0


def test_what_sagemaker_needs_is_told_at_what_should_hold_it() -> None:
    """Region, role and machine come together, each at the place where it belongs."""
    text = f"{BASE}endpoint: {{replicas: 2}}\n".replace("local", "sagemaker")
    role = "the model runs as a role: write its ARN, like arn:aws:iam::123456789012:role/ml"

    assert problems(text) == [
        "1:1: region is missing: SageMaker needs it, like us-east-1",
        f"1:1: sagemaker.role is missing: {role}",
        "7:1: endpoint.machine is missing: SageMaker needs a machine type, like ml.c6i.xlarge",
    ]


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        (
            "account: 123456789012\n",
            '12:10: account is not valid: 123456789012 is not a text (write it in quotes: "123456789012")',
        ),
        (
            "account: '1234'\n",
            "12:10: account is not valid: '1234' is no account: write it like \"123456789012\" or acme-ml",
        ),
        (
            "account: acme-ml\n",
            '12:10: account is not valid: acme-ml is no account of AWS: write it like "123456789012"',
        ),
        (
            "account: '210987654321'\n",
            "12:10: account is not valid: it is 210987654321, and sagemaker.role is in 123456789012",
        ),
        (
            "  uploads: acme/models\n",
            "12:12: sagemaker.uploads is not valid: 'acme/models' is no place in S3: write it like s3://bucket/folder",
        ),
        (
            "  uploads: s3://Acme\n",
            "12:12: sagemaker.uploads is not valid: 's3://Acme' is no place in S3: write it like s3://bucket/folder",
        ),
        (
            f"  uploads: s3://acme/{'x' * 600}\n",
            "12:12: sagemaker.uploads is not valid: it has 610 characters, 512 at most",
        ),
        (
            "  subnets: [subnet-1]\n",
            "10:1: sagemaker.security_groups is missing: subnets and security_groups go together",
        ),
        (
            "  security_groups: [sg-1]\n",
            "10:1: sagemaker.subnets is missing: subnets and security_groups go together",
        ),
        (
            "  subnets: [sg-1]\n  security_groups: [sg-1]\n",
            "12:13: sagemaker.subnets[0] is not valid: 'sg-1' is no subnet: write it like subnet-0a1b2c3d4e5f60718",
        ),
        (
            "  subnets: [subnet-1, subnet-1]\n  security_groups: [sg-1]\n",
            "12:23: sagemaker.subnets[1] is not valid: subnet-1 is there twice",
        ),
        (
            "  subnets: [subnet-1]\n  security_groups: [sg-1, sg-2, sg-3, sg-4, sg-5, sg-6]\n",
            "13:20: sagemaker.security_groups is not valid: it has 6 entries, 5 at most",
        ),
        (
            "  kms_key: a key\n",
            "12:12: sagemaker.kms_key is not valid: 'a key' is no key: write it like alias/ml, or its id or ARN",
        ),
        (
            "  volume_size: 600Gi\n",
            "12:16: sagemaker.volume_size is not valid: it must be 1Gi to 512Gi, whole Gi",
        ),
        (
            "  volume_size: 1.5Gi\n",
            "12:16: sagemaker.volume_size is not valid: it must be 1Gi to 512Gi, whole Gi",
        ),
        (
            "  data_capture: {share: 10%}\n",
            "12:3: sagemaker.data_capture.destination is missing (Where they are kept, like s3://bucket/captured.)",
        ),
        (
            "  data_capture: {share: 0.5%, destination: 's3://acme/c'}\n",
            "12:25: sagemaker.data_capture.share is not valid: it must be a whole percentage",
        ),
        (
            "  data_capture: {share: 10, destination: 's3://acme/c'}\n",
            "12:25: sagemaker.data_capture.share is not valid: a percentage has its sign: write it like 1%",
        ),
        (
            "  data_capture: {share: 101%, destination: 's3://acme/c'}\n",
            "12:25: sagemaker.data_capture.share is not valid: it must be more than 0% and 100% at most",
        ),
        (
            "alarms: {p99_latency: 500}\n",
            "12:23: alarms.p99_latency is not valid: a latency has a unit: write it like 500ms or 1.5s",
        ),
        (
            "alarms: {p99_latency: 5m}\n",
            "12:23: alarms.p99_latency is not valid: '5m' is not a latency: write it like 500ms or 1.5s",
        ),
        (
            "alarms: {p99_latency: 0ms}\n",
            "12:23: alarms.p99_latency is not valid: it must be more than 0s",
        ),
        (
            "alarms: {p99_latency: 3601s}\n",
            "12:23: alarms.p99_latency is not valid: 3601s is too long: 1h at most",
        ),
        (
            "alarms: {error_rate: 0%}\n",
            "12:22: alarms.error_rate is not valid: it must be more than 0% and 100% at most",
        ),
        (
            "alarms: {error_rate: 1}\n",
            "12:22: alarms.error_rate is not valid: a percentage has its sign: write it like 1%",
        ),
        (
            "alarms: {no_invocations: 90s}\n",
            "12:26: alarms.no_invocations is not valid: it must be whole minutes, 1d at most",
        ),
        (
            "alarms: {no_invocations: 25h}\n",
            "12:26: alarms.no_invocations is not valid: it must be whole minutes, 1d at most",
        ),
        (
            "alarms: {no_invocations: 0s}\n",
            "12:26: alarms.no_invocations is not valid: it must be more than 0s",
        ),
        (
            "alarms: {notify: ['mailto:ml@example.com']}\n",
            (
                "12:19: alarms.notify[0] is not valid: 'mailto:ml@example.com' is no topic and no notification "
                "channel: write it like arn:aws:sns:us-east-1:123456789012:ml or "
                "projects/acme-ml/notificationChannels/123"
            ),
        ),
        (
            "alarms: {notify: [projects/acme-ml/notificationChannels/123]}\n",
            (
                "12:19: alarms.notify[0] is not valid: SageMaker's alarms tell topics: write it like "
                "arn:aws:sns:us-east-1:123456789012:ml"
            ),
        ),
        (
            "alarms: {notify: ['arn:aws:sns:eu-west-1:123456789012:ml']}\n",
            (
                "12:19: alarms.notify[0] is not valid: the topic is in eu-west-1, and an alarm in us-east-1 tells "
                "topics of its own region only"
            ),
        ),
        (
            "rollout: {strategy: blue_green, bake_time: 61m}\n",
            "12:44: rollout.bake_time is not valid: it must be 1h at most on SageMaker",
        ),
    ],
)
def test_a_wrong_value_for_sagemaker_is_told_at_its_place(added: str, expected: str) -> None:
    """What AWS would refuse later is refused before anything is called, one problem each."""
    assert problems(CLOUD + added) == [expected]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["region=useast1"],
            "region is not valid: 'useast1' is no region: write it like us-east-1 or us-central1",
        ),
        (
            ["region=us-central1"],
            "region is not valid: us-central1 is no region of AWS: write it like us-east-1",
        ),
        (
            ["sagemaker.role=admin"],
            "sagemaker.role is not valid: 'admin' is no role: write it like arn:aws:iam::123456789012:role/sagemaker",
        ),
        (
            ["endpoint.machine=c6i.xlarge"],
            (
                "endpoint.machine is not valid: c6i.xlarge is no machine type of SageMaker: they begin with ml., like "
                "ml.c6i.xlarge"
            ),
        ),
        (
            ["endpoint.machine=[ml.a, c5]"],
            (
                "endpoint.machine[1] is not valid: c5 is no machine type of SageMaker: they begin with ml., like "
                "ml.c6i.xlarge"
            ),
        ),
        (
            ["endpoint.machine=[ml.a, ml.a]"],
            "endpoint.machine[1] is not valid: ml.a is there twice",
        ),
        (
            ["endpoint.machine=[ml.a, ml.b, ml.c, ml.d, ml.e, ml.f]"],
            "endpoint.machine is not valid: it has 6 entries, 5 at most",
        ),
        (
            ["endpoint.machine=ML.A"],
            "endpoint.machine is not valid: 'ML.A' is no machine type: write it like ml.c6i.xlarge or n1-standard-4",
        ),
        (
            ["endpoint.machine=5"],
            "endpoint.machine is not valid: it is 5, a list is needed (begin each entry with a dash)",
        ),
        (
            ["endpoint.accelerator={gpus: 1}"],
            (
                "endpoint.accelerator is not valid: SageMaker's machine types have their GPUs: choose one like "
                "ml.g5.xlarge"
            ),
        ),
        (
            ["endpoint.capacity=spot"],
            "endpoint.capacity is not valid: SageMaker has no endpoint on spot capacity; Vertex AI has",
        ),
        (
            ["endpoint.health.path=/health"],
            "endpoint.health.path is not valid: SageMaker asks at /ping, and nowhere else",
        ),
        (
            ["endpoint.health.startup_timeout=30s"],
            "endpoint.health.startup_timeout is not valid: it must be 1m to 1h on SageMaker",
        ),
        (
            ["endpoint.health.startup_timeout=2h"],
            "endpoint.health.startup_timeout is not valid: it must be 1m to 1h on SageMaker",
        ),
        (
            ["sagemaker.network_isolation=true", "model.requirements=r.txt"],
            (
                "sagemaker.network_isolation is not valid: a container that may call nothing outside can't install "
                "model.requirements: use an image that has them"
            ),
        ),
        (
            ["rollout.strategy=blue_green", "endpoint.machine=ml.inf1.xlarge"],
            (
                "rollout.strategy is not valid: SageMaker switches all at once, without bake time, where a machine is "
                "ml.inf1"
            ),
        ),
        (
            [f"labels={{{', '.join(f'l{n}: a' for n in range(31))}}}"],
            "labels is not valid: there are 31, 30 at most on SageMaker",
        ),
        (
            [f"model.environment={{{', '.join(f'V{n}: a' for n in range(81))}}}"],
            "model.environment is not valid: there are 81, 80 at most on SageMaker",
        ),
        (
            [f"model.environment.A={'x' * 1025}"],
            "model.environment.A is not valid: it has 1,025 characters, 1,024 at most on SageMaker",
        ),
        (
            ["endpoint.serverless={}"],
            "endpoint.serverless is not valid: it is for kind: serverless, and this is realtime",
        ),
        (
            ["endpoint.async_inference={output: 's3://acme/a'}"],
            "endpoint.async_inference is not valid: it is for kind: async, and this is realtime",
        ),
        (
            ["endpoint.replicas={min: 0, max: 2}"],
            (
                "endpoint.replicas.min is not valid: 0 replicas answer nothing: that is for kind: async, where "
                "requests wait"
            ),
        ),
        (
            ["endpoint.autoscaling.schedule=[{cron: 0 8 * * *, min: 0}]"],
            (
                "endpoint.autoscaling.schedule[0].min is not valid: 0 replicas answer nothing: that is for kind: "
                "async, where requests wait"
            ),
        ),
        (
            ["endpoint.replicas={min: 1, max: 2}", QUEUED],
            "endpoint.autoscaling.target[0].metric is not valid: requests wait in a queue for kind: async only",
        ),
        (
            ["endpoint.kind=async"],
            "endpoint.async_inference is missing: kind: async needs it, with output: s3://bucket/folder",
        ),
        (
            [*ASYNC, "endpoint.replicas={min: 0, max: 2}"],
            "endpoint.replicas.min is not valid: no autoscaling would ever remove the last replica",
        ),
        (
            [*ASYNC, "endpoint.async_inference.concurrency=0"],
            "endpoint.async_inference.concurrency is not valid: it is 0, 1 at least",
        ),
        (
            [*ASYNC, "endpoint.async_inference.notify_error=me"],
            (
                "endpoint.async_inference.notify_error is not valid: 'me' is no topic: write it like "
                "arn:aws:sns:us-east-1:123456789012:ml"
            ),
        ),
        (
            [SERVERLESS[0]],
            (
                "endpoint.machine is not valid: a serverless endpoint has none: serverless: {memory, concurrency} is "
                "its size"
            ),
        ),
        (
            [*SERVERLESS, "endpoint.replicas=2"],
            (
                "endpoint.replicas is not valid: a serverless endpoint has none: serverless: {memory, concurrency} is "
                "its size"
            ),
        ),
        (
            [*SERVERLESS, "endpoint.serverless.memory=7Gi"],
            "endpoint.serverless.memory is not valid: it must be 1Gi to 6Gi, whole Gi",
        ),
        (
            [*SERVERLESS, "endpoint.serverless.memory=1.5Gi"],
            "endpoint.serverless.memory is not valid: it must be 1Gi to 6Gi, whole Gi",
        ),
        (
            [*SERVERLESS, "endpoint.serverless.memory=512Mi"],
            "endpoint.serverless.memory is not valid: it must be 1Gi to 6Gi, whole Gi",
        ),
        (
            [*SERVERLESS, "endpoint.serverless.concurrency=201"],
            "endpoint.serverless.concurrency is not valid: it is 201, 200 at most",
        ),
        (
            [*SERVERLESS, "endpoint.serverless={concurrency: 5, provisioned: 6}"],
            "endpoint.serverless.provisioned is not valid: provisioned 6 is more than concurrency 5",
        ),
        (
            [*SERVERLESS, "sagemaker.volume_size=5Gi"],
            "sagemaker.volume_size is not valid: a serverless endpoint has none",
        ),
        (
            [*SERVERLESS, "sagemaker.network_isolation=true"],
            "sagemaker.network_isolation is not valid: a serverless endpoint has none",
        ),
        (
            [*SERVERLESS, "rollout.strategy=blue_green"],
            "rollout.strategy is not valid: SageMaker switches a serverless endpoint all at once",
        ),
    ],
)
def test_what_does_not_fit_sagemaker_is_refused(overrides: list[str], expected: str) -> None:
    """What no endpoint there can have, or not one of its kind, is one problem with its reason, whole."""
    assert said(*overrides) == [expected]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["endpoint.kind=async", "endpoint.async_inference={output: 's3://acme/b'}"],
            "endpoint.kind is not valid: async is not available on this machine; use realtime",
        ),
        (
            ["model.framework=tensorflow"],
            "model.framework is not valid: tensorflow is not served on this machine; use custom and a handler",
        ),
        (
            ["model.framework=huggingface"],
            "model.framework is not valid: huggingface is not served on this machine; use custom and a handler",
        ),
        (
            ["endpoint.capacity=spot"],
            "endpoint.capacity is not valid: this machine has no endpoint on spot capacity; Vertex AI has",
        ),
        (
            ["endpoint.autoscaling.target=[{metric: gpu, value: 70%}]"],
            "endpoint.autoscaling.target[0].metric is not valid: gpu is not measured on this machine",
        ),
        (
            ["endpoint.autoscaling.steps=[{metric: gpu, above: 70%, add: 1}]"],
            "endpoint.autoscaling.steps[0].metric is not valid: gpu is not measured on this machine",
        ),
        (
            ["endpoint.autoscaling.target=[{custom: {namespace: A, name: B}, value: 7}]"],
            "endpoint.autoscaling.target[0].custom is not valid: a metric of your own is not measured on this machine",
        ),
        (
            [
                "rollout={strategy: canary}",
                "rollout.analysis.custom=[{name: a, cloudwatch: {bad: $variant, all: $variant}}]",
            ],
            (
                "rollout.analysis.custom[0].cloudwatch is not valid: CloudWatch is asked with provider: sagemaker "
                "alone; use promql or command"
            ),
        ),
    ],
)
def test_what_needs_a_cloud_is_refused_here(overrides: list[str], expected: str) -> None:
    """This machine says what it can't do, at the key that asks for it."""
    found = problems(f"{SCALED}    target: []\n", overrides=overrides)

    assert [each.partition(": ")[2] for each in found] == [expected]


def test_what_is_for_a_cloud_may_stand_in_a_spec_for_this_machine() -> None:
    """The same file is tried here and deployed there: machine, region, alarms and the cloud's settings are no error."""
    overrides = ["provider=local", "account='123456789012'", "alarms={error_rate: 1%}"]

    assert parsed(CLOUD, overrides=overrides).provider == "local"


def test_a_variable_that_is_not_set_is_the_only_problem_of_what_it_spoils() -> None:
    """A role and a region that are filled later are not told as wrong as well."""
    text = CLOUD.replace("us-east-1", "${REGION}").replace("arn:aws:iam::123456789012:role/ml", "${ROLE}")

    assert problems(text) == [
        "4:9: the variable REGION is not set (set it, or write ${REGION:-default})",
        "11:9: the variable ROLE is not set (set it, or write ${ROLE:-default})",
    ]
