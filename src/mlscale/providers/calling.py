"""How clouds are called: how long a call may take, how often a read is tried, how many are under way at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mlscale.clock import Clock
from mlscale.errors import ProviderFailed, UsageError
from mlscale.quantities import duration_of

T = TypeVar("T")

PARALLEL = 8
"""Reads that are under way at once."""

TIMEOUT_VARIABLE = "MLSCALE_CALL_TIMEOUT"
TIMEOUT_S = 20.0
"""How long a call may take where neither the environment nor the call itself says another time."""

TRIES = 5
FIRST_PAUSE_S = 0.25
TRY_WITHIN_S = 20.0
"""No try of a read begins later than this after the first."""


MB, KB = 1_000_000, 1_000


class Reads:
    """The reads of one client: several threads may do them, `PARALLEL` at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turns = threading.BoundedSemaphore(PARALLEL)

    def patiently(self, once: Callable[[], T]) -> T:
        """Return what `once` does, done again while its failure may pass by itself.

        `once` must not read through this again: it holds a turn.
        """
        started, pause = self._clock.monotonic(), FIRST_PAUSE_S
        for _ in range(TRIES - 1):
            try:
                return self._in_turn(once)
            except ProviderFailed as error:
                if not error.retryable or self._clock.monotonic() + pause > started + TRY_WITHIN_S:
                    raise
            self._clock.sleep(pause)
            pause *= 2
        return self._in_turn(once)

    def in_turn(self) -> threading.BoundedSemaphore:
        """Return the turn to hold for a read that is tried once, or that tries by itself."""
        return self._turns

    def _in_turn(self, once: Callable[[], T]) -> T:
        with self._turns:
            return once()


def together(*reads: Callable[[], T]) -> list[T]:
    """Return what each of `reads` returns, done side by side; a read may do the same with its own.

    Raises:
        MlscaleError: that of the first in order that failed; those that have not begun are left out.
    """
    return list(in_order(*reads))


def in_order(*reads: Callable[[], T]) -> Iterator[T]:
    """Yield what `together` returns, each as soon as it and those before it are there; the others go on."""
    if len(reads) <= 1:
        yield from (read() for read in reads)
        return
    pool = ThreadPoolExecutor(min(PARALLEL, len(reads)), thread_name_prefix="read")
    try:
        yield from (future.result() for future in [pool.submit(read) for read in reads])
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def timeout_s() -> float | None:
    """Return the seconds that the environment gives a call, None where it says nothing.

    Raises:
        UsageError: what it says is no time.
    """
    text = os.environ.get(TIMEOUT_VARIABLE, "")
    if not text:
        return None
    hint = f"write it like {TIMEOUT_VARIABLE}=20s"
    try:
        seconds = duration_of(text).total_seconds()
    except ValueError as error:
        raise UsageError(f"{TIMEOUT_VARIABLE} is not a duration", why=str(error), hint=hint) from error
    if not seconds:
        raise UsageError(f"{TIMEOUT_VARIABLE} is not a duration", why=f"{text} is no time at all", hint=hint)
    return seconds


def uploaded_text(sent: int, size: int) -> str:
    """Return how far an upload is, in the unit that fits its size (bytes)."""
    unit, name = (MB, "MB") if size >= MB else (KB, "kB")
    return f"{sent / unit:.1f} of {size / unit:.1f} {name} uploaded"


def bucket_and_key(place: str, scheme: str) -> tuple[str, str]:
    """Return the bucket and the key that a place like `s3://bucket/folder/file` names.

    Raises:
        UsageError: it is no place of that scheme.
    """
    found, _, rest = place.partition("://")
    bucket, _, key = rest.partition("/")
    if found != scheme or not bucket or not key:
        raise UsageError("this is no place in a bucket", why=place, hint=f"write it like {scheme}://bucket/folder/file")
    return bucket, key
