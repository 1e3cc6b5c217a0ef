"""`mlscale validate`: check a spec, and list all of its problems."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from mlscale.cli import options
from mlscale.cli.options import Output
from mlscale.errors import UsageError

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    epilog=options.examples(
        "mlscale validate", "mlscale validate spec.yaml --env prod", "mlscale validate - --output json < spec.yaml"
    )
)
def validate(
    context: typer.Context,
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

    path = options.the_spec(context, spec_word, spec)
    variables = options.variables_of(context)
    checked = parse(_text(path), str(path), variables=variables, env=env, overrides=overrides or ())
    facts = {"valid": True, "spec": str(path), "name": checked.name, "provider": checked.provider}
    show(f"{path}: valid, {checked.name} on {checked.provider}", facts, output)


def _text(path: Path) -> bytes:
    if path == options.STDIN:
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            "the spec can't be read", why=f"{path}: {error.strerror}", hint="mlscale init sklearn makes one"
        ) from error
