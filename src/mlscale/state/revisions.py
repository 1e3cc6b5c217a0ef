"""The revisions that were deployed, so that one can be gone back to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from mlscale.deployment import Revision
from mlscale.errors import WorkspaceFailed
from mlscale.state.store import Store


class Recorded(BaseModel):
    """A revision that served, and when it last began to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    revision: Revision
    deployed_at: AwareDatetime
    run_id: str
    spec_hash: str


def record(store: Store, name: str, recorded: Recorded) -> None:
    """Remember a revision of the deployment `name`; again for the same one only its time changes."""
    store.put(f"revisions/{name}/{recorded.revision.id}.json", recorded.model_dump_json(indent=1).encode())


def recorded(store: Store, name: str) -> Sequence[Recorded]:
    """Return the remembered revisions of `name`, the newest first."""
    found = (_read(store, path) for path in store.list(f"revisions/{name}/"))
    return sorted((each for each in found if each), key=lambda each: each.deployed_at, reverse=True)


def forget(store: Store, name: str, revision: str) -> None:
    """Forget a revision; one that nobody knows is no error."""
    store.delete(f"revisions/{name}/{revision}.json")


def _read(store: Store, path: str) -> Recorded | None:
    found = store.get(path)
    try:
        return Recorded.model_validate_json(found.data) if found else None
    except ValueError as error:
        raise WorkspaceFailed(
            "a revision's record can't be read", why=path, hint="use the mlscale that wrote it"
        ) from error
