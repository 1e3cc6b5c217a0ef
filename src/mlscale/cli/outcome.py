"""What becomes of a command: its error in words, its exit code, and a process that is ready for both. Without Typer."""

from __future__ import annotations

import codecs
import errno
import gc
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from mlscale.errors import Interrupted, MlscaleError, SpecInvalid, Terminated

SCHEMA_VERSION = 1
GARBAGE_AFTER = 100_000

_ASCII = {"✓": "ok", "✗": "x", "→": "->", "×": "x", "…": "...", "↻": "~", "–": "-"}


class StoppedAtOnce(BaseException):
    """A signal after which nothing is waited for: the second of a run, or the first where there is nothing to say.

    Not a KeyboardInterrupt, which Typer makes a plain exit of.
    """

    def __init__(self, number: int, *, in_a_run: bool) -> None:
        super().__init__(number)
        self.number = number
        self.in_a_run = in_a_run


def set_up_process() -> None:
    """Let SIGTERM end what runs as Ctrl-C does; no character that the terminal lacks and no closed stream ends it."""

    def terminate(number: int, frame: FrameType | None) -> None:
        del frame
        raise StoppedAtOnce(number, in_a_run=False)

    signal.signal(signal.SIGTERM, terminate)
    # Start-up makes many objects and no rubbish; and looking through every installed package for plugins of pydantic,
    # which nobody has for mlscale, takes as long as checking a spec.
    gc.set_threshold(GARBAGE_AFTER)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    codecs.register_error("mlscale", _in_ascii)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by whoever started us (Python's sys documentation, sys.__stdout__)
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - as long as the process
        elif mode == "w":
            getattr(sys, name).reconfigure(errors="mlscale")


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for the characters that an encoding lacks, and where to go on (codecs.register_error)."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_ASCII.get(each) or each.encode("ascii", "backslashreplace").decode() for each in text), error.end


def outcome_of(command: Callable[[], object], words: Sequence[str]) -> int:
    """Run a command, tell its error, and return its exit code: what it returns if that is a number, else 0."""
    try:
        code = command()
        sys.stdout.flush()
    except MlscaleError as error:
        return told(facts_of(error), words)
    except KeyboardInterrupt:
        return Interrupted.exit_code
    except StoppedAtOnce as stop:
        kind = Terminated if stop.number == signal.SIGTERM else Interrupted
        if stop.in_a_run:
            told(facts_of(kind("stopped at once", hint="the same command again goes on")), words)
        # A step's thread may be in a call that does not end, and Python would wait for it.
        sys.stdout.flush()
        os._exit(kind.exit_code)
    except BrokenPipeError:
        _drop_output()
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _drop_output()
        return told(facts_of(MlscaleError("the disk is full", why=error.filename or "the output is cut off")), words)
    return code if isinstance(code, int) else 0


def _drop_output() -> None:
    """Let what is still to be written go nowhere, or Python tries once more at its end and complains."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def facts_of(error: MlscaleError) -> dict[str, Any]:
    """Return an error as plain values: what, why, hint, cause, exit code, and a spec's problems one by one."""
    facts: dict[str, Any] = {
        "what": error.what,
        "why": error.why,
        "hint": error.hint,
        "cause": error.cause,
        "exit_code": error.exit_code,
    }
    if isinstance(error, SpecInvalid):
        fields = ("file", "line", "column", "what", "why", "hint")
        facts["problems"] = [{name: getattr(each, name) for name in fields} for each in error.problems]
    return facts


def told(facts: Mapping[str, Any], words: Sequence[str]) -> int:
    """Print an error on stderr, as JSON when that was asked for, and return its exit code."""
    if _wants_json(words):
        sys.stderr.write(json.dumps({"schema_version": SCHEMA_VERSION, "error": facts}) + "\n")
    else:
        lines = [f"error: {facts['what']}"]
        lines += [f"  {line}" for line in str(facts.get("why") or "").splitlines()]
        if facts.get("hint"):
            lines += ["", f"hint: {facts['hint']}"]
        sys.stderr.write("\n".join(lines) + "\n")
    sys.stderr.flush()
    return int(facts["exit_code"])


_OUTPUT_WORD = re.compile(r"--output(?:=(?P<long>.*))?|-[fy]*o(?P<short>.*)")


def _wants_json(words: Sequence[str]) -> bool:
    """Return whether errors are to be JSON; read from the words, because they may be what is wrong."""
    given = list(words[: words.index("--")] if "--" in words else words)
    for number in range(len(given) - 1, -1, -1):
        if found := _OUTPUT_WORD.fullmatch(given[number]):
            value = found["long"] or found["short"] or "".join(given[number + 1 : number + 2])
            return value.startswith("json")
    return (os.environ.get("MLSCALE_OUTPUT") or _users_output()).startswith("json")


def _users_output() -> str:
    from mlscale.cli.user_config import settings

    try:
        setting = settings().get("output")
    except MlscaleError:
        return ""
    return str(setting.value) if setting else ""
