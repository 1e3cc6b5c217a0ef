"""The user's text → a checked Spec, or all of its problems at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from mlscale.errors import Problem, SpecInvalid
from mlscale.spec.model import PROVIDERS_TO_COME, Spec
from mlscale.spec.nodes import Path, Tree, tree_of, typed

_VARIABLE = re.compile(r"\$(?:\$(?P<escaped>\{)|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\})")

_YAML_WORDS = {"yes": True, "no": False, "on": True, "off": False}


def parse(
    text: str | bytes,
    file: str,
    *,
    variables: Mapping[str, str],
    env: str | None = None,
    overrides: Sequence[str] = (),
) -> Spec:
    """Return the spec that `text` says.

    Args:
        text: YAML, UTF-8 if bytes.
        file: what to call it in problems.
        variables: what `${VAR}` is filled from.
        env: the overlay under `environments` to lay over the rest; the name gets `-env`.
        overrides: `path=value` each, the value read as YAML, laid over everything.

    Raises:
        SpecInvalid: with every problem that was found, in the order of the file.
    """
    tree = tree_of(text, file)
    if not isinstance(tree.value, dict):
        raise SpecInvalid(tuple(tree.problems))
    draft = _Draft(file, tree)
    draft.fill(variables)
    draft.lay_over(env)
    for override in overrides:
        draft.override(override)
    return draft.checked()


class _Draft:
    """A document on its way to a spec: values, where each came from, and problems so far."""

    def __init__(self, file: str, tree: Tree) -> None:
        self._file = file
        self._tree = tree
        self._problems = tree.problems
        self._value: Any = tree.value
        self._moved: dict[Path, Path] = {}
        self._overridden: dict[Path, str] = {}

    def fill(self, variables: Mapping[str, str]) -> None:
        """Fill `${VAR}` in every text."""
        self._value = self._filled(self._value, (), variables)

    def _filled(self, value: Any, path: Path, variables: Mapping[str, str]) -> Any:
        if isinstance(value, dict):
            return {key: self._filled(each, (*path, key), variables) for key, each in value.items()}
        if isinstance(value, list):
            return [self._filled(each, (*path, number), variables) for number, each in enumerate(value)]
        if not isinstance(value, str) or "$" not in value:
            return value

        def replacement(found: re.Match[str]) -> str:
            if found["escaped"]:
                return "${"
            text = variables.get(found["name"], found["default"])
            if text is None:
                name = found["name"]
                self._problem(path, f"the variable {name} is not set", "", f"set it, or write ${{{name}:-default}}")
            return text or ""

        whole = _VARIABLE.fullmatch(value)
        text = _VARIABLE.sub(replacement, value)
        return typed(text) if whole and not whole["escaped"] and path in self._tree.plain else text

    def lay_over(self, env: str | None) -> None:
        """Take `environments` out, and lay the one that was asked for over the rest."""
        overlays = self._value.pop("environments", None)
        if overlays is not None and not _is_mapping_of_mappings(overlays):
            self._problem(("environments",), "environments is not a mapping of overlays", "", "write prod: {...}")
            return
        if env is None:
            return
        if env not in (overlays or {}):
            known = ", ".join(sorted(overlays or {})) or "none"
            self._problem(("environments",), f"the environment {env} is not in the spec", f"there are: {known}")
            return
        self._merge(self._value, overlays[env], (), ("environments", env))
        if isinstance(self._value.get("name"), str) and "name" not in overlays[env]:
            self._value["name"] += f"-{env}"

    def _merge(self, below: dict[str, Any], above: dict[str, Any], path: Path, origin: Path) -> None:
        for key, value in above.items():
            here, there = (*path, key), (*origin, key)
            if isinstance(value, dict) and isinstance(below.get(key), dict):
                self._merge(below[key], value, here, there)
            else:
                below[key] = value
                self._moved[here] = there

    def override(self, override: str) -> None:
        """Put the value of one `path=value` in its place."""
        path, found, text = override.partition("=")
        keys = path.split(".")
        origin = f"--set {path}"
        if not found or not all(keys):
            self._problems.append(Problem(f"--set {override}", 0, 0, "this is not path=value", "", "--set a.b=value"))
            return
        place = self._value
        for key in keys[:-1]:
            place = place.setdefault(key, {}) if isinstance(place, dict) else None
            if not isinstance(place, dict):
                self._problems.append(Problem(origin, 0, 0, "there is no such path", f"{key} is not a mapping"))
                return
        tree = tree_of(f"value: {text}", origin)
        if tree.problems:
            self._problems.append(Problem(origin, 0, 0, "the value is not YAML", tree.problems[0].why))
            return
        place[keys[-1]] = tree.value["value"]
        self._overridden[tuple(keys)] = origin

    def checked(self) -> Spec:
        """Return the spec, or raise every problem in the order of the file."""
        spec = None
        try:
            spec = Spec.model_validate(_tupled(self._value))
        except ValidationError as error:
            for each in error.errors(include_url=False, include_input=True):
                self._add(each)
        if spec is None or self._problems:
            unique = dict.fromkeys(sorted(self._problems, key=lambda each: (each.line, each.column)))
            raise SpecInvalid(tuple(unique))
        return spec

    def _add(self, error: Any) -> None:
        path = self._path_of(error["loc"])
        match error["type"]:
            case "extra_forbidden":
                self._unknown(path)
            case "missing":
                self._problem(path[:-1], f"{path[-1]} is missing", "", _described(path))
            case _:
                what = f"{_dotted(path)} is not valid" if path else "the spec is not valid"
                self._problem(path, what, *_words(error, path))

    def _path_of(self, loc: tuple[str | int, ...]) -> Path:
        """Return the part of pydantic's location that stands in the file (it adds names of functions and unions)."""
        path: list[str | int] = []
        value = self._value
        for part in loc:
            inside = (isinstance(value, dict) and part in value) or (
                isinstance(value, list) and isinstance(part, int) and part < len(value)
            )
            if not inside:
                return (*path, part) if part == loc[-1] else tuple(path)
            value = value[part]
            path.append(part)
        return tuple(path)

    def _unknown(self, path: Path) -> None:
        known = _keys_at(path[:-1])
        key = str(path[-1])
        close = get_close_matches(key, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
        line, column = self._place(path, of_key=True)
        self._problems.append(
            Problem(self._origin(path), line, column, f"{_dotted(path)} is unknown", "", hint if known else "remove it")
        )

    def _problem(self, path: Path, what: str, why: str = "", hint: str = "") -> None:
        line, column = self._place(path, of_key=False)
        self._problems.append(Problem(self._origin(path), line, column, what, why, hint))

    def _origin(self, path: Path) -> str:
        found = [origin for length in range(len(path) + 1) if (origin := self._overridden.get(path[:length]))]
        return found[-1] if found else self._file

    def _place(self, path: Path, *, of_key: bool) -> tuple[int, int]:
        if self._origin(path) != self._file:
            return 0, 0
        places = (self._tree.keys, self._tree.values) if of_key else (self._tree.values, self._tree.keys)
        for length in range(len(path), -1, -1):
            there = self._source(path[:length])
            for table in places:
                if there in table:
                    return table[there]
        return 1, 1

    def _source(self, path: Path) -> Path:
        for length in range(len(path), 0, -1):
            if path[:length] in self._moved:
                return (*self._moved[path[:length]], *path[length:])
        return path


def _words(error: Any, path: Path) -> tuple[str, str]:
    """Return why a value is not valid and what to do, in our words rather than the library's."""
    value, context = error.get("input"), error.get("ctx", {})
    if path == ("provider",) and value in PROVIDERS_TO_COME:
        return f"{value} is not available in this version", "use provider: local"
    match error["type"]:
        case "value_error":
            return str(context["error"]), ""
        case "literal_error" | "enum":
            options = str(context["expected"]).replace("'", "")
            close = get_close_matches(str(value), re.split(r", | or ", options), n=1)
            return f"{_shown(value)} is not one of: {options}", f"did you mean {close[0]}?" if close else ""
        case "string_type" if isinstance(value, bool):
            words = " or ".join(word for word, meaning in _YAML_WORDS.items() if meaning is value)
            return f"YAML reads an unquoted {words} as {str(value).lower()}", "write it in quotes"
        case "string_type" if isinstance(value, int | float):
            return f"{value} is a number, a text is needed", "write it in quotes"
        case "string_pattern_mismatch":
            return f"{_shown(value)} does not match {context['pattern']}", ""
        case _:
            return f"{error['msg'][0].lower()}{error['msg'][1:]}", f"it is {_shown(value)}"


def _shown(value: object) -> str:
    match value:
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case None:
            return "nothing"
        case str():
            return repr(value[:60])
        case _:
            return str(value)[:60]


def _described(path: Path) -> str:
    section = _section_at(path[:-1])
    field = section.model_fields.get(str(path[-1])) if section else None
    return field.description or "" if field else ""


def _keys_at(path: Path) -> list[str]:
    section = _section_at(path)
    keys = list(section.model_fields) if section else []
    return [*keys, "environments"] if section is Spec else keys


def _section_at(path: Path) -> type[BaseModel] | None:
    section: type[BaseModel] | None = Spec
    for part in path:
        if isinstance(part, int):
            continue
        field = section.model_fields.get(part) if section else None
        section = next(_sections(field.annotation), None) if field else None
    return section


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _sections(part)


def _tupled(value: Any) -> Any:
    """Return `value` with lists as tuples: the model is strict, and its sequences are tuples."""
    if isinstance(value, dict):
        return {key: _tupled(each) for key, each in value.items()}
    return tuple(_tupled(each) for each in value) if isinstance(value, list) else value


def _is_mapping_of_mappings(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(each, dict) for each in value.values())


def _dotted(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
