"""The words beside the code: a docstring for what others use, help for what users type."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import typer
from typer._click import Command, Context
from typer.core import TyperArgument, TyperGroup, TyperOption

from mlscale.cli.app import COMMANDS, app, module_of
from tests.documents import ROOT

SOURCE = ROOT / "src" / "mlscale"
NAMES = [name for group in COMMANDS.values() for name in group]


def test_everything_public_has_a_docstring() -> None:
    """Each module, and each public class, function and method of it, says what it is in its first line."""
    assert [place for file in sorted(SOURCE.rglob("*.py")) for place in _undocumented(file)] == []


def _undocumented(file: Path) -> Iterator[str]:
    tree = ast.parse(file.read_text())
    name = str(file.relative_to(SOURCE))
    if tree.body and not ast.get_docstring(tree):
        yield name
    yield from (f"{name}: {each}" for each in _undocumented_in(tree, ""))


def _undocumented_in(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[str]:
    for each in node.body:
        if isinstance(each, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not each.name.startswith("_"):
            words = ast.get_docstring(each)
            if not words or not words.partition("\n")[0].rstrip().endswith((".", "?", ":")):
                yield f"{prefix}{each.name}"
            if isinstance(each, ast.ClassDef):
                yield from _undocumented_in(each, f"{each.name}.")


def test_every_command_is_listed_and_every_listed_command_is_there() -> None:
    """The table of the help page and the modules of commands are the same."""
    modules = {file.stem for file in (SOURCE / "cli").glob("*.py") if "app = typer.Typer(" in file.read_text()}

    assert {f"mlscale.cli.{each}" for each in modules - {"app"}} == {module_of(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_every_option_has_help(name: str) -> None:
    """A command, its arguments and its options each have a line that says what they do."""
    command = typer.main.get_command(import_module(module_of(name)).app)

    assert [place for each in _commands(command, name) for place in _without_help(each)] == []


def _commands(command: Command, name: str) -> Iterator[Command]:
    command.name = name
    yield command
    if isinstance(command, TyperGroup):
        context = Context(command, info_name=name)
        for each in command.list_commands(context):
            found = command.get_command(context, each)
            assert found is not None
            yield from _commands(found, f"{name} {each}")


def _without_help(command: Command) -> Iterator[str]:
    if not command.help:
        yield str(command.name)
    for each in command.params:
        if isinstance(each, TyperArgument | TyperOption) and not each.help:
            yield f"{command.name} {each.name}"


def test_the_table_of_commands_is_short() -> None:
    """The list fits 80 columns, so that no line of it is folded."""
    assert [
        name for group in COMMANDS.values() for name, words in group.items() if len(f"  {name:<9}  {words}") > 80
    ] == []


def test_the_help_page_lists_every_command() -> None:
    """`mlscale --help` names all of them."""
    page = typer.main.get_command(app).get_help(Context(typer.main.get_command(app), info_name="mlscale"))

    assert [name for name in NAMES if f"  {name} " not in page] == []
