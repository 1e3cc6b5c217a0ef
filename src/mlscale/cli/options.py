"""The options that commands share, each written once, and the session that they ask for."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from mlscale.errors import UsageError

if TYPE_CHECKING:
    from mlscale.engine.session import Session, World

DEFAULT_SPECS = ("spec.yaml", "mlscale.yaml")


class Output(StrEnum):
    """What results look like."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"


SpecArgument: TypeAlias = Annotated[
    Path | None, typer.Argument(metavar="[SPEC]", help="The spec; - reads it from stdin.", show_default=False)
]
SpecOption: TypeAlias = Annotated[
    Path | None, typer.Option("--spec", envvar="MLSCALE_SPEC", help="The spec, if not given as a word.")
]
EnvOption: TypeAlias = Annotated[
    str | None, typer.Option("--env", envvar="MLSCALE_ENV", help="The overlay under environments to lay over.")
]
SetOption: TypeAlias = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Another value for one field; repeatable.")
]
WorkspaceOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--workspace", envvar="MLSCALE_WORKSPACE", help="Folder, s3:// or gs:// of lease and journal."),
]
OutputOption: TypeAlias = Annotated[
    Output, typer.Option("--output", "-o", envvar="MLSCALE_OUTPUT", help="What results look like.")
]
YesOption: TypeAlias = Annotated[
    bool, typer.Option("--yes", "-y", envvar="MLSCALE_YES", help="Consent to what destroys or interrupts.")
]
NoInputOption: TypeAlias = Annotated[
    bool, typer.Option("--no-input", envvar="MLSCALE_NO_INPUT", help="Never ask; CI in the environment means the same.")
]
NoColorOption: TypeAlias = Annotated[bool, typer.Option("--no-color", help="No color; NO_COLOR means the same.")]
TimeoutOption: TypeAlias = Annotated[
    str | None, typer.Option("--timeout", envvar="MLSCALE_TIMEOUT", metavar="DURATION", help="Give up after this long.")
]
LeaseTimeoutOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--lease-timeout", envvar="MLSCALE_LEASE_TIMEOUT", metavar="DURATION", help="Wait this long for another run."
    ),
]
WaitOption: TypeAlias = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait until the provider is done, or only start it.")
]


def spec_path(argument: Path | None, option: Path | None) -> Path:
    """Return the spec that was meant: the word, the option, the environment, then the files that are usual.

    Raises:
        UsageError: none of them is there.
    """
    chosen = argument or option
    if chosen is not None:
        return chosen
    found = next((Path(name) for name in DEFAULT_SPECS if Path(name).is_file()), None)
    if found is None:
        raise UsageError(
            "there is no spec here", why=f"looked for {' and '.join(DEFAULT_SPECS)}", hint="mlscale init sklearn"
        )
    return found


def session_of(
    context: typer.Context,
    argument: Path | None,
    option: Path | None,
    *,
    env: str | None = None,
    overrides: list[str] | None = None,
    workspace: str | None = None,
) -> Session:
    """Return the session for what the user gave."""
    from mlscale.engine.session import open_session

    path = spec_path(argument, option)
    text = None
    if str(path) == "-":
        text, path = sys.stdin.buffer.read(), Path("stdin.yaml")
    return open_session(world_of(context), path, text=text, env=env, overrides=overrides or (), workspace=workspace)


def world_of(context: typer.Context) -> World:
    """Return the outside that `main` was given, or the real one."""
    from mlscale.engine.session import system_world

    world: Any = context.find_root().obj
    return world if world is not None else system_world()


def seconds_of(text: str | None, option: str) -> float | None:
    """Return the seconds that a duration on the command line says.

    Raises:
        UsageError: it is not a duration.
    """
    from mlscale.quantities import duration_of

    if text is None:
        return None
    try:
        return duration_of(text).total_seconds()
    except ValueError as error:
        raise UsageError(f"{option} is not valid", why=str(error)) from error


def may_ask(*, no_input: bool) -> bool:
    """Return whether somebody is there who can be asked."""
    return not no_input and not os.environ.get("CI") and sys.stdin.isatty() and sys.stderr.isatty()
