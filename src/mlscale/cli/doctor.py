"""`mlscale doctor`: look at what is needed, and whether it is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mlscale.cli import options
from mlscale.cli.console import Output
from mlscale.errors import MlscaleError, SpecInvalid

if TYPE_CHECKING:
    from mlscale.deployment import Deployment
    from mlscale.engine.session import Session
    from mlscale.providers.contract import Check

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(epilog=options.examples("mlscale doctor", "mlscale doctor models/churn/spec.yaml"))
def doctor(
    context: typer.Context,
    place: options.FolderArgument = Path(),
    env: options.EnvOption = None,
    workspace: options.WorkspaceOption = None,
    *,
    output: options.OutputOption = Output.TEXT,
    no_color: options.NoColorOption = False,
) -> int:
    """Look at what is needed to deploy here, and whether it is there; exit code 1 when something is missing."""
    from mlscale.cli.console import show
    from mlscale.report import json

    checks = list(_checks(context, place, env, workspace))
    lines = [line for each in checks for line in _lines(each)]
    show("\n".join(lines), {"checks": json.data(checks)}, output, no_color=no_color)
    return 0 if all(each.ok for each in checks) else 1


def _lines(check: Check) -> Iterator[str]:
    yield f"{'✓' if check.ok else '✗'} {check.name:<12} {check.found}"
    if not check.ok:
        yield f"{'':<14} to mend it: {check.hint}"


def _checks(context: typer.Context, place: Path, env: str | None, workspace: str | None) -> Iterator[Check]:
    """Yield what was found: first about the spec, then the workspace, then what the provider needs."""
    from mlscale.engine.session import LOCAL_ROOT
    from mlscale.providers.contract import Check
    from mlscale.providers.registry import Site

    folder = options.folder_of(place)
    try:
        session = options.session_of(context, place, None, env=env, workspace=workspace)
    except MlscaleError as error:
        hint = f"mlscale validate {place}" if isinstance(error, SpecInvalid) else error.hint
        yield Check("spec", ok=False, found=f"{error.what}: {error.why.splitlines()[0]}", hint=hint)
        yield from options.world_of(context).provider(Site("local", folder / LOCAL_ROOT)).doctor()
        return
    asked, of_the_spec = _spec_checks(session)
    yield from of_the_spec
    try:
        session.store.check()
    except MlscaleError as error:
        yield Check("workspace", ok=False, found=str(error), hint=error.hint)
    else:
        yield Check("workspace", ok=True, found=f"{options.shown(session.workspace)} can be written")
    yield from (each for each in session.provider.doctor(asked) if each.name != "workspace")


def _spec_checks(session: Session) -> tuple[Deployment | None, Sequence[Check]]:
    """Return what the spec asks for, None where its files can't be read, and whether it can be had here."""
    from mlscale.engine.plans import asked_for, refusals_of
    from mlscale.providers.contract import Check

    try:
        asked, refusals = asked_for(session, None), refusals_of(session)
    except MlscaleError as error:
        return None, [Check("spec", ok=False, found=f"{error.what}: {error.why}", hint=error.hint)]
    if not refusals:
        return asked, [Check("spec", ok=True, found=f"{session.spec_path}, {session.identity}")]
    return asked, [
        Check("spec", ok=False, found=f"{each.path}: {each.why} {each.link}".rstrip(), hint=f"change {each.path}")
        for each in refusals
    ]
