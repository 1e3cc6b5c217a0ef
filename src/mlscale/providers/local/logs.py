"""One log file: its last lines, and its bound."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

LARGEST_LOG = 10 * 2**20


def last_lines(path: Path, count: int) -> str:
    """Return the last `count` lines of a log, as far as they lie in its last 256 kB; empty if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 256_000))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join(lines[max(0, len(lines) - count) :])


def bound_log(path: Path) -> None:
    """Move a log that has grown too large aside, and empty it under whoever writes (all append)."""
    with suppress(OSError):
        if path.stat().st_size > LARGEST_LOG:
            with suppress(OSError):
                shutil.copyfile(path, f"{path}.1")
            os.truncate(path, 0)
