"""Where `mlscale` starts: a plain `validate` is carried out without Typer, all else by `cli.app`.

Loading Typer takes longer than checking a spec does, and editors and hooks check one at every save.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlscale.cli.outcome import outcome_of, set_up_process
from mlscale.errors import MlscaleError

OPTIONS: Mapping[str, str] = {"--env": "env", "--output": "output", "-o": "output"}


def main() -> int:
    """Run the command of this process and return its exit code."""
    set_up_process()
    try:
        return run(sys.argv[1:])
    finally:
        # Python looks for rubbish before it ends, through all that was imported; the process gives everything back.
        gc.freeze()


def run(words: Sequence[str]) -> int:
    """Run the command that the words after `mlscale` say, and return its exit code."""
    asked = plain_check(words)
    if asked is None:
        from mlscale.cli.app import main as through_typer

        return through_typer(words)
    return outcome_of(lambda: _check(asked), words)


def plain_check(words: Sequence[str]) -> Mapping[str, str] | None:
    """Return what a `validate` asks for, by the names spec, env and output; None if that is Typer's to find out.

    It is unless each is given at most once, in the commonest way, and neither a variable nor the user's own settings
    have a say.
    """
    if list(words[:1]) != ["validate"] or any("MLSCALE_" in name for name in os.environ):
        return None
    from mlscale.cli.user_config import OUTPUTS, settings

    try:
        if settings():
            return None
    except MlscaleError:  # Typer's way says it
        return None
    asked: dict[str, str] = {}
    rest = iter(words[1:])
    for word in rest:
        name = OPTIONS.get(word, "spec")
        value = word if name == "spec" else next(rest, "")
        is_plain = bool(value) and (not value.startswith("-") or (name == "spec" and value == "-"))
        if name in asked or not is_plain:
            return None
        asked[name] = value
    return asked if asked.get("output", "text") in OUTPUTS else None


def _check(asked: Mapping[str, str]) -> None:
    from mlscale.cli.checking import check, spec_path
    from mlscale.cli.console import Output

    path = spec_path(Path(asked["spec"]) if "spec" in asked else None, None)
    check(path, variables=os.environ, env=asked.get("env"), output=Output(asked.get("output", "text")))
