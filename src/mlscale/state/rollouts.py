"""Rollouts as the workspace has them: how far one is, what is wished of it, and what became of those that ended.

Whoever holds the lease writes how far a rollout is. Who does not writes a numbered request, which whoever drives the
rollout obeys before its next call; if nobody does, the requester takes the lease and acts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from mlscale.deployment import Revision
from mlscale.errors import WorkspaceFailed
from mlscale.state.store import Store


class Phase(StrEnum):
    """How far a rollout is. The first five are live: a candidate is there, and somebody has to decide or to act."""

    PROGRESSING = "progressing"
    PAUSED = "paused"
    HOLDING = "holding"
    PROMOTING = "promoting"
    ABORTING = "aborting"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    REPLACED = "replaced"


LIVE = frozenset({Phase.PROGRESSING, Phase.PAUSED, Phase.HOLDING, Phase.PROMOTING, Phase.ABORTING})


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


_F = TypeVar("_F", bound=_File)


class Counted(_File):
    """One window of evidence: of each revision, by metric, how many were bad and of how many.

    A metric that a revision lacks was not measured there in this window. `failed` are the metrics that could not be
    asked for, and why.
    """

    start: AwareDatetime
    end: AwareDatetime
    baseline: Mapping[str, tuple[int, int]]
    candidate: Mapping[str, tuple[int, int]]
    failed: Mapping[str, str] = {}


class Judged(_File):
    """What a metric showed: both rates (0 to 1), the bound of their difference, and of how many requests.

    `margin` and `max` are what was asked of it, `missing` is how many more requests a pass takes.
    """

    metric: str
    outcome: str
    candidate: float | None = None
    baseline: float | None = None
    bound: float | None = None
    n: int = 0
    margin: float | None = None
    max: float | None = None
    missing: int | None = None
    why: str = ""


class Moment(_File):
    """One thing that happened in a rollout, with the candidate's share in basis points after it."""

    at: AwareDatetime
    what: str
    share: int
    text: str = ""


class Rollout(_File):
    """A rollout by shares.

    `shares` are the steps in basis points, `step` the number of the one that is in force or comes next, `share` what is
    in force. `driven` says that it goes its steps by itself, since `driven_at`; else it holds where it was put.
    `watched_from` is the start of the first window that counts, None before the candidate had traffic. `obeyed` is the
    number of the last request that was obeyed. `outcome` is what the worst of `verdicts` shows: pass, inconclusive,
    no_data, error or fail.
    """

    version: Literal[1] = 1
    id: str
    strategy: str
    phase: Phase
    stable: Revision
    candidate: Revision
    shares: tuple[int, ...]
    step: int = 0
    share: int = 0
    driven: bool = True
    began_at: AwareDatetime
    driven_at: AwareDatetime
    step_at: AwareDatetime | None = None
    watched_from: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    obeyed: int = 0
    why: str = ""
    outcome: str = ""
    verdicts: tuple[Judged, ...] = ()
    history: tuple[Moment, ...] = ()
    windows: tuple[Counted, ...] = Field((), description="The evidence; kept when the rollout has ended.")

    @property
    def is_live(self) -> bool:
        """Whether a candidate is there."""
        return self.phase in LIVE


class Wish(StrEnum):
    """What may be wished of a rollout."""

    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    PROMOTE_FULL = "promote_full"
    ABORT = "abort"
    REPLACE = "replace"


ENDING = frozenset({Wish.ABORT, Wish.PROMOTE_FULL})
"""What a rollout has ended after, and with it whoever wished for it is done."""

OUTRANKING = frozenset({Wish.ABORT, Wish.REPLACE})
"""What is obeyed before everything else, in the middle of a step as well."""


class Request(_File):
    """A numbered wish, and whose it is."""

    version: Literal[1] = 1
    number: int
    wish: Wish
    by: str
    at: AwareDatetime


def current(store: Store, name: str) -> Rollout | None:
    """Return the last rollout of the deployment `name`, live or ended; None if there was none."""
    return _read(store, _path(name))


def save(store: Store, name: str, rollout: Rollout) -> None:
    """Write how far a rollout is; one that has ended is kept by its id as well."""
    data = rollout.model_dump_json(indent=1).encode()
    if not rollout.is_live:
        store.put(f"rollouts/{name}/ended/{rollout.id}.json", data)
    store.put(_path(name), data)


def settle(store: Store, name: str, stable: str, at: AwareDatetime) -> None:
    """End a rollout that goes on no more, because another change of `name` has left `stable` alone, or nothing ("")."""
    found = current(store, name)
    if found is None or not found.is_live:
        return
    phase = Phase.PROMOTED if stable == found.candidate.id else Phase.ROLLED_BACK
    why = f"revision {stable} was deployed" if stable else "the deployment was destroyed"
    moment = Moment(at=at, what=phase.value, share=found.share, text=why)
    changed = {"phase": phase, "why": why, "ended_at": at, "history": (*found.history, moment)}
    save(store, name, found.model_copy(update=changed))


def ended(store: Store, name: str) -> Sequence[str]:
    """Return the ids of the rollouts that have ended, oldest first."""
    return [path.rpartition("/")[2].removesuffix(".json") for path in store.list(f"rollouts/{name}/ended/")]


def of_id(store: Store, name: str, rollout_id: str) -> Rollout | None:
    """Return a rollout that has ended, by its id; None if there is none."""
    return _read(store, f"rollouts/{name}/ended/{rollout_id}.json")


def request(store: Store, name: str, wish: Wish, by: str, at: AwareDatetime) -> Request:
    """Write down a wish under the next number, and return it."""
    number = latest_request(store, name) + 1
    while True:
        made = Request(number=number, wish=wish, by=by, at=at)
        if store.create(_request_path(name, number), made.model_dump_json(indent=1).encode()) is not None:
            return made
        number += 1


def latest_request(store: Store, name: str) -> int:
    """Return the number of the last wish, 0 if there was none yet."""
    return max(map(_number_of, store.list(_requests_path(name))), default=0)


def requests(store: Store, name: str, after: int = 0) -> Sequence[Request]:
    """Return the wishes with a number greater than `after`, in order.

    Raises:
        WorkspaceFailed: one is not of this version.
    """
    return [
        _parsed(Request, stored.data, path)
        for path in store.list(_requests_path(name))
        if _number_of(path) > after and (stored := store.get(path))
    ]


def _path(name: str) -> str:
    return f"rollouts/{name}/current.json"


def _requests_path(name: str) -> str:
    return f"rollouts/{name}/requests/"


def _request_path(name: str, number: int) -> str:
    return f"{_requests_path(name)}{number:08d}.json"


def _number_of(path: str) -> int:
    return int(path.rpartition("/")[2].removesuffix(".json"))


def _read(store: Store, path: str) -> Rollout | None:
    found = store.get(path)
    return None if found is None else _parsed(Rollout, found.data, path)


def _parsed(kind: type[_F], data: bytes, path: str) -> _F:
    try:
        return kind.model_validate_json(data)
    except ValueError as error:
        raise WorkspaceFailed(
            "a rollout's record can't be read", why=path, hint="use the mlscale that wrote it"
        ) from error
