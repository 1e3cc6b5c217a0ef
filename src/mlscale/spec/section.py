"""What every section of the spec is, and how what does not fit the rest is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

Path: TypeAlias = tuple[str | int, ...]
Misfit: TypeAlias = tuple[Path, str]
"""What does not fit the rest: its path, and why. Where nothing stands at that path, it is missing."""
PLACED = "placed"
"""The type of a pydantic error whose context has `problems`: misfits, their paths below the error's own."""


class Section(BaseModel):
    """A mapping of the spec: frozen, and refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, defer_build=True)


def refuse(problems: Iterator[Misfit]) -> None:
    """Return if there are no problems.

    Raises:
        PydanticCustomError: there are, each with its path below the section that is checked.
    """
    found = tuple(problems)
    if found:
        raise PydanticCustomError(PLACED, "it does not fit the rest", {"problems": found})
