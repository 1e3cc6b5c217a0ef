"""The command line: which commands there are, and what Typer says of words that it can't read. Imports Typer alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from keyword import iskeyword
from typing import Annotated, Any

import typer
from typer import Abort
from typer._click import Command, Context
from typer._click.exceptions import ClickException, NoArgsIsHelpError
from typer._click.exceptions import UsageError as ClickUsageError
from typer._click.shell_completion import CompletionItem
from typer.core import TyperGroup

from mlscale.cli.outcome import outcome_of, told
from mlscale.errors import Interrupted, MlscaleError

COMMANDS: dict[str, dict[str, str]] = {
    "Begin": {
        "init": "Copy a template: a spec, a model and a request.",
        "validate": "Check a spec, and list all of its problems.",
        "schema": "Print the JSON Schema of specs.",
        "doctor": "Look at what is needed, and whether it is there.",
        "iam": "Say what whoever deploys must be allowed to do.",
        "config": "Show settings, and where each comes from.",
    },
    "Change": {
        "plan": "Show what a deploy would do.",
        "deploy": "Make what is there what the spec asks for.",
        "rollout": "Try a new revision on a share of the traffic, and judge it.",
        "rollback": "Go back to an earlier revision.",
        "import": "Take over what somebody else made.",
        "image": "Build the image that serves a model, push it, inspect it.",
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
INNER = {
    "config": ("show",),
    "iam": ("policy",),
    "image": ("build", "push", "inspect"),
    "rollout": ("run", "status", "report", "promote", "pause", "resume", "abort", "retry", "replay"),
}
"""The commands that have commands of their own, and these."""
HELP = ("-h", "--help")
WORDS = "mlscale.words"
"""Where a context's `meta` has the words of the command line, for whoever must say how to go on."""


def module_of(command: str) -> str:
    """Return the name of a command's module: after a keyword it has an underscore, as PEP 8 wants it."""
    return f"mlscale.cli.{command}{'_' if iskeyword(command) else ''}"


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
        module = import_module(module_of(cmd_name))
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
    inner = {name: values for names in INNER.values() for name in names}
    return {name: {**values, **inner} for group in COMMANDS.values() for name in group} if values else {}


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


def main(words: Sequence[str], world: Any = None) -> int:
    """Run one command and return its exit code.

    Args:
        words: what stands after `mlscale`.
        world: the outside (`engine.session.World`); None is the real one.
    """
    return outcome_of(lambda: _typers(list(words), world), words)


def _typers(words: list[str], world: Any) -> object:
    """Return what the command returns; Typer's own errors are told here, the others by `outcome_of`."""
    try:
        return app(args=words, prog_name="mlscale", standalone_mode=False, obj=world)
    except NoArgsIsHelpError as error:
        sys.stderr.write(error.format_message() + "\n")
        return error.exit_code
    except ClickUsageError as error:
        command = error.ctx.command_path if error.ctx else "mlscale"
        facts = {"what": error.format_message(), "why": "", "hint": f"{command} --help"}
        return told({**facts, "cause": "usage", "exit_code": 2}, words)
    except ClickException as error:
        return told({"what": error.format_message(), "cause": "usage", "exit_code": 2}, words)
    except Abort as error:
        raise Interrupted("stopped", why="nothing more can be read") from error
