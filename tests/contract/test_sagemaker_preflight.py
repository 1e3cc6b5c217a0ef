"""What doctor and preflight find, over HTTP against the double."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from mlscale.deployment import Deployment, Live, Role, ServedRevision, revision_of
from mlscale.errors import MlscaleError, NoCapacity, Unsupported, WrongCredentials
from mlscale.providers.contract import Check
from mlscale.providers.sagemaker.client import Client
from mlscale.providers.sagemaker.permissions import needed, policy
from mlscale.providers.sagemaker.preflight import checks, pinned_image, refuse_unready
from mlscale.spec.parse import parse
from mlscale.spec.resolve import Digests, deployment_of
from tests.conftest import GOLDEN
from tests.doubles.aws import serving
from tests.doubles.aws.serving import ACCOUNT, REGION, TRUST, Double
from tests.doubles.moved_clock import MovedClock

UPLOADS = "s3://mlscale-workspace/team/uploads"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/mlscale-serving"
REGISTRY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
MACHINES = "ml.c6i.xlarge and ml.c5.xlarge"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:ml-oncall"
WHO = Check("credentials", ok=True, found=f"account {ACCOUNT}, arn:aws:sts::{ACCOUNT}:user/moto")


@pytest.fixture(scope="module")
def served() -> Iterator[Double]:
    """A running double."""
    with serving() as double:
        yield double


@pytest.fixture
def double(served: Double, monkeypatch: pytest.MonkeyPatch) -> Double:
    """The double with nothing in it, and an environment that leads to it."""
    served.post("reset")
    served.post("faults", rules=[])
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    return served


@pytest.fixture
def client(double: Double) -> Client:
    """A client of the double."""
    assert double
    return Client(ACCOUNT, REGION, MovedClock())


@pytest.fixture
def ready(double: Double) -> Double:
    """The double with all that the whole spec needs."""
    double.make_bucket("mlscale-workspace")
    double.make_role()
    double.client("sns").create_topic(Name="ml-oncall")
    double.delete("journal")
    return double


def asked(env: str | None = None, **content: Any) -> Deployment:
    """Return what the whole spec asks for, with other `content`."""
    spec = parse((GOLDEN / "sagemaker.yaml").read_bytes(), "spec.yaml", variables={}, env=env)
    deployment = deployment_of(spec, Digests("0" * 64, None, None, None), {})
    made = revision_of(replace(deployment.revisions[0].revision.content, **content))
    return replace(deployment, revisions=(ServedRevision(made, Role.STABLE, 10_000),))


def running(deployment: Deployment, count: int) -> Deployment:
    """Return `deployment` as seen, with so many instances."""
    served = replace(deployment.revisions[0], live=Live(count, count))
    return replace(deployment, revisions=(served,))


def an_image(double: Double, tag: str = "1.2", **options: Any) -> str:
    """Push an image to the account's registry; its digest."""
    ecr = double.client("ecr", **options)
    ecr.create_repository(repositoryName="ml/iris")
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "layers": []}
    pushed = ecr.put_image(repositoryName="ml/iris", imageManifest=json.dumps(manifest), imageTag=tag)
    digest: str = pushed["image"]["imageId"]["imageDigest"]
    return digest


def wrong(found: list[Check]) -> list[Check]:
    """Return the checks that are not ok."""
    return [each for each in found if not each.ok]


def refused(client: Client, asked: Deployment, seen: Deployment | None = None) -> MlscaleError:
    """Return why a deployment is refused."""
    with pytest.raises(MlscaleError) as caught:
        refuse_unready(client, asked, seen, UPLOADS)
    return caught.value


def test_all_that_is_needed_is_there(ready: Double, client: Client) -> None:
    """Each thing is named with what was found, and nothing that was tried stays."""
    found = checks(client, asked(), UPLOADS)

    assert found == [
        WHO,
        Check("region", ok=True, found=f"SageMaker answers in {REGION}"),
        Check("role", ok=True, found=f"{ROLE}, which SageMaker may assume"),
        Check("image", ok=True, found="one of AWS's own, whose registry can't be asked"),
        Check("bucket", ok=True, found=f"s3://mlscale-workspace in {REGION}"),
        Check("quota", ok=True, found="ml.c6i.xlarge: 1000 instances for endpoints, 10 wanted at most"),
        Check("quota", ok=True, found="ml.c5.xlarge: 1000 instances for endpoints, 10 wanted at most"),
        Check("uploads", ok=True, found=f"{UPLOADS} can be written"),
        Check("topic", ok=True, found=TOPIC),
    ]
    assert ready.get("resources?bucket=mlscale-workspace")["objects"] == []
    refuse_unready(client, asked(), None, UPLOADS)


def test_without_a_spec_it_is_the_account_and_the_service(double: Double, client: Client) -> None:
    """Where nothing is asked for, who we are and whether SageMaker answers is all there is to say."""
    assert double
    assert checks(client, None, "") == [WHO, Check("region", ok=True, found="SageMaker answers")]


def test_everything_that_is_missing_is_told_at_once(double: Double, client: Client) -> None:
    """Each check that is not ok says what mends it, and a deploy is refused with all that would stop it."""
    double.post("quotas", **{"ml.c6i.xlarge": 0, "ml.c5.xlarge": 1})

    found = {each.name: each for each in wrong(checks(client, asked(), UPLOADS))}

    assert set(found) == {"role", "bucket", "quota", "topic"}
    assert all(each.hint for each in found.values())
    error = refused(client, asked())
    assert (type(error), error.what, error.why.splitlines()) == (
        Unsupported,
        "3 things would stop the deployment",
        [
            f"the role of the model can't be used: {ROLE} is not there",
            "the bucket for the model's files can't be used: there is no bucket mlscale-workspace",
            f"an AWS quota is too small: {MACHINES} for endpoint usage: 1 in us-east-1, and 2 are needed",
        ],
    )


def test_another_account_is_refused_before_anything_is_asked(ready: Double) -> None:
    """Neither doctor nor preflight looks at what is somebody else's."""
    client = Client("999999999999", REGION, MovedClock())

    (found,) = checks(client, asked(), UPLOADS)

    assert (found.name, found.ok) == ("credentials", False)
    assert isinstance(refused(client, asked()), WrongCredentials)
    assert {each["operation"] for each in ready.get("journal")} == {"GetCallerIdentity"}


def test_a_role_that_sagemaker_may_not_take(ready: Double, client: Client) -> None:
    """A role is no use that trusts another service only."""
    trust = json.dumps(TRUST).replace("sagemaker.amazonaws.com", "ec2.amazonaws.com")
    ready.client("iam").update_assume_role_policy(RoleName="mlscale-serving", PolicyDocument=trust)

    (found,) = wrong(checks(client, asked(), UPLOADS))

    assert (found.name, found.found) == ("role", f"{ROLE} does not let sagemaker.amazonaws.com assume it")
    assert refused(client, asked()).why == found.found


def test_a_bucket_elsewhere_is_no_use(double: Double, client: Client) -> None:
    """SageMaker reads models from its own region."""
    double.make_role()
    double.client("s3", region_name="eu-west-1").create_bucket(
        Bucket="mlscale-workspace", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )

    error = refused(client, asked())

    assert (type(error), error.why) == (
        Unsupported,
        f"mlscale-workspace is in eu-west-1, and SageMaker reads models from its own region alone, {REGION}",
    )


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (f"{REGISTRY}/ml/iris:1.2", None),
        (f"{REGISTRY}/ml/iris:1.3", "is not there"),
        (f"{REGISTRY}/ml/other:1.2", "is not there"),
        (f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com/ml/iris:1.2", "pulls no image from another region"),
        ("docker.io/library/iris:1.2", "is not in Amazon ECR"),
        (f"683313688378.dkr.ecr.{REGION}.amazonaws.com/sagemaker-scikit-learn:1.4-2", None),
    ],
)
def test_the_image_must_be_where_sagemaker_pulls_it(ready: Double, client: Client, image: str, why: str | None) -> None:
    """The account's own image is looked up; another account's can't be, and is taken."""
    an_image(ready)
    deployment = asked(image=image)

    found = [each.found for each in wrong(checks(client, deployment, UPLOADS))]

    if why is None:
        assert found == []
        refuse_unready(client, deployment, None, UPLOADS)
    else:
        assert [why in each for each in found] == [True]
        assert refused(client, deployment).why == found[0]


def test_an_own_image_is_named_by_its_digest(ready: Double, client: Client) -> None:
    """A tag may mean another image tomorrow, a digest can't; what is not there or not ours stays as it was written."""
    digest = an_image(ready, "latest")
    others = f"683313688378.dkr.ecr.{REGION}.amazonaws.com/sagemaker-scikit-learn:1.4-2"
    missing, pinned = f"{REGISTRY}/ml/iris:1.3", f"{REGISTRY}/ml/iris@{digest}"

    assert [pinned_image(client, each) for each in (f"{REGISTRY}/ml/iris:latest", f"{REGISTRY}/ml/iris")] == [
        pinned
    ] * 2
    assert [pinned_image(client, each) for each in (others, missing, pinned)] == [others, missing, pinned]


def test_a_quota_of_nothing_stops_a_deploy(ready: Double, client: Client) -> None:
    """It says how many there may be, how many are needed, and the command that asks AWS for more."""
    ready.post("quotas", **{"ml.c6i.xlarge": 0, "ml.c5.xlarge": 0})

    error = refused(client, asked())

    assert (type(error), error.why) == (
        NoCapacity,
        f"{MACHINES} for endpoint usage: 0 in us-east-1, and 2 are needed",
    )
    assert error.hint.startswith(
        "aws service-quotas request-service-quota-increase --region us-east-1 --service-code sagemaker --quota-code L-"
    )
    assert error.hint.endswith(" --desired-value 2")


def test_a_quota_below_the_most_is_told_and_stops_nobody(ready: Double, client: Client) -> None:
    """Ten replicas that may come one day are a doctor's matter; two that are needed now fit."""
    ready.post("quotas", **{"ml.c6i.xlarge": 4, "ml.c5.xlarge": 15})

    found = [each for each in checks(client, asked(), UPLOADS) if each.name == "quota"]

    assert [(each.ok, each.found) for each in found] == [
        (False, "ml.c6i.xlarge: 4 instances for endpoints, 10 wanted at most"),
        (True, "ml.c5.xlarge: 15 instances for endpoints, 10 wanted at most; a change needs as many again"),
    ]
    refuse_unready(client, asked(), None, UPLOADS)


def test_a_change_needs_room_beside_what_serves(ready: Double, client: Client) -> None:
    """The new instances start while the old ones serve: as many as serve now, and these as well."""
    ready.post("quotas", **{"ml.c6i.xlarge": 6, "ml.c5.xlarge": 1})
    seen = running(asked(), 4)

    assert refused(client, asked(artifact="1" * 64), seen).why == (
        f"{MACHINES} for endpoint usage: 7 in us-east-1, and 8 are needed, with the 4 that serve meanwhile"
    )
    refuse_unready(client, asked(artifact="1" * 64), running(asked(), 3), UPLOADS)


def test_a_candidate_needs_room_for_itself_and_for_the_stable_one_twice(ready: Double, client: Client) -> None:
    """SageMaker starts all of the new arrangement beside the old one; a share that only grows starts nothing."""
    ready.post("quotas", **{"ml.c6i.xlarge": 8, "ml.c5.xlarge": 1})
    stable = asked().revisions[0]
    tried = ServedRevision(asked(artifact="1" * 64).revisions[0].revision, Role.CANDIDATE, 5000)
    beside = replace(asked(), revisions=(replace(stable, share=5000), tried))

    assert refused(client, beside, running(asked(), 4)).why == (
        f"{MACHINES} for endpoint usage: 9 in us-east-1, and 10 are needed, with the 4 that serve meanwhile"
    )
    refuse_unready(client, beside, running(asked(), 3), UPLOADS)
    refuse_unready(client, beside, replace(beside, revisions=(running(asked(), 4).revisions[0], tried)), UPLOADS)


def test_a_change_in_place_asks_only_for_what_it_needs(ready: Double, client: Client) -> None:
    """Other labels start no instance and ask nothing; a larger minimum asks for the quota alone."""
    ready.post("quotas", **{"ml.c6i.xlarge": 2, "ml.c5.xlarge": 0})
    seen = running(asked(), 2)
    refuse_unready(client, replace(asked(), labels={"team": "other"}), seen, UPLOADS)
    before = {each["operation"] for each in ready.get("journal")}
    more = replace(asked(), scaling=replace(asked().scaling, min=3))

    error = refused(client, more, seen)

    assert (type(error), before) == (NoCapacity, {"GetCallerIdentity"})
    assert {each["operation"] for each in ready.get("journal")} == {"GetCallerIdentity", "ListServiceQuotas"}


def test_a_machine_that_is_none(ready: Double, client: Client) -> None:
    """A type that neither the quotas nor boto3 know is a slip of the pen, and the nearest is named."""
    deployment = asked(machine=("ml.c6i.xlage",))

    (found,) = wrong(checks(client, deployment, UPLOADS))

    assert (found.name, found.hint) == ("machine", "did you mean ml.c6i.xlarge?")
    assert refused(client, deployment).why == "SageMaker has no ml.c6i.xlage for endpoints"
    assert ready


def test_a_serverless_endpoint_has_no_machines_to_look_at(ready: Double, client: Client) -> None:
    """Its quota is of another kind, and nothing of instances is asked."""
    deployment = asked("serverless")

    names = [each.name for each in checks(client, deployment, UPLOADS)]

    assert names == ["credentials", "region", "role", "image", "bucket", "uploads", "topic"]
    refuse_unready(client, deployment, None, UPLOADS)
    assert ready


def test_topics_must_be_there_and_in_the_region(ready: Double, client: Client) -> None:
    """CloudWatch tells topics of its own region; both kinds of missing are said with what makes one."""
    deployment = asked("async")
    ready.client("sns").create_topic(Name="answers")

    found = [each for each in checks(client, deployment, UPLOADS) if each.name == "topic"]

    missing = f"arn:aws:sns:{REGION}:{ACCOUNT}:failures"
    hint = f"aws sns create-topic --region {REGION} --name failures"
    assert found == [
        Check("topic", ok=True, found=f"arn:aws:sns:{REGION}:{ACCOUNT}:answers"),
        Check("topic", ok=False, found=f"{missing} is not there", hint=hint),
        Check("topic", ok=True, found=TOPIC),
    ]


def test_what_may_not_be_looked_at_is_said_and_stops_nobody(ready: Double, client: Client) -> None:
    """Credentials that may not look into IAM, ECR, quotas or topics may yet deploy."""
    denied = r"(iam\.GetRole|service-quotas\.|sns\.|ecr\.|s3\.HeadBucket|sagemaker\.ListEndpoints)"
    ready.post("faults", rules=[{"operation": denied, "kind": "access_denied", "nth": 1, "times": 1000}])
    deployment = asked(image=f"{REGISTRY}/ml/iris:1.2")

    found = checks(client, deployment, UPLOADS)

    assert wrong(found) == []
    unknown = {each.name for each in found if each.found.startswith("not known: these credentials may not do this")}
    assert unknown == {"region", "role", "image", "bucket", "quota", "topic"}
    assert pinned_image(client, f"{REGISTRY}/ml/iris:1.2") == f"{REGISTRY}/ml/iris:1.2"
    refuse_unready(client, deployment, None, UPLOADS)


def test_doctor_asks_for_nothing_that_its_policy_does_not_allow(ready: Double, client: Client) -> None:
    """Every operation of a doctor and a preflight has its action in what `mlscale iam policy` prints."""
    an_image(ready)
    ready.delete("journal")
    deployment = asked(image=f"{REGISTRY}/ml/iris:1.2")
    checks(client, deployment, UPLOADS)
    refuse_unready(client, deployment, None, UPLOADS)

    called = {f"{each['service']}:{each['operation']}" for each in ready.get("journal")}

    allowed = {action for each in policy(deployment, UPLOADS)["Statement"] for action in each["Action"]}
    assert needed(deployment, called) - allowed == set()


def test_a_model_inside_its_image_needs_no_bucket(ready: Double, client: Client) -> None:
    """Nothing of S3 is looked at, and nothing is written."""
    an_image(ready)
    ready.delete("journal")

    names = [each.name for each in checks(client, asked(artifact="", image=f"{REGISTRY}/ml/iris:1.2"), "")]

    assert names == ["credentials", "region", "role", "image", "quota", "quota", "topic"]
    assert [each for each in ready.get("journal") if each["mutating"]] == []
