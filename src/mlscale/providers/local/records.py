"""The two files through which the command line and the supervisor speak: what is desired, what is observed."""

from __future__ import annotations

import os
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from mlscale.deployment import Content, Role, Scaling
from mlscale.errors import WorkspaceFailed

DESIRED = "desired.json"
OBSERVED = "observed.json"
LAUNCH = "revision.json"
LOCK = "supervisor.lock"
SUPERVISOR_LOG = "supervisor.log"

R = TypeVar("R", bound="Record")


class Record(BaseModel):
    """A record on disk: frozen, and refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DesiredRevision(Record):
    """A revision to run: its folder is `revisions/<id>`; `start_with` replicas before autoscaling has its say.

    While it is tried, as a candidate or in the shadow, it has never fewer. A shadow's share is that of the requests
    that it gets copies of. `content` stands here as well, so that a revision whose folder was deleted by hand is still
    known for what it is.
    """

    id: str
    content: Content
    role: Role
    share: int
    start_with: int

    @property
    def is_tried(self) -> bool:
        """Whether it stands beside the stable one."""
        return self.role in (Role.CANDIDATE, Role.SHADOW)


class Desired(Record):
    """What the supervisor shall make true. `generation` grows with every write, so a reader knows what was applied."""

    version: Literal[1] = 1
    name: str
    generation: int = 0
    labels: dict[str, str] = {}
    spec_hash: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    scaling: Scaling = Scaling()
    revisions: tuple[DesiredRevision, ...] = ()


class ObservedReplica(Record):
    """A replica's process. `health`: starting, healthy, unhealthy, backing_off, draining."""

    name: str
    pid: int
    port: int
    health: Literal["starting", "healthy", "unhealthy", "backing_off", "draining"]
    restarts: int = 0
    detail: str = ""


class ObservedRevision(Record):
    """A revision as it runs; `wanted` is the count that autoscaling asks for now, `failures` in a row at start."""

    id: str
    share: int
    wanted: int
    failures: int = 0
    replicas: tuple[ObservedReplica, ...] = ()


class Observed(Record):
    """What the supervisor sees, written by it alone. `at` is the beat: an old one means that it hangs or is gone.

    `pid` with `pid_started` (the process's start time, from the system) says which process wrote this.
    """

    version: Literal[1] = 1
    pid: int
    pid_started: str
    at: datetime
    generation: int
    host: str
    port: int
    revisions: tuple[ObservedRevision, ...] = ()
    failed: str = ""


class RevisionFile(Record):
    """How a revision's replicas are started: `revision.json` in its folder, beside `model/` and `runtime/`.

    `handler` is a path inside `model/`, None where mlscale's own loader serves. `image` is what a container is made
    from, empty for a process; one `is_built` by us has the model in it. `cpus`, `memory` (bytes) and `gpus` (a number,
    or all) are what a container gets at most.
    """

    version: Literal[1] = 1
    python: str
    environment: dict[str, str] = {}
    framework: str
    handler: str | None = None
    health_path: str = "/ping"
    startup_timeout_s: float = 600.0
    image: str = ""
    is_built: bool = False
    cpus: float | None = None
    memory: int | None = None
    gpus: str | None = None


def read_desired(home: Path) -> Desired | None:
    """Return what is desired in `home`, None if nothing ever was.

    Raises:
        WorkspaceFailed: it is there and can't be understood.
    """
    try:
        return _record(home / DESIRED, TypeAdapter(Desired))
    except FileNotFoundError:
        return None


def read_observed(home: Path) -> Observed | None:
    """Return what the supervisor of `home` last saw, None if none ever ran or its words make no sense."""
    try:
        return _record(home / OBSERVED, TypeAdapter(Observed))
    except (FileNotFoundError, WorkspaceFailed):
        return None


def read_launch(folder: Path) -> RevisionFile:
    """Return how the replicas of the revision in `folder` are started.

    Raises:
        FileNotFoundError: it is not there.
        WorkspaceFailed: it can't be understood.
    """
    return _record(folder / LAUNCH, TypeAdapter(RevisionFile))


def _record(path: Path, adapter: TypeAdapter[R]) -> R:
    try:
        return adapter.validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise WorkspaceFailed(
            "a record of the deployment can't be read",
            why=f"{path}: {place} {first['msg']}",
            hint="use the mlscale that wrote it",
        ) from error


def write(path: Path, record: Record) -> None:
    """Put `record` in place of `path` whole: a reader sees the old one or the new one, never half."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(record.model_dump_json(indent=1))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
