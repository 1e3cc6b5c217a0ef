"""What goes to the terminal: results to stdout, all else to stderr, color only where it can be seen."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlscale.cli.app import SCHEMA_VERSION
from mlscale.cli.options import Output

if TYPE_CHECKING:
    from mlscale.engine.apply import Event

HEARTBEAT_S = 10.0
_MARKS = {"done": "✓", "failed": "✗", "retry": "↻", "started": "…", "progress": "…"}
_COLORS = {"+": "32", "-": "31", "~": "33", "✓": "32", "✗": "31"}


def colored(text: str, *, no_color: bool) -> str:
    """Return `text` with its leading symbols in color, where stdout shows it."""
    if not _has_color(sys.stdout, no_color=no_color):
        return text
    return "\n".join(_colored_line(line) for line in text.splitlines())


def _colored_line(line: str) -> str:
    color = _COLORS.get(line.strip()[:1])
    return f"\x1b[{color}m{line}\x1b[0m" if color else line


def _has_color(stream: Any, *, no_color: bool) -> bool:
    if no_color or os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return bool(stream.isatty()) and os.environ.get("TERM") != "dumb"


def show(text: str, facts: Mapping[str, Any], output: Output, *, no_color: bool = False) -> None:
    """Print a result: `text` for people, `facts` with their schema's version for programs."""
    if output is Output.TEXT:
        sys.stdout.write(colored(text, no_color=no_color).rstrip("\n") + "\n")
    else:
        whole = {"schema_version": SCHEMA_VERSION, **facts}
        indent = 2 if output is Output.JSON else None
        sys.stdout.write(json.dumps(whole, indent=indent, default=str, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Print a line that is no result."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class Progress:
    """Tells a run's events as they come: a live line on a terminal, a line an event elsewhere."""

    def __init__(self, output: Output, *, no_color: bool) -> None:
        self._output = output
        self._live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._color = _has_color(sys.stderr, no_color=no_color)
        self._lock = threading.Lock()
        self._said = threading.Event()
        self._last = ""
        self._shown = ""

    def __call__(self, event: Event) -> None:
        """Tell one event."""
        with self._lock:
            if self._output is Output.JSONL:
                facts = {name: getattr(event, name) for name in ("at", "kind", "key", "subject", "text")}
                show("", {"event": facts}, Output.JSONL)
                return
            line = _line(event)
            if line:
                self._write(line, passing=event.kind in ("started", "progress"))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Say something at least every ten seconds while a run goes on, so that nobody takes it for dead."""
        ended = threading.Event()
        thread = threading.Thread(target=self._beat, args=(ended,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with self._lock:
                self._clear()

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(HEARTBEAT_S):
            with self._lock:
                if not self._said.is_set() and self._last:
                    self._write(f"{self._last.removesuffix(' (goes on)')} (goes on)", passing=True)
                self._said.clear()

    def _write(self, line: str, *, passing: bool) -> None:
        self._said.set()
        self._last = line
        self._clear()
        if passing and self._live:
            self._shown = line[:79]
            sys.stderr.write(self._shown)
        else:
            sys.stderr.write((_colored_line(line) if self._color else line) + "\n")
        sys.stderr.flush()

    def _clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            self._shown = ""


def _line(event: Event) -> str:
    if event.kind == "run_finished" or (event.kind == "run_started" and not event.text):
        return ""
    if event.kind == "run_started":
        return f"  {event.text}"
    step = event.key.rpartition("/")[2]
    detail = f": {event.text.splitlines()[0]}" if event.text else ""
    return f"  {_MARKS[event.kind]} {step:<9} {event.subject}{detail}"
