"""What a step on Vertex AI carries: each payload is one thing to be done, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

from mlscale.deployment import (
    Auxiliary,
    Identity,
    Revision,
    Scaling,
)


@dataclass(frozen=True, slots=True)
class Upload:
    """Put the files of a model into the folder `place`; `model` is where they are here, None if they are not."""

    identity: Identity
    place: str
    revision: Revision
    model: str | None = None


@dataclass(frozen=True, slots=True)
class MakeModel:
    """Begin to make the Model of a revision."""

    identity: Identity
    request: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MakeEndpoint:
    """Begin to make the endpoint."""

    identity: Identity
    request: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Deploy:
    """Begin to deploy a revision; `requests` are the same on each machine that it may run on, by preference."""

    identity: Identity
    revision: str
    requests: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class AwaitReplicas:
    """Wait until a deployed model has `least` replicas that answer."""

    identity: Identity
    revision: str
    deployed_id: str
    least: int


@dataclass(frozen=True, slots=True)
class AwaitOperation:
    """Wait for operations that another run began, or somebody else did."""

    identity: Identity
    operations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Resize:
    """Change how many replicas a deployed model has at least and at most."""

    identity: Identity
    deployed_id: str
    scaling: Scaling


@dataclass(frozen=True, slots=True)
class Shift:
    """Give each deployed model, by its id, its percents of the traffic; the others get nothing.

    `tried` is the label that tells of the candidate; empty where there is none any more.
    """

    identity: Identity
    split: Mapping[str, int]
    tried: str = ""


@dataclass(frozen=True, slots=True)
class Bake:
    """Keep the old revision for `bake_time`, and watch that the new one has replicas."""

    identity: Identity
    revision: str
    deployed_id: str
    bake_time: timedelta


@dataclass(frozen=True, slots=True)
class Undeploy:
    """Begin to take a DeployedModel off the endpoint, by its id."""

    identity: Identity
    deployed_id: str


@dataclass(frozen=True, slots=True)
class Configure:
    """Change in place what is no part of a revision: labels, logging, and bounds and targets of the stable one.

    `models` are the ids of Models that are the deployment's, whatever their labels say.
    """

    identity: Identity
    deployed_id: str
    scaling: Scaling
    labels: Mapping[str, str]
    request_logging: str = ""
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Watch:
    """Have these alert policies and this dashboard, and no other."""

    identity: Identity
    auxiliaries: tuple[Auxiliary, ...]
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RemoveEndpoint:
    """Begin to delete the endpoint, which has no model any more."""

    identity: Identity


@dataclass(frozen=True, slots=True)
class RemoveUploads:
    """Delete every file of the deployment."""

    identity: Identity


@dataclass(frozen=True, slots=True)
class RemoveModel:
    """Begin to delete a Model, by its id."""

    identity: Identity
    model_id: str


@dataclass(frozen=True, slots=True)
class Discard:
    """Delete one file that nothing uses."""

    identity: Identity
    place: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """Put our labels on an endpoint that somebody else made, and on its Models."""

    identity: Identity
    labels: Mapping[str, str]


Payload: TypeAlias = (
    Upload
    | MakeModel
    | MakeEndpoint
    | Deploy
    | AwaitReplicas
    | AwaitOperation
    | Resize
    | Shift
    | Bake
    | Undeploy
    | Configure
    | Watch
    | RemoveEndpoint
    | RemoveUploads
    | RemoveModel
    | Discard
    | Adopt
)
