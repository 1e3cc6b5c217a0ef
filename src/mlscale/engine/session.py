"""One command's view of one spec: where its deployment, provider and workspace are."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from mlscale.clock import Clock, SystemClock
from mlscale.deployment import Deployment, Identity
from mlscale.errors import UsageError
from mlscale.providers.contract import Provider
from mlscale.providers.registry import Site, provider_of
from mlscale.spec.model import Spec
from mlscale.spec.parse import parse
from mlscale.spec.resolve import identity_of
from mlscale.state.store import Store, open_store

LOCAL_ROOT = ".mlscale"


@dataclass(frozen=True, slots=True)
class World:
    """The outside, as an argument: `provider` gives what works at a site, `seed` a text that no other run has."""

    provider: Callable[[Site], Provider]
    store: Callable[[str], Store]
    clock: Clock
    variables: Mapping[str, str]
    seed: Callable[[], str] = token_hex


def system_world() -> World:
    """Return the real outside."""
    clock = SystemClock()
    return World(provider=lambda site: provider_of(site, clock), store=open_store, clock=clock, variables=os.environ)


@dataclass(frozen=True, slots=True)
class Session:
    """A spec, and what it stands for."""

    world: World
    spec_path: Path
    spec: Spec
    identity: Identity
    provider: Provider
    workspace: str
    store: Store
    env: str | None = None
    overrides: tuple[str, ...] = ()


def open_session(
    world: World,
    spec_path: Path,
    *,
    text: bytes | None = None,
    env: str | None = None,
    overrides: Sequence[str] = (),
    workspace: str | None = None,
    default_workspace: str | None = None,
) -> Session:
    """Return the session for a spec file, or for `text` read from elsewhere as if it stood at `spec_path`.

    `workspace` goes before the spec's own, `default_workspace` comes after it.

    Raises:
        SpecInvalid: the spec has problems.
        UsageError: there is no such file.
    """
    spec = parse(
        read_spec(spec_path) if text is None else text,
        str(spec_path),
        variables=world.variables,
        env=env,
        overrides=overrides,
    )
    root = spec_path.resolve().parent / LOCAL_ROOT
    place = workspace or spec.workspace or default_workspace or str(root)
    if "://" not in place:
        place = str((spec_path.resolve().parent / place) if workspace is None else Path(place).resolve())
    identity = identity_of(spec)
    return Session(
        world,
        spec_path,
        spec,
        identity,
        world.provider(Site(spec.provider, root, identity.account, identity.region, _uploads(spec, place))),
        place,
        world.store(place),
        env,
        tuple(overrides),
    )


def _uploads(spec: Spec, workspace: str) -> str:
    """Return where files for the cloud go: where the spec says, else below a workspace that the cloud can read."""
    match spec.provider:
        case "sagemaker":
            chosen, scheme = spec.sagemaker.uploads, "s3://"
        case "vertex":
            chosen, scheme = spec.vertex.uploads, "gs://"
        case _:
            return ""
    return chosen or (f"{workspace.rstrip('/')}/uploads" if workspace.startswith(scheme) else "")


def read_spec(path: Path) -> bytes:
    """Return the bytes of a spec file.

    Raises:
        UsageError: it is not there or can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            "the spec can't be read", why=f"{path}: {error.strerror}", hint="mlscale init sklearn makes one"
        ) from error


def status(session: Session) -> Deployment | None:
    """Return what is there, None if nothing is."""
    return session.provider.read(session.identity)
