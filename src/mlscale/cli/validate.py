"""`mlscale validate`: check a spec, and list all of its problems."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

from mlscale.cli import options
from mlscale.cli.options import Output
from mlscale.errors import UsageError

app = typer.Typer(rich_markup_mode=None)


@app.command()
def validate(
    spec_word: options.SpecArgument = None,
    spec: options.SpecOption = None,
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    *,
    output: options.OutputOption = Output.TEXT,
) -> None:
    """Check a spec and list all of its problems, each with its place; nothing is read but the spec."""
    from mlscale.cli.console import show
    from mlscale.spec.parse import parse

    path = options.spec_path(spec_word, spec)
    checked = parse(_text(path), str(path), variables=os.environ, env=env, overrides=overrides or ())
    show(f"{path}: valid, {checked.name} on {checked.provider}", {"valid": True, "name": checked.name}, output)


def _text(path: Path) -> bytes:
    if str(path) == "-":
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            "the spec can't be read", why=f"{path}: {error.strerror}", hint="mlscale init sklearn makes one"
        ) from error
