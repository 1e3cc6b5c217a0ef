"""The command line: which commands there are, and what becomes of an error. Imports Typer alone."""

from __future__ import annotations

import codecs
import gc
import json
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from typer import Abort
from typer._click import Command, Context
from typer._click.exceptions import ClickException, NoArgsIsHelpError
from typer._click.exceptions import UsageError as ClickUsageError
from typer._click.shell_completion import CompletionItem
from typer.core import TyperGroup

from mlscale.errors import Interrupted, MlscaleError, SpecInvalid, Terminated

COMMANDS: dict[str, dict[str, str]] = {
    "Begin": {
        "init": "Copy a template: a spec, a model and a request.",
        "validate": "Check a spec, and list all of its problems.",
        "schema": "Print the JSON Schema of specs.",
        "doctor": "Look at what is needed, and whether it is there.",
        "config": "Show settings, and where each comes from.",
    },
    "Change": {
        "plan": "Show what a deploy would do.",
        "deploy": "Make what is there what the spec asks for.",
        "rollback": "Go back to an earlier revision.",
        "gc": "Delete the files of old revisions.",
        "destroy": "Take the deployment down.",
    },
    "Look": {
        "status": "Show the address, the revisions, their traffic and replicas.",
        "list": "List the deployments of this workspace.",
        "invoke": "Send a request, and print the prediction.",
        "logs": "Print what the replicas wrote.",
        "events": "Print what a run did, from the journal.",
    },
}
SCHEMA_VERSION = 1
GARBAGE_AFTER = 100_000
HELP = ("-h", "--help")
WORDS = "mlscale.words"
"""Where a context's `meta` has the words of the command line, for whoever must say how to go on."""

_ASCII = {"✓": "ok", "✗": "x", "→": "->", "×": "x", "…": "...", "↻": "~", "–": "-"}


class StoppedAtOnce(BaseException):
    """A signal after which nothing is waited for: the second of a run, or the first where there is nothing to say.

    Not a KeyboardInterrupt, which Typer makes a plain exit of.
    """

    def __init__(self, number: int, *, in_a_run: bool) -> None:
        super().__init__(number)
        self.number = number
        self.in_a_run = in_a_run


class LazyGroup(TyperGroup):
    """A group that imports a command's module only when that command runs."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Context | None = None, **extra: Any
    ) -> Context:
        """Return the context, which remembers the words."""
        words = tuple(args)
        context = super().make_context(info_name, args, parent, **extra)
        context.meta[WORDS] = words
        return context

    def list_commands(self, ctx: Context) -> list[str]:
        """Return the commands in the order of the help page."""
        del ctx
        return [name for group in COMMANDS.values() for name in group]

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """Return the command, from its module."""
        if not any(cmd_name in group for group in COMMANDS.values()):
            return None
        module = import_module(f"mlscale.cli.{cmd_name}")
        command: Command = typer.main.get_command(module.app)
        command.name = cmd_name
        del ctx
        return command

    def resolve_command(self, ctx: Context, args: list[str]) -> Any:
        """Return the command that the words name, or say which one is near."""
        known = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in known:
            from difflib import get_close_matches

            close = get_close_matches(args[0], known, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            ctx.fail(f"There is no command {args[0]}.{hint}")
        if not set(HELP).intersection(args):
            ctx.default_map = _users_defaults(may_fail=not ctx.resilient_parsing)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands that begin with `incomplete`; none of them is imported."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        known = {name: text for group in COMMANDS.values() for name, text in group.items()}
        return [CompletionItem(name, help=text) for name, text in known.items() if name.startswith(incomplete)]

    def format_commands(self, ctx: Context, formatter: Any) -> None:
        """Write the commands in groups by what the user is doing; no command is imported."""
        del ctx
        for title, group in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl(list(group.items()))


def _users_defaults(*, may_fail: bool) -> dict[str, Any]:
    """Return the user's settings as what each command's options fall back to."""
    from mlscale.cli.user_config import settings

    try:
        values = {name.replace("-", "_"): each.value for name, each in settings().items()}
    except MlscaleError:
        if may_fail:
            raise
        return {}
    return {name: {**values, "show": values} for group in COMMANDS.values() for name in group} if values else {}


app = typer.Typer(
    cls=LazyGroup,
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": list(HELP)},
)


def _version(wanted: bool) -> None:  # noqa: FBT001 - Typer's callback gets the flag's value
    if wanted:
        from mlscale import __version__

        typer.echo(f"mlscale {__version__}")
        raise typer.Exit


@app.callback()
def mlscale(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """One YAML spec becomes a model in production, and stays true over its life."""


def main(argv: Sequence[str] | None = None, world: Any = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the words after `mlscale`; None takes the process's own, and then signals and streams are ours to set.
        world: the outside (`engine.session.World`); None is the real one.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if argv is None:
        _set_up_process()
    try:
        code = app(args=words, prog_name="mlscale", standalone_mode=False, obj=world)
        sys.stdout.flush()
    except NoArgsIsHelpError as error:
        sys.stderr.write(error.format_message() + "\n")
        return error.exit_code
    except ClickUsageError as error:
        return _told_usage(error, words)
    except ClickException as error:
        return _told({"what": error.format_message(), "cause": "usage", "exit_code": 2}, words)
    except MlscaleError as error:
        return _told(facts_of(error), words)
    except Abort:
        return _told(facts_of(Interrupted("stopped", why="nothing more can be read")), words)
    except StoppedAtOnce as stop:
        kind = Terminated if stop.number == signal.SIGTERM else Interrupted
        if stop.in_a_run:
            _told(facts_of(kind("stopped at once", hint="the same command again goes on")), words)
        # A step's thread may be in a call that does not end, and Python would wait for it.
        sys.stdout.flush()
        os._exit(kind.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0


def _set_up_process() -> None:
    """Let SIGTERM end what runs as Ctrl-C does; no character that the terminal lacks and no closed stream ends it."""

    def terminate(number: int, frame: FrameType | None) -> None:
        del frame
        raise StoppedAtOnce(number, in_a_run=False)

    signal.signal(signal.SIGTERM, terminate)
    # Start-up makes many objects and no rubbish; and looking through every installed package for plugins of pydantic,
    # which nobody has for mlscale, takes as long as checking a spec.
    gc.set_threshold(GARBAGE_AFTER)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    codecs.register_error("mlscale", _in_ascii)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by whoever started us (Python's sys documentation, sys.__stdout__)
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - as long as the process
        elif mode == "w":
            getattr(sys, name).reconfigure(errors="mlscale")


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for the characters that an encoding lacks, and where to go on (codecs.register_error)."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_ASCII.get(each) or each.encode("ascii", "backslashreplace").decode() for each in text), error.end


def facts_of(error: MlscaleError) -> dict[str, Any]:
    """Return an error as plain values: what, why, hint, cause, exit code, and a spec's problems one by one."""
    facts: dict[str, Any] = {
        "what": error.what,
        "why": error.why,
        "hint": error.hint,
        "cause": error.cause,
        "exit_code": error.exit_code,
    }
    if isinstance(error, SpecInvalid):
        fields = ("file", "line", "column", "what", "why", "hint")
        facts["problems"] = [{name: getattr(each, name) for name in fields} for each in error.problems]
    return facts


def _told_usage(error: ClickUsageError, words: Sequence[str]) -> int:
    command = error.ctx.command_path if error.ctx else "mlscale"
    facts = {"what": error.format_message(), "why": "", "hint": f"{command} --help"}
    return _told({**facts, "cause": "usage", "exit_code": 2}, words)


def _told(facts: Mapping[str, Any], words: Sequence[str]) -> int:
    """Print an error on stderr, as JSON when that was asked for, and return its exit code."""
    if _wants_json(words):
        sys.stderr.write(json.dumps({"schema_version": SCHEMA_VERSION, "error": facts}) + "\n")
    else:
        lines = [f"error: {facts['what']}"]
        lines += [f"  {line}" for line in str(facts.get("why") or "").splitlines()]
        if facts.get("hint"):
            lines += ["", f"hint: {facts['hint']}"]
        sys.stderr.write("\n".join(lines) + "\n")
    sys.stderr.flush()
    return int(facts["exit_code"])


_OUTPUT_WORD = re.compile(r"--output(?:=(?P<long>.*))?|-[fy]*o(?P<short>.*)")


def _wants_json(words: Sequence[str]) -> bool:
    """Return whether errors are to be JSON; read from the words, because they may be what is wrong."""
    given = list(words[: words.index("--")] if "--" in words else words)
    for number in range(len(given) - 1, -1, -1):
        if found := _OUTPUT_WORD.fullmatch(given[number]):
            value = found["long"] or found["short"] or "".join(given[number + 1 : number + 2])
            return value.startswith("json")
    if value := os.environ.get("MLSCALE_OUTPUT"):
        return value.startswith("json")
    users = _users_defaults(may_fail=False).get("plan", {})
    return str(users.get("output", "")).startswith("json")
