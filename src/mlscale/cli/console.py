"""What goes to the terminal: results to stdout, all else to stderr, color only where it can be seen."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from mlscale.cli.outcome import SCHEMA_VERSION

if TYPE_CHECKING:
    from mlscale.engine.run import Event

HEARTBEAT_S = 10.0
WIDTH = 80
"""Columns of a terminal that does not say."""

_MARKS = {"done": "✓", "failed": "✗", "retry": "↻", "started": "…", "progress": "…", "waiting": "…"}
_COLORS = {"+": "32", "-": "31", "~": "33", "✓": "32", "✗": "31"}
_GOES_ON = " (goes on)"
_SECONDS = re.compile(r" \(\d+ s\)$")
"""How a step ends that says how long it has been at it: news on a terminal's one line, a flood in a log."""


class Output(StrEnum):
    """What results look like."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"


def colored(text: str, stream: Any, *, no_color: bool) -> str:
    """Return `text` with its leading symbols in color, where `stream` shows it."""
    if not has_color(stream, no_color=no_color):
        return text
    return "\n".join(_colored_line(line) for line in text.splitlines())


def _colored_line(line: str) -> str:
    color = _COLORS.get(line.strip()[:1])
    return f"\x1b[{color}m{line}\x1b[0m" if color else line


def has_color(stream: Any, *, no_color: bool) -> bool:
    """Return whether `stream` gets color: never against the user's word, else on a terminal (no-color.org)."""
    if no_color or os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") != "0":
        return True
    return bool(stream.isatty()) and os.environ.get("TERM") != "dumb"


def show(text: str, facts: Mapping[str, Any], output: Output, *, no_color: bool = False) -> None:
    """Print a result: `text` for people, `facts` with their schema's version for programs."""
    if output is Output.TEXT:
        sys.stdout.write(colored(text, sys.stdout, no_color=no_color).rstrip("\n") + "\n")
    else:
        whole = {"schema_version": SCHEMA_VERSION, **facts}
        indent = 2 if output is Output.JSON else None
        # Elsewhere a character that the stream lacks would be written as what is near to it, and the fact be another.
        is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        sys.stdout.write(json.dumps(whole, indent=indent, default=str, ensure_ascii=not is_utf8) + "\n")
    sys.stdout.flush()


def note(text: str, *, no_color: bool = True) -> None:
    """Print a line that is no result."""
    sys.stderr.write(colored(text, sys.stderr, no_color=no_color) + "\n")
    sys.stderr.flush()


class Progress:
    """Tells a run's events as they come: a live line on a terminal, a line an event elsewhere."""

    def __init__(self, output: Output, *, name: str, no_color: bool) -> None:
        """Tell the events of the deployment `name`."""
        self._output = output
        self._name = name
        self._live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._color = has_color(sys.stderr, no_color=no_color)
        self._lock = threading.Lock()
        self._said = threading.Event()
        self._last = ""
        self._shown = ""
        self._under_way: dict[str, Event] = {}

    def __call__(self, event: Event) -> None:
        """Tell one event."""
        with self._lock:
            is_news = self._live or not self._is_told(event)
            if event.kind in ("started", "progress", "retry") and event.key:
                self._under_way[event.key] = event
            elif event.kind in ("done", "failed"):
                self._under_way.pop(event.key, None)
            line = _line(event)
            if self._output is Output.JSONL:
                facts = {name: getattr(event, name) for name in ("kind", "key", "subject", "text")}
                show("", {"event": {"at": event.at.isoformat(), "deployment": self._name, **facts}}, Output.JSONL)
                self._said.set()
                self._last = line or self._last
            elif line and is_news:
                self._write(line, passing=event.kind in ("started", "progress"))

    def _is_told(self, event: Event) -> bool:
        """Return whether the last word about a step differs from this one in nothing but the seconds, if at all."""
        before = self._under_way.get(event.key)
        return (
            event.kind == "progress"
            and before is not None
            and _SECONDS.sub("", before.text) == _SECONDS.sub("", event.text)
        )

    def under_way(self) -> str:
        """Return what is being done, as a list in words; empty when it is nothing.

        Takes no lock: a signal's handler asks, and may have interrupted whoever holds it.
        """
        return ", ".join(event.subject for event in self._under_way.copy().values())

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
            self.beat()

    def beat(self) -> None:
        """Say what goes on, if nothing was said since the last beat: the oldest step, or else the last thing told."""
        with self._lock:
            oldest = next(iter(self._under_way.values()), None)
            line = _line(oldest) if oldest else self._last.removesuffix(_GOES_ON)
            if not self._said.is_set() and line:
                self._write(f"{line}{_GOES_ON}", passing=True)
            self._said.clear()

    def _write(self, line: str, *, passing: bool) -> None:
        self._said.set()
        self._last = line
        self._clear()
        if passing and self._live:
            self._shown = line[: _columns() - 1]
            sys.stderr.write(self._shown)
        else:
            sys.stderr.write((_colored_line(line) if self._color else line) + "\n")
        sys.stderr.flush()

    def _clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            self._shown = ""


def _columns() -> int:
    try:
        return os.get_terminal_size(2).columns or WIDTH
    except OSError:
        return WIDTH


def _line(event: Event) -> str:
    if event.kind == "run_finished" or (event.kind == "run_started" and not event.text):
        return ""
    if event.kind == "run_started":
        return f"  {event.text}"
    detail = event.text.splitlines()[0] if event.text else ""
    if event.kind == "waiting":
        return f"  {_MARKS[event.kind]} waiting for {detail}"
    step = event.key.rpartition("/")[2]
    return f"  {_MARKS[event.kind]} {step:<9} {event.subject}{': ' if detail else ''}{detail}"
