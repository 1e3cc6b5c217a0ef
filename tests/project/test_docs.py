"""The documents against the code: nothing in them leads nowhere, is out of date, or is refused."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer._click import Context
from typer.core import TyperGroup

import mlscale
from mlscale.cli.app import COMMANDS, app
from mlscale.spec.model import Spec
from mlscale.spec.parse import parse
from tests.conftest import Cli
from tests.documents import DOCS, README, ROOT, Block, blocks, commands, pages

EXAMPLES = [block for page in pages() for block in blocks(page)]
WRITTEN = [block for block in EXAMPLES if block.page.parent.name != "reference"]
SPECS = [block for block in EXAMPLES if block.language == "yaml" and not block.saved_as.startswith(".")]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (?P<title>.+)$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)

WHOLE: dict[str, Any] = {
    "version": 1,
    "name": "example",
    "provider": "local",
    "model": {"source": "./model", "framework": "onnx"},
}
"""A spec that is valid; an example that shows a section alone is laid over it."""


def test_the_reference_is_what_the_code_gives() -> None:
    """No generated page is out of date; `python docs/reference.py` writes them anew."""
    done = subprocess.run(
        [sys.executable, "docs/reference.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link names a file that is there, and each anchor a heading in it."""
    assert [target for target in _links(page) if not _leads_somewhere(page, target)] == []


def _links(page: Path) -> Iterator[str]:
    for found in LINK.finditer(FENCED.sub("", page.read_text())):
        if "://" not in found["target"]:
            yield found["target"]


def _leads_somewhere(page: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    file = (page.parent / name).resolve() if name else page
    if not file.is_file():
        return False
    return not anchor or anchor in {_slug(each["title"]) for each in HEADING.finditer(file.read_text())}


def _slug(title: str) -> str:
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip())


@pytest.mark.parametrize("block", SPECS, ids=str)
def test_specs_in_examples_are_valid(block: Block) -> None:
    """A whole spec, or a section laid over one, is taken as it is printed."""
    shown = yaml.safe_load(block.text)
    assert set(shown) <= {*Spec.model_fields, "environments"}
    whole = block.text if "version" in shown else yaml.safe_dump(_over(WHOLE, shown))

    for env in (None, *shown.get("environments", ())):
        assert isinstance(parse(whole, str(block), variables={}, env=env), Spec)


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key)
        merged[key] = _over(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


@pytest.mark.parametrize(
    "block", [each for each in EXAMPLES if each.language in ("console", "sh", "yaml", "text")], ids=str
)
def test_commands_in_examples_are_taken(block: Block) -> None:
    """Each `mlscale` command that a page or a help text shows names a command and options that there are."""
    for words in _mlscale_words(block):
        assert _taken(words) == ""


def _mlscale_words(block: Block) -> Iterator[list[str]]:
    """Yield the words after `mlscale` of each command that a block shows."""
    if block.language == "console":
        lines = [each.words for each in commands(block)]
    else:
        lines = re.findall(r"^(?: {4}|  *- run: )?((?:\.venv/bin/)?mlscale .*)$", block.text, re.MULTILINE)
    for line in lines:
        for part in re.split(r"&&|[|;<>]", line):
            words = shlex.split(part, comments=True)
            if words and Path(words[0]).name == "mlscale":
                yield words[1:]


def _taken(words: list[str]) -> str:
    """Return why the command line does not take `words`, an empty text if it does."""
    if words == ["--help"]:
        return ""
    group = typer.main.get_command(app)
    context = Context(group, info_name="mlscale")
    command = group
    while isinstance(command, TyperGroup) and words:
        name, words = words[0], words[1:]
        found = command.get_command(context, name)
        if found is None and (default := getattr(command, "default", "")):
            found, words = command.get_command(context, default), [name, *words]
        if found is None:
            return f"there is no command {name}"
        command = found
    if words == ["--help"]:
        return ""
    try:
        command.make_context("example", list(words), parent=context)
    except typer._click.exceptions.UsageError as error:
        return error.format_message()
    return ""


def test_a_wrong_command_in_an_example_is_found() -> None:
    """The check above refuses an unknown command and an unknown option."""
    assert _taken(["deplyo"]) == "there is no command deplyo"
    assert "--nope" in _taken(["deploy", "--nope"])


@pytest.mark.parametrize("block", [each for each in EXAMPLES if each.language == "python"], ids=str)
def test_python_in_examples_compiles(block: Block) -> None:
    """Each Python example is Python."""
    ast.parse(block.text)


def test_every_command_is_used_in_a_page_that_people_wrote() -> None:
    """A command is not only in the reference: README, tutorial or a guide shows it."""
    used = {words[0] for block in WRITTEN for words in _mlscale_words(block) if words}

    assert {name for group in COMMANDS.values() for name in group} - used == set()


def test_the_changelog_has_this_version() -> None:
    """What this version brings is told to users."""
    assert re.search(rf"^## {re.escape(mlscale.__version__)}\b", (DOCS / "changelog.md").read_text(), re.MULTILINE)


def test_decisions_are_numbered_and_listed() -> None:
    """Each decision has a number of its own, and the index names it."""
    names = sorted(each.name for each in (DOCS / "decisions").glob("[0-9]*.md"))

    assert len({name[:4] for name in names}) == len(names)
    assert [name for name in names if f"({name})" not in (DOCS / "decisions" / "index.md").read_text()] == []


def test_every_page_is_in_the_navigation() -> None:
    """A page that nothing leads to is no page."""
    names = set(re.findall(r"[\w/-]+\.md", (ROOT / "properdocs.yml").read_text()))

    assert names == {str(each.relative_to(DOCS)) for each in DOCS.rglob("*.md")}


def test_the_first_screen_of_the_readme_shows_what_it_is() -> None:
    """One sentence, a spec, the command and what it prints come before the first heading."""
    first_screen = README.read_text().partition("\n## ")[0]

    languages = [each.language for each in blocks(README) if each.text in first_screen]
    assert languages == ["yaml", "console", "text"]
    assert len(first_screen.splitlines()) <= 60


@pytest.mark.parametrize("words", [["--help"], ["deploy", "--help"], ["config", "show", "--help"]], ids=" ".join)
def test_the_reference_shows_help_as_a_terminal_does(words: list[str], cli: Cli) -> None:
    """What stands in the page is what the command prints on 80 columns."""
    printed = cli.run(*words).stdout

    lines = "\n".join(line.rstrip() for line in printed.splitlines())
    assert f"```text\n$ mlscale {' '.join(words)}\n{lines}\n```" in (DOCS / "reference" / "cli.md").read_text()
