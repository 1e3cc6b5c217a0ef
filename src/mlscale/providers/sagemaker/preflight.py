"""What AWS must have before a deployment can work, and whether it is there; asked by reading, side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from typing import Any, TypeAlias

from mlscale.autoscaling.policy import candidate_replicas
from mlscale.deployment import Content, Deployment, Kind, ServedRevision
from mlscale.errors import MlscaleError, NoCapacity, Unsupported, WrongCredentials
from mlscale.providers.calling import together
from mlscale.providers.contract import Check
from mlscale.providers.sagemaker.calls import Call
from mlscale.providers.sagemaker.client import Client
from mlscale.providers.sagemaker.failures import is_absent
from mlscale.providers.sagemaker.permissions import CHECK, ECR, SERVICE, topics

ASSUMES = frozenset({"sts:AssumeRole", "sts:*", "*"})
QUOTA = "{} for endpoint usage"
"""How Service Quotas calls the number of instances of one type in endpoints."""

LARGEST_PAGE = 100
"""Quotas that one call gives at most (ListServiceQuotas)."""

WRONG_ROLE = "the role of the model can't be used"
WRONG_BUCKET = "the bucket for the model's files can't be used"
WRONG_IMAGE = "the image can't be used"


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found; `stops` is the error where a deployment would surely fail for it."""

    check: Check
    stops: MlscaleError | None = None


Looking: TypeAlias = Callable[[], Sequence[Look]]


def checks(client: Client, asked: Deployment | None, uploads: str) -> list[Check]:
    """Return what is needed to work here, and for `asked` if something is; what may not be looked at is said to be so.

    Files are tried to be written where they go, and nothing stays.
    """
    try:
        account = client.account()
        who = client.read("sts", "get_caller_identity")["Arn"]
    except MlscaleError as error:
        return [Check("credentials", ok=False, found=str(error), hint=error.hint)]
    looks: list[Looking] = [partial(_service, client, asked)]
    if asked is not None:
        looks += [*_looks(client, asked, None, uploads), partial(_writing, client, asked, uploads)]
        looks += [partial(_known, "topic", partial(_topic, client, asked, each)) for each in topics(asked)]
    found = together(*looks)
    return [
        Check("credentials", ok=True, found=f"account {account}, {who}"),
        *(look.check for each in found for look in each),
    ]


def refuse_unready(client: Client, asked: Deployment, seen: Deployment | None, uploads: str) -> None:
    """Return if nothing is known that would stop `asked`; what may not be looked at is not known.

    Raises:
        WrongCredentials: the credentials are missing, or for another account.
        Unsupported: the role, the bucket or the image can't be used.
        NoCapacity: a quota is too small for the instances to start with.
    """
    client.account()
    if asked.stable is None:
        return
    if _is_new(asked, seen):
        looks = _looks(client, asked, seen, uploads)
    elif asked.scaling.min > _running(_content(asked).machine, seen):
        looks = [_quota_look(client, asked, seen)]
    else:
        return
    found = [look.stops for each in together(*looks) for look in each if look.stops is not None]
    if len(found) > 1:
        raise type(found[0])(
            f"{len(found)} things would stop the deployment",
            why="\n".join(str(each) for each in found),
            hint=found[0].hint,
        )
    if found:
        raise found[0]


def pinned_image(client: Client, image: str) -> str:
    """Return an image of the account's own registry with its digest in place of its tag; another one as it is.

    So is one that is not found: `refuse_unready` says so.
    """
    found = ECR.fullmatch(image)
    if found is None or found["digest"] or found["account"] != client.account():
        return image
    try:
        detail = _described(client, found)
    except WrongCredentials:
        return image  # who may not look deploys what the tag means there
    if detail is None:
        return image
    repository = image.removesuffix(f":{found['tag']}") if found["tag"] else image
    return f"{repository}@{detail['imageDigest']}"


def _looks(client: Client, asked: Deployment, seen: Deployment | None, uploads: str) -> list[Looking]:
    """Return the looks at what a new revision needs."""
    looks: list[Looking] = [
        partial(_known, "role", partial(_role, client, asked)),
        *(
            partial(_known, "image", partial(_image, client, asked, image))
            for image in dict.fromkeys(each.revision.content.image for each in asked.revisions)
        ),
    ]
    if _content(asked).artifact and uploads:
        looks.append(partial(_known, "bucket", partial(_bucket, client, asked, uploads)))
    if asked.kind is not Kind.SERVERLESS:
        looks.append(_quota_look(client, asked, seen))
    return looks


def _quota_look(client: Client, asked: Deployment, seen: Deployment | None) -> Looking:
    return partial(_known, "quota", partial(_machines, client, asked, seen))


def _known(name: str, look: Looking) -> Sequence[Look]:
    """Return what `look` finds; what it may not see or AWS does not tell stops nobody."""
    try:
        return look()
    except MlscaleError as error:
        return [_unknown(name, error)]


def _unknown(name: str, error: MlscaleError) -> Look:
    return Look(Check(name, ok=True, found=f"not known: {error.what} ({error.why})"))


def _service(client: Client, asked: Deployment | None) -> Sequence[Look]:
    """Return whether SageMaker answers where it is asked."""
    place = f" in {asked.identity.region}" if asked else ""
    try:
        client.read("sagemaker", "list_endpoints", MaxResults=1)
    except WrongCredentials as error:
        return [_unknown("region", error)]
    except MlscaleError as error:
        return [Look(Check("region", ok=False, found=str(error), hint=error.hint))]
    return [Look(Check("region", ok=True, found=f"SageMaker answers{place}"))]


def _role(client: Client, asked: Deployment) -> Sequence[Look]:
    """Return whether the role that the model runs as is there, and SageMaker may take it."""
    arn = asked.settings["role"]
    name = arn.rpartition("/")[2]
    found = client.find("iam", "get_role", RoleName=name)
    if found is None or found["Role"]["Arn"] != arn:
        return [
            _wrong(
                "role",
                WRONG_ROLE,
                f"{arn} is not there",
                "aws iam list-roles shows which there are; correct sagemaker.role",
            )
        ]
    if not _trusts(found["Role"].get("AssumeRolePolicyDocument", {})):
        hint = (
            f"aws iam update-assume-role-policy --role-name {name} --policy-document FILE, with {SERVICE} as Principal"
        )
        return [_wrong("role", WRONG_ROLE, f"{arn} does not let {SERVICE} assume it", hint)]
    return [Look(Check("role", ok=True, found=f"{arn}, which SageMaker may assume"))]


def _trusts(document: Mapping[str, Any] | str) -> bool:
    policy = json.loads(document) if isinstance(document, str) else document
    statements = policy.get("Statement", [])
    return any(_lets_assume(each) for each in ([statements] if isinstance(statements, dict) else statements))


def _lets_assume(statement: Mapping[str, Any]) -> bool:
    principal = statement.get("Principal", {})
    services = _listed(principal.get("Service") if isinstance(principal, dict) else principal)
    may = statement.get("Effect") == "Allow" and ASSUMES.intersection(_listed(statement.get("Action")))
    return bool(may) and bool({SERVICE, "*"}.intersection(services))


def _listed(value: str | Sequence[str] | None) -> Sequence[str]:
    return () if value is None else (value,) if isinstance(value, str) else value


def _image(client: Client, asked: Deployment, image: str | None) -> Sequence[Look]:
    """Return whether an image is there; AWS's own and other accounts' can't be asked for."""
    if image is None:
        return [Look(Check("image", ok=True, found="one of AWS's own, whose registry can't be asked"))]
    found = ECR.fullmatch(image)
    region = asked.identity.region
    if found is None:
        return [
            _wrong("image", WRONG_IMAGE, f"{image} is not in Amazon ECR", "mlscale image push, to a repository there")
        ]
    if found["region"] != region:
        why = (
            f"{image} is in {found['region']}, and SageMaker pulls no image from another region than its own, {region}"
        )
        return [_wrong("image", WRONG_IMAGE, why, f"push it to a repository in {region}")]
    if found["account"] != asked.identity.account:
        return [Look(Check("image", ok=True, found=f"{image} is account {found['account']}'s, which can't be asked"))]
    if _described(client, found) is None:
        hint = f"aws ecr describe-images --region {region} --repository-name {found['repository']}"
        return [_wrong("image", WRONG_IMAGE, f"{image} is not there", hint)]
    return [Look(Check("image", ok=True, found=image))]


def _described(client: Client, image: Any) -> Mapping[str, Any] | None:
    """Return what ECR says of an image (a match of ECR), None if it is not there."""
    by = {"imageDigest": image["digest"]} if image["digest"] else {"imageTag": image["tag"] or "latest"}
    found = client.find(
        "ecr",
        "describe_images",
        registryId=image["account"],
        repositoryName=image["repository"],
        imageIds=[by],
    )
    return found["imageDetails"][0] if found and found["imageDetails"] else None


def _bucket(client: Client, asked: Deployment, uploads: str) -> Sequence[Look]:
    """Return whether the bucket for the model's files is there, and in the region, as SageMaker wants it."""
    name, region = uploads.removeprefix("s3://").partition("/")[0], asked.identity.region
    found = client.find("s3", "head_bucket", Bucket=name)
    if found is None:
        hint = f"aws s3 mb s3://{name} --region {region}"
        return [_wrong("bucket", WRONG_BUCKET, f"there is no bucket {name}", hint)]
    there = found.get("BucketRegion", region)
    if there != region:
        why = f"{name} is in {there}, and SageMaker reads models from its own region alone, {region}"
        return [_wrong("bucket", WRONG_BUCKET, why, f"write sagemaker.uploads: s3://BUCKET, of a bucket in {region}")]
    return [Look(Check("bucket", ok=True, found=f"s3://{name} in {there}"))]


def _writing(client: Client, asked: Deployment, uploads: str) -> Sequence[Look]:
    """Return whether files can be written where they go; that there is no such bucket, `_bucket` says."""
    if not _content(asked).artifact or not uploads:
        return []
    bucket, _, prefix = uploads.removeprefix("s3://").partition("/")
    of_it = {"Bucket": bucket, "Key": "/".join(each for each in (prefix, asked.identity.name, CHECK) if each)}
    try:
        client.change(Call("s3", "put_object", {**of_it, "Body": b""}))
        client.change(Call("s3", "delete_object", of_it))
    except MlscaleError as error:
        if is_absent(error.__cause__):
            return []
        return [Look(Check("uploads", ok=False, found=str(error), hint=error.hint))]
    return [Look(Check("uploads", ok=True, found=f"{uploads} can be written"))]


def _machines(client: Client, asked: Deployment, seen: Deployment | None) -> Sequence[Look]:
    """Return for each machine type whether there is one, and whether its quota is enough for all replicas.

    What stops is a sum: types are fallbacks of each other, so together they may have what one alone has not.
    """
    listed = client.pages(
        "service-quotas", "list_service_quotas", "Quotas", ServiceCode="sagemaker", MaxResults=LARGEST_PAGE
    )
    quotas = {each["QuotaName"]: each for each in listed}
    found: list[Look] = []
    for machines in dict.fromkeys(each.revision.content.machine for each in asked.revisions):
        found += _kept_in_quota(asked, seen, machines, quotas)
    return found


def _kept_in_quota(
    asked: Deployment, seen: Deployment | None, machines: Sequence[str], quotas: Mapping[str, Mapping[str, Any]]
) -> Sequence[Look]:
    """Return whether the quotas of machine types that are fallbacks of each other are enough for who runs on them."""
    found = [_machine(asked, machine, quotas.get(QUOTA.format(machine))) for machine in machines]
    if any(QUOTA.format(machine) not in quotas for machine in machines):
        return found
    running = _running(machines, seen)
    start = sum(_start(asked, seen, each) for each in asked.revisions if each.revision.content.machine == machines)
    needed = start + running if _is_new(asked, seen) else start
    limit = int(sum(quotas[QUOTA.format(machine)]["Value"] for machine in machines))
    if needed <= limit:
        return found
    beside = f", with the {running} that serve{'s' if running == 1 else ''} meanwhile" if needed > start else ""
    names, region = " and ".join(machines), asked.identity.region
    why = f"{names} for endpoint usage: {limit} in {region}, and {needed} are needed{beside}"
    quota = quotas[QUOTA.format(machines[0])]
    stops = NoCapacity("an AWS quota is too small", why=why, hint=_increase(asked, quota, needed))
    return [replace(found[0], stops=stops), *found[1:]]


def _start(asked: Deployment, seen: Deployment | None, served: ServedRevision) -> int:
    """Return how many instances a revision starts with."""
    if served is asked.candidate:
        return candidate_replicas(asked.scaling, seen, served.share)
    running = _running(served.revision.content.machine, seen)
    return max(1, asked.scaling.min, min(asked.scaling.max, running))


def _machine(asked: Deployment, machine: str, quota: Mapping[str, Any] | None) -> Look:
    most = asked.scaling.max
    if quota is None:
        known = _known_machines()
        if machine in known:
            return Look(Check("quota", ok=True, found=f"{machine}: not known, AWS lists none for endpoints"))
        close = get_close_matches(machine, known, n=1)
        hint = f"did you mean {close[0]}?" if close else "correct endpoint.machine"
        return _wrong("machine", "there is no such machine", f"SageMaker has no {machine} for endpoints", hint)
    limit = int(quota["Value"])
    allowed = "1 instance" if limit == 1 else f"{limit} instances"
    found = f"{machine}: {allowed} for endpoints, {most} wanted at most"
    if limit < most:
        return Look(Check("quota", ok=False, found=found, hint=_increase(asked, quota, 2 * most)))
    return Look(
        Check("quota", ok=True, found=f"{found}{'' if limit >= 2 * most else '; a change needs as many again'}")
    )


def _known_machines() -> Sequence[str]:
    """Return the machine types that boto3 knows for endpoints; a newer one may be missing."""
    from botocore.loaders import Loader

    shapes = Loader().load_service_model("sagemaker", "service-2")["shapes"]
    return list(shapes["ProductionVariantInstanceType"]["enum"])


def _increase(asked: Deployment, quota: Mapping[str, Any], wanted: int) -> str:
    return (
        f"aws service-quotas request-service-quota-increase --region {asked.identity.region} --service-code sagemaker "
        f"--quota-code {quota['QuotaCode']} --desired-value {wanted}"
    )


def _topic(client: Client, asked: Deployment, arn: str) -> Sequence[Look]:
    """Return whether a topic that is told of something is there, and where CloudWatch can tell it."""
    region = arn.split(":")[3]
    if region != asked.identity.region:
        found = f"{arn} is in {region}, and only topics in {asked.identity.region} can be told"
        return [
            Look(
                Check(
                    "topic",
                    ok=False,
                    found=found,
                    hint=f"aws sns create-topic --region {asked.identity.region} --name NAME",
                )
            )
        ]
    if client.find("sns", "get_topic_attributes", TopicArn=arn) is None:
        name = arn.rpartition(":")[2]
        hint = f"aws sns create-topic --region {region} --name {name}"
        return [Look(Check("topic", ok=False, found=f"{arn} is not there", hint=hint))]
    return [Look(Check("topic", ok=True, found=arn))]


def _wrong(name: str, what: str, why: str, hint: str) -> Look:
    return Look(Check(name, ok=False, found=why, hint=hint), Unsupported(what, why=why, hint=hint))


def _content(asked: Deployment) -> Content:
    if asked.stable is None:
        raise AssertionError("a spec asks for one revision")
    return asked.stable.revision.content


def _is_new(asked: Deployment, seen: Deployment | None) -> bool:
    """Return whether instances are started that are not there, under another Model or another arrangement."""
    if seen is None or seen.stable is None or asked.stable is None:
        return True
    there = {each.revision.id for each in seen.revisions}
    return (
        asked.stable.revision.id != seen.stable.revision.id
        or asked.settings != seen.settings
        or any(each.revision.id not in there for each in asked.revisions)
    )


def _running(machines: Sequence[str], seen: Deployment | None) -> int:
    """Return how many instances of these machine types run for this deployment."""
    return sum(
        served.live.desired
        for served in (seen.revisions if seen else ())
        if served.live and set(served.revision.content.machine) <= set(machines)
    )
