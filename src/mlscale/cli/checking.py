"""Which file is the spec, what it says, and whether that is valid. Without Typer, for `cli.start`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlscale.cli.console import Output, show
from mlscale.errors import UsageError

DEFAULT_SPECS = ("spec.yaml", "mlscale.yaml")
STDIN = Path("-")


def spec_path(argument: Path | None, option: Path | None) -> Path:
    """Return the spec that was meant: the word, the option, the environment, then the files that are usual.

    Raises:
        UsageError: none of them is there.
    """
    chosen = argument or option or Path()
    if not os.path.isdir(chosen):  # noqa: PTH112 - Path.is_dir raises where a name is too long or a folder is closed
        return chosen
    found = usual_spec(chosen)
    if found is None:
        why = f"looked for {' and '.join(str(chosen / name) for name in DEFAULT_SPECS)}"
        raise UsageError("there is no spec here", why=why, hint="mlscale init sklearn")
    return found


def usual_spec(folder: Path) -> Path | None:
    """Return the spec in a folder that is found without being named, None if there is none."""
    return next((each for name in DEFAULT_SPECS if (each := folder / name).is_file()), None)


def check(
    path: Path, *, variables: Mapping[str, str], env: str | None, overrides: Sequence[str] = (), output: Output
) -> None:
    """Print that the spec is valid.

    Raises:
        SpecInvalid: it is not; with all of its problems.
        UsageError: it can't be read.
    """
    from mlscale.spec.parse import parse

    checked = parse(text_of(path), str(path), variables=variables, env=env, overrides=overrides)
    facts = {"valid": True, "spec": str(path), "name": checked.name, "provider": checked.provider}
    show(f"{path}: valid, {checked.name} on {checked.provider}", facts, output)


def text_of(path: Path) -> bytes:
    """Return the bytes of a spec, of stdin for `-`.

    Raises:
        UsageError: it can't be read.
    """
    if path == STDIN:
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            "the spec can't be read", why=f"{path}: {error.strerror}", hint="mlscale init sklearn makes one"
        ) from error
