"""The command line: which commands there are, and what becomes of an error. Imports Typer alone."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Annotated, Any

import typer
from typer import Abort
from typer._click import Command, Context
from typer._click.exceptions import ClickException
from typer._click.exceptions import UsageError as ClickUsageError
from typer.core import TyperGroup

from mlscale.errors import Interrupted, MlscaleError, SpecInvalid

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
INTERRUPTED = 130


class LazyGroup(TyperGroup):
    """A group that imports a command's module only when that command runs."""

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
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            close = get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            ctx.fail(f"There is no command {args[0]}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Context, formatter: Any) -> None:
        """Write the commands in groups by what the user is doing; no command is imported."""
        del ctx
        for title, group in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl(list(group.items()))


app = typer.Typer(cls=LazyGroup, rich_markup_mode=None, no_args_is_help=True, pretty_exceptions_enable=False)


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
        argv: the words after `mlscale`; None takes the process's own.
        world: the outside (`engine.session.World`); None is the real one.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = app(args=words, prog_name="mlscale", standalone_mode=False, obj=world)
    except ClickUsageError as error:
        return _told_usage(error, words)
    except ClickException as error:
        return _told({"what": error.format_message(), "cause": "usage", "exit_code": 2}, words)
    except MlscaleError as error:
        return _told(facts_of(error), words)
    except (KeyboardInterrupt, Abort):
        return _told(facts_of(Interrupted("stopped at once", hint="the same command again goes on")), words)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0


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
    facts = {"what": error.format_message(), "hint": f"{command} --help", "cause": "usage", "exit_code": 2}
    return _told(facts, words)


def _told(facts: dict[str, Any], words: Sequence[str]) -> int:
    """Print an error on stderr, as JSON when that was asked for, and return its exit code."""
    if _wants_json(words):
        sys.stderr.write(json.dumps({"schema_version": SCHEMA_VERSION, "error": facts}) + "\n")
    else:
        lines = [f"error: {facts['what']}"]
        lines += [f"  {line}" for line in str(facts.get("why") or "").splitlines()]
        if facts.get("hint"):
            lines += ["", f"hint: {facts['hint']}"]
        sys.stderr.write("\n".join(lines) + "\n")
    return int(facts["exit_code"])


def _wants_json(words: Sequence[str]) -> bool:
    for number, word in enumerate(words):
        if word in ("--output", "-o") and words[number + 1 : number + 2]:
            return words[number + 1].startswith("json")
        if word.startswith("--output="):
            return word.removeprefix("--output=").startswith("json")
    return os.environ.get("MLSCALE_OUTPUT", "").startswith("json")
