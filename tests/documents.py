"""The project's documents, and the examples in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_SAVED = re.compile(r"Save as `(?P<name>[^`]+)`:\s*\Z")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. `saved_as` is the file name of a line `Save as NAME:` right before it, empty without one."""

    page: Path
    line: int
    language: str
    text: str
    saved_as: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a `console` block and what it prints on stdout."""

    words: str
    output: str


def pages() -> list[Path]:
    """Return the README and every page of the docs, in a fixed order."""
    return [README, *sorted(DOCS.rglob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    text = page.read_text()
    for found in _FENCE.finditer(text):
        before = text[: found.start()]
        saved = _SAVED.search(before)
        yield Block(page, before.count("\n") + 1, found["language"], found["text"], saved["name"] if saved else "")


def commands(block: Block) -> Iterator[Command]:
    """Yield the commands of a `console` block: each line after `$ `, with the lines below it."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        words, _, output = part.partition("\n")
        yield Command(words, output)
