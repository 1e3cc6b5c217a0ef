"""Copies of requests to a revision that is tried in the shadow: answers to them are counted, and reach nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from time import perf_counter
from typing import Protocol

from mlscale.serving.tally import Tally
from mlscale.serving.upstream import AnswerTooLargeError, Response, Upstream, UpstreamBrokenError

WHOLE = 10_000

MOST_OPEN = 64
MOST_OPEN_BYTES = 64 * 2**20
"""A copy that comes when so much is open is not sent: a slow shadow must cost nobody else memory or time."""

MARK = ("x-mlscale-copy", "true")
"""What a copy has besides: a model with effects of its own can leave them out."""

_SERVERS_FAULT = 500


class Outcome(StrEnum):
    """What became of a copy, against the answer that the client got.

    ALONE: the client got none of a model. FAILED: the copy got none, or a 5xx.
    """

    SAME = "same"
    OTHER_BODY = "other_body"
    OTHER_STATUS = "other_status"
    ALONE = "alone"
    FAILED = "failed"
    NOT_SENT = "not_sent"


class Counts(Protocol):
    """What is counted of one revision besides."""

    in_flight: int

    def count(self, code: int, seconds: float) -> None:
        """Count one answered request."""


class Shadow(Protocol):
    """A revision that gets copies of `copies` basis points of the requests."""

    revision: str
    copies: int
    upstreams: tuple[Upstream, ...]


class Mirror:
    """Sends copies beside the requests, never before them and never in their way."""

    def __init__(self, counts_of: Callable[[str], Counts], tally: Tally, timeout_s: float) -> None:
        """Send copies that may take `timeout_s` each, and count them by revision and in `tally`."""
        self.shadow: Shadow | None = None
        self.outcomes: dict[str, dict[Outcome, int]] = {}
        self._counts_of = counts_of
        self._tally = tally
        self._timeout_s = timeout_s
        self._owed = 0
        self._open: set[asyncio.Task[None]] = set()
        self._open_bytes = 0

    def copy(self, headers: Iterable[tuple[str, str]], body: bytes, answer: Response | None) -> None:
        """Send a copy of a request that was answered `answer` (None: by no model), if it is the turn of one."""
        shadow = self.shadow
        if shadow is None:
            return
        self._owed += shadow.copies
        if self._owed < WHOLE:
            return
        self._owed -= WHOLE
        size = len(body) + (len(answer.body) if answer else 0)
        if not shadow.upstreams or len(self._open) >= MOST_OPEN or self._open_bytes + size > MOST_OPEN_BYTES:
            self._count(shadow.revision, Outcome.NOT_SENT)
            return
        upstream = min(shadow.upstreams, key=_open_requests)
        self._open_bytes += size
        task = asyncio.ensure_future(self._send(shadow.revision, upstream, (*headers, MARK), body, answer))
        self._open.add(task)
        task.add_done_callback(lambda ended: self._close(ended, size))

    def _close(self, task: asyncio.Task[None], size: int) -> None:
        self._open.discard(task)
        self._open_bytes -= size

    async def _send(
        self,
        revision: str,
        upstream: Upstream,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        answer: Response | None,
    ) -> None:
        counts = self._counts_of(revision)
        counts.in_flight += 1
        begun = perf_counter()
        try:
            found = await upstream.request("POST", upstream.predict_path, headers, body, self._timeout_s)
        except (UpstreamBrokenError, AnswerTooLargeError, TimeoutError):
            outcome = Outcome.FAILED
        else:
            outcome = _compared(found, answer)
            counts.count(found.status, perf_counter() - begun)
        finally:
            counts.in_flight -= 1
        self._tally.count(revision, perf_counter() - begun, outcome is Outcome.FAILED)
        self._count(revision, outcome)

    def _count(self, revision: str, outcome: Outcome) -> None:
        counts = self.outcomes.setdefault(revision, dict.fromkeys(Outcome, 0))
        counts[outcome] += 1

    def exposition(self) -> Iterable[str]:
        """Yield the counts in Prometheus's text format; nothing while no copy was ever to be sent."""
        if self.outcomes:
            yield "# TYPE mlscale_copies_total counter"
        for revision, counts in self.outcomes.items():
            for outcome, count in counts.items():
                yield f'mlscale_copies_total{{revision="{revision}",outcome="{outcome}"}} {count}'


def _compared(found: Response, answer: Response | None) -> Outcome:
    if found.status >= _SERVERS_FAULT:
        return Outcome.FAILED
    if answer is None:
        return Outcome.ALONE
    if found.status != answer.status:
        return Outcome.OTHER_STATUS
    return Outcome.SAME if found.body == answer.body else Outcome.OTHER_BODY


def _open_requests(upstream: Upstream) -> int:
    return upstream.in_flight
