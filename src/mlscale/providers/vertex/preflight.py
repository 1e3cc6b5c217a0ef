"""What Google Cloud must have before a deployment can work, and whether it is there; asked by reading, side by side.

Nobody here can ask three things. How large a quota is and how much of it is free: Service Usage and Cloud Quotas tell
it, whose clients are not installed. Where a bucket is: obstore reads objects alone. Who may pull an image: that is the
project's service agent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

from mlscale.deployment import Content, Deployment
from mlscale.errors import MlscaleError, Unsupported, WrongCredentials
from mlscale.providers.calling import together
from mlscale.providers.contract import Check
from mlscale.providers.vertex import images, machines
from mlscale.providers.vertex.client import Client
from mlscale.providers.vertex.failures import QUOTAS
from mlscale.providers.vertex.permissions import channels, in_project

TRIED = ".check"
"""The file that is written and deleted to see whether files can be."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found; `stops` is the error where a deployment would surely fail for it."""

    check: Check
    stops: MlscaleError | None = None


Looking: TypeAlias = Callable[[], Sequence[Look]]


def checks(client: Client, asked: Deployment | None, uploads: str) -> list[Check]:
    """Return what is needed to work here, and for `asked` if something is; what may not be looked at is said to be so.

    A file is tried to be written where files go, and nothing stays.
    """
    try:
        who = client.who()
    except MlscaleError as error:
        return [Check("credentials", ok=False, found=str(error), hint=error.hint)]
    looks: list[Looking] = [partial(_service, client)]
    if asked is not None:
        looks += [
            partial(_known, "permissions", partial(_permissions, client, asked)),
            partial(_machines, asked),
            partial(_quotas, asked),
            partial(_image, asked),
            *_looks(client, asked, uploads),
        ]
        if _content(asked).artifact and uploads:
            looks.append(partial(_writing, client, asked, uploads))
    found = together(*looks)
    return [
        Check("credentials", ok=True, found=f"project {client.project}, {who}"),
        *(look.check for each in found for look in each),
    ]


def refuse_unready(client: Client, asked: Deployment, seen: Deployment | None, uploads: str) -> None:
    """Return if nothing is known that would stop `asked`; what may not be looked at is not known.

    Raises:
        WrongCredentials: the credentials are missing.
        Unsupported: the bucket or a notification channel is not there.
    """
    present = {each.revision.id for each in seen.revisions} if seen else set()
    if asked.stable is None or asked.stable.revision.id in present:
        return
    client.who()
    found = [
        look.stops for each in together(*_looks(client, asked, uploads)) for look in each if look.stops is not None
    ]
    if len(found) > 1:
        raise Unsupported(
            f"{len(found)} things would stop the deployment",
            why="\n".join(str(each) for each in found),
            hint=found[0].hint,
        )
    if found:
        raise found[0]


def pinned_image(client: Client, image: str) -> str:
    """Return an image as it is: what its tag means now is known to its registry, which has no client here.

    Vertex AI itself takes a copy when it makes a revision's Model, so that a revision stays what it is.
    """
    del client
    return image


def _looks(client: Client, asked: Deployment, uploads: str) -> list[Looking]:
    """Return the looks at what a new revision needs."""
    looks: list[Looking] = []
    if _content(asked).artifact and uploads:
        looks.append(partial(_known, "bucket", partial(_bucket, client, asked, uploads)))
    looks += [partial(_known, "channel", partial(_channel, client, each)) for each in channels(asked)]
    return looks


def _known(name: str, look: Looking) -> Sequence[Look]:
    """Return what `look` finds; what it may not see or Google does not tell stops nobody."""
    try:
        return look()
    except MlscaleError as error:
        return [_unknown(name, error)]


def _unknown(name: str, error: MlscaleError) -> Look:
    return Look(Check(name, ok=True, found=f"not known: {error.what} ({error.why})"))


def _service(client: Client) -> Sequence[Look]:
    """Return whether Vertex AI answers where it is asked: the API is enabled, the region is one."""
    try:
        client.page("endpoint", "list_endpoints", parent=client.parent, page_size=1)
    except WrongCredentials as error:
        if error.hint.startswith("mlscale iam policy"):  # the API is there, and does not let us look
            return [_unknown("region", error)]
        return [Look(Check("region", ok=False, found=str(error), hint=error.hint))]
    except MlscaleError as error:
        return [Look(Check("region", ok=False, found=str(error), hint=error.hint))]
    return [Look(Check("region", ok=True, found=f"Vertex AI answers in {client.region}"))]


def _permissions(client: Client, asked: Deployment) -> Sequence[Look]:
    """Return which permissions on the project are missing; what is granted on one resource of it is not seen."""
    wanted = in_project(asked)
    answer = client.read("project", "test_iam_permissions", resource=f"projects/{client.project}", permissions=wanted)
    missing = [each for each in wanted if each not in answer.get("permissions", ())]
    if missing:
        found = f"missing on the project: {', '.join(missing)}"
        return [Look(Check("permissions", ok=False, found=found, hint="mlscale iam policy"))]
    return [Look(Check("permissions", ok=True, found=f"all {len(wanted)} that are needed on the project"))]


def _machines(asked: Deployment) -> Sequence[Look]:
    """Return whether each machine goes together with its accelerator."""
    return [_machine(machines.parse(each)) for each in _content(asked).machine]


def _machine(machine: machines.Machine) -> Look:
    wrong = machines.refusals(machine)
    if wrong:
        found, links = "; ".join(each.why for each in wrong), sorted({each.link for each in wrong})
        return Look(Check("machine", ok=False, found=found, hint=f"see {', '.join(links)}"))
    return Look(Check("machine", ok=True, found=str(machine)))


def _quotas(asked: Deployment) -> Sequence[Look]:
    """Return what all replicas take of the project's quotas; how much there is can't be asked here."""
    looks = []
    for text in _content(asked).machine:
        taken = ", ".join(f"{count} of {name}" for name, count in _taken(text, asked.scaling.max).items())
        if taken:
            found = f"not known, and a change needs as many again: {asked.scaling.max} replicas take {taken}; {QUOTAS}"
            looks.append(Look(Check("quota", ok=True, found=found)))
    return looks


def _taken(text: str, replicas: int) -> Counter[str]:
    """Return what replicas take of each quota, by Vertex AI's names ("Quotas and limits", custom model serving)."""
    machine = machines.parse(text)
    kind = "custom_model_serving_preemptible" if machine.spot else "custom_model_serving"
    taken: Counter[str] = Counter()
    cpus = machine.type.rpartition("-")[2]
    if cpus.isdigit():
        taken[f"{kind}_cpus"] = replicas * int(cpus)
    if machine.accelerator:
        taken[f"{kind}_{machine.accelerator.lower().replace('tesla_', '')}_gpus"] = replicas * machine.count
    return taken


def _image(asked: Deployment) -> Sequence[Look]:
    image = _content(asked).image
    if image is None or images.is_prebuilt(image):
        return [Look(Check("image", ok=True, found="one of Google's own"))]
    found = f"{image}, whose registry is not asked: Vertex AI's service agent must be allowed to read it"
    return [Look(Check("image", ok=True, found=found))]


def _bucket(client: Client, asked: Deployment, uploads: str) -> Sequence[Look]:
    """Return whether the bucket for the model's files is there."""
    bucket = uploads.removeprefix("gs://").partition("/")[0]
    try:
        client.listed(f"{uploads}/{asked.identity.name}/{TRIED}/")  # of nothing: the bucket answers
    except MlscaleError as error:
        if "NoSuchBucket" not in error.why:
            raise
        hint = f"gcloud storage buckets create gs://{bucket} --project {client.project} --location {client.region}"
        why = f"there is no bucket {bucket}"
        stops = Unsupported("the bucket for the model's files can't be used", why=why, hint=hint)
        return [Look(Check("bucket", ok=False, found=why, hint=hint), stops)]
    return [Look(Check("bucket", ok=True, found=f"gs://{bucket}, whose location can't be asked here"))]


def _writing(client: Client, asked: Deployment, uploads: str) -> Sequence[Look]:
    """Return whether files can be written where they go."""
    place = f"{uploads}/{asked.identity.name}/{TRIED}"
    try:
        with TemporaryDirectory(prefix="mlscale-") as folder:
            file = Path(folder) / TRIED
            file.write_bytes(b"")
            client.upload(file, place, _untold)
        client.delete(place)
    except MlscaleError as error:
        return [Look(Check("uploads", ok=False, found=str(error), hint=error.hint))]
    return [Look(Check("uploads", ok=True, found=f"{uploads} can be written"))]


def _channel(client: Client, name: str) -> Sequence[Look]:
    """Return whether a notification channel is there."""
    if client.find("notification_channel", "get_notification_channel", name=name) is None:
        why = f"{name} is not there"
        hint = f"gcloud beta monitoring channels list --project {client.project}; correct alarms.notify"
        stops = Unsupported("a notification channel can't be used", why=why, hint=hint)
        return [Look(Check("channel", ok=False, found=why, hint=hint), stops)]
    return [Look(Check("channel", ok=True, found=name))]


def _content(asked: Deployment) -> Content:
    if asked.stable is None:
        raise AssertionError("a spec asks for one revision")
    return asked.stable.revision.content


def _untold(text: str) -> None:
    del text
