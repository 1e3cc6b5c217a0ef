"""What the end-to-end tests share: after each of them nothing may run that belongs to its folder."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.e2e.rolling")


@pytest.fixture(autouse=True)
def no_orphans(tmp_path: Path) -> Iterator[None]:
    """No process is left of what the test deployed, once everything is destroyed."""
    yield
    left = processes_of(tmp_path)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"these were left running: {left}"


def processes_of(folder: Path) -> Mapping[int, str]:
    """Return the command line of each process that works in `folder` or names it, by its id."""
    found = {}
    for each in Path("/proc").glob("[0-9]*"):
        try:
            command = (each / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            place = (each / "cwd").readlink()
        except OSError:
            continue
        if int(each.name) != os.getpid() and (str(folder) in command or place.is_relative_to(folder)):
            found[int(each.name)] = command
    return found
