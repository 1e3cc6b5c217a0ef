"""Processes of this machine: whether one is still the one that was meant, and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path


def process_started(pid: int) -> str:
    """Return when `pid` started, as the system counts it, or an empty text when there is no such process.

    Source: /proc/PID/stat, field 22 (starttime), Linux proc(5); elsewhere `ps -o lstart=`.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        if Path("/proc/self").exists():
            return ""
        found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return found.stdout.strip()
    return "" if fields[0] == "Z" else fields[19]


def runs(pid: int, started: str) -> bool:
    """Return whether `pid` is still the process that started then: numbers are used again."""
    return bool(started) and process_started(pid) == started


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal; a process that ended meanwhile is no error."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def kill(pid: int, started: str, timeout_s: float) -> None:
    """End the process that started then at once, and return when it is gone or `timeout_s` is over."""
    limit = time.monotonic() + timeout_s
    while runs(pid, started) and time.monotonic() < limit:
        send(pid, signal.SIGKILL)
        time.sleep(0.02)
