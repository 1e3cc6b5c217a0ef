"""`mlscale`, killed by SIGKILL just before the nth time that it changes something on this machine.

    python -m tests.doubles.killed FOLDER N WORDS...

What counts is what Python tells its audit hooks: every file under FOLDER that is written, renamed, locked or deleted,
and every process that is started or signalled. With N 0 nothing is killed, and the count is the last line on stderr.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

PROCESS_EVENTS = frozenset({"os.posix_spawn", "subprocess.Popen", "os.kill"})
FILE_EVENTS = frozenset({"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.link", "os.symlink"})
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Count:
    """How often something was changed; ends the process at `last`."""

    def __init__(self, folder: str, last: int) -> None:
        self.changes = 0
        self._folder = folder
        self._last = last
        self._lock = threading.Lock()

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        """Hear of one event, before it happens."""
        if not self._changes_something(event, args):
            return
        with self._lock:
            self.changes += 1
            if self.changes == self._last:
                os.kill(os.getpid(), signal.SIGKILL)

    def _changes_something(self, event: str, args: tuple[Any, ...]) -> bool:
        if event in PROCESS_EVENTS:
            return args[:2] != (os.getpid(), signal.SIGKILL)
        if event == "open":
            return self._is_here(args[0]) and bool(args[2] & WRITING)
        return event in FILE_EVENTS and self._is_here(args[0])

    def _is_here(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self._folder)


def main() -> int:
    """Run the command in the arguments; its exit code, unless it is killed."""
    folder, last, *words = sys.argv[1:]
    from mlscale.cli.app import main as mlscale

    count = Count(folder, int(last))
    sys.addaudithook(count)
    code = mlscale(words)
    sys.stderr.write(f"{count.changes}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
