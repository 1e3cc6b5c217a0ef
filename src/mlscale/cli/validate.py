"""`mlscale validate`: check a spec, and list all of its problems."""

from __future__ import annotations

import typer

from mlscale.cli import options
from mlscale.cli.checking import check
from mlscale.cli.console import Output

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
    path = options.the_spec(context, spec_word, spec)
    check(path, variables=options.variables_of(context), env=env, overrides=overrides or (), output=output)
