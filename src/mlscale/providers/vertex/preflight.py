"""What is needed to deploy on Vertex AI, and whether it is there: looked at by reading alone.

Quotas are not looked at: Google tells them through services whose clients are not installed. One that is used up is
told by the call that meets it, before anything bills.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from mlscale.deployment import AuxiliaryKind, Deployment
from mlscale.errors import MlscaleError, Unsupported, WrongCredentials
from mlscale.providers.contract import Check
from mlscale.providers.vertex import machines
from mlscale.providers.vertex.client import Client

Found: TypeAlias = tuple[Check, MlscaleError | None]
"""What one look found, and the error where a deployment would surely fail for it."""

_API = "gcloud services enable aiplatform.googleapis.com"


def checks(client: Client, asked: Deployment | None, uploads: str) -> list[Check]:
    """Return what is needed to work here, and for `asked` if something is; what may not be looked at is said."""
    looks: list[Callable[[], Sequence[Found]]] = [partial(_service, client)]
    if asked is not None:
        looks += [partial(_machines, asked), *_looks(client, asked, uploads)]
    return [check for each in looks for check, _ in _known(each)]


def refuse_unready(client: Client, asked: Deployment, seen: Deployment | None, uploads: str) -> None:
    """Return if nothing is known that would stop `asked`; what may not be looked at is not known.

    Raises:
        Unsupported: the bucket or a notification channel is not there.
    """
    present = {each.revision.id for each in seen.revisions} if seen else set()
    if asked.stable is None or asked.stable.revision.id in present:
        return
    found = [error for each in _looks(client, asked, uploads) for _, error in _known(each) if error is not None]
    if found:
        raise found[0]


def pinned_image(client: Client, image: str) -> str:
    """Return an image as it is: what a tag means now is known to its registry alone, which has no client here."""
    del client
    return image


def _looks(client: Client, asked: Deployment, uploads: str) -> list[Callable[[], Sequence[Found]]]:
    """Return the looks at what a new revision needs."""
    content = asked.stable.revision.content if asked.stable else None
    looks: list[Callable[[], Sequence[Found]]] = []
    if content and content.artifact and uploads:
        looks.append(partial(_bucket, client, uploads))
    if channels := _channels(asked):
        looks.append(partial(_told, client, channels))
    return looks


def _known(look: Callable[[], Sequence[Found]]) -> Sequence[Found]:
    """Return what `look` finds; that we may not look stops nobody."""
    try:
        return look()
    except WrongCredentials as error:
        return [(Check("permissions", ok=True, found=f"not known: {error.why}"), None)]


def _service(client: Client) -> Sequence[Found]:
    try:
        listed = client.pages("endpoint", "list_endpoints", parent=client.parent)
    except MlscaleError as error:
        return [(Check("vertex ai", ok=False, found=str(error), hint=error.hint or _API), error)]
    found = f"project {client.project}, region {client.region}, {len(listed)} endpoints"
    return [(Check("vertex ai", ok=True, found=found), None)]


def _machines(asked: Deployment) -> Sequence[Found]:
    content = asked.stable.revision.content if asked.stable else None
    listed = [machines.parse(each) for each in content.machine] if content else []
    wrong = [refusal for each in listed for refusal in machines.refusals(each)]
    if wrong:
        return [(Check("machine", ok=False, found=each.why, hint=each.link), None) for each in wrong]
    return [(Check("machine", ok=True, found=", ".join(map(str, listed))), None)]


def _bucket(client: Client, uploads: str) -> Sequence[Found]:
    try:
        client.listed(f"{uploads}/")
    except WrongCredentials:
        raise
    except MlscaleError as error:
        hint = "make the bucket, or name another in workspace: or vertex.uploads"
        stops = Unsupported("the place for uploads can't be used", why=error.why, hint=hint)
        return [(Check("bucket", ok=False, found=error.why, hint=hint), stops)]
    return [(Check("bucket", ok=True, found=f"{uploads} can be read"), None)]


def _channels(asked: Deployment) -> list[str]:
    project = f"projects/{asked.identity.account}/notificationChannels"
    told = {
        each
        for auxiliary in asked.auxiliaries
        if auxiliary.kind is AuxiliaryKind.ALARM
        for each in auxiliary.content.get("notify", "").split()
    }
    return sorted(each if "/" in each else f"{project}/{each}" for each in told)


def _told(client: Client, channels: Sequence[str]) -> Sequence[Found]:
    found: list[Found] = []
    for channel in channels:
        if client.find("notification_channel", "get_notification_channel", name=channel) is None:
            hint = "gcloud beta monitoring channels list, and correct alarms.notify"
            stops = Unsupported("a notification channel is not there", why=channel, hint=hint)
            found.append((Check("channel", ok=False, found=f"{channel} is not there", hint=hint), stops))
        else:
            found.append((Check("channel", ok=True, found=channel), None))
    return found
