"""Rows → columns that line up."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from textwrap import wrap

WIDTH = 80
"""Columns of the terminal that texts are laid out for: what every terminal has."""

_GAP = 2
_NARROWEST = 24


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, width: int = WIDTH) -> str:
    """Return rows under their heads, each column as wide as its widest cell, without trailing blanks.

    The last column goes on below itself where a row would be wider than `width`; its words are never cut.
    """
    whole = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(row[column]) for row in whole) for column in range(len(head) - 1)]
    room = max(_NARROWEST, width - sum(each + _GAP for each in widths))
    lines = []
    for row in whole:
        for number, part in enumerate(folded(row[-1], room)):
            cells = [*row[:-1], part] if number == 0 else [*[""] * len(widths), part]
            lines.append(_line(cells, widths))
    return "\n".join(lines)


def folded(text: str, room: int) -> list[str]:
    """Return `text` in lines of at most `room` characters, one at least; a longer word is left whole."""
    lines = (wrap(line, room, break_long_words=False, break_on_hyphens=False) for line in text.splitlines())
    return [part for line in lines for part in line] or [""]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width or 0) for cell, width in zip_longest(cells, widths))
    return (" " * _GAP).join(padded).rstrip()
