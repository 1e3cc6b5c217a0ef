"""Where a model's code runs: in the event loop while it is quick, in a thread of its own while it is slow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

SLOW_S = 0.001
"""A call that takes longer would keep health checks and metrics waiting; a change of threads costs about 50 µs."""

QUICK_AFTER = 16
"""So many quick calls in a row make a model quick; a new one counts as slow, for its first call may take minutes."""


class Caller:
    """Calls one model's code, one call at a time: a model is never entered twice at once."""

    def __init__(self, seconds: Callable[[], float] = perf_counter) -> None:
        self._seconds = seconds
        self._quick = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self.in_thread = 0
        """Calls that the thread has not ended yet."""

    @property
    def is_quick(self) -> bool:
        """Whether the next call may be made in the event loop."""
        return self._quick >= QUICK_AFTER and not self.in_thread

    def here(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what `function` returns, called in this thread."""
        begun = self._seconds()
        try:
            return function(*arguments)
        finally:
            self._quick = self._quick + 1 if self._seconds() - begun <= SLOW_S else 0

    async def result(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what `function` returns, called where it belongs."""
        if self.is_quick:
            return self.here(function, *arguments)
        self.in_thread += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self.here, function, *arguments)
        finally:
            self.in_thread -= 1
