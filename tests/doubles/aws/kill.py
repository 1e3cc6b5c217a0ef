"""The kill switch: a process ends at a chosen moment of a chosen mutating call, before anything else can happen."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress

from tests.doubles.aws.wire import Call
from tests.doubles.aws.world import Json

POINTS = frozenset({"before", "committed", "replied", "working"})
REPLY_S = 2.0
"""How long the next request waits for the reply to the nth one to be written to the last byte."""


class Kill:
    """One life that ends at the nth mutating call since it was asked for; notes of the workspace do not count."""

    def __init__(self, pid: int, nth: int, point: str) -> None:
        if point not in POINTS:
            raise ValueError(f"{point} is not one of {', '.join(sorted(POINTS))}")
        self.pid = pid
        self.nth = nth
        self.point = point
        self.counted = 0
        self.calls: list[str] = []
        self.fired = False
        self._committed = False
        self._replied = threading.Event()
        self._lock = threading.Lock()

    def arriving(self, call: Call) -> int | None:
        """Return the number of a mutating call, None for all others; the process may end here.

        Raises:
            Ended: it did, and the call must have no effect and no answer.
        """
        counts = call.mutating and not call.workspace
        if self._committed and not self.fired and (self.point == "replied" or (self._is_look(call))):
            self._replied.wait(REPLY_S)
            self._end()
        if not counts:
            return None
        with self._lock:
            self.counted += 1
            self.calls.append(call.name)
            number = self.counted
        if self.point == "before" and number == self.nth:
            self._end()
        return number

    def _is_look(self, call: Call) -> bool:
        """Return whether the process looks at what the cloud is doing."""
        return self.point == "working" and not call.mutating and call.service != "s3"

    def committed(self, number: int | None) -> None:
        """Hear that a call had its effect; the process may end here.

        Raises:
            Ended: it did, and must get no answer.
        """
        if number != self.nth:
            return
        self._committed = True
        if self.point == "committed":
            self._end()

    def replied(self, number: int | None) -> None:
        """Hear that a call's answer was written."""
        if number == self.nth:
            self._replied.set()

    def _end(self) -> None:
        with self._lock:
            first, self.fired = not self.fired, True
        if first:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        raise Ended

    def shown(self) -> Json:
        """Return what a test wants to know."""
        asked = {"pid": self.pid, "nth": self.nth, "point": self.point}
        return {**asked, "counted": self.counted, "calls": self.calls, "fired": self.fired}


class Ended(Exception):
    """The caller is gone: there is nobody to answer."""
