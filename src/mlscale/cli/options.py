"""The options that commands share, each written once, and the session that they ask for."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from shlex import join
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
from typer._click.core import ParameterSource

from mlscale.cli import completion
from mlscale.cli.app import WORDS
from mlscale.cli.checking import STDIN, spec_path
from mlscale.cli.console import Output
from mlscale.errors import NotDeployed, Problem, SpecInvalid, TimedOut, UsageError

if TYPE_CHECKING:
    from mlscale.deployment import Deployment
    from mlscale.engine.session import Session, World

SpecArgument: TypeAlias = Annotated[
    Path | None,
    typer.Argument(
        metavar="[SPEC]",
        help="The spec, or its folder; - reads it from stdin.",
        show_default=False,
        readable=False,  # whoever reads it says why it can't be
        autocompletion=completion.specs,
    ),
]
SpecsArgument: TypeAlias = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[SPEC]...",
        help="Specs, each one deployment; - reads one from stdin.",
        show_default=False,
        readable=False,
        autocompletion=completion.specs,
    ),
]
FolderArgument: TypeAlias = Annotated[
    Path,
    typer.Argument(
        metavar="[SPEC]", help="The spec, or its folder.", show_default=False, autocompletion=completion.specs
    ),
]
SpecOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--spec",
        envvar="MLSCALE_SPEC",
        metavar="FILE",
        help="The spec, if not given as a word.",
        readable=False,
        autocompletion=completion.specs,
    ),
]
EnvOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--env",
        envvar="MLSCALE_ENV",
        metavar="NAME",
        help="The overlay under environments to lay over.",
        autocompletion=completion.environments,
    ),
]
SetOption: TypeAlias = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Another value for one field; repeatable.")
]


class Runtime(StrEnum):
    """What a replica is on this machine."""

    PROCESS = "process"
    DOCKER = "docker"


RuntimeOption: TypeAlias = Annotated[
    Runtime | None,
    typer.Option("--runtime", help="What a replica is on this machine; the same as --set local.runtime=."),
]
WorkspaceOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--workspace",
        envvar="MLSCALE_WORKSPACE",
        metavar="PLACE",
        help="Folder, s3:// or gs:// of lease and journal.",
    ),
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
NoColorOption: TypeAlias = Annotated[
    bool, typer.Option("--no-color", envvar="MLSCALE_NO_COLOR", help="No color; NO_COLOR means the same.")
]
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


def examples(*lines: str) -> str:
    """Return the end of a help page: commands to copy, each as it is typed."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


def the_spec(context: typer.Context, argument: Path | None, option: Path | None) -> Path:
    """Return the spec that was meant.

    Raises:
        UsageError: there is none, or two are given.
    """
    if argument is not None and is_typed(context, "spec"):
        raise UsageError("two specs are given", why=f"{argument} and --spec {option}", hint="keep one of them")
    return spec_path(argument, option)


def session_of(
    context: typer.Context,
    argument: Path | None,
    option: Path | None,
    *,
    env: str | None = None,
    overrides: list[str] | None = None,
    runtime: Runtime | None = None,
    workspace: str | None = None,
) -> Session:
    """Return the session for what the user gave."""
    from mlscale.engine.session import open_session

    path = the_spec(context, argument, option)
    # The user's own default comes after what the spec says, a flag or a variable before it.
    is_default = is_users_default(context, "workspace")
    return open_session(
        world_of(context),
        path,
        text=sys.stdin.buffer.read() if path == STDIN else None,
        env=env,
        overrides=(*(overrides or ()), *((f"local.runtime={runtime.value}",) if runtime else ())),
        workspace=None if is_default else workspace,
        default_workspace=workspace if is_default else None,
    )


def sessions_of(
    context: typer.Context,
    arguments: Sequence[Path] | None,
    option: Path | None,
    *,
    env: str | None = None,
    overrides: list[str] | None = None,
    runtime: Runtime | None = None,
    workspace: str | None = None,
) -> Sequence[Session]:
    """Return a session a spec; the problems of all specs come together.

    Raises:
        UsageError: two specs are the same deployment.
    """
    sessions: list[Session] = []
    problems: list[Problem] = []
    for word in arguments or (None,):
        try:
            sessions.append(
                session_of(context, word, option, env=env, overrides=overrides, runtime=runtime, workspace=workspace)
            )
        except SpecInvalid as error:
            problems += error.problems
    if problems:
        raise SpecInvalid(tuple(problems))
    first: dict[object, Session] = {}
    for each in sessions:
        other = first.setdefault(each.identity, each)
        if other is not each:
            raise UsageError(
                "two specs are the same deployment",
                why=f"{other.spec_path} and {each.spec_path} are both {each.identity}",
                hint="give one of them another name",
            )
    return sessions


def is_typed(context: typer.Context, name: str) -> bool:
    """Return whether a parameter stands on the command line itself."""
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def is_users_default(context: typer.Context, name: str) -> bool:
    """Return whether a parameter has its value from the user's settings."""
    return context.get_parameter_source(name) is ParameterSource.DEFAULT_MAP


def folder_of(place: Path) -> Path:
    """Return the folder that a spec or folder on the command line means.

    Raises:
        UsageError: there is neither.
    """
    if place.is_file():
        return place.parent
    if place.is_dir():
        return place
    raise UsageError("there is no such spec or folder", why=str(place), hint="mlscale init sklearn makes one")


def deployed(session: Session) -> Deployment:
    """Return what is there.

    Raises:
        NotDeployed: nothing is.
    """
    from mlscale.engine.session import status

    seen = status(session)
    if seen is None:
        raise NotDeployed("nothing is deployed", why=str(session.identity), hint=next_command(session, "deploy"))
    return seen


def next_command(session: Session, verb: str, *words: str, plan_file: Path | None = None) -> str:
    """Return a command about the same deployment, to be copied as it is."""
    if plan_file is not None:
        return join(["mlscale", "deploy", "--plan", str(plan_file)])
    env = ["--env", session.env] if session.env else []
    sets = [word for each in session.overrides for word in ("--set", each)]
    return join(["mlscale", *verb.split(), str(session.spec_path), *env, *sets, *words])


def shown(place: str | Path) -> str:
    """Return a path as one reads it best: from here, or from home, where it is below."""
    text = str(place)
    with suppress(OSError, RuntimeError):  # a folder that was deleted, a user without a home
        for folder, short in ((Path.cwd(), ""), (Path.home(), "~/")):
            if text.startswith(f"{folder}/"):
                return short + text.removeprefix(f"{folder}/")
    return text


def command_of(context: typer.Context) -> str:
    """Return the command line as it was typed, so that it can be typed again."""
    return join(["mlscale", *context.meta[WORDS]])


def world_of(context: typer.Context) -> World:
    """Return the outside that `main` was given, or the real one."""
    from mlscale.engine.session import system_world

    world: Any = context.find_root().obj
    return world if world is not None else system_world()


def variables_of(context: typer.Context) -> Mapping[str, str]:
    """Return the environment that fills `${VAR}` in a spec."""
    world: Any = context.find_root().obj
    return os.environ if world is None else world.variables


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


@contextmanager
def ended_after(timeout: str | None, doing: str, hint: str) -> Iterator[None]:
    """End what runs inside after the user's time, whatever it waits for.

    Raises:
        TimedOut: it was not done by then.
    """
    limit = seconds_of(timeout, "--timeout")
    if limit is None:
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise TimedOut("the time is over", why=f"{timeout} ended while {doing}", hint=hint)

    before = signal.signal(signal.SIGALRM, stop)
    # A timer of 0 s would never ring.
    signal.setitimer(signal.ITIMER_REAL, max(limit, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def may_ask(*, no_input: bool) -> bool:
    """Return whether somebody is there who can be asked."""
    return not no_input and may_be_asked() and sys.stdin.isatty() and sys.stderr.isatty()


def may_be_asked() -> bool:
    """Return whether this is no CI, where nobody is."""
    return os.environ.get("CI", "").lower() in ("", "0", "false")
