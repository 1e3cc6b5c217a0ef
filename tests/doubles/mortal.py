"""A process that is killed at its nth touch of the outside: nothing that it does after that has any effect."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from mlscale.state.store import Store, Stored

Result = TypeVar("Result")


class Killed(BaseException):
    """The process ends here: nothing catches it but the test."""


class Mortal:
    """One life. `touched` counts what it did to the outside; with `lives` it ends at that many."""

    def __init__(self, lives: int | None = None) -> None:
        self.touched = 0
        self._lives = lives
        self._lock = threading.Lock()

    def touch(self) -> None:
        """Return if the process still lives.

        Raises:
            Killed: it does not, now or any more.
        """
        with self._lock:
            if self._lives is not None and self.touched >= self._lives:
                raise Killed
            self.touched += 1

    def acting(self, act: Callable[[], Result]) -> Result:
        """Return what `act` returns; the kill may come before it, or after it and before anybody hears of it."""
        self.touch()
        result = act()
        self.touch()
        return result


class MortalStore:
    """A workspace as a process that may be killed uses it."""

    def __init__(self, store: Store, mortal: Mortal) -> None:
        self._store = store
        self._mortal = mortal

    def get(self, path: str) -> Stored | None:
        """Return the object."""
        return self._store.get(path)

    def put(self, path: str, data: bytes) -> str:
        """Write the object."""
        return self._mortal.acting(lambda: self._store.put(path, data))

    def create(self, path: str, data: bytes) -> str | None:
        """Write the object if there is none."""
        return self._mortal.acting(lambda: self._store.create(path, data))

    def replace(self, path: str, data: bytes, version: str) -> str | None:
        """Write the object if it still has `version`."""
        return self._mortal.acting(lambda: self._store.replace(path, data, version))

    def delete(self, path: str) -> None:
        """Delete the object."""
        self._mortal.acting(lambda: self._store.delete(path))

    def list(self, prefix: str) -> Sequence[str]:
        """Return the paths."""
        return self._store.list(prefix)

    def check(self) -> None:
        """Prove that objects can be written."""
        self._store.check()
