"""`mlscale validate`: check a spec, and list all of its problems."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from mlscale.cli import options
from mlscale.cli.checking import check
from mlscale.cli.console import Output

if TYPE_CHECKING:
    from pathlib import Path

    from mlscale.engine.elsewhere import Reading

app = typer.Typer(rich_markup_mode=None, add_completion=False)

INVALID = 2


@app.command(
    epilog=options.examples(
        "mlscale validate",
        "mlscale validate spec.yaml --env prod",
        "mlscale validate - --output json < spec.yaml",
        "mlscale validate --all-providers",
    )
)
def validate(
    context: typer.Context,
    spec_word: options.SpecArgument = None,
    spec: options.SpecOption = None,
    env: options.EnvOption = None,
    overrides: options.SetOption = None,
    *,
    all_providers: Annotated[
        bool, typer.Option("--all-providers", help="List what it is on each provider: valid, ignored, otherwise.")
    ] = False,
    output: options.OutputOption = Output.TEXT,
) -> int:
    """Check a spec and list all of its problems, each with its place; nothing is read but the spec.

    With --all-providers, an overlay that names another provider is laid over for that one. The exit code is about the
    spec's own.
    """
    path = options.the_spec(context, spec_word, spec)
    if not all_providers:
        check(path, variables=options.variables_of(context), env=env, overrides=overrides or (), output=output)
        return 0
    return _show_all(context, path, env, overrides or [], output)


def _show_all(context: typer.Context, path: Path, env: str | None, overrides: list[str], output: Output) -> int:
    from mlscale.cli.checking import text_of
    from mlscale.cli.console import show
    from mlscale.engine.elsewhere import readings
    from mlscale.report import json

    found = readings(options.world_of(context), path, text_of(path), env=env, overrides=overrides)
    rows = [{**json.data(each), "valid": each.valid} for each in found]
    show("\n\n".join("\n".join(_lines(each)) for each in found), {"spec": str(path), "providers": rows}, output)
    return 0 if found[0].valid else INVALID


def _lines(reading: Reading) -> Iterator[str]:
    """Yield what is to be said of a reading, a line each thing."""
    from mlscale.plan.diff import value_text

    words = [
        "valid" if reading.valid else "not valid",
        *([f"with --env {reading.env}"] if reading.env else []),
        *([f"with --set provider={reading.provider}"] if reading.swapped else []),
    ]
    yield f"{reading.provider}: {', '.join(words)}"
    yield from (f"  problem: {each}" for each in reading.problems)
    yield from (f"  refused: {each.path}: {each.why} {each.link}".rstrip() for each in reading.refusals)
    yield from (f"  not known: {each}" for each in (reading.unknown,) if each)
    yield from (f"  ignored: {each}" for each in reading.ignored)
    for each in reading.changes:
        yield f"  otherwise: {each.path}: {value_text(each.before)} → {value_text(each.after)}"
