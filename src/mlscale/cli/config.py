"""`mlscale config`: show settings, and where each comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer._click.core import ParameterSource

from mlscale.cli import options
from mlscale.cli.console import Output
from mlscale.errors import UsageError

if TYPE_CHECKING:
    from mlscale.cli.user_config import Setting
    from mlscale.engine.session import Session

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@app.callback()
def config() -> None:
    """Show settings, and where each comes from."""


@app.command(epilog=options.examples("mlscale config show --origin", "mlscale config show spec.yaml --env prod"))
def show(
    context: typer.Context,
    spec_word: options.SpecArgument = None,
    spec: options.SpecOption = None,
    env: options.EnvOption = None,
    workspace: options.WorkspaceOption = None,
    *,
    yes: options.YesOption = False,
    no_input: options.NoInputOption = False,
    timeout: options.TimeoutOption = None,
    lease_timeout: options.LeaseTimeoutOption = "0s",
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False,
    output: options.OutputOption = Output.TEXT,
    no_color: options.NoColorOption = False,
) -> None:
    """Show the settings that hold for commands run here.

    A flag goes before the environment (MLSCALE_...), then come the spec, your own file and the default. Your file is
    mlscale/config.yaml under $XDG_CONFIG_HOME (or ~/.config), with the names shown here as keys.
    """
    from mlscale.cli.console import show as print_result
    from mlscale.cli.user_config import settings
    from mlscale.report.tables import table

    session = _session(context, spec_word, spec, env, workspace)
    values = {
        "spec": str(session.spec_path) if session else "none here",
        "env": env or "none",
        "workspace": session.workspace if session else workspace or ".mlscale beside the spec",
        "output": output.value,
        "timeout": timeout or "none",
        "lease-timeout": lease_timeout,
        "yes": _word(yes),
        "no-input": _word(no_input or not options.may_be_asked()),
        "no-color": _word(no_color or bool(os.environ.get("NO_COLOR"))),
    }
    origins = _origins(context, settings(), session)
    facts = [{"name": name, "value": value, "origin": origins[name]} for name, value in values.items()]
    head = ("SETTING", "VALUE", "ORIGIN") if origin else ("SETTING", "VALUE")
    rows = [[options.shown(word) for word in each.values()][: len(head)] for each in facts]
    print_result(table(head, rows), {"settings": facts}, output)


def _session(
    context: typer.Context, argument: Path | None, option: Path | None, env: str | None, workspace: str | None
) -> Session | None:
    """Return the session that other commands would open; None where there is no spec."""
    try:
        options.the_spec(context, argument, option)
    except UsageError:
        if argument or option:
            raise
        return None
    return options.session_of(context, argument, option, env=env, workspace=workspace)


def _origins(context: typer.Context, stored: Mapping[str, Setting], session: Session | None) -> dict[str, str]:
    """Return where each option of this very call has its value from, by the setting's name."""
    found = {}
    for each in context.command.params:
        name = str(each.name)
        setting = name.replace("_", "-")
        match context.get_parameter_source(name):
            case ParameterSource.COMMANDLINE:
                found[setting] = f"--{setting}"
            case ParameterSource.ENVIRONMENT:
                found[setting] = str(each.envvar)
            case ParameterSource.DEFAULT_MAP:
                found[setting] = stored[setting].place
            case _:
                found[setting] = "default"
    if options.is_typed(context, "spec_word"):
        found["spec"] = "the word on the command line"
    if session and session.spec.workspace and found["workspace"] in ("default", _place(stored, "workspace")):
        found["workspace"] = str(session.spec_path)
    if found["no-color"] == "default" and os.environ.get("NO_COLOR"):
        found["no-color"] = "NO_COLOR"
    if found["no-input"] == "default" and not options.may_be_asked():
        found["no-input"] = "CI"
    return found


def _place(stored: Mapping[str, Setting], name: str) -> str:
    return stored[name].place if name in stored else "default"


def _word(switch: bool) -> str:  # noqa: FBT001 - the value that is worded
    return "yes" if switch else "no"
