"""What a step on SageMaker carries: each payload is one thing to be done, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from mlscale.deployment import (
    Auxiliary,
    Kind,
    Revision,
    Scaling,
)


@dataclass(frozen=True, slots=True)
class Upload:
    """Put the archive of a revision at `place`; the paths are where its files are here, None if they are not."""

    name: str
    place: str
    revision: Revision
    model: str | None = None
    handler: str | None = None
    requirements: str | None = None


@dataclass(frozen=True, slots=True)
class MakeModel:
    """Make the Model of a revision."""

    name: str
    request: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MakeConfig:
    """Make the EndpointConfig, which is one arrangement of revisions."""

    name: str
    request: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MakeEndpoint:
    """Begin to make the endpoint."""

    name: str
    request: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class UpdateEndpoint:
    """Begin to move the endpoint to another arrangement."""

    name: str
    request: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AwaitEndpoint:
    """Wait until the endpoint serves `config`; None waits for whatever goes on there."""

    name: str
    config: str | None


@dataclass(frozen=True, slots=True)
class Configure:
    """Change in place what is no part of a revision: tags, bounds, policies, schedule.

    `tags` are those of the endpoint, `shared` those of everything that is ours.
    """

    name: str
    kind: Kind
    slot: str
    scaling: Scaling
    tags: Mapping[str, str]
    shared: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Scale:
    """Give a variant this scaling, and bring its count into its bounds."""

    name: str
    kind: Kind
    slot: str
    scaling: Scaling


@dataclass(frozen=True, slots=True)
class Shift:
    """Give each variant its share of the traffic, in basis points; a shadow of its copies."""

    name: str
    shares: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Watch:
    """Have these alarms and this dashboard, and no other."""

    name: str
    kind: Kind
    slot: str
    auxiliaries: tuple[Auxiliary, ...]
    shared: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Release:
    """Take autoscaling off the variant; SageMaker refuses to change the machines of one that has it."""

    name: str
    slot: str


@dataclass(frozen=True, slots=True)
class RemoveEndpoint:
    """Begin to delete the endpoint."""

    name: str


@dataclass(frozen=True, slots=True)
class AwaitGone:
    """Wait until the endpoint is gone."""

    name: str


@dataclass(frozen=True, slots=True)
class RemoveUploads:
    """Delete every archive of the deployment."""

    name: str


@dataclass(frozen=True, slots=True)
class RemoveArrangements:
    """Delete every EndpointConfig and every Model of the deployment."""

    name: str


@dataclass(frozen=True, slots=True)
class Discard:
    """Delete one thing that nothing uses: `kind` is model, endpoint-config or upload, `what` its name or place."""

    name: str
    kind: str
    what: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """Put our marks on an endpoint that somebody else made, on its arrangement and its models."""

    name: str
    labels: Mapping[str, str]


Payload: TypeAlias = (
    Upload
    | MakeModel
    | MakeConfig
    | MakeEndpoint
    | UpdateEndpoint
    | AwaitEndpoint
    | Configure
    | Scale
    | Shift
    | Watch
    | Release
    | RemoveEndpoint
    | AwaitGone
    | RemoveUploads
    | RemoveArrangements
    | Discard
    | Adopt
)
