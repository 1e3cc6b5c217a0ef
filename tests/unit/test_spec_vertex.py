"""What a spec may say for Vertex AI, what is refused with its reason, and one file for every provider."""

from __future__ import annotations

import re
from typing import Any

import pytest

from mlscale.deployment import Deployment
from mlscale.providers.vertex import machines
from mlscale.spec.parse import parse
from mlscale.spec.resolve import Digests, deployment_of, identity_of, ignored_by
from tests.unit.test_spec_mutations import VERTEX
from tests.unit.test_spec_parse import parsed, problems

LEAST = """\
version: 1
name: reviews
provider: vertex
region: us-central1
account: acme-ml
model:
  source: ./model
  framework: sklearn
endpoint:
  machine: n1-standard-4
  replicas: {min: 1, max: 5}
"""
"""The least that a spec for Vertex AI must say, with room to scale."""

CHANNEL = "projects/acme-ml/notificationChannels/123"
KEY = "projects/acme-ml/locations/us-central1/keyRings/ml/cryptoKeys/serving"
NETWORK = "projects/123456789012/global/networks/ml"
TARGET = "endpoint.autoscaling.target"


def said(*overrides: str) -> list[str]:
    """Return the problems of the least spec for Vertex AI with `overrides`, without their places."""
    return [re.sub(r"^(--set [^:]*|\d+:\d+): ", "", each) for each in problems(LEAST, overrides=overrides)]


def test_the_least_spec_for_vertex_is_completed() -> None:
    """A machine, a region and a project; what is left out has its default."""
    spec = parsed(LEAST)

    assert spec.endpoint.machine == ("n1-standard-4",)
    assert (spec.endpoint.capacity, spec.endpoint.accelerator) == ("on_demand", None)
    assert (spec.vertex.dedicated_endpoint, spec.vertex.dashboard, spec.vertex.uploads) == (False, False, None)


def test_what_vertex_needs_is_told_at_what_should_hold_it() -> None:
    """Region, project and machine come together, each at the place where it belongs."""
    text = re.sub(r"(region|account|  machine): .*\n", "", LEAST)

    assert problems(text) == [
        "1:1: region is missing: Vertex AI needs it, like us-central1",
        "1:1: account is missing: Vertex AI needs it: the id of the project, like acme-ml",
        "7:1: endpoint.machine is missing: Vertex AI needs a machine type, like n1-standard-4",
    ]


@pytest.mark.parametrize("region", ["us-central1", "europe-west4", "northamerica-northeast1", "europe-west12"])
@pytest.mark.parametrize("account", ["acme-ml", "example.com:acme-ml", "acme12"])
def test_googles_regions_and_projects_are_taken(region: str, account: str) -> None:
    """A region has no dash before its number, and a project's id may have a domain before it."""
    identity = identity_of(parsed(LEAST, overrides=[f"region={region}", f"account='{account}'"]))

    assert (identity.provider, identity.account, identity.region) == ("vertex", account, region)


@pytest.mark.parametrize(
    "machine",
    [
        "n1-standard-4",
        "e2-highcpu-8",
        "n2d-highmem-4",
        "c3-standard-8-lssd",
        "g2-standard-8",
        "a2-highgpu-1g",
        "a3-megagpu-8g",
        "a4x-highgpu-4g",
        "ct5lp-hightpu-1t",
    ],
)
def test_googles_machine_types_are_taken(machine: str) -> None:
    """Every family is written in the same way."""
    assert parsed(LEAST, overrides=[f"endpoint.machine={machine}"]).endpoint.machine == (machine,)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["region=us-east-1"],
            "region is not valid: us-east-1 is no region of Google Cloud: write it like us-central1",
        ),
        (
            ["account='123456789012'"],
            "account is not valid: 123456789012 is no id of a project: write it like acme-ml, not its number",
        ),
        (
            ["account=Acme"],
            "account is not valid: 'Acme' is no account: write it like \"123456789012\" or acme-ml",
        ),
        (
            ["endpoint.kind=serverless", "endpoint.machine=[]", "endpoint.replicas=1"],
            "endpoint.kind is not valid: serverless is not available on Vertex AI; use realtime",
        ),
        (
            ["endpoint.kind=async", "endpoint.async_inference={output: 's3://acme/a'}"],
            "endpoint.kind is not valid: async is not available on Vertex AI; use realtime",
        ),
        (
            ["endpoint.replicas={min: 0, max: 2}"],
            (
                "endpoint.replicas.min is not valid: 0 replicas answer nothing: that is for kind: async, where "
                "requests wait"
            ),
        ),
        (
            ["endpoint.machine=ml.c6i.xlarge"],
            (
                "endpoint.machine is not valid: ml.c6i.xlarge is no machine type of Google's: they are written like "
                "n1-standard-4 or g2-standard-8"
            ),
        ),
        (
            ["endpoint.machine=[n1-standard-4, e2-medium]"],
            (
                "endpoint.machine[1] is not valid: e2-medium is no machine type of Google's: they are written like "
                "n1-standard-4 or g2-standard-8"
            ),
        ),
        (
            ["endpoint.machine=[n1-standard-4, n1-standard-4]"],
            "endpoint.machine[1] is not valid: n1-standard-4 is there twice",
        ),
        (
            [f"endpoint.machine=[{', '.join(f'n1-standard-{2**n}' for n in range(6))}]"],
            "endpoint.machine is not valid: it has 6 entries, 5 at most",
        ),
        (
            ["endpoint.accelerator={gpus: all}"],
            "endpoint.accelerator.type is missing: Vertex AI needs to know which: write it like nvidia-l4",
        ),
        (
            ["endpoint.accelerator={count: 1}"],
            "endpoint.accelerator is not valid: write gpus for this machine, or type and count for Vertex AI",
        ),
        (
            ["endpoint.accelerator={type: nvidia-t4}"],
            (
                "endpoint.accelerator.type is not valid: 'nvidia-t4' is not one of: nvidia-tesla-t4, nvidia-tesla-p4, "
                "nvidia-tesla-p100, nvidia-tesla-v100, nvidia-tesla-a100, nvidia-a100-80gb, nvidia-l4, "
                "nvidia-h100-80gb, nvidia-h100-mega-80gb, nvidia-h200-141gb, nvidia-b200, nvidia-gb200 or "
                "nvidia-rtx-pro-6000 (did you mean nvidia-l4?)"
            ),
        ),
        (
            ["endpoint.accelerator={type: nvidia-l4, count: 17}"],
            "endpoint.accelerator.count is not valid: it is 17, 16 at most",
        ),
        (
            ["endpoint.capacity=preemptible"],
            "endpoint.capacity is not valid: 'preemptible' is not one of: on_demand or spot",
        ),
        (
            [f"{TARGET}=[{{metric: concurrency, value: 4}}]"],
            (
                f"{TARGET}[0].metric is not valid: Vertex AI follows cpu, gpu and invocations_per_replica, not "
                "concurrency"
            ),
        ),
        (
            [f"{TARGET}=[{{metric: queue_depth, value: 4}}]"],
            f"{TARGET}[0].metric is not valid: requests wait in a queue for kind: async only",
        ),
        (
            [f"{TARGET}=[{{custom: {{namespace: A, name: B}}, value: 4}}]"],
            (
                f"{TARGET}[0].custom is not valid: Vertex AI follows cpu, gpu and invocations_per_replica, not a "
                "metric of your own"
            ),
        ),
        (
            [f"{TARGET}=[{{metric: gpu, value: 60%}}]"],
            (
                f"{TARGET}[0].metric is not valid: there is no GPU: write endpoint.accelerator, like "
                "{type: nvidia-l4, count: 1}"
            ),
        ),
        (
            [f"{TARGET}=[{{metric: cpu, value: 62.5%}}]"],
            f"{TARGET}[0].value is not valid: Vertex AI takes whole numbers, 1 at least",
        ),
        (
            [f"{TARGET}=[{{metric: invocations_per_replica, value: 0.5}}]"],
            f"{TARGET}[0].value is not valid: Vertex AI takes whole numbers, 1 at least",
        ),
        (
            [f"{TARGET}=[{{metric: cpu, value: 150%}}]"],
            f"{TARGET}[0].value is not valid: cpu is 1% to 100% on Vertex AI: of all that a replica has",
        ),
        (
            [f"{TARGET}=[{{metric: cpu, value: 60%, scale_in_cooldown: 10m}}]"],
            (
                f"{TARGET}[0].scale_in_cooldown is not valid: Vertex AI chooses its own: leave it out, or write 5m for "
                "other providers"
            ),
        ),
        (
            [f"{TARGET}=[{{metric: cpu, value: 60%, scale_out_cooldown: 0s}}]"],
            (
                f"{TARGET}[0].scale_out_cooldown is not valid: Vertex AI chooses its own: leave it out, or write 30s "
                "for other providers"
            ),
        ),
        (
            ["endpoint.autoscaling.steps=[{metric: cpu, above: 85%, add: 1}]"],
            "endpoint.autoscaling.steps is not valid: Vertex AI has no steps: write a target",
        ),
        (
            ["endpoint.autoscaling.schedule=[{cron: 0 8 * * *, min: 2}]"],
            (
                "endpoint.autoscaling.schedule is not valid: Vertex AI has no schedule: change replicas with a deploy "
                "at those times"
            ),
        ),
        (
            ["endpoint.health.path=/health"],
            (
                "endpoint.health.path is not valid: Vertex AI's own containers have a route of theirs: leave it out; "
                "it is for model.image"
            ),
        ),
        (
            ["endpoint.health.startup_timeout=3h"],
            "endpoint.health.startup_timeout is not valid: it must be 2h at most on Vertex AI",
        ),
        (
            ["labels={team: Search Team}"],
            "labels.team is not valid: lower-case letters, digits, _ and - only, on Vertex AI",
        ),
        (
            ["labels={mlscale-name: a}"],
            (
                "labels.mlscale-name is not valid: a label that begins with mlscale- is set by mlscale; choose another "
                "name"
            ),
        ),
        (
            [f"labels={{{', '.join(f'l{n}: a' for n in range(59))}}}"],
            "labels is not valid: there are 59, 58 at most on Vertex AI",
        ),
        (
            ["vertex.service_account=ml@example.com"],
            (
                "vertex.service_account is not valid: 'ml@example.com' is no service account: write it like "
                "serving@acme-ml.iam.gserviceaccount.com"
            ),
        ),
        (
            ["vertex.network=projects/acme-ml/global/networks/ml"],
            (
                "vertex.network is not valid: 'projects/acme-ml/global/networks/ml' is no network: write it like "
                "projects/123456789012/global/networks/ml, with the project's number"
            ),
        ),
        (
            [f"vertex.network={NETWORK}", "vertex.dedicated_endpoint=true"],
            (
                "vertex.dedicated_endpoint is not valid: an endpoint in a network has no public name: leave out this, "
                "or vertex.network"
            ),
        ),
        (
            [f"vertex.network={NETWORK}", "rollout.strategy=blue_green"],
            (
                "rollout.strategy is not valid: an endpoint in a network holds one model, which Vertex AI switches all "
                "at once"
            ),
        ),
        (
            ["rollout={strategy: shadow}"],
            ("rollout.strategy is not valid: Vertex AI splits requests, and gives nobody copies of them: use canary"),
        ),
        (
            ["rollout={strategy: rolling}"],
            (
                "rollout.strategy is not valid: Vertex AI replaces replicas between versions of one Model alone, and a "
                "revision is a Model of its own"
            ),
        ),
        (
            ["rollout={strategy: linear, driver: native}"],
            (
                "rollout.driver is not valid: Vertex AI has no linear rollout of its own, with alarms that guard it: "
                "use weights"
            ),
        ),
        (
            ["rollout={strategy: canary, steps: [10%, 12.5%]}"],
            "rollout.steps[1] is not valid: Vertex AI splits traffic in whole percents",
        ),
        (
            ["rollout={strategy: linear, step: 7.5%}"],
            "rollout.step is not valid: Vertex AI splits traffic in whole percents",
        ),
        (
            ["vertex.encryption_key=alias/ml"],
            f"vertex.encryption_key is not valid: 'alias/ml' is no key: write it like {KEY}",
        ),
        (
            [f"vertex.encryption_key={KEY.replace('us-central1', 'europe-west4')}"],
            (
                "vertex.encryption_key is not valid: the key is in europe-west4, and it must be in us-central1, as the "
                "endpoint"
            ),
        ),
        (
            ["vertex.uploads=s3://acme/models"],
            (
                "vertex.uploads is not valid: 's3://acme/models' is no place in Cloud Storage: write it like "
                "gs://bucket/folder"
            ),
        ),
        (
            ["vertex.request_logging={share: 10%, destination: 'bq://acme-ml.requests'}"],
            (
                "vertex.request_logging.destination is not valid: 'bq://acme-ml.requests' is no table of BigQuery: "
                "write it like bq://project.dataset.table"
            ),
        ),
        (
            ["vertex.request_logging={share: 0%, destination: 'bq://acme-ml.serving.requests'}"],
            "vertex.request_logging.share is not valid: it must be more than 0% and 100% at most",
        ),
        (
            ["vertex.request_logging={share: 10%}"],
            ("vertex.request_logging.destination is missing (The table of BigQuery, like bq://project.dataset.table.)"),
        ),
        (["vertex.dashbord=true"], "vertex.dashbord is unknown (did you mean dashboard?)"),
        (
            ["alarms.notify=['arn:aws:sns:us-east-1:123456789012:ml']"],
            (
                "alarms.notify[0] is not valid: Vertex AI's alarms tell channels: write it like "
                "projects/acme-ml/notificationChannels/123"
            ),
        ),
        ([f"alarms.notify=[{CHANNEL}, {CHANNEL}]"], f"alarms.notify[1] is not valid: {CHANNEL} is there twice"),
        (
            ["alarms.no_invocations=24h"],
            "alarms.no_invocations is not valid: it must be whole minutes, 23h30m at most",
        ),
        (
            ["alarms.no_invocations=90s"],
            "alarms.no_invocations is not valid: it must be whole minutes, 23h30m at most",
        ),
    ],
)
def test_what_does_not_fit_vertex_is_refused(overrides: list[str], expected: str) -> None:
    """What Google would refuse, or do otherwise, is one problem with its reason, before anything is called."""
    assert said(*overrides) == [expected]


@pytest.mark.parametrize(
    "override",
    [
        "model={image: 'us-central1-docker.pkg.dev/acme-ml/a/b:1'}",
        "endpoint.capacity=spot",
        "endpoint.accelerator={type: nvidia-tesla-t4, count: 2, gpus: all}",
        f"{TARGET}=[{{metric: cpu, value: 100%, scale_in_cooldown: 5m, scale_out_cooldown: 30s}}]",
        f"vertex={{network: {NETWORK}, encryption_key: {KEY}}}",
        "vertex={uploads: 'gs://acme_ml.models/a/'}",
        "vertex={request_logging: {share: 0.5%, destination: 'bq://example.com:acme-ml.serving.requests'}}",
        "labels={team: ''}",
        "labels={team: search_2-a}",
        f"alarms={{no_invocations: 23h30m, notify: [{CHANNEL}]}}",
        "endpoint.health.startup_timeout=2h",
        "workspace=gs://acme/mlscale",
        "rollout={strategy: canary, driver: weights, steps: [1%, 99%]}",
        "rollout={strategy: linear, step: 33%}",
    ],
)
def test_what_vertex_can_do_is_taken(override: str) -> None:
    """Each just within its bounds."""
    assert said(override) == []


def test_a_route_of_ones_own_is_for_an_image_of_ones_own() -> None:
    """Where the container is the user's, so is the route by which its health is asked."""
    overrides = ["model={image: 'us-central1-docker.pkg.dev/acme-ml/a/b:1'}", "endpoint.health.path=/healthy/now"]

    assert parsed(LEAST, overrides=overrides).endpoint.health.path == "/healthy/now"


def asked(env: str | None = None, *overrides: str) -> Deployment:
    """Return what the whole spec for Vertex AI asks for."""
    spec = parse(VERTEX.read_bytes(), VERTEX.name, variables={}, env=env, overrides=overrides)
    return deployment_of(spec, Digests("a1", None, None, None), {"a1": "/models/a"})


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], ("g2-standard-8+1xnvidia-l4+spot", "g2-standard-12+1xnvidia-l4+spot")),
        (["endpoint.capacity=on_demand"], ("g2-standard-8+1xnvidia-l4", "g2-standard-12+1xnvidia-l4")),
        (
            ["endpoint.accelerator=null", "endpoint.autoscaling.target=[]", "endpoint.machine=e2-standard-4"],
            ("e2-standard-4+spot",),
        ),
    ],
)
def test_a_machine_says_its_gpus_and_its_capacity(overrides: list[str], expected: tuple[str, ...]) -> None:
    """What a replica runs on is one text, which the provider reads: another one is another revision."""
    found = asked("gpu", *overrides).stable

    assert found
    assert found.revision.content.machine == expected
    assert tuple(str(machines.parse(each)) for each in expected) == expected


ONE = """\
version: 1
name: reviews
provider: local
workspace: ${WORKSPACE:-}
labels: {team: search}
model: {source: ./model, framework: sklearn, framework_version: "1.5"}
endpoint:
  replicas: {min: 2, max: 6}
  autoscaling: {target: [{metric: invocations_per_replica, value: 600}]}
alarms: {error_rate: 1%, no_invocations: 15m}
sagemaker: {role: "arn:aws:iam::123456789012:role/ml", dashboard: true}
vertex: {service_account: serving@acme-ml.iam.gserviceaccount.com}
local: {port: 8080}
environments:
  local: {name: reviews}
  aws:
    name: reviews
    provider: sagemaker
    region: us-east-1
    account: "123456789012"
    workspace: s3://acme/mlscale
    endpoint: {machine: [ml.c6i.xlarge, ml.c5.xlarge]}
    alarms: {notify: ["arn:aws:sns:us-east-1:123456789012:ml"]}
  gcp:
    name: reviews
    provider: vertex
    region: us-central1
    account: acme-ml
    workspace: gs://acme/mlscale
    endpoint: {machine: [n1-standard-4, n2-standard-4]}
    alarms: {notify: [projects/acme-ml/notificationChannels/123]}
"""


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ("local", ("local", None, None, (), {"host": "127.0.0.1", "port": "8080"})),
        (
            "aws",
            (
                "sagemaker",
                "123456789012",
                "us-east-1",
                ("ml.c6i.xlarge", "ml.c5.xlarge"),
                {"role": "arn:aws:iam::123456789012:role/ml"},
            ),
        ),
        (
            "gcp",
            (
                "vertex",
                "acme-ml",
                "us-central1",
                ("n1-standard-4", "n2-standard-4"),
                {"service_account": "serving@acme-ml.iam.gserviceaccount.com"},
            ),
        ),
    ],
)
def test_one_file_is_for_every_provider(env: str, expected: tuple[Any, ...]) -> None:
    """An overlay swaps provider and machine; the other providers' blocks stand there, and are for them."""
    spec = parse(ONE, "spec.yaml", variables={"WORKSPACE": ".mlscale"}, env=env)
    found = deployment_of(spec, Digests("a1", None, None, None), {})
    identity, served = found.identity, found.stable

    assert served
    assert (
        identity.provider,
        identity.account,
        identity.region,
        served.revision.content.machine,
        found.settings,
    ) == expected
    assert (identity.name, found.scaling.max, found.labels) == ("reviews", 6, {"team": "search"})


def test_what_is_said_for_another_provider_is_named_where_it_changes_nothing() -> None:
    """GPUs by type are a cloud's: this machine gives a container its own by gpus."""
    overrides = ["provider=local", "endpoint.accelerator={type: nvidia-l4}", "alarms={}", "endpoint.machine=[]"]
    spec = parsed(LEAST, overrides=overrides)

    assert ignored_by(spec) == ("endpoint.accelerator.type is for a cloud: here gpus says what a replica sees",)
    assert ignored_by(parsed(LEAST)) == ()
