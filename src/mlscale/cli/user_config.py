"""The user's own settings: a file whose values hold where neither flag, environment nor spec says otherwise."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlscale.errors import Problem, UsageError

OUTPUTS = ("text", "json", "jsonl")
SWITCH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True)
class Setting:
    """A value from the file, and its place there as `file:line`."""

    value: str | bool
    place: str


def config_file() -> Path:
    """Return where the file is, or would be (XDG Base Directory Specification)."""
    # Not Path.home(), which raises for a user whom nobody knows, as containers have them.
    folder = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111
    return Path(folder) / "mlscale" / "config.yaml"


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
    problems: list[Problem] = []
    found = dict(_found(text, path, problems))
    if problems:
        raise UsageError(
            "the user's settings are not valid",
            why="\n".join(str(each) for each in problems),
            hint=f"edit {path}; mlscale config show lists the settings",
        )
    return found


def _found(text: bytes, path: Path, problems: list[Problem]) -> Iterator[tuple[str, Setting]]:
    """Yield the settings; add what is wrong to `problems`.

    Nodes are read, not values: YAML 1.1 takes the key `yes` for true.
    """
    import yaml

    try:
        root = yaml.compose(text.decode(), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        problems.append(Problem(str(path), line, 1, "the file is not UTF-8", hint="save it as UTF-8"))
        return
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problems.append(Problem(str(path), line, column, "this is not YAML", getattr(error, "problem", None) or ""))
        return
    if root is None:
        return
    if not isinstance(root, yaml.MappingNode):
        problems.append(Problem(str(path), 1, 1, "this is not a mapping", hint="write it like output: json"))
        return
    first: dict[str, int] = {}
    for key, value in root.value:
        name = str(key.value)
        line, column = _place(key)
        if name not in CHECKS:
            from difflib import get_close_matches

            close = get_close_matches(name, CHECKS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(CHECKS)}"
            problems.append(Problem(str(path), line, column, f"there is no setting {name}", hint=hint))
        elif name in first:
            why = f"first in line {first[name]}"
            problems.append(Problem(str(path), line, column, f"{name} is written twice", why, "keep one of them"))
        else:
            first[name] = line
            try:
                yield name, Setting(CHECKS[name](_scalar(value)), f"{path}:{line}")
            except ValueError as error:
                problems.append(Problem(str(path), *_place(value), f"{name} is not valid", str(error)))


def _place(node: Any) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _scalar(node: Any) -> str:
    if not isinstance(node.value, str) or not node.value:
        raise ValueError("it must be a text")
    return node.value


def _folder(text: str) -> str:
    return os.path.expanduser(text)  # noqa: PTH111 - Path would make s3:// to s3:/


def _output(text: str) -> str:
    if text not in OUTPUTS:
        raise ValueError(f"it must be one of {', '.join(OUTPUTS)}")
    return text


def _duration(text: str) -> str:
    from mlscale.quantities import duration_of

    duration_of(text)
    return text


def _switch(text: str) -> bool:
    if text.lower() not in SWITCH:
        raise ValueError("it must be true or false")
    return SWITCH[text.lower()]


CHECKS: Mapping[str, Callable[[Any], str | bool]] = {
    "spec": _folder,
    "env": str,
    "workspace": _folder,
    "output": _output,
    "timeout": _duration,
    "lease-timeout": _duration,
    "yes": _switch,
    "no-input": _switch,
    "no-color": _switch,
}
"""What can be set, and what reads its value; a flag of the same name goes before."""
