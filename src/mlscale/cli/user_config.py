"""The user's own settings: a file whose values hold where neither flag, environment nor spec says otherwise."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlscale.errors import Problem, UsageError

if TYPE_CHECKING:
    from mlscale.spec.nodes import Tree

OUTPUTS = ("text", "json", "jsonl")


@dataclass(frozen=True, slots=True)
class Setting:
    """A value from the file, and its place there as `file:line`."""

    value: str | bool
    place: str


def config_file() -> Path:
    """Return where the file is, or would be (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "mlscale" / "config.yaml"


def settings() -> Mapping[str, Setting]:
    """Return the settings in the user's file by name, none if there is no file.

    Raises:
        UsageError: the file can't be read, or holds something else than settings; all problems are named.
    """
    path = config_file()
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UsageError("the user's settings can't be read", why=f"{path}: {error.strerror}") from error
    if not text.strip():
        return {}
    tree = _tree(text, path)
    found = _found(tree, path) if not tree.problems else {}
    if tree.problems:
        raise UsageError(
            "the user's settings are not valid",
            why="\n".join(str(each) for each in tree.problems),
            hint=f"edit {path}; mlscale config show lists the settings",
        )
    return found


def _tree(text: bytes, path: Path) -> Tree:
    from mlscale.spec.nodes import Tree, value_of

    try:
        return value_of(text.decode(), str(path))
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        return Tree(problems=[Problem(str(path), line, 1, "the file is not UTF-8", hint="save it as UTF-8")])


def _found(tree: Tree, path: Path) -> Mapping[str, Setting]:
    if tree.value is None:
        return {}
    if not isinstance(tree.value, dict):
        tree.problems.append(Problem(str(path), 1, 1, "this is not a mapping", hint="write it like output: json"))
        return {}
    found = {}
    for name, value in tree.value.items():
        check = CHECKS.get(name)
        if check is None:
            close = get_close_matches(name, CHECKS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(CHECKS)}"
            tree.problems.append(Problem(str(path), *tree.keys[name,], f"there is no setting {name}", hint=hint))
            continue
        try:
            found[name] = Setting(check(value), f"{path}:{tree.keys[name,][0]}")
        except ValueError as error:
            tree.problems.append(Problem(str(path), *tree.values[name,], f"{name} is not valid", str(error)))
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("it must be a text")
    return value


def _folder(value: Any) -> str:
    return os.path.expanduser(_text(value))  # noqa: PTH111 - Path would make s3:// to s3:/


def _output(value: Any) -> str:
    if value not in OUTPUTS:
        raise ValueError(f"it must be one of {', '.join(OUTPUTS)}")
    return str(value)


def _duration(value: Any) -> str:
    from mlscale.quantities import duration_of

    duration_of(str(value))
    return str(value)


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("it must be true or false")  # noqa: TRY004 - a user's value, not a caller's
    return value


CHECKS: Mapping[str, Callable[[Any], str | bool]] = {
    "spec": _folder,
    "env": _text,
    "workspace": _folder,
    "output": _output,
    "timeout": _duration,
    "lease-timeout": _duration,
    "yes": _switch,
    "no-input": _switch,
    "no-color": _switch,
}
"""What can be set, and what reads its value; a flag of the same name goes before."""
