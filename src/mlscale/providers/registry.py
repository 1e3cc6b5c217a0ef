"""Which provider serves a place; its module is imported only then."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlscale.clock import Clock
from mlscale.errors import Unsupported
from mlscale.providers.contract import Provider


@dataclass(frozen=True, slots=True)
class Site:
    """Where a provider works.

    `root` is the folder `.mlscale/` beside the spec, for the provider that is this machine. `account` and `region` are
    a cloud's, None on this machine. `uploads` is where files for it go, a place like `s3://bucket/folder`; empty if
    there is none.
    """

    provider: str
    root: Path
    account: str | None = None
    region: str | None = None
    uploads: str = ""


def provider_of(site: Site, clock: Clock) -> Provider:
    """Return the provider that works at `site`; nothing is called yet.

    Raises:
        Unsupported: there is none of that name.
        ExtraMissing: a package that it needs is not installed.
    """
    match site.provider:
        case "local":
            from mlscale.providers.local.provider import Local

            return Local(site.root, clock)
        case "sagemaker":
            from mlscale.providers.sagemaker.provider import SageMaker

            return SageMaker(account=site.account, region=site.region or "", uploads=site.uploads, clock=clock)
        case "vertex":
            from mlscale.providers.vertex.provider import Vertex

            return Vertex(project=site.account or "", region=site.region or "", uploads=site.uploads, clock=clock)
        case name:
            raise Unsupported("there is no such provider", why=name, hint="use provider: local, sagemaker or vertex")
